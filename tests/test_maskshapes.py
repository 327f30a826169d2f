"""Mask shapes: drawn against independent computations, read with one-line errors."""

from types import SimpleNamespace

import numpy as np
import pytest
from lxml import etree

from ed2d.errors import InputError
from ed2d.maskshapes import Circle, Composite, Extent, Invert, Polygon, rasterise, read_shapes, shapes_element

SHAPE = (60, 83)
DOCUMENT = SimpleNamespace(path="project.xml")
CIRCLE = '<Circle><Center><x value="1" type="float"/><y value="2.5"/></Center><Radius value="3" type="int"/></Circle>'
NODES = "".join(f'<Node><x value="{x}"/><y value="{y}"/></Node>' for x, y in [(0, 0), (10.5, 0), (3, 1e1)])
EXTENT = '<Extent><Start><x value="5"/><y value="6"/></Start><End><x value="1"/><y value="2"/></End></Extent>'


def read(text):
    return read_shapes(etree.fromstring(f"<Mask>{text}</Mask>"), DOCUMENT)


def crossings_oracle(nodes, shape):
    """Even-odd rule by the total angle turned round each point of a small grid, one point at a time."""
    inside = np.zeros(shape, bool)
    nodes = np.array(nodes)
    for y, x in np.ndindex(shape):
        arms = nodes - [x, y]
        after = np.roll(arms, -1, axis=0)
        cross = arms[:, 0] * after[:, 1] - arms[:, 1] * after[:, 0]
        turns = np.arctan2(cross, np.sum(arms * after, axis=1)).sum() / (2 * np.pi)
        inside[y, x] = round(turns) % 2 == 1
    return inside


@pytest.mark.parametrize("seed", range(12))
def test_polygon_against_winding_angle(seed):
    """Random polygons, self-crossing and reaching off the image, equal the parity of the winding angle."""
    random = np.random.default_rng(seed)
    nodes = random.uniform(-20, 100, (random.integers(3, 9), 2))
    assert np.array_equal(rasterise((Polygon(tuple(map(tuple, nodes))),), SHAPE), crossings_oracle(nodes, SHAPE))


def test_polygon_nodes_are_not_rounded():
    """A square whose edges lie 0.01 px inside or outside of the pixel centres takes none or all of them."""
    for shift, side in ((0.01, 11), (-0.01, 9)):
        low, high = 20 - shift, 30 + shift
        square = Polygon(((low, low), (high, low), (high, high), (low, high)))
        assert rasterise((square,), SHAPE).sum() == side**2


def test_polygons_with_a_common_edge_share_no_pixel():
    """Two polygons that share an edge through pixel centres leave no gap and no double pixel."""
    left = rasterise((Polygon(((-9, -9), (30, -9), (30, 99), (-9, 99))),), SHAPE)
    right = rasterise((Polygon(((30, -9), (99, -9), (99, 99), (30, 99))),), SHAPE)
    assert np.array_equal(left, ~right)


def test_reversed_polygon_is_the_same():
    """The direction and the first node of a polygon do not matter."""
    nodes = ((3.2, 4.1), (70.7, 9.9), (60.1, 55.5), (20.4, 30.3))
    expected = rasterise((Polygon(nodes),), SHAPE)
    assert expected.any()
    assert np.array_equal(rasterise((Polygon(nodes[::-1]),), SHAPE), expected)
    assert np.array_equal(rasterise((Polygon(nodes[2:] + nodes[:2]),), SHAPE), expected)


def test_circle_area_and_edge():
    """A circle has the area pi r^2 to the error of its edge, includes points at r and may leave the image."""
    radius = 100.3
    area = rasterise((Circle((150.2, 149.7), radius),), (300, 320)).sum()
    assert area == pytest.approx(np.pi * radius**2, abs=3 * np.sqrt(radius))
    assert rasterise((Circle((5.0, 5.0), 1.0),), SHAPE).sum() == 5
    assert rasterise((Circle((5.0, 5.0), 0.0),), SHAPE).sum() == 1
    assert not rasterise((Circle((-50.0, 5.0), 20.0),), SHAPE).any()
    assert rasterise((Circle((0.0, 0.0), 1e8),), SHAPE).all()


def test_extent_is_inclusive_in_any_order():
    """A rectangle includes both corners, in whatever order they stand; x is the column."""
    expected = np.zeros(SHAPE, bool)
    expected[10:21, 30:36] = True
    for start, end in [((30, 10), (35, 20)), ((35, 20), (30, 10)), ((30, 20), (35, 10)), ((29.5, 9.2), (35.9, 20.9))]:
        assert np.array_equal(rasterise((Extent(start, end),), SHAPE), expected)
    assert not rasterise((Extent((30.2, 10.2), (30.8, 10.8)),), SHAPE).any()
    assert not rasterise((Extent((-30.0, 10.0), (-1.0, 20.0)),), SHAPE).any()
    assert rasterise((Extent((-1e9, -1e9), (1e9, 1e9)),), SHAPE).all()


def test_invert_and_composite_are_set_operations():
    """Composite is the union and Invert its complement, nested as one likes (De Morgan)."""
    one, two = Circle((20.0, 20.0), 15.0), Extent((25.0, 25.0), (60.0, 50.0))
    a, b = rasterise((one,), SHAPE), rasterise((two,), SHAPE)
    assert np.array_equal(rasterise((one, two), SHAPE), a | b)
    assert np.array_equal(rasterise((Composite((one, two)),), SHAPE), a | b)
    assert np.array_equal(rasterise((Invert((one, two)),), SHAPE), ~(a | b))
    both = Invert((Invert((one,)), Composite((Invert((two,)),))))
    assert np.array_equal(rasterise((both,), SHAPE), a & b) and (a & b).any()
    assert not rasterise((), SHAPE).any()


def test_transposed_shapes_give_the_transposed_mask():
    """Exchanging x and y of every shape transposes the mask."""
    nodes = ((3.2, 4.1), (70.7, 9.9), (60.1, 55.5))
    shapes = Polygon(nodes), Circle((60.3, 12.2), 7.7), Extent((5.0, 40.0), (9.0, 50.0))
    turned = Polygon(tuple(n[::-1] for n in nodes)), Circle((12.2, 60.3), 7.7), Extent((40.0, 5.0), (50.0, 9.0))
    assert np.array_equal(rasterise(shapes, SHAPE), rasterise(turned, SHAPE[::-1]).T)


def test_reading_every_shape():
    """Every element becomes its dataclass, with comments and nesting, and numbers are kept exactly."""
    text = f"<!-- arm --><Polygon>{NODES}</Polygon><Invert>{CIRCLE}<Composite>{EXTENT}</Composite></Invert>"
    extent = Extent((5.0, 6.0), (1.0, 2.0))
    polygon = Polygon(((0.0, 0.0), (10.5, 0.0), (3.0, 10.0)))
    assert read(text) == (polygon, Invert((Circle((1.0, 2.5), 3.0), Composite((extent,)))))
    assert read("") == ()


BAD = {
    "<Ellipse/>": "Mask/Ellipse is not known; Mask may hold Polygon, Circle, Extent, Invert, Composite",
    "<Polygon></Polygon>": "Mask/Polygon has 0 nodes; give it at least 3",
    "<Invert/>": "Mask/Invert is empty",
    "<Composite/>": "Mask/Composite is empty",
    f"<Polygon>{NODES}<Point/></Polygon>": "Mask/Polygon/Point is not known",
    EXTENT.replace("End", "Ende"): "Mask/Extent/Ende is not known",
    CIRCLE.replace('value="3"', 'value="-3"'): "Mask/Circle/Radius is negative ('-3')",
    CIRCLE.replace('value="3"', 'value="3.5"'): "Mask/Circle/Radius is not a number of type int ('3.5')",
    CIRCLE.replace('value="2.5"', 'value="nan"'): "Mask/Circle/Center/y is not a number of type float ('nan')",
    CIRCLE.replace('value="2.5"', 'value="2,5"'): "('2,5')",
    CIRCLE.replace('value="2.5"', 'value=""'): "('')",
    CIRCLE.replace('value="2.5"', 'value="1_0"'): "('1_0')",
    CIRCLE.replace('value="2.5"', 'value="1e999"'): "Mask/Circle/Center/y is out of range ('1e999')",
    CIRCLE.replace(' value="2.5"', ""): "Mask/Circle/Center/y has no value",
    CIRCLE.replace('type="int"', 'type="vector"'): "Mask/Circle/Radius has the type 'vector'",
    CIRCLE.replace('<y value="2.5"/>', ""): "Mask/Circle/Center/y is missing",
    CIRCLE.replace("</Circle>", '<Radius value="4"/></Circle>'): "Mask/Circle/Radius is there twice",
    '<Circle><Radius value="3"/></Circle>': "Mask/Circle/Center is missing",
    f"<Polygon>{NODES}".replace('"10.5"', '"ten"') + "</Polygon>": "Mask/Polygon/Node/x",
    f"<Invert>{CIRCLE}<Invert><Box/></Invert></Invert>": "Mask/Invert/Invert/Box is not known",
}


@pytest.mark.parametrize("text", BAD)
def test_bad_elements_are_named(text):
    """A mistake in a mask is one line with the file, the path of the element and its value."""
    with pytest.raises(InputError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith("project.xml: ") and BAD[text] in message and "\n" not in message


def test_types_in_capitals_are_accepted():
    """Capitals of a type and the type String do not matter, as elsewhere in these files."""
    text = CIRCLE.replace('type="int"', 'type="INT"').replace('value="2.5"', 'value="2.5" type="String"')
    assert read(text) == (Circle((1.0, 2.5), 3.0),)


def test_written_shapes_read_back_equal():
    """Every shape, nested ones and awkward floats too, through the bytes of a file; what is empty stays empty."""
    polygon = Polygon(((0.1, -1 / 3), (1e-7, 2.0**0.5), (7, 123456.789), (4.25, 1e8)))
    circle, extent = Circle((0.1 + 0.2, -5.0), 1 / 7), Extent((3.3, -2.0), (1, 9.9))
    shapes = (polygon, circle, extent, Invert((circle, Composite((extent, polygon)))), Composite((Invert((extent,)),)))
    for given in (shapes, ()):
        element = etree.fromstring(etree.tostring(shapes_element("Mask", given)))
        assert element.tag == "Mask" and read_shapes(element, DOCUMENT) == given
