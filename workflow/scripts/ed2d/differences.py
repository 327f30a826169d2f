"""Basis vectors of a lattice from the differences of neighbouring peaks, wherever its origin is."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .lattice import reduced

MOST_PEAKS, NEIGHBOURS = 1200, 60  # the clearest peaks, and the nearest of these to each
BENDING = 0.008  # of a difference: what lenses change it by from place to place
STRAY = (0.1, 0.3, 0.6, 0.85, 0.95)  # shares that may be anything
CELLS = 400  # of the map of differences, from its middle to its edge
MOST_VECTORS, DENSEST = 30, 8  # that are tried in pairs, and that have bases of their own
MOST_BASES, OF_DENSEST = 5, 3  # that are given
FEW, MANY, MOST = 1000, 6000, 15_000  # differences that bases are compared by, all of them and the best, and in all
LEAST_SINE = 0.3  # of the angle of a reduced basis; it has 0.87 at least, less its errors
SAME = 0.03  # of the shortest vector, by which equal vectors may differ
CENTRINGS, REFINEMENTS = 3, 4
WITHIN = 3.0  # standard deviations


@dataclass(frozen=True)
class Differences:
    """Differences (n, 2), px, from peaks `first` (n,) to peaks `second` (n,), with the lesser of their weights."""

    vectors: np.ndarray
    weight: np.ndarray
    first: np.ndarray
    second: np.ndarray
    precision: float

    def __len__(self):
        return len(self.vectors)

    def __getitem__(self, rows):
        arrays = (getattr(self, name)[rows] for name in ("vectors", "weight", "first", "second"))
        return Differences(*arrays, self.precision)

    @property
    def sigma(self):
        """Standard deviations (n,) of the coordinates, px: of two peaks, and bent by the lenses."""
        return 2**0.5 * self.precision + BENDING * np.linalg.norm(self.vectors, axis=1)

    def steps(self, basis):
        """The nearest lattice vectors (n, 2) as whole numbers, and how far off, in standard deviations, (n,)."""
        steps = np.rint(self.vectors @ np.linalg.inv(basis))
        return steps, np.linalg.norm(self.vectors - steps @ basis, axis=1) / self.sigma

    def evidence(self, basis):
        """`log_odds` of the density A / (2 pi sigma^2) exp(-d^2 / 2), A the area of the cell.

        A lattice with more points than are needed loses by its small cells.
        """
        steps, off = self.steps(basis)
        area = abs(np.linalg.det(basis))
        density = area / (2 * np.pi * self.sigma**2) * np.exp(-0.5 * off**2) * np.any(steps != 0, axis=1)
        return log_odds(density, self.weight)


def log_odds(density, weight):
    """Weighted logarithm of the odds of things with a density (n,), in units of an even one, against things anywhere.

    The largest of sum w ln(e + (1 - e) density) for the shares e of STRAY of things that may be anywhere.
    """
    return max(float(np.sum(weight * np.log(share + (1 - share) * density))) for share in STRAY)


def differences(positions, weight, precision):
    """Differences of each of the first, clearest peaks to its nearest among them; one of each opposite pair."""
    positions, weight = positions[:MOST_PEAKS], weight[:MOST_PEAKS]
    number = min(NEIGHBOURS, len(positions) - 1)
    x, y = positions.T
    distance = np.hypot(x[:, None] - x, y[:, None] - y)
    np.fill_diagonal(distance, np.inf)
    second = np.argpartition(distance, number - 1, axis=1)[:, :number].ravel()
    first = np.repeat(np.arange(len(positions)), number)
    pairs = np.unique(np.sort(np.stack([first, second], axis=1), axis=1), axis=0)
    first, second = pairs.T
    return Differences(positions[second] - positions[first], np.minimum(*weight[pairs.T]), first, second, precision)


def bases(found, *, shortest, longest):
    """Reduced bases (2, 2) that Differences speak for; vectors between two lengths, px.

    Those with most evidence, and those with most of the few vectors that most differences accumulate at: with
    satellites the former are lattices of spots and satellites together.
    """
    found = found[:: 1 + len(found) // MOST]
    vectors = _accumulations(found, shortest)
    kept = _best(found, _pairs(vectors, shortest, longest), MOST_BASES)
    of_densest = _best(found, _pairs(vectors[:DENSEST], shortest, longest), OF_DENSEST)
    return _unlike([*kept, *of_densest], MOST_BASES + OF_DENSEST)


def _best(found, tried, most):
    """The bases with most evidence, refined."""
    for number, left in ((FEW, 4 * most), (MANY, 2 * most)):
        some = found[:: 1 + len(found) // number]
        tried = _unlike(sorted(tried, key=some.evidence, reverse=True), left)
    return _unlike((_refined(found, basis) for basis in tried), most)


def _unlike(tried, most):
    """The first of all bases that span the same lattice, so many at most."""
    kept = []
    for basis in tried:
        if len(kept) < most and not any(same_points(basis, other) for other in kept):
            kept.append(basis)
    return kept


def _pairs(vectors, shortest, longest):
    """The reduced bases (2, 2) of all pairs of vectors (n, 2) that lengths and angles allow."""
    for number, u in enumerate(vectors):
        for v in vectors[:number]:
            if abs(u[0] * v[1] - u[1] * v[0]) < shortest**2 * LEAST_SINE:
                continue
            basis = reduced(np.array([u, v]))
            short, long = np.linalg.norm(basis, axis=1)
            if shortest <= short and long <= longest and abs(np.linalg.det(basis)) > LEAST_SINE * short * long:
                yield basis


def same_points(one, other):
    """Whether two bases span the same lattice."""
    change = one @ np.linalg.inv(other)
    whole = np.rint(change)
    return abs(abs(np.linalg.det(whole)) - 1) < 0.5 and np.max(np.abs(change - whole)) < SAME


def _accumulations(found, shortest):
    """The vectors (m, 2), px, that differences accumulate at, those of most first; of two opposite ones either."""
    length = np.linalg.norm(found.vectors, axis=1)
    reach = np.percentile(length, 95)
    near = (length > shortest) & (length < reach)
    if not near.any():
        return np.empty((0, 2))
    both = np.concatenate([found.vectors[near], -found.vectors[near]])
    weight = np.tile(found.weight[near], 2)
    step = reach / CELLS
    cell = np.rint(both / step).astype(int) + CELLS
    side = 2 * CELLS + 1
    density = np.bincount(cell[:, 1] * side + cell[:, 0], weight, side * side).reshape(side, side)
    blur = (2**0.5 * found.precision + BENDING * reach / 2) / step
    density = ndimage.gaussian_filter(density, blur)
    highest = density == ndimage.maximum_filter(density, 2 * int(np.ceil(1.2 * blur)) + 1)
    y, x = np.nonzero(highest & (density > 0))
    above = (y > CELLS) | ((y == CELLS) & (x > CELLS))
    y, x = y[above], x[above]
    most = np.argsort(-density[y, x], kind="stable")[:MOST_VECTORS]
    vectors = (np.stack([x, y], axis=1)[most] - CELLS) * step
    return np.array([_centred(both, weight, vector, found) for vector in vectors])


def _centred(vectors, weight, start, found):
    """Mean of the vectors near a place."""
    radius = 2 * (2**0.5 * found.precision + BENDING * np.linalg.norm(start))
    for _ in range(CENTRINGS):
        near = np.sum((vectors - start) ** 2, axis=1) < radius**2
        if near.any():
            start = np.average(vectors[near], axis=0, weights=weight[near])
    return start


def _refined(found, basis):
    """The basis, reduced, by least squares of the differences near its vectors."""
    for _ in range(REFINEMENTS):
        steps, off = found.steps(basis)
        near = (off < WITHIN) & np.any(steps != 0, axis=1)
        weight = (found.weight / found.sigma**2 * near)[:, None]
        normal = steps.T @ (weight * steps)
        if np.linalg.det(normal) <= 1e-9 * np.trace(normal) ** 2:
            break
        basis = np.linalg.solve(normal, steps.T @ (weight * found.vectors))
    return reduced(basis)
