"""Zingers and spikes: found under and beside spots, honest pixels left alone, and the fits as without them."""

from dataclasses import replace

import numpy as np
import pytest

from ed2d import flags, gaussian
from ed2d.boxes import grid
from ed2d.noise import Noise
from ed2d.spots import fit_free, fit_held
from ed2d.zingers import spikes, zingers
from populations import BOX_SIZE, HALF, fitted
from stills import (
    assert_pulls,
    boxes_of,
    drawn,
    fits_at,
    many_spots,
    recorded,
    shape_of,
    sigma_of,
    theta_of,
    tracks,
)

SIDE = 2 * HALF + 1
COUNTED = Noise(gain=1.0, read_variance=0.0, offset=0.0)
SECOND_ORDER = 2.5  # / (I/sigma): bias of a pull that a linearised error leaves
FAR = 6.0  # standard deviations: a fit that a zinger has spoilt
UNNOTICED = {1: 0.0, 2: 0.002, 3: 0.004}  # of the spots of I/sigma 16 under tracks so long, px: fitted with it, no flag
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


@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("round_start", [False, True])
def test_honest_spots_lose_no_pixel(case, seed, round_start):
    """No pixel of a Gaussian spot is taken for a zinger, up to I/sigma 1000; volume and centre have their errors."""
    volume, background, widths = WHOLE[case]
    random = np.random.default_rng(seed)
    spots = many_spots(500, random, volume=volume, background=background, widths=widths, slope=0.02)
    boxes = boxes_of(recorded(drawn(HALF, spots), random))
    assert not spikes(boxes, COUNTED).any()
    _, found = fitted(boxes, COUNTED, spots, round_start=round_start)
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
    """The sum of two Gaussians, one twice as wide: hardly a pixel is lost, none at the core, no flag.

    In the first round of an extraction, and in the next, from the widths that this has found.
    """
    random = np.random.default_rng(2)
    spots = many_spots(1000, random, volume=volume, background=30, widths=(1.0, 2.0))
    halo = spots * [0.5, 1, 1, 2, 2, 1, 0, 0, 0]
    boxes = boxes_of(recorded(drawn(HALF, spots) + drawn(HALF, halo), random))
    assert not spikes(boxes, COUNTED).any()
    _, first = fitted(boxes, COUNTED, spots, round_start=True)
    held = fit_held(boxes, COUNTED, spots[:, 1:3], first.fits.shape)
    for found in (first, fit_free(boxes, COUNTED, held.fits, box_size=BOX_SIZE)):
        assert np.mean(found.flag & flags.ZINGER != 0) <= share
        assert not np.any(found.flag & flags.EXCLUDING)
        assert np.abs(found.fits.centre - spots[:, 1:3]).max() < 0.2


@pytest.mark.parametrize("case", WHOLE)
@pytest.mark.parametrize("hidden", ["saturated", "masked", "line", "dead pixels"])
def test_what_is_left_of_hidden_cores_stays_whole(case, hidden):
    """Beside saturated or masked pixels the wings of a spot stand alone, but are no spikes."""
    volume, background, widths = WHOLE[case]
    random = np.random.default_rng(21)
    spots = many_spots(300, random, volume=volume, background=background, widths=widths)
    expected = drawn(HALF, spots)
    peak = expected.max(axis=1, keepdims=True) - background
    x, y = grid(HALF)
    unseen = {
        "saturated": expected - background > peak / 5,
        "masked": np.hypot(x, y) < 2.5,
        "line": x == y,
        "dead pixels": random.random(expected.shape) < 0.2,
    }[hidden] & np.ones_like(expected, bool)
    boxes = boxes_of(recorded(expected, random), usable=~unseen)
    if hidden == "saturated":
        boxes = replace(boxes, ignored=boxes.saturated, saturated=boxes.ignored)
    assert not spikes(boxes, COUNTED).any()


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("case", TRACKED)
@pytest.mark.parametrize("reach", [1, 7])
@pytest.mark.parametrize("round_start", [False, True])
def test_zingers_do_not_disturb_a_free_fit(case, length, reach, round_start):
    """Tracks of 1 to 3 px near and under the spots are found and the pulls as without them; the rest is flagged."""
    volume, background, gain, heights = TRACKED[case]
    random = np.random.default_rng(3 + length)
    spots = many_spots(500, random, volume=volume, background=background, slope=0.02)
    values = recorded(drawn(HALF, spots), random, gain=gain)
    hit = tracks(HALF, 500, length, random, reach)
    boxes = boxes_of(values + gain * hit * random.uniform(*heights, (500, 1)))
    noise = Noise(gain=gain, read_variance=0.0, offset=0.0)
    _, found = fitted(boxes, noise, spots, round_start=round_start)
    deviation = (found.fits.volume - spots[:, 0]) / np.sqrt(found.fits.volume_variance)
    centre = (found.fits.centre - spots[:, 1:3]) / sigma_of(found.fits)[:, 4:6]
    good = found.flag & flags.EXCLUDING == 0
    assert np.mean(~good) <= EXCLUDED
    spoilt = good & (np.maximum(np.abs(deviation), np.abs(centre).max(axis=1)) > FAR)
    assert np.mean(spoilt) <= (UNNOTICED[length] if case == "low dose" else 0.0)
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
    hit = tracks(HALF, 800, length, random, 7)
    hit[:40] = False
    hit[:40, [0, SIDE - 1, SIDE**2 - 1, SIDE**2 - SIDE]] = np.eye(4, dtype=bool).repeat(10, axis=0)
    values = recorded(drawn(HALF, spots), random) + hit * random.uniform(500, 5000, (800, 1))
    boxes = boxes_of(values)
    found = fit_held(boxes.without(spikes(boxes, COUNTED)), COUNTED, spots[:, 1:3], shape_of(spots))
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
    fits = fits_at(theta_of(spots))
    np.testing.assert_array_equal(zingers(boxes, COUNTED, *gaussian.parts(HALF, fits)), hit)
    np.testing.assert_array_equal(spikes(boxes, COUNTED), hit)
