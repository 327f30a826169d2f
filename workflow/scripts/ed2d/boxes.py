"""Square boxes of pixels cut out of an image round the calculated positions."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Boxes:
    """n boxes of side 2 half + 1, flattened row by row.

    centre (n, 2): pixel (x0, y0); values (n, side^2): counts, 0 where not usable; usable (n, side^2): bool;
    outside, ignored, saturated (n, side^2): why a pixel is not usable.
    """

    half: int
    centre: np.ndarray
    values: np.ndarray
    usable: np.ndarray
    outside: np.ndarray
    ignored: np.ndarray
    saturated: np.ndarray

    def __len__(self):
        return len(self.centre)

    def __getitem__(self, rows):
        arrays = (self.centre, self.values, self.usable, self.outside, self.ignored, self.saturated)
        return Boxes(self.half, *(array[rows] for array in arrays))

    def restricted(self, allowed):
        """The boxes with only the pixels `allowed` (n, side^2) usable."""
        usable = self.usable & allowed
        return replace(self, usable=usable, values=np.where(usable, self.values, 0.0))

    @property
    def side(self):
        return 2 * self.half + 1

    def as_squares(self, pixels):
        """An (n, side^2) array as (n, side, side)."""
        return pixels.reshape(-1, self.side, self.side)


def grid(half):
    """Pixel offsets (dx, dy) from the centre of a box, each (side^2,), row by row."""
    dy, dx = np.mgrid[-half : half + 1, -half : half + 1]
    return dx.ravel(), dy.ravel()


def nearest_pixels(positions):
    """The pixels (n, 2) nearest positions (n, 2); a tie goes to the larger coordinate."""
    return np.floor(np.asarray(positions) + 0.5).astype(np.int64)


def cut(image, centre, half):
    """Boxes of half-size `half` round the pixels `centre` (n, 2); pixels beyond the edge are not usable."""
    rows, columns = image.shape
    dx, dy = grid(half)
    x = centre[:, :1] + dx
    y = centre[:, 1:] + dy
    outside = (x < 0) | (x >= columns) | (y < 0) | (y >= rows)
    flat = np.where(outside, 0, y * columns + x)
    ignored = image.ignored.ravel()[flat] & ~outside
    saturated = image.saturated.ravel()[flat] & ~outside & ~ignored
    usable = ~(outside | ignored | saturated)
    values = np.where(usable, image.data.ravel()[flat], 0).astype(float)
    return Boxes(half, np.asarray(centre), values, usable, outside, ignored, saturated)


def away_from_neighbours(half, miller, centre, lattice, distance):
    """Pixels (n, side^2) of the boxes farther than `distance` px from every other lattice point."""
    dx, dy = grid(half)
    free = np.ones((len(miller), len(dx)), bool)
    reach = half * 2**0.5 + distance
    if not len(miller) or lattice.spacing > 1.5 * reach:
        return free
    steps = int(np.ceil(reach / lattice.spacing)) + 1
    to_miller = lattice.reduced_basis() @ np.linalg.inv(lattice.basis)
    for i, j in ((i, j) for i in range(-steps, steps + 1) for j in range(-steps, steps + 1) if (i, j) != (0, 0)):
        offset = lattice.position(miller + np.round(np.array([i, j]) @ to_miller)) - centre
        if np.linalg.norm(offset, axis=1).min() < reach:
            free &= (dx - offset[:, :1]) ** 2 + (dy - offset[:, 1:]) ** 2 > distance**2
    return free


def median(values, chosen):
    """Median of the chosen pixels of every row of (n, m), (n,); 0 where none is chosen."""
    ordered = np.sort(np.where(chosen, values, np.inf), axis=1)
    count = np.count_nonzero(chosen, axis=1)
    lower = np.take_along_axis(ordered, (np.maximum(count - 1, 0) // 2)[:, None], axis=1)[:, 0]
    upper = np.take_along_axis(ordered, np.minimum(count // 2, values.shape[1] - 1)[:, None], axis=1)[:, 0]
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, (lower + upper) / 2, 0.0)
