"""The basis by which a lattice is described, the same for the same crystal in any image."""

from itertools import product

import numpy as np

from .lattice import reduced

ALIKE = 0.03  # part by which the squares of the lengths of bases may differ that are all reduced
RIGHT = 0.5  # degrees below 90 that still count as not acute
LARGEST_INDEX = 4  # of a sublattice that a known cell may ask for
FITS = 0.08  # part of a length, or of the other vector across it, by which a known cell may be missed
STEPS = range(-3, 4)  # basis vectors, in the vectors of a cell


def oriented(basis):
    """The reduced basis (2, 2) of the lattice with a basis, px, by which images of a crystal are described alike.

    First x Second is positive, that is, Second is reached from First as y is from x; First is not the longer one. Of
    several such, as with equal lengths, the angle is not acute, and then First points most along +x.
    """
    u, v = reduced(np.asarray(basis, float))
    shortest = u @ u + v @ v
    pairs = [np.array([p, q]) for p, q in product((u, -u, v, -v, u + v, -u - v, u - v, v - u), repeat=2)]
    pairs = [pair for pair in pairs if np.linalg.det(pair) > 0.5 * abs(np.linalg.det([u, v]))]
    pairs = [(p, q) for p, q in pairs if p @ p + q @ q < (1 + ALIKE) * shortest and p @ p < (1 + ALIKE) * (q @ q)]
    blunt = [(p, q) for p, q in pairs if p @ q < np.sin(np.deg2rad(RIGHT)) * np.sqrt((p @ p) * (q @ q))]
    return np.array(max(blunt or pairs, key=lambda pair: pair[0][0] / np.linalg.norm(pair[0])))


def reciprocal_lengths(cell, pixel_size):
    """Lengths of a* and b*, px, and the angle between them, radians, of a UnitCell; pixel_size in 1/Angstrom per px."""
    gamma = np.deg2rad(cell.gamma)
    return 1 / (cell.a * np.sin(gamma) * pixel_size), 1 / (cell.b * np.sin(gamma) * pixel_size), np.pi - gamma


def like_cell(basis, lengths):
    """The basis (2, 2) most like a cell, of the lattice with a basis or one of its sublattices or the reverse; or None.

    lengths: as of `reciprocal_lengths`. None where the best is missed by more than FITS.
    """
    found = min((_likest(other, lengths) for other in _related(basis)), key=lambda entry: entry[0])
    return found[1] if found[0] < FITS else None


def sublattices(index):
    """The transformations (2, 2), int, to the sublattices of an index (Hermite normal forms)."""
    divisors = [k for k in range(1, index + 1) if index % k == 0]
    return [np.array([[index // k, shift], [0, k]]) for k in divisors for shift in range(k)]


def _related(basis):
    """Bases of the lattice, its sublattices, and those that it is a sublattice of, the lattice itself first."""
    for index in range(1, LARGEST_INDEX + 1):
        for transformation in sublattices(index):
            yield transformation @ basis
            if index > 1:
                yield np.linalg.inv(transformation) @ basis


def _likest(basis, lengths):
    """Misfit of a lattice to the lengths of a cell, and the basis, a right-handed one, with least."""
    a, b, angle = lengths
    basis = reduced(basis)
    if abs(abs(np.linalg.det(basis)) / (a * b * np.sin(angle)) - 1) > 3 * FITS:
        return np.inf, None
    steps = np.array([step for step in product(STEPS, repeat=2) if any(step)])
    vectors = steps @ basis
    length = np.linalg.norm(vectors, axis=1)
    first, second = (vectors[np.abs(length / wanted - 1) < FITS] for wanted in (a, b))
    best = np.inf, None
    for p, q in product(first, second):
        determinant = p[0] * q[1] - p[1] * q[0]
        if determinant < 0.5 * abs(np.linalg.det(basis)):
            continue
        off = abs(np.linalg.norm(p) / a - 1), abs(np.linalg.norm(q) / b - 1), abs(p @ q / (a * b) - np.cos(angle))
        better = (round(max(off), 3), -p[0]) < (round(best[0], 3), -best[1][0][0] if best[1] is not None else 0)
        if better:
            best = max(off), np.array([p, q])
    return best
