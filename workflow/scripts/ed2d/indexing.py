"""Peaks get Miller indices from one of them outward, on a lattice that bends as it may."""

from dataclasses import dataclass

import numpy as np

from .differences import log_odds

SMALL_STEPS = 2  # lattice vectors of at most so many basis vectors tell how well a peak is embedded
STARTS = 3  # well-embedded peaks to start from
APART = 3.0  # longer basis vectors, between two of these
FIRST, GROWTH = 2.2, 1.35  # radius of the first circle in longer basis vectors, and of the next one over the last
NEAR = 4.0, 0.08, 0.02  # precisions, or of the shorter vector, and of the longer: how far off its point a peak may be
FARTHEST = 0.25  # of the shorter vector
FEWEST = {1: 5, 2: 25, 3: 45}  # peaks for a polynomial of this degree
LONG = 4.0  # shorter vectors, radius from which on a lattice may bend
STIFFNESS = 0.02  # of the extent: expected bending, which keeps polynomials from running away
FITS, ROUNDS = 6, 3
LEAST_SCATTER = 1.0, 5.0  # px, and medians: distance at which a peak counts no more
LEAST_AREA = 0.5  # of the cell, which a fit must not fall below
EDGE = 0.5  # px, of the pixels at the edge of an image
DIVERGED = 1e6  # index; farther out the inverse of a polynomial is not known
MARGIN = 4  # lattice points beyond the peaks, where a polynomial can still be trusted


@dataclass(frozen=True)
class BentLattice:
    """Positions as a polynomial of Miller indices: coefficients (m, 2) of the monomials of indices / scale."""

    coefficients: np.ndarray
    degree: int
    scale: float

    @classmethod
    def straight(cls, origin, basis):
        """A lattice that does not bend."""
        return cls(np.vstack([origin, basis]), 1, 1.0)

    def position(self, miller):
        """Positions (n, 2), px, of (fractional) Miller indices (n, 2)."""
        return _monomials(np.asarray(miller) / self.scale, self.degree) @ self.coefficients

    def basis_at(self, miller):
        """Basis vectors as rows, (2, 2), px, at a point: half the way between its neighbours."""
        steps = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]]) / 2
        around = self.position(np.asarray(miller) + steps)
        return around[:2] - around[2:]

    @property
    def basis(self):
        """Basis vectors at the index (0, 0)."""
        return self.coefficients[1:3] / self.scale

    def index(self, positions, iterations=8):
        """Fractional Miller indices (n, 2) of positions (n, 2), px: inverse of `position` by fixed-point iteration."""
        inverse = np.linalg.inv(self.basis)
        miller = (positions - self.coefficients[0]) @ inverse
        for _ in range(iterations if self.degree > 1 else 0):
            miller = np.clip(miller + (positions - self.position(miller)) @ inverse, -DIVERGED, DIVERGED)
        return miller


@dataclass(frozen=True)
class Indexed:
    """Peaks on a bent lattice: nearest miller (n, 2), int; distance (n,) from there, px; on (n,): bool, near enough.

    evidence: weighted logarithm of the odds of peaks on the lattice against peaks anywhere.
    """

    lattice: BentLattice
    miller: np.ndarray
    distance: np.ndarray
    on: np.ndarray
    evidence: float


def index_peaks(positions, weight, basis, found, starts=None):
    """The Indexed of peaks (n, 2) with weights (n,) by a basis (2, 2), whose Differences `found` tell where to start.

    Or the peaks `starts` do.
    Each circle about the start is indexed by the lattice fitted within the last one, so that a lattice which bends by
    more than its spacing over the image keeps its indices.
    """
    starts = _starts(positions, basis, found) if starts is None else starts
    tried = [_grown(positions, weight, basis, found.precision, start) for start in starts]
    return max(tried, key=lambda one: one.evidence)


def nearest(lattice, positions):
    """Nearest Miller indices (n, 2), int, of positions and the distances (n,), px."""
    miller = np.rint(lattice.index(positions))
    return miller.astype(int), np.linalg.norm(positions - lattice.position(miller), axis=1)


def points_on(shape, indexed):
    """Miller indices (n, 2), int, and positions, px, of the points of an Indexed lattice on an image of a shape."""
    rows, columns = shape
    edge = np.array([[x, y] for x in (0, columns / 2, columns) for y in (0, rows / 2, rows)], float)
    reached = np.concatenate([indexed.lattice.index(edge), indexed.miller[indexed.on]])
    own = indexed.miller[indexed.on]
    span = np.ptp(own, axis=0) + MARGIN
    low = np.maximum(np.floor(reached.min(axis=0)), own.min(axis=0) - span).astype(int)
    high = np.minimum(np.ceil(reached.max(axis=0)), own.max(axis=0) + span).astype(int)
    miller = np.mgrid[low[0] : high[0] + 1, low[1] : high[1] + 1].reshape(2, -1).T
    positions = indexed.lattice.position(miller)
    inside = np.all((positions > -EDGE) & (positions < np.array([columns, rows]) - EDGE), axis=1)
    return miller[inside], positions[inside]


def _starts(positions, basis, found):
    """Peaks that have most others at small lattice vectors, and are apart."""
    steps, off = found.steps(basis)
    small = (np.max(np.abs(steps), axis=1) <= SMALL_STEPS) & np.any(steps != 0, axis=1) & (off < 3)
    support = np.zeros(len(positions))
    for end in (found.first, found.second):
        np.add.at(support, end[small], found.weight[small])
    apart, starts = APART * np.linalg.norm(basis, axis=1).max(), []
    for peak in np.argsort(-support, kind="stable"):
        if all(np.linalg.norm(positions[peak] - positions[other]) > apart for other in starts):
            starts.append(peak)
        if len(starts) == STARTS:
            break
    return starts


def _grown(positions, weight, basis, precision, start):
    """Indexed from one peak outward."""
    short, long = np.sort(np.linalg.norm(basis, axis=1))
    limit = min(FARTHEST * short, max(NEAR[0] * precision, NEAR[1] * short) + NEAR[2] * long)
    lattice = BentLattice.straight(positions[start], basis)
    distance = np.linalg.norm(positions - positions[start], axis=1)
    radius, most = FIRST * long, distance.max()
    while True:
        inside = distance <= radius
        lattice = _fitted(lattice, positions[inside], weight[inside], limit, bends=radius > LONG * short)
        if radius >= most:
            break
        radius = min(GROWTH * radius, most)
    for _ in range(ROUNDS):
        _, off = nearest(lattice, positions)
        scatter = np.median(off[off < limit]) if np.any(off < limit) else limit
        lattice = _fitted(lattice, positions, weight, min(limit, max(LEAST_SCATTER[0], LEAST_SCATTER[1] * scatter)))
    miller, off = nearest(lattice, positions)
    density = abs(np.linalg.det(basis)) / (2 * np.pi * precision**2) * np.exp(-0.5 * (off / precision) ** 2)
    return Indexed(lattice, miller, off, off < limit, log_odds(density, weight))


def _fitted(lattice, positions, weight, limit, bends=True):
    """The lattice fitted to the peaks within a distance of its points; as it is where they are too few."""
    miller, off = nearest(lattice, positions)
    on = off < limit
    degree = max((d for d, fewest in FEWEST.items() if on.sum() >= fewest and (bends or d == 1)), default=0)
    if not degree or np.linalg.matrix_rank(miller[on] - miller[on].mean(axis=0)) < 2:
        return lattice
    fitted = _robust(miller[on], positions[on], weight[on], degree, limit)
    enough = abs(np.linalg.det(fitted.basis)) > LEAST_AREA * abs(np.linalg.det(lattice.basis))
    return fitted if enough else lattice


def _robust(miller, positions, weight, degree, limit):
    """BentLattice by least squares with Tukey's biweight that ends at `limit`, and a prior on the bending."""
    scale = float(max(np.abs(miller).max(), 1))
    terms = _monomials(miller / scale, degree)
    stiff = np.zeros(terms.shape[1])
    bending = STIFFNESS * np.ptp(positions, axis=0).max()
    stiff[3:] = (limit / bending) ** 2 * np.mean(terms[:, 3:] ** 2, axis=0)
    now = weight
    for _ in range(FITS):
        normal = terms.T @ (now[:, None] * terms) + np.diag(stiff) + 1e-9 * np.eye(len(stiff))
        coefficients = np.linalg.solve(normal, terms.T @ (now[:, None] * positions))
        off2 = np.sum((positions - terms @ coefficients) ** 2, axis=1)
        now = weight * np.maximum(1 - off2 / limit**2, 0) ** 2
    return BentLattice(coefficients, degree, scale)


def _monomials(miller, degree):
    """1, h, k, h^2, hk, k^2 ... (n, m) up to a degree."""
    h, k = np.asarray(miller, float).T
    terms = [np.ones(len(h))]
    for d in range(degree):
        terms += [h * term for term in terms[-d - 1 :]] + [k * terms[-1]]
    return np.stack(terms, axis=1)
