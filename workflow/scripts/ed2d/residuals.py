"""Residual variances against expected counts: of the background between the spots, and of the pixels under them."""

from dataclasses import dataclass, fields, replace

import numpy as np

from . import gaussian
from .boxes import chunks, evenly, grid, median, nearest_pixels
from .noise import outlying
from .polynomials import box_monomials, monomials, normal_matrix

MOST_BLOCKS = 4000
BAND = 2**22  # pixels that are worked on together
FEWEST_PIXELS = 0.27  # of a block of background
ZINGER = 7.0  # standard deviations
CLEAN_SHARE = 0.2  # of the blocks hold no zinger, however many there are
ABOVE_CLEAN = 1.3  # times the variance of these blocks; below it a block tells the skewness
MOST_CLEANINGS = 10
DEAD = 1e-9  # of the middle variance; blocks below it are dead
MOST_SPOTS = 1000
CHUNK = 128  # spots
CORE = 0.1  # of the peak; pixels above it are under the spot
FEWEST_DOF = 3  # that the pixels under one spot keep
MOST_GROUPS = 24


@dataclass(frozen=True)
class Evidence:
    """Residual variances of n groups of pixels, blocks of background or the pixels under one spot.

    counts (n,): expected counts, pedestal included; variance (n,): counts^2, freed of the leverage of the fit that
    left the residuals; dof (n,): its degrees of freedom; per_pixel (n,): 1/pixels where the counts are a mean that
    has noise, else 0; misfit (n,): mean square of the spot, counts^2, 0 for background; absorbed (n,): variance that
    the fit took up over the variance that it left.
    """

    counts: np.ndarray
    variance: np.ndarray
    dof: np.ndarray
    per_pixel: np.ndarray
    misfit: np.ndarray
    absorbed: np.ndarray

    def __len__(self):
        return len(self.counts)

    def __getitem__(self, rows):
        return Evidence(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def joined(parts):
        """One from several."""
        return Evidence(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Evidence)))

    @property
    def under_spots(self):
        """True for spots, (n,)."""
        return self.misfit > 0

    def correlated(self, ratio):
        """The same where the noise of many pixels, which fits take up, is `ratio` times that of single ones."""
        return replace(self, variance=self.variance / np.maximum(1 - (ratio - 1) * self.absorbed, 0.2))


@dataclass(frozen=True)
class Surface:
    """Polynomials of `degree` on blocks of side 2 half + 1 px."""

    half: int
    degree: int

    @property
    def side(self):
        return 2 * self.half + 1

    @property
    def terms(self):
        """Number of coefficients."""
        return (self.degree + 1) * (self.degree + 2) // 2

    def monomials(self, degree):
        """Monomials (side^2, ...) up to `degree` of the place in the block."""
        return box_monomials(self.half, degree)

    def normal(self, free):
        """Normal matrices (m, terms, terms) of least squares on the free pixels (m, side^2)."""
        ridge = 1e-9 * free.sum(axis=1)[:, None, None] * np.eye(self.terms)
        return normal_matrix(free @ self.monomials(2 * self.degree), self.degree, self.degree) + ridge

    def residual(self, values, free):
        """Residuals (m, side^2) of the free pixels, 0 elsewhere, and their variances (m,)."""
        number = free.sum(axis=1)
        mean = np.einsum("np,np->n", free, values) / np.maximum(number, 1)
        centred = free * (values - mean[:, None])
        terms = self.monomials(self.degree)
        coefficients = np.linalg.solve(self.normal(free), (centred @ terms)[..., None])[..., 0]
        residual = centred - free * (coefficients @ terms.T)
        return residual, np.einsum("np,np->n", residual, residual) / np.maximum(number - self.terms, 1)


@dataclass(frozen=True)
class Blocks:
    """m square blocks of background about their surfaces.

    residual (m, side^2): counts, 0 where not free; free (m, side^2): 1.0 or 0.0; counts (m,): mean; variance (m,).
    """

    surface: Surface
    residual: np.ndarray
    free: np.ndarray
    counts: np.ndarray
    variance: np.ndarray

    def __len__(self):
        return len(self.counts)

    @property
    def pixels(self):
        """Number of free pixels, (m,)."""
        return self.free.sum(axis=1)

    def evidence(self):
        """The blocks as Evidence."""
        dof = np.maximum(self.pixels - self.surface.terms, 1)
        per_pixel, absorbed = 1 / self.pixels, self.surface.terms / dof
        return Evidence(self.counts, self.variance, dof, per_pixel, np.zeros(len(self)), absorbed)


def background(image, positions, *, clearance, half, degree):
    """Blocks of side 2 half + 1 px, at most MOST_BLOCKS evenly over the image, without spots, zingers, dead blocks.

    positions (n, 2): px, of the spots; pixels within `clearance` px (square) of the nearest pixel are left out;
    degree: of the surfaces.
    """
    surface = Surface(half, degree)
    down, across = (length // surface.side for length in image.shape)
    chosen = evenly(down * across, MOST_BLOCKS)
    free = _free_squares(image, positions, clearance, chosen, surface.side)
    keep = np.count_nonzero(free, axis=1) >= FEWEST_PIXELS * surface.side**2
    values = _squares(image.data, chosen[keep], surface.side)
    values, free = np.where(free[keep], values, 0).astype(float), free[keep].astype(float)
    residual, variance = _clean(values, free, surface)
    alive = variance > DEAD * np.median(variance) if len(variance) else np.zeros(0, bool)
    counts = np.einsum("np,np->n", values[alive], free[alive]) / free[alive].sum(axis=1)
    return Blocks(surface, residual[alive], free[alive], counts, variance[alive])


def _free_squares(image, positions, clearance, chosen, side):
    """Usable pixels of the chosen squares (m, side^2), farther than `clearance` px from the nearest pixel of every
    position; chosen (m,): ascending.
    """
    rows, columns = (length // side for length in image.shape)
    high, pixels, found = max(1, BAND // (side * image.shape[1])), nearest_pixels(positions), []
    for top in range(0, rows, high):
        band = slice(top * side, min(top + high, rows) * side)
        free = image.usable_in(band)
        free &= ~_taken(pixels - (0, band.start), clearance, free.shape)
        here = chosen[(chosen >= top * columns) & (chosen < (top + high) * columns)]
        found.append(_squares(free, here - top * columns, side))
    return np.concatenate(found) if found else np.zeros((0, side**2), bool)


def _taken(pixels, clearance, shape):
    """Pixels (rows, columns) of an image at most `clearance` px from pixels (n, 2), along each axis."""
    rows, columns = shape
    taken = np.zeros((rows + 2 * clearance, columns + 2 * clearance), bool)
    x, y = (pixels + clearance).T
    inside = (x >= 0) & (x < taken.shape[1]) & (y >= 0) & (y < taken.shape[0])
    taken[y[inside], x[inside]] = True
    reach = 1
    while reach < 2 * clearance + 1:
        step = min(reach, 2 * clearance + 1 - reach)
        taken = taken[step:] | taken[:-step]
        taken = taken[:, step:] | taken[:, :-step]
        reach += step
    return taken


def _squares(array, chosen, side):
    """The chosen squares (m, side^2) of an image cut into squares, counted row by row."""
    down, across = (length // side for length in array.shape)
    row, column = np.divmod(chosen, max(across, 1))
    whole = array[: down * side, : across * side].reshape(down, side, across, side)
    return whole[row, :, column].reshape(len(chosen), side**2)


def _clean(values, free, surface):
    """Residuals and variances of blocks; takes from `free` the pixels that the noise of clean blocks cannot explain.

    Where several pixels of a block are too far off, those above half of the farthest go first: they draw the surface.
    """
    residual, variance = surface.residual(values, free)
    if not len(values):
        return residual, variance
    level = median(values[:, ::4], free[:, ::4] > 0)
    expected = first_line(level, variance, CLEAN_SHARE)
    clean = residual[variance < ABOVE_CLEAN * expected]
    skewed = max(np.sum(clean * clean * clean), 0.0) / max(np.sum(clean * clean), 1e-300)
    rows, left = np.arange(len(values)), residual
    for _ in range(MOST_CLEANINGS):
        far = outlying(left, expected[rows, None], skewed, ZINGER)
        hit = far.any(axis=1)
        rows, size = rows[hit], np.abs(left[hit]) * far[hit]
        if not len(rows):
            break
        free[rows] *= size <= 0.5 * size.max(axis=1, keepdims=True)
        left, variance[rows] = surface.residual(values[rows], free[rows])
        residual[rows] = left
    return residual, variance


def first_line(signal, variance, share):
    """Variances (n,) on the line through the quantiles `share` of the variances in groups of similar signal."""
    parts = np.array_split(np.argsort(signal, kind="stable"), max(1, min(MOST_GROUPS, len(signal) // 8)))
    x = np.array([np.median(signal[part]) for part in parts])
    y = np.array([np.quantile(variance[part], share) for part in parts])
    weight = 1 / np.maximum(y, 1e-3 * y.max() + 1e-150) ** 2
    level, height = np.average(x, weights=weight), np.average(y, weights=weight)
    spread = np.average((x - level) ** 2, weights=weight)
    slope = np.average((x - level) * (y - height), weights=weight) / max(spread, 1e-300)
    return np.maximum(height + max(slope, 0.0) * (signal - level), 0.3 * y.min() + 1e-300)


def under_spots(boxes, fits):
    """Evidence of the pixels under well-fitted spots, a row for each of at most MOST_SPOTS boxes.

    boxes: Boxes; fits: free Fits with equal weights for their usable pixels.
    With equal weights the model misses the same share of a strong and of a weak spot, and no noise model is needed.
    A fit takes up a part of the noise: the residuals are (1 - H) y with H the projection on the tangent space, and
    for pixels of variances V the expectation of residual_i^2 is sum_k (1 - H)_ik^2 V_k. V is a straight line of the
    counts, so the sum of squares under a spot lies on the same line, at the counts averaged with left_k = sum_i
    (1 - H)_ik^2: exactly, however uneven V is.
    """
    rows = evenly(len(boxes), MOST_SPOTS)
    parts = [rows[part] for part in chunks(len(rows), CHUNK)] or [rows]
    return Evidence.joined([_under_spots(boxes[part], fits[part]) for part in parts])


def _under_spots(boxes, fits):
    counts = gaussian.model(boxes.half, fits)
    tangent, bell = _tangent(boxes.half, counts, fits)
    core = (bell > CORE) & boxes.usable
    tangent *= boxes.usable[..., None]
    under = tangent * core[..., None]
    inverse = np.linalg.pinv(tangent.transpose(0, 2, 1) @ tangent, hermitian=True)
    shared = inverse @ (under.transpose(0, 2, 1) @ under)
    leverage = np.sum((under @ inverse) * under, axis=2)
    left = core - 2 * leverage + np.sum((tangent @ (shared @ inverse)) * tangent, axis=2)
    total, pixels = np.maximum(left.sum(axis=1), 1e-9), np.count_nonzero(core, axis=1)
    level = np.sum(left * counts, axis=1) / total
    variance = np.sum(np.where(core, boxes.values - counts, 0) ** 2, axis=1) / total
    kept = pixels - np.trace(shared, axis1=1, axis2=2)
    squares = 2 * kept - pixels + np.sum(shared * shared.transpose(0, 2, 1), axis=(1, 2))
    evidence = Evidence(
        counts=level,
        variance=variance,
        dof=kept**2 / np.maximum(squares, 1e-9) * _evenness(left, counts, level, variance),
        per_pixel=np.zeros(len(boxes)),
        misfit=np.sum((core * fits.amplitude[:, None] * bell) ** 2, axis=1) / total,
        absorbed=pixels / total - 1,
    )
    return evidence[kept > FEWEST_DOF]


def _tangent(half, counts, fits):
    """The nine derivatives (n, side^2, 9) of a Gaussian on a plane, up to a linear map, and the Gaussian itself."""
    dx, dy = grid(half)
    bell = (counts - fits.plane @ monomials(dx, dy, 1).T) / fits.amplitude[:, None]
    terms = box_monomials(half, 2)
    return np.concatenate([np.broadcast_to(terms[:, :3], (*bell.shape, 3)), bell[..., None] * terms], axis=2), bell


def _evenness(left, counts, level, variance):
    """Effective share (n,) of the degrees of freedom where pixels of unlike variance are summed; 1 for equal ones.

    The variances are a line common to all spots: a weight that followed the spot's own would make its gain too small.
    """
    if not len(level):
        return level
    line = first_line(level, variance, 0.5)
    slope = np.ptp(line) / max(np.ptp(level), 1e-300)
    each = np.maximum(line.min() + slope * (counts - level.min()), 0.1 * line.min())
    return np.sum(left * each, axis=1) ** 2 / np.maximum(left.sum(axis=1) * np.sum(left * each**2, axis=1), 1e-300)
