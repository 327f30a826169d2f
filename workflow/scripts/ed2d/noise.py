"""The noise of a pixel: variance against expected counts, given or estimated from the image itself."""

from dataclasses import dataclass

import numpy as np

from .boxes import grid, nearest_pixels
from .polynomials import monomials, normal_matrix

BLOCK_HALF = 7
MOST_BLOCKS = 4000
SMALLEST_MEAN = 0.02  # electrons a pixel; below it the variance of a pixel is taken as constant


@dataclass(frozen=True, kw_only=True)
class Noise:
    """var = gain (expected - offset) + read_variance; gain in counts per electron, variances in counts^2.

    gain_error is 0 for a given gain; `estimated` tells which of the two it is.
    """

    gain: float
    read_variance: float
    offset: float
    gain_error: float = 0.0
    estimated: bool = False

    @property
    def read_noise(self):
        """Read noise, counts rms."""
        return self.read_variance**0.5

    def variance(self, expected):
        """Variance of pixels whose expected counts are `expected` (any shape), counts^2."""
        signal = np.maximum(self.gain * (expected - self.offset), 0.0)
        return np.maximum(signal + self.read_variance, SMALLEST_MEAN * self.gain**2)


def outlying(residual, variance, gain, threshold):
    """True where a residual cannot be noise: |z| beyond `threshold` after the skewness of a scaled Poisson variable.

    The limit follows the Cornish-Fisher expansion, z (1 + skew (z - 1/z) / 6) with skew = gain / sigma, so that the
    long upper tail of a sparse background is not cut (Abramowitz & Stegun, 26.2.49).
    """
    sigma = np.sqrt(variance)
    upper = threshold * sigma + gain * (threshold**2 - 1) / 6
    return (residual > upper) | (residual < -threshold * sigma)


def background_blocks(image, positions, clearance):
    """Mean, residual variance and degrees of freedom of square blocks of background, each (m,).

    Pixels within `clearance` px (square) of a position are left out; each block is freed of a surface of second degree.
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
    keep = weight.sum(axis=1) >= 60
    weight, flat = weight[keep], flat[keep]
    values = np.where(weight > 0, image.data.ravel()[flat], 0).astype(float)
    return _block_statistics(values, weight, dx / BLOCK_HALF, dy / BLOCK_HALF)


def _clear_squares(free, centre, clearance):
    rows, columns = free.shape
    dx, dy = grid(clearance)
    x, y = centre[:, :1] + dx, centre[:, 1:] + dy
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    free[y[inside], x[inside]] = False


def _block_statistics(values, weight, dx, dy):
    if not len(values):
        return np.empty(0), np.empty(0), np.empty(0)
    surface = monomials(dx, dy, 2)
    matrix = normal_matrix(weight @ monomials(dx, dy, 4), 2, 2)
    count = weight.sum(axis=1)
    shift = (values.sum(axis=1) / count)[:, None] * weight
    right = (values - shift) @ surface
    coefficients = np.linalg.solve(matrix + 1e-9 * count[:, None, None] * np.eye(6), right[..., None])[..., 0]
    residual = (values - shift) - weight * (coefficients @ surface.T)
    dof = count - surface.shape[1]
    return values.sum(axis=1) / count, np.sum(residual**2, axis=1) / dof, dof


def estimate(image, positions, *, clearance, offset, read_noise=0.0):
    """Noise model from the image: residual variance of background blocks against their mean.

    var_i = gain (mean_i - offset) + read_variance by weighted least squares, the weights from the model
    (var(var_i) = 2 var_i^2 / dof + gain^3 mean_i / n, the fourth cumulant of a scaled Poisson variable),
    made robust by Tukey's biweight. read_noise > 0 is kept as given; else the intercept is estimated too. An intercept
    significantly below 0 means a pedestal that nobody named: it becomes the offset.
    """
    mean, variance, dof = background_blocks(image, positions, clearance)
    signal = mean - offset
    good = variance > 0
    if good.sum() < 3:
        return _without_background(image, offset, read_noise)
    signal, variance, dof = signal[good], variance[good], dof[good]
    fit = _robust_line(signal, variance, dof, intercept=read_noise**2 if read_noise > 0 else None)
    gain, intercept, gain_error, intercept_error = fit
    if gain <= 0 or gain_error > 0.5 * gain:
        fixed = read_noise**2
        gain, intercept, gain_error, intercept_error = _robust_line(signal, variance, dof, intercept=fixed)
    if not gain > 0:
        return Noise(gain=0.0, read_variance=float(np.median(variance)), offset=offset, estimated=True)
    if intercept < -3 * intercept_error:
        offset = offset - intercept / gain
    return Noise(
        gain=float(gain),
        read_variance=float(max(intercept, 0.0)),
        offset=float(offset),
        gain_error=float(gain_error),
        estimated=True,
    )


def _without_background(image, offset, read_noise):
    counts = image.data[image.usable].astype(float)
    gain = max(float(np.var(counts) / max(np.mean(counts) - offset, 1e-30)), 1e-30)
    return Noise(gain=gain, read_variance=read_noise**2, offset=offset, gain_error=gain, estimated=True)


def _robust_line(signal, variance, dof, *, intercept):
    """Slope, intercept and their standard deviations of variance against signal; a given intercept is kept."""
    design = np.column_stack([signal, np.ones_like(signal)]) if intercept is None else signal[:, None]
    target = variance - (intercept or 0.0)
    expected, gain = _median_trend(signal, variance), 0.0
    robust, scale = _biweight(variance - expected, _spread2(expected, gain, signal, dof))
    for _ in range(50):
        weight = robust / _spread2(expected, gain, signal, dof)
        inverse = np.linalg.pinv(design.T @ (weight[:, None] * design))
        solution = inverse @ (design.T @ (weight * target))
        gain, line = float(solution[0]), design @ solution + (intercept or 0.0)
        expected = np.maximum(line, 0.05 * np.median(variance))
        previous = robust
        robust, scale = _biweight(variance - line, _spread2(expected, gain, signal, dof))
        if np.max(np.abs(robust - previous)) < 1e-6:
            break
    error = scale * np.sqrt(np.diag(inverse))
    free = intercept is None
    return gain, float(solution[1]) if free else intercept, float(error[0]), float(error[1]) if free else 0.0


def _spread2(expected, gain, signal, dof):
    """Variance of the residual variances of blocks."""
    return np.maximum((2 * expected**2 + max(gain, 0.0) ** 3 * np.maximum(signal, 0)) / dof, 1e-300)


def _biweight(deviation, spread2):
    """Tukey's weights of deviations, and their scale: 1 or, where they scatter more than spread2 says, that."""
    z = deviation / np.sqrt(spread2)
    scale = max(1.0, float(np.median(np.abs(z))) / 0.6745)
    return np.clip(1 - (z / (4.685 * scale)) ** 2, 0, None) ** 2, scale


def _median_trend(signal, variance):
    """Starting variances: the median of the variances among blocks of similar signal."""
    order = np.argsort(signal, kind="stable")
    trend = np.empty_like(variance)
    for part in np.array_split(order, max(1, min(12, len(order) // 8))):
        trend[part] = np.median(variance[part])
    return trend
