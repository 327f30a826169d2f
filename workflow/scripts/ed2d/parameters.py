"""The parameters of an image: item by item from its info.xml, else from project.xml, else from the configuration."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .emdatainfo import MASKED, parse_value, wanted_text
from .errors import InputError
from .maskshapes import read_shapes
from .xmlbytes import shown

GROUP = "DiffProcessing"
CONFIG = "config"
FOUND_MASK = "found mask"  # the name under which results depend on the mask that the program has found


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
SATURATION = tuple(entry for entry in REGISTRY if entry.field == "saturation")
INTEGRATE = (Entry("apply_error_model", "Integrate/ApplyErrorModel", "bool", {}),)  # no matter for extract
UNIT_CELL = (
    Entry("a", "UnitCell/A", "float", {"above": 0}),
    Entry("b", "UnitCell/B", "float", {"above": 0}),
    Entry("gamma", "UnitCell/Gamma", "float", {"above": 0, "below": 180}),
    Entry("c", "UnitCell/C", "float", {"above": 0}),
)
SEARCH = (  # of the lattice search alone; none of them need be given
    Entry("gauss_filter_strength", "LatticeSearch/GaussFilterStrength", "float", {"low": 0, "high": 50}),
    Entry("peak_search_sensitivity", "LatticeSearch/PeakSearchSensitivity", "float", {"low": 0}),
    Entry("minimal_lattice_length", "LatticeSearch/MinimalLatticeLength", "float", {"low": 0}),
    Entry("maximal_lattice_length", "LatticeSearch/MaximalLatticeLength", "float", {"low": 0}),
    Entry("outer_window_size", "LatticeSearch/PeakSearchParams/OuterWindowSize", "int", {"low": 0, "high": 500}),
    Entry("outer_window_sensitivity", "LatticeSearch/PeakSearchParams/OuterWindowSensitivity", "float", {"low": 0}),
    Entry("inner_window_size", "LatticeSearch/PeakSearchParams/InnerWindowSize", "int", {"low": 0, "high": 30}),
    Entry("inner_window_sensitivity", "LatticeSearch/PeakSearchParams/InnerWindowSensitivity", "float", {"low": 0}),
    Entry("pixel_size", "LatticeSearch/PixelSize", "float", {"low": 0}),
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
class SearchParameters:
    """What the lattice search starts from; 0 stands for what the program chooses itself.

    Lengths and window sizes in px, sensitivities in standard deviations, pixel_size in 1/Angstrom per px.
    """

    gauss_filter_strength: float = 0.0
    peak_search_sensitivity: float = 0.0
    minimal_lattice_length: float = 0.0
    maximal_lattice_length: float = 0.0
    outer_window_size: int = 0
    outer_window_sensitivity: float = 0.0
    inner_window_size: int = 0
    inner_window_sensitivity: float = 0.0
    pixel_size: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What is measured and how: box sizes and radii in px, detector values in counts, wavelength in Angstrom.

    mask: shapes of ignored pixels that the user gives; found_mask: those that the program has found in addition.
    """

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
    found_mask: tuple = ()
    search: SearchParameters = SearchParameters()

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


def effective_parameters(info, project, config, *, mask_file=False):
    """Parameters of an image from the Documents of its info.xml and project.xml and the nested dict `config`.

    Mask and UnitCell are taken as wholes. `config` mirrors the XML below DiffProcessing. mask_file: whether the image
    has one; then, and where its info.xml has a Mask, no mask that the program has found is in force. InputError for a
    value that is missing everywhere or bad where it is taken from.
    """
    found = {entry.field: _lookup(entry, info, project, config) for entry in REGISTRY + INTEGRATE}
    for entry in REGISTRY + INTEGRATE:
        if found[entry.field][0] is None:
            cure = f"give {wanted_text(entry.kind, **entry.limits)}"
            raise InputError(CONFIG, f"the value of {entry.path} is missing", cure)
    _check_radii(*found["min_radius"], *found["max_radius"])
    mask, found_mask = masks(info, project, mask_file=mask_file)
    return Parameters(
        **{name: value for name, (value, _) in found.items()},
        mask=mask,
        unit_cell=_unit_cell(info, project, config),
        wavelength=_lookup(WAVELENGTH, info, project, config)[0],
        found_mask=found_mask,
        search=_search(info, project, config),
    )


def masks(info, project, *, mask_file):
    """The shapes of ignored pixels in force: those that the user gives, and those that the program has found."""
    return _mask(info, project), () if mask_file or has_mask(info) else _found_mask(info)


def has_mask(info):
    """Whether the Document of an info.xml has a Mask of the user."""
    return info.group(f"{GROUP}/Mask") is not None


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


def _search(info, project, config):
    found = {entry.field: _lookup(entry, info, project, config) for entry in SEARCH}
    given = {name: value for name, (value, _) in found.items() if value is not None}
    search = SearchParameters(**given)
    if 0 < search.maximal_lattice_length <= search.minimal_lattice_length:
        problem = f"LatticeSearch/MaximalLatticeLength {search.maximal_lattice_length} does not exceed "
        problem += f"LatticeSearch/MinimalLatticeLength {search.minimal_lattice_length}"
        raise InputError(
            found["maximal_lattice_length"][1], problem, "give a larger one, or 0 for the program's choice"
        )
    return search


def _found_mask(info):
    element = info.group(f"{MASKED}/Mask")
    return () if element is None else read_shapes(element, info)


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
    items = {f"{GROUP}/{entry.path}" for entry in (*REGISTRY, *INTEGRATE, *SEARCH, *UNIT_CELL)}
    groups = sorted({path.rpartition("/")[0] for path in items})
    found = [document.group(path) for path in groups]
    children = [child for group in found if group is not None for child in group.iterchildren("*")]
    unknown = [document.where(within=child) for child in children]
    return [path for path in unknown if path not in items | set(groups)]


def unused_groups(document):
    """Names below DiffProcessing that mean nothing to this program; other programs' groups are among them."""
    known = {entry.path.partition("/")[0] for entry in (*REGISTRY, *INTEGRATE, *SEARCH, *UNIT_CELL, WAVELENGTH)}
    group = document.group(GROUP)
    names = [] if group is None else [child.tag for child in group.iterchildren("*")]
    return [name for name in names if name not in known | {"ImageMask", "Mask", "VerifiedLattice"}]


def describe(parameters, step):
    """The parameters of a step as {XML name: value} in a fixed order; "none" where none is.

    step: "mask", "search", "extract" or "integrate". The masks appear as sixteen hexadecimal digits that change with
    their shapes.
    """
    values = vars(parameters) | vars(parameters.search) | (vars(parameters.unit_cell) if parameters.unit_cell else {})
    found = {entry.path: values.get(entry.field) for entry in _of(step)}
    found = {path: "none" if value is None else value for path, value in found.items()}
    return found | {name: _shapes_digest(getattr(parameters, field)) for name, field in _shapes_of(step).items()}


def described(step):
    """The names that `describe` gives, in its order."""
    return [entry.path for entry in _of(step)] + list(_shapes_of(step))


def _of(step):
    if step == "mask":
        return SATURATION
    if step == "search":
        return SATURATION + SEARCH + UNIT_CELL[:3]
    return REGISTRY + (INTEGRATE if step == "integrate" else ()) + UNIT_CELL + (WAVELENGTH,)


def _shapes_of(step):
    """Fields with shapes of masks, by name."""
    return {"mask shapes": "mask"} | ({} if step == "mask" else {FOUND_MASK: "found_mask"})


def _shapes_digest(shapes):
    return hashlib.sha256(repr(shapes).encode()).hexdigest()[:16] if shapes else "none"
