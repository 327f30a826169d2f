"""Where a spot is expected: on the lattice, or as much nearer to where it was seen as spots are known to stray."""

from dataclasses import dataclass

import numpy as np

from . import flags
from .gaussian import covariance_from_shape, shape_from_covariance
from .lattice import Lattice


@dataclass(frozen=True)
class Places:
    """Expected places of the points of a lattice.

    straying: rms distance of a coordinate of the spots from the lattice, px; first (2,): smallest Miller indices of
    the arrays; moved (h, k, 2): expected place less that on the lattice, px; known (h, k): share of straying^2 that
    an observation has taken from the variance of a coordinate.
    """

    lattice: Lattice
    straying: float
    first: np.ndarray
    moved: np.ndarray
    known: np.ndarray

    @property
    def farthest(self):
        """Largest distance of an expected place from the lattice, px."""
        return float(np.max(np.linalg.norm(self.moved, axis=2)))

    @staticmethod
    def of(table, lattice, straying):
        """From an extract table: the mean of the normal distributions of the lattice, straying^2, and of the fit.

        Where there is no good fit, that of the lattice.
        """
        miller = np.column_stack([table["H"], table["K"]])
        observed = np.column_stack([table["XOBS"], table["YOBS"]])
        variance = np.column_stack([table["VARXOBS"], table["VARYOBS"]])
        good = (table["FLAG"] & flags.EXCLUDING == 0)[:, None] & np.isfinite(observed) & (variance > 0)
        share = np.where(good, straying**2 / (straying**2 + np.where(good, variance, 1.0)), 0.0)
        first = miller.min(axis=0)
        shape = miller.max(axis=0) - first + 1
        moved, known = np.zeros((*shape, 2)), np.zeros(shape)
        place = tuple((miller - first).T)
        moved[place] = share * np.where(good, observed - lattice.position(miller), 0.0)
        known[place] = share.mean(axis=1)
        return Places(lattice, straying, first, moved, known)

    def at(self, miller):
        """Places (n, 2), px, and the variance (n,) of a coordinate, px^2, of Miller indices (n, 2), also fractional."""
        index = np.rint(miller).astype(int) - self.first
        inside = np.all((miller == np.rint(miller)) & (index >= 0) & (index < self.known.shape), axis=1)
        place = tuple(np.where(inside[:, None], index, 0).T)
        moved = np.where(inside[:, None], self.moved[place], 0.0)
        return self.lattice.position(miller) + moved, self.straying**2 * (1 - np.where(inside, self.known[place], 0.0))


def spread_out(shape, variance):
    """Shapes (n, 3) of Gaussians (n, 3) whose centres have the given variance (n,) along every axis, px^2."""
    sxx, sxy, syy = covariance_from_shape(shape)
    return shape_from_covariance(sxx + variance, sxy, syy + variance)
