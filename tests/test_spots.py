"""Trusted fits: zingers found, honest spots left whole, pulls after two-step weighting, and what the flags say."""

import numpy as np
import pytest

from ed2d import flags, gaussian
from ed2d.boxes import cut, grid
from ed2d.noise import Noise
from ed2d.spots import fit_free, fit_held, spikes, zingers
from stills import assert_pulls, boxes_of, drawn, image_of, many_spots, recorded

HALF, BOX_SIZE = 9, 6
SIDE = 2 * HALF + 1
SECOND_ORDER = 2.5  # / (I/sigma): bias of a pull that a linearised error leaves
FAR = 6.0  # standard deviations: a fit that a zinger has spoilt
HELD_BIAS = 0.05  # standard deviations, from weights that follow the fitted amplitude
UNNOTICED = 0.004  # of the spots of I/sigma 16 under a track of 3 px: fitted with it, and no flag says so
EXCLUDED = 0.02  # of the spots, those under a track of less than four times their height: WIDTH says so
ODD_PIXELS = 0.02  # of spots of two Gaussians, I/sigma 150, lose one pixel of 361
WHOLE = {  # volume, background, widths: honest spots; I/sigma 7 .. 1000
    "weak": (1000, 30, (3.0, 3.0)),
    "sparse": (300, 0.3, (1.0, 2.0)),
    "narrow": (20000, 30, (1.0, 1.0)),
    "usual": (20000, 30, (1.2, 2.2)),
    "strong": (1000000, 10, (1.2, 2.2)),
    "strong and narrow": (1000000, 10, (1.0, 1.0)),
    "strong and broad": (1000000, 10, (3.0, 3.0)),
}
TRACKED = {  # volume, background, gain, zingers (electrons)
    "high dose": (2000, 30, 1, (1000, 5000)),
    "camera": (20000, 30, 5, (3000, 12000)),
    "low dose": (500, 5, 1, (150, 1000)),
}


def sigma_of(fits):
    return np.sqrt(np.einsum("nii->ni", fits.covariance))


def free(values, *, gain=1.0, read_noise=0.0, usable=True):
    """Free fits of boxes of values and what they were fitted with."""
    noise = Noise(gain=gain, read_variance=read_noise**2, offset=0.0)
    boxes = boxes_of(values, usable=usable)
    return fit_free(boxes, noise, box_size=BOX_SIZE, start_width=2.0), boxes, noise


def shape_of(spots):
    return gaussian.shape_from_widths(*spots[:, 3:6].T)


def tracks(n, length, random, reach):
    """Straight tracks (n, side^2) of `length` px, along x or y or a diagonal, that start within `reach` px."""
    dx, dy = grid(HALF)
    start = random.integers(-reach, reach + 1, (n, 2))
    step = np.array([(1, 0), (0, 1), (1, 1), (1, -1)])[random.integers(0, 4, n)]
    hit = np.zeros((n, SIDE**2), bool)
    for k in range(length):
        place = start + k * step
        hit |= (dx == place[:, :1]) & (dy == place[:, 1:])
    return hit


@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("seed", [0, 1])
def test_honest_spots_lose_no_pixel(case, seed):
    """No pixel of a Gaussian spot is taken for a zinger, up to I/sigma 1000; volume and centre have their errors."""
    volume, background, widths = WHOLE[case]
    random = np.random.default_rng(seed)
    spots = many_spots(500, random, volume=volume, background=background, widths=widths, slope=0.02)
    found, boxes, noise = free(recorded(drawn(HALF, spots), random))
    assert not spikes(boxes, noise).any()
    assert not np.any(found.flag & flags.ZINGER)
    allowance = SECOND_ORDER / np.median(found.fits.significance)
    assert_pulls(
        (found.fits.volume - spots[:, 0]) / np.sqrt(found.fits.volume_variance),
        bias=allowance,
        extra_width=allowance / 2,
    )
    centre = (found.fits.centre - spots[:, 1:3]) / sigma_of(found.fits)[:, 4:6]
    assert_pulls(centre.ravel(), bias=allowance, extra_width=allowance)
    assert not np.any(found.flag & flags.EXCLUDING)


@pytest.mark.parametrize(("volume", "share"), [(20000, ODD_PIXELS), (1000000, 0.005)])
def test_spots_that_are_not_gaussian_stay_whole(volume, share):
    """The sum of two Gaussians, one twice as wide: hardly a pixel is lost, none at the core, no flag."""
    random = np.random.default_rng(2)
    spots = many_spots(400, random, volume=volume, background=30, widths=(1.0, 2.0))
    halo = spots * [0.5, 1, 1, 2, 2, 1, 0, 0, 0]
    found, boxes, noise = free(recorded(drawn(HALF, spots) + drawn(HALF, halo), random))
    assert not spikes(boxes, noise).any()
    assert np.mean(found.flag & flags.ZINGER != 0) <= share
    assert not np.any(found.flag & flags.EXCLUDING)
    assert np.abs(found.fits.centre - spots[:, 1:3]).max() < 0.2


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("case", TRACKED)
@pytest.mark.parametrize("reach", [1, 7])
def test_zingers_do_not_disturb_a_free_fit(case, length, reach):
    """Tracks of 1 to 3 px near and under the spots are found and the pulls as without them; the rest is flagged."""
    volume, background, gain, heights = TRACKED[case]
    random = np.random.default_rng(3 + length)
    spots = many_spots(500, random, volume=volume, background=background, slope=0.02)
    values = recorded(drawn(HALF, spots), random, gain=gain)
    hit = tracks(500, length, random, reach)
    found, _, _ = free(values + gain * hit * random.uniform(*heights, (500, 1)), gain=gain)
    deviation = (found.fits.volume - spots[:, 0]) / np.sqrt(found.fits.volume_variance)
    centre = (found.fits.centre - spots[:, 1:3]) / sigma_of(found.fits)[:, 4:6]
    good = found.flag & flags.EXCLUDING == 0
    assert np.mean(~good) <= EXCLUDED
    spoilt = good & (np.maximum(np.abs(deviation), np.abs(centre).max(axis=1)) > FAR)
    assert np.mean(spoilt) <= (UNNOTICED if case == "low dose" and length == 3 else 0.0)
    good &= ~spoilt
    assert np.mean(found.flag[good] & flags.ZINGER != 0) > 0.99
    allowance = SECOND_ORDER / np.median(found.fits.significance)
    assert_pulls(deviation[good], bias=allowance, extra_width=allowance / 2)
    assert_pulls(centre[good].ravel(), bias=allowance, extra_width=allowance)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_zingers_do_not_disturb_a_held_fit(length):
    """With centre and shape held, absent and weak spots stay unbiased beside zingers; corners of the box too."""
    random = np.random.default_rng(7)
    spots = many_spots(800, random, volume=150, background=20)
    spots[::2, 0] = 0
    hit = tracks(800, length, random, 7)
    hit[:40] = False
    hit[:40, [0, SIDE - 1, SIDE**2 - 1, SIDE**2 - SIDE]] = np.eye(4, dtype=bool).repeat(10, axis=0)
    values = recorded(drawn(HALF, spots), random) + hit * random.uniform(500, 5000, (800, 1))
    noise = Noise(gain=1.0, read_variance=0.0, offset=0.0)
    found = fit_held(boxes_of(values), noise, spots[:, 1:3], shape_of(spots))
    assert np.all(found.flag == flags.ZINGER) and found.fits.held.all()
    pulls = (found.fits.volume - spots[:, 0]) / np.sqrt(found.fits.volume_variance)
    assert_pulls(pulls[::2])
    assert_pulls(pulls[1::2])
    assert (found.fits.volume[::2] < 0).mean() == pytest.approx(0.5, abs=0.1)


def test_zingers_are_named_pixel_by_pixel():
    """Against the true model exactly the pixels that were hit are found, whatever their place in the box."""
    random = np.random.default_rng(8)
    spots = many_spots(361, random, volume=0, background=25)
    hit = np.eye(361, dtype=bool)
    boxes = boxes_of(recorded(drawn(HALF, spots), random) + 400 * hit)
    noise = Noise(gain=1.0, read_variance=0.0, offset=0.0)
    fits = gaussian.replace(
        gaussian.Fits.missing(361),
        amplitude=np.zeros(361),
        plane=spots[:, 6:],
        centre=spots[:, 1:3],
        shape=shape_of(spots),
    )
    np.testing.assert_array_equal(zingers(boxes, boxes.usable, noise, fits), hit)
    np.testing.assert_array_equal(spikes(boxes, noise), hit)


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
    values = recorded(drawn(HALF, spots), random) + 800 * tracks(200, 2, random, 7)
    one, _, _ = free(values)
    ten, _, _ = free(10 * values, gain=10.0)
    np.testing.assert_array_equal(one.flag, ten.flag)
    assert np.max(np.abs(ten.fits.volume / 10 - one.fits.volume) / np.sqrt(one.fits.volume_variance)) < 0.01
    np.testing.assert_allclose(ten.fits.volume_variance, 100 * one.fits.volume_variance, rtol=0.01)


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
    found = fit_free(cut(image, places, HALF), noise, box_size=BOX_SIZE, start_width=2.0)
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
    found, boxes, noise = free(values, usable=usable)
    assert [flag & (flags.NOT_FITTED | flags.CENTRE) for flag in found.flag] == [0, flags.NOT_FITTED, flags.CENTRE]
    assert np.isnan(found.fits.volume[1]) and not np.isnan(found.fits.volume[0])
    held = fit_held(boxes, noise, spots[:, 1:3], shape_of(spots))
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
    found, _, _ = free(recorded(drawn(HALF, spots), random))
    assert found.flag[0] == 0
    assert found.flag[1] & flags.WIDTH and not found.flag[1] & flags.CENTRE
    assert found.flag[2] & flags.CENTRE and not found.flag[2] & flags.WIDTH


def test_a_hole_in_the_background_is_not_a_spot():
    """A negative peak gets the flag WIDTH instead of passing as a spot."""
    random = np.random.default_rng(14)
    spots = np.tile([-4000.0, 0, 0, 2, 2, 0, 400, 0, 0], (20, 1))
    found, _, _ = free(recorded(drawn(HALF, spots), random))
    assert np.all(found.flag & flags.EXCLUDING)


def test_what_stands_on_unusable_pixels_never_matters():
    """Bitwise equal fits and flags whatever the masked pixels of the image hold."""
    random = np.random.default_rng(15)
    data = random.poisson(30.0, (70, 90)).astype(float)
    data[random.random(data.shape) < 0.01] += 900
    ignored = random.random(data.shape) < 0.1
    centre = np.column_stack([random.integers(0, 90, 30), random.integers(0, 70, 30)])
    noise = Noise(gain=1.0, read_variance=0.0, offset=0.0)
    shape = np.tile(gaussian.shape_from_covariance(4.0, 0.0, 4.0), (30, 1))
    results = []
    for value in (0.0, np.nan, 1e300, -np.inf):
        boxes = cut(image_of(np.where(ignored, value, data), ignored=ignored), centre, HALF)
        results.append(
            (
                fit_free(boxes, noise, box_size=BOX_SIZE, start_width=2.0),
                fit_held(boxes, noise, np.zeros((30, 2)), shape),
            )
        )
    for pair in results[1:]:
        for found, first in zip(pair, results[0], strict=True):
            np.testing.assert_array_equal(found.flag, first.flag)
            for name in ("amplitude", "plane", "centre", "shape", "covariance", "chi2", "dof"):
                np.testing.assert_array_equal(getattr(found.fits, name), getattr(first.fits, name))


def test_decode_names_the_bits():
    """Every flag has its own bit below 2^24 and is named by it."""
    bits = [flag.bit for flag in flags.REGISTRY.values()]
    assert len(set(bits)) == len(bits) and all(bit & (bit - 1) == 0 and bit < 1 << 24 for bit in bits)
    assert flags.decode(flags.EDGE | flags.WEAK) == ["EDGE", "WEAK"] and flags.decode(0) == []
    assert flags.decode(flags.EXCLUDING) == [name for name, flag in flags.REGISTRY.items() if flag.excludes]
