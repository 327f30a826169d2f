"""The lattice points round a spot that reach into its box: measured together with it, or kept out."""

from dataclasses import dataclass

import numpy as np

from . import gaussian
from .boxes import beyond
from .placement import spread_out

REACH = 4.5  # widths; beyond them a Gaussian has 4e-5 of its volume
CLOSE = 1.5  # reaches between two spots; nearer ones are told apart only by a common fit


@dataclass(frozen=True)
class Neighbours:
    """What the spots round those of n boxes put into these.

    profiles (n, m, side^2): neighbours of unit volume that are close or have their centre in the box, 0 for a box
    that has fewer than m; clear (n, side^2): pixels without any neighbour; apart (n, side^2): pixels without those
    that are not among the profiles.
    """

    profiles: np.ndarray
    clear: np.ndarray
    apart: np.ndarray

    @property
    def close(self):
        """True for boxes with a neighbour among the profiles, (n,)."""
        return np.any(self.profiles, axis=(1, 2))


def neighbours(half, miller, centre, places, profile):
    """Neighbours of points with Miller indices (n, 2), which may be fractional, in boxes round pixels `centre` (n, 2).

    All lattice points but the point itself are neighbours, at their Places. A pixel is free of one beyond REACH widths
    of it, or half-way to it where that is nearer.
    """
    positions, _ = places.at(miller)
    clear, profiles = np.ones((len(miller), (2 * half + 1) ** 2), bool), []
    apart = clear.copy()
    for rows, offset, shape in _reaching(half, miller, centre, places, profile):
        reach = REACH * gaussian.widths(shape)[0]
        distance = np.linalg.norm(offset + centre[rows] - positions[rows], axis=1)
        free = beyond(half, offset, np.minimum(reach, distance / 2))
        close = (np.max(np.abs(offset), axis=1) <= half) | (distance < CLOSE * reach)
        clear[rows] &= free
        apart[rows] &= free | close[:, None]
        if close.any():
            found = np.zeros(clear.shape)
            found[rows[close]] = gaussian.unit_volume(half, offset[close], shape[close])
            profiles.append(found)
    together = np.stack(profiles, axis=1) if profiles else np.empty((len(miller), 0, clear.shape[1]))
    return Neighbours(together, clear, apart)


def between_spots(half, miller, centre, places, profile):
    """Pixels (n, side^2) of boxes round pixels `centre` (n, 2) beyond REACH widths of all lattice points.

    miller (n, 2): where the boxes are, half-way between lattice points.
    """
    clear = np.ones((len(miller), (2 * half + 1) ** 2), bool)
    for rows, offset, shape in _reaching(half, miller, centre, places, profile):
        clear[rows] &= beyond(half, offset, REACH * gaussian.widths(shape)[0])
    return clear


def _reaching(half, miller, centre, places, profile):
    """Rows of boxes, offsets (m, 2) from their middle and shapes (m, 3) of the lattice points that reach into them.

    One neighbour of every point at a time.
    """
    lattice = places.lattice
    widest = np.max(gaussian.widths(profile.shape_at(lattice.position(miller)))[0], initial=0.0)
    farthest = REACH * np.hypot(widest, places.straying) + places.farthest
    for index in lattice.around(miller, half * 2**0.5 + farthest):
        there = np.any(index != miller, axis=1) & (np.linalg.norm(index @ lattice.basis, axis=1) < lattice.fold)
        rows = np.flatnonzero(there & (_outside(lattice.position(index) - centre, half) < farthest))
        if not len(rows):
            continue
        place, variance = places.at(index[rows])
        offset, shape = place - centre[rows], spread_out(profile.shape_at(place), variance)
        near = _outside(offset, half) < REACH * gaussian.widths(shape)[0]
        yield rows[near], offset[near], shape[near]


def _outside(offset, half):
    """Distance (n,) of points from the edge of their box along x or y, px; below 0 inside of it."""
    return np.max(np.abs(offset), axis=1) - half
