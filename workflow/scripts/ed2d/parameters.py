"""The parameters of an image: item by item from its info.xml, else from project.xml, else from the configuration."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .emdatainfo import parse_value, wanted_text
from .errors import InputError
from .maskshapes import read_shapes
from .xmlbytes import shown

GROUP = "DiffProcessing"
CONFIG = "config"


class Entry(NamedTuple):
    """One parameter: its field, its path below DiffProcessing, its kind and its limits."""

    field: str
    path: str
    kind: str
    limits: dict


REGISTRY = (
    Entry("box_size", "LatticeExtract/BoxSize", "int", {"low": 1, "high": 200}),
    Entry("box_grow_amount", "LatticeExtract/BoxGrowAmount", "int", {"low": 0, "high": 50}),
    Entry("background_rim_size", "LatticeExtract/BackgroundRimSize", "int", {"low": 1, "high": 50}),
    Entry("min_radius", "LatticeExtract/MinRadius", "float", {"low": 0}),
    Entry("max_radius", "LatticeExtract/MaxRadius", "float", {"low": 0}),
    Entry("gain", "Detector/Gain", "float", {"low": 0}),
    Entry("read_noise", "Detector/ReadNoise", "float", {"low": 0}),
    Entry("offset", "Detector/Offset", "float", {}),
    Entry("saturation", "Detector/Saturation", "float", {"low": 0}),
)
INTEGRATE = (Entry("apply_error_model", "Integrate/ApplyErrorModel", "bool", {}),)  # no matter for extract
UNIT_CELL = (
    Entry("a", "UnitCell/A", "float", {"above": 0}),
    Entry("b", "UnitCell/B", "float", {"above": 0}),
    Entry("gamma", "UnitCell/Gamma", "float", {"above": 0, "below": 180}),
    Entry("c", "UnitCell/C", "float", {"above": 0}),
)
WAVELENGTH = Entry("wavelength", "Wavelength", "float", {"above": 0})
CELL_C = 100.0  # Angstrom: a 2D crystal has no third axis, but an MTZ file needs one


@dataclass(frozen=True, kw_only=True)
class UnitCell:
    """Cell of the two-dimensional crystal: a, b and the nominal c in Angstrom, gamma in degrees."""

    a: float
    b: float
    gamma: float
    c: float


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What is measured and how: box sizes and radii in px, detector values in counts, wavelength in Angstrom."""

    box_size: int
    box_grow_amount: int
    background_rim_size: int
    min_radius: float
    max_radius: float
    gain: float
    read_noise: float
    offset: float
    saturation: float
    mask: tuple
    unit_cell: UnitCell | None
    wavelength: float | None
    apply_error_model: bool

    @property
    def half(self):
        """Half-size of a whole box, px: its side is 2 half + 1."""
        return self.box_size + self.box_grow_amount + self.background_rim_size

    @property
    def radii(self):
        """The limits of `lattice.predict`."""
        return {"min_radius": self.min_radius, "max_radius": self.max_radius}

    @property
    def expected_width(self):
        """Width of a spot that BoxSize is made for, px: a starting value."""
        return max(self.box_size / 3, 0.7)


def effective_parameters(info, project, config):
    """Parameters of an image from the Documents of its info.xml and project.xml and the nested dict `config`.

    Mask and UnitCell are taken as wholes. `config` mirrors the XML below DiffProcessing. InputError for a value that is
    missing everywhere or bad where it is taken from.
    """
    found = {entry.field: _lookup(entry, info, project, config) for entry in REGISTRY + INTEGRATE}
    for entry in REGISTRY + INTEGRATE:
        if found[entry.field][0] is None:
            cure = f"give {wanted_text(entry.kind, **entry.limits)}"
            raise InputError(CONFIG, f"the value of {entry.path} is missing", cure)
    _check_radii(*found["min_radius"], *found["max_radius"])
    return Parameters(
        **{name: value for name, (value, _) in found.items()},
        mask=_mask(info, project),
        unit_cell=_unit_cell(info, project, config),
        wavelength=_lookup(WAVELENGTH, info, project, config)[0],
    )


def _lookup(entry, info, project, config):
    """Value of a parameter and the file that it is from; (None, "config") when no file has it."""
    for document in (info, project):
        value = document.item(f"{GROUP}/{entry.path}", entry.kind, **entry.limits)
        if value is not None:
            return value, document.path
    return _configured(entry, config), CONFIG


def _configured(entry, config):
    """Value of a parameter in the configuration, or None; texts are parsed like those of XML."""
    *groups, name = entry.path.split("/")
    for group in groups:
        config = config.get(group)
        if config is None:
            return None
        if not isinstance(config, Mapping):
            raise InputError(CONFIG, f"{group} has the value {shown(config)}", f"give {entry.path} as a key below it")
    value = config.get(name)
    if value is None:
        return None
    declared = {bool: "bool", int: "int", float: "float", str: "string"}.get(type(value))
    try:
        if declared is None:
            raise ValueError(f"is a {type(value).__name__}")
        return parse_value(str(value), declared, entry.kind, **entry.limits)
    except ValueError as error:
        cure = f"give {wanted_text(entry.kind, **entry.limits)}"
        raise InputError(CONFIG, f"the value {shown(value)} of {entry.path} {error}", cure) from error


def _check_radii(low, low_file, high, high_file):
    if 0 < high <= low:
        origin = "" if low_file == high_file else f" of {low_file}"
        problem = f"LatticeExtract/MaxRadius {high} does not exceed LatticeExtract/MinRadius {low}{origin}"
        raise InputError(high_file, problem, "give a larger MaxRadius, or 0 for the image edge")


def _mask(info, project):
    for document in (info, project):
        element = document.group(f"{GROUP}/Mask")
        if element is not None:
            return read_shapes(element, document)
    return ()


def _unit_cell(info, project, config):
    for document in (info, project):
        if document.group(f"{GROUP}/UnitCell") is not None:
            values = {e.field: document.item(f"{GROUP}/{e.path}", e.kind, **e.limits) for e in UNIT_CELL}
            return _whole_cell(values, document.path)
    values = {entry.field: _configured(entry, config) for entry in UNIT_CELL}
    return _whole_cell(values, CONFIG) if any(v is not None for v in values.values()) else None


def _whole_cell(values, file):
    missing = [entry.path for entry in UNIT_CELL[:3] if values[entry.field] is None]
    if missing:
        raise InputError(file, f"{' and '.join(missing)} missing", "give A, B and Gamma together, or no UnitCell")
    return UnitCell(**values | {"c": CELL_C if values["c"] is None else values["c"]})


def unknown_items(document):
    """Paths of the items in the groups of parameters of this program that are none of these."""
    known = {entry.path for entry in (*REGISTRY, *INTEGRATE, *UNIT_CELL)}
    groups = {path.partition("/")[0]: document.group(f"{GROUP}/{path.partition('/')[0]}") for path in sorted(known)}
    children = [child for group in groups.values() if group is not None for child in group.iterchildren("*")]
    return [document.where(within=child) for child in children if f"{child.getparent().tag}/{child.tag}" not in known]


def unused_groups(document):
    """Names below DiffProcessing that mean nothing to this program; other programs' groups are among them."""
    known = {entry.path.partition("/")[0] for entry in (*REGISTRY, *INTEGRATE, *UNIT_CELL, WAVELENGTH)}
    group = document.group(GROUP)
    names = [] if group is None else [child.tag for child in group.iterchildren("*")]
    return [name for name in names if name not in known | {"ImageMask", "Mask", "VerifiedLattice"}]


def describe(parameters, step):
    """The parameters of a step, "extract" or "integrate", as {XML name: value} in a fixed order; "none" where none is.

    The mask appears as sixteen hexadecimal digits that change with its shapes.
    """
    found = {entry.path: getattr(parameters, entry.field) for entry in _of(step)}
    cell = parameters.unit_cell
    found |= {entry.path: getattr(cell, entry.field) if cell else "none" for entry in UNIT_CELL}
    found[WAVELENGTH.path] = "none" if parameters.wavelength is None else parameters.wavelength
    mask = hashlib.sha256(repr(parameters.mask).encode()).hexdigest()[:16]
    return found | {"mask shapes": mask if parameters.mask else "none"}


def described(step):
    """The names that `describe` gives, in its order."""
    return [entry.path for entry in (*_of(step), *UNIT_CELL, WAVELENGTH)] + ["mask shapes"]


def _of(step):
    return REGISTRY + INTEGRATE if step == "integrate" else REGISTRY
