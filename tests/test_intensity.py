"""Intensities at points: invariances, why a point is rejected, and that no reason looks at an intensity."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ed2d import flags
from ed2d.intensity import REASONS, Intensities, measure_intensities
from ed2d.lattice import Lattice, predict
from ed2d.profile import default
from ed2d.simulate import expected, simulate, transmission
from integrated import GAIN, GIVEN, LATTICE, NOISE, PLAIN, READ_NOISE, SHAPE
from stills import assert_pulls, image_of, in_order_of, on_lattice, parameters, recorded

WIDTH = 1.6  # px
ROUND = default(LATTICE.origin, SHAPE, WIDTH, GIVEN.half)
EVEN = replace(PLAIN, sigma_low=WIDTH, sigma_high=WIDTH, elongation=1.0)
FACTORS = (0.0, 1.0, 10.0)


MILLER = predict(LATTICE, shape=SHAPE)


@cache
def scene(seed=0):
    """Truth and ignored pixels of a still with a beam stop, all spots of one shape."""
    _, mask, truth = simulate(EVEN, seed=seed)
    return truth, mask == 0


def photographed(factor, *, seed=0, bad=False, negated=False):
    """An image with all volumes times a factor; negated: with the noise of the other sign."""
    truth, ignored = scene(seed)
    truth = truth.copy()
    truth["vol_counts"] *= factor
    mean = GAIN * expected(EVEN, truth, transmission(EVEN)[0])
    data = recorded(mean, np.random.default_rng(100 + seed), gain=GAIN, read_noise=READ_NOISE)
    return image_of(2 * mean - data if negated else data, ignored=ignored, saturated=bad & ~ignored), truth


def found_in(image, miller, places=None, profile=ROUND, *, given=GIVEN, curvature=(0.0, 0.0, 0.0)):
    """Intensities at points, by default those of LATTICE, at places, by default on it; curvature: of all."""
    bent = np.tile(curvature, (len(miller), 1))
    return measure_intensities(image, miller, bent, places or on_lattice(LATTICE), NOISE, profile, given)


def test_no_reason_depends_on_an_intensity():
    """All volumes times 0, 1 and 10, and noise of either sign: the same points are rejected for the same reasons."""
    bad = np.random.default_rng(1).random(SHAPE) < 0.01
    images = [photographed(factor, bad=bad, negated=negated)[0] for factor in FACTORS for negated in (False, True)]
    results = [found_in(image, MILLER, given=replace(GIVEN, box_grow_amount=0)) for image in images]
    for result in results:
        for reason in REASONS:
            np.testing.assert_array_equal(result.rejected[reason], results[0].rejected[reason])
        np.testing.assert_array_equal(result.kept, ~np.any([result.rejected[reason] for reason in REASONS], axis=0))
    assert results[0].rejected["OffImage"].any() and results[0].rejected["Masked"].any()
    assert results[0].kept.sum() > 0.8 * len(scene()[0])


def test_weak_and_negative_intensities_are_kept():
    """Without any spot on the image every usable point stays, half of them below zero, with the right errors."""
    image, _ = photographed(0.0)
    result = found_in(image, MILLER)
    kept = result.kept
    for intensity, variance in (
        (result.growth.intensity[0], result.growth.variance[0]),
        (result.volume, result.volume_variance),
    ):
        assert np.isfinite(intensity[kept]).all() and np.all(variance[kept] > 0)
        assert np.mean(intensity[kept] < 0) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(kept.sum()))
        assert_pulls(intensity[kept] / np.sqrt(variance[kept]))


def clear_pulls(result, truth):
    rows, known = in_order_of(MILLER, truth)
    clear = known & result.kept & (rows["trans_min"] > 0.999)
    errors = result.volume - rows["vol_counts"], result.growth.intensity[0] - rows["vol_counts"]
    variances = result.volume_variance, result.growth.variance[0]
    return [(error / np.sqrt(variance))[clear] for error, variance in zip(errors, variances, strict=True)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pulls_at_known_places(seed):
    """Places and shape known: profile fits and box sums scatter about the truth by their errors."""
    image, truth = photographed(1.0, seed=seed)
    for pulls in clear_pulls(found_in(image, MILLER), truth):
        assert_pulls(pulls)


def test_pulls_at_uncertain_places():
    """Spots that stray from their places: a shape spread out by that keeps profile fits unbiased, on average."""
    image, truth = photographed(1.0)
    random, stray = np.random.default_rng(2), 0.4
    moved = random.normal(0, stray, MILLER.shape)
    rows, known = in_order_of(MILLER, truth)
    narrow, spread = (found_in(image, MILLER, on_lattice(LATTICE, known, MILLER, moved)) for known in (0.0, stray))
    strong = known & spread.kept & (rows["trans_min"] > 0.999) & (rows["vol_counts"] > 3000)
    lost = [1 - result.volume[strong].sum() / rows["vol_counts"][strong].sum() for result in (narrow, spread)]
    assert lost[0] > 0.02 and abs(lost[1]) < lost[0] / 3


def test_parts_make_the_whole():
    """Points measured one by one, or many at a time in another order, give what they give together."""
    image, _ = photographed(1.0)
    whole = found_in(image, MILLER)
    assert len(MILLER) > 256  # more than one chunk
    order = np.random.default_rng(3).permutation(len(MILLER))
    shuffled = found_in(image, MILLER[order])
    few = Intensities.joined([found_in(image, MILLER[[row]]) for row in order[:20]])
    for other, rows in ((shuffled, order), (few, order[:20])):
        np.testing.assert_allclose(other.volume, whole.volume[rows], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(other.growth.intensity, whole.growth.intensity[:, rows], rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(other.growth.covariance, whole.growth.covariance[:, :, rows], rtol=1e-9)
        np.testing.assert_array_equal(other.flag, whole.flag[rows])
        np.testing.assert_array_equal(other.kept, whole.kept[rows])


def test_a_shift_by_whole_pixels():
    """The image, the lattice and the profile moved by whole pixels: the same intensities."""
    image, _ = photographed(1.0)
    places = LATTICE.position(MILLER)
    inner = MILLER[np.all((places > 20) & (places < np.array(SHAPE[::-1]) - 20), axis=1)]
    first = found_in(image, inner)
    pad = ((7, 3), (12, 5))
    data, ignored, full = (np.pad(array, pad) for array in (image.data, image.ignored, image.saturated))
    moved = replace(LATTICE, origin=(LATTICE.origin[0] + 12, LATTICE.origin[1] + 7))
    profile = replace(ROUND, origin=moved.origin)
    other = found_in(image_of(data, ignored=ignored, saturated=full), inner, on_lattice(moved), profile)
    np.testing.assert_allclose(other.volume, first.volume, rtol=1e-7, atol=1e-4)
    np.testing.assert_allclose(other.growth.intensity, first.growth.intensity, rtol=1e-7, atol=1e-4)
    np.testing.assert_array_equal(other.raw, first.raw)


def test_masked_and_saturated_pixels_have_no_influence():
    """Anything may stand on ignored and saturated pixels: every number stays the same to the last bit."""
    bad = np.random.default_rng(2).random(SHAPE) < 0.003
    image, _ = photographed(1.0, bad=bad)
    first = found_in(image, MILLER)
    for value in (np.nan, 1e12, -np.inf):
        data = np.where(image.saturated, 1e9, np.where(image.ignored, value, image.data))
        other = found_in(image_of(data, ignored=image.ignored, saturated=image.saturated), MILLER)
        for name in ("volume", "volume_variance", "flag", "raw", "flat", "residual"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))
        for name in vars(first.growth):
            np.testing.assert_array_equal(getattr(other.growth, name), getattr(first.growth, name))


def test_each_reason():
    """Off the image, masked, saturated but for a few wings, no rim: one point each, for that reason alone."""
    lattice = Lattice((280.0, 225.0), (80.0, 0.0), (0.0, 80.0))
    random = np.random.default_rng(3)
    ignored, saturated = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    spot = {(1, 0): (360, 225), (0, 1): (280, 305), (1, 1): (360, 305), (-1, 0): (200, 225), (0, -1): (280, 145)}
    x, y = spot[1, 0]
    saturated[y - 3 : y + 4, x - 3 : x + 4] = True
    x, y = spot[0, 1]
    ignored[y - 1 : y + 2, x - 1 : x + 2] = True
    x, y = spot[1, 1]
    ignored[y - 9 : y + 10, x - 9 : x + 10] = True
    ignored[y - 6 : y + 7, x - 6 : x + 7] = False
    x, y = spot[-1, 0]
    saturated[y - 1 : y + 2, x - 1 : x + 2] = True
    x, y = spot[0, -1]
    ignored[y - 6, x - 6 : x + 7] = True
    data = recorded(np.full(SHAPE, 150.0), random, gain=GAIN)
    miller = predict(lattice, shape=SHAPE)
    image = image_of(data, ignored=ignored, saturated=saturated & ~ignored)
    given = replace(GIVEN, box_grow_amount=0, background_rim_size=3)
    result = found_in(image, miller, on_lattice(lattice), given=given)
    row = {(int(h), int(k)): n for n, (h, k) in enumerate(miller)}
    reasons = {
        index: [reason for reason in REASONS if result.rejected[reason][row[index]]] for index in (*spot, (1, -1))
    }
    assert reasons == {
        (1, 0): ["Saturated"],
        (0, 1): ["Masked"],
        (1, 1): ["NoBackground"],
        (-1, 0): [],
        (0, -1): [],
        (1, -1): [],
    }
    assert result.flag[row[-1, 0]] == flags.SATURATED and result.flag[row[0, -1]] == flags.MASKED
    places = np.rint(lattice.position(miller))
    beyond = np.any((places < 6) | (places > np.array(SHAPE[::-1]) - 7), axis=1)
    np.testing.assert_array_equal(result.rejected["OffImage"], beyond)
    assert np.sum(list(result.rejected.values()), axis=0).max() == 1


@pytest.mark.parametrize("name", ["ignored", "saturated"])
def test_the_share_that_may_be_hidden(name):
    """A point is rejected where the hidden pixels hold more of the expected spot than is allowed, and not before."""
    limit = {"ignored": 0.05, "saturated": 0.9}[name]
    lattice, miller = Lattice((100.0, 80.0), (60.0, 0.0), (0.0, 60.0)), np.array([[0, 0]])
    y, x = np.indices((160, 200))
    share = np.exp(-((x - 100) ** 2 + (y - 80) ** 2) / (2 * WIDTH**2)) / (2 * np.pi * WIDTH**2)
    profile = default(lattice.origin, (160, 200), WIDTH, GIVEN.half)
    data = recorded(np.full((160, 200), 100.0), np.random.default_rng(4), gain=GAIN)
    verdicts = []
    for edge in range(94, 107):
        hidden = (x < edge) if name == "ignored" else (x < edge) & (np.abs(y - 80) < 20)
        image = image_of(data, **{name: hidden})
        seen = x < edge if name == "ignored" else x < edge + 1  # what touches a saturated pixel counts as such
        inner = np.maximum(np.abs(x - 100), np.abs(y - 80)) <= 6
        found = found_in(image, miller, on_lattice(lattice), profile)
        lost = (share * seen * inner).sum() / (share * inner).sum()
        verdicts.append(bool(found.rejected[{"ignored": "Masked", "saturated": "Saturated"}[name]][0]))
        assert verdicts[-1] == (lost > limit)
    assert set(verdicts) == {False, True}


def test_flags_say_what_the_box_holds():
    """EDGE, MASKED, SATURATED and ZINGER of the pixels of the box; OVERLAP where neighbours are fitted too."""
    image, _ = photographed(0.0)
    data, ignored, saturated = image.data.copy(), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    places = np.rint(LATTICE.position(MILLER)).astype(int)
    inside = np.flatnonzero(np.all((places > 30) & (places < np.array(SHAPE[::-1]) - 30), axis=1))
    one, two, three = inside[[3, 30, 60]]
    (x1, y1), (x2, y2), (x3, y3) = places[[one, two, three]]
    ignored[y1 + 5, x1], saturated[y2 - 5, x2], data[y3, x3 - 7] = True, True, 1e5
    result = found_in(image_of(data, ignored=ignored, saturated=saturated), MILLER)
    assert (result.flag[one], result.flag[two]) == (flags.MASKED, flags.SATURATED)
    assert result.flag[three] == flags.ZINGER
    distance = np.minimum(places, np.array(SHAPE[::-1]) - 1 - places).min(axis=1)
    np.testing.assert_array_equal(result.flag & flags.EDGE != 0, distance < GIVEN.half)
    assert not np.any(result.flag & flags.OVERLAP)
    dense = Lattice(LATTICE.origin, (8.0, 0.0), (0.0, 8.5))
    assert np.all(found_in(image, predict(dense, shape=SHAPE), on_lattice(dense)).flag & flags.OVERLAP)


@pytest.mark.parametrize("factor", [0.0, 0.05])
def test_boxes_that_hold_more_than_a_spot(factor):
    """A narrow ring of twice the background gives POOR_FIT to the weak spots that it crosses, noise to none."""
    image, _ = photographed(factor)
    plain = found_in(image, MILLER)
    assert not np.any(plain.flag & flags.POOR_FIT)
    radius, places = 150.0, LATTICE.position(MILLER)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    far = np.hypot(x - LATTICE.origin[0], y - LATTICE.origin[1]) - radius
    ring = GAIN * np.random.default_rng(3).poisson(EVEN.background * np.exp(-0.5 * (far / 1.5) ** 2))
    ringed = found_in(image_of(image.data + ring, ignored=image.ignored), MILLER)
    off = np.linalg.norm(places - LATTICE.origin, axis=1) - radius
    crossed = ringed.kept & (np.abs(off) > 2) & (np.abs(off) < 5) & (plain.volume < 3 * np.sqrt(plain.volume_variance))
    assert crossed.sum() >= 5 and np.all(ringed.flag[crossed] & flags.POOR_FIT)
    assert not np.any(ringed.flag[np.abs(off) > 20] & flags.POOR_FIT)


def test_pictures():
    """Raw boxes are the image; flat ones lack the slope and curvature of the background; ignored pixels are NaN."""
    y, x = np.indices(SHAPE)
    bent = np.array([0.3, -0.1, 0.2])
    lattice = Lattice((280.0, 225.0), (80.0, 0.0), (0.0, 80.0))
    miller = predict(lattice, shape=SHAPE)
    places = lattice.position(miller)
    inner = np.all((places > 30) & (places < np.array(SHAPE[::-1]) - 30), axis=1)
    miller, places = miller[inner], places[inner].astype(int)
    dx, dy = x - 280.0, y - 225.0
    data = 2000 + 0.5 * (bent[0] * dx * dx + 2 * bent[1] * dx * dy + bent[2] * dy * dy)
    ignored = np.random.default_rng(5).random(SHAPE) < 0.05
    given = parameters(gain=GAIN, box_size=5)
    result = found_in(image_of(data, ignored=ignored), miller, on_lattice(lattice), given=given, curvature=bent)
    half = 5 + GIVEN.box_grow_amount + GIVEN.background_rim_size
    for row, (column, line) in enumerate(places):
        window = slice(line - half, line + half + 1), slice(column - half, column + half + 1)
        expected_raw = np.where(ignored[window], np.nan, data[window]).ravel().astype(np.float32)
        np.testing.assert_array_equal(result.raw[row], expected_raw)
        flat = np.where(ignored[window], np.nan, data[line, column]).ravel()
        np.testing.assert_allclose(result.flat[row], flat, rtol=1e-5)
    np.testing.assert_allclose(result.volume, 0, atol=0.05)
