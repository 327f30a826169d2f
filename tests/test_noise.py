"""The noise model: gains recovered from images, pedestals, and a clipping limit that spares Poisson tails."""

import numpy as np
import pytest
from scipy import stats

from ed2d.lattice import Lattice
from ed2d.noise import SMALLEST_MEAN, Noise, background_blocks, estimate, outlying
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


def test_an_image_without_background_still_has_a_noise_model():
    """Where spots leave no block, the gain is a guess of positive sign with an error as large as itself."""
    image = image_of(np.random.default_rng(5).poisson(40.0, (40, 60)))
    everywhere = np.argwhere(np.ones((40, 60)))[:, ::-1]
    noise = estimate(image, everywhere, clearance=2, offset=0.0)
    assert noise.gain > 0 and noise.gain_error == noise.gain and noise.estimated


def test_variance_of_the_model():
    """gain (expected - offset) + read variance, never below that of SMALLEST_MEAN electrons."""
    noise = Noise(gain=5.0, read_variance=9.0, offset=100.0)
    np.testing.assert_allclose(noise.variance(np.array([100.0, 120.0, 50.0])), [9.0, 109.0, 9.0])
    bare = Noise(gain=5.0, read_variance=0.0, offset=0.0)
    np.testing.assert_allclose(
        bare.variance(np.array([-3.0, 0.0, 2.0])), [25 * SMALLEST_MEAN, 25 * SMALLEST_MEAN, 10.0]
    )


@pytest.mark.parametrize("threshold", [5.0, 6.0])
@pytest.mark.parametrize("mean", np.geomspace(0.05, 100, 12))
def test_fewer_poisson_counts_outlie_than_normal_ones(mean, threshold):
    """Summed exactly over the Poisson distribution, the share beyond the limit is below that of a normal variable."""
    noise = Noise(gain=7.0, read_variance=0.0, offset=0.0)
    count = np.arange(0, int(mean + 40 * np.sqrt(mean) + 100))
    beyond = outlying(7.0 * (count - mean), noise.variance(7.0 * mean), noise.gain, threshold)
    assert stats.poisson.pmf(count[beyond], mean).sum() <= 2 * stats.norm.sf(threshold)


def test_normal_counts_outlie_as_often_as_they_should():
    """Without a gain (no skewness) the share is that of the normal distribution."""
    z = np.linspace(-8, 8, 160001)
    beyond = outlying(3.0 * z, 9.0, 0.0, 2.5)
    share = np.sum(stats.norm.pdf(z[beyond])) * (z[1] - z[0])
    assert share == pytest.approx(2 * stats.norm.sf(2.5), rel=1e-3)


@pytest.mark.parametrize("mean", [0.05, 1.0, 30.0, 100.0])
def test_zingers_outlie(mean):
    """A pixel of 12 sigma, and at least 12 electrons, above the mean is found; so is one 7 sigma below it."""
    sigma = np.sqrt(max(mean, SMALLEST_MEAN))
    high = np.ceil(12 * sigma + 12)
    assert np.all(outlying(np.array([high, -7 * sigma]), sigma**2, 1.0, 6.0))
    counts = recorded(np.full(10000, mean), np.random.default_rng(6))
    assert not outlying(counts - mean, sigma**2, 1.0, 6.0).any()
