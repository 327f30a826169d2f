"""The Cramer-Rao bound of the nine parameters of a spot, by differences of the model written out."""

import numpy as np

from ed2d.boxes import grid
from populations import HALF
from stills import theta_of


def counts(theta):
    """The model of the parameters (n, 9) of a fit, written out, on the pixels of the boxes."""
    (dx, dy), (a, c, px, py, x, y, p, r, s) = grid(HALF), theta.T[..., None]
    u, v = np.exp(p) * (dx - x) + r * (dy - y), np.exp(s) * (dy - y)
    return a * np.exp(-(u * u + v * v) / 2) + c + px * dx + py * dy


def differences(theta, step=1e-5):
    """Derivatives (n, 9, pixels) of the model by its nine parameters, by central differences."""
    steps = step * np.maximum(np.abs(theta), 0.1)
    moves = [steps * axis for axis in np.eye(9)]
    slopes = [(counts(theta + move) - counts(theta - move)) / (2 * move.sum(axis=1))[:, None] for move in moves]
    return np.stack(slopes, axis=1)


def bound(spots, noise):
    """Inverse Fisher information (n, 9, 9) of the parameters of a fit, and the bound (n,) of the volume, counts."""
    theta = theta_of(spots)
    slopes, gradient = differences(theta), np.zeros((len(spots), 9))
    information = (slopes / noise.variance(counts(theta))[:, None]) @ slopes.transpose(0, 2, 1)
    scale = 1 / np.sqrt(np.einsum("nii->ni", information))
    scale = scale[:, :, None] * scale[:, None, :]
    covariance = np.linalg.inv(information * scale) * scale
    gradient[:, 0], gradient[:, 6], gradient[:, 8] = spots[:, 0] / theta[:, 0], -spots[:, 0], -spots[:, 0]
    return covariance, np.sqrt(np.einsum("ni,nij,nj->n", gradient, covariance, gradient))
