"""From boxes to trusted fits: starting values, zingers, weights from the noise model, and what each fit is worth."""

from dataclasses import dataclass, replace

import numpy as np

from . import flags, gaussian
from .boxes import grid, median
from .noise import outlying

ZINGER_THRESHOLD = 6.0  # standard deviations
MODEL_TOLERANCE = 0.15  # of the peak; real spots are not quite Gaussian
ALONE = 4.0  # times the neighbours; more than pixels resolve of any spot
ENDS_OF_TRACKS = 2  # times that the ends of a track are taken off; 4 px vanish so
FEWEST_PIXELS = 30  # usable pixels of a box that can be fitted
CORE_PIXELS = 0.5  # usable fraction of the 3 x 3 pixels under the peak of a free fit
REWEIGHTINGS = 2


@dataclass(frozen=True)
class Spots:
    """Fits (n) and FLAG (n,)."""

    fits: gaussian.Fits
    flag: np.ndarray


def fit_free(boxes, noise, *, box_size, start_width):
    """Nine-parameter fits of every box; start_width: px.

    Least squares first; then with weights 1/variance of the fitted model, never of the data (two-step weighting,
    equal to maximum likelihood for scaled Poisson noise when repeated).
    """
    flag = _pixel_flags(boxes)
    rows = np.flatnonzero(np.count_nonzero(boxes.usable, axis=1) >= FEWEST_PIXELS)
    flag[np.setdiff1d(np.arange(len(boxes)), rows)] |= flags.NOT_FITTED
    fits = gaussian.Fits.missing(len(boxes))
    if len(rows):
        part, part_flag = _fit_free(boxes[rows], noise, box_size, start_width)
        fits = fits.replaced(rows, part)
        flag[rows] |= part_flag
    return Spots(fits, flag)


def _fit_free(boxes, noise, box_size, start_width):
    usable = boxes.usable & ~spikes(boxes, noise)
    fits, usable = _cleaned(boxes, usable, noise, box_size, start_width)
    for _ in range(REWEIGHTINGS):
        weights = usable / noise.variance(gaussian.model(boxes.half, fits))
        fits = gaussian.fit(boxes, weights, fits.centre, fits.shape)
    flag = np.where(np.any(boxes.usable & ~usable, axis=1), flags.ZINGER, 0)
    flag |= np.where(fits.converged, 0, flags.NOT_CONVERGED)
    flag |= np.where(_enough(boxes, usable, fits.centre), 0, flags.CENTRE)
    flag |= np.where(_plausible_width(fits, boxes.half), 0, flags.WIDTH)
    flag |= np.where(np.max(np.abs(fits.centre), axis=1) <= box_size, 0, flags.CENTRE)
    return fits, flag


def fit_held(boxes, noise, centre, shape):
    """Amplitude and plane with centre (n, 2), relative to (x0, y0), and shape (n, 3) held; zingers left out."""
    flag = _pixel_flags(boxes)
    flag |= np.where(_enough(boxes, boxes.usable, centre), 0, flags.NOT_FITTED)
    fits = gaussian.Fits.missing(len(boxes))
    rows = np.flatnonzero(flag & flags.NOT_FITTED == 0)
    if len(rows):
        part, found = _fit_held(boxes[rows], noise, centre[rows], shape[rows])
        fits = fits.replaced(rows, part)
        flag[rows] |= np.where(found.any(axis=1), flags.ZINGER, 0)
    return Spots(fits, flag)


def _fit_held(boxes, noise, centre, shape):
    usable, found = boxes.usable, spikes(boxes, noise)
    fits = gaussian.fit_linear(boxes, (usable & ~found).astype(float), centre, shape)
    for _ in range(1 + REWEIGHTINGS):
        found |= zingers(boxes, usable & ~found, noise, fits)
        weights = (usable & ~found) / noise.variance(_expected(boxes.half, fits))
        fits = gaussian.fit_linear(boxes, weights, centre, shape)
    return fits, found


def _expected(half, fits):
    """The model with amplitudes below zero, which no count can have, left out."""
    return gaussian.model(half, replace(fits, amplitude=np.maximum(fits.amplitude, 0)))


def _pixel_flags(boxes):
    flag = np.where(boxes.outside.any(axis=1), flags.EDGE, 0)
    flag |= np.where(boxes.ignored.any(axis=1), flags.MASKED, 0)
    return flag | np.where(boxes.saturated.any(axis=1), flags.SATURATED, 0)


def _enough(boxes, usable, centre):
    """True where the box has pixels enough, also under the peak."""
    dx, dy = grid(boxes.half)
    core = (np.abs(dx - centre[:, :1]) < 1.5) & (np.abs(dy - centre[:, 1:]) < 1.5)
    seen = np.sum(core & usable, axis=1) >= CORE_PIXELS * np.maximum(np.sum(core, axis=1), 1)
    return seen & (np.count_nonzero(usable, axis=1) >= FEWEST_PIXELS)


def _plausible_width(fits, half):
    large, small, _ = gaussian.widths(fits.shape)
    return (small > 0.4) & (large < 0.75 * half) & (fits.amplitude > 0)


def spikes(boxes, noise):
    """Pixels that stand alone far above the background, and what is left of a short track without its ends."""
    level = median(boxes.values, boxes.usable)[:, None]
    excess, variance = np.where(boxes.usable, boxes.values - level, -np.inf), noise.variance(level)
    found, rows = np.zeros_like(boxes.usable), np.arange(len(boxes))
    for _ in range(ENDS_OF_TRACKS):
        left = np.where(found[rows], -np.inf, excess[rows])
        alone = _alone(boxes.as_squares(left)).reshape(left.shape)
        high = np.where(alone, left, 0.0)
        alone &= outlying(high, variance[rows], noise.gain, ZINGER_THRESHOLD)
        found[rows] |= alone
        rows = rows[alone.any(axis=1)]
    return found


def _alone(excess):
    """True where the excess over the background is above 0 and ALONE times that of all neighbours but one."""
    first, second = np.full_like(excess, -np.inf), np.zeros_like(excess)
    for neighbour in _neighbours(excess, constant_values=-np.inf):
        second = np.maximum(second, np.minimum(first, neighbour))
        first = np.maximum(first, neighbour)
    return excess > ALONE * second


def _start_centres(boxes, usable, box_size):
    """The brightest place of the box smoothed by 3 x 3, within `box_size` of the middle, (n, 2)."""
    excess = boxes.as_squares(usable * (boxes.values - median(boxes.values, boxes.usable)[:, None]))
    known = boxes.as_squares(usable.astype(float))
    smooth, number = excess + sum(_neighbours(excess)), known + sum(_neighbours(known))
    inner = slice(boxes.half - box_size, boxes.half + box_size + 1)
    smooth = np.where(number > 4, smooth / np.maximum(number, 1), -np.inf)[:, inner, inner]
    brightest = smooth.reshape(len(boxes), -1).argmax(axis=1)
    y, x = np.divmod(brightest, 2 * box_size + 1)
    return np.column_stack([x, y]) - float(box_size)


def _cleaned(boxes, usable, noise, box_size, start_width):
    """Unweighted fits, twice freed of the pixels that neither noise nor the spot's own shape explains."""
    centre = _start_centres(boxes, usable, box_size)
    round_spot = gaussian.shape_from_covariance(start_width**2, 0.0, start_width**2)
    shape = np.tile(round_spot, (len(boxes), 1))
    fits = gaussian.fit(boxes, usable.astype(float), centre, shape)
    for _ in range(2):
        found = zingers(boxes, usable, noise, fits)
        hit = np.flatnonzero(found.any(axis=1))
        if not len(hit):
            break
        usable = usable & ~found
        part = boxes[hit]
        refit = gaussian.fit(part, usable[hit].astype(float), _start_centres(part, usable[hit], box_size), shape[hit])
        fits = fits.replaced(hit, refit)
    return fits, usable


def zingers(boxes, usable, noise, fits):
    """Usable pixels (n, side^2) that stand alone against the model: hit by something else than an electron of the spot.

    The residual is beyond noise and MODEL_TOLERANCE of the peak, and ALONE times that of the middle one of the eight
    neighbours: where a real spot is not Gaussian, whole groups of neighbours deviate alike and all are kept.
    """
    expected = gaussian.model(boxes.half, fits)
    peak = expected - gaussian.plane(boxes.half, fits.plane)
    residual = np.where(usable, boxes.values - expected, 0.0)
    variance = noise.variance(expected) + (MODEL_TOLERANCE * peak) ** 2
    found = usable & outlying(residual, variance, noise.gain, ZINGER_THRESHOLD)
    rows = np.flatnonzero(found.any(axis=1))
    if len(rows):
        size = boxes.as_squares(np.where(usable[rows], np.abs(residual[rows]), np.inf))
        middle = _middle(np.stack(list(_neighbours(size, mode="edge")))).reshape(len(rows), -1)
        found[rows] &= np.abs(residual[rows]) > ALONE * middle
    return found


def _middle(sizes):
    """The middle one (the upper of two) along the first axis of those that are finite; infinite where none is."""
    half = np.count_nonzero(np.isfinite(sizes), axis=0, keepdims=True) // 2
    return np.take_along_axis(np.sort(sizes, axis=0), half, axis=0)[0]


def _neighbours(squares, **padding):
    """The eight arrays of neighbours of the pixels of (n, side, side); beyond the edge after np.pad, by default 0."""
    n = squares.shape[-1]
    padded = np.pad(squares, ((0, 0), (1, 1), (1, 1)), **padding)
    for j, i in ((j, i) for j in range(3) for i in range(3) if (i, j) != (1, 1)):
        yield padded[:, j : j + n, i : i + n]
