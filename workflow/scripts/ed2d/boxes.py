"""Square boxes of pixels cut out of an image round the calculated positions."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

CHUNK = 1024  # boxes that are worked on together


@dataclass(frozen=True)
class Boxes:
    """n boxes of side 2 half + 1, flattened row by row.

    centre (n, 2): pixel (x0, y0); values (n, side^2): counts in the number type of the image, 0 where not usable;
    usable (n, side^2): bool; outside, ignored, saturated, zinger (n, side^2): why a pixel is not usable, saturated
    also where it touches such a pixel;
    curvature (n, 3): second derivatives xx, xy, yy of the background, known beforehand, counts/px^2; surroundings
    (n, side^2), or (n, 1) where there are none: counts of neighbouring spots, known beforehand.
    """

    half: int
    centre: np.ndarray
    values: np.ndarray
    usable: np.ndarray
    outside: np.ndarray
    ignored: np.ndarray
    saturated: np.ndarray
    zinger: np.ndarray
    curvature: np.ndarray
    surroundings: np.ndarray

    def __len__(self):
        return len(self.centre)

    def __getitem__(self, rows):
        return Boxes(self.half, *(getattr(self, field.name)[rows] for field in fields(self)[1:]))

    def replaced(self, rows, other, source=slice(None)):
        """A copy, of the rows `source` if these are given, with `rows` taken from the boxes `other` (len(rows))."""
        arrays = {field.name: np.array(getattr(self, field.name)[source]) for field in fields(self)[1:]}
        for name, array in arrays.items():
            array[rows] = getattr(other, name)
        return replace(self, **arrays)

    def restricted(self, allowed):
        """The boxes with only the pixels `allowed` (n, side^2) usable."""
        return replace(
            self, usable=self.usable & allowed, values=np.where(allowed, self.values, self.values.dtype.type(0))
        )

    def without(self, zinger):
        """The boxes less pixels (n, side^2) that something else than an electron of the spot has hit."""
        return replace(self.restricted(~zinger), zinger=self.zinger | (zinger & self.usable))

    def bent(self, curvature):
        """The boxes with what is known of the curvature of the background (n, 3)."""
        return replace(self, curvature=curvature)

    def flat(self):
        """The boxes less the neighbours and the curvature, d^T H d / 2 at a distance d from the middle."""
        dx, dy = grid(self.half)
        known = self.curvature @ np.stack([0.5 * dx * dx, dx * dy, 0.5 * dy * dy]) + self.surroundings
        nothing = {"curvature": 0 * self.curvature, "surroundings": np.zeros((len(self), 1))}
        return replace(self, values=np.where(self.usable, self.values - known, 0.0), **nothing)

    @property
    def side(self):
        return 2 * self.half + 1

    def as_squares(self, pixels):
        """An (n, side^2) array as (n, side, side)."""
        return pixels.reshape(-1, self.side, self.side)


def chunks(n, size=CHUNK):
    """Slices of at most `size` of n rows, so that what is computed for boxes takes little memory."""
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def evenly(n, most):
    """At most `most` of n rows, evenly over them."""
    return np.linspace(0, n - 1, min(n, most)).astype(int)


def grid(half):
    """Pixel offsets (dx, dy) from the centre of a box, each (side^2,), row by row."""
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1]
    return dx.ravel(), dy.ravel()


def nearest_pixels(positions):
    """The pixels (n, 2) nearest positions (n, 2); a tie goes to the larger coordinate."""
    return np.floor(np.asarray(positions) + 0.5).astype(np.int64)


def cut(image, centre, half):
    """Boxes of half-size `half` round the pixels `centre` (n, 2); pixels beyond the edge are not usable."""
    centre = np.asarray(centre)
    outside, ignored, saturated, data = (
        _windows(array, centre, half, beyond)
        for array, beyond in (
            (np.broadcast_to(False, image.shape), True),
            (image.ignored, False),
            (image.overloaded, False),
            (image.data, 0),
        )
    )
    saturated &= ~ignored
    usable = ~(outside | ignored | saturated)
    data[~usable] = 0
    none = {"curvature": np.zeros((len(centre), 3)), "surroundings": np.zeros((len(centre), 1))}
    return Boxes(half, centre, data, usable, outside, ignored, saturated, np.zeros_like(usable), **none)


def _windows(array, centre, half, beyond):
    """Windows (n, side^2) of an image round pixels (n, 2), with the value `beyond` outside of the image."""
    side, limit = 2 * half + 1, np.array(array.shape[::-1]) - 1
    windows = np.empty((len(centre), side, side), array.dtype)
    whole = np.all((centre >= half) & (centre <= limit - half), axis=1)
    if whole.any():
        corner = centre[whole] - half
        windows[whole] = sliding_window_view(array, (side, side))[corner[:, 1], corner[:, 0]]
    for n in np.flatnonzero(~whole):
        column, row = (np.arange(-half, half + 1) + place for place in centre[n])
        inside = ((row >= 0) & (row <= limit[1]))[:, None] & (column >= 0) & (column <= limit[0])
        here = array[np.clip(row, 0, limit[1])[:, None], np.clip(column, 0, limit[0])]
        windows[n] = np.where(inside, here, beyond)
    return windows.reshape(len(centre), side * side)


def beyond(half, offset, radius):
    """Pixels (n, side^2) of boxes farther than a radius (n,) from points (n, 2) relative to their middle, px."""
    steps = np.arange(-half, half + 1)
    x2, y2 = ((steps - offset[:, [axis]]) ** 2 for axis in (0, 1))
    return (y2[:, :, None] + x2[:, None]).reshape(len(offset), len(steps) ** 2) > np.square(radius)[:, None]


def away_from_neighbours(half, miller, centre, lattice):
    """Pixels (n, side^2) of the boxes farther than half of the spacing from every other lattice point.

    Not less where BoxSize is smaller: the tails of a neighbour are no background, whatever is summed of the spot.
    """
    distance = lattice.spacing / 2
    free = np.ones((len(miller), (2 * half + 1) ** 2), bool)
    reach = half * 2**0.5 + distance
    if not len(miller) or lattice.spacing > 1.5 * reach:
        return free
    for index in lattice.around(miller, reach):
        offset = lattice.position(index) - centre
        near = np.flatnonzero((np.linalg.norm(offset, axis=1) < reach) & np.any(index != miller, axis=1))
        free[near] &= beyond(half, offset[near], np.full(len(near), distance))
    return free


def median(values, chosen):
    """Median of the chosen pixels of every row of (n, m), (n,); 0 where none is chosen."""
    ordered = np.sort(np.where(chosen, values, np.inf), axis=1)
    count = np.count_nonzero(chosen, axis=1)
    lower = np.take_along_axis(ordered, (np.maximum(count - 1, 0) // 2)[:, None], axis=1)[:, 0]
    upper = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[1] - 1)[:, None], axis=1)[:, 0]
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, (lower + upper) / 2, 0.0)
