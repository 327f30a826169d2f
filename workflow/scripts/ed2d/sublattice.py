"""Which of several lattices with common points is the right one."""

from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from .differences import log_odds
from .indexing import index_peaks
from .lattice import reduced

MOST_PEAKS = 800  # the clearest, by which lattices are compared
ALIKE = 0.03  # of the evidence; lattices with less between them concentrate the peaks alike
FRACTIONS = {2: ((1, 0), (0, 1), (1, 1)), 3: ((1, 0), (0, 1), (1, 1), (1, 2))}  # of 1 / index: points between
MOST_CHANGES = 3  # by 2 or 3, to coarser and to finer ones
WITHIN, FARTHEST = 4.0, 0.2  # precisions, or of the shorter vector, from a fraction to peaks that may be of it
CERTAIN_SURPRISE = 14.0  # nats, at the number of peaks at a fraction: one in a million
EXACT, CERTAIN = 3.5, 5.0  # standard errors that their mean may be off, and is off without doubt
CLOSE = 0.15  # precisions of a peak, that it may be off in any case
BLURRED = 1.3  # precisions beyond that of the peaks on the lattice, their median distance from the fraction
OBLONG = 2.5  # times farther along one direction than across: on both sides of the fraction
MANY = 10  # peaks of a class
STRONGER = 1.2  # times, that a class is to be taken for the lattice in place of its own


class Between(NamedTuple):
    """Peaks at a simple fraction of the cell: surprise at them, nats; number; fraction (2,); whether sharply there."""

    surprise: float
    number: int
    fraction: np.ndarray
    sharp: bool


def choose(bases, positions, weight, found):
    """The Indexed of the basis whose cell concentrates the peaks most, made finer where peaks are at exact fractions.

    bases: of `differences.bases`; positions, weight: peaks, the clearest first. Of lattices that concentrate the peaks
    alike that with the most points is taken: a coarser one has classes of peaks that lie alike in its cell.
    """
    tried = [index_peaks(positions, weight, basis, found) for basis in bases]
    value = [concentration(one.lattice, positions, weight, found.precision) for one in tried]
    alike = [one for one, gain in zip(tried, value, strict=True) if gain >= max(value) - ALIKE * abs(max(value))]
    chosen = min(alike, key=lambda one: abs(np.linalg.det(one.lattice.basis)))
    for change in (*[_coarser] * MOST_CHANGES, *[_finer] * MOST_CHANGES):
        basis = change(chosen, positions, found.precision)
        if basis is not None:
            chosen = index_peaks(positions, weight, reduced(basis), found)
    strongest = _strongest(chosen, positions, weight, found.precision)
    return chosen if strongest is None else index_peaks(positions, weight, chosen.lattice.basis, found, [strongest])


def concentration(lattice, positions, weight, precision):
    """Evidence that peaks (n, 2) concentrate at few places of the cell of a BentLattice, wherever in it.

    `log_odds` of A p, with p the density in the cell A of the other peaks, smoothed by the precision. Points
    of a modulated crystal and their satellites concentrate in its cell, while a lattice with points enough for all of
    them has a small cell.
    """
    positions, weight = positions[:MOST_PEAKS], weight[:MOST_PEAKS]
    phase = lattice.index(positions)
    difference = phase[:, None] - phase
    x, y = np.moveaxis((difference - np.rint(difference)) @ lattice.basis, 2, 0)
    variance = 2 * precision**2
    kernel = np.exp(-0.5 * (x * x + y * y) / variance) / (2 * np.pi * variance)
    np.fill_diagonal(kernel, 0.0)
    density = abs(np.linalg.det(lattice.basis)) * (kernel @ weight) / (weight.sum() - weight)
    return log_odds(density, weight)


def _strongest(indexed, positions, weight, precision):
    """A peak of the strongest class of places in the cell, where that is not the lattice: satellites were indexed."""
    positions, weight = positions[:MOST_PEAKS], weight[:MOST_PEAKS] ** 2
    lattice, variance = indexed.lattice, 2 * precision**2
    phase = lattice.index(positions)
    difference = phase[:, None] - np.vstack([phase, np.zeros(2)])
    x, y = np.moveaxis((difference - np.rint(difference)) @ lattice.basis, 2, 0)
    strength = weight @ np.exp(-0.5 * (x * x + y * y) / variance)
    best = int(np.argmax(strength[:-1]))
    far = not indexed.on[best]
    return best if far and strength[best] > STRONGER * strength[-1] else None


def surprise_between(indexed, positions, precision):
    """Surprise, nats, at the peaks at a simple fraction of the cell, where it is largest, and their number."""
    found = _fractions(indexed, positions, precision)
    most = max(found, key=lambda one: one.surprise, default=Between(0.0, 0, None, True))
    return most.surprise, most.number


def _finer(indexed, positions, precision):
    """The basis of the lattice that has the points at a fraction too, where chance has not so many peaks; or None."""
    found = [one for one in _fractions(indexed, positions, precision) if one.sharp and one.surprise > CERTAIN_SURPRISE]
    if not found:
        return None
    return _with_point(indexed.lattice.basis, max(found, key=lambda one: one.surprise).fraction)


def _fractions(indexed, positions, precision):
    """Between of each simple fraction of the cell that has more peaks than chance, on all multiples of it.

    Satellites are left out: they stand beside it.
    The surprise is the bound of Chernoff (1952), n ln(n / m) - n + m nats, at n peaks where chance has m.
    """
    basis = indexed.lattice.basis
    phase = indexed.lattice.index(positions[~indexed.on])
    within = min(WITHIN * precision, FARTHEST * np.linalg.norm(basis, axis=1).min())
    chance = np.pi * within**2 / abs(np.linalg.det(basis))
    limit = BLURRED * precision + np.median(indexed.distance[indexed.on])
    for index, fractions in FRACTIONS.items():
        for fraction in np.array(fractions) / index:
            off = [_within(phase - multiple * fraction, basis, within) for multiple in range(1, index)]
            number = sum(map(len, off))
            expected = chance * (index - 1) * (len(phase) - number + 1)
            if not all(map(len, off)) or number <= max(1, expected):
                continue
            if _astride(off, precision) or _off(off, precision, EXACT):
                continue
            sharp = np.median(np.linalg.norm(np.concatenate(off), axis=1)) <= limit
            yield Between(number * np.log(number / expected) - number + expected, number, fraction, sharp)


def _coarser(indexed, positions, precision):
    """The basis of the sublattice of the clearest peaks, where others stand beside their points; or None."""
    off = (positions - indexed.lattice.position(indexed.miller))[indexed.on]
    miller = indexed.miller[indexed.on]
    for index, forms in FRACTIONS.items():
        for form in np.array(forms):
            label = miller @ form % index
            first = np.bincount(label[: len(label) // 2], minlength=index).argmax()
            others = [off[(label - first) % index == number] for number in range(1, index)]
            if min(map(len, others)) >= MANY and _off(others, precision, CERTAIN):
                return _sublattice(index, form) @ indexed.lattice.basis
    return None


def _within(phase, basis, limit):
    """How far (n, 2), px, peaks are from a lattice point, those within a limit."""
    off = (phase - np.rint(phase)) @ basis
    return off[np.linalg.norm(off, axis=1) < limit]


def _off(classes, precision, certain):
    """Whether peaks stand beside points by their mean: classes of (n, 2), px, their distances from there.

    certain: standard errors. Satellites on the two sides of a spot are beside a simple fraction by opposite distances.
    """
    off = np.concatenate([classes[0], *(-others for others in classes[1:])])
    mean = np.median(off, axis=0)
    error = np.sqrt(np.pi / 2 * np.mean(np.sum((off - mean) ** 2, axis=1)) / 2 / len(off))
    return np.linalg.norm(mean) > max(certain * error, CLOSE * precision)


def _astride(classes, precision):
    """Whether peaks stand on both sides of points, as satellites near a half do."""
    off = np.concatenate(classes)
    low, high = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(off.T)), 0))
    return len(off) >= MANY and high > OBLONG * low + CLOSE * precision


def _sublattice(index, form):
    """The transformation (2, 2) to the sublattice of the points n with n . form = 0 modulo a prime index."""
    steps = product(range(-index, index + 1), repeat=2)
    whole = [np.array(n) for n in steps if any(n) and np.dot(n, form) % index == 0]
    pairs = (np.array([u, v]) for u, v in combinations(whole, 2))
    return next(pair for pair in pairs if abs(round(np.linalg.det(pair))) == index)


def _with_point(basis, fraction):
    """A basis (2, 2) of the lattice that has the point at a fraction too."""
    vectors = [*basis, fraction @ basis]
    pairs = [np.array([u, v]) for u, v in product([vectors[2]], vectors[:2])]
    return min(pairs, key=lambda pair: abs(np.linalg.det(pair)) if abs(np.linalg.det(pair)) > 1e-6 else np.inf)
