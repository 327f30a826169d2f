"""The lattice of a bare image: peaks, basis, indices, origin, refinement, and how sure all that is."""

from dataclasses import dataclass, replace

import numpy as np

from .differences import bases, differences, same_points
from .indexing import index_peaks, nearest, points_on
from .lattice import Lattice, reduced
from .orientation import like_cell, oriented, reciprocal_lengths
from .origin import origins
from .peaksearch import SENSITIVITY, find_peaks
from .refine import refine
from .sublattice import choose, surprise_between

SURE, MOST_SURE = 0.99, 0.999  # confidence that counts as sure, and that the calibration can tell from certainty
FEWEST_PEAKS, FEWEST_ON = 8, 6
FEWEST_ADDED = 3  # peaks on points that a known cell adds
STRONG = 400.0  # significance from which on peaks weigh alike
SHORTEST = 6.0, 4.5  # px, and px of the reduced image: length of a vector
MOST_REFINED = 1500  # points
SEEN = 3.5  # significance of a spot at a point that refines the lattice
WITHIN, FARTHEST = 4.0, 0.2  # precisions, or of the shorter vector: how far from its point a spot is looked for
SHARPNESS = 0.15, 1.5  # px of the reduced image: error of a spot, and times its significance
LOGISTIC = -10.9, 3.6, 0.8  # of the lattice: ln(odds) = l0 + l1 ln(peaks on it) + l2 (evidence for a peak of weight 1)
SUSPICIOUS = 5.5  # nats; surprise at peaks between the points, beyond which there may be points
DOUBTED = 0.5  # of the probability, that a doubt leaves


@dataclass(frozen=True)
class Candidate:
    """A lattice and the probability that it and its origin are right."""

    lattice: Lattice
    confidence: float


@dataclass(frozen=True)
class Search:
    """What a search has found; reason: why it is not sure, in words, "" where it is.

    best, runner_up: None where there is none. peaks (n, 2): px, the most significant first; on_lattice (n,): bool;
    rms: px, distance of the latter from the best lattice.
    """

    best: Candidate | None
    runner_up: Candidate | None
    sure: bool
    reason: str
    peaks: np.ndarray
    on_lattice: np.ndarray
    rms: float


def search_image(image, parameters):
    """The Search of an Image by the Parameters' `search` and, where its pixel size is given, their unit cell."""
    search = parameters.search
    contrast, peaks = find_peaks(image, search)
    if len(peaks) < FEWEST_PEAKS:
        return _nothing(f"only {len(peaks)} peaks stand out", peaks)
    weight = np.sqrt(np.minimum(peaks.significance, STRONG) / STRONG)
    found = differences(peaks.positions, weight, contrast.precision)
    shortest = search.minimal_lattice_length or max(SHORTEST[0], SHORTEST[1] * contrast.reduction)
    tried = bases(found, shortest=shortest, longest=search.maximal_lattice_length or np.inf)
    if not tried:
        return _nothing("the differences of the peaks do not repeat", peaks)
    indexed = choose(tried, peaks.positions, weight, found)
    cell, pixel_size = parameters.unit_cell, search.pixel_size
    lengths = reciprocal_lengths(cell, pixel_size) if cell and pixel_size else None
    indexed, doubts = _by_cell(indexed, peaks, weight, found, lengths)
    if indexed.on.sum() < FEWEST_ON:
        return _nothing(f"only {indexed.on.sum()} of {len(peaks)} peaks lie on one lattice", peaks)
    surprise, number = surprise_between(indexed, peaks.positions, found.precision)
    if surprise > SUSPICIOUS:
        doubts.append(f"{number} peaks lie half-way or at a third between its points: is there a finer lattice?")
    short, long = np.linalg.norm(reduced(indexed.lattice.basis), axis=1)
    if short < search.minimal_lattice_length or long > (search.maximal_lattice_length or np.inf):
        doubts.append(f"its vectors of {short:.1f} and {long:.1f} px are not within the lengths of LatticeSearch")
    return _judged(image, contrast, peaks, weight, indexed, doubts, _description(lengths))


def _nothing(reason, peaks):
    return Search(None, None, False, reason, peaks.positions, np.zeros(len(peaks), bool), np.nan)


def _by_cell(indexed, peaks, weight, found, lengths):
    """The Indexed, of the lattice that a known cell asks for where there is one, and doubts in words."""
    if lengths is None:
        return indexed, []
    basis = like_cell(indexed.lattice.basis, lengths)
    if basis is None:
        return indexed, ["its vectors do not fit UnitCell and PixelSize"]
    if same_points(basis, indexed.lattice.basis):
        return indexed, []
    asked = index_peaks(peaks.positions, weight, reduced(basis), found)
    finer = abs(np.linalg.det(basis)) < abs(np.linalg.det(indexed.lattice.basis))
    unseen = finer and not _centred(asked, basis) and np.sum(asked.on & ~indexed.on) < FEWEST_ADDED
    return asked, ["UnitCell and PixelSize ask for points at which no peak is"] if unseen else []


def _centred(indexed, basis):
    """Whether of the points by a basis (2, 2) only those with even h + k, or odd, have peaks: the cell is centred."""
    change = np.rint(reduced(basis) @ np.linalg.inv(basis)).astype(int)
    miller = (indexed.miller[indexed.on] - indexed.miller[indexed.on][:1]) @ change
    return bool(np.all(miller.sum(axis=1) % 2 == 0) and np.any(miller % 2))


def _description(lengths):
    """A function that describes a Lattice by the basis like that of the known cell, else by the usual one."""

    def describe(lattice):
        basis = like_cell(lattice.basis, lengths) if lengths else None
        a, b = oriented(lattice.basis) if basis is None else basis
        return replace(lattice, a=tuple(map(float, a)), b=tuple(map(float, b)))

    return describe


def _judged(image, contrast, peaks, weight, indexed, doubts, describe):
    """The Search that ends with an Indexed lattice; describe: gives the basis that it is described by."""
    found = origins(image, contrast, indexed)
    clear = peaks.significance >= SENSITIVITY  # of the weaker ones that a user asks for many are noise
    on, number = int(np.sum(indexed.on & clear)), int(clear.sum())
    odds = np.array(LOGISTIC) @ (1.0, np.log(max(on, 1)), indexed.evidence / float(weight.sum()))
    vectors = DOUBTED ** len(doubts) / (1 + np.exp(-odds))
    if vectors < SURE and not doubts:
        doubts = [f"only {on} of {number} clear peaks lie on it"]
    if found.probability[0] < SURE:
        doubts = [*doubts, _doubt_of(found)]
    spots = _spots(image, contrast, indexed)
    best, *others = (
        Candidate(describe(_refined(indexed, miller, *spots)), min(float(vectors * probability), MOST_SURE))
        for miller, probability in zip(found.miller[:2], found.probability, strict=False)
    )
    _, off = nearest(best.lattice, peaks.positions)
    rms = float(np.sqrt(np.mean(off[indexed.on] ** 2)))
    sure = best.confidence >= SURE
    reason = "" if sure else "; ".join(doubts) or "small doubts add up"
    return Search(best, others[0] if others else None, sure, reason, peaks.positions, indexed.on, rms)


def _doubt_of(found):
    """In words, why the origin is not certain."""
    steps = np.abs(found.miller[1] - found.miller[0])
    where = "one vector off" if steps.max() == 1 else f"({steps[0]}, {steps[1]}) vectors off"
    pairs, correlation = found.pairs[0], found.correlation[0]
    return f"the origin may be {where} ({pairs:.0f} Friedel pairs, correlation {correlation:.2f})"


def _spots(image, contrast, indexed):
    """Miller indices, positions and their variances (n, 2), px^2, of what is seen at the points of a lattice."""
    miller, expected = points_on(image.shape, indexed)
    some = slice(None, None, 1 + len(miller) // MOST_REFINED)
    shorter = np.linalg.norm(indexed.lattice.basis, axis=1).min()
    within = max(2 * contrast.reduction, min(WITHIN * contrast.precision, FARTHEST * shorter))
    observed, significance = contrast.tops(expected[some], within)
    seen = significance > SEEN
    error = contrast.reduction * (SHARPNESS[0] + SHARPNESS[1] / significance[seen])
    return miller[some][seen], observed[seen], np.repeat(error[:, None] ** 2, 2, axis=1)


def _refined(indexed, origin, miller, observed, variance):
    """The Lattice about the point `origin` (2,), refined against spots where these are enough."""
    (x, y), (a, b) = indexed.lattice.position(origin[None])[0], indexed.lattice.basis_at(origin)
    start = Lattice((float(x), float(y)), tuple(map(float, a)), tuple(map(float, b)))
    try:
        return refine(start, miller - origin, observed, variance).lattice
    except ValueError:
        return start
