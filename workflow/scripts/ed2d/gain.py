"""Gain and read noise of a detector, estimated from one image: residual variance against expected counts."""

from dataclasses import dataclass, replace

import numpy as np

from . import correlation, residuals
from .noise import Noise
from .residuals import Evidence, first_line

BLOCK = {"half": 7, "degree": 2}  # px; of the surface
LARGE_BLOCK = {"half": 15, "degree": 3}  # where neighbouring pixels are correlated
FEWEST_GROUPS = 3  # blocks, or spots
LEAST_CONTRAST = 0.5  # share of the spread of the expected counts that is not their own noise
REAL_CONTRAST = 0.8  # beside spots, a background with less is taken as even
LARGEST_ERROR = 0.25  # of the gain; beyond it the slope must exclude that there is no read noise
BELIEVED = 2.0  # standard deviations at which an intercept is a pedestal that nobody named, or correlated read noise
SIGNIFICANT = 5.0  # standard deviations at which the background is above the offset, and pixels are correlated
LEAST_CORRELATION = 0.02  # of the pixel variance, covariance with the four nearest neighbours
CORRELATED_ERROR = 0.02  # of the gain; what freeing correlated residuals of the surface leaves uncertain
UNDOUBTED = 3.0  # standard deviations; the weight of a group falls from there to 0 at twice as much
MOST_ITERATIONS = 50


class UnknownGain(ValueError):
    """The image does not tell the gain; the text says why."""


def estimate(image, positions, *, clearance, offset, read_noise=0.0, under_spots=None):
    """Noise model from the residual variances of background blocks and, where given, of the pixels under spots.

    variance = gain (counts - offset) + read_variance, under spots + misfit^2 spot^2, by robust weighted least squares
    with weights from the model. positions (n, 2): px, all spots; clearance: px, half-size of the squares round them
    that are no background; under_spots: Evidence of residuals.under_spots. read_noise > 0 is taken as given; else it
    is estimated too. Where the counts are too even to tell both, the read noise is taken as 0, and the gain's standard
    deviation is the gain itself. Where neighbouring pixels are correlated, gain and read variance are those of sums
    over many pixels, and under_spots is not used. Raises UnknownGain.
    """
    blocks = residuals.background(image, positions, clearance=clearance, **BLOCK)
    noise, line = _noise_of(_enough(blocks.evidence(), under_spots), offset, read_noise)
    ratio, error = correlation.ratio_of_neighbours(blocks, line.weight[: len(blocks)])
    if ratio - 1 < max(LEAST_CORRELATION, SIGNIFICANT * error):
        return noise
    return _noise_of_correlated(
        residuals.background(image, positions, clearance=clearance, **LARGE_BLOCK), offset, read_noise
    )


def even_noise(image, positions, *, clearance, offset):
    """Noise with the same variance in all pixels, that of the background: to fit with before the gain is known."""
    evidence = _enough(residuals.background(image, positions, clearance=clearance, **BLOCK).evidence())
    variance = float(np.median(evidence.variance))
    return Noise(gain=0.0, read_variance=variance, offset=float(offset), gain_error=np.inf, estimated=True)


def _enough(background, under_spots=None):
    """All evidence as one; UnknownGain where it is too little."""
    evidence = background if under_spots is None else Evidence.joined([_levelled(background), under_spots])
    if len(evidence) < FEWEST_GROUPS:
        raise UnknownGain("there is no background with noise between the spots")
    return evidence


def _levelled(background):
    """The background; with the same counts everywhere if they are even, so that their noise does not tilt the line."""
    if len(background) < FEWEST_GROUPS:
        return background
    line = _line(background, 0.0)
    noise = line.expected * background.per_pixel
    if _contrast(background.counts, line.weight, noise) > REAL_CONTRAST:
        return background
    mean = np.average(background.counts, weights=line.weight)
    return replace(background, counts=np.full(len(background), mean), per_pixel=np.zeros(len(background)))


def _noise_of(evidence, offset, read_noise):
    """Noise, and the line that says so."""
    if read_noise > 0:
        line = _line(evidence, offset, intercept=read_noise**2)
        return _model(line, offset, evidence), line
    line = _line(evidence, offset)
    if not 0 <= line.error <= LARGEST_ERROR * line.slope:
        line = _uncertain(line, evidence, offset)
    elif -BELIEVED * line.intercept_error < line.intercept < 0:
        through = _line(evidence, offset, intercept=0.0)
        line = replace(through, error=np.hypot(through.error, line.slope - through.slope))
    return _model(line, offset, evidence), line


def _model(line, offset, evidence):
    """The line as a Noise; an intercept below 0, and one that must hold for signals below 0, moves the offset."""
    if not line.slope > 0:
        raise UnknownGain("the variance does not grow with the expected counts")
    intercept = line.intercept
    if intercept < 0 or (intercept > 0 and np.percentile(evidence.counts, 1) < offset):
        offset, intercept = offset - intercept / line.slope, 0.0
    return Noise(
        gain=float(line.slope),
        read_variance=float(intercept),
        offset=float(offset),
        gain_error=float(line.error),
        estimated=True,
    )


@dataclass(frozen=True)
class _Line:
    """slope and intercept with their standard deviations; weight (n,) and expected variance (n,) of the groups."""

    slope: float
    intercept: float
    error: float
    intercept_error: float
    weight: np.ndarray
    expected: np.ndarray


def _line(evidence, offset, *, intercept=None):
    """variance = slope (counts - offset) + intercept + misfit^2 spot^2; the intercept is free where it is None.

    Weights are 1 over the variance of a residual variance, (2 expected^2 + slope^3 signal) / dof: the second term is
    the fourth cumulant of a scaled Poisson variable. What a spot misses differs as much as it is large.
    """
    signal, variance, free = evidence.counts - offset, evidence.variance, intercept is None
    columns = [signal, *[np.ones_like(signal)] * free, *[evidence.misfit] * bool(evidence.misfit.any())]
    columns, fixed = np.stack(columns, axis=1), 0.0 if free else intercept
    expected, floor = first_line(signal, variance, 0.5), 0.05 * np.median(variance)
    slope, missed, robust, read_variance = 0.0, 0.0, np.zeros(len(evidence)), fixed
    for _ in range(MOST_ITERATIONS):
        spread2 = (2 * expected**2 + max(slope, 0.0) ** 3 * np.maximum(signal, 0)) / evidence.dof + missed**2
        before, (robust, weight) = robust, _weights(variance, expected, spread2, evidence.under_spots)
        if np.max(np.abs(robust - before)) < 1e-6:
            break
        noise = max(read_variance, 0.0) * evidence.per_pixel
        solution, errors = _solve(columns, weight, variance - fixed, noise)
        slope, read_variance = solution[0], solution[1] if free else fixed
        missed = columns[:, 1 + free :] @ solution[1 + free :]
        expected = np.maximum(slope * signal + read_variance + missed, floor)
    if free and _contrast(signal, weight, expected * evidence.per_pixel) < LEAST_CONTRAST:
        errors = np.full_like(errors, np.inf)
    if not free and not evidence.under_spots.any():
        _check_level(signal, weight, expected, evidence.dof)
    return _Line(slope, read_variance, errors[0], errors[1] if free else 0.0, weight, expected)


def _solve(columns, weight, values, noise):
    """Coefficients of weighted least squares and their standard deviations, the first column with noise in it.

    Counts that are means have noise, which flattens a line (errors in variables). That of electrons does not: mean
    and variance of the same Poisson pixels covary by gain times the variance of the mean (third cumulant), as if the
    noise were signal. So only the read noise of the means, `noise` (n,), is taken off the normal matrix.
    """
    size = np.sqrt(np.mean(columns**2, axis=0)) + 1e-300
    scaled = columns / size
    normal = (scaled * weight[:, None]).T @ scaled
    normal[0, 0] -= min(np.sum(weight * noise) / size[0] ** 2, (1 - LEAST_CONTRAST) * normal[0, 0])
    inverse = np.linalg.pinv(normal, hermitian=True)
    variances = np.diag(inverse)
    return inverse @ (scaled.T @ (weight * values)) / size, np.sqrt(np.where(variances > 0, variances, np.inf)) / size


def _contrast(signal, weight, noise):
    """Share of the spread of the signals that is not their own noise."""
    level = np.average(signal, weights=weight)
    return 1 - np.average(noise, weights=weight) / max(np.average((signal - level) ** 2, weights=weight), 1e-300)


def _uncertain(line, evidence, offset):
    """The line without read noise, whose gain is the largest that can be; the given one where it excludes that."""
    excluding = line.slope > BELIEVED * line.error
    try:
        level = _level(evidence, offset)
    except UnknownGain:
        if excluding:
            return line
        raise
    return line if excluding and line.slope + BELIEVED * line.error < level.slope else level


def _level(evidence, offset):
    """The line from (offset, 0) through the middle of the background, as it is too even for more; not believed."""
    background = evidence[~evidence.under_spots]
    if not len(background):
        raise UnknownGain("there is no background with noise between the spots")
    signal, variance = background.counts - offset, background.variance
    expected = first_line(signal, variance, 0.5)
    _, weight = _weights(variance, expected, 2 * expected**2 / background.dof, background.under_spots)
    _check_level(signal, weight, expected, background.dof)
    slope = np.average(variance, weights=weight) / np.average(signal, weights=weight)
    return _Line(slope, 0.0, slope, 0.0, weight, expected)


def _check_level(signal, weight, expected, dof):
    level, height = np.average(signal, weights=weight), np.average(expected, weights=weight)
    if level < SIGNIFICANT * np.sqrt(height / np.sum(dof)):
        raise UnknownGain("the background is not above the Offset")


def _weights(variance, expected, spread2, under_spots):
    """Robust weights (n,), and these over the variances of the variances.

    The cube root of a residual variance is nearly normal (Wilson & Hilferty, 1931): its long upper tail is not cut.
    Background and spots that scatter more than spread2 says have so much less weight.
    """
    half = spread2 / (9 * expected**2)  # 2/(9 dof) of the degrees of freedom that spread2 stands for
    z = (np.cbrt(variance / expected) - (1 - half)) / np.sqrt(half)
    robust, weight = np.empty_like(z), np.empty_like(z)
    for rows in (under_spots, ~under_spots):
        if rows.any():
            scale = max(1.0, float(np.median(np.abs(z[rows]))) / 0.6745)
            robust[rows] = _flat_top(z[rows] / scale)
            weight[rows] = robust[rows] / (spread2[rows] * scale**2)
    return robust, weight


def _flat_top(z):
    """Weights of deviations: 1 up to UNDOUBTED standard deviations, then Tukey's biweight to 0 at twice as much."""
    return (1 - (np.clip(np.abs(z) / UNDOUBTED, 1, 2) - 1) ** 2) ** 2 + 1e-12


def _noise_of_correlated(blocks, offset, read_noise):
    """Noise of sums over many pixels: the line of the pixel variance and that of the covariances on top of it.

    Residuals under spots are not used: a spot is too small against the correlation to free them of leverage.
    """
    evidence = _enough(blocks.evidence())
    _, line = _noise_of(evidence, offset, read_noise)
    (product, projection), ratio = correlation.significant_products(blocks, line.weight)
    for _ in range(4):
        noise, line = _noise_of(evidence.correlated(ratio), offset, read_noise)
        signal = blocks.counts - noise.offset
        covariance = product + ratio * projection * line.expected
        slope, intercept, error = _covariance_line(signal, covariance, line.weight)
        ratio = 1 + np.maximum(slope * signal + intercept, 0) / line.expected
    gain = noise.gain + slope
    error = np.sqrt(noise.gain_error**2 + error**2 + (CORRELATED_ERROR * gain) ** 2)
    return replace(
        noise,
        gain=float(gain),
        read_variance=noise.read_variance if read_noise > 0 else float(max(noise.read_variance + intercept, 0.0)),
        gain_error=float(gain if noise.gain_error >= noise.gain else error),
        correlation=float(np.median(ratio)),
    )


def _covariance_line(signal, covariance, weight):
    """Slope, intercept and the slope's standard deviation of covariances (m,) against signals (m,).

    Pixels covary where an electron spreads over several; read noise does not, so the intercept is 0 unless it is
    significant, as for an interpolated image.
    """
    columns = np.stack([signal, np.ones_like(signal)], axis=1)
    (slope, intercept), (error, intercept_error) = _scattered_fit(columns, covariance, weight)
    if abs(intercept) > BELIEVED * intercept_error:
        return slope, intercept, error
    (slope,), (error,) = _scattered_fit(columns[:, :1], covariance, weight)
    return slope, 0.0, error


def _scattered_fit(columns, values, weight):
    """Robust coefficients of weighted least squares, and their standard deviations from the scatter (sandwich)."""
    robust = np.ones_like(weight)
    for _ in range(10):
        used = weight * robust
        inverse = np.linalg.pinv((columns * used[:, None]).T @ columns, hermitian=True)
        solution = inverse @ (columns.T @ (used * values))
        deviation = values - columns @ solution
        pull = deviation * np.sqrt(weight)
        robust = _flat_top(pull / max(float(np.median(np.abs(pull))) / 0.6745, 1e-300))
    moved = inverse @ (columns * (used * deviation)[:, None]).T
    return solution, np.sqrt(np.sum(moved**2, axis=1))
