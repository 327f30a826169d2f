"""A rotated two-dimensional Gaussian on a tilted plane: its shape, its pixels, and what fits of it are made of.

f(x, y) = A exp(-q/2) + C + Px dx + Py dy,  q = a (dx-cx)^2 + 2 b (dx-cx)(dy-cy) + c (dy-cy)^2

The precision matrix (a, b, c) is written as a Cholesky product, a = e^2p, b = r e^p, c = r^2 + e^2s, so that every
(p, r, s) is a Gaussian.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from .boxes import grid
from .polynomials import monomials


@dataclass(frozen=True)
class Fits:
    """Results for n boxes; px and counts; centres relative to the pixel (x0, y0) of the box.

    shape (n, 3): p, r, s of the precision matrix in px; covariance (n, 9, 9) of A, C, Px, Py, x, y, p, r, s;
    chi2 (n,): weighted sum of squares; dof (n,); converged (n,): bool; held (n,): centre and shape were given.
    """

    amplitude: np.ndarray
    plane: np.ndarray
    centre: np.ndarray
    shape: np.ndarray
    covariance: np.ndarray
    chi2: np.ndarray
    dof: np.ndarray
    converged: np.ndarray
    held: np.ndarray

    def __len__(self):
        return len(self.amplitude)

    def __getitem__(self, rows):
        return Fits(*(getattr(self, field.name)[rows] for field in fields(self)))

    def replaced(self, rows, other):
        """A copy with `rows` taken from the fits `other` (len(rows))."""
        columns = {field.name: getattr(self, field.name).copy() for field in fields(self)}
        for name, column in columns.items():
            column[rows] = getattr(other, name)
        return replace(self, **columns)

    @staticmethod
    def missing(n):
        """n boxes without a fit: NaN."""
        sizes = {"amplitude": (), "plane": (3,), "centre": (2,), "shape": (3,), "covariance": (9, 9), "chi2": ()}
        columns = {name: np.full((n, *size), np.nan) for name, size in sizes.items()}
        return Fits(**columns, dof=np.zeros(n, int), converged=np.zeros(n, bool), held=np.zeros(n, bool))

    @staticmethod
    def joined(parts):
        """One set of fits from several."""
        return Fits(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Fits)))

    @property
    def volume(self):
        """2 pi A Bx By, counts."""
        return self.amplitude * area(self.shape)

    @property
    def volume_variance(self):
        """Propagated variance of the volume, counts^2."""
        gradient = np.zeros((len(self), 9))
        gradient[:, 0] = area(self.shape)
        gradient[:, 6] = gradient[:, 8] = -self.volume
        return np.einsum("ni,nij,nj->n", gradient, self.covariance, gradient)

    @property
    def significance(self):
        """Volume over its standard deviation, (n,); 0 where there is no fit."""
        variance = self.volume_variance
        known = variance > 0
        return np.where(known, self.volume, 0.0) / np.sqrt(np.where(known, variance, 1.0))

    @property
    def reduced_chi2(self):
        """chi2 over the degrees of freedom."""
        return self.chi2 / np.maximum(self.dof, 1)

    def reshaped(self, shape):
        """The fits with other shapes (n, 3) and the same volumes."""
        return replace(self, amplitude=self.volume / area(shape), shape=shape)


def area(shape):
    """Volume over height, 2 pi Bx By, px^2, of Gaussians with shape (p, r, s)."""
    return 2 * np.pi * np.exp(-shape[..., 0] - shape[..., 2])


def shape_from_covariance(sxx, sxy, syy):
    """(p, r, s) of Gaussians with the given second central moments, px^2."""
    determinant = sxx * syy - sxy**2
    a, b, c = syy / determinant, -sxy / determinant, sxx / determinant
    root = np.sqrt(a)
    return np.stack([np.log(root), b / root, 0.5 * np.log(c - b * b / a)], axis=-1)


def shape_from_widths(large, small, angle):
    """(p, r, s) of Gaussians with principal widths, px, the larger at `angle` degrees against x."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    sxx, syy = (large * cos) ** 2 + (small * sin) ** 2, (large * sin) ** 2 + (small * cos) ** 2
    return shape_from_covariance(sxx, (large**2 - small**2) * sin * cos, syy)


def covariance_from_shape(shape):
    """Second central moments (sxx, sxy, syy), px^2, of Gaussians with shape (p, r, s)."""
    a, b, c = _precision(shape)
    determinant = np.exp(2 * (shape[..., 0] + shape[..., 2]))
    return c / determinant, -b / determinant, a / determinant


def log_widths(shape):
    """Logarithms (n, 3) of the widths of Gaussians: their mean g, and their half difference h as h cos 2w, h sin 2w."""
    sxx, sxy, syy = covariance_from_shape(shape)
    mean, radius = (sxx + syy) / 2, np.hypot((sxx - syy) / 2, sxy)
    half = np.arctanh(radius / mean) / 2
    cos, sin = np.where(radius > 0, [(sxx - syy) / 2, sxy], 0.0) / np.maximum(radius, 1e-300)
    return np.stack([-(shape[..., 0] + shape[..., 2]) / 2, half * cos, half * sin], axis=-1)


def shape_from_log_widths(logs):
    """(p, r, s) of Gaussians whose widths have the given logarithms (n, 3)."""
    g, u, v = np.moveaxis(logs, -1, 0)
    half, square = np.hypot(u, v), np.exp(2 * g)
    slope = square * np.where(half > 0, np.sinh(2 * half) / np.where(half > 0, half, 1.0), 2.0)
    mean = square * np.cosh(2 * half)
    return shape_from_covariance(mean + slope * u, slope * v, mean - slope * u)


def log_widths_variance(fits):
    """Variances (n, 3) of the logarithms of the widths of free fits."""
    step = 1e-4
    slopes = [log_widths(fits.shape + step * axis) - log_widths(fits.shape - step * axis) for axis in np.eye(3)]
    jacobian = np.stack(slopes, axis=-1) / (2 * step)
    return np.einsum("nij,njk,nik->ni", jacobian, fits.covariance[:, 6:, 6:], jacobian)


def widths(shape):
    """Principal widths Bx >= By, px, and the angle w of Bx against x, -90 < w <= 90 degrees."""
    sxx, sxy, syy = covariance_from_shape(shape)
    mean, half_difference = (sxx + syy) / 2, (sxx - syy) / 2
    radius = np.hypot(half_difference, sxy)
    large = mean + radius
    small = np.exp(-2 * (shape[..., 0] + shape[..., 2])) / large
    angle = np.degrees(0.5 * np.arctan2(sxy, half_difference))
    return np.sqrt(large), np.sqrt(small), np.where(angle <= -90, 90.0, angle)


def _precision(shape):
    p, r, s = np.moveaxis(np.asarray(shape), -1, 0)
    return np.exp(2 * p), r * np.exp(p), r * r + np.exp(2 * s)


def gaussian(half, centre, shape):
    """exp(-q/2) on the pixels of the boxes, (n, side^2); centre (n, 2) relative to (x0, y0), px."""
    dx, dy = grid(half)
    return np.exp(-0.5 * (quadratic(centre, shape) @ monomials(dx, dy, 2).T))


def unit_volume(half, centre, shape):
    """The Gaussian of volume 1 on the pixels of the boxes, (n, side^2)."""
    return gaussian(half, centre, shape) / area(shape)[:, None]


def plane(half, coefficients):
    """C + Px dx + Py dy on the pixels of the boxes, (n, side^2); coefficients (n, 3)."""
    return coefficients @ monomials(*grid(half), 1).T


def peak(half, fits):
    """Expected counts above the plane, (n, side^2)."""
    return fits.amplitude[:, None] * gaussian(half, fits.centre, fits.shape)


def parts(half, fits):
    """Expected counts of the pixels of the boxes, (n, side^2), of the plane and of the peak above it."""
    return plane(half, fits.plane), peak(half, fits)


def model(half, fits):
    """Expected counts of the pixels of the boxes, (n, side^2)."""
    return sum(parts(half, fits))


def quadratic(centre, shape):
    """Coefficients (n, 6) of q in the monomials 1, x, y, x^2, xy, y^2."""
    a, b, c = _precision(shape)
    cx, cy = centre[:, 0], centre[:, 1]
    constant = a * cx * cx + 2 * b * cx * cy + c * cy * cy
    return np.stack([constant, -2 * (a * cx + b * cy), -2 * (b * cx + c * cy), a, 2 * b, c], axis=-1)


def derivatives(centre, shape):
    """Coefficients (n, 5, 6) of -1/2 dq/d(cx, cy, p, r, s) in the monomials up to degree 2."""
    a, b, c = _precision(shape)
    cx, cy = centre[:, 0], centre[:, 1]
    zero, one = np.zeros_like(cx), np.ones_like(cx)
    square_x = np.stack([cx * cx, -2 * cx, zero, one, zero, zero], -1)
    product = np.stack([cx * cy, -cy, -cx, zero, one, zero], -1)
    square_y = np.stack([cy * cy, zero, -2 * cy, zero, zero, one], -1)
    ep, r, e2s = np.exp(shape[:, 0]), shape[:, 1], np.exp(2 * shape[:, 2])
    d_cx = np.stack([-a * cx - b * cy, a, b, zero, zero, zero], -1)
    d_cy = np.stack([-b * cx - c * cy, b, c, zero, zero, zero], -1)
    d_p = -(ep**2)[:, None] * square_x - (r * ep)[:, None] * product
    d_r = -ep[:, None] * product - r[:, None] * square_y
    d_s = -e2s[:, None] * square_y
    return np.stack([d_cx, d_cy, d_p, d_r, d_s], axis=1)


def second_derivatives(centre, shape):
    """Coefficients (n, 5, 5, 6) of -1/2 d2q/d(cx, cy, p, r, s)2 in the monomials up to degree 2."""
    a, b, c = _precision(shape)
    ep, r, e2s = np.exp(shape[:, 0]), shape[:, 1], np.exp(2 * shape[:, 2])
    about_centre = np.zeros((len(shape), 5, 5, 6))  # in the monomials of x - cx, y - cy
    entries = {
        (0, 0): {0: -a}, (0, 1): {0: -b}, (1, 1): {0: -c},
        (0, 2): {1: 2 * a, 2: b}, (0, 3): {2: ep}, (1, 2): {1: b}, (1, 3): {1: ep, 2: 2 * r}, (1, 4): {2: 2 * e2s},
        (2, 2): {3: -2 * a, 4: -b}, (2, 3): {4: -ep}, (3, 3): {5: -1.0}, (4, 4): {5: -2 * e2s},
    }  # fmt: skip
    for (i, j), terms in entries.items():
        for term, value in terms.items():
            about_centre[:, i, j, term] = about_centre[:, j, i, term] = value
    return about_centre @ _shift(centre)[:, None]


def _shift(centre):
    """Matrices (n, 6, 6) from coefficients in the monomials of x - cx, y - cy to those of x, y."""
    cx, cy = centre.T
    shift = np.tile(np.eye(6), (len(cx), 1, 1))
    shift[:, 1, 0], shift[:, 2, 0] = -cx, -cy
    shift[:, 3, 0], shift[:, 3, 1] = cx * cx, -2 * cx
    shift[:, 4, 0], shift[:, 4, 1], shift[:, 4, 2] = cx * cy, -cy, -cx
    shift[:, 5, 0], shift[:, 5, 2] = cy * cy, -2 * cy
    return shift
