"""The lattice points round a spot that reach into its box: measured together with it, or kept out."""

from dataclasses import dataclass

import numpy as np

from . import gaussian
from .boxes import grid

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


def neighbours(half, miller, positions, centre, lattice, profile):
    """Neighbours of points with Miller indices (n, 2), which may be fractional, at positions (n, 2), px.

    half, centre (n, 2): of the boxes. All lattice points but the point itself are neighbours.
    """
    dx, dy = grid(half)
    clear, profiles = np.ones((len(miller), len(dx)), bool), []
    apart = clear.copy()
    farthest = REACH * np.max(gaussian.widths(profile.shape_at(positions))[0], initial=0.0)
    for index in _around(miller, lattice, half * 2**0.5 + farthest):
        place = lattice.position(index)
        outside = np.max(np.abs(place - centre), axis=1) - half
        rows = np.flatnonzero((outside < farthest) & np.any(index != miller, axis=1))
        if not len(rows):
            continue
        offset, shape, outside = place[rows] - centre[rows], profile.shape_at(place[rows]), outside[rows]
        reach = REACH * gaussian.widths(shape)[0]
        distance = np.linalg.norm(place[rows] - positions[rows], axis=1)
        free = np.hypot(dx - offset[:, :1], dy - offset[:, 1:]) > np.minimum(reach, distance / 2)[:, None]
        close = (outside <= 0) | ((outside < reach) & (distance < CLOSE * reach))
        clear[rows] &= free
        apart[rows] &= free | close[:, None]
        if close.any():
            found = np.zeros(clear.shape)
            found[rows[close]] = gaussian.unit_volume(half, offset[close], shape[close])
            profiles.append(found)
    return Neighbours(np.stack(profiles, axis=1) if profiles else np.empty((len(miller), 0, len(dx))), clear, apart)


def _around(miller, lattice, distance):
    """Miller indices (n, 2) of all lattice points within `distance`, px, of points (n, 2), a set of n at a time."""
    within = 1.2 * (distance + lattice.spacing)  # distortions move neighbours
    steps = int(np.ceil(1.2 * within / lattice.spacing))
    to_miller = lattice.reduced_basis() @ np.linalg.inv(lattice.basis)
    for i in range(-steps, steps + 1):
        for j in range(-steps, steps + 1):
            if np.linalg.norm(np.array([i, j]) @ lattice.reduced_basis()) < within:
                yield np.round(miller) + np.round(np.array([i, j]) @ to_miller)
