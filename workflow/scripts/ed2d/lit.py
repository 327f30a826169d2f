"""Dark regions that are lit all the same: they have spots as what lies beside them, or are gaps between spots."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .cells import distance_from, spots_of

STRIPE = 40  # cells; spots are compared so far to both sides of an edge
LARGEST_HOLE = 200  # cells; a smaller hole in a region is a spot
FEWEST, LEAST = 6, 0.005  # cells with spots, that there must be; of the cells outside
ALIKE = 0.4  # of the share outside: a shadow has fewer cells with bright spots
PATCH, GAP = 4000.0, 24.0  # px^2 of a region that may be the gap of a weak spot; px that it is compared with beyond
BETWEEN, DARKER = 0.1, 1.5  # share of the cells outside, those between spots; times


class Lit(NamedTuple):
    """What the finest grid tells of light: px of its cells, which count, their spots (0: none) and signal, counts."""

    size: int
    valid: np.ndarray
    spots: np.ndarray
    signal: np.ndarray

    @staticmethod
    def of(grid, pedestal):
        return Lit(grid.size, grid.valid, spots_of(grid.mean), ndimage.gaussian_filter(grid.mean, 1.0) - pedestal)

    def regions(self, cores, known, edge):
        """Those of the connected cells `cores` that have as bright spots as what is beside, or are no darker.

        known: shadows; edge: cells on both sides of it that do not count.
        """
        label, _ = ndimage.label(cores)
        found, usable = np.zeros(cores.shape, bool), self.valid & ~known
        for name, place in enumerate(ndimage.find_objects(label), start=1):
            place = tuple(slice(max(0, s.start - edge - STRIPE), s.stop + edge + STRIPE) for s in place)
            one, open_, spots, signal = label[place] == name, usable[place], self.spots[place], self.signal[place]
            closed = _closed(one)
            outside = _stripe(closed, edge) & open_ & ~cores[place]
            near = outside & (distance_from(one) <= edge + GAP / self.size)
            gap = one.sum() * self.size**2 <= PATCH and near.any() and not _darker(signal[one], signal[near])
            if gap or _as_spotted(spots[_stripe(~closed, edge) & open_], spots[outside]):
                found[place] |= one
        return found


def _closed(region):
    """The region with its holes of the size of spots."""
    holes, number = ndimage.label(~region)
    small = np.bincount(holes.ravel(), minlength=number + 1) <= LARGEST_HOLE
    small[0] = True
    return small[holes]


def _stripe(mask, edge):
    """The cells that are beyond `edge` cells from the mask, by STRIPE at most."""
    away = distance_from(mask)
    return (away > edge) & (away <= edge + STRIPE)


def _darker(inside, outside):
    """Whether the signal inside is lower than that between the spots outside."""
    return np.quantile(outside, BETWEEN) > DARKER * np.median(inside)


def _as_spotted(inside, outside):
    """Whether cells as bright as the brighter half of those with spots outside are inside nearly as frequent."""
    spots = outside[outside > 0]
    if len(spots) < max(FEWEST, LEAST * outside.size):
        return False
    limit = np.median(spots)
    number, expected = np.sum(inside >= limit), np.mean(outside >= limit) * inside.size
    return bool(number >= max(FEWEST, ALIKE * expected))
