"""Neighbouring lattice points: who reaches into a box, by brute force over all points of the plane."""

from dataclasses import replace

import numpy as np
import pytest

from ed2d import gaussian
from ed2d.boxes import grid, nearest_pixels
from ed2d.lattice import Lattice, predict
from ed2d.neighbours import CLOSE, REACH, neighbours
from ed2d.profile import default

SHAPE = (330, 410)
ORIGIN = (201.3, 157.8)
LATTICES = {
    "distorted": Lattice(ORIGIN, (24.1, 3.2), (-4.3, 25.9), 1e-6, -2e-6),
    "dense": Lattice(ORIGIN, (8.0, 0.7), (-1.0, 9.1)),
    "one way": Lattice(ORIGIN, (7.0, 1.0), (28.0, 33.0)),
    "basis not reduced": Lattice(ORIGIN, (11.0, 1.0), (31.0, 16.0)),
    "wide": Lattice(ORIGIN, (90.0, 1.0), (-2.0, 80.0)),
}


def profile_of(width, half):
    """The same ellipse everywhere, its larger width 10 % above `width`, px."""
    return replace(default(ORIGIN, SHAPE, width, half), coefficients=(float(np.log(width)), 0.08, -0.06))


def found_by_hand(half, index, place, centre, lattice, profile):
    """Profiles (m, side^2), clear and apart (side^2,) of one point, from all other points far around."""
    dx, dy = grid(half)
    h, k = np.mgrid[-12:13, -12:13]
    others = np.round(index) + np.column_stack([h.ravel(), k.ravel()])
    others = lattice.position(others[np.any(others != index, axis=1)])
    profiles, clear, apart = [], np.ones(len(dx), bool), np.ones(len(dx), bool)
    for other in others[np.max(np.abs(others - centre), axis=1) < half + 30]:
        x, y = other - centre
        shape = profile.shape_at(other[None])
        reach = REACH * gaussian.widths(shape)[0][0]
        outside, distance = max(abs(x), abs(y)) - half, np.hypot(*(other - place))
        if outside >= reach:
            continue
        near = np.hypot(dx - x, dy - y) <= min(reach, distance / 2)
        clear &= ~near
        if outside <= 0 or distance < CLOSE * reach:
            profiles.append(gaussian.unit_volume(half, np.array([[x, y]]), shape)[0])
        else:
            apart &= ~near
    return profiles, clear, apart


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize(("half", "width"), [(5, 1.2), (9, 1.9)])
@pytest.mark.parametrize("between", [0.0, 0.5])
def test_neighbours_by_brute_force(name, half, width, between):
    """Profiles, and the pixels clear of all or of the others, are those of the definition; half-way points too."""
    lattice, profile = LATTICES[name], profile_of(width, half)
    miller = predict(lattice, shape=SHAPE)[::37] + np.array([between, 0.0])
    positions = lattice.position(miller)
    centre = nearest_pixels(positions)
    found = neighbours(half, miller, positions, centre, lattice, profile)
    for n, index in enumerate(miller):
        profiles, clear, apart = found_by_hand(half, index, positions[n], centre[n], lattice, profile)
        np.testing.assert_array_equal(found.clear[n], clear)
        np.testing.assert_array_equal(found.apart[n], apart)
        some = found.profiles[n][np.any(found.profiles[n], axis=1)]
        assert len(some) == len(profiles) and found.close[n] == bool(profiles)
        if profiles:
            expected = np.array(profiles)
            order, other = (np.lexsort(table[:, [0, half, -1]].T) for table in (some, expected))
            np.testing.assert_allclose(some[order], expected[other], atol=1e-15)
    if half == 9 and name in ("dense", "one way"):
        assert found.close.all()


def test_clear_pixels_are_among_those_apart():
    """What no neighbour reaches is also apart from the far ones; without close neighbours the two are the same."""
    for lattice in LATTICES.values():
        miller = predict(lattice, shape=SHAPE)
        positions = lattice.position(miller)
        found = neighbours(7, miller, positions, nearest_pixels(positions), lattice, profile_of(1.6, 7))
        assert not np.any(found.clear & ~found.apart)
        np.testing.assert_array_equal(found.clear[~found.close], found.apart[~found.close])


def test_the_basis_does_not_matter():
    """Another basis of the same lattice: the same neighbours of the same points."""
    one = LATTICES["dense"]
    two = Lattice(ORIGIN, tuple(one.basis[0] + 3 * one.basis[1]), tuple(one.basis[1]))
    miller = predict(one, shape=SHAPE)[::11]
    again = miller @ np.array([[1, -3], [0, 1]])
    positions = one.position(miller)
    np.testing.assert_allclose(two.position(again), positions)
    centre, profile = nearest_pixels(positions), profile_of(1.6, 7)
    first = neighbours(7, miller, positions, centre, one, profile)
    second = neighbours(7, again, positions, centre, two, profile)
    np.testing.assert_array_equal(first.clear, second.clear)
    np.testing.assert_array_equal(first.apart, second.apart)
    np.testing.assert_allclose(first.profiles.sum(axis=1), second.profiles.sum(axis=1), atol=1e-12)


def test_neighbours_have_the_shape_of_their_own_place():
    """Widths that grow with the radius: the outer one of two neighbours is the broader one."""
    lattice = Lattice(ORIGIN, (8.3, 0.0), (0.0, 60.0))
    profile = replace(default(ORIGIN, SHAPE, 1.0, 9), reach=2.0, coefficients=(0.0, 0.0, 0.0, 0.8, *8 * (0.0,)))
    miller = np.array([[10, 0], [-12, 0]])
    positions = lattice.position(miller)
    centre = nearest_pixels(positions)
    found = neighbours(9, miller, positions, centre, lattice, profile)
    for n, index in enumerate(miller):
        beside = lattice.position(index + np.array([[1, 0], [-1, 0]]))
        expected = gaussian.unit_volume(9, beside - centre[n], profile.shape_at(beside))
        np.testing.assert_allclose(found.profiles[n].sum(axis=0), expected.sum(axis=0), atol=1e-12)


def test_no_points():
    """Nothing to measure has no neighbours."""
    none = np.empty((0, 2), int)
    found = neighbours(5, none, none.astype(float), none, LATTICES["dense"], profile_of(1.5, 5))
    assert found.profiles.shape == (0, 0, 121) and found.clear.shape == found.apart.shape == (0, 121)
    assert found.close.shape == (0,)
