"""The shape of the spots as a smooth function of the place on the image, learned from the strong spots."""

from dataclasses import dataclass, replace

import numpy as np

from .gaussian import log_widths, log_widths_variance, shape_from_log_widths
from .polynomials import monomials

FEWEST_SPOTS = 3
MOST_SPOTS = 1000  # that teach; of more the most significant
DEGREE = 3  # of the polynomials
NARROWEST = 0.4  # px, the smallest width of a spot that pixels can resolve
WIDEST = 0.75  # half-sizes of the box
START_SCATTER, LEAST_SCATTER = 0.02, 0.001  # of the width: scatter of the spots about the profile
RADIAL, OTHER = 0.3, 0.1  # of the width: coefficients of the radius and of other terms before anything is known
RADII = [0.0, 0.35, 0.7, 1.05, 1.4]  # units of scale, at which the error is kept; the corners of a square have 1.41
AZIMUTHS = 12
WIDE_OPEN = 100.0  # of the logarithm of the width: the prior of its mean
TUKEY = 8.0  # standard deviations at which the biweight of a spot becomes zero
CONSISTENT = 0.93668  # variance of three normal variables that the biweight leaves: mean of w x^2 over that of w
ITERATIONS = 12
DIGITS = 6  # after the point, of the coefficients: reflection files hold them as text


@dataclass(frozen=True)
class Profile:
    """Logarithmic widths (g, u, v) as functions of the place about the origin in units of `scale`.

    coefficients: of the functions `_terms` for g, then for u, then for v; reach: largest distance of a spot that taught
    it, beyond which widths only grow linearly; narrowest, widest: bounds of the widths, px.
    scatter: relative rms of the spots' mean widths about it, beyond their errors; errors: its own, at the RADII; spots:
    how many taught it; straying: rms distance of a coordinate of their centres from the lattice, px, beyond
    its error.
    """

    origin: tuple[float, float]
    scale: float
    coefficients: tuple[float, ...]
    reach: float
    narrowest: float
    widest: float
    scatter: float
    errors: tuple[float, ...]
    spots: int
    straying: float

    def error_at(self, positions):
        """Its own relative error of the mean width (n,) at positions (n, 2), px."""
        radius = np.linalg.norm(np.asarray(positions, float) - self.origin, axis=1) / self.scale
        return np.interp(radius, RADII, self.errors)

    def uncertainty_at(self, positions):
        """Relative standard deviation (n,) of a spot's mean width about what is said of it."""
        return np.hypot(self.scatter, self.error_at(positions))

    def shape_at(self, positions):
        """Shapes (n, 3): p, r, s of the Gaussian at positions (n, 2), px."""
        coefficients = np.reshape(self.coefficients, (3, -1))
        place = (np.asarray(positions, float) - self.origin) / self.scale
        radius = np.linalg.norm(place, axis=1)
        terms, _ = _terms(place * np.minimum(1, self.reach / np.maximum(radius, 1e-300))[:, None])
        logs = terms[:, : coefficients.shape[1]] @ coefficients.T
        logs[:, 0] += np.log1p(self._slope * np.maximum(radius - self.reach, 0))
        return shape_from_log_widths(self._bounded(logs))

    @property
    def _slope(self):
        """Relative growth of the width with the radius at the reach, by the terms of the radius; never below 0."""
        width = np.reshape(self.coefficients, (3, -1))[0]
        return max(width[1] + 2 * width[2] * self.reach, 0.0) if len(width) > 1 else 0.0

    def _bounded(self, logs):
        """Logarithmic widths (n, 3) with both principal widths between the bounds."""
        mean, half = logs[:, 0], np.hypot(logs[:, 1], logs[:, 2])
        low, high = np.log(self.narrowest), np.log(self.widest)
        large, small = np.clip(mean + half, low, high), np.clip(mean - half, low, high)
        shrunk = (large - small) / np.maximum(2 * half, 1e-300)
        return np.column_stack([(large + small) / 2, logs[:, 1] * shrunk, logs[:, 2] * shrunk])


def _terms(place):
    """Functions (n, terms) of places (n, 2), and the group of each: 0 for 1, 1 for r and r^2, d + 1 for degree d.

    Polynomials, and polynomials times the radius r: widths that grow with it have a tip at the origin.
    """
    polynomials, radius = monomials(*np.asarray(place).T, DEGREE), np.linalg.norm(place, axis=1)[:, None]
    degree = np.repeat(np.arange(DEGREE + 1), np.arange(1, DEGREE + 2))
    lower, above = (degree > 0) & (degree < DEGREE), degree > 0
    parts = [polynomials[:, :1], radius, radius**2, polynomials[:, above], radius * polynomials[:, lower]]
    groups = [[0, 1, 1], degree[above] + 1, degree[lower] + 2]
    return np.concatenate(parts, axis=1), np.concatenate(groups)


def default(origin, image_shape, width, half):
    """The profile before anything is learned: round spots of `width` px everywhere, without scatter or error."""
    bounds = {"narrowest": NARROWEST, "widest": float(max(WIDEST * half, 2 * NARROWEST))}
    logs = (round(float(np.log(max(width, NARROWEST))), DIGITS), 0.0, 0.0)
    return Profile(
        origin,
        max(image_shape) / 2,
        logs,
        reach=0.0,
        **bounds,
        scatter=0.0,
        errors=(0.0,) * len(RADII),
        spots=0,
        straying=0.0,
    )


def learn(positions, fits, significance, *, default):
    """Profile from well-behaved free fits at positions (n, 2), and the significance (n,) of fits with held shape.

    Bayesian linear regression of the logarithmic widths, robust against outliers. The coefficients of every group
    have a normal prior whose variance, like the scatter of the spots, is the one that makes the data most probable
    (evidence: MacKay 1992, Neural Computation 4, 415): where few spots teach, or where the shape is the same
    everywhere, most of them vanish. With fewer than three spots the profile is `default`, which also gives origin,
    scale and bounds.
    """
    chosen = np.argsort(-significance, kind="stable")[:MOST_SPOTS]
    if len(chosen) < FEWEST_SPOTS:
        return default
    fits, error2 = fits[chosen], _squared_errors(fits[chosen], significance[chosen])
    place = (positions[chosen] - default.origin) / default.scale
    terms, group = _terms(place)
    logs, scatter2, robust = log_widths(fits.shape), np.full(3, START_SCATTER**2), np.ones(len(chosen))
    members = group == np.arange(DEGREE + 2)[:, None]
    variation = np.full((3, DEGREE + 2), OTHER**2)
    variation[:, 0], variation[0, 1] = WIDE_OPEN**2, RADIAL**2
    for _ in range(ITERATIONS):
        weight = robust[:, None] / (error2 + scatter2)
        covariance = np.linalg.inv(_normal(terms, weight) + np.eye(len(group)) / variation[:, group][:, None])
        coefficients = np.einsum("itu,iu->it", covariance, (weight * logs).T @ terms)
        square = (logs - terms @ coefficients.T) ** 2
        robust = np.clip(1 - np.sum(square / (error2 + scatter2), axis=1) / TUKEY**2, 0.0, None) ** 2
        if not robust.any():
            return default
        importance = robust[:, None] / (error2 + scatter2) ** 2
        taken_up = np.sum(covariance * _normal(terms, importance), axis=(1, 2))
        excess = np.sum(importance * (square / CONSISTENT - error2), axis=0) + taken_up
        scatter2 = np.maximum(excess / np.sum(importance, axis=0), LEAST_SCATTER**2)
        second = coefficients**2 + np.einsum("itt->it", covariance)
        variation[:, 1:] = ((second @ members.T) / members.sum(axis=1))[:, 1:]
    return replace(
        default,
        coefficients=tuple(round(float(value), DIGITS) for value in coefficients.ravel()),
        reach=round(float(np.max(np.linalg.norm(place, axis=1))), DIGITS),
        scatter=float(scatter2[0] ** 0.5),
        errors=tuple(round(float(error), DIGITS) for error in _errors(covariance[0])),
        spots=len(chosen),
    )


def _errors(covariance):
    """Rms errors of g at the RADII for a covariance (terms, terms) of its coefficients."""
    azimuth = 2 * np.pi * np.arange(AZIMUTHS) / AZIMUTHS
    circle = np.column_stack([np.cos(azimuth), np.sin(azimuth)])
    for radius in RADII:
        terms, _ = _terms(radius * circle)
        yield np.mean(np.sum((terms @ covariance) * terms, axis=1)) ** 0.5


def _normal(terms, weight):
    """Normal matrices (3, terms, terms) of the three logarithmic widths for weights (n, 3)."""
    return np.stack([(terms * column[:, None]).T @ terms for column in weight.T])


def _squared_errors(fits, significance):
    """Variances (n, 3) of the logarithmic widths of free fits.

    A fit that is too narrow by chance also gives too small an error and too large a significance. Their product does
    not follow chance, so the error is taken from it and from the significance of the fit with held shape.
    """
    held = np.linalg.inv(np.linalg.inv(fits.covariance)[:, :4, :4])[:, 0, 0]
    product = log_widths_variance(fits) * (fits.amplitude**2 / held)[:, None]
    return product / significance[:, None] ** 2
