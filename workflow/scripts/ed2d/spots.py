"""From boxes to trusted fits: shape held or free, weights from the noise model, and what each fit is worth."""

from dataclasses import dataclass, replace

import numpy as np

from . import flags, gaussfit, gaussian
from .boxes import chunks, grid, median
from .profile import NARROWEST, WIDEST
from .zingers import zingers

FEWEST_PIXELS = 30  # usable pixels of a box that can be fitted
CORE_PIXELS = 0.5  # usable fraction of the 3 x 3 pixels under the peak
CLEANINGS = 2  # times that zingers are looked for
LEAST_LEVEL = 0.25  # of the median of the box, above the offset
LARGEST_MISFIT = 0.25  # of the height; rms of what noise does not explain
NEARLY_OWN = 0.9  # share of a spot's own shape in the one for its errors; above it the errors stay


@dataclass(frozen=True)
class Spots:
    """Fits (n) and FLAG (n,)."""

    fits: gaussian.Fits
    flag: np.ndarray

    def __getitem__(self, rows):
        return Spots(self.fits[rows], self.flag[rows])

    @staticmethod
    def missing(n):
        """n spots without a fit."""
        return Spots(gaussian.Fits.missing(n), np.zeros(n, int))

    @staticmethod
    def joined(parts):
        """The spots of several parts, one after the other."""
        fits = gaussian.Fits.joined([gaussian.Fits.missing(0), *(part.fits for part in parts)])
        return Spots(fits, np.concatenate([np.zeros(0, int), *(part.flag for part in parts)]))

    def replaced(self, rows, other):
        """A copy with `rows` taken from the spots `other` (len(rows))."""
        flag = self.flag.copy()
        flag[rows] = other.flag
        return Spots(self.fits.replaced(rows, other.fits), flag)


def fit_held(boxes, noise, centre, shape, rows=None):
    """Amplitude and plane of boxes with centre (n, 2), relative to (x0, y0), and shape (n, 3) held.

    rows (m,): the boxes to fit, by default all; the result has as many rows. Least squares first, freed of zingers;
    then with weights 1/variance of the fitted model, never of the data.
    """

    def evenly(some, which):
        return gaussfit.fit_linear(some, some.usable.astype(float), centre[which], shape[which])

    def fit(some, which):
        fits, some = cleaned(some, which, noise, evenly)
        fits = gaussfit.fit_linear(some, _weights(some, noise, fits), centre[which], shape[which])
        return fits, pixel_flags(some)

    return _in_chunks(boxes, rows, lambda some, which: _enough(some, centre[which]), fit)


def fit_free(boxes, noise, start, *, box_size, rows=None):
    """Nine-parameter fits of boxes, from the centres, shapes and weights of the fits `start` (n).

    rows (m,): the boxes to fit, by default all; the result has as many rows. Two-step weighting: the model of a first,
    rough fit gives the weights 1/variance of the second. For scaled Poisson noise this is as precise as maximum
    likelihood, and the weights never come from the data. Boxes whose start is missing (NaN) are not fitted.
    """

    def roughly(some, which):
        weights = _weights(some, noise, start[which])
        return gaussfit.approach(some, weights, start.centre[which], start.shape[which])

    def fit(some, which):
        fits, some = cleaned(some, which, noise, roughly)
        fits = gaussfit.fit(some, _weights(some, noise, fits), fits.centre, fits.shape)
        return fits, pixel_flags(some) | _doubts(some, fits, box_size)

    return _in_chunks(boxes, rows, lambda _, which: np.isfinite(start.amplitude[which]), fit)


def with_smooth_errors(boxes, noise, fits, smooth, spread):
    """The fits (n), the free ones with the errors of shapes shrunk towards smooth ones (n, 3).

    spread (n,): scatter of the shapes about the smooth ones over the error of each; a spot well seen, with a large one,
    keeps its own errors. A spot that comes out too large by chance also comes out too wide, and with too large an
    error; errors at smoothed shapes do not follow the fluctuations of the volume so much.
    """
    own = (spread**2 / (1 + spread**2))[:, None]
    rows = np.flatnonzero(~fits.held & np.isfinite(fits.amplitude) & (own[:, 0] < NEARLY_OWN))
    covariance = fits.covariance.copy()
    for part in (rows[part] for part in chunks(len(rows))):
        some, found = boxes[part].flat(), fits[part]
        some = some.without(zingers(some, noise, *gaussian.parts(some.half, found)))
        shrunk = found.reshaped(own[part] * found.shape + (1 - own[part]) * smooth[part])
        covariance[part] = gaussfit.covariance_at(some, _weights(some, noise, shrunk), found, shrunk)
    return replace(fits, covariance=covariance)


def _in_chunks(boxes, rows, possible, fit):
    """Spots (m) of the boxes `rows` by `fit(boxes[part], part)`, some at a time, where `possible` says so."""
    rows = np.arange(len(boxes)) if rows is None else rows
    return Spots.joined([_of_chunk(boxes[rows[part]], rows[part], possible, fit) for part in chunks(len(rows))])


def _of_chunk(boxes, rows, possible, fit):
    boxes, can = boxes.flat(), possible(boxes, rows)
    if can.all():
        return Spots(*fit(boxes, rows))
    missing = replace(Spots.missing(len(rows)), flag=pixel_flags(boxes) | flags.NOT_FITTED)
    which = np.flatnonzero(can)
    return missing.replaced(which, Spots(*fit(boxes[which], rows[which]))) if len(which) else missing


def cleaned(boxes, rows, noise, fit, parts=gaussian.parts):
    """Fits by `fit(boxes, rows)` and the boxes, freed of the pixels that neither noise nor the fit explains.

    parts(half, fits): expected counts of the background and of the spots.
    """
    fits, doubtful = fit(boxes, rows), np.arange(len(boxes))
    for _ in range(CLEANINGS):
        found = zingers(boxes[doubtful], noise, *parts(boxes.half, fits[doubtful]))
        hit = found.any(axis=1)
        doubtful = doubtful[hit]
        if not len(doubtful):
            break
        clean = boxes[doubtful].without(found[hit])
        boxes = boxes.replaced(doubtful, clean)
        fits = fits.replaced(doubtful, fit(clean, rows[doubtful]))
    return fits, boxes


def _weights(boxes, noise, fits):
    return weights(boxes, noise, *gaussian.parts(boxes.half, fits))


def weights(boxes, noise, plane, peak):
    """1/variance of a model, counts (n, side^2) of background and spots; 0 where not usable."""
    return boxes.usable / model_variance(boxes, noise, plane, peak)


def model_variance(boxes, noise, plane, peak):
    """Variance of the pixels (n, side^2) by a fitted model.

    Amplitudes below zero, which no count can have, are left out. A plane that a rough fit draws below LEAST_LEVEL of
    what half of the pixels reach is raised to that: pixels without noise would rule the next fit.
    """
    level = plane - noise.offset
    low = np.flatnonzero(level.min(axis=1) < LEAST_LEVEL * level.max(axis=1))
    if len(low):
        middle = median(boxes.values[low], boxes.usable[low])[:, None] - noise.offset
        level[low] = np.maximum(level[low], LEAST_LEVEL * middle)
    return noise.variance(np.maximum(peak, 0) + level + noise.offset)


def misfits(reduced_chi2, variance, height):
    """True where the rms of what noise does not explain exceeds LARGEST_MISFIT of the height of a spot.

    All (n,); variance: of a pixel of the background, counts^2; height: counts.
    """
    excess = np.maximum(reduced_chi2 - 1, 0) * variance
    return np.sqrt(excess) > LARGEST_MISFIT * np.abs(height)


def pixel_flags(boxes):
    """FLAG (n,) of why pixels of boxes are not usable."""
    reasons = {"EDGE": boxes.outside, "MASKED": boxes.ignored, "SATURATED": boxes.saturated, "ZINGER": boxes.zinger}
    return sum(np.where(pixels.any(axis=1), flags.REGISTRY[name].bit, 0) for name, pixels in reasons.items())


def _doubts(boxes, fits, box_size):
    """Flags of free fits that cannot be trusted."""
    far = np.max(np.abs(fits.centre), axis=1) > box_size
    return (
        np.where(fits.converged, 0, flags.NOT_CONVERGED)
        | np.where(far | ~_enough(boxes, fits.centre), flags.CENTRE, 0)
        | np.where(_plausible_width(fits, boxes.half), 0, flags.WIDTH)
    )


def _enough(boxes, centre):
    """True where the box has pixels enough, also under the peak."""
    dx, dy = grid(boxes.half)
    core = (np.abs(dx - centre[:, :1]) < 1.5) & (np.abs(dy - centre[:, 1:]) < 1.5)
    seen = np.sum(core & boxes.usable, axis=1) >= CORE_PIXELS * np.maximum(np.sum(core, axis=1), 1)
    return seen & (np.count_nonzero(boxes.usable, axis=1) >= FEWEST_PIXELS)


def _plausible_width(fits, half):
    large, small, _ = gaussian.widths(fits.shape)
    return (small > NARROWEST) & (large < WIDEST * half) & (fits.amplitude > 0)
