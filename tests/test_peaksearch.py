"""Peaks without a lattice: spots are found where they are and as clear as they are, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest

from ed2d.parameters import SearchParameters
from ed2d.peaksearch import MARGIN, NEAR, PRECISION, SENSITIVITY, SMOOTHING, SURROUNDINGS, find_peaks
from stills import image_of, tracks

SHAPE = (250, 330)
CHOSEN = SearchParameters()
DETECTORS = {
    "counting": {},
    "gain 20": {"gain": 20.0},
    "pedestal": {"gain": 3.0, "offset": 500.0},
    "read noise": {"gain": 5.0, "read_noise": 8.0, "offset": 100.0},
}
FEW_FALSE = 1 / 20_000  # peaks of noise per pixel
FALSE_IN_SPARSE = 1 / 8_000  # likewise, with half an electron a pixel: noise is not normal then
ON_RINGS = 0.008  # peaks per px of a ring
SAME_SPOT = 2.0  # px
LOST_IF_NARROW = 0.03  # of spots of 0.8 px (sigma), which may have one bright pixel like a zinger


def places(random, step=29, reach=3.0):
    """Places (n, 2), px, `step` from each other but for `reach`, away from the edge."""
    rows, columns = SHAPE
    grid = np.array([(x, y) for x in np.arange(25, columns - 20, step) for y in np.arange(25, rows - 20, step)], float)
    return grid + random.uniform(-reach, reach, grid.shape)


def expected(centres, volume, width, background):
    """Expected electrons (rows, columns) of round Gaussian spots on an even background."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mu = np.full(SHAPE, float(background))
    for (cx, cy), v in zip(centres, np.broadcast_to(volume, len(centres)), strict=True):
        mu += v / (2 * np.pi * width**2) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / width**2)
    return mu


def recorded(mu, random, *, gain=1.0, read_noise=0.0, offset=0.0):
    """Counts of a camera that sees mu electrons."""
    return gain * random.poisson(mu) + random.normal(0.0, read_noise, np.shape(mu)) + offset


def ring(radius, width, height, texture=0.0):
    """Expected electrons of a powder ring; texture: relative change once around."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    dx, dy = x - 160.3, y - 121.8
    profile = np.exp(-0.5 * ((np.hypot(dx, dy) - radius) / width) ** 2)
    return height * profile * (1 + texture * np.cos(np.arctan2(dy, dx)))


def peaks_of(counts, search=CHOSEN, **given):
    return find_peaks(image_of(counts, **given), search)[1]


def matched(peaks, centres):
    """Number of the nearest centre of each peak (n,), -1 where none is near."""
    distance = np.linalg.norm(peaks.positions[:, None] - centres, axis=2)
    return np.where(distance.min(axis=1) < SAME_SPOT, distance.argmin(axis=1), -1)


def filtered(volume, width, variance, smoothing):
    """Height of a spot after the difference of two Gaussians, and what that leaves of white noise."""
    narrow, wide = smoothing**2, (SURROUNDINGS * smoothing) ** 2
    height = volume / (2 * np.pi) * (1 / (width**2 + narrow) - 1 / (width**2 + wide))
    return height, np.sqrt(variance / (4 * np.pi) * (1 / narrow + 1 / wide - 4 / (narrow + wide)))


# ---- spots


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("width, background, volume", [(0.8, 3, 250), (1.2, 20, 800), (1.8, 100, 3000), (2.5, 5, 900)])
def test_spots_are_found_where_they_are(width, background, volume, detector):
    """Nearly all of them, little else, and none farther off than the stated precision."""
    random = np.random.default_rng([round(10 * width), len(detector)])
    centres = places(random)
    counts = recorded(expected(centres, volume, width, background), random, **DETECTORS[detector])
    contrast, peaks = find_peaks(image_of(counts), CHOSEN)
    spot = matched(peaks, centres)
    assert len(set(spot) - {-1}) >= (1 - (LOST_IF_NARROW if width < 1 else 0)) * len(centres)
    assert np.sum(spot < 0) <= FEW_FALSE * counts.size + 1
    off = (peaks.positions - centres[spot])[spot >= 0]
    assert np.sqrt(np.mean(off**2)) < contrast.precision
    assert np.linalg.norm(np.mean(off, axis=0)) < 4 * contrast.precision / np.sqrt(len(off))


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("width, background, volume", [(0.9, 30, 500), (1.2, 10, 300), (1.6, 200, 2500)])
def test_heights_and_noise_are_those_of_the_filter(width, background, volume, detector):
    """By the equations of Gaussians; spots add to the noise of their blocks, so they are less significant."""
    random = np.random.default_rng([round(10 * width), len(detector), 7])
    centres, given = np.rint(places(random, step=41)), {"gain": 1.0, "read_noise": 0.0} | DETECTORS[detector]
    variance = background + (given["read_noise"] / given["gain"]) ** 2
    wanted, noise = filtered(volume, width, variance, SMOOTHING)
    empty, _ = find_peaks(image_of(recorded(np.full(SHAPE, float(background)), random, **given)), CHOSEN)
    contrast, peaks = find_peaks(
        image_of(recorded(expected(centres, volume, width, background), random, **given)), CHOSEN
    )
    assert contrast.reduction == 1
    if empty.reduction == 1:
        assert np.mean(empty.noise) / given["gain"] == pytest.approx(noise, rel=0.04)
    height, _ = contrast.at(centres)
    assert np.mean(height) / given["gain"] == pytest.approx(wanted, rel=0.04)
    spot = matched(peaks, centres)
    assert 0.75 < np.mean(peaks.significance[spot >= 0]) / (wanted / noise) < 1.05


def test_clearer_peaks_come_first():
    """Volumes of three sizes come in their order."""
    random = np.random.default_rng(3)
    centres = places(random)
    volume = np.geomspace(500, 50000, 3)[np.arange(len(centres)) % 3]
    peaks = peaks_of(recorded(expected(centres, volume, 1.3, 20), random))
    spot = matched(peaks, centres)
    assert np.all(np.diff(peaks.significance) <= 0)
    found = volume[spot[spot >= 0]]
    assert len(found) == len(centres) and np.all(np.diff(found) <= 0)


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_wide_spots_are_found_on_the_reduced_image(seed):
    """At a quarter of the size, positions are those of the image; as clear as their width allows."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:490, :520]
    centres = np.array([(cx, cy) for cx in (80, 200, 320, 440) for cy in (80, 190, 300, 410)], float)
    centres += random.uniform(-9, 9, centres.shape)
    mu = 20 + sum(60 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / 5.0**2) for cx, cy in centres)
    contrast, peaks = find_peaks(image_of(random.poisson(mu)), CHOSEN)
    assert contrast.reduction == 4
    distance = np.linalg.norm(peaks.positions[:, None] - centres, axis=2)
    assert np.all(distance.min(axis=0) < 3 * contrast.precision)
    assert contrast.precision == pytest.approx(PRECISION[0] + PRECISION[1] * 4)
    assert abs(np.mean((peaks.positions - centres[distance.argmin(axis=1)])[distance.min(axis=1) < 5])) < 0.5


# ---- what is no spot


@pytest.mark.parametrize("background, often", [(0.5, FALSE_IN_SPARSE), (5, FEW_FALSE), (300, FEW_FALSE)])
@pytest.mark.parametrize("seed", range(4))
def test_noise_has_few_peaks(background, often, seed):
    counts = np.random.default_rng(seed).poisson(background, SHAPE)
    assert len(peaks_of(counts)) <= often * counts.size


def test_nothing_at_all_has_no_peaks():
    for value in (0, 7):
        assert len(peaks_of(np.full(SHAPE, value, np.uint16))) == 0


@pytest.mark.parametrize("length", (1, 2, 3, 4))
@pytest.mark.parametrize("seed", (1, 2, 3))
def test_zingers_and_tracks_are_no_peaks(length, seed):
    """Neither weak nor bright ones, wherever they lie; the spots among them are all found."""
    random = np.random.default_rng(seed)
    centres = places(random, step=58)
    counts = recorded(expected(centres, 4000, 1.4, 20), random)
    for x, y in np.round(places(random, step=58, reach=1.0) + 29).astype(int):
        if 12 < x < SHAPE[1] - 12 and 12 < y < SHAPE[0] - 12:
            hit = tracks(6, 1, length, random, 2).reshape(13, 13)
            counts[y - 6 : y + 7, x - 6 : x + 7][hit] += random.uniform(100, 20000)
    peaks = peaks_of(counts)
    spot = matched(peaks, centres)
    assert set(spot) - {-1} == set(range(len(centres)))
    assert np.sum(spot < 0) <= FEW_FALSE * counts.size + 1


@pytest.mark.parametrize("width, height", [(1.2, 30), (2.5, 200), (5.0, 60)])
@pytest.mark.parametrize("texture", (0.0, 0.9))
def test_powder_rings_are_no_peaks(width, height, texture):
    """Sharp or broad, faint or bright, even or textured."""
    found = []
    for seed in range(3):
        mu = 10 + ring(82.0, width, height, texture) + ring(51.0, width, height, -texture)
        found.append(len(peaks_of(np.random.default_rng(seed).poisson(mu))))
    assert np.mean(found) <= ON_RINGS * 2 * np.pi * (82 + 51)


def test_faint_rings_have_weak_peaks_of_noise_alone():
    """A ring that is as bright as the background has fluctuations that are clearly no spots."""
    counts = np.random.default_rng(6).poisson(10 + ring(82.0, 2.5, 10.0))
    assert np.all(peaks_of(counts).significance < 1.6 * SENSITIVITY)


def test_edges_and_slopes_are_no_peaks():
    """The border of a shadow that nobody has masked, the steep side of a halo, a ramp."""
    random, (y, x) = np.random.default_rng(4), np.mgrid[: SHAPE[0], : SHAPE[1]]
    halo = 3000 * np.exp(-np.hypot(x - 150.2, y - 130.4) / 25)
    shadow = np.where(np.abs(0.6 * x + 0.8 * y - 150) < 12, 0.01, 1.0)
    peaks = peaks_of(random.poisson((20 + halo + 0.3 * x) * shadow))
    away = np.hypot(*(peaks.positions - (150.2, 130.4)).T) > 6  # the top of the halo is one
    assert np.sum(away) <= 6


# ---- masks


@pytest.mark.parametrize("inside", (0.0, 1e5, np.nan))
@pytest.mark.parametrize("seed", (1, 2))
def test_masked_pixels_make_no_peaks_beside_them(inside, seed):
    """Whatever they hold: it changes nothing at all, not even rounding errors."""
    random = np.random.default_rng(seed)
    centres = places(random)
    counts = recorded(expected(centres, 1500, 1.3, 30), random)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ignored = (np.hypot(x - 170, y - 120) < 31) | (np.abs(x - 80) < 2) | ((y > 200) & (x > 260))
    counts[ignored] = 3.0
    known = peaks_of(counts, ignored=ignored)
    found = peaks_of(np.where(ignored, inside, counts), ignored=ignored)
    assert np.array_equal(found.positions, known.positions) and np.array_equal(found.significance, known.significance)
    spot = matched(found, centres)
    assert np.sum(spot < 0) <= FEW_FALSE * counts.size + 1
    x, y = np.rint(found.positions).astype(int).T
    assert not ignored[y, x].any()
    far = [not ignored[int(y) - 9 : int(y) + 10, int(x) - 9 : int(x) + 10].any() for x, y in centres]
    assert set(np.nonzero(far)[0]) <= set(spot)


def test_the_wings_of_what_is_masked_are_no_peaks():
    """A mask that leaves the rims of bright spots open."""
    random = np.random.default_rng(12)
    centres = np.rint(places(random))
    counts = random.poisson(expected(centres, 60000, 2.2, 30))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ignored = np.any([np.hypot(x - cx, y - cy) < 6.5 for cx, cy in centres], axis=0)
    assert len(peaks_of(counts, ignored=ignored)) <= FEW_FALSE * counts.size


def test_saturated_spots_are_no_peaks_and_harm_no_others():
    random = np.random.default_rng(9)
    centres = places(random)
    volume = np.where(np.arange(len(centres)) % 5 == 0, 1e6, 1500.0)
    counts = np.minimum(recorded(expected(centres, volume, 1.3, 30), random), 60000)
    spot = matched(peaks_of(counts, saturated=counts >= 60000), centres)
    assert set(np.nonzero(volume < 1e6)[0]) <= set(spot)


def test_an_image_without_usable_pixels_has_no_peaks():
    assert len(peaks_of(np.random.default_rng(1).poisson(30, SHAPE), ignored=True)) == 0


# ---- invariance


def a_still(seed=5, **detector):
    random = np.random.default_rng(seed)
    centres = places(random)
    return centres, recorded(expected(centres, 800, 1.3, 20) + ring(90.0, 2.0, 6.0), random, **detector)


@pytest.mark.parametrize("gain, pedestal", [(4.0, 0.0), (0.25, 0.0), (1.0, 4096.0), (37.0, -300.0)])
def test_gain_and_pedestal_change_nothing(gain, pedestal):
    _, counts = a_still()
    one, other = peaks_of(counts), peaks_of(gain * counts + pedestal)
    assert len(one) == len(other)
    assert one.significance == pytest.approx(other.significance, rel=2e-3)
    assert np.max(np.min(np.linalg.norm(one.positions[:, None] - other.positions, axis=2), axis=1)) < 0.02


@pytest.mark.parametrize("kind", (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64))
def test_the_number_type_changes_nothing(kind):
    _, counts = a_still()
    assert counts.max() < 256
    one, other = peaks_of(counts), peaks_of(counts.astype(kind))
    assert np.array_equal(one.positions, other.positions) and np.array_equal(one.significance, other.significance)


def test_transposing_transposes_and_mirroring_mirrors():
    centres, counts = a_still()
    clear = set(matched(peaks_of(counts), centres)) - {-1}
    assert set(matched(peaks_of(counts.T), centres[:, ::-1])) - {-1} == clear
    mirrored = np.column_stack([SHAPE[1] - 1 - centres[:, 0], centres[:, 1]])
    assert set(matched(peaks_of(counts[:, ::-1]), mirrored)) - {-1} == clear


# ---- what the user gives


def test_sensitivity_is_how_much_a_peak_stands_out():
    _, counts = a_still()
    all_of_them = peaks_of(counts)
    assert SENSITIVITY < all_of_them.significance.min() < 15 < all_of_them.significance.max()
    for name in ("peak_search_sensitivity", "outer_window_sensitivity"):
        fewer = peaks_of(counts, replace(CHOSEN, **{name: 15.0}))
        assert np.array_equal(fewer.positions, all_of_them.positions[all_of_them.significance > 15])
        more = peaks_of(counts, replace(CHOSEN, **{name: 3.0}))
        assert len(more) > len(all_of_them) and 3 < more.significance.min() < SENSITIVITY


@pytest.mark.parametrize("sigma", (0.8, 1.5, 2.2))
def test_filter_strength_is_the_sigma_of_the_smoothing(sigma):
    random, volume, width, background = np.random.default_rng(round(10 * sigma)), 2000, 1.3, 50
    centres, search = np.rint(places(random, step=41)), replace(CHOSEN, gauss_filter_strength=sigma)
    wanted, noise = filtered(volume, width, background, sigma)
    empty, _ = find_peaks(image_of(random.poisson(background, SHAPE)), search)
    contrast, peaks = find_peaks(image_of(random.poisson(expected(centres, volume, width, background))), search)
    assert contrast.smoothing * contrast.reduction == pytest.approx(sigma)
    assert np.mean(empty.noise) == pytest.approx(noise, rel=0.05)
    assert np.mean(contrast.at(centres)[0]) == pytest.approx(wanted, rel=0.04)
    assert len(set(matched(peaks, centres)) - {-1}) == len(centres)


@pytest.mark.parametrize("sigma", (4.0, 6.0, 9.0))
def test_strong_filters_find_wide_spots(sigma):
    """Smoothing of several px, on an image that the program itself would not reduce so far."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    random, centres = np.random.default_rng(2), np.array([(75.0, 70.0), (240.0, 90.0), (160.0, 165.0)])
    mu = 30 + sum(40 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / sigma**2) for cx, cy in centres)
    contrast, peaks = find_peaks(image_of(random.poisson(mu)), replace(CHOSEN, gauss_filter_strength=sigma))
    assert contrast.smoothing * contrast.reduction == pytest.approx(sigma)
    distance = np.linalg.norm(peaks.positions[:, None] - centres, axis=2)
    assert np.all(distance.min(axis=0) < 2)


@pytest.mark.parametrize("half", (6, 12))
def test_outer_window_is_the_square_of_the_background(half):
    """A spot stands out by its smoothed height less its mean in the square of so many px to each side."""
    centre, volume, width = (160.0, 120.0), 40000.0, 1.3
    counts = np.random.default_rng(half).poisson(expected([centre], volume, width, 5))
    contrast, _ = find_peaks(image_of(counts), replace(CHOSEN, outer_window_size=half))
    height, _ = contrast.at([centre])
    wanted = volume / (2 * np.pi * (width**2 + SMOOTHING**2)) - volume / (2 * half + 1) ** 2
    assert height == pytest.approx(wanted, rel=0.02)


def test_inner_window_is_the_square_that_holds_a_peak():
    """Of two spots 6 px from each other the weaker is a peak only where the window does not reach the stronger."""
    centres = np.array([(120.0, 90.0), (126.0, 90.0)])
    counts = np.random.default_rng(1).poisson(expected(centres, [9000, 4000], 1.1, 20))
    for half, seen in ((3, {0, 1}), (4, {0, 1}), (8, {0}), (15, {0})):
        assert set(matched(peaks_of(counts, replace(CHOSEN, inner_window_size=half)), centres)) - {-1} == seen, half


def test_inner_sensitivity_asks_a_peak_to_stand_out_within_its_window():
    """Sharp spots do, broad ones of the same significance do not."""
    random, half = np.random.default_rng(8), 3
    sharp, broad = np.array([(80.0, 120.0)]), np.array([(230.0, 120.0)])
    mu = expected(sharp, 2500, 1.0, 50) + expected(broad, 9000, 2.5, 0)
    search = replace(CHOSEN, inner_window_size=half)
    contrast, peaks = find_peaks(image_of(random.poisson(mu)), search)
    assert set(matched(peaks, np.vstack([sharp, broad]))) >= {0, 1}
    y, x = (a.ravel() for a in np.mgrid[-half : half + 1, -half : half + 1])
    rise = []
    for ((cx, cy),) in ((tuple(at),) for at in np.vstack([sharp, broad])):
        around, noise = contrast.at(np.column_stack([cx + x, cy + y]))
        rise.append((around.max() - around.mean()) / noise.mean())
    assert rise[0] > 1.5 * rise[1]
    chosen = replace(search, inner_window_sensitivity=float(np.sqrt(rise[0] * rise[1])))
    assert set(matched(peaks_of(random.poisson(mu), chosen), np.vstack([sharp, broad]))) - {-1} == {0}


# ---- the contrast at given places


def test_tops_are_found_within_their_square_only():
    """From starts off by less than the square to the spots; significance 0 where the top is outside of it."""
    centres, counts = a_still()
    contrast, _ = find_peaks(image_of(counts), CHOSEN)
    random = np.random.default_rng(1)
    start = centres + random.uniform(-2, 2, centres.shape)
    found, significance = contrast.tops(start, 4.0)
    inside = significance > SENSITIVITY
    assert np.mean(inside) > 0.95
    assert np.max(np.linalg.norm((found - centres)[inside], axis=1)) < 3 * contrast.precision
    outside = contrast.tops(centres + np.array([8.0, 0.0]), 3.0)[1]
    assert np.all(outside < SENSITIVITY)


def test_places_beside_masked_pixels_are_not_known():
    _, counts = a_still()
    ignored = np.zeros(SHAPE, bool)
    ignored[:, 100] = True
    contrast, _ = find_peaks(image_of(counts, ignored=ignored), CHOSEN)
    margin = NEAR * contrast.reduction + 1
    x = np.arange(SHAPE[1])
    known = contrast.known(np.column_stack([x, np.full(SHAPE[1], 60)]))
    wanted = (x >= margin) & (x < SHAPE[1] - margin) & ~np.isin(x, (100, 100 - margin, 100 + margin))
    assert np.array_equal(known, wanted)
    assert margin >= MARGIN
