"""Integration of stills: pulls of the intensities, and rejections that never look at an intensity."""

from functools import cache

import numpy as np
import pytest

from ed2d import flags
from ed2d.extraction import extract_image
from ed2d.integration import REASONS, integrate_image
from ed2d.lattice import Lattice, predict
from ed2d.noise import Noise
from ed2d.profile import default
from ed2d.simulate import Simulation, expected, pulls, simulate, transmission
from ed2d.table import empty_table, extract_dtype
from stills import assert_pulls, image_of, in_order_of, parameters, recorded

LATTICE = Lattice((271.3, 227.8), (27.1, 3.2), (-4.3, 28.9), 1.2e-7, -2e-7)
SHAPE = (450, 560)
GAIN, READ_NOISE = 5.0, 3.0
PROFILE_BIAS = 0.15  # standard deviations of a profile fit: the learned widths are polynomials, the true ones are not
PLAIN = Simulation(
    shape=SHAPE,
    lattice=LATTICE,
    gain=GAIN,
    read_noise=READ_NOISE,
    peak_volume=3000.0,
    absent_fraction=0.2,
    background_diffuse=0.0,
    max_radius=1.5,
)


@cache
def scene(seed=0):
    """Truth and ignored pixels of a still with a beam stop."""
    _, mask, truth = simulate(PLAIN, seed=seed)
    return truth, mask == 0


def photographed(factor, *, seed=0, bad=None):
    """An image of the same spots with all volumes times a factor."""
    truth, ignored = scene(seed)
    truth = truth.copy()
    truth["vol_counts"] *= factor
    transmitted, _ = transmission(PLAIN)
    mu = GAIN * expected(PLAIN, truth, transmitted)
    data = np.rint(recorded(mu, np.random.default_rng(100 + seed), gain=GAIN, read_noise=READ_NOISE))
    saturated = np.zeros(SHAPE, bool) if bad is None else bad
    return image_of(data, ignored=ignored, saturated=saturated & ~ignored), truth


def geometric_table(lattice, width=1.6):
    """An extract table that only says where the spots are: one shape for all, no slope, no flags."""
    miller = predict(lattice, shape=SHAPE)
    table = empty_table(extract_dtype(), len(miller))
    table["H"], table["K"] = miller.T
    table["XOBS"], table["YOBS"] = lattice.position(miller).T
    table["BX"], table["BY"], table["W"] = width * 1.1, width, 0.0
    table["I"], table["VARI"] = 100.0, 10.0
    return table


def given(**changes):
    return parameters(gain=GAIN, read_noise=READ_NOISE, **changes)


ROUND = default(LATTICE.origin, SHAPE, 1.7, given().half)
NOISE = Noise(gain=GAIN, read_variance=READ_NOISE**2, offset=0.0)


@cache
def measured(seed):
    """Image, truth, extraction and integration of a still."""
    image, truth = photographed(1.0, seed=seed)
    extraction = extract_image(image, LATTICE, given())
    table = extraction.table()
    return (
        image,
        truth,
        table,
        extraction,
        integrate_image(image, table, extraction.lattice, extraction.noise, extraction.profile, given()),
    )


def test_no_reason_depends_on_an_intensity():
    """All volumes times 0, 1 and 100: the same points are rejected for the same reasons."""
    truth, _ = scene()
    random = np.random.default_rng(1)
    bad = random.random(SHAPE) < 0.002
    table = geometric_table(LATTICE)
    results = {}
    for factor in (0.0, 1.0, 100.0):
        image, _ = photographed(factor, bad=bad)
        results[factor] = integrate_image(image, table, LATTICE, NOISE, ROUND, given(box_grow_amount=0))
    for result in results.values():
        for reason in REASONS:
            np.testing.assert_array_equal(result.rejected[reason], results[1.0].rejected[reason])
    rejected = results[1.0].rejected
    assert all(rejected[reason].any() for reason in ("OffImage", "Saturated", "Masked"))
    assert results[0.0].kept.sum() > 0.8 * len(truth)


def test_weak_and_negative_intensities_are_kept():
    """Without any spot on the image every usable point stays, half of them below zero, I and SIGI finite."""
    image, _ = photographed(0.0)
    result = integrate_image(image, geometric_table(LATTICE), LATTICE, NOISE, ROUND, given())
    kept = result.kept
    intensity, variance = result.growth.intensity[result.step][kept], result.growth.variance[result.step][kept]
    assert np.isfinite(intensity).all() and np.all(variance > 0)
    assert np.mean(intensity < 0) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(kept.sum()))
    assert_pulls(intensity / np.sqrt(variance))
    assert_pulls(result.held.volume[kept] / np.sqrt(result.held.volume_variance[kept]), bias=0.05)


def test_pulls_of_the_intensities():
    """Box sums and profile fits of whole stills, every spot from absent to strong: mean 0, width 1."""
    sums, profiles, absent = [], [], []
    for seed in (0, 1, 2):
        _, truth, table, _, result = measured(seed)
        rows, known = in_order_of(np.column_stack([table["H"], table["K"]]), truth)
        clear = known & result.kept & (rows["trans_min"] > 0.999)
        growth, step, held = result.growth, result.step, result.held
        sums.append(pulls(growth.intensity[step], growth.variance[step], rows["vol_counts"])[clear])
        profiles.append(pulls(held.volume, held.volume_variance, rows["vol_counts"])[clear])
        absent.append(rows["vol_counts"][clear] == 0)
    sums, profiles, absent = (np.concatenate(part) for part in (sums, profiles, absent))
    assert_pulls(sums, bias=0.05, extra_width=0.05)
    assert_pulls(profiles, bias=PROFILE_BIAS, extra_width=0.1)
    assert_pulls(sums[absent], extra_width=0.05)
    assert_pulls(profiles[absent], bias=0.05, extra_width=0.05)


def test_masked_pixels_have_no_influence():
    """Anything may stand on ignored and saturated pixels: every number stays the same to the last bit."""
    truth, _ = scene()
    bad = np.random.default_rng(2).random(SHAPE) < 0.003
    image, _ = photographed(1.0, bad=bad)
    table = geometric_table(LATTICE)
    first = integrate_image(image, table, LATTICE, NOISE, ROUND, given())
    assert len(table) >= len(truth) and (~image.usable).sum() > 1000
    for value in (np.nan, 1e12, -np.inf):
        data = np.where(image.saturated, 1e9, np.where(image.ignored, value, image.data))
        other = integrate_image(
            image_of(data, ignored=image.ignored, saturated=image.saturated), table, LATTICE, NOISE, ROUND, given()
        )
        for name in ("intensity", "variance", "background", "missing"):
            np.testing.assert_array_equal(getattr(other.growth, name), getattr(first.growth, name))
        np.testing.assert_array_equal(other.held.amplitude, first.held.amplitude)
        np.testing.assert_array_equal(other.raw, first.raw)
        np.testing.assert_array_equal(other.background, first.background)
        np.testing.assert_array_equal(other.flag, first.flag)


def test_each_reason():
    """Off the image, saturated or masked under the peak, no rim: one point each, for that reason alone."""
    lattice = Lattice((280.0, 225.0), (80.0, 0.0), (0.0, 80.0))
    random = np.random.default_rng(3)
    ignored, saturated = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    spot = {(1, 0): (360, 225), (0, 1): (280, 305), (1, 1): (360, 305), (-1, 0): (200, 225), (0, -1): (280, 145)}
    x, y = spot[1, 0]
    saturated[y - 1 : y + 2, x - 1 : x + 2] = True
    x, y = spot[0, 1]
    ignored[y - 1 : y + 2, x - 1 : x + 2] = True
    x, y = spot[1, 1]
    ignored[y - 9 : y + 10, x - 9 : x + 10] = True
    ignored[y - 6 : y + 7, x - 6 : x + 7] = False
    x, y = spot[-1, 0]
    ignored[y - 6, x - 6 : x + 7] = True
    x, y = spot[0, -1]
    ignored[y - 1 : y + 2, x - 1] = saturated[y - 1 : y + 2, x : x + 2] = True
    image = image_of(
        recorded(np.full(SHAPE, 150.0), random, gain=GAIN), ignored=ignored, saturated=saturated & ~ignored
    )
    table = geometric_table(lattice)
    result = integrate_image(image, table, lattice, NOISE, ROUND, given(box_grow_amount=0, background_rim_size=3))
    row = {(int(h), int(k)): n for n, (h, k) in enumerate(zip(table["H"], table["K"], strict=True))}
    found = {index: [reason for reason in REASONS if result.rejected[reason][row[index]]] for index in (*spot, (1, -1))}
    assert found == {
        (1, 0): ["Saturated"],
        (0, 1): ["Masked"],
        (1, 1): ["NoBackground"],
        (-1, 0): [],
        (0, -1): ["Saturated"],
        (1, -1): [],
    }
    place = lattice.position(np.column_stack([table["H"], table["K"]]))
    beyond = np.any((np.rint(place) < 6) | (np.rint(place) > np.array(SHAPE[::-1]) - 7), axis=1)
    np.testing.assert_array_equal(result.rejected["OffImage"], beyond)
    assert np.sum(list(result.rejected.values()), axis=0).max() == 1


def test_boxes_for_people():
    """Raw boxes are the image, corrected ones have no background left; ignored pixels are NaN in both."""
    image, _, table, extraction, result = measured(0)
    side = 2 * given().half + 1
    assert result.raw.shape == result.corrected.shape == (len(table), side * side)
    centre = np.floor(extraction.lattice.position(np.column_stack([table["H"], table["K"]])) + 0.5).astype(int)
    number = np.flatnonzero(result.kept)[5]
    x, y = centre[number]
    half = given().half
    region = image.data[y - half : y + half + 1, x - half : x + half + 1].astype(float).ravel()
    seen = np.isfinite(result.raw[number])
    np.testing.assert_array_equal(result.raw[number][seen], region[seen])
    whole = np.isfinite(result.corrected).all(axis=1)
    rim = result.corrected[whole][:, :side].mean(axis=1)
    assert np.mean(rim) == pytest.approx(0, abs=4 * np.std(rim) / np.sqrt(whole.sum()))


def test_flags_of_both_steps():
    """FLAG keeps what extract said; OVERLAP appears where inner boxes meet, on all points."""
    _, _, table, _, result = measured(0)
    assert np.all(result.flag & table["FLAG"] == table["FLAG"])
    assert not np.any(result.flag & flags.OVERLAP)
    narrow = Lattice((271.3, 227.8), (12.0, 0.0), (0.0, 12.5))
    image, _ = photographed(0.0)
    close = integrate_image(image, geometric_table(narrow), narrow, NOISE, ROUND, given())
    assert np.all(close.flag & flags.OVERLAP)


@pytest.mark.parametrize("spacing", [11.0, 13.0])
def test_neighbours_within_the_box(spacing):
    """Spots so close that their neighbours stand in the box: fit, box sum and profile fit keep their pulls."""
    lattice = Lattice((141.3, 107.8), (spacing, 1.2), (-1.3, spacing + 1.0))
    simulation = Simulation(
        shape=(220, 280),
        lattice=lattice,
        gain=GAIN,
        read_noise=READ_NOISE,
        peak_volume=5000.0,
        sigma_low=1.2,
        sigma_high=1.3,
        background_diffuse=0.0,
        beamstop=False,
        zingers=0,
    )
    data, _, truth = simulate(simulation, seed=3)
    image = image_of(data)
    extraction = extract_image(image, lattice, given())
    table = extraction.table()
    result = integrate_image(image, table, extraction.lattice, extraction.noise, extraction.profile, given()).table()
    truth, known = in_order_of(np.column_stack([result["H"], result["K"]]), truth)
    for intensity, variance in (("I", "VARI"), ("GVOL", "VARGVOL"), ("IPR", "VARIPR")):
        found = pulls(result[intensity], result[variance], truth["vol_counts"])
        assert_pulls(found[known & (truth["in_box"] == 1)], bias=PROFILE_BIAS)


def test_growth_stops_before_the_neighbours():
    """However many grow steps are asked for, the chosen N leaves the neighbours' inner squares alone."""
    image, _ = photographed(30.0, seed=1)
    steps = given(box_grow_amount=12)
    table = geometric_table(LATTICE, width=4.0)
    broad = default(LATTICE.origin, SHAPE, 4.0, steps.half)
    integration = integrate_image(image, table, LATTICE, NOISE, broad, steps)
    assert 0 <= integration.step <= (LATTICE.square_spacing - 1) / 2 - steps.box_size
    assert len(integration.loss) < 13 == len(integration.growth.intensity)
