"""What hides the detector: beam stop and bar, dead strips and tiles, shaded corners, the edge of a round detector."""

import numpy as np
from scipy import fft, ndimage

from .cells import TILE, distance_from, enlarged, grid_of, noise_of, reduced, sampled, without_spots
from .lit import Lit
from .maskshapes import bands, rasterise
from .outlines import outlines
from .strips import dark_strips, dead_strips

LEVELS = 3  # grids; the cells of each are twice as large as those of the one before
REACH = 2  # cells; an edge is sharp where the signal changes within so many cells to each side
SHARP = 1.7  # times; of the signal on both sides of an edge
DARK = 2.0  # times; a shadow is that much darker than what it hides
DARK_START = 1.4  # the same, near a shadow that somebody has drawn
NEAR_START = 60.0  # px
FLOOR = 0.05  # of the typical signal: smaller differences of the signal count for nothing
SIGNIFICANT = 4.0  # standard deviations of the difference across an edge
NOISY = 0.5  # of the typical signal: noise of the cells of a grid that is too fine
CLEAR = 2.0  # times: least rise of the signal at the edge of a shadow, from
DEPTHS, OUTSIDE = (1, 2, 3), (3, 6)  # cells; where it is measured inside of the edge, outside, and beyond
OPENING = 18.0  # px, and 3 cells at least; outside of an edge, what is narrower and bright does not count
OPENED = 4.0  # standard deviations; beside noise
SLOPE_REACH = 2.0  # times the rise beyond, which is a slope and no edge
CLEAR_SHARE, CLEAR_SHARE_START = 0.65, 0.4  # of the edge
FEWEST_CELLS, LARGEST = 12, 0.6  # of a shadow; of the image: the rest is rather something bright
DARKEST = 10  # cells that may be darker than the pedestal
UNSHADED = 0.5  # of the typical signal: nothing else is darker, so the darkest shadow does not tell the pedestal
ROUNDS = 3  # estimates of the pedestal
EDGINGS = 2  # times an edge is placed
SMOOTH, SMOOTHINGS = 0.08, (0.5, 4.0)  # of the typical signal; cells
OPEN = 0.95  # of the signal outside: where the soft edge of a shadow ends
WIDEST_EDGE = 40.0  # px
MARGIN = 2.0  # px beyond the soft edge
TOLERANCE, MOST_NODES = 0.7, 200  # px; of all outlines


def find_shadows(image, *, start=()):
    """Shapes of `ed2d.maskshapes` that cover the shadows on an `ed2d.image.Image` and their soft edges.

    A shadow is darker than what lies beside it, by the factor DARK above the pedestal of the detector and across an
    edge of few pixels, along most of its outline. Bright spots, halos, rings and slopes have no such outlines.
    start: shapes drawn for many images; near them less is asked of a shadow, and their pixels are looked at although
    they are ignored.
    """
    hidden = _ignored(image, start)
    dead = dead_strips(image.data, image.saturated)
    hidden = _with(dead, hidden, image.shape)
    grid = grid_of(image.data, hidden)
    pedestal = _darkest(grid, np.zeros(grid.mean.shape, bool))
    dark = dark_strips(image.data, hidden, pedestal, float(np.median(grid.mean)) - pedestal)
    if dark:
        grid = grid_of(image.data, _with(dark, hidden, image.shape))
    near = distance_from(sampled(rasterise(start, image.shape), grid)) * grid.size <= NEAR_START
    shadow = _shadows(grid, near)
    edges = outlines(shadow, size=grid.size, shape=image.shape, tolerance=TOLERANCE, most=MOST_NODES)
    return (*edges, *(strip for strip in (*dead, *dark) if not _covered(strip, shadow, grid.size)))


def _with(shapes, hidden, shape):
    """The pixels `hidden` (or None) and those of the shapes."""
    if not shapes:
        return hidden
    found = rasterise(shapes, shape)
    return found if hidden is None else found | hidden


def _covered(strip, shadow, size):
    """Whether a rectangle lies in the shadows."""
    (left, top), (right, bottom) = (tuple(max(int(v // size), 0) for v in point) for point in (strip.start, strip.end))
    return bool(shadow[top : bottom + 1, left : right + 1].all())


def _ignored(image, start):
    """Pixels not to be looked at, or None: ignored ones outside of `start`, and all that are no number."""
    if not image.ignored.any():
        return None
    if not start:
        return image.ignored
    found = image.ignored & ~rasterise(start, image.shape)
    if image.data.dtype.kind == "f":
        for rows in bands(image.shape):
            found[rows] |= ~np.isfinite(image.data[rows])
    return found


# ---- shadows


def _shadows(grid, near):
    """Bool (rows, columns) of the grid: shadows with their margins."""
    found = np.zeros(grid.mean.shape, bool)
    for _ in range(ROUNDS):
        pedestal = _darkest(grid, found)
        new = _at_levels(grid, found, near, pedestal) & ~found
        if not new.any():
            break
        found |= new
        rest = grid.mean[grid.valid & ~found]
        if not len(rest) or _darkest(grid, found) - pedestal < UNSHADED * (np.median(rest) - pedestal):
            break
    return found


def _darkest(grid, found):
    """The pedestal, counts: what the darkest cells have, of those that are not `found`."""
    smooth = ndimage.uniform_filter(grid.mean, 3)[grid.valid & ~found]
    if len(smooth) == 0:
        return 0.0
    few = min(DARKEST, len(smooth) - 1)
    return float(np.partition(smooth, few)[few])


def _at_levels(grid, known, near, pedestal):
    """Shadows found on grids of all sizes, drawn on the finest, with margins."""
    found, level, lit = known.copy(), grid, None
    for step in range(LEVELS):
        if min(level.mean.shape) < 4 * TILE:
            break
        lit = lit or Lit.of(grid, pedestal)
        cores = _cores(level, found, near, pedestal, step, lit)
        if cores is not None and cores.any():
            found |= _refined(grid, cores, found, 2**step, pedestal)
        level = level.coarser()
    return found


def _cores(level, found, near, pedestal, step, lit):
    """Cells of the finest grid in a shadow that the one of this step shows; None where its cells are too noisy.

    Where a dark region is lit, the search is repeated on either side of its edge.
    """
    factor, shape = 2**step, level.mean.shape
    known, near = (reduced(mask, factor, shape) for mask in (found, near))

    def dark(hidden):
        cores = _candidates(level, hidden, near, pedestal)
        if cores is None:
            return None, None
        cores = enlarged(cores, factor, found.shape)
        bright = lit.regions(cores, found, 2 * factor)
        return cores & ~bright, bright

    cores, bright = dark(known)
    if cores is None or not bright.any():
        return cores
    for side in (bright, ~bright):
        beyond = reduced(distance_from(~side) <= (REACH + 1) * factor, factor, shape)
        more, _ = dark(known | beyond)
        if more is not None:
            cores |= more
    return cores


def _candidates(grid, known, near, pedestal):
    """Cells of a grid that lie in a shadow which is not `known`; None where the cells are too noisy."""
    noise = noise_of(grid.mean)
    clipped = without_spots(grid.mean, noise, pedestal)
    smooth = ndimage.gaussian_filter(clipped, 1.0) - pedestal
    usable = grid.valid & ~known
    if not usable.any():
        return None
    typical = max(float(np.median(smooth[usable])), 0.0)
    sigma = 0.3 * noise.of(smooth + pedestal)
    if float(np.median(sigma[usable])) >= NOISY * typical:
        return None
    floor = max(FLOOR * typical, 2 * float(np.min(sigma[usable])))
    reflectance = _reflectance(np.maximum(smooth, 0) + floor, sigma, usable)
    weight = np.clip(smooth, 0, np.quantile(smooth[usable], 0.6)) * usable
    level = _weighted_median(reflectance, weight)
    dark = (reflectance < level - np.where(near, np.log(DARK_START), np.log(DARK))) & usable
    opening = max(3, 2 * int(OPENING / grid.size / 2) + 1)
    between = np.minimum(smooth, ndimage.grey_opening(smooth, opening) + OPENED * sigma)
    return _with_clear_edges(dark, (smooth, between), sigma, floor, usable, near)


def _reflectance(signal, sigma, usable):
    """The logarithm of the signal made of its sharp edges alone: it changes there as the signal does, and nowhere else.

    Retinex (Horn, 1974): the least-squares solution is Poisson's equation, solved by cosine transforms.
    """
    divergence = np.zeros(signal.shape, np.float32)
    for axis in (0, 1):
        s, e, u, d = (np.moveaxis(a, axis, 0) for a in (signal, sigma, usable, divergence))
        gradient = np.where(_sharp(s, e) & u[1:] & u[:-1], np.diff(np.log(s), axis=0), 0)
        d[:-1] += gradient
        d[1:] -= gradient
    waves = [2 * np.cos(np.pi * np.arange(n) / n) - 2 for n in signal.shape]
    eigenvalue = waves[0][:, None] + waves[1]
    eigenvalue[0, 0] = 1.0
    spectrum = fft.dctn(divergence, type=2) / eigenvalue
    spectrum[0, 0] = 0.0
    return fft.idctn(spectrum, type=2)


def _sharp(signal, sigma):
    """Pairs of neighbours along the first axis between which an edge is: bool, a row less than `signal`."""
    rows = np.arange(len(signal) - 1)
    low, high = np.maximum(rows - REACH, 0), np.minimum(rows + 1 + REACH, len(signal) - 1)
    one, other = signal[low], signal[high]
    ratio = np.maximum(one, other) > SHARP * np.minimum(one, other)
    return ratio & (np.abs(other - one) > SIGNIFICANT * np.hypot(sigma[high], sigma[low]))


def _weighted_median(values, weight):
    order = np.argsort(values, axis=None)
    total = np.cumsum(weight.ravel()[order], dtype=float)
    return float(values.ravel()[order[min(np.searchsorted(total, 0.5 * total[-1]), len(order) - 1)]])


def _with_clear_edges(dark, signals, sigma, floor, usable, near):
    """Those of the connected cells `dark` at most of whose edge the signal rises more than it rises beyond.

    signals: that of all cells, and that of what is wider than spots and rings, which counts outside of the edge.
    """
    label, number = ndimage.label(dark)
    least = np.where(near, DARK_START, CLEAR)
    edges, clear = np.zeros(number + 1), np.zeros(number + 1)
    for axis in (0, 1):
        for step in (1, -1):
            names, good = _clear(
                *(np.moveaxis(a, axis, 0)[::step] for a in (label, *signals, sigma, usable, least)), floor
            )
            edges += np.bincount(names, minlength=number + 1)
            clear += np.bincount(names, good, minlength=number + 1)
    share = clear / np.maximum(edges, 1)
    cells = np.bincount(label.ravel(), minlength=number + 1)
    beside = np.zeros(number + 1, bool)
    beside[np.unique(label[near])] = True
    kept = (
        (share > np.where(beside, CLEAR_SHARE_START, CLEAR_SHARE))
        & (cells >= FEWEST_CELLS)
        & (cells <= LARGEST * label.size)
    )
    kept[0] = False
    return kept[label]


def _clear(label, smooth, between, sigma, usable, least, floor):
    """Labels of the lower edges of cells (n,), and whether the signal rises there as at the edge of a shadow."""
    row, column = np.nonzero((label[:-1] > 0) & (label[1:] == 0) & usable[1:])
    names, last = label[row, column], len(label) - 1

    def signal(step, values=smooth):
        return np.maximum(values[np.clip(row + step, 0, last), column], 0)

    depths = [np.where(label[np.maximum(row - step, 0), column] == names, signal(-step), np.inf) for step in DEPTHS]
    inside = np.minimum(signal(0), np.min(depths, axis=0))
    outside, beyond = (0.5 * (signal(first, between) + signal(first + 1, between)) for first in OUTSIDE)
    slope = np.maximum(np.log((beyond + floor) / (outside + floor)), 0) * SLOPE_REACH
    rise = np.log((outside + floor) / (inside + floor)) - slope
    error = sigma[np.clip(row + OUTSIDE[0], 0, last), column]
    return names, (rise > np.log(least[row, column])) & (outside - inside > SIGNIFICANT * error)


# ---- edges


def _refined(grid, cores, known, factor, pedestal):
    """The shadows whose cells on a grid `factor` times coarser are `cores`, with their soft edges and margins."""
    noise = noise_of(grid.mean)
    clipped = without_spots(grid.mean, noise, pedestal)
    smooth = ndimage.gaussian_filter(clipped, _smoothing(clipped, noise, pedestal))
    found = np.zeros(cores.shape, bool)
    label, _ = ndimage.label(cores)
    everything = cores | known
    for name, place in enumerate(ndimage.find_objects(label), start=1):
        reach = 8 * factor + int(WIDEST_EDGE / grid.size)
        place = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in place)
        one = label[place] == name
        found[place] |= _one_refined(smooth[place], one, everything[place] & ~one, grid.size, factor)
    return found


def _smoothing(mean, noise, pedestal):
    """Width, cells, of the smoothing after which the typical signal has the noise SMOOTH."""
    level = float(np.median(ndimage.uniform_filter(mean, TILE)))
    return float(np.clip(0.28 * noise.of(level) / max(SMOOTH * (level - pedestal), 1e-9), *SMOOTHINGS))


def _one_refined(smooth, core, other, size, factor):
    """One shadow on a piece of the grid, its edge where the signal is half of that outside."""
    half = core
    for _ in range(EDGINGS):
        half, share = _half(smooth, half, other, factor)
    distance = distance_from(half)
    return distance * size <= _edge_width(share, distance, other, size, 2 * factor) + MARGIN


def _half(smooth, core, other, factor):
    """Where near the edge of `core` the signal is less than half of that outside, and the share of it, of all cells."""
    width = 4 * factor + 1
    depth, away = distance_from(~core), distance_from(core)
    inside = _spread(smooth, core & (depth > min(2 * factor, 0.6 * depth.max())), width)
    beyond = ~core & ~other & (away > 2 * factor) & (away <= 6 * factor + 2)
    outside = _spread(smooth, beyond, width)
    share = (smooth - inside) / np.maximum(outside - inside, 1e-6)
    band = (away <= 2.5 * factor) & (depth <= 2.5 * factor)
    label, _ = ndimage.label(np.where(band, (share < 0.5) & ~other, core))
    kept = np.zeros(label.max() + 1, bool)
    kept[label[core]] = True
    kept[0] = False
    return kept[label], share


def _edge_width(share, distance, other, size, length):
    """Distance, px, from the middle of the edge to where the signal rises no more than it does `length` cells on."""
    most = int(WIDEST_EDGE / size)
    ring = np.where((distance > 0) & ~other, np.ceil(distance), 0).astype(int)
    there = np.bincount(np.minimum(ring.ravel(), most + 2 * length + 1), minlength=most + 2 * length + 2)[1:-1] > 0
    profile = np.full(len(there), np.nan)
    profile[there] = ndimage.median(share, ring, 1 + np.flatnonzero(there))
    near, far, beyond = (profile[first : first + most] for first in (0, length, 2 * length))
    settled = ~((near * beyond < OPEN * far * far) | (near < 0.5))
    return (int(np.argmax(settled)) + 0.5 if settled.any() else most) * size


def _spread(values, where, width):
    """Mean of the values at the cells `where` near each cell, of all of them where none is near."""
    if not where.any():
        return np.full(values.shape, values.min())
    weight = ndimage.uniform_filter(where.astype(np.float32), width, mode="constant")
    mean = ndimage.uniform_filter(np.where(where, values, 0), width, mode="constant") / np.maximum(weight, 1e-6)
    return np.where(weight > 1e-4, mean, np.median(values[where]))
