"""Neighbouring lattice points: who reaches into a box, by brute force over all points of the plane."""

from dataclasses import astuple, replace

import numpy as np
import pytest

from ed2d import gaussian
from ed2d.boxes import grid, nearest_pixels
from ed2d.lattice import Lattice, predict
from ed2d.neighbours import CLOSE, REACH, between_spots, neighbours
from ed2d.placement import Places, spread_out
from ed2d.profile import default
from stills import on_lattice

SHAPE = (330, 410)
ORIGIN = (201.3, 157.8)
LATTICES = {
    "distorted": Lattice(ORIGIN, (24.1, 3.2), (-4.3, 25.9), 1e-6, -2e-6),
    "dense": Lattice(ORIGIN, (8.0, 0.7), (-1.0, 9.1)),
    "one way": Lattice(ORIGIN, (7.0, 1.0), (28.0, 33.0)),
    "basis not reduced": Lattice(ORIGIN, (11.0, 1.0), (31.0, 16.0)),
    "wide": Lattice(ORIGIN, (90.0, 1.0), (-2.0, 80.0)),
}
FOLDED = Lattice(ORIGIN, (29.0, 0.7), (-1.0, 27.1), -1.5e-5)


class Unfolded(Lattice):
    """The same without regard to the fold."""

    fold = np.inf


def profile_of(width, half):
    """The same ellipse everywhere, its larger width 10 % above `width`, px."""
    return replace(default(ORIGIN, SHAPE, width, half), coefficients=(float(np.log(width)), 0.08, -0.06))


def observed_off(lattice, random, *, straying, most):
    """Places of points of which half were observed, up to `most` px off the lattice, with all kinds of errors."""
    first = np.array([-25, -20])
    moved, known = random.uniform(-most / 2**0.5, most / 2**0.5, (55, 43, 2)), random.uniform(0, 1, (55, 43))
    seen = random.random((55, 43)) < 0.5
    return Places(lattice, straying, first, moved * seen[:, :, None], known * seen)


def others_of(index, places):
    """Places (m, 2) and variances (m,) of all points of the plane but `index` that are not beyond the fold."""
    h, k = np.mgrid[-15:16, -15:16]
    others = np.round(index) + np.column_stack([h.ravel(), k.ravel()])
    others = others[np.any(others != index, axis=1)]
    within = np.linalg.norm(others @ places.lattice.basis, axis=1) < places.lattice.fold
    return places.at(others[within])


def found_by_hand(half, index, centre, places, profile):
    """Profiles (m, side^2), clear and apart (side^2,) of one point, from all other points far around."""
    dx, dy = grid(half)
    place = places.at(index[None])[0][0]
    profiles, clear, apart = [], np.ones(len(dx), bool), np.ones(len(dx), bool)
    for other, variance in zip(*others_of(index, places), strict=True):
        x, y = other - centre
        if max(abs(x), abs(y)) > half + 30:
            continue
        shape = spread_out(profile.shape_at(other[None]), np.array([variance]))
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


def assert_found(half, miller, places, profile):
    """The Neighbours of points, found to be those of the definition."""
    centre = nearest_pixels(places.lattice.position(miller))
    found = neighbours(half, miller, centre, places, profile)
    for n, index in enumerate(miller):
        profiles, clear, apart = found_by_hand(half, index, centre[n], places, profile)
        np.testing.assert_array_equal(found.clear[n], clear)
        np.testing.assert_array_equal(found.apart[n], apart)
        some = found.profiles[n][np.any(found.profiles[n], axis=1)]
        assert len(some) == len(profiles) and found.close[n] == bool(profiles)
        if profiles:
            expected = np.array(profiles)
            order, other = (np.lexsort(table[:, [0, half, -1]].T) for table in (some, expected))
            np.testing.assert_allclose(some[order], expected[other], atol=1e-15)
    return found


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize(("half", "width"), [(5, 1.2), (9, 1.9)])
@pytest.mark.parametrize("between", [0.0, 0.5])
def test_neighbours_by_brute_force(name, half, width, between):
    """Profiles, and the pixels clear of all or of the others, are those of the definition; half-way points too."""
    miller = predict(LATTICES[name], shape=SHAPE)[::37] + np.array([between, 0.0])
    found = assert_found(half, miller, on_lattice(LATTICES[name]), profile_of(width, half))
    if half == 9 and name in ("dense", "one way"):
        assert found.close.all()


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize(("straying", "most"), [(0.3, 0.0), (0.2, 0.5), (0.8, 2.5)])
@pytest.mark.parametrize("between", [0.0, 0.5])
def test_neighbours_that_were_observed_off_the_lattice(name, straying, most, between):
    """They stand at their expected places, as wide as these are uncertain; those never seen on the lattice."""
    random = np.random.default_rng(int(10 * most))
    miller = predict(LATTICES[name], shape=SHAPE)[::37] + np.array([0.0, between])
    assert_found(7, miller, observed_off(LATTICES[name], random, straying=straying, most=most), profile_of(1.5, 7))


def test_one_neighbour_off_the_lattice():
    """A single spot seen off the lattice, and well: only its neighbours notice, at the place where it was seen."""
    lattice, profile, half = LATTICES["dense"], profile_of(1.4, 7), 7
    moved, known = np.zeros((1, 1, 2)), np.ones((1, 1))
    moved[0, 0] = 0.9, -0.7
    seen = Places(lattice, 0.0, np.array([3, 2]), moved, known)
    miller = np.array([[3, 2], [4, 2], [3, 1], [9, -4]])
    centre = nearest_pixels(lattice.position(miller))
    one, other = (neighbours(half, miller, centre, places, profile) for places in (seen, on_lattice(lattice)))
    difference = one.profiles.sum(axis=1) - other.profiles.sum(axis=1)
    assert not difference[3].any() and difference[[1, 2]].any(axis=1).all()
    place, shape = lattice.position(miller[:1]) - centre[1:3], profile.shape_at(lattice.position(miller[:1]))
    drawn = [gaussian.unit_volume(half, place + off, np.repeat(shape, 2, axis=0)) for off in (moved[0], 0)]
    np.testing.assert_allclose(difference[[1, 2]], drawn[0] - drawn[1], atol=1e-9)


@pytest.mark.parametrize(("half", "width"), [(5, 1.2), (9, 1.9)])
def test_no_neighbours_from_beyond_the_fold(half, width):
    """Where the distortion folds the plane over, points of the other side do not come back as neighbours."""
    miller = predict(FOLDED, shape=SHAPE)
    outer = miller[np.linalg.norm(miller @ FOLDED.basis, axis=1) > FOLDED.fold - 20]
    assert len(outer) > 10
    without = replace(on_lattice(FOLDED), lattice=Unfolded(*astuple(FOLDED)))
    found, profile = assert_found(half, outer, on_lattice(FOLDED), profile_of(width, half)), profile_of(width, half)
    more = neighbours(half, outer, nearest_pixels(FOLDED.position(outer)), without, profile)
    assert np.any(more.clear != found.clear, axis=1).mean() > 0.5
    assert np.any(more.profiles, axis=2).sum() > np.any(found.profiles, axis=2).sum()


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize("step", [(0.5, 0.0), (0.0, 0.5), (0.5, 0.5)])
@pytest.mark.parametrize(
    ("half", "width", "straying", "most"), [(2, 1.2, 0.0, 0.0), (2, 1.7, 0.3, 1.0), (7, 1.2, 0.5, 2.0)]
)
def test_pixels_between_spots_by_brute_force(name, step, half, width, straying, most):
    """Beyond REACH widths of every point, the wider the less certain its place is."""
    random, profile = np.random.default_rng(half), profile_of(width, half)
    places = observed_off(LATTICES[name], random, straying=straying, most=most)
    there = predict(LATTICES[name], shape=SHAPE)[::37] + np.array(step)
    centre = nearest_pixels(LATTICES[name].position(there))
    found, (dx, dy) = between_spots(half, there, centre, places, profile), grid(half)
    for n, index in enumerate(there):
        others, variance = others_of(index, places)
        reach = REACH * gaussian.widths(spread_out(profile.shape_at(others), variance))[0]
        x, y = (others - centre[n]).T[:, :, None]
        np.testing.assert_array_equal(found[n], np.all(np.hypot(dx - x, dy - y) > reach[:, None], axis=0))
    assert name != "dense" or not found.all(axis=1).any()


def test_clear_pixels_are_among_those_apart():
    """What no neighbour reaches is also apart from the far ones; without close neighbours the two are the same."""
    for lattice in LATTICES.values():
        miller = predict(lattice, shape=SHAPE)
        positions = lattice.position(miller)
        found = neighbours(7, miller, nearest_pixels(positions), on_lattice(lattice), profile_of(1.6, 7))
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
    first = neighbours(7, miller, centre, on_lattice(one), profile)
    second = neighbours(7, again, centre, on_lattice(two), profile)
    np.testing.assert_array_equal(first.clear, second.clear)
    np.testing.assert_array_equal(first.apart, second.apart)
    np.testing.assert_allclose(first.profiles.sum(axis=1), second.profiles.sum(axis=1), atol=1e-12)


def test_neighbours_have_the_shape_of_their_own_place():
    """Widths that grow with the radius: the outer one of two neighbours is the broader one."""
    lattice = Lattice(ORIGIN, (8.3, 0.0), (0.0, 60.0))
    profile = replace(default(ORIGIN, SHAPE, 1.0, 9), reach=2.0, coefficients=(0.0, 0.8, *49 * (0.0,)))
    miller = np.array([[10, 0], [-12, 0]])
    positions = lattice.position(miller)
    centre = nearest_pixels(positions)
    found = neighbours(9, miller, centre, on_lattice(lattice), profile)
    for n, index in enumerate(miller):
        beside = lattice.position(index + np.array([[1, 0], [-1, 0]]))
        expected = gaussian.unit_volume(9, beside - centre[n], profile.shape_at(beside))
        np.testing.assert_allclose(found.profiles[n].sum(axis=0), expected.sum(axis=0), atol=1e-12)


def test_no_points():
    """Nothing to measure has no neighbours."""
    none = np.empty((0, 2), int)
    found = neighbours(5, none, none, on_lattice(LATTICES["dense"]), profile_of(1.5, 5))
    assert found.profiles.shape == (0, 0, 121) and found.clear.shape == found.apart.shape == (0, 121)
    assert found.close.shape == (0,)
