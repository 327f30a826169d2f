"""Trusted fits: pulls after two-step weighting, what the flags say, and what must not change them."""

import numpy as np
import pytest

from ed2d import flags
from ed2d.boxes import CHUNK, cut, grid
from ed2d.noise import Noise
from ed2d.spots import LARGEST_MISFIT, LEAST_LEVEL, fit_free, fit_held, misfits, model_variance, pixel_flags, weights
from ed2d.zingers import spikes
from populations import BOX_SIZE, HALF, fitted
from stills import assert_pulls, boxes_of, drawn, fits_at, image_of, many_spots, recorded, shape_of, theta_of, tracks

HELD_BIAS = 0.05  # standard deviations, from weights that follow the fitted amplitude


def free(values, spots, *, gain=1.0, read_noise=0.0, usable=True, round_start=False):
    """Held and free fits of boxes of values, their boxes and noise."""
    noise = Noise(gain=gain, read_variance=read_noise**2, offset=0.0)
    boxes = boxes_of(values, usable=usable)
    return *fitted(boxes, noise, spots, round_start=round_start), boxes, noise


@pytest.mark.parametrize("volume", [0.0, 60.0, 2000.0])
@pytest.mark.parametrize(("gain", "read_noise", "background"), [(1, 0, 0.5), (1, 0, 20), (5, 10, 100), (20, 10, 600)])
def test_pulls_of_held_fits(volume, gain, read_noise, background):
    """Absent, weak and strong spots with the true centre and shape: mean 0 and width 1 at every dose and gain."""
    random = np.random.default_rng(9)
    spots = many_spots(600, random, volume=gain * volume, background=background, slope=0.02)
    boxes = boxes_of(recorded(drawn(HALF, spots), random, gain=gain, read_noise=read_noise))
    noise = Noise(gain=gain, read_variance=read_noise**2, offset=0.0)
    found = fit_held(boxes, noise, spots[:, 1:3], shape_of(spots))
    assert not found.flag.any()
    assert_pulls((found.fits.volume - spots[:, 0]) / np.sqrt(found.fits.volume_variance), bias=HELD_BIAS)


def test_the_gain_only_scales_the_result():
    """Counts times a factor with the noise model of that gain: volumes scale, flags and centres stay."""
    random = np.random.default_rng(10)
    spots = many_spots(200, random, volume=3000, background=20)
    values = recorded(drawn(HALF, spots), random) + 800 * tracks(HALF, 200, 2, random, 7)
    _, one, _, _ = free(values, spots)
    _, ten, _, _ = free(10 * values, spots, gain=10.0)
    np.testing.assert_array_equal(one.flag, ten.flag)
    assert np.max(np.abs(ten.fits.volume / 10 - one.fits.volume) / np.sqrt(one.fits.volume_variance)) < 0.01
    np.testing.assert_allclose(ten.fits.volume_variance, 100 * one.fits.volume_variance, rtol=0.01)


def test_order_and_company_do_not_matter():
    """Boxes in other order, some of them only, or more than are worked on together: each its own fits."""
    random = np.random.default_rng(16)
    spots = many_spots(CHUNK + 50, random, volume=3000, background=20)
    values = recorded(drawn(HALF, spots), random) + 800 * tracks(HALF, len(spots), 2, random, 7)
    held, found, boxes, noise = free(values, spots)
    boxes = boxes.without(spikes(boxes, noise))
    rows = random.permutation(len(spots))[:300]
    some = fit_free(boxes, noise, held.fits, box_size=BOX_SIZE, rows=rows)
    alone = fit_held(boxes[rows], noise, held.fits.centre[rows], held.fits.shape[rows])
    for one, two in ((some, found[rows]), (alone, fit_held(boxes, noise, held.fits.centre, held.fits.shape)[rows])):
        np.testing.assert_array_equal(one.flag, two.flag)
        np.testing.assert_allclose(one.fits.volume, two.fits.volume, rtol=1e-6)
        np.testing.assert_allclose(one.fits.volume_variance, two.fits.volume_variance, rtol=1e-6)
    assert len(fit_free(boxes, noise, held.fits, box_size=BOX_SIZE, rows=rows[:0]).flag) == 0
    assert len(fit_held(boxes[rows[:0]], noise, np.empty((0, 2)), np.empty((0, 3))).flag) == 0


def test_pixel_flags():
    """EDGE, MASKED and SATURATED say which boxes hold such pixels; none of them keeps the fit out of the refinement."""
    random = np.random.default_rng(11)
    shape = (60, 80)
    spot = np.array([[6000, 0, 0, 1.6, 1.4, 20, 30, 0, 0]])
    data, ignored, saturated = (np.full(shape, fill) for fill in (30.0, False, False))
    data = recorded(data, random)
    places = np.array([[20, 20], [45, 20], [70, 20], [5, 45], [45, 45]])
    for x, y in places:
        down, across = slice(max(0, y - 9), y + 10), slice(max(0, x - 9), min(80, x + 10))
        peak = drawn(9, spot - [0, 0, 0, 0, 0, 0, 30, 0, 0]).reshape(19, 19)
        cut_x, cut_y = max(0, 9 - x), max(0, 9 - y)
        data[down, across] += peak[cut_y:, cut_x : cut_x + data[down, across].shape[1]]
    ignored[24, 48], saturated[14, 68:73] = True, True
    image = image_of(data, ignored=ignored, saturated=saturated)
    noise = Noise(gain=1.0, read_variance=0.0, offset=0.0)
    _, found = fitted(cut(image, places, HALF), noise, np.tile(spot, (5, 1)))
    expected = [0, flags.MASKED, flags.SATURATED, flags.EDGE, 0]
    np.testing.assert_array_equal(found.flag, expected)
    assert np.all(np.abs(found.fits.volume - 6000) < 5 * np.sqrt(found.fits.volume_variance))


def test_not_fitted_without_pixels_under_the_peak():
    """NOT_FITTED for a box with fewer than 30 usable pixels, where the mask covers the peak CENTRE, held NOT_FITTED."""
    random = np.random.default_rng(12)
    spots = many_spots(3, random, volume=5000, background=20, centre=0.1)
    dx, dy = grid(HALF)
    usable = np.array([np.ones(361, bool), np.arange(361) < 25, np.hypot(dx, dy) > 2.5])
    values = recorded(drawn(HALF, spots), random)
    held, found, boxes, noise = free(values, spots, usable=usable)
    np.testing.assert_array_equal(found.flag & flags.NOT_FITTED != 0, [False, True, True])
    np.testing.assert_array_equal(np.isnan(found.fits.volume), [False, True, True])
    start = fits_at(theta_of(spots))
    assert fit_free(boxes, noise, start, box_size=BOX_SIZE).flag[2] & flags.CENTRE
    assert [bool(flag & flags.NOT_FITTED) for flag in held.flag] == [False, True, True]
    np.testing.assert_array_equal(np.isnan(held.fits.volume), [False, True, True])
    assert np.all(held.flag[1:] & flags.MASKED)


def test_width_and_centre_flags():
    """WIDTH for a spot that is too broad for the box, CENTRE for one beyond BoxSize; neither for a usual one."""
    random = np.random.default_rng(13)
    spots = np.array(
        [
            [50000, 0.2, 0.1, 2.0, 1.5, 30, 20, 0, 0],
            [900000, 0.0, 0.0, 9.0, 8.0, 30, 20, 0, 0],
            [90000, 7.4, 0.0, 1.5, 1.4, 30, 20, 0, 0],
        ]
    )
    for round_start in (False, True):
        _, found, _, _ = free(recorded(drawn(HALF, spots), random), spots, round_start=round_start)
        assert_doubts(found)


def assert_doubts(found):
    """Those of the spots of `test_width_and_centre_flags`."""
    assert found.flag[0] == 0
    assert found.flag[1] & flags.WIDTH and not found.flag[1] & flags.CENTRE
    assert found.flag[2] & flags.CENTRE and not found.flag[2] & flags.WIDTH


def test_a_hole_in_the_background_is_not_a_spot():
    """A negative peak gets the flag WIDTH instead of passing as a spot."""
    random = np.random.default_rng(14)
    spots = np.tile([-4000.0, 0, 0, 2, 2, 0, 400, 0, 0], (20, 1))
    _, found, _, _ = free(recorded(drawn(HALF, spots), random), spots)
    assert np.all(found.flag & flags.EXCLUDING)


def test_what_stands_on_unusable_pixels_never_matters():
    """Bitwise equal fits and flags whatever the masked pixels of the image hold."""
    random = np.random.default_rng(15)
    data = random.poisson(30.0, (70, 90)).astype(float)
    data[random.random(data.shape) < 0.01] += 900
    ignored = random.random(data.shape) < 0.1
    centre = np.column_stack([random.integers(0, 90, 30), random.integers(0, 70, 30)])
    noise = Noise(gain=1.0, read_variance=0.0, offset=0.0)
    spots = np.tile([0, 0, 0, 2.0, 2.0, 0, 0, 0, 0], (30, 1))
    results = []
    for value in (0.0, np.nan, 1e300, -np.inf):
        boxes = cut(image_of(np.where(ignored, value, data), ignored=ignored), centre, HALF)
        results.append(fitted(boxes, noise, spots))
    for pair in results[1:]:
        for found, first in zip(pair, results[0], strict=True):
            np.testing.assert_array_equal(found.flag, first.flag)
            for name in ("amplitude", "plane", "centre", "shape", "covariance", "chi2", "dof"):
                np.testing.assert_array_equal(getattr(found.fits, name), getattr(first.fits, name))


@pytest.mark.parametrize(("gain", "read_noise", "offset"), [(1, 0, 0), (5, 10, 100)])
def test_weights_are_those_of_the_model(gain, read_noise, offset):
    """1/variance of the expected counts of a right model, whatever the pixels hold; 0 where not usable."""
    random = np.random.default_rng(17)
    spots = many_spots(50, random, volume=3000, background=40, slope=0.02)
    noise = Noise(gain=gain, read_variance=read_noise**2, offset=offset)
    plane, peak = drawn(HALF, spots * [0, *8 * [1]]) + offset, drawn(HALF, spots * [1, 1, 1, 1, 1, 1, 0, 0, 0])
    usable = random.random(plane.shape) < 0.9
    for values in (recorded(drawn(HALF, spots), random), random.normal(0, 1e4, plane.shape)):
        found = weights(boxes_of(values, usable=usable), noise, plane, peak)
        expected = gain * drawn(HALF, spots) + read_noise**2
        np.testing.assert_allclose(found, np.where(usable, 1 / expected, 0), rtol=1e-9)


def test_no_pixel_is_without_noise():
    """Negative peaks count as none; planes that fall far below the median of the box are raised to a part of it."""
    random = np.random.default_rng(18)
    boxes, noise = boxes_of(random.poisson(40.0, (3, 361))), Noise(gain=1.0, read_variance=4.0, offset=10.0)
    dx, _ = grid(HALF)
    level = np.broadcast_to(40.0, (3, 361))
    hole = -30 * np.exp(-0.1 * dx**2) * np.ones((3, 1))
    np.testing.assert_allclose(model_variance(boxes, noise, level, hole), 40 - 10 + 4)
    steep = np.ones((3, 1)) * (40.0 + 20 * dx)
    found, middle = model_variance(boxes, noise, steep, 0 * hole), np.median(boxes.values, axis=1)[:, None] - 10
    np.testing.assert_allclose(found, np.maximum(steep - 10, LEAST_LEVEL * middle) + 4)


def test_flags_of_pixels():
    """Every reason for which a pixel is not usable is a flag of its box, and only those."""
    random = np.random.default_rng(19)
    image = image_of(random.normal(10, 1, (30, 40)), ignored=random.random((30, 40)) < 0.01,
                     saturated=random.random((30, 40)) < 0.003)  # fmt: skip
    boxes = cut(image, np.column_stack([random.integers(0, 40, 200), random.integers(0, 30, 200)]), 2)
    boxes = boxes.without(random.random(boxes.usable.shape) < 0.01)
    found = pixel_flags(boxes)
    for bit, pixels in (
        (flags.EDGE, boxes.outside),
        (flags.MASKED, boxes.ignored),
        (flags.SATURATED, boxes.saturated),
        (flags.ZINGER, boxes.zinger),
    ):
        np.testing.assert_array_equal(found & bit != 0, pixels.any(axis=1))
        assert 5 < np.count_nonzero(found & bit) < 195
    assert not np.any(found & ~(flags.EDGE | flags.MASKED | flags.SATURATED | flags.ZINGER))


@pytest.mark.parametrize(("share", "wrong"), [(0.0, False), (0.15, False), (0.4, True)])
@pytest.mark.parametrize("background", [30, 300])
def test_misfits(share, wrong, background):
    """Boxes with a pattern beside the spot, its rms a share of the height: misfits beyond a quarter, at any dose."""
    random = np.random.default_rng(20)
    spots = many_spots(300, random, volume=1, background=background, widths=(1.4, 2.0))
    height = 20 * np.sqrt(background)
    spots[:, 0] = 2 * np.pi * spots[:, 3] * spots[:, 4] * height
    pattern = share * height * random.choice([-1, 1], (300, 361))
    boxes = boxes_of(recorded(drawn(HALF, spots), random) + pattern)
    noise = Noise(gain=1.0, read_variance=0.0, offset=0.0)
    fits = fit_held(boxes, noise, spots[:, 1:3], shape_of(spots)).fits
    found = misfits(fits.reduced_chi2, noise.variance(fits.plane[:, 0]), fits.amplitude)
    assert np.mean(found == wrong) > 0.99


def test_misfits_by_their_definition():
    """The rms that noise does not explain against the height, of either sign; too small a chi-square is none."""
    random = np.random.default_rng(22)
    chi2, variance, height = random.uniform(0, 9, 500), random.uniform(1, 99, 500), random.normal(0, 60, 500)
    excess = np.array([max(value - 1, 0) ** 0.5 for value in chi2]) * variance**0.5
    np.testing.assert_array_equal(misfits(chi2, variance, height), excess > LARGEST_MISFIT * abs(height))
    assert not misfits(np.array([0.5, 1.0]), np.ones(2), np.zeros(2)).any()


def test_decode_names_the_bits():
    """Every flag has its own bit below 2^24 and is named by it."""
    bits = [flag.bit for flag in flags.REGISTRY.values()]
    assert len(set(bits)) == len(bits) and all(bit & (bit - 1) == 0 and bit < 1 << 24 for bit in bits)
    assert flags.decode(flags.EDGE | flags.WEAK) == ["EDGE", "WEAK"] and flags.decode(0) == []
    assert flags.decode(flags.EXCLUDING) == [name for name, flag in flags.REGISTRY.items() if flag.excludes]
