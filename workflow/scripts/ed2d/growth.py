"""A rough lattice made right from the centre outward, by the clear peaks near its points."""

from dataclasses import dataclass

import numpy as np

from .image import Image
from .lattice import predict
from .noise import Noise
from .parameters import Parameters
from .peaks import look
from .refine import FEWEST_SPOTS, refine

FIRST_POINTS = 60  # lattice points inside the first circle
GROWTH = 1.5  # of the radius from one circle to the next
MOST_POINTS = 500  # looked at in a ring; more tell nothing new
FARTHEST = 0.4  # of the distance to the neighbours: how far from its point a spot may be in the first circle
CLEAR = 6.0  # significance of the peaks that count
NEAR = 0.35  # of the reach; chance puts a tenth of the peaks so near


def grow(image, lattice, noise, parameters):
    """The lattice that the clear peaks of the whole image support, or as much of `lattice` as they say nothing of.

    Points in growing circles about the origin are looked at where the lattice, refined within the circle before,
    predicts them; so a lattice whose far spots are off by more than a box still converges. Where the peaks of the first
    circle do not lie on the lattice, it is looked at as far round each point as the neighbours leave room: the origin
    may be off as well. What this gives is taken where more peaks lie on it. Growth that ends on another lattice, as
    that of a second crystal, must have as many peaks on it as the verified one.
    """
    room = int(FARTHEST * lattice.square_spacing)
    reach = max(1, min(parameters.box_size, room))
    inner, outer = 0.0, np.sqrt(FIRST_POINTS / np.pi * abs(np.linalg.det(lattice.basis)))
    looks, verified = Looks(image, noise, parameters), lattice
    if room > reach and looks.support(lattice, reach, outer) <= 0:
        miller, distance = looks.points(lattice)
        moved = _refined(lattice, *looks.clear(lattice, miller[distance <= outer], room))
        lattice = max(lattice, moved, key=lambda one: looks.support(one, reach, outer))
    found, (miller, distance) = [], looks.points(lattice)
    while inner < np.max(distance, initial=0.0):
        found.append(looks.clear(lattice, miller[(distance > inner) & (distance <= outer)], reach))
        lattice = _refined(lattice, *(np.concatenate(column) for column in zip(*found, strict=True)))
        inner, outer = outer, GROWTH * outer
        miller, distance = looks.points(lattice)
    miller, _ = looks.points(verified)
    moved = np.linalg.norm(lattice.position(miller) - verified.position(miller), axis=1)
    if np.max(moved, initial=0.0) < NEAR * reach:
        return lattice
    return max(lattice, verified, key=lambda one: looks.support(one, reach, np.inf))


@dataclass(frozen=True)
class Looks:
    """Quick looks at the points of lattices on one image."""

    image: Image
    noise: Noise
    parameters: Parameters

    def points(self, lattice):
        """Miller indices (n, 2) of the points on the image, and their undistorted distance from the origin, px."""
        miller = predict(lattice, shape=self.image.shape, **self.parameters.radii)
        return miller, np.linalg.norm(miller @ lattice.basis, axis=1)

    def clear(self, lattice, miller, reach):
        """Miller indices, observed positions and their variances (m, 2) of the clear peaks at some of the points."""
        miller = miller[:: 1 + len(miller) // MOST_POINTS]
        width = self.parameters.expected_width
        peaks = look(self.image, lattice.position(miller), self.noise, reach=reach, width=width)
        clear = peaks.significance > CLEAR
        return miller[clear], peaks.observed[clear], peaks.variance[clear]

    def support(self, lattice, reach, radius):
        """Number of clear peaks near their points within a radius, px, less the half of all, at least FEWEST_SPOTS."""
        miller, distance = self.points(lattice)
        miller, observed, _ = self.clear(lattice, miller[distance <= radius], reach)
        near = np.linalg.norm(observed - lattice.position(miller), axis=1) < NEAR * reach
        return np.sum(near) - max(len(near), FEWEST_SPOTS) / 2


def _refined(lattice, miller, observed, variance):
    """The lattice refined, or as it is where the peaks are too few."""
    try:
        return refine(lattice, miller, observed, variance).lattice
    except ValueError:
        return lattice
