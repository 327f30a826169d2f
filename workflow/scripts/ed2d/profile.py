"""The shape of the spots as a smooth function of the place on the image, learned from the strong spots."""

from dataclasses import dataclass, replace

import numpy as np

from .gaussian import covariance_from_shape, shape_from_covariance
from .polynomials import monomials

FEWEST_SPOTS = {"constant": 3, "radial": 6, "radial quartic": 20, "quadratic": 60}
MOST_SPOTS = 1000  # that teach; of more the most significant
NARROWEST = 0.4  # px, the smallest width of a spot that pixels can resolve
WIDEST = 0.75  # half-sizes of the box
START_SCATTER, LEAST_SCATTER = 0.1, 0.01  # of the width: scatter of the spots about the profile
MEDIAN_CHI2 = 2.366  # of three degrees of freedom
TUKEY = 8.0  # standard deviations at which the biweight of a spot becomes zero
MOST_ITERATIONS = 20
SMALLEST_STEP = 1e-6  # of the largest coefficient
DIGITS = 8  # of the coefficients: reflection files hold them as text


@dataclass(frozen=True)
class Profile:
    """Second central moments (sxx, sxy, syy), px^2, as polynomials of the place about the origin in units of `scale`.

    basis: "constant", an ellipse; "radial", with terms that grow with the squared radius, differently along and across
    it; "radial quartic", with the fourth power too; "quadratic", with any polynomial of second degree besides.
    scatter: relative rms of the spots' widths about it, beyond their errors; spots: how many taught it.
    """

    basis: str
    origin: tuple[float, float]
    scale: float
    coefficients: tuple[float, ...]
    narrowest: float
    widest: float
    scatter: float
    spots: int

    def shape_at(self, positions):
        """Shapes (n, 3): p, r, s of the Gaussian at positions (n, 2), px."""
        moments = _design(positions, self.basis, self.origin, self.scale) @ self.coefficients
        return shape_from_covariance(*_bounded(moments, self.narrowest, self.widest).T)


def _design(positions, basis, origin, scale):
    """Matrices (n, 3, terms) that make second moments of coefficients."""
    place = (np.asarray(positions, float) - origin) / scale
    constant = np.tile(np.eye(3), (len(place), 1, 1))
    if basis == "constant":
        return constant
    x, y = place.T
    r2 = np.sum(place**2, axis=1)[:, None, None]
    round_ = np.tile(np.array([[1.0], [0.0], [1.0]]), (len(place), 1, 1))
    radial = np.concatenate([r2 * round_, np.stack([x * x, x * y, y * y], axis=-1)[:, :, None]], axis=2)
    if basis == "quadratic":
        constant = np.einsum("nt,ij->nitj", monomials(x, y, 2), np.eye(3)).reshape(len(place), 3, 18)
        return np.concatenate([constant, r2 * radial], axis=2)
    quartic = [r2 * radial] if basis == "radial quartic" else []
    return np.concatenate([constant, radial, *quartic], axis=2)


def _bounded(moments, narrowest, widest):
    """Second moments (n, 3) with both principal widths between the bounds, px."""
    mean, half = (moments[:, 0] + moments[:, 2]) / 2, (moments[:, 0] - moments[:, 2]) / 2
    radius = np.hypot(half, moments[:, 1])
    large, small = (np.clip(mean + sign * radius, narrowest**2, widest**2) for sign in (1, -1))
    shrunk = (large - small) / np.maximum(2 * radius, 1e-300)
    mean = (large + small) / 2
    return np.stack([mean + half * shrunk, moments[:, 1] * shrunk, mean - half * shrunk], axis=-1)


def default(origin, image_shape, width, half):
    """The profile before anything is learned: round spots of `width` px everywhere; scatter 0."""
    moment = float(max(width, NARROWEST) ** 2)
    bounds = {"narrowest": NARROWEST, "widest": float(max(WIDEST * half, 2 * NARROWEST))}
    return Profile("constant", origin, max(image_shape) / 2, (moment, 0.0, moment), **bounds, scatter=0.0, spots=0)


def learn(positions, shapes, significance, *, default):
    """Profile from well-behaved fits: positions (n, 2), shapes (n, 3), volume over its standard deviation (n,).

    Robust least squares of the shapes' p, r e^-s, s, whose errors are symmetric, by polynomials of the second moments.
    A spot weighs 1 / (1 / significance^2 + scatter^2): the significance must come from fits with held shape, as a free
    fit that is too narrow also looks too significant. The basis is the richest that the number of spots allows, but
    "quadratic" only where its Bayesian information criterion is the smaller (Schwarz 1978). With fewer than three spots
    the profile is `default`, which also gives origin, scale and bounds.
    """
    chosen = np.argsort(-significance, kind="stable")[:MOST_SPOTS]
    positions, shapes, significance = positions[chosen], shapes[chosen], significance[chosen]
    allowed = [basis for basis, fewest in FEWEST_SPOTS.items() if len(positions) >= fewest]
    if not allowed:
        return default
    error2 = 1 / significance**2
    richest, criterion = _fitted(allowed[-1], positions, shapes, error2, default)
    if richest.basis != "quadratic":
        return richest
    plain, of_plain = _fitted(allowed[-2], positions, shapes, error2, default, richest.scatter)
    return plain if of_plain <= criterion else richest


def _fitted(basis, positions, shapes, error2, default, scatter=None):
    """The profile in one basis and its information criterion; the scatter is found where it is not given."""
    design = _design(positions, basis, default.origin, default.scale)
    found, moments = scatter is None, np.stack(covariance_from_shape(shapes), axis=-1)
    scatter = START_SCATTER if found else scatter
    coefficients = _least_squares(design, moments, 1 / (error2 + scatter**2))
    for _ in range(MOST_ITERATIONS):
        expected = _bounded(design @ coefficients, default.narrowest, default.widest)
        residual, slopes = _linearised(expected, shapes, design)
        deviation = np.sum(residual**2, axis=1)
        if found:
            scatter = max(LEAST_SCATTER**2, float(np.median(deviation / MEDIAN_CHI2 - error2))) ** 0.5
        distance = deviation / (error2 + scatter**2)
        robust = np.clip(1 - distance / TUKEY**2, 0.0, None) ** 2
        if not robust.any():
            break
        step = _least_squares(slopes, residual, robust / (error2 + scatter**2))
        coefficients = coefficients + step
        if np.max(np.abs(step)) < SMALLEST_STEP * np.max(np.abs(coefficients)):
            break
    loss = TUKEY**2 / 3 * np.sum(1 - np.clip(1 - distance / TUKEY**2, 0.0, None) ** 3)
    criterion = loss + design.shape[2] * np.log(3 * len(design))
    coefficients = tuple(float(f"{value:.{DIGITS}g}") for value in coefficients)
    return replace(
        default, basis=basis, coefficients=coefficients, scatter=float(scatter), spots=len(design)
    ), criterion


def _linearised(moments, shapes, design):
    """Residuals (n, 3) of p, r e^-s, s against those of expected moments, and the derivatives (n, 3, terms)."""
    expected, step = shape_from_covariance(*moments.T), 1e-4 * moments[:, [0]]
    scale = np.stack([np.ones(len(shapes)), np.exp(-expected[:, 2]), np.ones(len(shapes))], axis=1)
    slopes = np.stack([shape_from_covariance(*(moments + step * axis).T) - expected for axis in np.eye(3)], axis=2)
    slopes *= scale[:, :, None] / step[:, :, None]
    return (shapes - expected) * scale, slopes @ design


def _least_squares(design, values, weight):
    """Coefficients of the weighted least-squares fit of design @ coefficients (n, 3) to values."""
    weighted = design * weight[:, None, None]
    rows, columns = design.reshape(-1, design.shape[2]), weighted.reshape(-1, design.shape[2])
    normal = columns.T @ rows
    ridge = 1e-9 * np.trace(normal) * np.eye(len(normal))
    return np.linalg.solve(normal + ridge, columns.T @ values.ravel())
