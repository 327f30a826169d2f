"""The shape of the spots as a smooth function of the place on the image, learned from the strong spots."""

from dataclasses import dataclass

import numpy as np

from .gaussian import covariance_from_shape, shape_from_covariance
from .polynomials import monomials

FEWEST_FOR_DEGREE = {2: 40, 1: 15, 0: 3}
NARROWEST = 0.4  # px, the smallest width of a spot that pixels can resolve


@dataclass(frozen=True)
class Profile:
    """Second central moments (sxx, sxy, syy), px^2, as polynomials of the position about `middle` in units of `scale`.

    coefficients (terms, 3); scatter: relative rms of the spots' widths about it; spots: how many taught it.
    """

    middle: tuple[float, float]
    scale: float
    coefficients: np.ndarray
    narrowest: float
    widest: float
    scatter: float
    spots: int

    def shape_at(self, positions):
        """Shapes (n, 3): p, r, s of the Gaussian at positions (n, 2), px."""
        terms = _terms(positions, self.middle, self.scale, _degree(len(self.coefficients)))
        return shape_from_covariance(*_bounded(terms @ self.coefficients, self.narrowest, self.widest).T)


def _degree(terms):
    return {1: 0, 3: 1, 6: 2}[terms]


def _terms(positions, middle, scale, degree):
    place = (np.asarray(positions, float) - middle) / scale
    return monomials(place[:, 0], place[:, 1], degree)


def _bounded(moments, narrowest, widest):
    """Second moments (n, 3) with both principal widths between the bounds, px."""
    matrix = np.stack([moments[:, [0, 1]], moments[:, [1, 2]]], axis=1)
    value, vector = np.linalg.eigh(matrix)
    value = np.clip(value, narrowest**2, widest**2)
    matrix = (vector * value[:, None, :]) @ vector.transpose(0, 2, 1)
    return np.stack([matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 1]], axis=-1)


def learn(positions, shapes, significance, *, image_shape, box_size):
    """Profile from well-behaved fits: positions (n, 2), shapes (n, 3), volume over its standard deviation (n,).

    Weighted robust least squares of the second moments; the weight of a spot grows with its significance up to the
    real scatter of the widths. With fewer spots the polynomial has a lower degree; with fewer than three it is a round
    spot of a third of BoxSize.
    """
    rows, columns = image_shape
    middle, scale = ((columns - 1) / 2, (rows - 1) / 2), max(rows, columns) / 2
    bounds = {"narrowest": NARROWEST, "widest": max(box_size, 2 * NARROWEST)}
    degree = next((d for d, fewest in FEWEST_FOR_DEGREE.items() if len(positions) >= fewest), None)
    if degree is None:
        default = max(box_size / 3, NARROWEST) ** 2
        return Profile(middle, scale, np.array([[default, 0.0, default]]), **bounds, scatter=np.nan, spots=0)
    terms = _terms(positions, middle, scale, degree)
    moments = np.stack(covariance_from_shape(shapes), axis=-1)
    size = np.sqrt(np.abs(moments[:, 0] * moments[:, 2] - moments[:, 1] ** 2))
    robust, scatter = np.ones(len(moments)), 0.1
    for _ in range(20):
        weight = robust / (size**2 * (2 / significance**2 + scatter**2))
        normal = terms.T @ (weight[:, None] * terms)
        coefficients = np.linalg.solve(
            normal + 1e-9 * np.trace(normal) * np.eye(len(normal)), terms.T @ (weight[:, None] * moments)
        )
        size = np.sqrt(np.prod(_bounded(terms @ coefficients, **bounds)[:, [0, 2]], axis=1))
        deviation = np.linalg.norm(moments - terms @ coefficients, axis=1) / size
        scatter = max(0.01, float(np.median(deviation)) / 1.54)
        robust = np.clip(1 - (deviation / (6 * scatter)) ** 2, 0.0, None) ** 2 + 1e-9
    return Profile(middle, scale, coefficients, **bounds, scatter=scatter, spots=len(positions))
