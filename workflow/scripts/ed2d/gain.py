"""Gain and read noise of a detector, estimated from the background of one image."""

import numpy as np

from .boxes import grid, nearest_pixels
from .noise import Noise
from .polynomials import monomials, normal_matrix

BLOCK_HALF = 7
MOST_BLOCKS = 4000
FEWEST_PIXELS = 60  # of a block
FEWEST_BLOCKS = 3
FAR = 10.0  # standard deviations
LEAST_CONTRAST = 0.5  # share of the spread of the block means that is not their own noise
LARGEST_ERROR = 0.25  # of the gain; beyond it the slope is not believed
BELIEVED = 3.0  # standard deviations at which an intercept below 0 is a pedestal that nobody named
SIGNIFICANT = 5.0  # standard deviations at which the background is above the offset


class UnknownGain(ValueError):
    """The background does not tell the gain; the text says why."""


def estimate(image, positions, *, clearance, offset, read_noise=0.0):
    """Noise model from the image: residual variance of background blocks against their mean.

    variance_i = gain (mean_i - offset) + read_variance by robust weighted least squares, the weights from the model.
    read_noise > 0 is taken as given; else it is estimated too. Where the background is too even to tell both, the read
    noise is taken as given (0 if it is not), and the gain's standard deviation is the gain itself. Raises UnknownGain
    where that fails too.
    """
    mean, variance, count = background_blocks(image, positions, clearance)
    good = variance > 0
    if good.sum() < FEWEST_BLOCKS:
        raise UnknownGain("there is no background with noise between the spots")
    signal, variance, count = mean[good] - offset, variance[good], count[good]
    if read_noise > 0:
        gain, error = _slope_through(signal, variance, count, read_noise**2)
        return _model(gain, error, read_noise**2, signal, offset)
    gain, intercept, error, intercept_error = _line(signal, variance, count)
    if error > LARGEST_ERROR * gain:
        gain, _ = _slope_through(signal, variance, count, 0.0)
        return _model(gain, gain, 0.0, signal, offset)
    if -BELIEVED * intercept_error < intercept < 0:
        return _model(*_slope_through(signal, variance, count, 0.0), 0.0, signal, offset)
    return _model(gain, error, intercept, signal, offset)


def _model(gain, error, intercept, signal, offset):
    """The line as a Noise; an intercept below 0, and one that must hold for signals below 0, moves the offset."""
    if not gain > 0:
        raise UnknownGain("the variance of the background does not grow with its mean")
    if intercept < 0 or (intercept > 0 and np.percentile(signal, 1) < 0):
        offset, intercept = offset - intercept / gain, 0.0
    return Noise(
        gain=float(gain),
        read_variance=float(intercept),
        offset=float(offset),
        gain_error=float(error),
        estimated=True,
    )


def background_blocks(image, positions, clearance):
    """Mean, residual variance and number of pixels of square blocks of background, each (m,).

    Pixels within `clearance` px (square) of a position are left out. A surface of second degree is fitted to every
    other pixel (checkerboard) and leaves the variance; the mean is that of the others, so that the errors of the two
    are independent.
    """
    rows, columns = image.shape
    side = 2 * BLOCK_HALF + 1
    free = image.usable.copy()
    _clear_squares(free, nearest_pixels(positions), clearance)
    x0, y0 = np.meshgrid(
        np.arange(BLOCK_HALF, columns - BLOCK_HALF, side), np.arange(BLOCK_HALF, rows - BLOCK_HALF, side)
    )
    centre = np.column_stack([x0.ravel(), y0.ravel()])
    centre = centre[np.linspace(0, len(centre) - 1, min(len(centre), MOST_BLOCKS)).astype(int)]
    dx, dy = grid(BLOCK_HALF)
    flat = (centre[:, 1:] + dy) * columns + centre[:, :1] + dx
    weight = free.ravel()[flat].astype(float)
    keep = weight.sum(axis=1) >= FEWEST_PIXELS
    weight, flat = weight[keep], flat[keep]
    values = np.where(weight > 0, image.data.ravel()[flat], 0).astype(float)
    return _statistics(values, weight, (dx + dy) % 2 == 0, monomials(dx / BLOCK_HALF, dy / BLOCK_HALF, 4))


def _clear_squares(free, centre, clearance):
    rows, columns = free.shape
    dx, dy = grid(clearance)
    x, y = centre[:, :1] + dx, centre[:, 1:] + dy
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    free[y[inside], x[inside]] = False


def _statistics(values, weight, black, terms):
    """Mean of the black pixels, variance of the white ones about their surface, and its degrees of freedom.

    Black pixels more than FAR standard deviations from the surface of the white ones are left out of the mean.
    """
    if not len(values):
        return np.empty(0), np.empty(0), np.empty(0)
    white, surface = weight * ~black, terms[:, :6]
    level = (values * ~black).sum(axis=1, keepdims=True) / np.maximum(white.sum(axis=1, keepdims=True), 1)
    centred = weight * (values - level)
    ridge = 1e-9 * white.sum(axis=1)[:, None, None] * np.eye(6)
    right = (centred * white) @ surface
    coefficients = np.linalg.solve(normal_matrix(white @ terms, 2, 2) + ridge, right[..., None])[..., 0]
    residual = centred - weight * (coefficients @ surface.T)
    dof = np.maximum(white.sum(axis=1) - 6, 1)
    variance = np.sum((residual * white) ** 2, axis=1) / dof
    limit = FAR * np.sqrt(np.maximum(variance, np.median(variance)))[:, None]
    kept = weight * black * (np.abs(residual) < limit)
    return np.sum(values * kept, axis=1) / np.maximum(kept.sum(axis=1), 1), variance, dof


def _slope_through(signal, variance, dof, intercept):
    """Slope of the line through a known intercept, and its standard deviation; UnknownGain without signal."""
    trend = _median_trend(signal, variance)
    spread2 = _spread2(trend, 0.0, signal, dof)
    robust, scale = _biweight(variance - trend, spread2)
    weight = robust / spread2
    level, height = np.average(signal, weights=weight), np.average(variance, weights=weight)
    if level < SIGNIFICANT * np.sqrt(height / np.sum(dof)):
        raise UnknownGain("the background is not above the Offset")
    return (height - intercept) / level, scale / np.sqrt(np.sum(weight)) / level


def _line(signal, variance, dof):
    """Slope, intercept and their standard deviations, freed of the flattening by the noise of the means.

    The noise of the block means takes the share 1 - contrast of their spread, and the slope by the same share.
    Infinite standard deviations where the contrast is too small.
    """
    weight, slope, scale = _robust_line(signal, variance, dof)
    level, height = np.average(signal, weights=weight), np.average(variance, weights=weight)
    spread = np.average((signal - level) ** 2, weights=weight)
    contrast = 1 - np.average(variance / dof, weights=weight) / max(spread, 1e-300)
    if contrast < LEAST_CONTRAST:
        return slope, height - slope * level, np.inf, np.inf
    error = scale / np.sqrt(np.sum(weight) * spread) / contrast
    intercept_error = np.hypot(scale / np.sqrt(np.sum(weight)), error * level)
    return slope / contrast, height - slope / contrast * level, error, intercept_error


def _robust_line(signal, variance, dof):
    """Weights, slope and scale of the line of variance against signal, with Tukey's biweight.

    Weights are dof / (2 expected^2 + gain^3 signal): the variance of a residual variance, with the fourth cumulant of
    a scaled Poisson variable. The start is the median of the variances among blocks of similar signal.
    """
    expected, slope, floor = _median_trend(signal, variance), 0.0, 0.05 * np.median(variance)
    robust, scale = _biweight(variance - expected, _spread2(expected, slope, signal, dof))
    for _ in range(50):
        weight = robust / _spread2(expected, slope, signal, dof)
        slope, intercept = _weighted_line(weight, signal, variance)
        fitted = slope * signal + intercept
        expected, previous = np.maximum(fitted, floor), robust
        robust, scale = _biweight(variance - fitted, _spread2(expected, slope, signal, dof))
        if np.max(np.abs(robust - previous)) < 1e-6:
            break
    return weight, slope, scale


def _weighted_line(weight, signal, variance):
    level, height = np.average(signal, weights=weight), np.average(variance, weights=weight)
    spread = np.average((signal - level) ** 2, weights=weight)
    slope = np.average((signal - level) * (variance - height), weights=weight) / max(spread, 1e-300)
    return slope, height - slope * level


def _spread2(expected, gain, signal, dof):
    """Variance of the residual variances of blocks."""
    return (2 * expected**2 + max(gain, 0.0) ** 3 * np.maximum(signal, 0)) / dof


def _biweight(deviation, spread2):
    """Tukey's weights of deviations, and their scale: 1 or, where they scatter more than spread2 says, that."""
    z = deviation / np.sqrt(spread2)
    scale = max(1.0, float(np.median(np.abs(z))) / 0.6745)
    return np.clip(1 - (z / (4.685 * scale)) ** 2, 0, None) ** 2 + 1e-12, scale


def _median_trend(signal, variance):
    """Starting variances: the median of the variances among blocks of similar signal."""
    order = np.argsort(signal, kind="stable")
    trend = np.empty_like(variance)
    for part in np.array_split(order, max(1, min(12, len(order) // 8))):
        trend[part] = np.median(variance[part])
    return trend
