"""Peak lists with a known truth: points of a lattice that strays, is incomplete, bends and is not alone."""

from dataclasses import dataclass
from itertools import product

import numpy as np

PRECISION, SCATTER = 0.4, 0.27  # px, standard deviation of a coordinate as stated, and as it is
SHAPE = (400, 560)  # rows, columns, of the image that peaks lie on


@dataclass(frozen=True)
class Peaks:
    """Positions (n, 2), px; weight (n,); true Miller indices (n, 2), where `lawful` (n,): others are outliers."""

    positions: np.ndarray
    weight: np.ndarray
    miller: np.ndarray
    lawful: np.ndarray


def points(basis, origin, shape=SHAPE, bend=None):
    """All Miller indices (n, 2) of a lattice on an image, and positions; bend: of positions, as `bent`."""
    number = int(np.ceil(np.hypot(*shape) / np.abs(np.linalg.norm(basis, axis=1)).min() * 1.5))
    h, k = np.mgrid[-number : number + 1, -number : number + 1]
    miller = np.column_stack([h.ravel(), k.ravel()])
    positions = miller @ basis + origin
    # those farther away may fold back onto the image
    near = np.linalg.norm(positions - np.array(shape[::-1]) / 2, axis=1) < np.hypot(*shape)
    miller, positions = miller[near], positions[near] if bend is None else bend(positions[near])
    inside = np.all((positions > 3) & (positions < np.array(shape[::-1]) - 4), axis=1)
    return miller[inside], positions[inside]


def bent(barrel, spiral, centre):
    """A function that displaces places by barrel and spiral distortion about a centre, px at the image's far corner."""

    def bend(positions):
        off = positions - centre
        r2 = np.sum(off * off, axis=1, keepdims=True) / np.hypot(*SHAPE) ** 2 * 4
        unit = off / np.hypot(*SHAPE) * 2
        return positions + r2 * (barrel * unit + spiral * unit[:, ::-1] * (1, -1))

    return bend


def peaks(basis, random, *, share=0.7, outliers=0.0, origin=None, shape=SHAPE, bend=None, scatter=SCATTER):
    """A share of the points in random order with exponential strengths, and outliers, as part of these."""
    origin = np.array(shape[::-1]) / 2 + random.uniform(-20, 20, 2) if origin is None else origin
    miller, positions = points(basis, origin, shape, bend)
    kept = random.random(len(miller)) < share
    miller, positions = miller[kept], positions[kept] + random.normal(0, scatter, (kept.sum(), 2))
    number = round(outliers * len(positions))
    anywhere = random.uniform(3, np.array(shape[::-1]) - 4, (number, 2))
    lawful = np.append(np.ones(len(miller), bool), np.zeros(number, bool))
    return ordered(
        np.vstack([positions, anywhere]), np.vstack([miller, np.zeros((number, 2), int)]), lawful, random=random
    )


def ordered(positions, miller, lawful, *, random, weight=None):
    """The Peaks with exponential strengths, or given weights, the strongest first."""
    weight = np.sqrt(np.minimum(random.exponential(0.4, len(positions)) + 0.02, 1.0)) if weight is None else weight
    order = np.argsort(-weight, kind="stable")
    return Peaks(positions[order], weight[order], miller[order], lawful[order])


def together(*several):
    """The Peaks of several, the strongest first."""
    arrays = (np.concatenate([getattr(one, name) for one in several]) for name in ("positions", "miller", "lawful"))
    weight = np.concatenate([one.weight for one in several])
    return ordered(*arrays, random=None, weight=weight)


def turned(basis, angle):
    """A basis turned by an angle, degrees."""
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.asarray(basis) @ np.array([[cos, sin], [-sin, cos]])


def relation(found, true):
    """Determinant of the whole numbers that express found vectors in true ones, and the largest relative error."""
    whole = np.rint(found @ np.linalg.inv(true))
    off = np.linalg.norm(found - whole @ true, axis=1) / np.linalg.norm(found, axis=1)
    return round(abs(np.linalg.det(whole))), float(off.max())


CELLS = {  # reduced bases
    "square": [[24.0, 0.0], [0.0, 24.0]],
    "rectangular": [[18.0, 0.0], [0.0, 31.0]],
    "oblique": [[22.0, 0.0], [-6.0, 27.0]],
    "hexagonal": [[26.0, 0.0], [-13.0, 13.0 * 3**0.5]],
    "rhombic": [[0.0, 16.0], [23.0, 8.0]],
    "long": [[14.0, 0.0], [3.0, 40.0]],
}
# changes of a basis, of determinant 1 or -1
CHANGES = [np.reshape(m, (2, 2)) for m in product(range(-3, 4), repeat=4) if abs(m[0] * m[3] - m[1] * m[2]) == 1]
