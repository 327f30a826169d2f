"""Background per pixel: robust means over a rim or a patch that do not bias a Poisson background."""

import numpy as np

from .boxes import cut, median, nearest_pixels
from .neighbours import between_spots
from .noise import outlying

OUTLYING = 5.0  # standard deviations, beyond the skewness of the counts
PATCH_HALF = 2  # px; half-size of the patches of the intercalated background
FEWEST_PATCH_PIXELS = 13
HALF_WAY = ((0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5))


def clean(values, chosen, noise):
    """The chosen pixels (n, m) less those that cannot be noise about the mean of the others.

    Starts from the median; a pixel is left out only far beyond the tail that its expected skewness allows, so that the
    mean of sparse Poisson counts stays unbiased.
    """
    kept, mean = chosen, median(values, chosen)
    for _ in range(3):
        residual = values - mean[:, None]
        kept = chosen & ~outlying(residual, noise.variance(mean)[:, None], noise.gain, OUTLYING)
        count = np.count_nonzero(kept, axis=1)
        mean = np.where(count > 0, np.sum(values * kept, axis=1) / np.maximum(count, 1), mean)
    return kept


def intercalated(image, miller, places, noise, profile):
    """Mean background half-way to the four neighbours: (mean, variance, count), each (n,).

    Every point is a robust mean over a patch of side 2 PATCH_HALF + 1, without the pixels that a spot at its Places
    reaches; patches off the image or with too few usable pixels are left out; NaN where none is left.
    """
    means, variances = np.full((2, len(HALF_WAY), len(miller)), np.nan)
    for row, step in enumerate(HALF_WAY):
        there = miller + np.array(step)
        patches = cut(image, nearest_pixels(places.lattice.position(there)), PATCH_HALF)
        free = between_spots(PATCH_HALF, there, patches.centre, places, profile)
        kept = clean(patches.values, patches.usable & free, noise)
        count = np.count_nonzero(kept, axis=1)
        mean = np.sum(patches.values * kept, axis=1) / np.maximum(count, 1)
        seen = count >= FEWEST_PATCH_PIXELS
        means[row, seen] = mean[seen]
        variances[row, seen] = noise.variance(mean[seen]) / count[seen]
    number = np.count_nonzero(np.isfinite(means), axis=0)
    divisor = np.where(number > 0, number, np.nan)
    return np.nansum(means, axis=0) / divisor, np.nansum(variances, axis=0) / divisor**2, number
