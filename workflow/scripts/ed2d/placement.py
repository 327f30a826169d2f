"""Where a spot is expected: on the lattice, or as much nearer to where it was seen as spots are known to stray."""

import numpy as np

from . import flags
from .gaussian import covariance_from_shape, shape_from_covariance


def expected_places(table, calculated, straying):
    """Expected places (n, 2), px, of the points of an extract table, and the variance (n,) left to a coordinate, px^2.

    calculated (n, 2): positions on the lattice; straying: rms distance of a coordinate of the spots from these, px.
    The mean of the normal distributions of the lattice (straying^2) and of the fitted centre (its variance); where
    there is no good fit, that of the lattice.
    """
    observed = np.column_stack([table["XOBS"], table["YOBS"]])
    variance = np.column_stack([table["VARXOBS"], table["VARYOBS"]])
    good = (table["FLAG"] & flags.EXCLUDING == 0)[:, None] & np.isfinite(observed) & (variance > 0)
    share = np.where(good, straying**2 / (straying**2 + np.where(good, variance, 1.0)), 0.0)
    places = calculated + share * np.where(good, observed - calculated, 0.0)
    return places, straying**2 * (1 - share.mean(axis=1))


def spread_out(shape, variance):
    """Shapes (n, 3) of Gaussians (n, 3) whose centres have the given variance (n,) along every axis, px^2."""
    sxx, sxy, syy = covariance_from_shape(shape)
    return shape_from_covariance(sxx + variance, sxy, syy + variance)
