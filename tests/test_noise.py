"""The noise model and a clipping limit that spares Poisson tails."""

import numpy as np
import pytest
from scipy import stats

from ed2d.noise import SMALLEST_MEAN, Noise, outlying
from stills import recorded


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
