"""What a reflection file says of its making, as lines of MTZ HISTORY, and back."""

import json
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import get_args, get_origin

from .lattice import Lattice
from .noise import Noise
from .profile import Profile

LINE = 80  # characters of one line (MTZ format); more are cut off without a word
LINES = 30  # the limit of the format; of a file with more, readers take none
SOURCE = ("program", "step", "image", "batch", "unit_cell", "wavelength")
GROUPS = ("source", "lattice", "noise", "profile", "parameters")


@dataclass(frozen=True, kw_only=True)
class Header:
    """Where a table comes from; equal headers and tables give equal files.

    program: name and version, "ed2d 0.1.0"; step: "extract" or "integrate"; image: name of its directory, no path.
    unit_cell: (a, b, gamma, c), Angstrom and degrees; wavelength: Angstrom; None where unknown.
    parameters: every value that had a say, numbers and strings.
    """

    program: str
    step: str
    image: str
    batch: int
    lattice: Lattice
    noise: Noise
    profile: Profile
    unit_cell: tuple[float, float, float, float] | None = None
    wavelength: float | None = None
    parameters: dict[str, str | bool | int | float] = field(default_factory=dict)


def printable(text):
    """Text in printable ASCII, everything else escaped as in JSON."""
    return json.dumps(text)[1:-1]


def write_history(header):
    """HISTORY lines of at most 80 printable ASCII characters: `group: {JSON}`, exact, folded; then notes."""
    values = _plain(vars(header))
    source = {name: values[name] for name in SOURCE}
    parts = (_plain(vars(part)) for part in (header.lattice, header.noise, header.profile))
    groups = zip(GROUPS, (source, *parts, values["parameters"]), strict=True)
    lines = [line for name, group in groups for line in _fold(f"{name}: {json.dumps(group)}")] + _notes(header)
    if len(lines) > LINES:
        raise ValueError(f"{len(lines)} lines of HISTORY; an MTZ file holds {LINES}")
    return lines


def read_history(lines):
    """The Header that `write_history` made the lines of; ValueError where they are not all there."""
    found = dict(line.partition(": ")[::2] for line in _unfold(lines))
    try:
        source, *parts, parameters = (json.loads(found[name]) for name in GROUPS)
        source = {name: _tuple(source[name]) for name in SOURCE}
        lattice, noise, profile = (
            kind(**{name: _tuple(value) for name, value in part.items()})
            for kind, part in zip((Lattice, Noise, Profile), parts, strict=True)
        )
        header = Header(**source, lattice=lattice, noise=noise, profile=profile, parameters=parameters)
        for part in (header, lattice, noise, profile):
            _check_types(part)
        return header
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"HISTORY is not complete: {error}") from error


def _check_types(part):
    """TypeError where a value of a dataclass is not of the type of its field."""
    for entry in fields(part):
        value = getattr(part, entry.name)
        if not _is_of(value, entry.type):
            raise TypeError(f"{entry.name} is {str(value)[:40]!r}")


def _is_of(value, kind):
    """Whether a value is of a type, a union, a tuple or a dictionary of types; an int is a float too, a bool no int."""
    of = get_args(kind)
    if isinstance(kind, UnionType):
        return any(_is_of(value, one) for one in of)
    if get_origin(kind) is tuple:
        of = of[:1] * len(value) if isinstance(value, tuple) and of[-1] is Ellipsis else of
        return isinstance(value, tuple) and len(value) == len(of) and all(map(_is_of, value, of))
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_is_of(v, of[1]) for v in value.values())  # JSON's keys are strings
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _notes(header):
    """Sentences for whoever reads the file with another program."""
    notes = ["note: L is not measured, a still image of a 2D crystal has none; it is 0"]
    if header.unit_cell is None:
        notes.append("note: the unit cell is a placeholder, 100 Angstrom and the lattice's angle")
    if header.wavelength is None:
        notes.append("note: the wavelength is not known; it is 0")
    return notes


def _plain(value):
    """Numpy numbers, also inside tuples and dicts, as JSON knows them."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
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
