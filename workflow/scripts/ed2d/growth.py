"""A rough lattice made right from the centre outward, by the clear peaks near its points."""

import numpy as np

from .lattice import predict
from .peaks import look
from .refine import refine

FIRST_POINTS = 60  # lattice points inside the first circle
GROWTH = 1.5  # of the radius from one circle to the next
MOST_POINTS = 500  # looked at in a ring; more tell nothing new
FARTHEST = 0.4  # of the distance to the neighbours: how far from its point a spot may be in the first circle
CLEAR = 6.0  # significance of the peaks that count


def grow(image, lattice, noise, parameters):
    """The lattice that the clear peaks of the whole image support, or as much of `lattice` as they say nothing of.

    Points in growing circles about the origin are looked at where the lattice, refined within the circle before,
    predicts them; so a lattice whose far spots are off by more than a box still converges. The first circle is looked
    at once more, before, as far round each point as its neighbours leave room: so the origin may be off as well.
    """
    room = int(FARTHEST * lattice.square_spacing)
    reach = max(1, min(parameters.box_size, room))
    inner, outer = 0.0, np.sqrt(FIRST_POINTS / np.pi * abs(np.linalg.det(lattice.basis)))
    found = _clear(image, lattice, noise, parameters, (inner, outer), max(reach, room))
    lattice, found = _refined(lattice, *found), None
    while inner < np.hypot(*image.shape):
        ring = _clear(image, lattice, noise, parameters, (inner, outer), reach)
        found = ring if found is None else tuple(np.concatenate(pair) for pair in zip(found, ring, strict=True))
        lattice = _refined(lattice, *found)
        inner, outer = outer, GROWTH * outer
    return lattice


def _clear(image, lattice, noise, parameters, ring, reach):
    """Miller indices, observed positions and their variances (n, 2) of the clear peaks between two radii, px."""
    miller = predict(lattice, shape=image.shape, min_radius=parameters.min_radius, max_radius=parameters.max_radius)
    distance = np.linalg.norm(miller @ lattice.basis, axis=1)
    miller = miller[(distance > ring[0]) & (distance <= ring[1])]
    miller = miller[:: 1 + len(miller) // MOST_POINTS]
    peaks = look(image, lattice.position(miller), noise, reach=reach, width=parameters.expected_width)
    clear = peaks.significance > CLEAR
    return miller[clear], peaks.observed[clear], peaks.variance[clear]


def _refined(lattice, miller, observed, variance):
    """The lattice refined, or as it is where the peaks are too few."""
    try:
        return refine(lattice, miller, observed, variance).lattice
    except ValueError:
        return lattice
