"""The shape of the spots as a smooth function of the place on the image, learned from the strong spots."""

from dataclasses import dataclass

import numpy as np

from .gaussian import covariance_from_shape, shape_from_covariance
from .polynomials import monomials

FEWEST_SPOTS = {"quadratic": 60, "radial": 5, "constant": 3}
NARROWEST = 0.4  # px, the smallest width of a spot that pixels can resolve


@dataclass(frozen=True)
class Profile:
    """Second central moments (sxx, sxy, syy), px^2, as polynomials of the place about the origin in units of `scale`.

    basis: "constant", an ellipse; "radial", with moments that grow with the squared radius, differently along and
    across it; "quadratic", with any polynomial of second degree and radial terms of the fourth.
    coefficients (terms,); scatter: relative rms of the spots' moments about it; spots: how many taught it.
    """

    basis: str
    origin: tuple[float, float]
    scale: float
    coefficients: np.ndarray
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
    if basis == "radial":
        return np.concatenate([constant, radial], axis=2)
    quadratic = np.einsum("nt,ij->nitj", monomials(x, y, 2), np.eye(3)).reshape(len(place), 3, 18)
    return np.concatenate([quadratic, r2 * radial], axis=2)


def _bounded(moments, narrowest, widest):
    """Second moments (n, 3) with both principal widths between the bounds, px."""
    matrix = np.stack([moments[:, [0, 1]], moments[:, [1, 2]]], axis=1)
    value, vector = np.linalg.eigh(matrix)
    value = np.clip(value, narrowest**2, widest**2)
    matrix = (vector * value[:, None, :]) @ vector.transpose(0, 2, 1)
    return np.stack([matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 1]], axis=-1)


def learn(positions, shapes, significance, *, origin, image_shape, box_size):
    """Profile from well-behaved fits: positions (n, 2), shapes (n, 3), volume over its standard deviation (n,).

    Weighted robust least squares of the second moments; the weight of a spot grows with its significance up to the
    real scatter of the widths. With fewer spots the basis is simpler; with fewer than three it is a round spot of a
    third of BoxSize.
    """
    scale = max(image_shape) / 2
    bounds = {"narrowest": NARROWEST, "widest": max(box_size, 2 * NARROWEST)}
    basis = next((name for name, fewest in FEWEST_SPOTS.items() if len(positions) >= fewest), None)
    if basis is None:
        default = np.array([1.0, 0.0, 1.0]) * max(box_size / 3, NARROWEST) ** 2
        return Profile("constant", origin, scale, default, **bounds, scatter=np.nan, spots=0)
    design = _design(positions, basis, origin, scale)
    moments = np.stack(covariance_from_shape(shapes), axis=-1)
    size = np.sqrt(np.abs(moments[:, 0] * moments[:, 2] - moments[:, 1] ** 2))
    robust, scatter = np.ones(len(moments)), 0.1
    for _ in range(20):
        weight = robust / (size**2 * (2 / significance**2 + scatter**2))
        coefficients = _least_squares(design, moments, weight)
        size = np.sqrt(np.prod(_bounded(design @ coefficients, **bounds)[:, [0, 2]], axis=1))
        deviation = np.linalg.norm(moments - design @ coefficients, axis=1) / size
        scatter = max(0.01, float(np.median(deviation)) / 1.54)
        robust = np.clip(1 - (deviation / (6 * scatter)) ** 2, 0.0, None) ** 2 + 1e-9
    return Profile(basis, origin, scale, coefficients, **bounds, scatter=scatter, spots=len(positions))


def _least_squares(design, moments, weight):
    """Coefficients of the weighted least-squares fit of design @ coefficients to the moments."""
    weighted = design * weight[:, None, None]
    normal = np.einsum("nit,niu->tu", weighted, design)
    ridge = 1e-9 * np.trace(normal) * np.eye(len(normal))
    return np.linalg.solve(normal + ridge, np.einsum("nit,ni->t", weighted, moments))
