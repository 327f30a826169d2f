"""What both steps start from: the documents, parameters and image of one directory, read, checked and logged."""

import logging
from dataclasses import dataclass
from pathlib import Path

from . import __version__
from .emdatainfo import Document
from .errors import InputError
from .image import Image, read_image
from .mtz import Header, batch_number
from .parameters import Parameters, describe, effective_parameters, unknown_items, unused_groups
from .spots import FEWEST_PIXELS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Name, info.xml, effective parameters, image and name of the mask file ("none") of one image directory."""

    name: str
    info: Document
    parameters: Parameters
    image: Image
    mask: str

    def check_boxes(self, lattice):
        """InputError when boxes cannot be measured: larger than the image, or a neighbour inside the inner square."""
        parameters, shape, spacing = self.parameters, self.image.shape, lattice.square_spacing
        size, side = f"BoxSize {parameters.box_size}", 2 * parameters.half + 1
        if side > min(shape):
            problem = f"boxes of {side} px ({size}) do not fit on an image of {shape[1]} x {shape[0]}"
            raise InputError(self.info.path, problem, "choose a smaller BoxSize, BoxGrowAmount or BackgroundRimSize")
        if side**2 < FEWEST_PIXELS:
            problem = f"boxes of {side} px have {side**2} pixels, a fit needs {FEWEST_PIXELS}"
            raise InputError(self.info.path, problem, "choose a larger BoxSize or BackgroundRimSize")
        if parameters.box_size >= spacing - 1:
            problem = f"{size} puts the neighbouring spots, {spacing:.1f} px away, inside the box"
            raise InputError(self.info.path, problem, f"choose a BoxSize of at most {max(1, int((spacing - 1) / 2))}")
        if 2 * parameters.box_size + 1 > spacing:
            said = "%s: the inner squares of neighbouring spots, %.1f px apart, overlap; these are measured together"
            log.warning(said, self.info.path, spacing)

    def header(self, step, lattice, noise, profile):
        """Header of the MTZ file of one step."""
        cell = self.parameters.unit_cell
        return Header(
            program=f"ed2d {__version__}",
            step=step,
            image=self.name,
            batch=batch_number(self.name),
            lattice=lattice,
            unit_cell=(cell.a, cell.b, cell.gamma, cell.c) if cell else None,
            wavelength=self.parameters.wavelength,
            noise=noise,
            profile=profile,
            parameters=describe(self.parameters, step) | {"mask file": self.mask},
        )


def read_inputs(step, *, name, image, mask, info, project, config):
    """Inputs of a step from the paths of an image, its mask (or None), info.xml and project.xml, and the configuration.

    step: "extract" or "integrate", for the log.
    """
    documents = [Document.read(info), Document.read(project)]
    for document in documents:
        for item in unknown_items(document):
            log.warning("%s: %s is no parameter of ed2d and has no effect; see config/README.md", document.path, item)
        log.info("%s: not used: %s", document.path, ", ".join(unused_groups(document)) or "nothing")
    parameters = effective_parameters(*documents, config)
    for item, value in describe(parameters, step).items():
        log.info("%s = %s", item, value)
    still = read_image(image, mask_path=mask, shapes=parameters.mask, saturation=parameters.saturation)
    if still.pages > 1:
        log.warning("%s: holds %d pages; the first is the image, the others are not read", image, still.pages)
    log.info("mask file = %s", Path(mask).name if mask else "none")
    log.info("%d of %d pixels are ignored, %d saturated", still.ignored.sum(), still.data.size, still.saturated.sum())
    return Inputs(name, documents[0], parameters, still, Path(mask).name if mask else "none")
