"""Pixels of a box that something else than an electron of the spot has hit."""

import numpy as np

from .boxes import chunks, median
from .noise import outlying, upper_limit

THRESHOLD = 6.0  # standard deviations
MODEL_TOLERANCE = 0.15  # of the peak; real spots are not quite Gaussian
ALONE = 4.0  # times the neighbours; more than pixels resolve of any spot
ENDS_OF_TRACKS = 2  # times that the ends of a track are taken off; 4 px vanish so
LINE = ((-1, 0), (1, 0))  # places (x, y) of neighbours
EIGHT = tuple((i, j) for j in (-1, 0, 1) for i in (-1, 0, 1) if (i, j) != (0, 0))


def spikes(boxes, noise):
    """Pixels (n, side^2) alone far above the background, and what is left of a short track without its ends.

    Alone: ALONE times as high as all eight neighbours but one; saturated and masked ones may be as high as any.
    """
    found = np.zeros_like(boxes.usable)
    for rows in chunks(len(boxes)):
        found[rows] = _spikes(boxes[rows], noise)
    return found


def _spikes(boxes, noise):
    level = median(boxes.values, boxes.usable)
    limit = upper_limit(noise.variance(level), noise.gain, THRESHOLD)
    found = np.zeros_like(boxes.usable)
    rows = np.flatnonzero(np.max(boxes.values, axis=1) > level + limit)
    unseen = np.where(boxes.saturated[rows] | boxes.ignored[rows], np.inf, -np.inf)
    excess = np.where(boxes.usable[rows], boxes.values[rows] - level[rows, None], unseen)
    for _ in range(ENDS_OF_TRACKS):
        row, pixel = _alone_on_a_line(excess, limit[rows])
        second = np.partition(_around(excess, row, pixel, EIGHT, beyond=-np.inf), 6, axis=1)[:, 6]
        alone = excess[row, pixel] > ALONE * np.maximum(second, 0.0)
        excess[row[alone], pixel[alone]] = -np.inf
        found[rows[row[alone]], pixel[alone]] = True
    return found


def _alone_on_a_line(excess, limit):
    """Rows and pixels above `limit` (n,) with a far lower neighbour on their left or right: a cheap first choice."""
    row, pixel = np.nonzero((excess > limit[:, None]) & (excess < np.inf))
    low = np.minimum(*_around(excess, row, pixel, LINE, beyond=-np.inf).T)
    chosen = excess[row, pixel] > ALONE * low
    return row[chosen], pixel[chosen]


def zingers(boxes, noise, plane, peak):
    """Usable pixels (n, side^2) that stand alone against a model: the counts (n, side^2) of background and spots.

    The residual is beyond noise and MODEL_TOLERANCE of the peak, and ALONE times that of the middle one of the eight
    neighbours: where a real spot is not Gaussian, whole groups of neighbours deviate alike and all are kept.
    """
    residual = np.where(boxes.usable, boxes.values - plane - peak, 0.0)
    found = np.zeros_like(boxes.usable)
    least = noise.variance(np.min(plane, axis=1))
    rows = np.flatnonzero(np.max(np.abs(residual), axis=1) > THRESHOLD * np.sqrt(least))
    if len(rows):
        variance = noise.variance(plane[rows] + peak[rows]) + (MODEL_TOLERANCE * peak[rows]) ** 2
        row, pixel = np.nonzero(outlying(residual[rows], variance, noise.gain, THRESHOLD))
        size = np.where(boxes.usable[rows], np.abs(residual[rows]), np.inf)
        alone = size[row, pixel] > ALONE * _middle(_around(size, row, pixel, EIGHT))
        found[rows[row[alone]], pixel[alone]] = True
    return found


def _around(pixels, row, pixel, places, *, beyond=None):
    """Neighbours (m, places) of pixels (m,) of rows (m,) of boxes (n, side^2).

    Outside of the box `beyond`, by default what stands at its edge; infinite where that is the pixel itself.
    """
    side = round(pixels.shape[1] ** 0.5)
    y, x = (
        part[:, None] + step for part, step in zip(np.divmod(pixel, side), np.array(places)[:, ::-1].T, strict=True)
    )
    nearest = np.clip(y, 0, side - 1) * side + np.clip(x, 0, side - 1)
    outside = (np.minimum(x, y) < 0) | (np.maximum(x, y) >= side)
    missing = nearest == pixel[:, None] if beyond is None else outside
    return np.where(missing, np.inf if beyond is None else beyond, pixels[row[:, None], nearest])


def _middle(sizes):
    """The middle one (the upper of two) of the finite ones of every row; infinite where none is."""
    half = np.count_nonzero(np.isfinite(sizes), axis=1, keepdims=True) // 2
    return np.take_along_axis(np.sort(sizes, axis=1), np.minimum(half, sizes.shape[1] - 1), axis=1)[:, 0]
