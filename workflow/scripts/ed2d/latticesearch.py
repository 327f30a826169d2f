"""The order of the search step: peaks, basis, indices, origin, refinement, confidence."""

from dataclasses import dataclass

import numpy as np

from .differences import bases, differences

from .lattice import Lattice
from .indexing import points_on
from .origin import origins
from .peaksearch import find_peaks
from .refine import refine
from .sublattice import choose

FEWEST_PEAKS = 8
SHORTEST = 6.0, 4.5  # px, and px of the reduced image: length of a vector
STRONG = 400.0  # significance from which on peaks weigh alike
MOST_REFINED = 1500  # peaks
SEEN = 3.5
WITHIN = 4.0
SYSTEMATIC, BROAD = 0.15, 1.5


@dataclass(frozen=True)
class Candidate:
    """A lattice and the probability that it is the right one."""

    lattice: Lattice
    confidence: float


@dataclass(frozen=True)
class Search:
    """What a search found: best and second best Candidate, or None; whether the best is sure, else the reason.

    peaks (n, 2): px, the most significant first; on_lattice (n,): bool; rms: their distance from the lattice, px.
    """

    best: Candidate | None
    runner_up: Candidate | None
    sure: bool
    reason: str
    peaks: np.ndarray
    on_lattice: np.ndarray
    rms: float


def debug_search(image, search):
    contrast, peaks = find_peaks(image, search)
    out = dict(contrast=contrast, peaks=peaks, why='')
    if len(peaks) < FEWEST_PEAKS:
        return out | dict(why='few peaks')
    weight = np.sqrt(np.minimum(peaks.significance, STRONG) / STRONG)
    found = differences(peaks.positions, weight, contrast.precision)
    shortest = max(SHORTEST[0], SHORTEST[1] * contrast.reduction)
    tried = bases(found, shortest=search.minimal_lattice_length or shortest, longest=search.maximal_lattice_length or np.inf)
    if not tried:
        return out | dict(why='no basis')
    indexed = choose(tried, peaks.positions, weight, found)
    out |= dict(indexed=indexed, weight=weight)
    if indexed.on.sum() < 6:
        return out | dict(why='few on')
    o = origins(image, contrast, indexed)
    out |= dict(origins=o)
    start = lattice_at(indexed.lattice, o.miller[0])
    miller, positions = points_on(image.shape, indexed)
    miller, positions = miller[:: 1 + len(miller) // MOST_REFINED], positions[:: 1 + len(miller) // MOST_REFINED]
    spacing = np.linalg.norm(indexed.lattice.basis, axis=1).min()
    observed, significance = contrast.tops(positions, max(2*contrast.reduction, min(WITHIN * contrast.precision, 0.2 * spacing)))
    on = significance > SEEN
    error = contrast.reduction * (SYSTEMATIC + BROAD / significance[on])
    var = np.repeat(error[:, None] ** 2, 2, axis=1)
    out['seen']=on.sum(), len(on)
    try:
        r = refine(start, miller[on] - o.miller[0], observed[on], var)
        out |= dict(refined=r, lattice=r.lattice)
    except ValueError as e:
        out |= dict(lattice=start)
    return out


def lattice_at(bent, miller):
    """The Lattice, without distortions, of a BentLattice about one of its points."""
    (x, y), (a, b) = bent.position(np.array([miller]))[0], bent.basis_at(miller)
    return Lattice((float(x), float(y)), tuple(map(float, a)), tuple(map(float, b)))
