"""Refinement of the lattice against fitted centres."""

from dataclasses import dataclass

import numpy as np

from .lattice import Lattice

NAMES = ("OffsetX", "OffsetY", "FirstX", "FirstY", "SecondX", "SecondY", "Barrel", "Spiral")
FEWEST_SPOTS = 6
FEWEST_SPOTS_FOR_DISTORTION = 16
SIGNIFICANT = 3.0  # standard deviations at which a distortion is believed
LARGEST_DISTORTION = 0.1  # of the radius at the outermost spot; lenses bend less, a wrong lattice wants more
TUKEY = 6.0  # distance, in standard deviations, at which the biweight of a spot becomes zero
DIGITS_OF_SIGMA = 5  # a parameter is rounded to so many digits of its standard deviation: the fixed point is exact


@dataclass(frozen=True)
class Refined:
    """A refined lattice with the standard deviations of its parameters and what it says of the spots.

    sigma (8,): of NAMES; 0 where not refined; scatter: rms of a coordinate beyond its fitted error, px;
    distance (n,): deviation of every spot in standard deviations; used (n,): bool; rms: px, both coordinates together,
    of the used spots.
    """

    lattice: Lattice
    sigma: np.ndarray
    scatter: float
    distance: np.ndarray
    used: np.ndarray
    rms: float


def parameters_of(lattice):
    """The eight parameters in the order of NAMES."""
    return np.array([*lattice.origin, *lattice.a, *lattice.b, lattice.barrel, lattice.spiral], float)


def lattice_of(parameters):
    """A lattice from eight parameters."""
    v = [float(value) for value in parameters]
    return Lattice((v[0], v[1]), (v[2], v[3]), (v[4], v[5]), v[6], v[7])


def _rounded(values, sigma):
    """Values without the digits that convergence leaves undetermined."""
    decimals = DIGITS_OF_SIGMA - 1 - np.floor(np.log10(np.where(sigma > 0, sigma, 1.0)))
    return [round(float(value), int(places)) for value, places in zip(values, decimals, strict=True)]


def jacobian(lattice, miller):
    """Derivatives (n, 2, 8) of the calculated positions by the parameters."""
    miller = np.asarray(miller, float)
    s = miller @ lattice.basis
    x, y = s.T
    r2 = x * x + y * y
    kb, ks = lattice.barrel, lattice.spiral
    by_s = np.empty((len(s), 2, 2))
    by_s[:, 0, 0] = 1 + kb * (r2 + 2 * x * x) + 2 * ks * x * y
    by_s[:, 0, 1] = 2 * kb * x * y + ks * (r2 + 2 * y * y)
    by_s[:, 1, 0] = 2 * kb * x * y - ks * (r2 + 2 * x * x)
    by_s[:, 1, 1] = 1 + kb * (r2 + 2 * y * y) - 2 * ks * x * y
    result = np.zeros((len(s), 2, 8))
    result[:, 0, 0] = result[:, 1, 1] = 1
    result[:, :, 2:4] = miller[:, :1, None] * by_s
    result[:, :, 4:6] = miller[:, 1:, None] * by_s
    result[:, :, 6] = r2[:, None] * s
    result[:, :, 7] = r2[:, None] * s[:, ::-1] * np.array([1.0, -1.0])
    return result


def refine(lattice, miller, observed, variance, *, distortion=True):
    """Robust weighted least squares of the lattice parameters.

    miller (n, 2); observed (n, 2), px; variance (n, 2), px^2, of the observed coordinates. A spot weighs
    1 / (variance + scatter^2), times Tukey's biweight of its deviation; scatter is found such that the median deviation
    is what two normal coordinates give (chi^2 of two degrees of freedom, median 2 ln 2). Barrel and spiral are kept
    where they reach SIGNIFICANT standard deviations and stay below LARGEST_DISTORTION. Raises ValueError for too few
    spots or spots on one line.
    """
    if not distortion or len(miller) < FEWEST_SPOTS_FOR_DISTORTION:
        return _refine(lattice, miller, observed, variance, np.arange(8) < 6)
    free = np.ones(8, bool)
    result = _refine(lattice, miller, observed, variance, free)
    values = parameters_of(result.lattice)
    outermost = np.max(np.sum((miller @ result.lattice.basis) ** 2, axis=1))
    free[6:] = np.abs(values[6:]) > SIGNIFICANT * result.sigma[6:]
    free[6:] &= np.max(np.abs(values[6:])) * outermost < LARGEST_DISTORTION
    return result if free.all() else _refine(lattice, miller, observed, variance, free)


def _refine(lattice, miller, observed, variance, free):
    if len(miller) < FEWEST_SPOTS:
        raise ValueError(f"{len(miller)} well-fitted spots, {FEWEST_SPOTS} are needed")
    values = np.where(free | (np.arange(8) < 6), parameters_of(lattice), 0.0)
    previous = np.inf
    for _ in range(100):
        current = lattice_of(values)
        residual = observed - current.position(miller)
        scatter2 = _scatter2(residual, variance)
        distance = np.sqrt(np.sum(residual**2 / (variance + scatter2), axis=1))
        robust = np.clip(1 - (distance / TUKEY) ** 2, 0, None) ** 2
        weight = robust[:, None] / (variance + scatter2)
        design = jacobian(current, miller)[:, :, free]
        step, covariance = _step(design, residual, weight)
        values[free] += step
        moved = np.max(np.abs(design @ step))
        if moved < 1e-10 or previous <= moved < 1e-7:
            break
        previous = moved
    used = distance < TUKEY
    sigma = np.zeros(8)
    sigma[free] = np.sqrt(np.diag(covariance))
    final = lattice_of(_rounded(values, sigma))
    deviation = observed - final.position(miller)
    rms = float(np.sqrt(np.mean(np.sum(deviation[used] ** 2, axis=1)))) if used.any() else np.nan
    return Refined(final, sigma, float(np.sqrt(scatter2)), distance, used, rms)


def _step(design, residual, weight):
    """Gauss-Newton step and covariance, computed with columns scaled to unit length."""
    rows = design.reshape(-1, design.shape[2])
    w, r = weight.ravel(), residual.ravel()
    normal = rows.T @ (w[:, None] * rows)
    scale = np.sqrt(np.diag(normal))
    if not np.all(scale > 0):
        raise ValueError("the well-fitted spots do not determine the lattice")
    scaled = normal / scale[:, None] / scale
    if np.linalg.cond(scaled) > 1e9:
        raise ValueError("the well-fitted spots lie on one line")
    inverse = np.linalg.inv(scaled) / scale[:, None] / scale
    return inverse @ (rows.T @ (w * r)), inverse


def _scatter2(residual, variance):
    """Variance of a coordinate to add so that the median of the squared deviations is 2 ln 2, px^2."""
    target = 2 * np.log(2)

    def median(extra):
        return np.median(np.sum(residual**2 / (variance + extra), axis=1))

    if median(0.0) <= target:
        return 0.0
    low, high = 0.0, float(np.median(np.sum(residual**2, axis=1)))
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if median(middle) > target else (low, middle)
    return high
