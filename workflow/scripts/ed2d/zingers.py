"""Pixels of a box that something else than an electron of the spot has hit."""

import numpy as np

from . import gaussian
from .boxes import median
from .noise import outlying, upper_limit

THRESHOLD = 6.0  # standard deviations
MODEL_TOLERANCE = 0.15  # of the peak; real spots are not quite Gaussian
ALONE = 4.0  # times the neighbours; more than pixels resolve of any spot
ENDS_OF_TRACKS = 2  # times that the ends of a track are taken off; 4 px vanish so


def spikes(boxes, noise):
    """Pixels (n, side^2) alone far above the background, and what is left of a short track without its ends.

    Alone: ALONE times as high as all eight neighbours but one.
    """
    level = median(boxes.values, boxes.usable)
    limit = upper_limit(noise.variance(level), noise.gain, THRESHOLD)
    found = np.zeros_like(boxes.usable)
    rows = np.flatnonzero(np.max(boxes.values, axis=1) > level + limit)
    excess = np.where(boxes.usable[rows], boxes.values[rows] - level[rows, None], -np.inf)
    for _ in range(ENDS_OF_TRACKS):
        row, pixel = np.nonzero(excess > limit[rows, None])
        around = _around(boxes.as_squares(excess), row, pixel, beyond=-np.inf)
        second = np.partition(around, 6, axis=1)[:, 6]
        alone = excess[row, pixel] > ALONE * np.maximum(second, 0.0)
        excess[row[alone], pixel[alone]] = -np.inf
        found[rows[row[alone]], pixel[alone]] = True
    return found


def zingers(boxes, noise, fits):
    """Usable pixels (n, side^2) that stand alone against the model.

    The residual is beyond noise and MODEL_TOLERANCE of the peak, and ALONE times that of the middle one of the eight
    neighbours: where a real spot is not Gaussian, whole groups of neighbours deviate alike and all are kept.
    """
    plane = gaussian.plane(boxes.half, fits.plane)
    peak = gaussian.model(boxes.half, fits) - plane
    residual = np.where(boxes.usable, boxes.values - plane - peak, 0.0)
    found = np.zeros_like(boxes.usable)
    least = noise.variance(np.min(plane, axis=1))
    rows = np.flatnonzero(np.max(np.abs(residual), axis=1) > THRESHOLD * np.sqrt(least))
    if len(rows):
        variance = noise.variance(plane[rows] + peak[rows]) + (MODEL_TOLERANCE * peak[rows]) ** 2
        row, pixel = np.nonzero(outlying(residual[rows], variance, noise.gain, THRESHOLD))
        size = np.where(boxes.usable[rows], np.abs(residual[rows]), np.inf)
        middle = _middle(_around(boxes.as_squares(size), row, pixel, beyond=np.inf))
        alone = size[row, pixel] > ALONE * middle
        found[rows[row[alone]], pixel[alone]] = True
    return found


def _around(squares, row, pixel, *, beyond):
    """The eight neighbours (m, 8) of pixels (m,) of rows (m,) of squares (n, side, side); `beyond` outside of them."""
    side = squares.shape[1]
    padded = np.full((len(squares), side + 2, side + 2), beyond)
    padded[:, 1:-1, 1:-1] = squares
    y, x = np.divmod(pixel, side)
    return np.stack(
        [padded[row, y + j, x + i] for j in range(3) for i in range(3) if (i, j) != (1, 1)],
        axis=1,
    )


def _middle(sizes):
    """The middle one (the upper of two) of the finite ones of every row; infinite where none is."""
    half = np.count_nonzero(np.isfinite(sizes), axis=1, keepdims=True) // 2
    return np.take_along_axis(np.sort(sizes, axis=1), np.minimum(half, sizes.shape[1] - 1), axis=1)[:, 0]
