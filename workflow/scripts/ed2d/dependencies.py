"""What the results of an image depend on, value by value, as text: planned before a run, compared in its jobs."""

import hashlib
import os
import time
from dataclasses import fields

from . import __version__
from .lattice import Lattice
from .latticechoice import chosen_lattice
from .parameters import FOUND_MASK, describe, described, effective_parameters

STAMPS = ("image", "mask file")


def names(step, *, planned=False):
    """The names of all that a step, "mask", "search", "extract" or "integrate", depends on, in a fixed order.

    planned: those alone that are known when a run is planned. The mask that a search uses may be found in the same run.
    """
    lattice = [field.name for field in fields(Lattice) if step == "extract"]
    found = [name for name in described(step) if not (planned and step == "search" and name == FOUND_MASK)]
    return ["ed2d", *found, *lattice, *STAMPS]


def written_values(info, project, config, *, mask_file=False):
    """The values that all steps take from the Documents info.xml and project.xml and the nested dict `config`, by name.

    mask_file: whether the image has one. Texts. InputError for a bad value.
    """
    parameters = effective_parameters(info, project, config, mask_file=mask_file)
    values = {"ed2d": __version__, **describe(parameters, "search"), **describe(parameters, "integrate")}
    values = {name: str(value) for name, value in values.items()}
    lattice = choice(info, config, values).lattice
    return values | ({name: str(value) for name, value in vars(lattice).items()} if lattice else {})


def choice(info, config, values):
    """The Choice among the lattices of the Document info.xml, where the written values are these."""
    return chosen_lattice(info, config, digest("search", values))


def file_values(image, mask):
    """What tells the files of these paths from others, by name: size and time of last change; mask may be None."""
    return dict(zip(STAMPS, (_stamp(image), _stamp(mask) if mask else "none"), strict=True))


def lines(step, values, *, planned=False):
    """The values of a step, each as `name = value`."""
    return [f"{name} = {values.get(name, 'none')}" for name in names(step, planned=planned)]


def digest(step, values, *, planned=False):
    """Sixteen hexadecimal digits that change with any of the values of a step."""
    return hashlib.sha256("\n".join(lines(step, values, planned=planned)).encode()).hexdigest()[:16]


def _stamp(path):
    """Size and time of last change, to the nanosecond."""
    try:
        status = os.stat(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    seconds, fraction = divmod(status.st_mtime_ns, 10**9)
    return f"{status.st_size} bytes of {time.strftime('%F %T', time.gmtime(seconds))}.{fraction:09d} UTC"
