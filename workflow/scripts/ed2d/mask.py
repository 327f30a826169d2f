"""The step mask: image in, the shapes of its shadows and a picture of the ignored pixels out."""

import numpy as np
import tifffile

from . import __version__
from .atomic import replacing
from .emdatainfo import MASKED, create_info, group_element, replace_group
from .errors import InputError
from .inputs import read_inputs
from .maskshapes import MOST_SHAPES, rasterise, shapes_element
from .shadows import find_shadows

USED = 255  # in the picture; 0 = ignored, as in a mask file


def mask(*, output, **given):
    """Find what hides the detector on an image, given as in `read_inputs`; a summary line out.

    Writes the group DiffMask of info.xml, and last `output`, a mask file of all ignored pixels.
    """
    inputs = read_inputs("mask", **given)
    image = inputs.image
    shapes = find_shadows(image, start=inputs.parameters.mask)
    if len(shapes) > MOST_SHAPES:
        problem = f"has {len(shapes)} dark regions, more than {MOST_SHAPES} shapes of a mask"
        raise InputError(given["image"], problem, f"give it a mask {inputs.name}_mask.tif, 0 = ignore")
    covered = rasterise(shapes, image.shape)
    share = float(np.mean(covered))
    covered |= image.ignored
    inputs.check_unchanged()
    create_info(inputs.info.path)
    replace_group(inputs.info.path, MASKED, _results(inputs.digest, shapes, share))
    _write(output, covered)
    return f"{inputs.name}: mask: {len(shapes)} shapes, {100 * share:.1f} % of the pixels"


def _results(digest, shapes, share):
    """The group DiffMask of info.xml."""
    made = {"Program": f"ed2d {__version__}", "Inputs": digest, "IgnoredShare": share}
    element = group_element("DiffMask", made)
    element.insert(2, shapes_element("Mask", shapes))
    return element


def _write(path, ignored):
    with replacing(path) as temporary:
        picture = np.where(ignored, 0, USED).astype(np.uint8)
        tifffile.imwrite(
            temporary, picture, compression="deflate", photometric="minisblack", metadata=None, software="ed2d"
        )
