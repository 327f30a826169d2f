"""Fits of a rotated two-dimensional Gaussian on a tilted plane to many boxes at once.

f(x, y) = A exp(-q/2) + C + Px dx + Py dy,  q = a (dx-cx)^2 + 2 b (dx-cx)(dy-cy) + c (dy-cy)^2

The precision matrix (a, b, c) is written as a Cholesky product, a = e^2p, b = r e^p, c = r^2 + e^2s, so that every
(p, r, s) is a Gaussian. The linear parameters A, C, Px, Py are projected out (variable projection: Golub & Pereyra
1973, with Kaufman's 1975 Jacobian), the five others damped after Levenberg and Marquardt. All derivatives are the
Gaussian times polynomials of the pixel's place in the box, hence the normal matrices are made of polynomial moments
of w G^2, w G and w y G: three matrix products for all boxes. docs/algorithm.md has the equations.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from .boxes import grid
from .polynomials import monomials, normal_matrix

CHUNK = 512
MOST_ITERATIONS = 40
RIDGE = 1e-9  # of the diagonal: far above rounding, far below what any fit determines
NARROWEST = 0.25  # px; the fit goes no further, nor beyond twice the half-size of the box
LARGEST_STEP = np.array([0.25, 0.25, 0.4, 0.4, 0.4])  # of cx, cy (half-sizes of the box), p, r/(1 + |r|), s


@dataclass(frozen=True)
class Fits:
    """Results for n boxes; px and counts; centres relative to the pixel (x0, y0) of the box until `moved` is called.

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
        return 2 * np.pi * self.amplitude * np.exp(-self.shape[:, 0] - self.shape[:, 2])

    @property
    def volume_variance(self):
        """Propagated variance of the volume, counts^2."""
        gradient = np.zeros((len(self), 9))
        per_height = 2 * np.pi * np.exp(-self.shape[:, 0] - self.shape[:, 2])
        gradient[:, 0] = per_height
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
    return np.exp(-0.5 * (_quadratic(centre, shape) @ monomials(dx, dy, 2).T))


def plane(half, coefficients):
    """C + Px dx + Py dy on the pixels of the boxes, (n, side^2); coefficients (n, 3)."""
    return coefficients @ monomials(*grid(half), 1).T


def model(half, fits):
    """Expected counts of the pixels of the boxes, (n, side^2)."""
    return fits.amplitude[:, None] * gaussian(half, fits.centre, fits.shape) + plane(half, fits.plane)


def fit(boxes, weights, start_centre, start_shape):
    """Least-squares fits with fixed pixel weights (n, side^2), 1/variance; 0 takes a pixel out.

    start_centre (n, 2) relative to (x0, y0), px; start_shape (n, 3). Boxes must have more than 9 pixels of weight.
    """
    return _in_chunks(boxes, weights, lambda problem, rows: problem.solve(start_centre[rows], start_shape[rows]))


def fit_linear(boxes, weights, centre, shape):
    """Amplitude and plane with centre and shape held: linear least squares, covariance of A, C, Px, Py only."""
    return _in_chunks(boxes, weights, lambda problem, rows: problem.hold(centre[rows], shape[rows]))


def _in_chunks(boxes, weights, solve):
    """Fits of all boxes by `solve(problem, rows)`, CHUNK boxes at a time."""
    starts = range(0, len(boxes), CHUNK)
    parts = [slice(first, first + CHUNK) for first in starts]
    problems = (_Problem(boxes.half, boxes.values[rows], weights[rows]) for rows in parts)
    return Fits.joined([solve(problem, rows) for problem, rows in zip(problems, parts, strict=True)])


def _quadratic(centre, shape):
    """Coefficients (n, 6) of q in the monomials 1, x, y, x^2, xy, y^2."""
    a, b, c = _precision(shape)
    cx, cy = centre[:, 0], centre[:, 1]
    constant = a * cx * cx + 2 * b * cx * cy + c * cy * cy
    return np.stack([constant, -2 * (a * cx + b * cy), -2 * (b * cx + c * cy), a, 2 * b, c], axis=-1)


def _derivatives(centre, shape):
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


class _Problem:
    """Weighted least squares of a chunk of boxes, in coordinates scaled by the half-size of the box."""

    def __init__(self, half, values, weights):
        dx, dy = grid(half)
        self.half = half
        self.grids = [monomials(dx / half, dy / half, degree) for degree in range(5)]
        self.weights = weights
        total = weights.sum(axis=1)
        self.level = np.sum(weights * values, axis=1) / np.where(total > 0, total, 1)
        self.weighted = weights * (values - self.level[:, None])
        self.square = np.sum(self.weighted * (values - self.level[:, None]), axis=1)
        self.plane_moments = weights @ self.grids[2]
        self.plane_right = self.weighted @ self.grids[1]
        self.dof = np.count_nonzero(weights, axis=1) - 9
        narrow, wide = np.log(half / NARROWEST), np.log(0.5)
        self.lowest = np.array([-1.2, -1.2, wide, -np.inf, wide])
        self.highest = np.array([1.2, 1.2, narrow, np.inf, narrow])

    def evaluate(self, rows, centre, shape):
        """Best linear parameters (m, 4), chi2 (m,), gradient (m, 5) and Schur-complement normal matrix (m, 5, 5)."""
        g = np.exp(-0.5 * (_quadratic(centre, shape) @ self.grids[2].T))
        wg = self.weights[rows] * g
        gg = normal_matrix((wg * g) @ self.grids[4], 2, 2)
        gp = normal_matrix(wg @ self.grids[3], 2, 1)
        gy = (self.weighted[rows] * g) @ self.grids[2]
        pp = normal_matrix(self.plane_moments[rows], 1, 1)
        linear = np.empty((len(rows), 4, 4))
        linear[:, 0, 0], linear[:, 0, 1:], linear[:, 1:, 0], linear[:, 1:, 1:] = gg[:, 0, 0], gp[:, 0], gp[:, 0], pp
        right = np.concatenate([gy[:, :1], self.plane_right[rows]], axis=1)
        solution = _solve(linear, right)
        chi2 = self.square[rows] - np.sum(solution * right, axis=1)
        slopes = solution[:, :1, None] * _derivatives(centre, shape)
        unexplained = gy - solution[:, :1] * gg[:, 0] - np.einsum("nij,nj->ni", gp, solution[:, 1:])
        gradient = np.einsum("nij,nj->ni", slopes, unexplained)
        mixed = slopes @ np.concatenate([gg[:, :, :1], gp], axis=2)
        full = slopes @ gg @ slopes.transpose(0, 2, 1)
        return solution, chi2, gradient, full, mixed, linear

    def solve(self, start_centre, start_shape):
        """Damped iterations; a box leaves the batch when it has converged."""
        n = len(self.weights)
        log_half = np.log(self.half) * np.array([1.0, 0.0, 1.0])
        theta = np.concatenate([start_centre / self.half, start_shape + log_half], axis=1)
        theta[:, 3] *= self.half
        damping, converged = np.full(n, 1e-3), np.zeros(n, bool)
        active = np.arange(n)
        state = self.evaluate(active, theta[:, :2], theta[:, 2:])
        for _ in range(MOST_ITERATIONS):
            _, chi2, gradient, full, mixed, linear = state
            normal = full - mixed @ _solve(linear, mixed.transpose(0, 2, 1))
            step, promised = _damped_step(normal, gradient, damping[active], theta[active])
            done = promised <= 1e-9 * np.maximum(chi2, 1e-300) + 1e-12 * self.square[active]
            converged[active[done]] = True
            if done.all():
                break
            keep = ~done
            active, step, state = active[keep], step[keep], tuple(part[keep] for part in state)
            trial = np.clip(theta[active] + step, self.lowest, self.highest)
            new = self.evaluate(active, trial[:, :2], trial[:, 2:])
            better = (new[1] < state[1]) & np.isfinite(new[1])
            theta[active[better]] = trial[better]
            damping[active] = np.clip(damping[active] * np.where(better, 0.1, 10.0), 1e-9, 1e9)
            state = tuple(
                np.where(better.reshape(-1, *[1] * (old.ndim - 1)), fresh, old)
                for fresh, old in zip(new, state, strict=True)
            )
        return self._finish(theta, converged)

    def hold(self, centre, shape):
        """The fits with centre and shape as given, px."""
        scaled = shape + np.log(self.half) * np.array([1.0, 0.0, 1.0])
        scaled[:, 1] = shape[:, 1] * self.half
        theta = np.concatenate([centre / self.half, scaled], axis=1)
        return self._finish(theta, np.ones(len(theta), bool), held=True)

    def _finish(self, theta, converged, *, held=False):
        rows = np.arange(len(theta))
        solution, chi2, _, full, mixed, linear = self.evaluate(rows, theta[:, :2], theta[:, 2:])
        normal = np.zeros((len(theta), 9, 9))
        normal[:, :4, :4] = linear
        if held:
            covariance = np.zeros_like(normal)
            covariance[:, :4, :4] = _inverse(linear)
        else:
            normal[:, 4:, 4:], normal[:, 4:, :4], normal[:, :4, 4:] = full, mixed, mixed.transpose(0, 2, 1)
            covariance = _inverse(normal)
        h = self.half
        scale = np.array([1, 1, 1 / h, 1 / h, h, h, 1, 1 / h, 1])
        plane = solution[:, 1:] / np.array([1, h, h])
        plane[:, 0] += self.level
        shape = theta[:, 2:] - np.log(h) * np.array([1.0, 0.0, 1.0])
        shape[:, 1] = theta[:, 3] / h
        return Fits(
            amplitude=solution[:, 0],
            plane=plane,
            centre=theta[:, :2] * h,
            shape=shape,
            covariance=covariance * scale[:, None] * scale,
            chi2=np.maximum(chi2, 0.0),
            dof=self.dof + 5 if held else self.dof,
            converged=converged,
            held=np.full(len(theta), held),
        )


def _damped_step(normal, gradient, damping, theta):
    """Levenberg-Marquardt step within LARGEST_STEP, and the decrease of chi2 that the linear model promises."""
    diagonal = np.einsum("nii->ni", normal)
    lift = damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    step = _solve(normal + lift[:, :, None] * np.eye(5), gradient)
    limit = np.tile(LARGEST_STEP, (len(theta), 1))
    limit[:, 3] *= 1 + np.abs(theta[:, 3])
    step *= np.minimum(1.0, 1 / np.maximum(np.max(np.abs(step) / limit, axis=1, keepdims=True), 1e-300))
    promised = 2 * np.sum(step * gradient, axis=1) - np.einsum("ni,nij,nj->n", step, normal, step)
    return step, promised


def _solve(matrix, right):
    """Solutions of symmetric positive systems scaled to a unit diagonal, kept regular by RIDGE."""
    diagonal = np.einsum("nii->ni", matrix)
    scale = np.where(diagonal > 1e-200, 1 / np.sqrt(np.maximum(diagonal, 1e-200)), 0.0)
    scaled = matrix * scale[:, :, None] * scale[:, None, :] + RIDGE * np.eye(matrix.shape[1])
    vector = right.ndim == 2
    columns = (right[..., None] if vector else right) * scale[:, :, None]
    solution = np.linalg.solve(scaled, columns) * scale[:, :, None]
    return solution[..., 0] if vector else solution


def _inverse(matrix):
    identity = np.broadcast_to(np.eye(matrix.shape[1]), matrix.shape)
    return _solve(matrix, identity)
