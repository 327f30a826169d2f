"""The basis that describes a lattice: the same whatever basis it is made from, or like a known cell."""

from collections import namedtuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ed2d.differences import same_points
from ed2d.lattice import reduced
from ed2d.orientation import FITS, LARGEST_INDEX, like_cell, oriented, reciprocal_lengths, sublattices
from peaklists import CELLS, CHANGES, turned

Cell = namedtuple("Cell", "a b gamma")

changes = st.sampled_from(CHANGES)
angles = st.floats(0, 360, allow_subnormal=False)
oblique = st.tuples(st.floats(1.1, 2.5), st.floats(0.05, 0.42), angles)  # ratio, shift in shorter vectors, turn


def lattice(ratio, shift, angle, length=20.0):
    """A basis with |a| = length, the component of b along it `shift` times that, and across it `ratio` times."""
    return turned([[length, 0.0], [-shift * length, ratio * length]], angle)


def changed(basis, change):
    return np.array(change).reshape(2, 2) @ basis


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(CELLS)), st.integers(0, 359).map(lambda n: n + 0.37), changes)
def test_any_basis_of_a_lattice_gives_the_same_description(cell, angle, change):
    """Also of square, hexagonal and rhombic ones, which have several reduced bases; at no angle two of them tie."""
    basis = turned(CELLS[cell], angle)
    described = oriented(basis)
    assert oriented(changed(basis, change)) == pytest.approx(described, abs=1e-6)


@settings(deadline=None, max_examples=80)
@given(oblique, changes)
def test_the_description_is_a_right_handed_reduced_basis_of_the_lattice(given_lattice, change):
    basis = changed(lattice(*given_lattice), change)
    first, second = oriented(basis)
    assert same_points(np.array([first, second]), basis)
    assert np.linalg.det([first, second]) > 0
    assert first @ first <= second @ second * (1 + 1e-9)
    assert np.array_equal(np.sort(np.linalg.norm([first, second], axis=1)), np.linalg.norm([first, second], axis=1))
    shortest = np.linalg.norm(reduced(basis), axis=1)
    assert np.linalg.norm([first, second], axis=1) == pytest.approx(shortest)
    assert first @ second <= 1e-9 * (first @ first)


@pytest.mark.parametrize("cell", CELLS)
def test_first_points_most_to_the_right(cell):
    """Of all bases with the same lengths and angle, found by trying all."""
    steps = [np.array([h, k]) for h in range(-3, 4) for k in range(-3, 4)]
    for angle in (7.0, 100.0, 191.0, 320.0):
        basis = turned(CELLS[cell], angle)
        first, second = oriented(basis)
        alike = [
            (p @ basis)[0]
            for p in steps
            for q in steps
            if np.linalg.det([p @ basis, q @ basis]) == pytest.approx(np.linalg.det([first, second]))
            and np.linalg.norm(p @ basis) == pytest.approx(np.linalg.norm(first))
            and np.linalg.norm(q @ basis) == pytest.approx(np.linalg.norm(second))
            and (p @ basis) @ (q @ basis) == pytest.approx(first @ second, abs=1e-6)
        ]
        assert first[0] == pytest.approx(max(alike))


@settings(deadline=None, max_examples=60)
@given(oblique, st.floats(-3, 3))
def test_turned_images_are_described_by_the_turned_basis(given_lattice, turn):
    """But for the half turn that changes which of a and -a points to the right."""
    basis = lattice(*given_lattice)
    before, after = oriented(basis), oriented(turned(basis, turn))
    assume(abs(before[0][0]) > 0.06 * np.linalg.norm(before[0]))
    assert after == pytest.approx(turned(before, turn), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(oblique, st.tuples(*[st.floats(-0.004, 0.004)] * 4))
def test_errors_of_the_vectors_do_not_change_the_description(given_lattice, errors):
    """Lattices measured a little differently get bases that belong to each other: also those that are nearly square."""
    basis = lattice(*given_lattice)
    assume(abs(oriented(basis)[0][0]) > 0.02 * np.linalg.norm(basis[0]))
    moved = basis + np.reshape(errors, (2, 2)) * 20
    assert oriented(moved) == pytest.approx(oriented(basis), abs=0.5)


@pytest.mark.parametrize("angle", (0.0, 11.0, 50.0, 76.0))
@pytest.mark.parametrize("cell, gamma", [("square", 90), ("hexagonal", 120)])
def test_symmetric_lattices_are_described_alike_in_spite_of_errors(cell, gamma, angle):
    """Errors decide neither which axis is first nor whether the angle is 60 or 120 degrees."""
    random = np.random.default_rng(round(angle))
    first, second = oriented(turned(CELLS[cell], angle))
    for _ in range(20):
        p, q = oriented(turned(CELLS[cell], angle) + random.normal(0, 0.05, (2, 2)))
        assert np.degrees(np.arccos(p @ q / np.linalg.norm(p) / np.linalg.norm(q))) == pytest.approx(gamma, abs=1.5)
        assert p @ first > np.cos(np.deg2rad(1.5)) * np.linalg.norm(p) * np.linalg.norm(first)
        assert q @ second > np.cos(np.deg2rad(1.5)) * np.linalg.norm(q) * np.linalg.norm(second)


# ---- known cells


def pixels(cell, pixel_size, angle=0.0):
    """Basis a*, b*, px, of a cell by the defining equations a . a* = 1, a . b* = 0 ...; right-handed as (x, y)."""
    gamma = np.deg2rad(cell.gamma)
    direct = np.array([[cell.a, 0.0], [cell.b * np.cos(gamma), cell.b * np.sin(gamma)]])
    return turned(np.linalg.inv(direct).T / pixel_size, angle)


CRYSTALS = (Cell(62.45, 62.45, 120.0), Cell(100.0, 80.0, 90.0), Cell(97.0, 133.0, 103.0), Cell(60.0, 85.0, 78.0))
PIXEL = 3.1e-4  # 1/Angstrom


@pytest.mark.parametrize("cell", CRYSTALS)
def test_reciprocal_lengths_are_those_of_the_reciprocal_basis(cell):
    a, b = pixels(cell, PIXEL)
    length_a, length_b, angle = reciprocal_lengths(cell, PIXEL)
    assert (length_a, length_b) == pytest.approx((np.linalg.norm(a), np.linalg.norm(b)))
    assert np.cos(angle) == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("cell", CRYSTALS)
@pytest.mark.parametrize("change", [(1, 0, 0, 1), (1, 1, 0, 1), (0, 1, -1, 0), (2, 1, 1, 1)])
def test_the_basis_like_a_cell_is_found_from_any_basis(cell, change):
    """With lengths and angle of the cell, right-handed, of the same lattice."""
    for angle in (3.0, 130.0, 275.0):
        true = pixels(cell, PIXEL, angle)
        found = like_cell(changed(true, change), reciprocal_lengths(cell, PIXEL))
        assert same_points(found, true) and np.linalg.det(found) > 0
        lengths, wanted = np.linalg.norm(found, axis=1), np.linalg.norm(true, axis=1)
        assert lengths == pytest.approx(wanted)
        assert found[0] @ found[1] == pytest.approx(true[0] @ true[1], abs=1e-6)


@pytest.mark.parametrize("cell", CRYSTALS)
@pytest.mark.parametrize("index", range(2, LARGEST_INDEX + 1))
def test_known_cells_pick_sublattices_and_what_they_are_sublattices_of(cell, index):
    """Of a lattice that was found with too many points, or with too few."""
    true = pixels(cell, PIXEL, 20.0)
    for transformation in sublattices(index):
        for other in (transformation @ true, np.linalg.inv(transformation) @ true):
            found = like_cell(other, reciprocal_lengths(cell, PIXEL))
            assert found is not None and np.linalg.norm(found, axis=1) == pytest.approx(
                np.linalg.norm(true, axis=1), rel=FITS
            )
            assert abs(np.linalg.det(found)) == pytest.approx(abs(np.linalg.det(true)), rel=2 * FITS)


@pytest.mark.parametrize("cell", CRYSTALS)
def test_nothing_is_like_a_cell_that_does_not_fit(cell):
    """Neither another camera length nor another crystal; errors of a few per cent do."""
    true = pixels(cell, PIXEL, 60.0)
    lengths = reciprocal_lengths(cell, PIXEL)
    assert like_cell(1.25 * true, lengths) is None
    assert like_cell(np.array([[1.5, 0], [0, 0.75]]) @ true, lengths) is None
    for factor in (0.96, 1.04):
        assert same_points(like_cell(factor * true, lengths), factor * true)


@pytest.mark.parametrize("index, number", [(1, 1), (2, 3), (3, 4), (4, 7), (5, 6), (6, 12)])
def test_sublattices_are_all_there_are(index, number):
    """As many as the divisors of the index sum up to; each of its index, no two the same."""
    found = sublattices(index)
    assert len(found) == number
    assert all(round(np.linalg.det(transformation)) == index for transformation in found)
    for place, one in enumerate(found):
        for other in found[:place]:
            assert not same_points(one.astype(float), other.astype(float))
