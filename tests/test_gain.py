"""Gains recovered from images: read noise, pedestals, zingers, sparse and even backgrounds."""

import numpy as np
import pytest

from ed2d.gain import UnknownGain, background_blocks, estimate
from ed2d.lattice import Lattice
from stills import image_of, recorded, still

LATTICE = Lattice((231.3, 187.8), (26.1, 5.2), (-7.3, 27.9))
SHAPE = (420, 560)
GAIN_PRECISION = 0.05  # of the gain, from one image of 420 x 560 px
SEEDS = (0, 1)


def estimated(*, seed, given_offset=None, given_read_noise=0.0, **changes):
    """Noise estimated from a still with spots, halo, sloping background and zingers."""
    values = {"gain": 5.0, "read_noise": 0.0, "offset": 0.0, "saturation": 65000, "peak_volume": 3000.0, **changes}
    image, truth, simulation = still(LATTICE, shape=SHAPE, seed=seed, **values)
    offset = simulation.offset if given_offset is None else given_offset
    positions = np.column_stack([truth["x"], truth["y"]])
    return estimate(image, positions, clearance=6, offset=offset, read_noise=given_read_noise), simulation


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gain", [1.0, 2.0, 5.0, 20.0, 50.0])
@pytest.mark.parametrize(("read_noise", "offset"), [(0.0, 0.0), (3.0, 20.0), (10.0, 100.0)])
def test_gain_of_an_image(gain, read_noise, offset, seed):
    """The gain comes out to 5 %, its own error covers the deviation, and the estimate says that it is one."""
    noise, simulation = estimated(gain=gain, read_noise=read_noise, offset=offset, seed=seed)
    assert noise.gain == pytest.approx(gain, rel=GAIN_PRECISION)
    assert abs(noise.gain - gain) < 4 * noise.gain_error < 4 * GAIN_PRECISION * gain
    assert noise.estimated and noise.offset == offset and noise.read_variance >= 0
    background = simulation.background * gain
    true = gain * background + read_noise**2
    assert noise.variance(background + offset) == pytest.approx(true, rel=GAIN_PRECISION)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gain", [1.0, 5.0, 20.0])
def test_gain_with_given_read_noise(gain, seed):
    """A given read noise is kept exactly and the gain found beside it."""
    noise, _ = estimated(gain=gain, read_noise=10.0, offset=100.0, given_read_noise=10.0, seed=seed)
    assert noise.read_noise == 10.0
    assert noise.gain == pytest.approx(gain, rel=GAIN_PRECISION)


@pytest.mark.parametrize("seed", SEEDS)
def test_given_read_noise_makes_a_flat_background_enough(seed):
    """Without any slope of the background the variance alone gives the gain once the read noise is known."""
    flat = {"background_diffuse": 0.0, "background_plane": 0.0}
    noise, _ = estimated(read_noise=10.0, given_read_noise=10.0, seed=seed, **flat)
    assert noise.gain == pytest.approx(5.0, rel=GAIN_PRECISION)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("gain", "pedestal"), [(1.0, 100.0), (5.0, 200.0)])
def test_unnamed_pedestal(gain, pedestal, seed):
    """A pedestal that nobody gave is found, and so the gain is not spoilt by it."""
    noise, _ = estimated(gain=gain, offset=pedestal, given_offset=0.0, seed=seed)
    assert noise.gain == pytest.approx(gain, rel=GAIN_PRECISION)
    assert noise.offset == pytest.approx(pedestal, abs=3 * gain)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gain", [1.0, 5.0, 20.0])
def test_sparse_counts(gain, seed):
    """0.3 electrons a pixel: most pixels are 0, and the gain is still found."""
    sparse = {"background": 0.3, "background_plane": 0.1, "background_diffuse": 0.0, "peak_volume": 300.0}
    noise, _ = estimated(gain=gain, seed=seed, **sparse)
    assert noise.gain == pytest.approx(gain, rel=GAIN_PRECISION)


@pytest.mark.parametrize("seed", SEEDS)
def test_zingers_do_not_move_the_gain(seed):
    """A zinger in every eighth block of background leaves the gain within its precision."""
    noise, _ = estimated(zingers=150, read_noise=5.0, seed=seed)
    assert noise.gain == pytest.approx(5.0, rel=GAIN_PRECISION)


def test_the_gain_scales_with_the_counts():
    """Counts times ten: gain times ten, read variance times a hundred."""
    image, truth, _ = still(LATTICE, shape=SHAPE, seed=9, read_noise=10.0, zingers=0)
    positions = np.column_stack([truth["x"], truth["y"]])
    one = estimate(image, positions, clearance=6, offset=0.0)
    scaled = image_of(10.0 * image.data, ignored=image.ignored, saturated=image.saturated)
    ten = estimate(scaled, positions, clearance=6, offset=0.0)
    assert ten.gain == pytest.approx(10 * one.gain, rel=1e-6)
    assert ten.read_variance == pytest.approx(100 * one.read_variance, rel=1e-4)


def test_ignored_pixels_have_no_influence():
    """Whatever stands on masked pixels, the estimate is the same to the last bit."""
    image, truth, _ = still(LATTICE, shape=SHAPE, seed=3)
    positions = np.column_stack([truth["x"], truth["y"]])
    first = estimate(image, positions, clearance=6, offset=0.0)
    data = np.where(image.usable, image.data.astype(float), np.nan)
    assert image.ignored.sum() > 100
    assert estimate(image_of(data, ignored=~image.usable), positions, clearance=6, offset=0.0) == first


def test_blocks_of_a_curved_background():
    """Mean, variance and degrees of freedom of blocks on a background of second degree, away from the spots."""
    random = np.random.default_rng(4)
    y, x = np.indices(SHAPE) / 100
    surface = 50 + 8 * x - 6 * y + 3 * x * y + 2 * x * x - y * y
    data = surface + random.normal(0, 2, SHAPE)
    positions = np.column_stack([random.uniform(0, SHAPE[1], 50), random.uniform(0, SHAPE[0], 50)])
    for px, py in np.round(positions).astype(int):
        data[max(py - 6, 0) : py + 7, max(px - 6, 0) : px + 7] = 1e6
    mean, variance, dof = background_blocks(image_of(data), positions, 6)
    assert mean.max() < 200 and len(mean) > 500
    assert np.sum(dof * variance) / np.sum(dof) == pytest.approx(4, rel=4 * np.sqrt(2 / np.sum(dof)))
    assert np.std((variance / 4 - 1) * np.sqrt(dof / 2)) == pytest.approx(1, abs=4 / np.sqrt(2 * len(dof)) + 0.02)


def test_without_background_the_gain_is_unknown():
    """Where spots leave no block, and where the background is not above the offset, nothing is guessed."""
    image = image_of(np.random.default_rng(5).poisson(40.0, (40, 60)))
    everywhere = np.argwhere(np.ones((40, 60)))[:, ::-1]
    with pytest.raises(UnknownGain, match="no background"):
        estimate(image, everywhere, clearance=2, offset=0.0)
    dark = image_of(np.random.default_rng(5).normal(100.0, 3.0, (200, 300)))
    with pytest.raises(UnknownGain, match="not above the Offset"):
        estimate(dark, [[150, 100]], clearance=2, offset=101.0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("level", "read_noise"), [(2.0, 15.0), (30.0, 0.0), (30.0, 10.0), (300.0, 3.0)])
def test_an_even_background_is_not_believed(level, read_noise, seed):
    """Without contrast the variance of the background is right, and the gain's sigma says that it is not known."""
    counts = recorded(
        np.full(SHAPE, 5.0 * level), np.random.default_rng(seed), gain=5.0, read_noise=read_noise, offset=50.0
    )
    noise = estimate(image_of(counts), [[200.0, 200.0]], clearance=6, offset=50.0)
    truth = 25.0 * level + read_noise**2
    assert noise.variance(5.0 * level + 50.0) == pytest.approx(truth, rel=0.02)
    assert noise.gain_error == noise.gain


@pytest.mark.parametrize("subtracted", [0.0, 100.0, 300.0])
def test_a_subtracted_background_has_the_same_noise(subtracted):
    """Counts of which too much was subtracted, also below 0, keep their variance everywhere."""
    expected = np.broadcast_to(np.linspace(10.0, 100.0, SHAPE[1]), SHAPE)
    counts = recorded(4 * expected, np.random.default_rng(8), gain=4.0, read_noise=5.0)
    noise = estimate(image_of(counts - subtracted), [[200.0, 200.0]], clearance=6, offset=0.0)
    levels = np.array([20.0, 50.0, 90.0])
    np.testing.assert_allclose(noise.variance(4 * levels - subtracted), 16 * levels + 25, rtol=0.05)
