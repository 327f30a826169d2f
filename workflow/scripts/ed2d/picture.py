"""A small picture of an image for the eye: weak spots are seen on a bright, sloping background."""

import math

import numpy as np
from scipy import ndimage

LONGEST = 1024  # px
NEIGHBOURHOOD = 1 / 16  # of the longer side: the background of a pixel is the mean of so large a square round it
DARKEST, BRIGHTEST = 1.0, 99.8  # percentiles of the contrast that become black and white
IGNORED = 0  # and nothing else has this value


def log_picture(image, *, longest=LONGEST):
    """The picture of an Image, uint8 (rows, columns), and the whole number by which it is reduced.

    Its longer side is at most `longest`. Each pixel is the mean of a block of usable pixels, as the logarithm of how
    much it exceeds its neighbourhood, between two percentiles. Blocks without usable pixels are black.
    """
    factor = math.ceil(max(image.shape) / longest)
    means, usable = _block_means(image, factor)
    picture = np.full(means.shape, IGNORED, np.uint8)
    if usable.any():
        contrast = _contrast(means, usable)
        dark, bright = np.percentile(contrast[usable], [DARKEST, BRIGHTEST])
        level = (contrast - dark) / max(bright - dark, np.finfo(np.float32).tiny)
        picture[usable] = IGNORED + 1 + np.rint(np.clip(level[usable], 0, 1) * (254 - IGNORED))
    return picture, factor


def _block_means(image, factor):
    """Means of the usable pixels of blocks of factor x factor, and whether there are any."""
    rows, columns = (range(0, size, factor) for size in image.shape)
    sums, counts = (np.zeros((len(rows), len(columns))) for _ in range(2))
    for number, row in enumerate(rows):
        band = slice(row, min(row + factor, image.shape[0]))
        usable = image.usable_in(band)
        pixels = np.where(usable, image.data[band], 0)
        sums[number] = np.add.reduceat(pixels.sum(axis=0, dtype=float), columns)
        counts[number] = np.add.reduceat(usable.sum(axis=0), columns)
    return sums / np.maximum(counts, 1), counts > 0


def _contrast(means, usable):
    """Logarithms of the means, less their own means over the neighbourhood."""
    low, middle = np.percentile(means[usable], [1, 50])
    logs = np.log1p(np.maximum(means - low, 0) / max(middle - low, np.finfo(float).tiny))
    size = max(3, round(NEIGHBOURHOOD * max(means.shape)))
    total, share = (
        ndimage.uniform_filter(part, size, mode="constant") for part in (logs * usable, usable.astype(float))
    )
    return logs - total / np.maximum(share, 1 / size**2)
