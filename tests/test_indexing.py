"""Indices of bent lattices: right to the edge where rows bend by several px, wherever the start is."""

import numpy as np
import pytest

from ed2d import indexing
from ed2d.differences import differences
from ed2d.indexing import BentLattice, Indexed, index_peaks, nearest, points_on
from peaklists import CELLS, PRECISION, SHAPE, bent, peaks, points, turned

WRONG = 0.02  # of the peaks: chance brings a few outliers near a point, or peaks near another one
OFF = np.array([260.0, 215.0])  # centre of distortions, px


def indexed_by(given, basis, precision=PRECISION):
    return index_peaks(
        given.positions, given.weight, np.array(basis), differences(given.positions, given.weight, precision)
    )


def agreement(indexed, given):
    """Share of the lawful peaks that are on the lattice with true indices, but for a common shift of the origin."""
    shift = indexed.miller - given.miller
    values, counts = np.unique(shift[given.lawful], axis=0, return_counts=True)
    return np.mean((np.all(shift == values[counts.argmax()], axis=1) & indexed.on)[given.lawful])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("barrel, spiral", [(0, 0), (9, 0), (-9, 0), (0, 12), (20, -14)])
def test_bent_lattices_are_indexed_to_the_edge(cell, barrel, spiral):
    """Rows that bend by up to 24 px, which is a cell, at half of the diagonal; a third of the peaks is missing."""
    random = np.random.default_rng([barrel % 97, spiral % 97, len(cell)])
    true = turned(CELLS[cell], random.uniform(0, 360))
    given = peaks(true, random, share=0.7, outliers=0.1, bend=bent(barrel, spiral, OFF))
    found = indexed_by(given, true)
    assert agreement(found, given) > 1 - WRONG


@pytest.mark.parametrize("seed", range(3))
def test_a_rough_basis_is_enough(seed):
    """Vectors that are wrong by 1 % in length and half a degree in direction, as of differences where it bends."""
    random = np.random.default_rng(seed)
    true = turned(CELLS["oblique"], random.uniform(0, 360))
    given = peaks(true, random, share=0.6, outliers=0.3, bend=bent(8, 6, OFF))
    assert agreement(indexed_by(given, 1.01 * turned(true, 0.5)), given) > 1 - WRONG


@pytest.mark.parametrize("where", [(60.0, 60.0), (500.0, 340.0), (280.0, 40.0)])
def test_the_start_does_not_matter(where, monkeypatch):
    """From a corner as from the middle: the same indices but for the origin."""
    random = np.random.default_rng(3)
    true = np.array(CELLS["oblique"])
    given = peaks(true, random, share=0.7, outliers=0.2, bend=bent(10, -8, OFF))
    lawful = np.nonzero(given.lawful)[0]
    start = lawful[np.argmin(np.linalg.norm(given.positions[lawful] - where, axis=1))]
    monkeypatch.setattr(indexing, "_starts", lambda positions, basis, found: [start])
    found = indexed_by(given, true)
    assert agreement(found, given) > 1 - WRONG
    assert np.linalg.norm(found.lattice.position([[0, 0]]) - given.positions[start]) < 4 * PRECISION


def test_outliers_are_not_on_the_lattice():
    """Those farther than the limit from every true point; peaks near a point by chance may be."""
    random = np.random.default_rng(4)
    true = np.array(CELLS["oblique"])
    given = peaks(true, random, share=0.7, outliers=0.6, origin=np.array([281.0, 203.0]))
    found = indexed_by(given, true)
    phase = (given.positions - (281.0, 203.0)) @ np.linalg.inv(true)
    distance = np.linalg.norm((phase - np.rint(phase)) @ true, axis=1)
    limit = indexing.FARTHEST * np.linalg.norm(true, axis=1).min()
    assert not np.any(found.on & (distance > limit + 4 * PRECISION))
    assert np.all(found.on[given.lawful])
    assert found.distance == pytest.approx(distance, abs=4 * PRECISION)


@pytest.mark.parametrize("seed", range(3))
def test_positions_are_more_exact_than_peaks(seed):
    """The polynomial comes nearer to the true points than a single peak does, also where peaks are missing."""
    random = np.random.default_rng(seed)
    true, origin = np.array(CELLS["rhombic"]), np.array([270.0, 180.0])
    given = peaks(true, random, share=0.6, outliers=0.3, origin=origin, bend=bent(9, -7, OFF))
    found = indexed_by(given, true)
    shift = np.median((found.miller - given.miller)[given.lawful], axis=0)
    miller, positions = points(true, origin, SHAPE, bent(9, -7, OFF))
    off = found.lattice.position(miller + shift) - positions
    assert np.sqrt(np.mean(off**2)) < 0.6 * PRECISION


def test_a_wrong_basis_has_less_evidence():
    """Sublattices and finer lattices than the true one."""
    random = np.random.default_rng(6)
    true = np.array(CELLS["oblique"])
    given = peaks(true, random, share=0.7, outliers=0.2)
    own = indexed_by(given, true).evidence
    for change in ([[2, 0], [0, 1]], [[0.5, 0], [0, 1]], [[1, 0], [0, 1 / 3]]):
        assert indexed_by(given, np.array(change) @ true).evidence < own


# ---- the polynomial


def polynomial(degree, seed):
    """A lattice that bends by 5 % at 15 vectors."""
    random = np.random.default_rng(seed)
    number = (degree + 1) * (degree + 2) // 2
    coefficients = np.zeros((number, 2))
    coefficients[0], coefficients[1:3] = (
        random.uniform(-300, 300, 2),
        15 * turned(CELLS["oblique"], 360 * random.random()),
    )
    coefficients[3:] = random.uniform(-9, 9, (number - 3, 2))
    return BentLattice(coefficients, degree, 15.0)


@pytest.mark.parametrize("degree", (1, 2, 3))
@pytest.mark.parametrize("seed", range(3))
def test_index_inverts_position(degree, seed):
    lattice = polynomial(degree, seed)
    miller = np.random.default_rng(seed).uniform(-9, 9, (200, 2))
    assert lattice.index(lattice.position(miller), iterations=40) == pytest.approx(miller, abs=1e-6)
    assert lattice.index(lattice.position(miller)) == pytest.approx(miller, abs=0.02)


@pytest.mark.parametrize("degree", (1, 2, 3))
def test_basis_is_the_local_derivative(degree):
    lattice = polynomial(degree, degree)
    at = np.array([3.0, -5.0])
    step = 1e-4 * np.array([[1, 0], [0, 1]])
    derivative = (lattice.position(at + step) - lattice.position(at - step)) / 2e-4
    assert lattice.basis_at(at) == pytest.approx(derivative, abs=0.01)
    zero = (lattice.position(step) - lattice.position(-step)) / 2e-4
    assert lattice.basis == pytest.approx(zero, rel=1e-5, abs=1e-5)


def test_a_straight_lattice_is_its_basis():
    lattice = BentLattice.straight((5.0, -7.0), np.array(CELLS["long"]))
    assert lattice.position([[0, 0], [2, 1]]) == pytest.approx(np.array([[5.0, -7.0], [36.0, 33.0]]))
    assert np.array_equal(lattice.basis_at(np.array([4, 4])), np.array(CELLS["long"]))
    miller, distance = nearest(lattice, np.array([[36.3, 33.4], [5.0, -7.0]]))
    assert np.array_equal(miller, [[2, 1], [0, 0]])
    assert distance == pytest.approx([0.5, 0.0])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("seed", (1, 2))
def test_points_on_are_all_points_on_the_image(cell, seed):
    """Those of a straight lattice by comparison with all points of a far larger area."""
    random = np.random.default_rng(seed)
    true, origin = turned(CELLS[cell], random.uniform(0, 360)), random.uniform((0, 0), SHAPE[::-1])
    lattice = BentLattice.straight(origin, true)
    own = np.column_stack([g.ravel() for g in np.mgrid[-3:4, -3:4]])
    on = np.ones(len(own), bool)
    far = np.column_stack([g.ravel() for g in np.mgrid[-90:91, -90:91]])
    places = far @ true + origin
    inside = np.all((places >= -0.5) & (places < np.array(SHAPE[::-1]) - 0.5), axis=1)
    wide = Indexed(lattice, 12 * own, np.zeros(len(own)), on, 0.0)
    miller, positions = points_on(SHAPE, wide)
    assert positions == pytest.approx(miller @ true + origin)
    assert set(map(tuple, miller.tolist())) == set(map(tuple, far[inside].tolist()))
    assert len(miller) == len(set(map(tuple, miller.tolist())))


def test_points_on_end_where_a_polynomial_is_not_known():
    """Beyond the peaks by no more than their extent and some points."""
    lattice = polynomial(3, 5)
    own = np.column_stack([g.ravel() for g in np.mgrid[-3:4, -3:4]])
    miller, _ = points_on((4000, 5000), Indexed(lattice, own, np.zeros(49), np.ones(49, bool), 0.0))
    assert np.abs(miller).max() <= 3 + 6 + indexing.MARGIN
