"""Weighted least-squares fits of the Gaussian on a plane to many boxes at once.

The linear parameters A, C, Px, Py are projected out (variable projection: Golub & Pereyra 1973, with Kaufman's 1975
Jacobian), the five others damped after Levenberg and Marquardt. All derivatives are the Gaussian times polynomials of
the pixel's place in the box, hence the normal matrices are made of polynomial moments of w G^2, w G and w y G: three
matrix products for all boxes. docs/algorithm.md has the equations.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .boxes import chunks
from .gaussian import Fits, derivatives, quadratic, second_derivatives
from .normalequations import inverse, solve
from .polynomials import box_monomials, collected, normal_matrix

BLOCK = 64  # boxes whose pixels stay in the processor's cache
CROWDED = 0.25  # share of a batch that has converged when it leaves
LARGEST_BIAS = 0.5  # standard deviations; beyond it an expansion of second order says nothing, nor where
UNDETERMINED = 0.5  # half-sizes of the box, or parts of a width, are the standard deviation of centre or shape
MOST_ITERATIONS, MOST_CRUDE_ITERATIONS = 40, 8
CRUDE, FINE = 1e-1, 1e-6  # decrease of chi2 over chi2 / dof that ends a fit: errors of 0.3 and 0.001 sigma
NARROWEST, WIDEST = 0.25, 2.0  # widths between px and half-sizes of the box
FARTHEST = 1.2  # half-sizes of the box: distance of the centre from the middle along x and y
LARGEST_STEP = np.array([0.2, 0.2, 0.2, 0.4, 0.2])  # of the free parameters of cx, cy, p, r, s


def fit(boxes, weights, start_centre, start_shape):
    """Least-squares fits with fixed pixel weights (n, side^2), 1/variance; 0 takes a pixel out.

    start_centre (n, 2) relative to (x0, y0), px; start_shape (n, 3). Boxes must have more than 9 pixels of weight.
    The bias of second order is taken off the parameters, that of the volume included.
    """
    problem = _Problem.of(boxes.half, boxes.values, weights)
    theta, state, converged = problem.solve(start_centre, start_shape, FINE, MOST_ITERATIONS)
    covariance = _covariance(state)
    bias = _limited(problem.bias(theta, state.solution[:, 0], covariance), covariance)
    return problem.fits(theta, state.solution, state.chi2, covariance, bias=bias, converged=converged)


def approach(boxes, weights, start_centre, start_shape):
    """As `fit`, to about a third of a standard deviation or as far as a few steps lead, for better weights.

    No covariance (NaN).
    """
    problem = _Problem.of(boxes.half, boxes.values, weights)
    theta, state, converged = problem.solve(start_centre, start_shape, CRUDE, MOST_CRUDE_ITERATIONS)
    unknown = np.full((len(theta), 9, 9), np.nan)
    return problem.fits(theta, state.solution, state.chi2, unknown, converged=converged)


def fit_linear(boxes, weights, centre, shape):
    """Amplitude and plane with centre and shape held: linear least squares, covariance of A, C, Px, Py only."""
    problem = _Problem.of(boxes.half, boxes.values, weights)
    solution, chi2, covariance = problem.hold(centre, shape)
    return problem.fits(_scaled(centre, shape, boxes.half), solution, chi2, covariance, held=True)


def covariance_at(boxes, weights, fits, reshaped):
    """Covariance (n, 9, 9) that free fits would have as `reshaped`: with other shapes and the same volumes."""
    problem = _Problem.of(boxes.half, boxes.values, weights)
    state = problem.evaluate(_scaled(reshaped.centre, reshaped.shape, boxes.half))
    ratio = (reshaped.amplitude / state.solution[:, 0])[:, None, None]
    covariance = _covariance(state._replace(full=state.full * ratio**2, mixed=state.mixed * ratio))
    scale = np.tile(_pixels(boxes.half), (len(fits), 1))
    scale[:, 0] = fits.amplitude / reshaped.amplitude
    return covariance * scale[:, :, None] * scale[:, None, :]


class _Bounds:
    """Maps free parameters u onto bounded ones, theta = middle + reach u / sqrt(1 + u^2), px in half-sizes of the box.

    theta: cx, cy, p, r, s. So no step leaves the bounds, and no answer is clipped.
    """

    def __init__(self, half):
        narrow, wide = np.log(half / NARROWEST), -np.log(WIDEST)
        lowest = np.array([-FARTHEST, -FARTHEST, wide, -half / NARROWEST, wide])
        highest = np.array([FARTHEST, FARTHEST, narrow, half / NARROWEST, narrow])
        self.middle, self.reach = (highest + lowest) / 2, (highest - lowest) / 2

    def free(self, theta):
        z = np.clip((theta - self.middle) / self.reach, -0.99, 0.99)
        return z / np.sqrt(1 - z * z)

    def bounded(self, free):
        return self.middle + self.reach * free / np.sqrt(1 + free * free)

    def slopes(self, free):
        """d theta / d u."""
        return self.reach * (1 + free * free) ** -1.5


class _State(NamedTuple):
    """What one evaluation finds for m boxes: all that a step, and at the end a Fits, is made of.

    solution (m, 4): A, C, Px, Py; chi2 (m,); gradient (m, 5) of -chi2/2 by theta; reduced (m, 5, 5): normal matrix of
    theta with the linear parameters projected out; full (m, 5, 5), mixed (m, 5, 4), linear (m, 4, 4): blocks of the
    whole normal matrix.
    """

    solution: np.ndarray
    chi2: np.ndarray
    gradient: np.ndarray
    reduced: np.ndarray
    full: np.ndarray
    mixed: np.ndarray
    linear: np.ndarray

    def taken(self, rows):
        return _State(*(part[rows] for part in self))

    def put(self, rows, other, chosen):
        for part, fresh in zip(self, other, strict=True):
            part[rows] = fresh[chosen]


@dataclass(frozen=True)
class _Problem:
    """Least squares of a chunk of boxes, in coordinates scaled by the half-size of the box.

    level (n,): weighted mean of the values, taken off; weighted (n, pixels): weights times values; square (n,): their
    weighted sum of squares; plane_normal (n, 3, 3), plane_right (n, 3): normal equations of the plane alone.
    """

    half: int
    weights: np.ndarray
    weighted: np.ndarray
    level: np.ndarray
    square: np.ndarray
    plane_normal: np.ndarray
    plane_right: np.ndarray
    dof: np.ndarray

    @staticmethod
    def of(half, values, weights):
        total = weights.sum(axis=1)
        level = np.einsum("ni,ni->n", weights, values) / np.where(total > 0, total, 1)
        centred = values - level[:, None]
        weighted = weights * centred
        square = np.einsum("ni,ni->n", weighted, centred)
        normal = normal_matrix(weights @ box_monomials(half, 2), 1, 1)
        dof = np.count_nonzero(weights, axis=1) - 9
        return _Problem(half, weights, weighted, level, square, normal, weighted @ box_monomials(half, 1), dof)

    def taken(self, rows):
        arrays = (self.weights, self.weighted, self.level, self.square, self.plane_normal, self.plane_right, self.dof)
        return _Problem(self.half, *(array[rows] for array in arrays))

    def evaluate(self, theta):
        """The best linear parameters at theta (m, 5), chi2 and its derivatives."""
        centre, shape = theta[:, :2], theta[:, 2:]
        gg, gp, gy = self._moments(centre, shape, degrees=(4, 3, 2))
        gg, gp = normal_matrix(gg, 2, 2), normal_matrix(gp, 2, 1)
        slopes = derivatives(centre, shape)
        mixed = slopes @ np.concatenate([gg[:, :, :1], gp], axis=2)
        right = np.concatenate([gy[:, :1], self.plane_right], axis=1)[:, :, None]
        linear = self._linear(gg[:, 0, 0], gp[:, 0])
        solved = solve(linear, np.concatenate([right, mixed.transpose(0, 2, 1)], axis=2))
        solution, height = solved[:, :, 0], solved[:, 0, 0, None]
        unexplained = gy - height * gg[:, 0] - (gp @ solution[:, 1:, None])[..., 0]
        full = slopes @ gg @ slopes.transpose(0, 2, 1)
        return _State(
            solution=solution,
            chi2=self.square - np.einsum("ni,ni->n", solution, right[..., 0]),
            gradient=height * (slopes @ unexplained[..., None])[..., 0],
            reduced=height[..., None] ** 2 * (full - mixed @ solved[:, :, 1:]),
            full=height[..., None] ** 2 * full,
            mixed=height[..., None] * mixed,
            linear=linear,
        )

    def _moments(self, centre, shape, degrees):
        """Moments of w G^2, of w G and, where a third degree is given, of w y G, up to the given degrees."""
        terms = [box_monomials(self.half, degree) for degree in degrees]
        moments = [np.empty((len(self.weights), term.shape[1])) for term in terms]
        for rows, g, product in self._gaussians(centre, shape):
            if len(degrees) == 3:
                np.matmul(np.multiply(self.weighted[rows], g, out=product), terms[2], out=moments[2][rows])
            np.matmul(np.multiply(self.weights[rows], g, out=product), terms[1], out=moments[1][rows])
            np.matmul(np.multiply(product, g, out=product), terms[0], out=moments[0][rows])
        return moments

    def _gaussians(self, centre, shape):
        """Rows, exp(-q/2) and an array to work in, BLOCK boxes at a time."""
        exponent, transposed = -0.5 * quadratic(centre, shape), box_monomials(self.half, 2).T
        work = np.empty((2, BLOCK, self.weights.shape[1]))
        for rows in chunks(len(self.weights), BLOCK):
            g, product = work[:, : rows.stop - rows.start]
            yield rows, np.exp(np.matmul(exponent[rows], transposed, out=g), out=g), product

    def _linear(self, gg, gp):
        """Normal matrices (n, 4, 4) of A, C, Px, Py from sums of w G^2 (n,) and of w G times 1, x, y (n, 3)."""
        linear = np.empty((len(gg), 4, 4))
        linear[:, 0, 0], linear[:, 0, 1:], linear[:, 1:, 0], linear[:, 1:, 1:] = gg, gp, gp, self.plane_normal
        return linear

    def solve(self, start_centre, start_shape, tolerance, most_iterations):
        """Damped iterations from a start in px; a box that has converged stands still and soon leaves the batch."""
        bounds, problem = _Bounds(self.half), self
        free = bounds.free(_scaled(start_centre, start_shape, self.half))
        theta, converged = bounds.bounded(free), np.zeros(len(free), bool)
        state = problem.evaluate(theta)
        final = _State(*(part.copy() for part in state))
        active, damping, done = np.arange(len(free)), np.full(len(free), 1e-3), np.zeros(len(free), bool)
        for _ in range(most_iterations):
            step, promised = _damped_step(state, bounds.slopes(free), damping)
            done |= promised <= tolerance * np.maximum(state.chi2, 1e-300) / np.maximum(problem.dof, 1)
            if np.mean(done) > CROWDED:
                final.put(active, state, slice(None))
                theta[active], converged[active] = bounds.bounded(free), done
                stay = ~done
                active, free, damping, step = active[stay], free[stay], damping[stay], step[stay]
                state, problem, done = state.taken(stay), problem.taken(stay), done[stay]
                if not len(active):
                    break
            trial = free + step
            new = problem.evaluate(bounds.bounded(trial))
            better = (new.chi2 < state.chi2) & ~done
            free[better] = trial[better]
            state.put(better, new, better)
            damping = np.clip(damping * np.where(better, 0.1, 10.0), 1e-9, 1e9)
        final.put(active, state, slice(None))
        theta[active], converged[active] = bounds.bounded(free), done
        return theta, final, converged

    def bias(self, theta, height, covariance):
        """Bias (n, 9) of second order of A, C, Px, Py and theta: -1/2 C sum w df/dtheta tr(C d2f/dtheta2) (Box 1971).

        The height's is such that the volume has none: the curvature of V = 2 pi A e^(-p-s) is in it.
        """
        centre, shape = theta[:, :2], theta[:, 2:]
        slopes, c = derivatives(centre, shape), covariance[:, 4:, 4:]
        curvature = np.einsum("njk,njkt->nt", c, second_derivatives(centre, shape))
        curvature = height[:, None] * curvature + 2 * np.einsum("nj,njt->nt", covariance[:, 0, 4:], slopes)
        products = height[:, None, None] * (slopes.transpose(0, 2, 1) @ c @ slopes)
        curvature = collected(products, 2, 2) + np.pad(curvature, ((0, 0), (0, 9)))
        gg, gp = self._moments(centre, shape, degrees=(6, 5))
        right = np.empty((len(theta), 9))
        on_monomials = (normal_matrix(gg, 2, 4) @ curvature[..., None])[..., 0]
        right[:, 0], right[:, 4:] = on_monomials[:, 0], height[:, None] * np.einsum("njt,nt->nj", slopes, on_monomials)
        right[:, 1:4] = np.einsum("nst,ns->nt", normal_matrix(gp, 4, 1), curvature)
        bias = -0.5 * np.einsum("nij,nj->ni", covariance, right)
        log_area = covariance[:, :, 6] + covariance[:, :, 8]
        bias[:, 0] += 0.5 * height * (log_area[:, 6] + log_area[:, 8]) - log_area[:, 0]
        return bias

    def hold(self, centre, shape):
        """A, C, Px, Py (n, 4) with centre and shape as given, px; chi2 (n,); covariance (n, 9, 9)."""
        theta = _scaled(centre, shape, self.half)
        gg, gy, gp = np.empty(len(theta)), np.empty((len(theta), 1)), np.empty((len(theta), 3))
        for rows, g, product in self._gaussians(theta[:, :2], theta[:, 2:]):
            gy[rows, 0] = np.einsum("ni,ni->n", self.weighted[rows], g)
            np.matmul(np.multiply(self.weights[rows], g, out=product), box_monomials(self.half, 1), out=gp[rows])
            gg[rows] = np.einsum("ni,ni->n", product, g)
        linear, right = self._linear(gg, gp), np.concatenate([gy, self.plane_right], axis=1)
        solution = solve(linear, right)
        covariance = np.zeros((len(theta), 9, 9))
        covariance[:, :4, :4] = inverse(linear)
        return solution, self.square - np.einsum("ni,ni->n", solution, right), covariance

    def fits(self, theta, solution, chi2, covariance, *, bias=0.0, converged=True, held=False):
        """The results less their bias in px and counts."""
        h = self.half
        parameters = np.concatenate([solution, theta], axis=1) - bias
        solution, theta = parameters[:, :4], parameters[:, 4:]
        scale = _pixels(h)
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
            converged=np.broadcast_to(converged, len(theta)).copy(),
            held=np.full(len(theta), held),
        )


def _pixels(half):
    """Factors (9,) that turn A, C, Px, Py and theta into units of px."""
    return np.array([1, 1, 1 / half, 1 / half, half, half, 1, 1 / half, 1])


def _scaled(centre, shape, half):
    """theta (n, 5) of centres and shapes in px."""
    return np.concatenate([centre / half, shape * np.array([1, half, 1]) + np.log(half) * np.array([1, 0, 1])], axis=1)


def _damped_step(state, slopes, damping):
    """Levenberg-Marquardt step of the free parameters, and the decrease of chi2 that the linear model promises."""
    normal = state.reduced * slopes[:, :, None] * slopes[:, None, :]
    gradient = state.gradient * slopes
    diagonal = np.einsum("nii->ni", normal)
    lift = damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    step = solve(normal + lift[:, :, None] * np.eye(5), gradient)
    step *= np.minimum(1.0, 1 / np.maximum(np.max(np.abs(step) / LARGEST_STEP, axis=1, keepdims=True), 1e-300))
    promised = 2 * np.sum(step * gradient, axis=1) - np.einsum("ni,nij,nj->n", step, normal, step)
    return step, promised


def _covariance(state):
    """Inverse normal matrices (n, 9, 9) of A, C, Px, Py and theta."""
    normal = np.empty((len(state.chi2), 9, 9))
    normal[:, :4, :4], normal[:, 4:, 4:] = state.linear, state.full
    normal[:, 4:, :4], normal[:, :4, 4:] = state.mixed, state.mixed.transpose(0, 2, 1)
    return inverse(normal)


def _limited(bias, covariance):
    """Biases (n, 9), no parameter's larger than LARGEST_BIAS of its standard deviation, none of undetermined fits."""
    sigma = np.sqrt(np.einsum("nii->ni", covariance))
    determined = (sigma[:, 0] > 0) & np.all(sigma[:, [4, 5, 6, 8]] < UNDETERMINED, axis=1)
    size = np.max(np.abs(bias) / np.where(sigma > 0, sigma, np.inf), axis=1)
    return bias * np.where(determined, np.minimum(1.0, LARGEST_BIAS / np.maximum(size, 1e-300)), 0.0)[:, None]
