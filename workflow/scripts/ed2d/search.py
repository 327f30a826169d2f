"""The step search: a bare image in, its lattice with a confidence out, and a picture of what was found."""

import json
import logging

import numpy as np
import tifffile

from . import __version__
from .atomic import replacing
from .emdatainfo import SEARCHED, create_info, group_element, lattice_element, replace_group
from .inputs import read_inputs
from .latticesearch import search_image
from .picture import log_picture

MOST_PEAKS = 1000  # in the picture's description

log = logging.getLogger(__name__)


def search(*, output, **given):
    """Search the lattice of one image directory, given as in `read_inputs`; a summary line out.

    The group DiffSearch of info.xml is written first, which is made where there is none, and the picture `output` last:
    where that is missing the lattice may be that of another image. To find no lattice is a result too. InputError for
    whatever a user can mend.
    """
    inputs = read_inputs("search", **given)
    found = search_image(inputs.image, inputs.parameters)
    inputs.check_unchanged()
    create_info(inputs.info.path)
    replace_group(inputs.info.path, SEARCHED, _results(found, inputs.digest))
    _write_picture(output, inputs.image, found)
    return _summary(inputs.name, found)


def _write_picture(path, image, found):
    """The picture of the image with its peaks, TIFF with a description in JSON."""
    pixels, factor = log_picture(image)
    peaks = zip(np.round(found.peaks[:MOST_PEAKS], 2).tolist(), found.on_lattice[:MOST_PEAKS].tolist(), strict=True)
    described = {
        "program": f"ed2d {__version__}",
        "shape": image.shape,
        "factor": factor,
        "peaks": [[x, y, int(on)] for (x, y), on in peaks],
    }
    with replacing(path) as temporary:
        description = json.dumps(described)
        options = {"compression": "deflate", "photometric": "minisblack", "metadata": None, "software": "ed2d"}
        tifffile.imwrite(temporary, pixels, description=description, **options)


def _results(found, digest):
    """The group DiffSearch of info.xml."""
    best, other = found.best, found.runner_up
    element = group_element(
        "DiffSearch",
        {
            "Program": f"ed2d {__version__}",
            "Inputs": digest,
            "Confidence": float(best.confidence) if best else 0.0,
            "Sure": bool(found.sure),
            "Reason": found.reason or None,
            "Peaks": len(found.peaks),
            "PeaksOnLattice": _share(found),
            "RmsPosition": float(found.rms) if best else None,
        },
    )
    if other:
        element.insert(2, lattice_element("RunnerUp", other.lattice, Confidence=float(other.confidence)))
    if best:
        element.insert(2, lattice_element("SearchedLattice", best.lattice))
    return element


def _share(found):
    """Share of the clear peaks that lie on the lattice; None where there are none."""
    return float(np.mean(found.on_lattice)) if found.best and len(found.peaks) else None


def _summary(name, found):
    """One line for people."""
    said = f"{name}: search: {len(found.peaks)} peaks"
    if not found.best:
        return f"{said}, no lattice: {found.reason}"
    lattice, confidence = found.best.lattice, found.best.confidence
    a, b = np.linalg.norm(lattice.basis, axis=1)
    for label, value in vars(lattice).items():
        log.info("%s = %s", label, value)
    said += f", {100 * (_share(found) or 0):.0f} % on the lattice, rms {found.rms:.2f} px, "
    said += f"|a| {a:.1f} px, |b| {b:.1f} px, {lattice.gamma:.1f} degrees, confidence {confidence:.3g}"
    return said if found.sure else f"{said}, not sure: {found.reason}"
