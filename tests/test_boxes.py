"""Boxes cut out of an image: the right pixels, and why a pixel is not usable."""

import numpy as np
import pytest

from ed2d.boxes import away_from_neighbours, cut, grid, nearest_pixels
from ed2d.lattice import Lattice, predict
from stills import image_of

SHAPE = (23, 41)


@pytest.fixture
def numbered():
    """Every pixel holds 1000 y + x, so that a value tells its place."""
    y, x = np.indices(SHAPE)
    return image_of(1000 * y + x)


def test_values_are_those_of_the_grid(numbered):
    """values[n, m] is the pixel centre + (dx, dy)[m], row by row, x = column."""
    centre = np.array([[10, 8], [30, 15], [5, 5]])
    boxes = cut(numbered, centre, 4)
    dx, dy = grid(4)
    np.testing.assert_array_equal(boxes.values, 1000 * (centre[:, 1:] + dy) + centre[:, :1] + dx)
    assert boxes.usable.all() and boxes.side == 9 and len(boxes) == 3
    squares = boxes.as_squares(boxes.values)
    for square, (x, y) in zip(squares, centre, strict=True):
        np.testing.assert_array_equal(square, numbered.data[y - 4 : y + 5, x - 4 : x + 5])


def test_every_pixel_beyond_the_edge_is_outside(numbered):
    """Boxes across edges and corners, and wholly off the image, see what a padded image shows."""
    x, y = np.meshgrid(np.arange(-9, SHAPE[1] + 9, 3), np.arange(-9, SHAPE[0] + 9, 3))
    centre = np.column_stack([x.ravel(), y.ravel()])
    boxes = cut(numbered, centre, 3)
    padded = np.pad(numbered.data.astype(float), 12, constant_values=np.nan)
    for n, (cx, cy) in enumerate(centre):
        region = padded[cy + 9 : cy + 16, cx + 9 : cx + 16].ravel()
        np.testing.assert_array_equal(boxes.outside[n], np.isnan(region))
        np.testing.assert_array_equal(boxes.values[n], np.nan_to_num(region))
    np.testing.assert_array_equal(boxes.usable, ~boxes.outside)
    assert not boxes.ignored.any() and not boxes.saturated.any()


def test_reasons_are_exclusive_and_complete():
    """A pixel is usable, or exactly one of outside, ignored (also when saturated) and saturated."""
    random = np.random.default_rng(1)
    data = random.normal(10, 1, SHAPE)
    data[random.random(SHAPE) < 0.1] = np.nan
    image = image_of(data, ignored=random.random(SHAPE) < 0.1, saturated=random.random(SHAPE) < 0.2)
    centre = np.column_stack([random.integers(-4, SHAPE[1] + 4, 60), random.integers(-4, SHAPE[0] + 4, 60)])
    boxes = cut(image, centre, 5)
    parts = np.stack([boxes.usable, boxes.outside, boxes.ignored, boxes.saturated])
    assert np.all(parts.sum(axis=0) == 1) and np.all(parts.any(axis=(1, 2)))
    assert np.all(boxes.values[~boxes.usable] == 0) and np.isfinite(boxes.values).all()
    assert (image.ignored & image.saturated).any()


def test_rows_of_boxes(numbered):
    """Indexing takes whole boxes."""
    boxes = cut(numbered, np.array([[3, 3], [0, 20], [39, 2]]), 3)
    part = boxes[[2, 0]]
    np.testing.assert_array_equal(part.centre, [[39, 2], [3, 3]])
    np.testing.assert_array_equal(part.values, boxes.values[[2, 0]])
    np.testing.assert_array_equal(part.outside, boxes.outside[[2, 0]])


def test_nearest_pixel_of_ties_and_negative_coordinates():
    """The nearest pixel is at most half a pixel away; ties go to the larger coordinate, on both sides of 0."""
    positions = np.random.default_rng(2).uniform(-50, 50, (500, 2))
    assert np.abs(nearest_pixels(positions) - positions).max() <= 0.5
    np.testing.assert_array_equal(nearest_pixels([[0.5, -0.5], [1.5, -1.5], [2.49, -2.51]]), [[1, 0], [2, -1], [2, -3]])
    assert nearest_pixels([[0.5, 0.5]]).dtype == np.int64


def test_a_shifted_image_gives_the_same_boxes(numbered):
    """Translation: moving the image and the centres by the same pixels changes nothing."""
    moved = image_of(np.roll(numbered.data, (4, 7), axis=(0, 1)))
    centre = np.array([[12, 9], [20, 12]])
    before, after = cut(numbered, centre, 3), cut(moved, centre + np.array([7, 4]), 3)
    np.testing.assert_array_equal(before.values, after.values)


@pytest.mark.parametrize(
    "lattice",
    [
        Lattice((201.3, 157.8), (24.1, 3.2), (-4.3, 25.9), 1e-7, -2e-7),
        Lattice((201.3, 157.8), (11.0, 1.0), (-2.0, 13.0)),
        Lattice((201.3, 157.8), (9.0, 1.0), (28.0, 13.0)),
        Lattice((201.3, 157.8), (90.0, 1.0), (-2.0, 80.0)),
    ],
)
@pytest.mark.parametrize("distance", [4.0, 6.5])
def test_away_from_neighbours_by_brute_force(lattice, distance):
    """A pixel is free when no lattice point but the own one lies within the distance."""
    half = 9
    miller = predict(lattice, shape=(330, 410))[::5]
    centre = nearest_pixels(lattice.position(miller))
    h, k = np.mgrid[-12:13, -12:13]
    others = np.column_stack([h.ravel(), k.ravel()])
    others = others[others.any(axis=1)]
    dx, dy = grid(half)
    expected = np.ones((len(miller), len(dx)), bool)
    for n, (index, (x, y)) in enumerate(zip(miller, centre, strict=True)):
        place = lattice.position(index + others)
        far = np.hypot(x + dx - place[:, :1], y + dy - place[:, 1:]) > distance
        expected[n] = far.all(axis=0)
    np.testing.assert_array_equal(away_from_neighbours(half, miller, centre, lattice, distance), expected)
