"""What all steps start from: the documents, parameters and image of one directory, read, checked and logged."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from . import __version__
from .dependencies import choice, digest, file_values, lines, written_values
from .emdatainfo import Document
from .errors import InputError
from .image import Image, read_image
from .job import check_wanted
from .joblog import FILES
from .mtz import Header, batch_number
from .parameters import Parameters, describe, effective_parameters, unknown_items, unused_groups
from .spots import FEWEST_PIXELS
from .xmlbytes import shown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What a step is given, of one image directory, and what was read from there.

    step: "mask", "search", "extract" or "integrate"; sources: the paths of image, mask, info.xml and project.xml, and
    the configuration; written, files: the values that its results depend on; mask: the name of the mask file, or
    "none". What is ignored of the image: masks that the user gives, and but for the mask step those that it has found.
    """

    step: str
    name: str
    sources: dict
    written: dict
    files: dict
    info: Document
    parameters: Parameters
    image: Image
    mask: str

    @property
    def choice(self):
        """The Choice of the lattice to measure; InputError where there is none."""
        chosen = choice(self.info, self.sources["config"], self.written)
        if chosen.lattice is None:
            raise InputError(self.info.path, "has no lattice to measure", chosen.reason)
        return chosen

    @property
    def digest(self):
        """What tells results of these values from those of others."""
        return digest(self.step, self.written)

    def check_unchanged(self):
        """InputError when what the results depend on was changed since it was read; ask before they are written."""
        check_wanted()
        _, written, files = _values(**self.sources)
        before, now = (lines(self.step, values) for values in (self.written | self.files, written | files))
        for old, new in zip(before, now, strict=True):
            if old != new:
                (name, _, was), (_, _, value) = old.partition(" = "), new.partition(" = ")
                problem = f"{name} was changed during the run, from {shown(was)} to {shown(value)}"
                raise InputError(self.info.path, problem, "run again")

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

    def header(self, lattice, noise, profile):
        """Header of the MTZ file of the step."""
        cell = self.parameters.unit_cell
        return Header(
            program=f"ed2d {__version__}",
            step=self.step,
            image=self.name,
            batch=batch_number(self.name),
            lattice=lattice,
            unit_cell=(cell.a, cell.b, cell.gamma, cell.c) if cell else None,
            wavelength=self.parameters.wavelength,
            noise=noise,
            profile=profile,
            parameters=describe(self.parameters, self.step) | {"mask file": self.mask},
        )


def read_inputs(step, *, name, image, mask, info, project, config, planned=None):
    """Inputs of a step from the paths of an image, its mask (or None), info.xml and project.xml, and the configuration.

    step as in Inputs. planned: the digest of the values that the run was planned with, or None. A missing info.xml is
    one that says nothing. InputError for whatever cannot be read, and for values that are no longer those planned.
    """
    sources = {"info": info, "project": project, "config": config, "image": image, "mask": mask}
    documents, written, files = _values(**sources)
    if planned not in (None, digest(step, written | files, planned=True)):
        problem = "a value there, in project.xml or the configuration, or image or mask were changed during the run"
        raise InputError(info, problem, "run again")
    for document in documents:
        for item in unknown_items(document):
            log.warning("%s: %s is no parameter of ed2d and has no effect; see config/README.md", document.path, item)
        log.info("%s: not used: %s", document.path, ", ".join(unused_groups(document)) or "nothing")
    parameters = effective_parameters(*documents, config, mask_file=mask is not None)
    for item, value in describe(parameters, step).items():
        log.info("%s = %s", item, value)
    shapes = parameters.mask if step == "mask" else parameters.mask + parameters.found_mask
    still = read_image(image, mask_path=mask, shapes=shapes, saturation=parameters.saturation)
    if still.pages > 1:
        log.warning("%s: holds %d pages; the first is the image, the others are not read", image, still.pages)
    mask = Path(mask).name if mask else "none"
    log.info("mask file = %s", mask)
    log.info("%s%s", FILES, json.dumps(files))
    log.info("%d of %d pixels are ignored, %d saturated", still.ignored.sum(), still.data.size, still.saturated.sum())
    return Inputs(step, name, sources, written, files, documents[0], parameters, still, mask)


def _values(*, info, project, config, image, mask):
    """The Documents of info.xml and project.xml, and what results depend on: written values, and those of files."""
    documents = Document.read_info(info), Document.read(project)
    written = written_values(*documents, config, mask_file=mask is not None)
    return documents, written, file_values(image, mask)
