"""Refinement of the lattice against fitted centres."""

from dataclasses import dataclass, field, replace

import numpy as np

from .lattice import Lattice

NAMES = ("OffsetX", "OffsetY", "FirstX", "FirstY", "SecondX", "SecondY", "Barrel", "Spiral")
FEWEST_SPOTS = 6
FEWEST_SPOTS_FOR_DISTORTION = 16
SIGNIFICANT = 3.0  # standard deviations at which a distortion is believed
LARGEST_DISTORTION = 0.1  # of the radius at the outermost spot; lenses bend less, a wrong lattice wants more
START_BEND = 0.25  # of the median residual, below which the start weighs squares, and above which absolute values
START_CONVERGED = 0.05  # of the median residual that any calculated position still moves
TUKEY = 6.0  # distance, in standard deviations, at which the biweight of a spot becomes zero
LEAST_SLOPE = 0.25  # of the biweight; keeps outliers that are not quite cut off from undoing the normal matrix
NARROWING = 4.0  # the scatter changes by no more than this factor a step
STALE = 1e-8  # px that any calculated position moves before the derivatives are computed anew
CONVERGED = 1e-10  # px that any calculated position, or the scatter, still moves
STALLED = 1e-9  # px below which a step that is no smaller than the last one ends the search too
MOST_STEPS = 100
DIGITS_OF_SIGMA = 5  # a parameter is rounded to so many digits of its standard deviation: the fixed point is exact
SMALLEST_MEDIAN = 1e-9  # px, of the residuals, in place of 0

_Q = 2 / TUKEY**2  # moments of the biweight b of d^2, chi^2 of two degrees of freedom: <(d^2/TUKEY^2)^k> = k! Q^k
_WEIGHT = 1 - 2 * _Q + 2 * _Q**2  # <b>
_SLOPE = 1 - 4 * _Q + 6 * _Q**2  # <b d^2> / 2, which is also the mean slope of the weighted residual
_PULL = 1 - 8 * _Q + 36 * _Q**2 - 96 * _Q**3 + 120 * _Q**4  # <b^2 d^2> / 2
WEIGHTED_VARIANCE = _SLOPE / _WEIGHT  # of a normal coordinate under the biweight, in units of its variance
WEIGHTED_COVARIANCE = _PULL * _WEIGHT / _SLOPE**2  # of the parameters, in units of the inverse of sum b J^T W J


@dataclass(frozen=True)
class Refined:
    """A refined lattice with the standard deviations of its parameters and what it says of the spots.

    sigma (8,): of NAMES; 0 where not refined; scatter: rms of a coordinate beyond its fitted error, px;
    distance (n,): deviation of every spot in standard deviations; used (n,): bool; rms: px, both coordinates together,
    of the used spots; covariance (8, 8): of NAMES; significance (2,): barrel and spiral in units of their standard
    deviations as both were tried together, whether they were kept or not; NaN where not tried.
    """

    lattice: Lattice
    sigma: np.ndarray
    scatter: float
    distance: np.ndarray
    used: np.ndarray
    rms: float
    covariance: np.ndarray
    significance: np.ndarray = field(default_factory=lambda: np.full(2, np.nan))

    def position_variance(self, miller):
        """Variances (n, 2), px^2, of the calculated positions of Miller indices (n, 2): the diagonal of J C J^T."""
        xx, _, yy = _lever(self.covariance, jacobian(self.lattice, np.asarray(miller, float).T))
        return np.column_stack([xx, yy])

    def position_sigma(self, miller):
        """Rms over Miller indices (n, 2) of the error to expect of a calculated position, px, x and y together.

        sqrt(<trace(J C J^T)>): what least squares promises for the number and precision of the spots.
        """
        return float(np.sqrt(np.mean(np.sum(self.position_variance(miller), axis=1))))


def parameters_of(lattice):
    """The eight parameters in the order of NAMES."""
    return np.array([*lattice.origin, *lattice.a, *lattice.b, lattice.barrel, lattice.spiral], float)


def lattice_of(parameters):
    """A lattice from eight parameters."""
    v = [float(value) for value in parameters]
    return Lattice((v[0], v[1]), (v[2], v[3]), (v[4], v[5]), v[6], v[7])


def jacobian(lattice, index):
    """Derivatives (8, 2, n) of the calculated positions of Miller indices (2, n) by the parameters."""
    x, y = lattice.basis.T @ index
    xx, xy, yy = x * x, x * y, y * y
    r2 = xx + yy
    kb, ks = lattice.barrel, lattice.spiral
    by_x = np.stack([1 + kb * (r2 + 2 * xx) + 2 * ks * xy, 2 * kb * xy - ks * (r2 + 2 * xx)])
    by_y = np.stack([2 * kb * xy + ks * (r2 + 2 * yy), 1 + kb * (r2 + 2 * yy) - 2 * ks * xy])
    result = np.zeros((8, *index.shape))
    result[0, 0] = result[1, 1] = 1
    result[2], result[3], result[4], result[5] = index[0] * by_x, index[0] * by_y, index[1] * by_x, index[1] * by_y
    result[6] = r2 * np.stack([x, y])
    result[7] = r2 * np.stack([y, -x])
    return result


def refine(lattice, miller, observed, variance, *, distortion=True):
    """Robust weighted least squares of the lattice parameters.

    miller (n, 2); observed (n, 2), px; variance (n, 2), px^2, of the observed coordinates. The minimum is that of
    Tukey's biweight (Beaton & Tukey, 1974) of d^2 = dX^2 / (var_x + tau^2) + dY^2 / (var_y + tau^2), with the scatter
    tau of restricted maximum likelihood (Patterson & Thompson, 1971); the search starts from nearly least absolute
    deviations (Huber, 1964), whatever `lattice` is. Covariance: Huber's (1967). Barrel and spiral are kept, each by
    itself, where they reach SIGNIFICANT standard deviations, and none where one goes beyond LARGEST_DISTORTION.
    Raises ValueError for too few spots, spots on one line, and numbers that are none.
    """
    spots = _spots(miller, observed, variance)
    free = np.arange(8) < 6
    if not distortion or len(miller) < FEWEST_SPOTS_FOR_DISTORTION:
        return _search(*_start(lattice, spots, free), spots, free)
    everything = np.ones(8, bool)
    tried = _search(*_start(lattice, spots, everything), spots, everything)
    distortions = parameters_of(tried.lattice)[6:]
    significance = distortions / tried.sigma[6:]
    outermost = np.max(np.sum((miller @ tried.lattice.basis) ** 2, axis=1))
    if np.max(np.abs(distortions)) * outermost > LARGEST_DISTORTION:
        result = _search(*_start(lattice, spots, free), spots, free)
    else:
        free[6:] = np.abs(significance) > SIGNIFICANT
        result = tried if free.all() else _search(_without(tried, ~free), tried.scatter**2, spots, free)
    return replace(result, significance=significance)


def _spots(miller, observed, variance):
    """Indices, observed positions and variances as (2, n)."""
    if len(miller) < FEWEST_SPOTS:
        raise ValueError(f"{len(miller)} well-fitted spots, {FEWEST_SPOTS} are needed")
    spots = tuple(np.ascontiguousarray(np.transpose(rows), float) for rows in (miller, observed, variance))
    if not np.all(np.isfinite(spots)) or not np.all(spots[2] > 0):
        raise ValueError("a fitted centre is not finite, or its variance not above 0")
    return spots


def _without(tried, dropped):
    """Parameters with some held at 0 and the others moved as they are correlated with those."""
    values, covariance = parameters_of(tried.lattice), tried.covariance
    moved = values - covariance[:, dropped] @ np.linalg.solve(covariance[np.ix_(dropped, dropped)], values[dropped])
    return np.where(dropped, 0.0, moved)


def _residual(values, spots):
    """Observed minus calculated positions (2, n), px."""
    index, observed, _ = spots
    return observed - lattice_of(values).position(index.T).T


def _start(lattice, spots, free):
    """Parameters and scatter^2, px^2, of nearly least absolute deviations, all spots alike, those not free at 0.

    Huber's estimate with its bend at a small part of the median residual. Satellites and whole rows with a wrong index
    pull it by a part of the errors only, as lattice points have no great leverage (Rousseeuw & Leroy, 1987).
    """
    values = np.where(free, parameters_of(lattice), 0.0)
    design, residual = jacobian(lattice_of(values), spots[0])[free], _residual(values, spots)
    bend = np.inf
    for _ in range(MOST_STEPS):
        weight = 1 / np.maximum(np.hypot(*residual) / bend, 1)
        step, _ = _step(design, residual, np.stack([weight, weight]))
        shift = np.tensordot(step, design, 1)
        values[free] += step
        residual = residual - shift
        median = max(np.median(np.hypot(*residual)), SMALLEST_MEDIAN)
        if np.isfinite(bend) and np.max(np.abs(shift)) < START_CONVERGED * median:
            break
        bend = START_BEND * median
    return values, median**2 / (2 * np.log(2))


def _search(values, scatter2, spots, free):
    """The minimum near `values`: a step of the parameters and one of the scatter in turns."""
    index, _, variance = spots
    moved, before, last = np.inf, np.inf, (np.nan, np.nan)
    for _ in range(MOST_STEPS):
        if moved > STALE:
            design = jacobian(lattice_of(values), index)[free]
        residual = _residual(values, spots)
        weight = 1 / (variance + scatter2)
        robust, slope = _biweight(np.sum(weight * residual**2, axis=0))
        step, inverse = _step(design, residual, robust * weight)
        step *= np.sum(robust) / np.sum(slope)
        shift = np.tensordot(step, design, 1)
        wanted = _scatter_step(residual - shift, weight, robust, _lever(inverse, design))
        change = _limited(scatter2, _secant((scatter2, wanted), last), np.min(variance))
        last = (scatter2, wanted)
        values[free] += step
        before, moved = moved, max(np.max(np.abs(shift)), abs(change) / np.sqrt(scatter2 + np.min(variance)))
        scatter2 += change
        if moved < CONVERGED or before <= moved < STALLED:
            break
    return _refined(values, scatter2, spots, free)


def _biweight(distance2):
    """Tukey's biweight of squared distances, and the mean slope of the residual times it; both (n,)."""
    u = distance2 / TUKEY**2
    inside = np.clip(1 - u, 0, None)
    return inside**2, np.maximum(inside * (1 - 3 * u), LEAST_SLOPE * inside**2)


def _step(design, residual, weight):
    """Gauss-Newton step and inverse normal matrix, computed with columns scaled to unit length."""
    rows = design.reshape(len(design), -1)
    weighted = rows * weight.ravel()
    normal = weighted @ rows.T
    scale = np.sqrt(np.diag(normal))
    if not np.all(scale > 0):
        raise ValueError("the well-fitted spots do not determine the lattice")
    scaled = normal / scale[:, None] / scale
    smallest, *_, largest = np.linalg.eigvalsh(scaled)
    if smallest < 1e-9 * largest:
        raise ValueError("the well-fitted spots lie on one line")
    inverse = np.linalg.inv(scaled) / scale[:, None] / scale
    return inverse @ (weighted @ residual.ravel()), inverse


def _lever(covariance, design):
    """Covariance J C J^T of every calculated position: xx, xy, yy as rows (3, n)."""
    turned = np.tensordot(covariance, design, 1)
    return np.stack([np.sum(turned[:, i] * design[:, j], axis=0) for i, j in ((0, 0), (0, 1), (1, 1))])


def _scatter_step(residual, weight, robust, lever):
    """Change of scatter^2, px^2, towards the root of its restricted likelihood equation under the biweight.

    sum b w (w r^2 - WEIGHTED_VARIANCE (1 - w J (sum b J^T W J)^-1 J^T)) = 0; a spot beyond TUKEY has no part in it.
    """
    seen = np.clip(1 - weight * lever[::2], 0, None)
    excess = np.sum(robust * weight * (weight * residual**2 - WEIGHTED_VARIANCE * seen))
    return excess / max(WEIGHTED_VARIANCE * np.sum(robust * weight**2 * seen), np.finfo(float).tiny)


def _secant(this, last):
    """A step as long as two pairs (value, step) say that it should be; the later one's own where they say nothing."""
    (value, step), (value0, step0) = this, last
    slope = (step0 - step) / (value - value0) if value != value0 else 1.0
    return step / slope if 0.05 < slope < 2 else step


def _limited(scatter2, change, smallest):
    """A change of scatter^2 that leaves it at 0 or above and alters it by a factor of NARROWING^2 at most."""
    low = scatter2 / NARROWING**2 if scatter2 > 0.01 * smallest else 0.0
    high = max(scatter2, smallest) * NARROWING**2
    return min(max(scatter2 + change, low), high) - scatter2


def _refined(values, scatter2, spots, free):
    """The result with its errors, at the rounded parameters."""
    index, _, variance = spots
    residual, weight = _residual(values, spots), 1 / (variance + scatter2)
    distance2 = np.sum(weight * residual**2, axis=0)
    covariance = np.zeros((8, 8))
    covariance[np.ix_(free, free)] = _covariance(jacobian(lattice_of(values), index)[free], residual, weight, distance2)
    sigma = np.sqrt(np.diag(covariance))
    rounded = _rounded(values, sigma)
    used = distance2 < TUKEY**2
    rms = float(np.sqrt(np.mean(np.sum(_residual(rounded, spots)[:, used] ** 2, axis=0)))) if used.any() else np.nan
    return Refined(lattice_of(rounded), sigma, float(scatter2**0.5), np.sqrt(distance2), used, rms, covariance)


def _covariance(design, residual, weight, distance2):
    """Huber's covariance A^-1 B A^-1 (p, p) of the free parameters.

    A = sum s J^T W J with the slope s of the biweighted residual, B = sum b^2 J^T W (r r^T + J C J^T) W J. The second
    term, with the C that holds for normal errors, gives back what the lattice has followed of each spot's error.
    """
    robust, slope = _biweight(distance2)
    _, inverse = _step(design, residual, robust * weight)
    _, outer = _step(design, residual, slope * weight)
    pulled = design * (robust * weight)
    x, y = pulled[:, 0], pulled[:, 1]
    xx, xy, yy = _lever(WEIGHTED_COVARIANCE * inverse, design)
    xx, xy, yy = xx + residual[0] ** 2, xy + residual[0] * residual[1], yy + residual[1] ** 2
    cross = (x * xy) @ y.T
    return outer @ ((x * xx) @ x.T + cross + cross.T + (y * yy) @ y.T) @ outer


def _rounded(values, sigma):
    """Values without the digits that convergence leaves undetermined."""
    decimals = DIGITS_OF_SIGMA - 1 - np.floor(np.log10(np.where(sigma > 0, sigma, 1.0)))
    return [round(float(value), int(places)) for value, places in zip(values, decimals, strict=True)]
