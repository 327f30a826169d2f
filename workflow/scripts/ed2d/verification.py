"""What the page of `contactsheet` gives back: checked, and written into info.xml of each image."""

import json
import math
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from .emdatainfo import (
    RESULTS,
    Document,
    lattice_element,
    read_lattice,
    replace_group,
    searched_lattice,
    verified_lattice,
)
from .errors import InputError
from .imagedirectory import ImageDirectory
from .joblog import read_log
from .lattice import Lattice
from .project import Project
from .xmlbytes import ROOT, shown

MOST_BYTES = 16 * 2**20
MOST_DECISIONS = 10_000
LONGEST_NAME, LONGEST_PATH = 255, 4096  # characters
DIGEST = re.compile("[0-9a-f]{16}")
WRITTEN = {"accept": "VerifiedLattice", "reject": "RejectedLattice"}
SAVE = "save the decisions again on the page"
REMOVE = "remove it there first"


@dataclass(frozen=True)
class Decision:
    """What was decided about one image; `searched`: the digest of the SearchedLattice that the page showed."""

    image: str
    decision: str
    lattice: Lattice
    searched: str


@dataclass(frozen=True)
class Decisions:
    """All decisions of a page, and the directory of its project."""

    project: Path
    decisions: tuple


class Outcome(NamedTuple):
    """Lines for the screen, the last one says how many, and whether all decisions are written."""

    lines: list
    complete: bool


def verify(file, *, project=None):
    """Writes the decisions in a file into the project, or into the project directory given; the Outcome.

    An image whose files are no longer what the page showed is left alone, and a line says why. InputError, and nothing
    is written, where the file is not what a page gives back, or where the project is not there.
    """
    made = read_decisions(file)
    directory = Path(project) if project else made.project
    if not os.path.isfile(directory / "project.xml"):
        cure = "give the directory of the project with --project"
        raise InputError(file, f"the project {directory} is not there", cure)
    entries = {entry.name: entry for entry in Project(directory, {}, None).directories}
    counts, lines = dict.fromkeys(WRITTEN, 0), []
    for one in made.decisions:
        try:
            if one.image not in entries:
                raise InputError(directory / one.image, "is not an image directory", "check --project and ImageMask")
            _write(one, entries[one.image].info, file)
            counts[one.decision] += 1
        except InputError as error:
            lines.append(f"left alone: {error}")
    left = len(lines)
    verified = f"{counts['accept']} {'lattice' if counts['accept'] == 1 else 'lattices'} verified"
    return Outcome([*lines, f"{verified}, {counts['reject']} rejected, {left} left alone"], not left)


def _write(one, info, file):
    """Writes one decision, where it is not there yet; InputError where the image is to be left alone.

    What is accepted unchanged is written with the floats of the SearchedLattice, so that nothing is measured anew.
    """
    document = Document.read(info)
    verified = verified_lattice(document)
    if one.decision == "accept" and verified == one.lattice:
        return
    if verified is not None:
        which = "another" if one.decision == "accept" else "a"
        raise InputError(info, f"has {which} VerifiedLattice, which is never overwritten", REMOVE)
    searched = searched_lattice(document)
    if searched is None or searched.digest() != one.searched:
        raise InputError(info, "has no longer the SearchedLattice that the page showed", "make the page again")
    entry = ImageDirectory(Path(info).parent)
    (log,) = entry.results("_src.log")
    if read_log(log).files not in (None, entry.file_values()):
        raise InputError(entry.image, "is no longer the image that was searched", "run again, and make the page again")
    tag = WRITTEN[one.decision]
    lattice = searched if one.decision == "reject" or one.lattice == searched else one.lattice
    new = lattice_element(tag, lattice)
    _check_lattice(new, file)
    replace_group(info, f"{RESULTS}/{tag}", new)


def _check_lattice(element, file):
    """InputError for a lattice that could not be read again from an info.xml."""
    root = etree.Element(ROOT)
    root.append(element)
    read_lattice(element, Document(Path(file), root))


# ---- the file


def read_decisions(file):
    """Decisions of a file that a page gave back; InputError where it is anything else."""
    said = _read_json(file)
    _, project, listed = (
        _member(said, name, kind, file) for name, kind in (("program", str), ("project", str), ("decisions", list))
    )
    if "\0" in project or len(project) > LONGEST_PATH or not os.path.isabs(project):
        raise InputError(file, f"the project {shown(project)} is no absolute path", SAVE)
    if len(listed) > MOST_DECISIONS:
        raise InputError(file, f"has {len(listed)} decisions; {MOST_DECISIONS} is the most", SAVE)
    decisions = tuple(_decision(one, number, file) for number, one in enumerate(listed, start=1))
    (name, times), *_ = [*Counter(one.image for one in decisions).most_common(1), ("", 0)]
    if times > 1:
        raise InputError(file, f"decides {times} times about {shown(name)}", SAVE)
    return Decisions(Path(project), decisions)


def _read_json(file):
    """The value of a JSON file of reasonable size."""
    try:
        with open(file, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise InputError(file, "is not a file", "give the path of verified.json")
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        cure = "give the path of verified.json, often in the browser's folder for downloads"
        raise InputError(file, f"cannot be read ({error.strerror})", cure) from error
    if len(data) > MOST_BYTES:
        raise InputError(file, f"is larger than {MOST_BYTES // 2**20} MB", "give what the page has saved")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(file, f"is no JSON file ({reason})", SAVE) from error


def _decision(said, number, file):
    where = f"decision {number}"
    image, decision, searched = (_member(said, name, str, file, where) for name in ("image", "decision", "searched"))
    if not image or len(image) > LONGEST_NAME or image in (".", "..") or re.search(r"[/\0]", image):
        raise InputError(file, f"{where} has the image {shown(image)}, which is no name of a directory", SAVE)
    if decision not in WRITTEN:
        raise InputError(file, f"{where} is {shown(decision)}, neither accept nor reject", SAVE)
    if not DIGEST.fullmatch(searched):
        raise InputError(file, f"{where} has the digest {shown(searched)}", SAVE)
    return Decision(image, decision, _lattice(_member(said, "lattice", dict, file, where), where, file), searched)


def _lattice(said, where, file):
    numbers = {name: _member(said, name, list, file, where) for name in ("offset", "first", "second")}
    numbers |= {name: [said.get(name)] for name in ("barrel", "spiral")}
    for name, values in numbers.items():
        wanted = 1 if name in ("barrel", "spiral") else 2
        if len(values) != wanted or not all(map(_is_number, values)):
            raise InputError(file, f"{where} has the {name} {shown(said.get(name))}, which is not finite numbers", SAVE)
    pairs = (tuple(map(float, numbers[name])) for name in ("offset", "first", "second"))
    return Lattice(*pairs, float(numbers["barrel"][0]), float(numbers["spiral"][0]))


def _is_number(value):
    """Whether a value of JSON is a number that a float can hold."""
    return type(value) in (int, float) and abs(value) <= 1e300 and math.isfinite(value)


def _member(said, name, kind, file, where="the file"):
    """A member of an object of JSON, of the type `kind`."""
    value = said.get(name) if isinstance(said, dict) else None
    if not isinstance(value, kind):
        raise InputError(file, f"{where} has no {name} of a page", SAVE)
    return value
