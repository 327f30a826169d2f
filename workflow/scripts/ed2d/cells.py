"""Images as grids of cells: their means, noise and level between spots."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

FINEST = 512  # cells along the longer side of an image, about
PIXELS = 2**20  # that are worked on together
TILE = 8  # cells; side of the squares of which levels are told
BRIGHT, BEYOND_NOISE = 1.5, 4.0  # what is above so many times the level around, and its noise, is a spot
STANDING_OUT, SHARED = 5.0, 0.15  # standard deviations of a cell with a spot; of its height: that of a neighbour
NEIGHBOURS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
PARTS = 16  # of the cells, by their level, each with a noise of its own


@dataclass(frozen=True)
class Grid:
    """Means of square cells of `size` px, (rows, columns), and which cells hold a pixel that may be looked at."""

    mean: np.ndarray
    valid: np.ndarray
    size: int

    def coarser(self):
        """The grid of cells twice as large."""
        weight = _halved(self.valid.astype(np.float32))
        mean = _halved(np.where(self.valid, self.mean, 0)) / np.maximum(weight, 1e-6)
        return Grid(_filled(mean, weight > 0), weight > 0, 2 * self.size)


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a cell as a function of its mean: points of a line of sections."""

    mean: np.ndarray
    sigma: np.ndarray

    def of(self, mean):
        return np.interp(mean, self.mean, self.sigma)


def grid_of(data, hidden):
    """The finest Grid of an image: about FINEST cells along the longer side; `hidden` pixels (or None) do not count."""
    size = max(1, round(max(data.shape) / FINEST))
    columns = np.arange(0, data.shape[1], size)
    total, count = [], []
    height = max(1, PIXELS // data.shape[1] // size) * size
    for top in range(0, data.shape[0], height):
        band = data[top : top + height]
        if hidden is not None:
            seen = ~hidden[top : top + height]
            band = np.where(seen, band, 0)
            count.append(_summed(seen, size, columns))
        total.append(_summed(band, size, columns))
    total = np.concatenate(total)
    if hidden is None:
        sides = [np.diff(np.append(np.arange(0, n, size), n)).astype(np.float32) for n in data.shape]
        count = sides[0][:, None] * sides[1]
    else:
        count = np.concatenate(count)
    return Grid(_filled(total / np.maximum(count, 1), count > 0), count > 0, size)


def _summed(band, size, columns):
    whole = len(band) // size * size
    parts = [band[:whole].reshape(whole // size, size, -1).sum(axis=1, dtype=np.float32)]
    if whole < len(band):
        parts.append(band[whole:].sum(axis=0, dtype=np.float32)[None])
    return np.add.reduceat(np.concatenate(parts), columns, axis=1)


def _halved(values):
    """Means of 2 x 2 values; the last row or column of an odd number is repeated."""
    rows, columns = values.shape
    values = np.pad(values, ((0, rows % 2), (0, columns % 2)), "edge")
    return 0.25 * (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2])


def _filled(mean, valid):
    """Cells that are not valid take the mean of the nearest that is."""
    mean = mean.astype(np.float32)
    if not valid.all():
        nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
        mean = mean[tuple(nearest)]
    return mean


def sampled(pixels, grid):
    """The pixels in the middle of the cells."""
    rows, columns = (
        np.minimum(np.arange(n) * grid.size + grid.size // 2, m - 1)
        for n, m in zip(grid.mean.shape, pixels.shape, strict=True)
    )
    return pixels[np.ix_(rows, columns)]


def reduced(mask, factor, shape):
    """Cells of a coarser grid that hold a cell of the mask."""
    rows, columns = shape
    mask = np.pad(mask, ((0, rows * factor - mask.shape[0]), (0, columns * factor - mask.shape[1])))
    return mask.reshape(rows, factor, columns, factor).any(axis=(1, 3))


def enlarged(mask, factor, shape):
    """The cells of a grid `factor` times finer, of this shape."""
    return mask.repeat(factor, axis=0).repeat(factor, axis=1)[: shape[0], : shape[1]]


def without_spots(mean, noise, pedestal):
    """Cell means of at most BRIGHT times the level round about, beside their noise."""
    level = _level(mean)
    return np.minimum(mean, level + (BRIGHT - 1) * np.maximum(level - pedestal, 0) + BEYOND_NOISE * noise.of(level))


def _level(mean):
    """The level of the brightest tile round about, of each cell.

    The level of a tile is the median of its cells, or of means of 4 or 16 of them where counts are so few that the
    median is 0.
    """
    tiles = np.pad(mean, [(0, -n % TILE) for n in mean.shape], "edge")
    level = _medians(tiles, TILE)
    for side in (TILE // 2, TILE // 4):
        tiles = _halved(tiles)
        level = np.maximum(level, _medians(tiles, side))
    return enlarged(ndimage.maximum_filter(level, 3), TILE, mean.shape)


def _smooth_level(mean):
    """The medians of the tiles, each of the 3 x 3 around, linear in between."""
    padded = np.pad(mean, [(0, -n % TILE) for n in mean.shape], "edge")
    level = ndimage.median_filter(_medians(padded, TILE), 3)
    level = ndimage.zoom(level, TILE, order=1, mode="nearest", grid_mode=True)
    return level[: mean.shape[0], : mean.shape[1]]


def _medians(cells, side):
    """Medians of the squares of side x side cells."""
    rows, columns = (n // side for n in cells.shape)
    tiles = cells.reshape(rows, side, columns, side).swapaxes(1, 2)
    return np.median(tiles.reshape(rows, columns, -1), axis=2)


def spots_of(mean):
    """How far the cells stand out from the median round about, counts; 0 where that is no spot.

    It is one if it stands out by STANDING_OUT standard deviations and a neighbour has SHARED of its height: no zinger.
    """
    excess = mean - _smooth_level(mean)
    beside = ndimage.maximum_filter(excess, footprint=NEIGHBOURS)
    spot = (excess > STANDING_OUT * noise_of(mean).of(mean - excess)) & (beside > SHARED * excess)
    return np.where(spot, excess, 0)


def noise_of(mean):
    """Noise of the cells, from the differences between each and the mean of its four neighbours."""
    middle = mean[1:-1, 1:-1]
    around = 0.25 * (mean[:-2, 1:-1] + mean[2:, 1:-1] + mean[1:-1, :-2] + mean[1:-1, 2:])
    order = np.argsort(around, axis=None)
    parts = np.array_split(order, PARTS)
    difference = np.abs(middle - around).ravel()
    sigma = [1.4826 * np.median(difference[part]) / np.sqrt(1.25) for part in parts]
    return Noise(np.array([np.median(around.ravel()[part]) for part in parts]), np.maximum.accumulate(sigma))


def distance_from(mask):
    """Distance, cells, of each cell from the mask; 0 inside, very far where there is none."""
    return ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, 1e9)
