"""What a reflection file says of its making, as lines of MTZ HISTORY, and back."""

import json
import re
from dataclasses import asdict, dataclass, field

from .lattice import Lattice

LINE = 80  # characters of one line (MTZ format); more are cut off without a word
LINES = 999  # the format counts them in three digits
SCALARS = ("program", "step", "image", "batch", "unit_cell", "wavelength")
GROUPS = ("lattice", "noise", "parameter")


@dataclass(frozen=True, kw_only=True)
class Header:
    """Where a table comes from; equal headers and tables give equal files.

    program: name and version, "ed2d 0.1.0"; step: "extract" or "integrate"; image: name of its directory, no path.
    unit_cell: (a, b, gamma, c), Angstrom and degrees; wavelength: Angstrom; None where unknown.
    noise: the detector's noise model; parameters: every value that had a say, numbers and strings.
    """

    program: str
    step: str
    image: str
    batch: int
    lattice: Lattice
    unit_cell: tuple[float, float, float, float] | None = None
    wavelength: float | None = None
    noise: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, str | int | float] = field(default_factory=dict)


def printable(text):
    """Text in printable ASCII, everything else escaped as in JSON."""
    return json.dumps(text)[1:-1]


def write_history(header):
    """HISTORY lines of at most 80 printable ASCII characters, `name: value` in JSON, exact; long ones are folded."""
    items = [f"{name}: {json.dumps(_plain(value))}" for name, value in _items(header)]
    lines = [line for item in items + _notes(header) for line in _fold(item)]
    if len(lines) > LINES:
        raise ValueError(f"{len(lines)} lines of HISTORY; an MTZ file holds {LINES}")
    return lines


def read_history(lines):
    """The Header that `write_history` made the lines of; ValueError where they are not all there."""
    found = {group: {} for group in GROUPS}
    for line in _unfold(lines):
        name, separator, value = line.partition(": ")
        group, dot, key = name.partition(".")
        if separator and dot and group in GROUPS:
            found[group][key] = json.loads(value)
        elif separator and name in SCALARS:
            found[name] = json.loads(value)
    try:
        lattice = {key: _tuple(value) for key, value in found.pop("lattice").items()}
        cell = _tuple(found.pop("unit_cell"))
        return Header(lattice=Lattice(**lattice), unit_cell=cell, parameters=found.pop("parameter"), **found)
    except (KeyError, TypeError) as error:
        raise ValueError(f"HISTORY is not complete: {error}") from error


def _items(header):
    """Pairs of a name and a value, in the order of the file."""
    yield from ((name, getattr(header, name)) for name in SCALARS)
    groups = (asdict(header.lattice), header.noise, header.parameters)
    for group, values in zip(GROUPS, groups, strict=True):
        for key, value in values.items():
            if not re.fullmatch(r"[!-9;-~]+", key):
                raise ValueError(f"{key!r} is not a name for HISTORY: printable ASCII without space and colon is")
            yield f"{group}.{key}", value


def _notes(header):
    """Sentences for whoever reads the file with another program."""
    notes = ["note: L is not measured, a still image of a 2D crystal has none; it is 0"]
    if header.unit_cell is None:
        notes.append("note: the unit cell is a placeholder, 100 Angstrom and the lattice's angle")
    if header.wavelength is None:
        notes.append("note: the wavelength is not known; it is 0")
    return notes


def _plain(value):
    """Numpy numbers and tuples as JSON knows them."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _tuple(value):
    return tuple(value) if isinstance(value, list) else value


def _fold(text):
    """Lines of at most 80 characters: a following one begins with `+`, the one before it ends in `~`.

    The marks keep blanks away from the ends of lines, where readers drop them.
    """
    if len(text) <= LINE:
        return [text]
    step = LINE - 2
    parts = [text[start : start + step] for start in range(0, len(text), step)]
    return ["+" * (i > 0) + part + "~" * (i < len(parts) - 1) for i, part in enumerate(parts)]


def _unfold(lines):
    """Undo `_fold`."""
    whole = []
    for line in lines:
        if line.startswith("+") and whole:
            whole[-1] = whole[-1][:-1] + line[1:]
        else:
            whole.append(line)
    return whole
