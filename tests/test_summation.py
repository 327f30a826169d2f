"""Box sums: intensities with the right errors, the growth series and the choice of the box."""

from dataclasses import replace

import numpy as np
import pytest

from ed2d.boxes import grid
from ed2d.noise import Noise
from ed2d.summation import Foreground, choose_step, grow, squares
from stills import WIDE_SIGMA, assert_pulls, boxes_of, drawn, many_spots, recorded

BOX_SIZE, STEPS, RIM = 6, 2, 2
HALF = BOX_SIZE + STEPS + RIM
DETECTORS = {"counted": (1.0, 0.0, 5.0), "camera": (5.0, 10.0, 100.0), "noisy": (20.0, 10.0, 600.0)}


def unit(spots):
    """Share of the spots in the pixels, (n, side^2)."""
    return drawn(HALF, np.column_stack([np.ones(len(spots)), spots[:, 1:6], np.zeros((len(spots), 3))]))


def grown(values, spots, noise, *, usable=True, slope=None, slope_variance=0.0):
    """Growth series with the true profile and, by default, the true slope."""
    boxes = boxes_of(values, usable=usable)
    n = len(spots)
    foreground = Foreground(
        slope=spots[:, 7:9] if slope is None else slope,
        slope_covariance=np.tile(slope_variance * np.eye(2), (n, 1, 1)),
        profile=unit(spots),
        usable=boxes.usable,
        rim_allowed=np.ones_like(boxes.usable),
    )
    return grow(boxes, foreground, noise, spots[:, 0], box_size=BOX_SIZE, steps=STEPS, rim_size=RIM)


def seen_and_spilt(spots, step):
    """Share of the spots inside the square, and what the rim takes for background."""
    inner, rim = squares(HALF, BOX_SIZE, step, RIM)
    profile = unit(spots)
    return profile @ inner, (profile @ rim) * inner.sum() / rim.sum()


def test_squares():
    """Inner squares of side 2 (BoxSize + N) + 1 with rims of the given width round them, disjoint."""
    dx, dy = grid(HALF)
    for step in range(STEPS + 1):
        inner, rim = squares(HALF, BOX_SIZE, step, RIM)
        side = 2 * (BOX_SIZE + step) + 1
        assert inner.sum() == side**2 and rim.sum() == (side + 2 * RIM) ** 2 - side**2
        assert not np.any(inner & rim)
        assert np.abs(dx[inner]).max() == np.abs(dy[inner]).max() == BOX_SIZE + step


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("electrons", [0.0, 50.0, 3000.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_pulls_of_the_sums(detector, electrons, seed):
    """Every I_N has mean 0 and width 1 about the volume, corrected for the known share outside and in the rim."""
    gain, read_noise, background = DETECTORS[detector]
    random = np.random.default_rng(seed)
    spots = many_spots(700, random, volume=gain * electrons, background=background, slope=0.02)
    noise = Noise(gain=gain, read_variance=read_noise**2, offset=0.0)
    growth = grown(recorded(drawn(HALF, spots), random, gain=gain, read_noise=read_noise), spots, noise)
    for step in range(STEPS + 1):
        seen, spilt = seen_and_spilt(spots, step)
        assert_pulls((growth.intensity[step] - spots[:, 0] * (seen - spilt)) / np.sqrt(growth.variance[step]))
        sigma = np.sqrt((gain * background + read_noise**2) / squares(HALF, BOX_SIZE, step, RIM)[1].sum())
        assert_pulls((growth.background[step] - background - spilt_level(spots, step)) / sigma, extra_width=0.05)


def spilt_level(spots, step):
    """Counts per pixel that the spot puts into its own rim."""
    _, rim = squares(HALF, BOX_SIZE, step, RIM)
    return spots[:, 0] * (unit(spots) @ rim) / rim.sum()


@pytest.mark.parametrize("kind", ["whole", "one side", "scattered"])
@pytest.mark.parametrize("slope_error", [0.0, 0.3])
def test_variances_and_covariances_against_monte_carlo(kind, slope_error):
    """One spot drawn often: scatter of I_N, and of I_last - I_N, as stated; with asymmetric masks and a slope error."""
    n = 3000
    random = np.random.default_rng(5)
    spots = np.tile([900.0, 0.3, -0.4, 1.8, 1.3, 30, 20, 0.1, -0.2], (n, 1))
    dx, dy = grid(HALF)
    usable = {"whole": dx < 99, "one side": (dx < 5) | (dy < -2), "scattered": random.random(len(dx)) < 0.8}[kind]
    noise = Noise(gain=1.0, read_variance=4.0, offset=0.0)
    values = recorded(drawn(HALF, spots), random, read_noise=2.0)
    slope = spots[:, 7:9] + random.normal(0, slope_error, (n, 2))
    growth = grown(values, spots, noise, usable=usable, slope=slope, slope_variance=slope_error**2)
    last = growth.intensity[-1]
    precision = WIDE_SIGMA * np.sqrt(2 / n)
    for step in range(STEPS + 1):
        assert np.var(growth.intensity[step]) == pytest.approx(growth.variance[step].mean(), rel=precision)
        if step < STEPS:
            stated = growth.variance[step] + growth.variance[-1] - 2 * growth.covariance[:, -1][step]
            assert np.var(last - growth.intensity[step]) == pytest.approx(stated.mean(), rel=precision)
    np.testing.assert_allclose(growth.covariance[:, -1][-1], growth.variance[-1])
    hidden = (unit(spots[:1]) * ~usable * squares(HALF, BOX_SIZE, 0, RIM)[0]).sum()
    assert growth.missing[0, 0] == pytest.approx(hidden / seen_and_spilt(spots[:1], 0)[0][0], abs=1e-9)


def test_an_added_plane_changes_the_background_only():
    """Counts plus a plane whose slope is known: the same intensities, the rim level higher by the constant."""
    random = np.random.default_rng(6)
    spots = many_spots(50, random, volume=2000, background=30)
    values = recorded(drawn(HALF, spots), random)
    noise = Noise(gain=0.0, read_variance=40.0, offset=0.0)
    dx, dy = grid(HALF)
    usable = random.random(values.shape) < 0.9
    one = grown(values, spots, noise, usable=usable)
    raised = spots + np.array([0, 0, 0, 0, 0, 0, 500, 3.0, -2.0])
    two = grown(values + 500 + 3.0 * dx - 2.0 * dy, raised, noise, usable=usable)
    np.testing.assert_allclose(two.intensity, one.intensity, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(two.background, one.background + 500, rtol=1e-9)
    np.testing.assert_allclose(two.variance, one.variance, rtol=1e-9)


def test_the_gain_scales_everything():
    """Counts times ten: intensities and background times ten, variances times a hundred."""
    random = np.random.default_rng(7)
    spots = many_spots(50, random, volume=2000, background=30)
    values = recorded(drawn(HALF, spots), random)
    one = grown(values, spots, Noise(gain=1.0, read_variance=3.0, offset=0.0))
    ten = grown(10 * values, spots * ([10] + [1] * 5 + [10] * 3), Noise(gain=10.0, read_variance=300.0, offset=0.0))
    np.testing.assert_allclose(ten.intensity, 10 * one.intensity, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(ten.variance, 100 * one.variance, rtol=1e-9)


def test_zingers_in_the_rim():
    """One zinger in every rim leaves the pulls as they are."""
    random = np.random.default_rng(8)
    spots = many_spots(700, random, volume=500, background=20)
    values = recorded(drawn(HALF, spots), random)
    rim = np.flatnonzero(squares(HALF, BOX_SIZE, 0, RIM)[1])
    values[np.arange(700), random.choice(rim, 700)] += random.uniform(200, 5000, 700)
    growth = grown(values, spots, Noise(gain=1.0, read_variance=0.0, offset=0.0))
    seen, spilt = seen_and_spilt(spots, 0)
    assert_pulls((growth.intensity[0] - spots[:, 0] * (seen - spilt)) / np.sqrt(growth.variance[0]))


def test_without_rim_no_intensity():
    """Nine usable pixels of rim are no background: NaN, not a number."""
    random = np.random.default_rng(9)
    spots = many_spots(2, random, volume=500, background=20)
    inner, rim = squares(HALF, BOX_SIZE, 0, RIM)
    usable = np.array([inner | (rim & (np.cumsum(rim) <= count)) for count in (9, 10)])
    noise = Noise(gain=1.0, read_variance=0.0, offset=0.0)
    growth = grown(recorded(drawn(HALF, spots), random), spots, noise, usable=usable)
    np.testing.assert_array_equal(np.isnan(growth.intensity[0]), [True, False])
    np.testing.assert_array_equal(np.isnan(growth.background[0]), [True, False])


@pytest.mark.parametrize(("width", "wanted"), [(1.3, 0), (2.4, 1), (3.2, 2)])
def test_broad_spots_choose_a_larger_box(width, wanted):
    """N grows with the width of the spots, is the last where none suffices, and the loss is the share left outside."""
    random = np.random.default_rng(10)
    spots = many_spots(60, random, volume=5000, background=20, widths=(width, width * 1.01), centre=0.3)
    growth = grown(recorded(drawn(HALF, spots), random), spots, Noise(gain=1.0, read_variance=0.0, offset=0.0))
    step, loss, sigma, number = choose_step(growth, largest=len(growth.intensity) - 1)
    assert number == 60 and step == wanted
    net = np.array([np.subtract(*seen_and_spilt(spots, n)).mean() for n in range(STEPS + 1)])
    np.testing.assert_allclose(loss, 1 - net / net[-1], atol=WIDE_SIGMA * sigma.max() + 1e-4)
    assert loss[-1] == 0 == sigma[-1]


def test_weak_spots_choose_nothing():
    """Without strong spots N = 0 and the curve is unknown; spots under a mask do not vote."""
    random = np.random.default_rng(11)
    noise = Noise(gain=1.0, read_variance=0.0, offset=0.0)
    weak = many_spots(30, random, volume=20, background=20)
    step, loss, _, number = choose_step(grown(recorded(drawn(HALF, weak), random), weak, noise), largest=0)
    assert (step, number) == (0, 0) and np.isnan(loss).all()
    strong = many_spots(30, random, volume=1e6, background=20)
    growth = grown(recorded(drawn(HALF, strong), random), strong, noise)
    assert choose_step(growth, largest=len(growth.intensity) - 1)[3] == 30
    assert choose_step(replace(growth, missing=growth.missing + 0.1), largest=0)[3] == 0
