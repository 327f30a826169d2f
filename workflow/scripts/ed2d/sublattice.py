"""Which of several lattices with common points is the right one."""

from itertools import product

import numpy as np

from .differences import STRAY
from .indexing import index_peaks
from .lattice import reduced

MOST_PEAKS = 800  # the clearest, by which lattices are compared
ALIKE = 0.03  # of the evidence; lattices with less between them concentrate the peaks alike
FRACTIONS = {2: ((1, 0), (0, 1), (1, 1)), 3: ((1, 0), (0, 1), (1, 1), (1, 2))}  # of 1 / index: points between
FINER_TIMES = 3  # that a lattice can be made finer by 2 or 3
WITHIN = 4.0  # precisions, from a fraction to the peaks that may be of it
FEWEST = 4  # peaks at a fraction
ABOVE_CHANCE = 4.0  # standard deviations of their number
EXACT, CLOSE = 4.0, 0.35  # standard errors, or precisions of a peak, that their mean may be off
BLURRED = 1.5  # times that of the peaks on the lattice, their median distance from the fraction


def choose(bases, positions, weight, found):
    """The Indexed of the basis whose cell concentrates the peaks most, made finer where peaks are at exact fractions.

    bases: of `differences.bases`; positions, weight: peaks, the clearest first. Of lattices that concentrate the peaks
    alike that with the most points is taken: a coarser one has classes of peaks that lie alike in its cell.
    """
    tried = [index_peaks(positions, weight, basis, found) for basis in bases]
    value = [concentration(one.lattice, positions, weight, found.precision) for one in tried]
    alike = [one for one, gain in zip(tried, value, strict=True) if gain >= max(value) - ALIKE * abs(max(value))]
    chosen = min(alike, key=lambda one: abs(np.linalg.det(one.lattice.basis)))
    for _ in range(FINER_TIMES):
        basis = _finer(chosen, positions, found.precision)
        if basis is None:
            break
        chosen = index_peaks(positions, weight, reduced(basis), found)
    return chosen


def concentration(lattice, positions, weight, precision):
    """Evidence that peaks (n, 2) concentrate at few places of the cell of a BentLattice, wherever in it.

    sum w ln(e + (1 - e) A p), with p the density in the cell A of the other peaks, smoothed by the precision. Points
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
    return float(np.sum(weight * np.log(STRAY + (1 - STRAY) * density)))


def _finer(indexed, positions, precision):
    """The basis of the lattice that has the points at a fraction too, where most peaks are exactly there; or None."""
    phase = indexed.lattice.index(positions[~indexed.on])
    found = []
    for index, fractions in FRACTIONS.items():
        for fraction in fractions:
            numbers = [
                _at(np.array(fraction) * multiple / index, phase, indexed, precision) for multiple in range(1, index)
            ]
            if all(numbers):
                found.append((sum(numbers) / (index - 1), index, fraction))
    if not found:
        return None
    _, index, fraction = max(found)
    return _with_point(indexed.lattice.basis, np.array(fraction) / index)


def _at(fraction, phase, indexed, precision):
    """Number of peaks with phases (n, 2) at a fraction of the cell; 0 where chance has as many, or they stand beside it.

    Satellites near a simple fraction stand beside it: those on both sides of a spot by the opposite distance, near a
    half on both sides of it.
    """
    basis, within = indexed.lattice.basis, min(WITHIN * precision, 0.2 * np.linalg.norm(indexed.lattice.basis, axis=1).min())
    off = phase - fraction
    off = (off - np.rint(off)) @ basis
    near = np.linalg.norm(off, axis=1) < within
    chance = (len(phase) - near.sum()) * np.pi * within**2 / abs(np.linalg.det(basis))
    if near.sum() < FEWEST + chance + ABOVE_CHANCE * chance**0.5:
        return 0
    mean = np.median(off[near], axis=0)
    scatter = np.median(np.linalg.norm(off[near], axis=1))
    error = np.sqrt(np.pi / 2 * np.mean(np.sum((off[near] - mean) ** 2, axis=1)) / near.sum())
    exact = np.linalg.norm(mean) < max(EXACT * error, CLOSE * precision)
    sharp = scatter < BLURRED * np.median(indexed.distance[indexed.on]) + CLOSE * precision
    return int(near.sum()) if exact and sharp else 0


def _with_point(basis, fraction):
    """A basis (2, 2) of the lattice that has the point at a fraction too."""
    vectors = [*basis, fraction @ basis]
    pairs = [np.array([u, v]) for u, v in product([vectors[2]], vectors[:2])]
    return min(pairs, key=lambda pair: abs(np.linalg.det(pair)) if abs(np.linalg.det(pair)) > 1e-6 else np.inf)
