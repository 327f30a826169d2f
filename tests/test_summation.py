"""Box sums: the volume with the right errors at every step, their covariances, and the choice of the box."""

import numpy as np
import pytest

from ed2d.boxes import grid
from ed2d.neighbours import Neighbours
from ed2d.noise import Noise
from ed2d.profilefit import fit_profiles
from ed2d.summation import choose_step, grow, squares
from stills import WIDE_SIGMA, assert_pulls, boxes_of, drawn, many_spots, recorded, shape_of

BOX_SIZE, STEPS, RIM = 6, 2, 2
HALF = BOX_SIZE + STEPS + RIM
SIZES = {"box_size": BOX_SIZE, "steps": STEPS, "rim_size": RIM}
DETECTORS = {"counted": (1.0, 0.0, 5.0), "camera": (5.0, 10.0, 100.0), "noisy": (20.0, 10.0, 600.0)}
COUNTED = Noise(gain=1.0, read_variance=0.0, offset=0.0)
BY_CHANCE = 0.02  # largest share of images in which three standard deviations are passed by chance
DX, DY = grid(HALF)


def unit(spots):
    """Share of the spots in the pixels, (n, side^2)."""
    return drawn(HALF, np.column_stack([np.ones(len(spots)), spots[:, 1:6], np.zeros((len(spots), 3))]))


def alone(n):
    """No neighbours of n spots."""
    everywhere = np.ones((n, len(DX)), bool)
    return Neighbours(np.empty((n, 0, len(DX))), everywhere, everywhere)


def beside(others, reach):
    """One neighbour (n, 9) of each spot, fitted with it, with no background within `reach` px of it."""
    clear = np.hypot(DX - others[:, 1:2], DY - others[:, 2:3]) > reach
    return Neighbours(unit(others)[:, None], clear, np.ones_like(clear))


def fitted(values, spots, noise, *, usable=True, near=None):
    """Profile fits with the true places and shapes, and what is near."""
    near = near or alone(len(spots))
    return fit_profiles(boxes_of(values, usable=usable), noise, spots[:, 1:3], shape_of(spots), near), near


def grown(values, spots, noise, **given):
    """Growth series with the true places and shapes."""
    fits, near = fitted(values, spots, noise, **given)
    return grow(fits, near, noise, **SIZES)


def assert_right(growth, spots):
    """Every I_N scatters about the volume, every background about the constant, by its own standard deviation."""
    for step in range(STEPS + 1):
        assert_pulls((growth.intensity[step] - spots[:, 0]) / np.sqrt(growth.variance[step]))
        assert_pulls((growth.background[step] - spots[:, 6]) / np.sqrt(growth.background_variance[step]))


def masked(kind, random, n):
    """Usable pixels (n, side^2) of several kinds of masks."""
    return {
        "whole": np.ones((n, len(DX)), bool),
        "one side": np.broadcast_to((DX < 5) | (DY < -2), (n, len(DX))),
        "scattered": random.random((n, len(DX))) < 0.8,
        "beside the peak": np.abs(DX - random.integers(-3, 4, (n, 1))) > 0,
    }[kind]


def test_squares():
    """Inner squares of side 2 (BoxSize + N) + 1 with rims of the given width round them, disjoint."""
    for step in range(STEPS + 1):
        inner, rim = squares(HALF, BOX_SIZE, step, RIM)
        side = 2 * (BOX_SIZE + step) + 1
        assert inner.sum() == side**2 and rim.sum() == (side + 2 * RIM) ** 2 - side**2
        assert not np.any(inner & rim)
        assert np.abs(DX[inner]).max() == np.abs(DY[inner]).max() == BOX_SIZE + step


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("electrons", [0.0, 50.0, 3000.0])
@pytest.mark.parametrize("kind", ["whole", "scattered"])
def test_pulls_of_the_sums(detector, electrons, kind):
    """Over doses, gains, slopes of the background and masks: mean 0 and width 1 about volume and background."""
    gain, read_noise, background = DETECTORS[detector]
    random = np.random.default_rng(1)
    spots = many_spots(900, random, volume=gain * electrons, background=background, slope=0.03)
    noise = Noise(gain=gain, read_variance=read_noise**2, offset=0.0)
    values = recorded(drawn(HALF, spots), random, gain=gain, read_noise=read_noise)
    assert_right(grown(values, spots, noise, usable=masked(kind, random, len(spots))), spots)


@pytest.mark.parametrize("kind", ["one side", "beside the peak"])
def test_pulls_under_asymmetric_masks(kind):
    """With half of the rim hidden or a line through the spot, what is hidden of it is given back."""
    random = np.random.default_rng(2)
    spots = many_spots(900, random, volume=2000, background=20, slope=0.03)
    values = recorded(drawn(HALF, spots), random)
    assert_right(grown(values, spots, COUNTED, usable=masked(kind, random, len(spots))), spots)


@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_pulls_beside_a_neighbour(ratio):
    """A spot 9 px away, weaker, as strong or stronger: neither the sums nor the background have anything of it."""
    random = np.random.default_rng(3)
    spots = many_spots(900, random, volume=1500, background=20, widths=(1.2, 1.8), slope=0.02)
    others = many_spots(900, random, volume=1500 * ratio, background=0, widths=(1.2, 1.8))
    angle = random.uniform(0, 2 * np.pi, 900)
    others[:, 1:3] = 9 * np.column_stack([np.cos(angle), np.sin(angle)])
    values = recorded(drawn(HALF, spots) + drawn(HALF, others), random)
    assert_right(grown(values, spots, COUNTED, near=beside(others, 6.0)), spots)


def test_a_neighbour_without_noise_leaves_nothing():
    """Expected counts of a spot, a plane and a neighbour give the volume and the constant to rounding, at every N."""
    random = np.random.default_rng(4)
    spots = many_spots(30, random, volume=1500, background=20, slope=0.02)
    others = many_spots(30, random, volume=9000, background=0)
    others[:, 1:3] = [7, -6]
    values = drawn(HALF, spots) + drawn(HALF, others)
    usable = masked("scattered", random, 30)
    growth = grown(values, spots, COUNTED, usable=usable, near=beside(others, 6.0))
    np.testing.assert_allclose(growth.intensity, np.tile(spots[:, 0], (STEPS + 1, 1)), rtol=1e-6)
    np.testing.assert_allclose(growth.background, np.tile(spots[:, 6], (STEPS + 1, 1)), rtol=1e-6)
    np.testing.assert_allclose(growth.against_plane, 0, atol=1e-4)


@pytest.mark.parametrize("kind", ["whole", "scattered", "one side"])
def test_response_is_the_share_on_usable_pixels(kind):
    """The response of step N is the part of the spot on the usable pixels of the inner square."""
    random = np.random.default_rng(5)
    spots = many_spots(40, random, volume=1500, background=20, slope=0.02)
    usable = masked(kind, random, 40)
    growth = grown(recorded(drawn(HALF, spots), random), spots, COUNTED, usable=usable)
    for step in range(STEPS + 1):
        inner, _ = squares(HALF, BOX_SIZE, step, RIM)
        np.testing.assert_allclose(growth.response[step], np.sum(unit(spots) * usable * inner, axis=1), rtol=1e-6)


@pytest.mark.parametrize("kind", ["whole", "one side", "scattered", "beside the peak"])
@pytest.mark.parametrize("volume", [0.0, 900.0])
def test_covariances_against_monte_carlo(kind, volume):
    """One spot drawn often: the sums, their products and their differences scatter as stated, under any mask."""
    n = 3000
    random = np.random.default_rng(6)
    spots = np.tile([volume, 0.3, -0.4, 1.8, 1.3, 30, 20, 0.1, -0.2], (n, 1))
    usable = np.broadcast_to(masked(kind, random, n)[0], (n, len(DX)))
    noise = Noise(gain=1.0, read_variance=4.0, offset=0.0)
    growth = grown(recorded(drawn(HALF, spots), random, read_noise=2.0), spots, noise, usable=usable)
    precision = WIDE_SIGMA * np.sqrt(2 / n)
    stated = growth.covariance.mean(axis=2)
    found = np.cov(growth.intensity)
    scale = np.sqrt(np.diag(stated))
    np.testing.assert_allclose(found / np.outer(scale, scale), stated / np.outer(scale, scale), atol=precision)
    np.testing.assert_array_equal(growth.covariance, growth.covariance.transpose(1, 0, 2))
    for step in range(STEPS):
        difference = growth.intensity[-1] - growth.intensity[step]
        expected = stated[step, step] + stated[-1, -1] - 2 * stated[step, -1]
        assert np.var(difference) == pytest.approx(expected, rel=precision)
    for values, variance in (
        (growth.background, growth.background_variance),
        (growth.against_plane, growth.against_plane_variance),
    ):
        np.testing.assert_allclose(np.var(values, axis=1), variance.mean(axis=1), rtol=precision)


def test_pulls_where_the_widths_scatter():
    """Widths that scatter about what is said of them broaden the pulls of small boxes; with their variance in, not."""
    random = np.random.default_rng(7)
    scatter = 0.02
    spots = many_spots(2000, random, volume=300000, background=5, widths=(3.0, 3.0))
    true = spots.copy()
    true[:, 3:5] *= np.exp(random.normal(0, scatter, (2000, 1)))
    growth = grown(recorded(drawn(HALF, true), random), spots, COUNTED)
    error = growth.intensity - spots[:, 0]
    assert np.std(error[0] / np.sqrt(growth.variance[0])) > 1.5
    known = growth.uncertain((scatter * spots[:, 0]) ** 2)
    for step in range(STEPS + 1):
        assert_pulls(error[step] / np.sqrt(known.variance[step]))
    np.testing.assert_array_equal(known.intensity, growth.intensity)


def test_an_added_plane_changes_the_background_only():
    """Counts plus a plane: the same intensities and variances, the background higher by the constant."""
    random = np.random.default_rng(8)
    spots = many_spots(50, random, volume=2000, background=30)
    values = recorded(drawn(HALF, spots), random)
    noise = Noise(gain=0.0, read_variance=40.0, offset=0.0)
    usable = random.random(values.shape) < 0.9
    one = grown(values, spots, noise, usable=usable)
    two = grown(values + 500 + 3.0 * DX - 2.0 * DY, spots, noise, usable=usable)
    np.testing.assert_allclose(two.intensity, one.intensity, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(two.background, one.background + 500, rtol=1e-9)
    np.testing.assert_allclose(two.against_plane, one.against_plane, atol=1e-4)
    np.testing.assert_allclose(two.covariance, one.covariance, rtol=1e-9)


def test_the_gain_scales_everything():
    """Counts times ten: intensities and background times ten, variances times a hundred."""
    random = np.random.default_rng(9)
    spots = many_spots(50, random, volume=2000, background=30)
    values = recorded(drawn(HALF, spots), random)
    one = grown(values, spots, Noise(gain=1.0, read_variance=3.0, offset=0.0))
    ten = grown(10 * values, spots, Noise(gain=10.0, read_variance=300.0, offset=0.0))
    np.testing.assert_allclose(ten.intensity, 10 * one.intensity, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(ten.background, 10 * one.background, rtol=1e-9)
    np.testing.assert_allclose(ten.covariance, 100 * one.covariance, rtol=1e-9)
    np.testing.assert_allclose(ten.response, one.response, rtol=1e-9)


def test_zingers_in_the_rim():
    """One zinger in the rim of every step leaves the pulls as they are."""
    random = np.random.default_rng(10)
    spots = many_spots(900, random, volume=500, background=20)
    values = recorded(drawn(HALF, spots), random)
    for step in range(STEPS + 1):
        ring = np.flatnonzero(np.maximum(np.abs(DX), np.abs(DY)) == BOX_SIZE + step + 1)
        values[np.arange(900), random.choice(ring, 900)] += random.uniform(200, 5000, 900)
    assert_right(grown(values, spots, COUNTED), spots)


def test_without_rim_no_intensity():
    """Nine usable pixels of rim are no background: NaN. Where a neighbour covers the rim the plane's constant is."""
    random = np.random.default_rng(11)
    spots = many_spots(2, random, volume=500, background=20)
    inner, rim = squares(HALF, BOX_SIZE, 0, RIM)
    usable = np.array([inner | (rim & (np.cumsum(rim) <= count)) for count in (9, 10)])
    values = recorded(drawn(HALF, spots), random)
    growth = grown(values, spots, COUNTED, usable=usable)
    np.testing.assert_array_equal(np.isnan(growth.intensity[0]), [True, False])
    np.testing.assert_array_equal(np.isnan(growth.background[0]), [True, False])
    others = many_spots(2, random, volume=500, background=0)
    others[:, 1:3] = [6, 4]
    near = beside(others, 30.0)
    fits, _ = fitted(values, spots, COUNTED, near=near)
    growth = grow(fits, near, COUNTED, **SIZES)
    np.testing.assert_allclose(growth.background[0], fits.unknowns[:, 1], rtol=1e-9)
    assert np.isfinite(growth.intensity).all() and np.isnan(growth.against_plane).all()
    fits, _ = fitted(values, spots, COUNTED, usable=usable, near=near)
    np.testing.assert_array_equal(np.isnan(grow(fits, near, COUNTED, **SIZES).intensity[0]), [True, False])


def with_tails(spots, share, width, random):
    """Counts of spots of which a share lies in a round Gaussian of a larger width."""
    tails = spots.copy()
    tails[:, 0], tails[:, 3:5], tails[:, 6:] = share * spots[:, 0], width, 0
    cores = spots * ([1 - share] + [1] * 8)
    return recorded(drawn(HALF, cores) + drawn(HALF, tails), random)


@pytest.mark.parametrize("width", [1.3, 2.4, 3.2])
def test_gaussians_choose_the_smallest_box(width):
    """What lies outside is given back, so Gaussians of any width lose nothing at N = 0, and hardly ever by chance."""
    chosen = []
    for seed in range(100):
        random = np.random.default_rng(seed)
        spots = many_spots(60, random, volume=5000, background=20, widths=(width, width * 1.01), centre=0.3)
        growth = grown(recorded(drawn(HALF, spots), random), spots, COUNTED)
        step, loss, sigma, number = choose_step(growth, np.ones(60, bool))
        assert number == 60 and np.all(np.abs(loss) <= WIDE_SIGMA * sigma) and loss[-1] == 0 == sigma[-1]
        chosen.append(step)
    assert np.mean(np.array(chosen) > 0) <= BY_CHANCE


@pytest.mark.parametrize(("tail", "wanted"), [(2.7, 1), (4.0, 2)])
def test_tails_choose_a_larger_box(tail, wanted):
    """Spots with a part in wide tails lose some of it in small boxes: the same larger N for many images of a kind."""
    chosen = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        spots = many_spots(60, random, volume=500000, background=20, widths=(1.3, 1.4), centre=0.3)
        growth = grown(with_tails(spots, 0.08, tail, random), spots, COUNTED)
        step, loss, sigma, _ = choose_step(growth, np.ones(60, bool))
        chosen.append(step)
        assert loss[0] > WIDE_SIGMA * sigma[0] and loss[0] > loss[1] > loss[2] == 0
    assert set(chosen) == {wanted}


def test_a_few_odd_spots_do_not_choose():
    """A tenth of the spots with as much again in wide tails, as on odd backgrounds, do not make the box larger."""
    random = np.random.default_rng(13)
    spots = many_spots(60, random, volume=50000, background=20, widths=(1.3, 1.4), centre=0.3)
    values = recorded(drawn(HALF, spots), random)
    values[:6] = with_tails(spots[:6], 0.5, 4.0, random)
    step, loss, sigma, _ = choose_step(grown(values, spots, COUNTED), np.ones(60, bool))
    assert step == 0 and np.all(np.abs(loss) <= WIDE_SIGMA * sigma)


def test_the_standard_deviation_of_the_loss():
    """The loss of images of one kind scatters by its standard deviation."""
    losses, sigmas = [], []
    for seed in range(200):
        random = np.random.default_rng(seed)
        spots = many_spots(20, np.random.default_rng(0), volume=5000, background=20, widths=(1.3, 1.4), centre=0.3)
        growth = grown(with_tails(spots, 0.08, 3.0, random), spots, COUNTED)
        _, loss, sigma, _ = choose_step(growth, np.ones(20, bool))
        losses.append(loss[:-1])
        sigmas.append(sigma[:-1])
    scatter = np.std(losses, axis=0) / np.mean(sigmas, axis=0)
    np.testing.assert_allclose(scatter, 1, atol=WIDE_SIGMA / np.sqrt(2 * 200))


def test_weak_and_unusable_spots_choose_nothing():
    """Without strong spots N = 0 and the curve is unknown; spots that are not usable do not vote."""
    random = np.random.default_rng(12)
    weak = many_spots(30, random, volume=20, background=20)
    everyone = np.ones(30, bool)
    step, loss, sigma, number = choose_step(grown(recorded(drawn(HALF, weak), random), weak, COUNTED), everyone)
    assert (step, number) == (0, 0) and np.isnan(loss).all() and np.isnan(sigma).all()
    strong = many_spots(30, random, volume=1e6, background=20)
    growth = grown(recorded(drawn(HALF, strong), random), strong, COUNTED)
    assert choose_step(growth, everyone)[3] == 30
    assert choose_step(growth, np.arange(30) < 12)[3] == 12
    assert choose_step(growth, ~everyone)[3] == 0
