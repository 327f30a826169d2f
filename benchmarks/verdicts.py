"""Whether a found lattice is the true one: its basis is one of the true lattice, and its origin the same point.

With F and T the vectors as rows, M the integers nearest to F T^-1: det M is +-1, each vector of F - M T is at most
VECTOR of its own of M T, and the origins are at most ORIGIN px from each other.
"""

from dataclasses import dataclass

import numpy as np

VECTOR, ORIGIN = 0.003, 1.0
SAME = 0.03  # of a vector: what is farther away is another lattice


@dataclass(frozen=True)
class Verdict:
    """right, wrong or none; what is wrong, in words; errors of vectors (largest, of their length) and origin (px)."""

    kind: str
    fault: str = ""
    vector_error: float = np.nan
    origin_error: float = np.nan


def judged(found, true, others=()):
    """Verdict on a Lattice or None; `others`: lattices that are on the image as well."""
    if found is None:
        return Verdict("none", "nothing found")
    index, vector_error = _relation(found.basis, true.basis)
    apart = np.subtract(found.origin, true.origin)
    errors = vector_error, float(np.hypot(*apart))
    fault = _fault(index, *errors, apart @ np.linalg.inv(true.basis))
    if index != 1 or vector_error > SAME:
        fault = _other(found.basis, true.basis, others) or fault
    return Verdict("wrong" if fault else "right", fault, *errors)


def displaced(found, true, miller):
    """Rms distance, px, of the places that a right lattice gives to spots with true Miller indices (n, 2)."""
    own = np.rint(miller @ np.linalg.inv(np.rint(found.basis @ np.linalg.inv(true.basis))))
    return float(np.sqrt(np.mean(np.sum((found.position(own) - true.position(miller)) ** 2, axis=1))))


def _relation(found, true):
    """Index |det M| of vectors (2, 2) in others, and the largest deviation of one over its length."""
    whole = np.rint(found @ np.linalg.inv(true))
    index = round(abs(np.linalg.det(whole)))
    if index == 0:
        return 0, np.inf
    nearest = whole @ true
    return index, float(np.max(np.linalg.norm(found - nearest, axis=1) / np.linalg.norm(nearest, axis=1)))


def _fault(index, vector_error, origin_error, steps):
    """What is wrong, "" where nothing is; `steps`: the origin's error in true Miller indices."""
    if vector_error > SAME:
        return "another lattice"
    if index > 1:
        return f"sublattice of index {index}"
    faults = []
    if origin_error > ORIGIN:
        whole = np.abs(steps - np.rint(steps)).max() < 0.2 and np.any(np.rint(steps))
        by = "({:.0f}, {:.0f})".format(*steps) if whole else "({:.2f}, {:.2f})".format(*steps)
        faults.append(f"origin off by {by}, {origin_error:.1f} px")
    if vector_error > VECTOR:
        faults.append(f"vectors off by {100 * vector_error:.1f} %")
    return ", ".join(faults)


def _other(found, true, others):
    """Names a lattice that is finer than the true one, or one of the others; "" where it is neither."""
    index, vector_error = _relation(true, found)
    if index > 1 and vector_error <= SAME:
        return f"too fine a lattice, of index 1/{index}"
    same = [_relation(found, other.basis) for other in others]
    return "the second lattice" if any(number == 1 and error <= SAME for number, error in same) else ""
