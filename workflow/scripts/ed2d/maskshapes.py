"""Shapes of ignored pixels: IPLT's mask elements, read from XML, written, and drawn as an array."""

import math
import re
from dataclasses import dataclass

import numpy as np
from lxml import etree

from .emdatainfo import group_element
from .errors import InputError
from .xmlbytes import shown

SHAPES = ("Polygon", "Circle", "Extent", "Invert", "Composite")
LARGEST = 1e9  # px; no detector reaches so far, and beyond it the arithmetic of edges would lose its pixels
MOST_SHAPES, MOST_NODES = 1000, 10_000  # of one Mask, nested ones too; more belong into a mask file
BAND = 2**22  # pixels that are worked on together
CROSSINGS = 2**20  # of edges and rows that are worked on together
_NUMBER = {
    "int": re.compile(r"[+-]?[0-9]+"),
    "float": re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"),
}


@dataclass(frozen=True)
class Polygon:
    """The inside of a closed polygon by the even-odd rule; `nodes` are (x, y), px."""

    nodes: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Circle:
    """The pixels whose centre is at most `radius` from `center` (x, y), px."""

    center: tuple[float, float]
    radius: float


@dataclass(frozen=True)
class Extent:
    """The rectangle between two opposite corners (x, y), px, in any order, both edges included."""

    start: tuple[float, float]
    end: tuple[float, float]


@dataclass(frozen=True)
class Invert:
    """Everything that lies in none of `shapes`."""

    shapes: tuple


@dataclass(frozen=True)
class Composite:
    """Everything that lies in any of `shapes`."""

    shapes: tuple


def read_shapes(element, document):
    """Shapes under the lxml element `Mask`, a tuple; their union is ignored.

    `document.path` is the file that errors name. An InputError tells the path of the element
    (for instance Mask/Polygon/Node/x), its value and what is accepted.
    """
    for names, most in ((SHAPES, MOST_SHAPES), (("Node",), MOST_NODES)):
        number = sum(1 for _ in element.iter(*names))
        if number > most:
            problem = f"Mask holds {number} of {_listed(names)}; {most} is the most"
            raise InputError(document.path, problem, "use a mask file NAME_mask.tif")
    return _shapes(element, "Mask", document)


def shapes_element(tag, shapes):
    """Element that `read_shapes` reads back as the same shapes, floats exactly."""
    element = etree.Element(tag)
    element.extend(_WRITE[type(one)](one) for one in shapes)
    return element


def bands(shape):
    """Slices of rows that cover an image of shape (rows, columns), about BAND pixels each."""
    rows, columns = shape
    height = max(1, BAND // max(columns, 1))
    return [slice(top, min(top + height, rows)) for top in range(0, rows, height)]


def rasterise(shapes, shape):
    """Boolean array (rows, columns): True where the centre of a pixel lies in any of `shapes`.

    Coordinates are used as they are, without rounding; points on the edge of a polygon may go either way.
    """
    inside = np.zeros(shape, bool)
    mark(shapes, inside)
    return inside


def mark(shapes, pixels):
    """Sets those of the bool array `pixels` (rows, columns) True that `rasterise` draws."""
    for rows in bands(pixels.shape) if shapes else ():
        pixels[rows][_drawn(shapes, rows.start, pixels[rows].shape)] = True


# ---- reading


def _shapes(element, path, document):
    return tuple(_shape(child, path, document) for child in _children(element, SHAPES, path, document))


def _shape(element, path, document):
    path = f"{path}/{element.tag}"
    if element.tag in ("Invert", "Composite"):
        shapes = _shapes(element, path, document)
        if not shapes:
            raise InputError(document.path, f"{path} is empty", f"put one or more of {_listed(SHAPES)} into it")
        return {"Invert": Invert, "Composite": Composite}[element.tag](shapes)
    return {"Polygon": _polygon, "Circle": _circle, "Extent": _extent}[element.tag](element, path, document)


def _polygon(element, path, document):
    nodes = tuple(_point(node, f"{path}/Node", document) for node in _children(element, ("Node",), path, document))
    if len(nodes) < 3:
        raise InputError(document.path, f"{path} has {len(nodes)} nodes", "give it at least 3 Node elements")
    return Polygon(nodes)


def _circle(element, path, document):
    center, radius = _members(element, ("Center", "Radius"), path, document)
    radius_value = _number(radius, f"{path}/Radius", document)
    if radius_value < 0:
        raise InputError(
            document.path, f"{path}/Radius is negative ({shown(radius.get('value'))})", "give 0 or more pixels"
        )
    return Circle(_point(center, f"{path}/Center", document), radius_value)


def _extent(element, path, document):
    start, end = _members(element, ("Start", "End"), path, document)
    return Extent(_point(start, f"{path}/Start", document), _point(end, f"{path}/End", document))


def _point(element, path, document):
    x, y = _members(element, ("x", "y"), path, document)
    return _number(x, f"{path}/x", document), _number(y, f"{path}/y", document)


def _members(element, names, path, document):
    """The children called `names`, each exactly once, in the order of `names`."""
    found = {}
    for child in _children(element, names, path, document):
        if child.tag in found:
            raise InputError(document.path, f"{path}/{child.tag} is there twice", "leave one of them")
        found[child.tag] = child
    for name in names:
        if name not in found:
            raise InputError(document.path, f"{path}/{name} is missing", f"{path} needs {_listed(names)}")
    return [found[name] for name in names]


def _children(element, names, path, document):
    """Child elements without comments; one whose name is not in `names` is an InputError."""
    children = [child for child in element if isinstance(child.tag, str)]
    for child in children:
        if child.tag not in names:
            raise InputError(document.path, f"{path}/{child.tag} is not known", f"{path} may hold {_listed(names)}")
    return children


def _number(element, path, document):
    """The finite number of an item of type int, float or none."""
    text, kind = element.get("value"), element.get("type", "float").lower()
    if text is None:
        raise InputError(document.path, f"{path} has no value", f'write <{element.tag} value="12.5" type="float"/>')
    pattern = _NUMBER.get("float" if kind == "string" else kind)
    if pattern is None:
        raise InputError(document.path, f"{path} has the type {shown(kind)}", "use float or int")
    if not pattern.fullmatch(text.strip()):
        raise InputError(
            document.path, f"{path} is not a number of type {kind} ({shown(text)})", "give pixels, as 12.5"
        )
    value = float(text)
    if not math.isfinite(value) or abs(value) > LARGEST:
        raise InputError(document.path, f"{path} is out of range ({shown(text)})", f"give at most {LARGEST:.0e} pixels")
    return value


def _listed(names):
    return ", ".join(names)


# ---- writing


def _polygon_element(polygon):
    element = etree.Element("Polygon")
    element.extend(group_element("Node", _coordinates(node)) for node in polygon.nodes)
    return element


def _circle_element(circle):
    return group_element("Circle", {"Center": _coordinates(circle.center), "Radius": float(circle.radius)})


def _extent_element(extent):
    return group_element("Extent", {"Start": _coordinates(extent.start), "End": _coordinates(extent.end)})


def _coordinates(point):
    return {axis: float(value) for axis, value in zip("xy", point, strict=True)}


_WRITE = {
    Polygon: _polygon_element,
    Circle: _circle_element,
    Extent: _extent_element,
    Composite: lambda composite: shapes_element("Composite", composite.shapes),
    Invert: lambda invert: shapes_element("Invert", invert.shapes),
}


# ---- drawing: each function sets the pixels of its shape in `inside`, a band of the image from row `top` on


def _drawn(shapes, top, shape):
    inside = np.zeros(shape, bool)
    for one in shapes:
        _DRAW[type(one)](one, inside, top)
    return inside


def _draw_extent(extent, inside, top):
    rows, columns = inside.shape
    (x0, x1), (y0, y1) = (sorted(pair) for pair in zip(extent.start, extent.end, strict=True))
    inside[_span(y0, y1, rows, top), _span(x0, x1, columns)] = True


def _draw_circle(circle, inside, top):
    rows, columns = inside.shape
    (x, y), radius = circle.center, circle.radius
    down, across = _span(y - radius, y + radius, rows, top), _span(x - radius, x + radius, columns)
    dy = np.arange(top + down.start, top + down.stop)[:, None] - y
    dx = np.arange(across.start, across.stop) - x
    inside[down, across] |= dx * dx + dy * dy <= radius * radius


def _draw_polygon(polygon, inside, top):
    """Every edge toggles the pixels to the right of its crossing with each row; odd counts are inside."""
    rows, columns = inside.shape
    start = np.array(polygon.nodes, float)
    end = np.roll(start, -1, axis=0)
    upward = (start[:, 1] > end[:, 1])[:, None]
    (x0, y0), (x1, y1) = np.where(upward, end, start).T, np.where(upward, start, end).T
    first, last = np.clip(np.ceil([y0, y1]) - top, 0, rows).astype(int)  # rows y with y0 <= y < y1
    toggles = np.zeros((rows, columns + 1), np.uint8)
    edges = np.flatnonzero(last > first)
    for some in np.array_split(edges, 1 + np.sum((last - first)[edges]) // CROSSINGS):
        number = (last - first)[some]
        edge = np.repeat(some, number)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(number) - number, number) + first[edge]
        slope = ((x1 - x0)[some] / (y1 - y0)[some]).repeat(number)
        crossing = x0[edge] + (row + top - y0[edge]) * slope
        np.add.at(toggles, (row, np.clip(np.ceil(crossing), 0, columns).astype(int)), 1)
    inside |= np.add.accumulate(toggles[:, :-1], axis=1, dtype=np.uint8) % 2 == 1


def _draw_composite(composite, inside, top):
    inside |= _drawn(composite.shapes, top, inside.shape)


def _draw_invert(invert, inside, top):
    inside |= ~_drawn(invert.shapes, top, inside.shape)


def _span(low, high, size, start=0):
    """Slice of the integers from `low` to `high` (both included) within start .. start + size - 1, less `start`."""
    first, last = np.clip([math.ceil(low) - start, math.floor(high) + 1 - start], 0, size)
    return slice(int(first), max(int(first), int(last)))


_DRAW = {
    Polygon: _draw_polygon,
    Circle: _draw_circle,
    Extent: _draw_extent,
    Composite: _draw_composite,
    Invert: _draw_invert,
}
