"""Curvature of the background under the spots, from the slopes of the background planes of neighbouring spots."""

import numpy as np

NEIGHBOURS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1))  # their Miller indices
FEWEST_NEIGHBOURS = 4
LEAST_EXPLAINED = 0.6  # share of the differences of the slopes that a common curvature must explain


def curvature(index, positions, slopes):
    """Second derivatives (n, 3) of the background, xx, xy, yy, counts/px^2, at points of a lattice.

    index (n, 2): Miller indices in the reduced basis, where neighbours are the nearest points; positions (n, 2), px;
    slopes (n, 2), counts/px, NaN where unknown. Least squares of the differences to the neighbours' slopes, slope_j -
    slope_i = H (r_j - r_i); 0 where they are too few or where one symmetric H does not explain them, as in noise or at
    the edge of a shadow.
    """
    normal, right = np.zeros((len(index), 3, 3)), np.zeros((len(index), 3))
    total, number = np.zeros(len(index)), np.zeros(len(index), int)
    for row, other in _pairs(index, np.all(np.isfinite(slopes), axis=1)):
        step, change = positions[other] - positions[row], slopes[other] - slopes[row]
        design = np.zeros((len(row), 2, 3))
        design[:, 0, :2] = design[:, 1, 1:] = step
        normal[row] += design.transpose(0, 2, 1) @ design
        right[row] += (design.transpose(0, 2, 1) @ change[..., None])[..., 0]
        total[row] += np.sum(change**2, axis=1)
        number[row] += 1
    enough = number >= FEWEST_NEIGHBOURS
    normal[~enough] = np.eye(3)
    found = np.linalg.solve(normal, right[..., None])[..., 0]
    explained = np.sum(found * right, axis=1) >= LEAST_EXPLAINED * total
    return np.where((enough & explained & (total > 0))[:, None], found, 0.0)


def _pairs(index, known):
    """For every kind of neighbour the rows of `known` points that have one, and the rows of these neighbours."""
    low = index.min(axis=0) - 1
    place = np.full(index.max(axis=0) - low + 2, -1)
    place[tuple((index - low)[known].T)] = np.flatnonzero(known)
    for neighbour in NEIGHBOURS:
        other = place[tuple((index + neighbour - low).T)]
        row = np.flatnonzero(known & (other >= 0))
        yield row, other[row]
