"""Noise that a point spread has made common to neighbouring pixels, and what it does to sums of pixels."""

from functools import cache

import numpy as np

REACH = 3  # px; of the point spread
WIDEST = 3.0  # px


def undone(forms, correlation):
    """Linear forms (..., side^2) of pixels as those of the electrons before they spread, (..., (side + 2 REACH)^2).

    With y = t * n, electrons n spread by t, the sum over c_p y_p is that over (t * c)_p n_p, and the n are independent.
    """
    side = round(forms.shape[-1] ** 0.5)
    matrix = _matrix(side, correlation)
    return (matrix @ forms.reshape(-1, side, side) @ matrix.T).reshape(*forms.shape[:-1], -1)


def widened(pixels):
    """Pixels (n, side^2) of boxes with a margin of REACH px that repeats their edge."""
    side = round(pixels.shape[-1] ** 0.5)
    margin = ((0, 0), (REACH, REACH), (REACH, REACH))
    return np.pad(pixels.reshape(-1, side, side), margin, mode="edge").reshape(len(pixels), -1)


@cache
def _matrix(side, correlation):
    """Shares (side + 2 REACH, side) that the pixels of a line have in what the pixels of a wider line receive."""
    distance = np.arange(-REACH, side + REACH)[:, None] - np.arange(side)
    shares = kernel(correlation)
    return np.where(np.abs(distance) <= REACH, shares[np.clip(distance + REACH, 0, 2 * REACH)], 0.0)


@cache
def kernel(correlation):
    """Shares t (2 REACH + 1,) of a Gaussian point spread along one axis that leads to this Noise.correlation.

    Single pixels then have (sum t^2)^2 of the variance that many together have for each of them.
    """
    low, high = 0.0, WIDEST
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if np.sum(_shares(middle) ** 2) ** -2 < correlation else (low, middle)
    return _shares(low)


def _shares(width):
    """Shares of the pixels round the middle of a Gaussian of this width, px."""
    weights = np.exp(-0.5 * (np.arange(-REACH, REACH + 1) / max(width, 1e-3)) ** 2)
    return weights / weights.sum()
