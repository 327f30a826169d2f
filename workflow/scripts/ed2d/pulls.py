"""Deviations in units of their standard deviations, and what many of them say together."""

from dataclasses import dataclass

import numpy as np

OUTLYING = 5.0  # widths from the median
FEW = 4  # outliers
ONE_SIGMA = (15.8655, 50.0, 84.1345)  # percentiles of a normal distribution
WIDTH_ERROR = 0.96  # standard error of their half distance for one deviate (Kendall & Stuart, order statistics)


def pulls(value, variance, truth=0.0):
    """(value - truth) / sigma, of mean 0 and width 1 where the sigmas are right; NaN for a variance of 0 or less."""
    variance = np.asarray(variance, float)
    sigma = np.sqrt(np.where(variance > 0, variance, np.nan))
    return (np.asarray(value, float) - np.asarray(truth, float)) / sigma


@dataclass(frozen=True)
class Summary:
    """Number of finite pulls, their mean without outliers, their robust width, standard errors, and the outliers."""

    number: int
    mean: float
    mean_sigma: float
    width: float
    width_sigma: float
    outliers: int

    @staticmethod
    def of(values):
        """Of pulls (n,); NaN where fewer than two are finite."""
        values = values[np.isfinite(values)]
        if len(values) < 2:
            return Summary(len(values), *[np.nan] * 4, 0)
        low, middle, high = np.percentile(values, ONE_SIGMA)
        width, root = (high - low) / 2, len(values) ** 0.5
        near = np.abs(values - middle) <= OUTLYING * max(width, 1e-300)
        mean, outliers = float(np.mean(values[near])), int(np.count_nonzero(~near))
        return Summary(
            len(values), mean, float(width / root), float(width), float(WIDTH_ERROR * width / root), outliers
        )

    def mean_differs(self, least, certain):
        """True where the mean is not 0: farther than `least` and than `certain` standard errors."""
        return abs(self.mean) > max(least, certain * self.mean_sigma)

    def width_differs(self, least, certain):
        """True where the width is not 1: farther than `least` and than `certain` standard errors."""
        return abs(self.width - 1) > max(least, certain * WIDTH_ERROR / max(self.number, 1) ** 0.5)

    def many_outliers(self, share):
        """True where outliers are more than a share of the pulls, and more than FEW, which zingers make."""
        return self.outliers > max(FEW, share * self.number)
