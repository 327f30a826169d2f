"""A quick look for the spots near lattice points: the brightest place and its centroid, without a fit."""

from dataclasses import dataclass, fields

import numpy as np

from .boxes import chunks, cut, grid, nearest_pixels
from .polynomials import box_monomials, normal_matrix
from .zingers import spikes

SMALLEST_WIDTH = 1.0  # px
PEAK, SPOT, RING = 0.6, 2.0, 3.5  # widths: half-sizes of the squares of the peak, the spot, and the ring round it
LEAST_KNOWN = 0.5  # of a square must be usable
CENTRINGS = 3  # times that the square of the centroid is moved
MOST_PIXELS = 2**20  # that are worked on together; all of an image with usual spots
SYSTEMATIC = 0.1  # px; error of a centroid in a square that is cut


@dataclass(frozen=True)
class Peaks:
    """observed (n, 2), px; variance (n, 2) of its coordinates, px^2; significance (n,): height over its noise."""

    observed: np.ndarray
    variance: np.ndarray
    significance: np.ndarray


def look(image, positions, noise, *, reach, width):
    """The places within `reach` px (square) of positions (n, 2) that stand out most, for spots of about `width` px.

    What stands out is the mean of a small square less that of the ring round the spot; spikes are left out. A place
    without pixels enough has significance 0.
    """
    peak, spot, ring = (max(1, round(widths * max(width, SMALLEST_WIDTH))) for widths in (PEAK, SPOT, RING))
    ring = max(ring, spot + 1)
    size = max(1, MOST_PIXELS // (2 * (reach + ring) + 1) ** 2)
    parts = [_look(image, positions[rows], noise, reach, peak, spot, ring) for rows in chunks(len(positions), size)]
    parts = parts or [_look(image, positions, noise, reach, peak, spot, ring)]
    return Peaks(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Peaks)))


def _look(image, positions, noise, reach, peak, spot, ring):
    """As `look`, with half-sizes of squares: of the peak, the spot and its ring."""
    boxes = cut(image, nearest_pixels(positions), reach + ring)
    boxes = boxes.without(spikes(boxes, noise))
    counts = boxes.as_squares(boxes.values.astype(float))
    inner, rim, enough = _contrast(counts, boxes.as_squares(boxes.usable), peak, spot, ring)
    middle = slice(ring, ring + 2 * reach + 1)
    height = np.where(enough, inner - rim, -np.inf)[:, middle, middle].reshape(len(boxes), (2 * reach + 1) ** 2)
    place = np.stack(np.divmod(height.argmax(axis=1), 2 * reach + 1)[::-1], axis=1) - reach
    for _ in range(CENTRINGS):
        level, square = _flattened(boxes, place, spot, ring)
        variance = noise.variance(level)
        offset, error2 = _centroid(square, variance, noise.gain, spot)
        observed = boxes.centre + place + offset
        place = np.clip(np.rint(place + offset), -reach, reach).astype(int)
    dx, dy = np.abs(grid(spot))
    core = square[:, np.maximum(dx, dy) <= peak]
    known = np.isfinite(core)
    significance = np.where(known, core, 0.0).sum(axis=1) / np.sqrt(variance * np.maximum(known.sum(axis=1), 1))
    significance[~np.isfinite(height.max(axis=1))] = 0.0
    return Peaks(observed, error2 + SYSTEMATIC**2, np.maximum(significance, 0.0))


def _contrast(counts, usable, peak, spot, ring):
    """Means (n, side, side) of the peak's square and of the ring round every pixel, and where both are known."""
    halves = (peak, spot, ring)
    inner, middle, outer = _box_sums(counts, halves)
    number = _box_sums(usable.astype(float), halves) if not usable.all() else [(2.0 * half + 1) ** 2 for half in halves]
    n_inner, n_ring = number[0], number[2] - number[1]
    whole = (2 * ring + 1) ** 2 - (2 * spot + 1) ** 2
    enough = (n_inner >= LEAST_KNOWN * (2 * peak + 1) ** 2) & (n_ring >= LEAST_KNOWN * whole)
    return inner / np.maximum(n_inner, 1), (outer - middle) / np.maximum(n_ring, 1), enough


def _box_sums(squares, halves):
    """Sums over squares of sides 2 half + 1 round every pixel, cut at the edges; squares (n, side, side)."""
    n, side, _ = squares.shape
    total = np.zeros((n, side + 1, side + 1))
    np.cumsum(np.cumsum(squares, axis=1), axis=2, out=total[:, 1:, 1:])
    found = []
    for half in halves:
        low, high = np.clip(np.arange(side) + np.array([[-half], [half + 1]]), 0, side)
        rows = total[:, high] - total[:, low]
        found.append(rows[:, :, high] - rows[:, :, low])
    return found


def _flattened(boxes, place, spot, ring):
    """Counts at places (n, 2) and squares of half-size `spot` round these, less the plane of the ring round them.

    NaN where not usable.
    """
    dx, dy = grid(ring)
    pixel = (place[:, 1:] + dy + boxes.half) * boxes.side + place[:, :1] + dx + boxes.half
    values, usable = (np.take_along_axis(part, pixel, axis=1) for part in (boxes.values, boxes.usable))
    inside = np.maximum(np.abs(dx), np.abs(dy)) <= spot
    weight, terms = usable * ~inside, box_monomials(ring, 2)
    normal = normal_matrix(weight @ terms, 1, 1) + 1e-6 * np.eye(3)
    plane = np.linalg.solve(normal, ((weight * values) @ terms[:, :3])[..., None])[..., 0]
    return plane[:, 0], np.where(usable, values - plane @ terms[:, :3].T, np.nan)[:, inside]


def _centroid(square, variance, gain, half):
    """Offsets (n, 2) of the centroids of squares from their middles, at most `half`, and their variances."""
    offsets = np.stack(grid(half), axis=1).astype(float)
    flux = np.nansum(square, axis=1)
    flux = np.where(flux > 0, flux, np.inf)[:, None]
    offset = np.clip(np.nan_to_num(square) @ offsets / flux, -half, half)
    own = gain * np.maximum(np.nan_to_num(square), 0) @ offsets**2
    return offset, (variance[:, None] * np.sum(offsets**2, axis=0) + own) / flux**2
