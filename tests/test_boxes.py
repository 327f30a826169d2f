"""Boxes cut out of an image: the right pixels, and why a pixel is not usable."""

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import ndimage

from ed2d.boxes import Boxes, away_from_neighbours, chunks, cut, grid, nearest_pixels
from ed2d.lattice import Lattice, predict
from stills import boxes_of, image_of

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


@pytest.mark.parametrize("half", [0, 1, 4])
def test_what_touches_a_saturated_pixel(half):
    """Saturated: the pixels with a saturated one that is not ignored among their eight neighbours, or themselves.

    Found by dilation of the whole image: what lies beyond the box counts, whatever box looks at the pixel.
    """
    random = np.random.default_rng(17)
    image = image_of(
        random.normal(10, 1, SHAPE), ignored=random.random(SHAPE) < 0.2, saturated=random.random(SHAPE) < 0.03
    )
    touched = ndimage.binary_dilation(image.saturated & ~image.ignored, np.ones((3, 3))) & ~image.ignored
    x, y = np.meshgrid(np.arange(-2, SHAPE[1] + 2), np.arange(-2, SHAPE[0] + 2))
    centre = np.column_stack([x.ravel(), y.ravel()])
    boxes = cut(image, centre, half)
    padded = np.pad(touched, half + 2)
    for n, (cx, cy) in enumerate(centre):
        region = padded[cy + 2 : cy + 2 * half + 3, cx + 2 : cx + 2 * half + 3]
        np.testing.assert_array_equal(boxes.saturated[n], region.ravel())
    np.testing.assert_array_equal(boxes.usable, ~(boxes.outside | boxes.ignored | boxes.saturated))
    assert touched.sum() > 2 * image.saturated.sum() and (image.ignored & image.saturated).any()


def test_what_ignored_pixels_hold_does_not_matter():
    """Masked pixels may be saturated or not: the boxes are the same to the last bit."""
    random = np.random.default_rng(18)
    data, ignored = random.normal(10, 1, SHAPE), random.random(SHAPE) < 0.2
    centre = np.column_stack([random.integers(-4, 45, 40), random.integers(-4, 27, 40)])
    first = cut(image_of(data, ignored=ignored), centre, 3)
    assert not first.saturated.any()
    for value, saturated in ((np.inf, True), (65535.0, True), (np.nan, False), (-1e300, False)):
        image = image_of(np.where(ignored, value, data), ignored=ignored, saturated=ignored & saturated)
        for name, array in columns(cut(image, centre, 3)).items():
            np.testing.assert_array_equal(array, getattr(first, name))


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
@pytest.mark.parametrize("half", [5, 9])
def test_away_from_neighbours_by_brute_force(lattice, half):
    """A pixel is free when no lattice point but the own one lies within half of the spacing."""
    miller = predict(lattice, shape=(330, 410))[::5]
    centre = nearest_pixels(lattice.position(miller))
    h, k = np.mgrid[-12:13, -12:13]
    others = np.column_stack([h.ravel(), k.ravel()])
    others = others[others.any(axis=1)]
    dx, dy = grid(half)
    expected = np.ones((len(miller), len(dx)), bool)
    for n, (index, (x, y)) in enumerate(zip(miller, centre, strict=True)):
        place = lattice.position(index + others)
        far = np.hypot(x + dx - place[:, :1], y + dy - place[:, 1:]) > lattice.spacing / 2
        expected[n] = far.all(axis=0)
    np.testing.assert_array_equal(away_from_neighbours(half, miller, centre, lattice), expected)


def columns(boxes):
    """The arrays of boxes by name."""
    return {field.name: getattr(boxes, field.name) for field in fields(Boxes)[1:]}


@pytest.mark.parametrize("far", [30, 10**6, -(10**9)])
def test_far_outside_of_the_image(numbered, far):
    """Boxes wholly off the image, even very far, have no usable pixel and take no other's."""
    boxes = cut(numbered, np.array([[far, far], [20, 11], [20, -abs(far) - 10]]), 3)
    assert boxes.outside[[0, 2]].all() and not boxes.usable[[0, 2]].any() and not boxes.values[[0, 2]].any()
    assert boxes.usable[1].all()


@pytest.mark.parametrize("shape", [(5, 41), (23, 5), (5, 7), (1, 1)])
def test_an_image_smaller_than_a_box(shape):
    """Where the image is narrower than the box, this holds all there is, in its place."""
    y, x = np.indices(shape)
    image = image_of(1.0 + 1000 * y + x)
    centre = np.array([[shape[1] // 2, shape[0] // 2], [0, 0]])
    boxes = cut(image, centre, 4)
    padded = np.pad(image.data, 9, constant_values=0.0)
    for n, (cx, cy) in enumerate(centre):
        region = padded[cy + 5 : cy + 14, cx + 5 : cx + 14].ravel()
        np.testing.assert_array_equal(boxes.values[n], region)
        np.testing.assert_array_equal(boxes.usable[n], region > 0)
    np.testing.assert_array_equal(boxes.outside, ~boxes.usable)


def test_no_boxes(numbered):
    """No centre, no box; nothing fails."""
    boxes = cut(numbered, np.empty((0, 2), np.int64), 3)
    assert len(boxes) == 0 and boxes.values.shape == (0, 49) and len(boxes[np.array([], int)]) == 0


def test_boxes_are_copies():
    """Neither the image nor other boxes change with what is made of them."""
    data = np.arange(23 * 41.0).reshape(SHAPE)
    image = image_of(data.copy(), ignored=data % 7 == 0)
    boxes = cut(image, np.array([[10, 10], [11, 10]]), 3)
    boxes.values[0] = -1
    np.testing.assert_array_equal(image.data, data)
    assert not np.any(boxes.values[1] == -1)


def test_replaced_takes_rows_of_others(numbered):
    """Rows of other boxes at the given places, of all arrays; the rest and the original stay."""
    first = cut(numbered, np.array([[3, 3], [20, 11], [39, 2], [0, 22]]), 3)
    image = image_of(numbered.data + 1, ignored=numbered.data % 5 == 0, saturated=numbered.data % 3 == 0)
    second = cut(image, np.array([[7, 7], [40, 20]]), 3)
    second = second.without(np.arange(49) == 10)
    before = {name: array.copy() for name, array in columns(first).items()}
    mixed = first.replaced(np.array([3, 1]), second)
    for name, array in columns(mixed).items():
        np.testing.assert_array_equal(array[[3, 1]], getattr(second, name))
        np.testing.assert_array_equal(array[[0, 2]], before[name][[0, 2]])
        np.testing.assert_array_equal(getattr(first, name), before[name])
    again = first.replaced(np.array([0]), second[:1], source=np.array([2, 1, 1]))
    np.testing.assert_array_equal(again.centre, [second.centre[0], first.centre[1], first.centre[1]])


def test_without_zingers():
    """Pixels left out are neither usable nor counted and say why; what was not usable is no zinger."""
    random = np.random.default_rng(3)
    image = image_of(random.normal(10, 1, SHAPE), ignored=random.random(SHAPE) < 0.2)
    boxes = cut(image, np.column_stack([random.integers(0, 41, 9), random.integers(0, 23, 9)]), 3)
    zinger = random.random(boxes.usable.shape) < 0.3
    less = boxes.without(zinger)
    np.testing.assert_array_equal(less.zinger, zinger & boxes.usable)
    np.testing.assert_array_equal(less.usable, boxes.usable & ~zinger)
    np.testing.assert_array_equal(less.values, np.where(less.usable, boxes.values, 0))
    reasons = np.stack([less.usable, less.outside, less.ignored, less.saturated, less.zinger])
    assert np.all(reasons.sum(axis=0) == 1)
    other = random.random(boxes.usable.shape) < 0.3
    for name, array in columns(less.without(other)).items():
        np.testing.assert_array_equal(array, getattr(boxes.without(zinger | other), name))
    for name, array in columns(boxes.without(np.zeros_like(zinger))).items():
        np.testing.assert_array_equal(array, getattr(boxes, name))


def test_flat_boxes_have_lost_a_paraboloid():
    """Values less d^T H d / 2 and no curvature left; pixels that are not usable stay 0."""
    half, bend = 4, np.array([[0.3, -0.1, 0.2], [0.0, 0.0, 0.0], [-1.0, 2.0, 0.5]])
    random = np.random.default_rng(4)
    dx, dy = grid(half)
    plane = 50 + 2.0 * dx - dy
    bowl = np.stack(
        [[np.array([x, y]) @ [[a, b], [b, c]] @ [x, y] / 2 for x, y in zip(dx, dy, strict=True)] for a, b, c in bend]
    )
    usable = random.random(bowl.shape) < 0.8
    boxes = boxes_of(plane + bowl, usable=usable).bent(bend)
    np.testing.assert_array_equal(boxes.curvature, bend)
    flat = boxes.flat()
    np.testing.assert_allclose(flat.values, np.where(usable, plane, 0), atol=1e-12)
    assert not flat.curvature.any() and np.array_equal(flat.usable, usable)


def test_flat_boxes_have_lost_their_neighbours():
    """Values less what neighbouring spots put there, and nothing more to take off; once, not again."""
    random = np.random.default_rng(5)
    own, others = random.normal(30, 5, (6, 49)), random.exponential(20, (6, 49))
    usable = random.random((6, 49)) < 0.8
    flat = replace(boxes_of(own + others, usable=usable), surroundings=others).flat()
    np.testing.assert_allclose(flat.values, np.where(usable, own, 0))
    np.testing.assert_array_equal(flat.flat().values, flat.values)


@pytest.mark.parametrize("n", [0, 1, 1024, 1025, 5000])
def test_chunks_cover_all_rows_once(n):
    """One after the other, none empty, none large."""
    rows = np.arange(n)
    parts = [rows[part] for part in chunks(n)]
    assert all(0 < len(part) <= 1024 for part in parts)
    np.testing.assert_array_equal(np.concatenate([[], *parts]), rows)
