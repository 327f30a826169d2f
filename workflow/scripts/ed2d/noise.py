"""The noise of a pixel: its variance against its expected counts, and what cannot be noise."""

from dataclasses import dataclass

import numpy as np

SMALLEST_MEAN = 0.02  # electrons a pixel; below it the variance of a pixel is taken as constant
SMALL_DIFFERENCE = 0.2  # standard deviations of the gain


@dataclass(frozen=True, kw_only=True)
class Noise:
    """var = gain (expected - offset) + read_variance; gain in counts per electron, variances in counts^2.

    gain_error is 0 for a given gain; `estimated` tells which of the two it is. correlation: variance of a sum over
    many pixels over the sum of their variances, 1 where pixels are independent. Gain and read variance are those of
    such sums: the variances of intensities and of fits that span several pixels come out nearly right, while single
    pixels scatter less, by this factor.
    """

    gain: float
    read_variance: float
    offset: float
    gain_error: float = 0.0
    estimated: bool = False
    correlation: float = 1.0

    @property
    def read_noise(self):
        """Read noise, counts rms."""
        return self.read_variance**0.5

    def agrees(self, other):
        """True where another estimate differs by a small part of the gain's standard deviation."""
        return abs(self.gain - other.gain) <= SMALL_DIFFERENCE * self.gain_error and self.estimated == other.estimated

    def variance(self, expected):
        """Variance of pixels whose expected counts are `expected` (any shape), counts^2."""
        signal = np.maximum(self.gain * (expected - self.offset), 0.0)
        return np.maximum(signal + self.read_variance, SMALLEST_MEAN * self.gain**2)


def upper_limit(variance, gain, threshold):
    """Residual that noise exceeds as rarely as a normal variable exceeds `threshold` standard deviations.

    The limit follows the Cornish-Fisher expansion, z (1 + skew (z - 1/z) / 6) with skew = gain / sigma, so that the
    long upper tail of a sparse background is not cut (Abramowitz & Stegun, 26.2.49).
    """
    return threshold * np.sqrt(variance) + gain * (threshold**2 - 1) / 6


def outlying(residual, variance, gain, threshold):
    """True where a residual cannot be noise: beyond the skewed upper limit, or `threshold` sigma below 0."""
    return (residual > upper_limit(variance, gain, threshold)) | (residual < -threshold * np.sqrt(variance))
