"""A quick look for the spots near lattice points: the brightest place and its centroid, without a fit."""

from dataclasses import dataclass

import numpy as np

from .boxes import cut, grid, median, nearest_pixels

SMALLEST_WIDTH = 1.0  # px
SMOOTHING, CENTROID = 0.6, 2.0  # widths: half-sizes of the windows that smooth and that the centroid is taken of
LARGEST_SHARE = 0.7  # of the smoothed flux in one pixel; a spot has less there, a zinger all
SYSTEMATIC = 0.1  # px; error of a centroid in a cut window


@dataclass(frozen=True)
class Peaks:
    """observed (n, 2), px; variance (n, 2) of its coordinates, px^2; significance (n,): height over its noise."""

    observed: np.ndarray
    variance: np.ndarray
    significance: np.ndarray


def look(image, positions, noise, *, reach, width):
    """The brightest places within `reach` px (square) of positions (n, 2), for spots of about `width` px.

    A pixel alone, or a place without pixels enough, has significance 0.
    """
    smoothing, half = (max(1, round(widths * max(width, SMALLEST_WIDTH))) for widths in (SMOOTHING, CENTROID))
    boxes = cut(image, nearest_pixels(positions), reach + max(half, smoothing))
    level = median(boxes.values, boxes.usable)
    excess = boxes.as_squares(np.where(boxes.usable, boxes.values - level[:, None], 0.0))
    known = _smoothed(boxes.as_squares(boxes.usable.astype(float)), smoothing)
    smooth = _smoothed(excess, smoothing)
    inner = slice(boxes.half - reach, boxes.half + reach + 1)
    enough = known[:, inner, inner] > 0.5 * (2 * smoothing + 1) ** 2
    height = np.where(enough, smooth[:, inner, inner] / np.maximum(known[:, inner, inner], 1), -np.inf)
    best = height.reshape(len(boxes), (2 * reach + 1) ** 2).argmax(axis=1)
    y, x = np.divmod(best, 2 * reach + 1)
    place = np.column_stack([x, y]) - reach
    flux, brightest, _ = _window(boxes, excess, place, smoothing)
    sigma = np.sqrt(
        noise.variance(level) * np.maximum(known[np.arange(len(boxes)), y + inner.start, x + inner.start], 1)
    )
    significance = np.where((flux > 0) & (brightest < LARGEST_SHARE * flux), flux / sigma, 0.0)
    for _ in range(2):
        offset, variance = _centroid(boxes, excess, place, noise.variance(level), half)
        place = np.clip(np.rint(place + offset), -reach, reach).astype(int)
    offset, variance = _centroid(boxes, excess, place, noise.variance(level), half)
    return Peaks(boxes.centre + place + offset, variance + SYSTEMATIC**2, significance)


def _smoothed(squares, half):
    """Sums over windows of side 2 half + 1, cut at the edges; squares (n, side, side)."""
    side = squares.shape[1]
    total = np.pad(np.cumsum(np.cumsum(squares, axis=1), axis=2), ((0, 0), (1, 0), (1, 0)))
    low, high = np.maximum(np.arange(side) - half, 0), np.minimum(np.arange(side) + half + 1, side)
    rows = total[:, high] - total[:, low]
    return rows[:, :, high] - rows[:, :, low]


def _window(boxes, excess, place, half):
    """Sum and largest pixel of windows of half-size `half` at places (n, 2), and their pixels (n, window)."""
    dx, dy = grid(half)
    x, y = (np.clip(place[:, i, None] + boxes.half + offset, 0, boxes.side - 1) for i, offset in enumerate((dx, dy)))
    pixels = excess[np.arange(len(boxes))[:, None], y, x]
    return pixels.sum(axis=1), pixels.max(axis=1), pixels


def _centroid(boxes, excess, place, background_variance, half):
    """Offsets (n, 2) of the centroids of windows at places (n, 2) from these, at most `half`, and their variances."""
    flux, _, pixels = _window(boxes, excess, place, half)
    offsets = np.stack(grid(half), axis=1).astype(float)
    flux = np.where(flux > 0, flux, np.inf)
    offset = np.clip(pixels @ offsets / flux[:, None], -half, half)
    return offset, background_variance[:, None] * np.sum(offsets**2, axis=0) / flux[:, None] ** 2
