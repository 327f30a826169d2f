"""What the results of an image depend on, value by value, as text: planned before a run, compared in its jobs."""

import hashlib
import os
import time
from dataclasses import fields

from . import __version__
from .emdatainfo import verified_lattice
from .lattice import Lattice
from .parameters import describe, described, effective_parameters

STAMPS = ("image", "mask file")


def names(step):
    """The names of all that a step, "extract" or "integrate", depends on, in a fixed order."""
    lattice = [field.name for field in fields(Lattice) if step == "extract"]
    return ["ed2d", *described(step), *lattice, *STAMPS]


def written_values(info, project, config):
    """The values that all steps take from the Documents info.xml and project.xml and the nested dict `config`, by name.

    Texts. InputError for a bad value.
    """
    lattice = verified_lattice(info)
    values = {"ed2d": __version__, **describe(effective_parameters(info, project, config), "integrate")}
    values |= vars(lattice) if lattice else {}
    return {name: str(value) for name, value in values.items()}


def file_values(image, mask):
    """What tells the files of these paths from others, by name: size and time of last change; mask may be None."""
    return dict(zip(STAMPS, (_stamp(image), _stamp(mask) if mask else "none"), strict=True))


def lines(step, values):
    """The values of a step, each as `name = value`."""
    return [f"{name} = {values.get(name, 'none')}" for name in names(step)]


def digest(step, values):
    """Sixteen hexadecimal digits that change with any of the values of a step."""
    return hashlib.sha256("\n".join(lines(step, values)).encode()).hexdigest()[:16]


def _stamp(path):
    """Size and time of last change, to the nanosecond."""
    try:
        status = os.stat(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    seconds, fraction = divmod(status.st_mtime_ns, 10**9)
    return f"{status.st_size} bytes of {time.strftime('%F %T', time.gmtime(seconds))}.{fraction:09d} UTC"
