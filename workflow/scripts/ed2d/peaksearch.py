"""Peaks of a whole image, without a lattice: what stands out from its surroundings by more than the noise there."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

SMOOTHING = 1.2  # px of the reduced image; sigma of the Gaussian that spots are searched with
SURROUNDINGS = 2.5  # times that, sigma of the Gaussian whose mean is the background of a spot
TRUNCATED = 3.0  # sigma, where the Gaussians end
REDUCTIONS = (1, 2, 4)  # of the image; the spots of one of them have about the width SMOOTHING
WORTH = 1.05  # times clearer peaks make a further reduction worth its loss of detail
SENSITIVITY = 4.5  # standard deviations that a peak stands out by
NOISE_BLOCK = 32  # px of the reduced image, whose median absolute value tells the noise
LEAST_KNOWN = 0.1  # of the pixels of a block; with less its noise is that of the nearest other
LEAST_NOISE = 0.35  # of the median block: a shadow without counts has no noise, and all in it would stand out
MOST_PEAKS = 4000
MARGIN = 3  # px of the reduced image, beside pixels that are not usable, where there are no peaks
REACH = 2  # px of the reduced image, in which a peak is the highest
FILLED = 16  # px, blocks whose mean stands in for pixels that are not usable
LEAST_ROUNDNESS = 0.25  # ratio of the curvatures of a peak; less has a ridge, as of a ring or an edge
RIDGE = 0.5  # of the height of a peak, which it must not have left on two opposite sides
LEAST_SPREAD = 0.12  # of the highest pixel, median of its eight neighbours; a zinger or its track has less
SPIKE = 5.0  # standard deviations of the median of eight pixels that the highest must have to be judged by that
SMALLEST_IMAGE = 120  # px that a reduced image is not to fall below
NEAR, FAR = 2, 4  # px: half-size of a narrow peak, and where its background is read
PRECISION = 0.15, 0.35  # px, and px of the reduced image: standard deviation of a coordinate of a peak
HALF_CIRCLE = ((4, 0), (4, 2), (3, 3), (2, 4), (0, 4), (-2, 4), (-3, 3), (-4, 2))  # px, about FAR from the middle
EVEN = 1.4826  # median absolute value to standard deviation of a normal variable


@dataclass(frozen=True)
class Contrast:
    """An image less its local mean, smoothed for spots of a certain width: heights of peaks.

    values (rows, columns): at 1/reduction of the size of the image; noise: standard deviation of the values in blocks
    of `block` px of these; smoothing: sigma of the Gaussian, px of these; usable (rows, columns) of the image.
    """

    values: np.ndarray
    noise: np.ndarray
    block: int
    reduction: int
    smoothing: float
    usable: np.ndarray

    @property
    def precision(self):
        """Standard deviation of a coordinate of a peak, px of the image."""
        return PRECISION[0] + PRECISION[1] * self.reduction

    def at(self, positions):
        """Values and their noise (n,) at positions (n, 2), px, of the image, by linear interpolation."""
        x, y = ((np.asarray(positions) + 0.5) / self.reduction - 0.5).T
        values = ndimage.map_coordinates(self.values, [y, x], order=1, mode="nearest")
        return values, self.noise_at(x, y)

    def noise_at(self, x, y):
        """Noise at pixels of the reduced image."""
        down, across = (
            np.clip((np.asarray(place) // self.block).astype(int), 0, size - 1)
            for place, size in zip((y, x), self.noise.shape, strict=True)
        )
        return self.noise[down, across]

    def tops(self, positions, within):
        """The highest places within so many px (square) of positions (n, 2): places (n, 2) and significance (n,).

        Significance 0 where that place is at the edge of the square or not on usable pixels.
        """
        reach = max(1, round(within / self.reduction))
        x, y = np.rint((np.asarray(positions) + 0.5) / self.reduction - 0.5).astype(int).T
        rows, columns = self.values.shape
        x, y = (np.clip(place, reach + 1, size - reach - 2) for place, size in ((x, columns), (y, rows)))
        offsets = _square(reach)
        around = np.array([self.values[y + dy, x + dx] for dx, dy in offsets])
        dx, dy = np.array(offsets)[around.argmax(axis=0)].T
        places = (_tops(self.values, y + dy, x + dx) + 0.5) * self.reduction - 0.5
        inside = (np.maximum(np.abs(dx), np.abs(dy)) < reach) & self.known(places)
        return places, np.where(inside, around.max(axis=0) / self.noise_at(x, y), 0.0)

    def known(self, positions):
        """Whether positions (n, 2), px, are on usable pixels of the image and not beside others, (n,)."""
        margin = NEAR * self.reduction + 1
        x, y = np.rint(positions).astype(int).T
        rows, columns = self.usable.shape
        known = (np.minimum(x, y) >= margin) & (x < columns - margin) & (y < rows - margin)
        for dx, dy in ((-margin, 0), (0, 0), (margin, 0), (0, -margin), (0, margin)):
            known[known] &= self.usable[y[known] + dy, x[known] + dx]
        return known


@dataclass(frozen=True)
class PeakList:
    """Peaks, the most significant first: positions (n, 2), px; significance (n,), standard deviations."""

    positions: np.ndarray
    significance: np.ndarray

    def __len__(self):
        return len(self.positions)


def find_peaks(image, search):
    """Contrast and PeakList of an image, at the width of spots that makes the peaks clearest.

    search: SearchParameters. A ridge, as of a powder ring, is no peak, nor is a single bright pixel.
    """
    usable, found = image.usable, None
    counts, known = _filled(image, usable), usable
    for reduction in REDUCTIONS:
        if reduction > 1:
            counts, known = _halved(counts), _halved(known.astype(np.float32)) == 1
        if search.gauss_filter_strength >= 2 * SMOOTHING * reduction and reduction < REDUCTIONS[-1]:
            continue
        contrast = _contrast(counts, known, reduction, usable, search)
        peaks = _peaks(contrast, counts, known, search)
        clear = np.sum(np.log(peaks.significance / _sensitivity(search)))
        if found is None or clear > WORTH * found[0]:
            found = clear, contrast, peaks
        if search.gauss_filter_strength or min(counts.shape) < 2 * SMALLEST_IMAGE:
            break
    return found[1:]


def _filled(image, usable):
    """The counts as float32 (rows, columns), those of pixels that are not usable replaced by a mean near them."""
    counts = image.data.astype(np.float32)
    if usable.all():
        return counts
    counts[~usable] = 0.0
    total, number = (_blocks(array, FILLED).sum(axis=2) for array in (counts, usable.astype(np.float32)))
    nearest = ndimage.distance_transform_edt(number == 0, return_distances=False, return_indices=True)
    mean = (total / np.maximum(number, 1))[tuple(nearest)]
    y, x = np.nonzero(~usable)
    down, across = (np.minimum(place // FILLED, size - 1) for place, size in zip((y, x), mean.shape, strict=True))
    counts[y, x] = mean[down, across]
    return counts


def _halved(array):
    """Means of squares of 2 x 2 pixels."""
    rows, columns = (size // 2 * 2 for size in array.shape)
    down = array[0:rows:2, :columns] + array[1:rows:2, :columns]
    return (down[:, 0::2] + down[:, 1::2]) / 4


def _blocks(array, size):
    """Squares of `size` px, those that are whole, as (rows, columns, size^2)."""
    rows, columns = (length // size for length in array.shape)
    squares = array[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return squares.swapaxes(1, 2).reshape(rows, columns, size * size)


def _contrast(counts, known, reduction, usable, search):
    """The Contrast of counts that were reduced; known (rows, columns): which of them are of usable pixels."""
    sigma = search.gauss_filter_strength / reduction or SMOOTHING
    values = ndimage.gaussian_filter(counts, sigma, truncate=TRUNCATED)
    outer = search.outer_window_size // reduction
    if outer:
        values -= ndimage.uniform_filter(counts, 2 * outer + 1)
    else:
        values -= ndimage.gaussian_filter(counts, SURROUNDINGS * sigma, truncate=TRUNCATED)
    block = min(max(NOISE_BLOCK, 2 * outer + 1), min(counts.shape))
    noise = _noise(values, known, block)
    return Contrast(values, noise, block, reduction, sigma, usable)


def _noise(values, known, block):
    """Standard deviation of what is known of the values in each block."""
    deviations = np.abs(_blocks(values, block)[..., ::3])
    noise = EVEN * np.median(deviations, axis=2)
    seen = _blocks(known, block)[..., ::3]
    share = np.mean(seen, axis=2)
    for place in zip(*np.nonzero((share > LEAST_KNOWN) & (share < 1)), strict=True):
        noise[place] = EVEN * np.median(deviations[place][seen[place]])
    if (share > LEAST_KNOWN).any():
        nearest = ndimage.distance_transform_edt(share <= LEAST_KNOWN, return_distances=False, return_indices=True)
        noise = noise[tuple(nearest)]
    return np.maximum(noise, LEAST_NOISE * np.median(noise[noise > 0]) if np.any(noise > 0) else 1.0)


def _peaks(contrast, counts, known, search):
    """The PeakList of a Contrast; counts, known (rows, columns): what it was made from, and which of it is usable."""
    reach = max(1, search.inner_window_size // contrast.reduction) if search.inner_window_size else REACH
    y, x = _over(contrast, _sensitivity(search), ndimage.binary_erosion(known, iterations=MARGIN), max(reach, FAR))
    y, x = _highest(contrast.values, y, x, reach)
    noise = contrast.noise_at(x, y)
    pixel = 2 * np.pi**0.5 * contrast.smoothing * noise  # of white noise, which smoothing has made less
    good = _round(contrast.values, y, x) & _spread(counts, y, x, pixel)
    if search.inner_window_sensitivity:
        inner = np.mean([contrast.values[y + dy, x + dx] for dx, dy in _square(reach)], axis=0)
        good &= contrast.values[y, x] - inner > search.inner_window_sensitivity * noise
    significance = contrast.values[y, x] / noise
    order = np.argsort(-significance, kind="stable")
    order = order[good[order]][:MOST_PEAKS]
    top = _tops(contrast.values, y[order], x[order])
    return PeakList((top + 0.5) * contrast.reduction - 0.5, significance[order])


def _sensitivity(search):
    """Standard deviations that a peak stands out by at least."""
    return search.outer_window_sensitivity or search.peak_search_sensitivity or SENSITIVITY


def _over(contrast, sensitivity, known, margin):
    """Pixels (y, x) of the Contrast that stand out, at least `margin` px from its edges."""
    over = np.zeros(contrast.values.shape, bool)
    rows, columns = over.shape
    middle = slice(margin, columns - margin)
    across = np.minimum(np.arange(columns) // contrast.block, contrast.noise.shape[1] - 1)
    for number, noise in enumerate(contrast.noise):
        last = rows if number == len(contrast.noise) - 1 else (number + 1) * contrast.block
        band = slice(max(number * contrast.block, margin), min(last, rows - margin))
        over[band, middle] = contrast.values[band, middle] > sensitivity * noise[across][middle]
    return np.nonzero(over & known)


def _highest(values, y, x, reach):
    """Those of the pixels that are the highest within `reach`; of equal ones the last."""
    highest = np.ones(len(y), bool)
    for dx, dy in _square(reach):
        other = values[y + dy, x + dx]
        highest &= (values[y, x] > other) | ((values[y, x] == other) & ((dy, dx) <= (0, 0)))
    return y[highest], x[highest]


def _square(half):
    """Offsets (dx, dy) of the pixels of a square."""
    return [(dx, dy) for dy in range(-half, half + 1) for dx in range(-half, half + 1)]


def _derivatives(values, y, x, step):
    """First and second derivatives x, y, xx, xy, yy by central differences."""

    def at(dy, dx):
        return values[y + step * dy, x + step * dx].astype(float)

    first = (at(0, 1) - at(0, -1)) / 2, (at(1, 0) - at(-1, 0)) / 2
    mixed = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    return *first, at(0, 1) - 2 * at(0, 0) + at(0, -1), mixed, at(1, 0) - 2 * at(0, 0) + at(-1, 0)


def _round(values, y, x):
    """Whether a peak falls off to all sides, not only across a ridge."""
    _, _, xx, xy, yy = _derivatives(values, y, x, REACH)
    middle, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    sides = [np.minimum(values[y + dy, x + dx], values[y - dy, x - dx]) for dx, dy in HALF_CIRCLE]
    return (middle + half < LEAST_ROUNDNESS * (middle - half)) & (np.max(sides, axis=0) < RIDGE * values[y, x])


def _spread(counts, y, x, noise):
    """Whether the counts of a peak are spread over several pixels; noise (n,): of a pixel."""

    def around(y, x, offsets):
        return np.array([counts[y + dy, x + dx] for dx, dy in offsets], dtype=float)

    nine, far = _square(1), [(dx * FAR, dy * FAR) for dx, dy in _square(1) if dx or dy]
    background = np.median(around(y, x, far), axis=0)
    highest = np.argmax(around(y, x, nine), axis=0)
    dx, dy = np.array(nine)[highest].T
    height = counts[y + dy, x + dx] - background
    beside = np.median(around(y + dy, x + dx, [offset for offset in nine if offset != (0, 0)]), axis=0) - background
    return (height < SPIKE * noise) | (beside > LEAST_SPREAD * height)


def _tops(values, y, x):
    """Places (n, 2) of the tops as (x, y), of the parabola through the pixels round the highest."""
    gx, gy, xx, xy, yy = _derivatives(values, y, x, 1)
    determinant = xx * yy - xy * xy
    determinant = np.where((determinant > 0) & (xx < 0), determinant, np.inf)
    step = np.stack([xy * gy - yy * gx, xy * gx - xx * gy], axis=1) / determinant[:, None]
    return np.stack([x, y], axis=1) + np.clip(step, -0.7, 0.7)
