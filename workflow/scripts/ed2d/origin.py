"""Which point of a lattice is its origin: symmetry of the intensities, centre of the background, place on the image."""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from .indexing import points_on

FEWEST_PAIRS = 3
LARGEST_CORRELATION = 0.995
FRIEDEL = 0.5  # of the logarithm of the odds that correlation of pairs gives, as pairs are not independent
NEIGHBOURHOOD = 2.5  # lattice points, sigma of the Gaussian mean that intensities are compared with
SCALE = 2.0  # standard deviations, below which intensities count linearly and above which by their logarithm
BLOCKS = 36  # along the longer side of the image, whose lower counts are the background
LOWER = 0.6  # share of the pixels of a block that are taken, the lowest: spots are left out
SOME = 200  # pixels of a block
KNOTS = 14  # of the background as a function of the radius
BENT = 1.5  # median deviations from which on a block counts less
BACKGROUND = 15.0, 0.04  # blocks' worth of odds; deviation, as part of the level, that is not worth telling
GRID, STEP = 9, 2.0  # places along each side that are tried first, px at which the search for the centre ends
PLACE = 0.25  # of the sides, standard deviation of origins about the middle of images
MOST_TRIED = (25, 12, 4)  # best points by symmetry, nearest to the centre of the background, and to the middle


@dataclass(frozen=True)
class Origins:
    """Points that may be the origin, the most probable first: miller (n, 2), int; odds (n,): logarithms; and why.

    symmetry, background, place (n,): their parts; correlation (n,) of the Friedel pairs about the point, pairs (n,).
    """

    miller: np.ndarray
    odds: np.ndarray
    symmetry: np.ndarray
    background: np.ndarray
    place: np.ndarray
    correlation: np.ndarray
    pairs: np.ndarray

    @property
    def probability(self):
        """Of each point, (n,), that it is the origin, if one of them is."""
        odds = np.exp(self.odds - self.odds[0])
        return odds / odds.sum()


def origins(image, contrast, indexed):
    """The Origins of an Indexed lattice on an Image with its Contrast."""
    miller, positions = points_on(image.shape, indexed)
    known = contrast.known(positions)
    symmetry, correlation, pairs = _symmetry(miller, known, *contrast.at(positions))
    background = Background.of(image)
    middle, sides = np.array(image.shape[::-1]) / 2, np.array(image.shape[::-1])
    centre = background.centre(sides) if background else middle
    some = [
        order[:most]
        for order, most in zip(
            (
                np.argsort(-symmetry, kind="stable"),
                np.argsort(np.linalg.norm(positions - centre, axis=1), kind="stable"),
                np.argsort(np.linalg.norm(positions - middle, axis=1), kind="stable"),
            ),
            MOST_TRIED,
            strict=True,
        )
    ]
    some = np.unique(np.concatenate(some))
    blocks, floor = BACKGROUND
    place = -0.5 * np.sum(((positions[some] - middle) / sides / PLACE) ** 2, axis=1)
    misfit = np.array([background.misfit(at) for at in positions[some]]) if background else np.zeros(len(some))
    halo = -blocks * np.log((misfit + floor) / (misfit.min() + floor))
    parts = FRIEDEL * symmetry[some], halo, place, correlation[some], pairs[some]
    odds = sum(parts[:3])
    best = np.argsort(-odds, kind="stable")
    return Origins(miller[some][best], odds[best], *(part[best] for part in parts))


# ---- symmetry


def _symmetry(miller, known, values, noise):
    """For each point (n,): logarithm of the odds that intensities about it are pairs, their correlation and number.

    The logarithm for n pairs of correlation r > 0 is -n/2 ln(1 - r^2), that of normal variables.
    """
    strength = np.arcsinh(values / (SCALE * noise))
    first, size = miller.min(axis=0), np.ptp(miller, axis=0) + 1
    place = tuple((miller - first).T)
    there, level = np.zeros(size), np.zeros(size)
    there[place], level[place] = known, np.where(known, strength, 0.0)
    level = np.where(there > 0, level - _mean_of_others(level, there), 0.0)
    number, product, total, square = (
        _about(one, other)[tuple(2 * (miller - first).T)]
        for one, other in ((there, there), (level, level), (level, there), (level**2, there))
    )
    pairs = np.rint(number) / 2
    number = np.maximum(number, 1)
    variance = square / number - (total / number) ** 2
    covariance = product / number - (total / number) ** 2
    enough = (pairs >= FEWEST_PAIRS) & (variance > 0)
    correlation = np.where(enough, covariance / np.where(enough, variance, 1.0), 0.0)
    correlation = np.clip(correlation, 0.0, LARGEST_CORRELATION)
    return -pairs / 2 * np.log(1 - correlation**2), correlation, pairs


def _mean_of_others(level, there):
    """Gaussian mean of the points round each, without itself, (rows, columns)."""
    own = 1 / (2 * np.pi * NEIGHBOURHOOD**2)
    total, number = (ndimage.gaussian_filter(array, NEIGHBOURHOOD, mode="constant") for array in (level, there))
    return (total - own * level) / np.maximum(number - own * there, 1e-6)


def _about(one, other):
    """Sums over n of one[n] other[c - n] for every c, (2 rows - 1, 2 columns - 1)."""
    size = [2 * length - 1 for length in one.shape]
    return np.fft.irfft2(np.fft.rfft2(one, size) * np.fft.rfft2(other, size), size)


# ---- background


@dataclass(frozen=True)
class Background:
    """Lower counts of blocks of an image: positions (n, 2), px; level (n,); weight (n,): 1/level above the darkest."""

    positions: np.ndarray
    level: np.ndarray
    weight: np.ndarray
    tilt: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, image):
        """The Background of an Image; None where too little of it is usable."""
        size = max(4, -(-max(image.shape) // BLOCKS))
        positions, level = [], []
        usable = image.usable
        for top in range(0, image.shape[0] - size + 1, size):
            for left in range(0, image.shape[1] - size + 1, size):
                square = slice(top, top + size), slice(left, left + size)
                counts = image.data[square][usable[square]]
                if 2 * len(counts) > size * size:
                    counts = np.sort(counts[:: 1 + len(counts) // SOME].astype(float))
                    positions.append((left, top))
                    level.append(np.mean(counts[: max(1, int(LOWER * len(counts)))]))
        if len(level) < 4 * KNOTS:
            return None
        positions, level = np.array(positions) + (size - 1) / 2, np.array(level)
        above = level - np.percentile(level, 2)
        least = 0.3 * max(np.median(above), 0.02 * np.percentile(above, 90), 1e-3)
        tilt = (positions - positions.mean(axis=0)) / np.ptp(positions, axis=0).max()
        return cls(positions, level, 1 / (np.maximum(above, 0) + least), tilt)

    def misfit(self, centre):
        """Mean relative deviation from any function of the radius about a centre plus a plane."""
        radius = np.linalg.norm(self.positions - centre, axis=1)
        knots = np.unique(np.append(0.0, np.quantile(radius, np.linspace(0.01, 1, KNOTS) ** 1.3)))
        below = np.clip(np.searchsorted(knots, radius) - 1, 0, len(knots) - 2)
        part = np.clip((radius - knots[below]) / np.diff(knots)[below], 0, 1)
        terms = np.zeros((len(radius), len(knots) + 2))
        rows = np.arange(len(radius))
        terms[rows, below], terms[rows, below + 1], terms[:, -2:] = 1 - part, part, self.tilt
        terms *= self.weight[:, None]
        wanted, now = self.level * self.weight, np.ones(len(radius))
        for _ in range(3):
            normal = terms.T @ (now[:, None] * terms)
            normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
            off = np.abs(wanted - terms @ np.linalg.solve(normal, terms.T @ (now * wanted)))
            scatter = 1.4826 * np.median(off) + 1e-6
            now = 1 / np.maximum(1, off / (BENT * scatter))
        return float(np.mean(np.minimum(off, 6 * scatter)))

    def centre(self, sides):
        """The centre (x, y), px, that misfits least, by a search on finer and finer grids."""
        steps = np.linspace(0.1, 0.9, GRID)
        tried = [np.array([x, y]) * sides for x in steps for y in steps]
        misfit, best = min((self.misfit(at), tuple(at)) for at in tried)
        step = 0.8 / (GRID - 1) * sides
        while step.max() > STEP:
            step = step / 2
            around = [np.array(best) + step * (dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]
            misfit, best = min((misfit, best), *((self.misfit(at), tuple(at)) for at in around))
        return np.array(best)
