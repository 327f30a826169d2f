"""EMDataInfo documents (info.xml, project.xml): items with types, lattices, and one group replaced in place.

An element with a `value` attribute is an item, one without is a group. Paths are names below the root, joined by `/`.
"""

import hashlib
import math
import numbers
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from .atomic import create
from .errors import InputError
from .lattice import Lattice
from .xmlbytes import ATTEMPTS, ROOT, Encoded, Scanner, read_bytes, replace_file, shown, splice

BLANKS = " \t\r\n"
INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
TYPES = ("int", "float", "bool", "vector", "string")
TYPES_FOR_KIND = {
    "int": ("int", "float", "string"),
    "float": ("int", "float", "string"),
    "bool": ("bool", "string"),
    "vector": ("vector", "string"),
    "string": TYPES,
}
WANTED = {
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "vector": "a vector [x, y, z] of finite numbers",
    "string": "a text",
}
RESULTS = "DiffProcessingResults"
MASKED, SEARCHED = f"{RESULTS}/DiffMask", f"{RESULTS}/DiffSearch"
EXTRACTED, INTEGRATED = f"{RESULTS}/DiffExtract", f"{RESULTS}/DiffIntegrate"
EMPTY = f"<{ROOT}>\n</{ROOT}>\n".encode()  # an info.xml that says nothing
MAX_COORDINATE = 1e6  # px, far outside of any detector
MIN_SINE = 1e-3  # of the angle between the basis vectors


def parse_value(text, declared, kind, *, low=None, high=None, above=None, below=None):
    """The text of an item of the type `declared` ("" = text) as a value of `kind`, within the limits given.

    `low` and `high` are themselves allowed, `above` and `below` are not. ValueError says what is the matter.
    """
    declared = declared.strip(BLANKS).lower() or "string"
    if declared not in TYPES:
        raise ValueError(f"is of the unknown type {shown(declared)}")
    if declared not in TYPES_FOR_KIND[kind]:
        raise ValueError(f"is of the type {declared}")
    value = _convert(text, declared, kind)
    outside = (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
        or (below is not None and value >= below)
    )
    if outside:
        raise ValueError("is out of range")
    return value


def _convert(text, declared, kind):
    if kind == "string":
        return text
    text = text.strip(BLANKS)
    if kind == "bool":
        if text.lower() not in BOOLEANS:
            raise ValueError(f"is not {WANTED[kind]}")
        return BOOLEANS[text.lower()]
    if kind == "vector":
        if not (text.startswith("[") and text.endswith("]") and text.count(",") == 2):
            raise ValueError(f"is not {WANTED[kind]}")
        return tuple(_float(part.strip(BLANKS), kind) for part in text[1:-1].split(","))
    if "int" in (declared, kind) and declared != "float":
        number = _integer(text, kind)
    else:
        number = _float(text, kind)
    exact = int(number) if kind == "int" else float(number)
    if exact != number:
        raise ValueError(f"is not exactly {WANTED[kind]}")
    return exact


def _integer(text, kind):
    if not INTEGER.fullmatch(text):
        raise ValueError(f"is not {WANTED[kind] if kind == 'int' else 'the int that its type says'}")
    return int(text)


def _float(text, kind):
    """A finite number that is zero only when its digits are."""
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value) or (value == 0 and re.match(r"[^eE]*[1-9]", text)):
        raise ValueError(f"is not {WANTED[kind]}")
    return value


def wanted_text(kind, *, low=None, high=None, above=None, below=None):
    """What an item has to be, in words, for the cure of an error."""
    limits = (("of at least", low), ("above", above), ("of at most", high), ("below", below))
    said = " and ".join(f"{word} {limit}" for word, limit in limits if limit is not None)
    return f"{WANTED[kind]} {said}".strip()


@dataclass(frozen=True, eq=False)
class Document:
    """A parsed EMDataInfo file; `content` changes with any of its bytes."""

    path: Path
    root: etree._Element
    content: str = ""

    @classmethod
    def read(cls, path):
        """Reads a file; InputError when it cannot be read, is not XML, or holds entities or too much."""
        data, _ = read_bytes(path)
        return cls.parse(data, path)

    @classmethod
    def read_info(cls, path):
        """Reads the info.xml of an image as `read` does; where there is none, a document that says nothing."""
        return cls.parse(info_bytes(path), path)

    @classmethod
    def parse(cls, data, path):
        """Takes the bytes of the file `path`; InputError when they are not XML, or hold entities or too much."""
        return cls(Path(path), _parse(Encoded.decode(data, path).utf8, path), hashlib.sha256(data).hexdigest())

    def item(self, path, kind, *, within=None, **limits):
        """Value of an item, or None when it is absent.

        `kind`: int, float, bool, string or vector; `within`: the group that `path` starts from, the root if not given;
        `limits`: low, high (allowed themselves), above, below (not allowed). InputError names file, path and value.
        """
        element = self._only(path, within)
        if element is None:
            return None
        where, text = self.where(path, within), element.get("value")
        cure = f"give {wanted_text(kind, **limits)}"
        if text is None:
            raise InputError(self.path, f"{where} has no value attribute", cure)
        try:
            return parse_value(text, element.get("type", ""), kind, **limits)
        except ValueError as error:
            raise InputError(self.path, f"the value {shown(text)} of {where} {error}", cure) from error

    def required(self, path, kind, *, within=None, **limits):
        """Value of an item as `item` gives it; InputError when it is absent."""
        value = self.item(path, kind, within=within, **limits)
        if value is None:
            where = self.where(path, within)
            cure = f'add <{path.rpartition("/")[2]} value="..."/> with {wanted_text(kind, **limits)}'
            raise InputError(self.path, f"the item {where} is missing", cure)
        return value

    def group(self, path, *, within=None):
        """Element of a group, or None when it is absent; InputError when it is there twice or has a value."""
        element = self._only(path, within)
        if element is not None and element.get("value") is not None:
            problem = f"{self.where(path, within)} has the value {shown(element.get('value'))} but is a group"
            raise InputError(self.path, problem, "remove the value attribute and give its items as children")
        return element

    def where(self, path="", within=None):
        """Path from the root of `path` below the element `within`, for messages."""
        above = [] if within is None else [within.tag, *(a.tag for a in within.iterancestors())]
        names = [name for name in reversed(above) if name != ROOT]
        return "/".join([*names, path] if path else names)

    def _only(self, path, within):
        elements = [self.root if within is None else within]
        for name in path.split("/"):
            elements = [child for element in elements for child in element if child.tag == name]
        if len(elements) > 1:
            values = ", ".join(shown(e.get("value")) for e in elements[:3] if e.get("value") is not None)
            problem = f"{self.where(path, within)} is there {len(elements)} times" + (f" ({values})" if values else "")
            raise InputError(self.path, problem, "keep one of them")
        return elements[0] if elements else None


def info_bytes(path):
    """Bytes of the info.xml of an image, `EMPTY` where there is none; a link to nowhere is an InputError."""
    try:
        return read_bytes(path)[0]
    except InputError as error:
        if not isinstance(error.__cause__, FileNotFoundError) or os.path.islink(path):
            raise
        return EMPTY


def create_info(path):
    """Writes a document that says nothing where there is no file, whole or not at all; never over one."""
    if not os.path.lexists(path):
        create(path, EMPTY)


def _parse(utf8, file):
    """Root element of a document that expat has found harmless."""
    Scanner(utf8, file).run()
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=False
    )
    try:
        root = etree.fromstring(utf8, parser)
    except etree.XMLSyntaxError as error:
        raise InputError(file, f"not well-formed XML ({error.msg})", "correct the file there") from error
    if root.tag != ROOT:
        raise InputError(file, f"the root element is {shown(root.tag)}", f"give an {ROOT} document without namespace")
    return root


def read_lattice(element, document):
    """Lattice of a group with Offset, First, Second and optionally BarrelDistortion, SpiralDistortion.

    InputError for missing items, vectors shorter than 1 px, and (nearly) parallel vectors.
    """

    def pair(name):
        limits = {"low": -MAX_COORDINATE, "high": MAX_COORDINATE}
        return tuple(document.required(f"{name}/{axis}", "float", within=element, **limits) for axis in "xy")

    def distortion(name):
        value = document.item(name, "float", within=element, low=-1.0, high=1.0)
        return 0.0 if value is None else value

    lattice = Lattice(
        origin=pair("Offset"),
        a=pair("First"),
        b=pair("Second"),
        barrel=distortion("BarrelDistortion"),
        spiral=distortion("SpiralDistortion"),
    )
    _check_basis(lattice, document.path, document.where(within=element))
    return lattice


def _check_basis(lattice, file, where):
    (ax, ay), (bx, by) = lattice.a, lattice.b
    lengths = math.hypot(ax, ay), math.hypot(bx, by)
    cure = "give the basis vectors of the lattice in px"
    for name, vector, length in zip(("First", "Second"), (lattice.a, lattice.b), lengths, strict=True):
        if length < 1:
            raise InputError(file, f"{where}/{name} {vector} is shorter than 1 px", cure)
    if abs(ax * by - ay * bx) < MIN_SINE * lengths[0] * lengths[1]:
        raise InputError(file, f"First and Second are parallel in {where}, {lattice.a} and {lattice.b}", cure)


def verified_lattice(document):
    """Lattice that the user verified, or None; InputError if those of both possible groups differ."""
    paths = [f"{parent}/VerifiedLattice" for parent in (RESULTS, "DiffProcessing")]
    lattices = [read_lattice(e, document) for e in map(document.group, paths) if e is not None]
    if len(lattices) == 2 and lattices[0] != lattices[1]:
        problem = f"{paths[0]} and {paths[1]} differ ({lattices[0].origin} and {lattices[1].origin}, ...)"
        raise InputError(document.path, problem, "remove one of them")
    return lattices[0] if lattices else None


def rejected_lattice(document):
    """Lattice of a search that the user rejected, or None."""
    return _lattice_of(document, f"{RESULTS}/RejectedLattice")


def searched_lattice(document):
    """Lattice that the search found, or None."""
    return _lattice_of(document, f"{SEARCHED}/SearchedLattice")


def _lattice_of(document, path):
    element = document.group(path)
    return None if element is None else read_lattice(element, document)


def refined_lattice(document, verified):
    """Refined lattice if it descends from the lattice `verified`, else None."""
    element = document.group(f"{EXTRACTED}/RefinedLattice")
    if element is None or document.item("VerifiedDigest", "string", within=element) != verified.digest():
        return None
    return read_lattice(element, document)


def starting_lattice(document, verified, inputs):
    """Where an extraction starts, and what that is, in words.

    The RefinedLattice of an earlier extraction that descends from the lattice `verified`, else `verified`. But if that
    was made with the same values, those of the digest `inputs`, and nobody has changed it, its own start: what is
    repeated gives the same bytes.
    """
    refined = refined_lattice(document, verified)
    if refined is None:
        return verified, "lattice that was given"
    element = document.group(f"{EXTRACTED}/StartLattice")
    same = document.item(f"{EXTRACTED}/Inputs", "string") == inputs and element is not None
    if same and document.item("RefinedDigest", "string", within=element) == refined.digest():
        return read_lattice(element, document), "StartLattice of an earlier run with the same values"
    return refined, "RefinedLattice of an earlier run"


def lattice_element(tag, lattice, **extra):
    """Group of a lattice whose floats read back exactly, followed by the items `extra`."""
    pairs = {"Offset": lattice.origin, "First": lattice.a, "Second": lattice.b}
    mapping = {name: {"x": float(x), "y": float(y)} for name, (x, y) in pairs.items()}
    mapping |= {"BarrelDistortion": float(lattice.barrel), "SpiralDistortion": float(lattice.spiral)}
    if not all(map(math.isfinite, (*lattice.origin, *lattice.a, *lattice.b, lattice.barrel, lattice.spiral))):
        raise ValueError(f"not a finite lattice: {lattice}")
    return group_element(tag, mapping | extra)


def group_element(tag, mapping):
    """Group with an item for each int, float, bool or str, and a group for each mapping.

    None and floats that are not finite are left out: an absent item is a value that could not be measured.
    """
    element = etree.Element(tag)
    for name, value in mapping.items():
        if isinstance(value, Mapping):
            element.append(group_element(name, value))
        elif value is not None:
            _append_item(element, name, value)
    return element


def _append_item(element, name, value):
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str):
        attributes = {"value": value}
    elif isinstance(value, bool):
        attributes = {"value": str(value).lower(), "type": "bool"}
    elif isinstance(value, numbers.Integral):
        attributes = {"value": str(int(value)), "type": "int"}
    elif isinstance(value, float):
        if not math.isfinite(value):
            return
        attributes = {"value": repr(float(value)), "type": "float"}
    else:
        raise TypeError(f"{name}: {type(value).__name__} is not an item")
    etree.SubElement(element, name, attributes)


def replace_group(path, group_path, element):
    """Writes a group into a document: replaces the one at `group_path`, or inserts it as the last of its parent.

    The file is read anew; all bytes outside of the group stay. It is replaced as a whole or not at all, through
    symbolic links; an edit that arrives meanwhile is kept, and the group is put into the edited file.
    """
    for _ in range(ATTEMPTS):
        data, identity = read_bytes(path)
        new = _with_group(data, path, group_path, element)
        if new == data or replace_file(path, new, identity):
            return
    raise InputError(path, "changes again and again while it is written", "close the program that edits it, run again")


def _with_group(data, path, group_path, element):
    """Bytes of the file with the group replaced, which parse and contain the group."""
    encoded, names = Encoded.decode(data, path), group_path.split("/")
    if element.tag != names[-1]:
        raise ValueError(f"the element {element.tag} is not the group {group_path}")
    new = encoded.encode(splice(encoded.utf8, names, element, path))
    again = Document.parse(new, path)
    written = again.group(group_path)
    if written is None or _canonical(written) != _canonical(element):
        raise InputError(path, f"{group_path} cannot be written into this document", "remove its namespaces")
    return new


def _canonical(element):
    return etree.tostring(element, method="c14n2", strip_text=True, with_tail=False)
