"""Which of the lattices with common points: finer ones for peaks exactly at fractions, not for satellites near."""

import numpy as np
import pytest

from ed2d.differences import bases, differences
from ed2d.indexing import index_peaks
from ed2d.sublattice import CERTAIN_SURPRISE, choose, concentration, surprise_between
from peaklists import CELLS, PRECISION, SCATTER, Peaks, bent, peaks, relation, together, turned

SHAPE, ORIGIN = (300, 380), np.array([203.0, 146.0])
FORMS = {"half a": ((1, 0), 2), "half b": ((0, 1), 2), "centred": ((1, 1), 2), "third": ((1, 0), 3), "R": ((1, 2), 3)}
ABSENT_IN = ("oblique", "hexagonal", "oblique", "rhombic", "hexagonal")
BEND = bent(4.0, -3.0, ORIGIN)


def chosen(given, tried=None):
    """The Indexed that is chosen of the bases tried, or else of those that differences speak for."""
    found = differences(given.positions, given.weight, PRECISION)
    tried = tried if tried is not None else bases(found, shortest=5.0, longest=np.inf)
    return choose(tried, given.positions, given.weight, found)


def assert_chooses(given, true, tried=None):
    index, error = relation(chosen(given, tried).lattice.basis, np.asarray(true))
    assert index == 1 and error < 0.01, (index, error)


def assert_coarser(given, true, factor):
    """The lattice chosen is a sublattice of so large a cell."""
    basis = chosen(given).lattice.basis
    assert relation(basis, np.asarray(true))[1] < 0.01
    assert abs(np.linalg.det(basis)) == pytest.approx(factor * abs(np.linalg.det(true)), rel=0.02)


def with_class(given, form, multiple, *, kept, strength):
    """The Peaks with only a share of those outside of a class, these with a part of their weight."""
    other = given.miller @ np.array(form) % multiple != 0
    weight = np.where(other, strength * given.weight, given.weight)
    stays = ~other | (np.random.default_rng(1).random(len(other)) < kept)
    order = np.argsort(-weight[stays], kind="stable")
    return Peaks(*(array[stays][order] for array in (given.positions, weight, given.miller, given.lawful)))


def satellites(given, basis, vector, random, *, share, strength=0.5):
    """Peaks beside a share of the points by a vector in fractions, on both sides, together with those given."""
    sides = []
    for sign in (1, -1):
        some = random.random(len(given.positions)) < share
        off = sign * np.array(vector) @ np.asarray(basis) + random.normal(0, SCATTER, (some.sum(), 2))
        weight = strength * np.median(given.weight) * random.uniform(0.3, 1.0, some.sum())
        sides.append(Peaks(given.positions[some] + off, weight, given.miller[some], np.zeros(some.sum(), bool)))
    return together(given, *sides)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "cell, kept, strength", [("oblique", 0.3, 0.25), ("rectangular", 0.7, 0.4), ("long", 0.2, 1.0)]
)
def test_weak_orders_at_exact_fractions_count(form, cell, kept, strength):
    """A class of points that is weak and mostly not seen belongs to the lattice."""
    random = np.random.default_rng([len(form), len(cell), round(10 * kept)])
    true = 0.7 * turned(CELLS[cell], random.uniform(0, 360))
    given = peaks(true, random, share=0.7, outliers=0.05, origin=ORIGIN, shape=SHAPE, bend=BEND)
    assert_chooses(with_class(given, *FORMS[form], kept=kept, strength=strength), true)


@pytest.mark.parametrize("form, cell", list(zip(FORMS, ABSENT_IN, strict=True)))
def test_an_absent_class_leaves_the_lattice_of_the_others(form, cell):
    """Where every other point has nothing at all, nobody can tell; the lattice is that of what is there."""
    random = np.random.default_rng([len(form), len(cell)])
    true = 0.7 * turned(CELLS[cell], random.uniform(0, 360))
    given = peaks(true, random, share=0.8, outliers=0.05, origin=ORIGIN, shape=SHAPE, bend=BEND)
    assert_coarser(with_class(given, *FORMS[form], kept=0, strength=1), true, FORMS[form][1])


@pytest.mark.parametrize("row", ((1, 0), (0, 1)))
def test_absences_on_an_axis_do_not_matter(row):
    """Screw axes: odd points of one row through the origin are absent."""
    random = np.random.default_rng(3)
    true = np.array(CELLS["rectangular"])
    given = peaks(true, random, share=0.8, outliers=0.1, origin=ORIGIN, shape=SHAPE)
    odd = (given.miller @ row % 2 == 1) & (given.miller @ row[::-1] == 0)
    arrays = (array[~odd] for array in (given.positions, given.weight, given.miller, given.lawful))
    assert_chooses(Peaks(*arrays), true)


@pytest.mark.parametrize("vector", [(0.44, 0), (0, 0.46), (0.36, 0), (0, 0.3), (0.27, 0.14), (0.45, 0.45), (0.2, 0)])
@pytest.mark.parametrize("share", (0.1, 0.4))
def test_satellites_do_not_make_the_lattice_finer(vector, share):
    """Also near a half or a third of a vector, where they are off by more than their error."""
    random = np.random.default_rng(round(100 * sum(vector)))
    true = turned(np.array([[26.0, 0.0], [-7.0, 31.0]]), random.uniform(0, 360))
    given = peaks(true, random, share=0.8, outliers=0.03, origin=ORIGIN, shape=SHAPE)
    assert_chooses(satellites(given, true, vector, random, share=share), true)


@pytest.mark.parametrize("vector", [(0.5, 0), (0, 0.5), (0.5, 0.5), (1 / 3, 0), (1 / 3, 1 / 3)])
def test_satellites_at_exact_fractions_make_it_finer(vector):
    random = np.random.default_rng(5)
    true = np.array([[26.0, 0.0], [-7.0, 31.0]])
    given = peaks(true, random, share=0.8, outliers=0.03, origin=ORIGIN, shape=SHAPE)
    basis = chosen(satellites(given, true, vector, random, share=0.3)).lattice.basis
    fraction = np.array(vector) @ true @ np.linalg.inv(basis)
    assert np.abs(fraction - np.rint(fraction)).max() < 0.03
    whole = true @ np.linalg.inv(basis)
    assert np.abs(whole - np.rint(whole)).max() < 0.03
    assert abs(np.linalg.det(whole)) == pytest.approx(2 if 0.5 in vector else 3, rel=0.02)


@pytest.mark.parametrize("outliers", (0.2, 1.0))
@pytest.mark.parametrize("seed", range(2))
def test_outliers_do_not_make_it_finer(outliers, seed):
    random = np.random.default_rng(seed)
    true = turned(CELLS["oblique"], random.uniform(0, 360))
    given = peaks(true, random, share=0.7, outliers=outliers, origin=ORIGIN, shape=SHAPE, bend=BEND)
    assert_chooses(given, true)
    found = differences(given.positions, given.weight, PRECISION)
    indexed = index_peaks(given.positions, given.weight, true, found)
    assert surprise_between(indexed, given.positions, PRECISION)[0] < CERTAIN_SURPRISE


@pytest.mark.parametrize("change", [[[2, 0], [0, 1]], [[1, 0], [0, 3]], [[1, 1], [-1, 1]], [[0.5, 0], [0, 1]]])
def test_a_wrong_candidate_does_not_win(change):
    """Of the true basis and one of a sublattice or a finer lattice; in either order."""
    random = np.random.default_rng(7)
    true = np.array(CELLS["oblique"])
    given = peaks(true, random, share=0.6, outliers=0.2, origin=ORIGIN, shape=SHAPE)
    for tried in ([true, np.array(change) @ true], [np.array(change) @ true, true]):
        assert_chooses(given, true, tried)


def test_surprise_grows_with_peaks_at_fractions_only():
    """Peaks at a half surprise the more the more they are; the number is theirs; none there, no surprise."""
    random = np.random.default_rng(9)
    true = np.array([[26.0, 0.0], [-7.0, 31.0]])
    given, before = peaks(true, random, share=0.8, outliers=0.1, origin=ORIGIN, shape=SHAPE), 0.0
    for number in (3, 6, 12, 24):
        place = np.array([(h + 0.5, k) for h in range(-4, 4) for k in range(-3, 3)])[:: 48 // number][:number] @ true
        place += random.normal(0, SCATTER, place.shape)
        more = Peaks(place + ORIGIN, np.full(number, 0.2), np.zeros((number, 2), int), np.zeros(number, bool))
        all_of_them = together(given, more)
        found = differences(all_of_them.positions, all_of_them.weight, PRECISION)
        indexed = index_peaks(all_of_them.positions, all_of_them.weight, true, found)
        surprise, counted = surprise_between(indexed, all_of_them.positions, PRECISION)
        assert surprise > before and number <= counted <= number + 4
        before = surprise
    regular = peaks(true, random, share=0.8, origin=ORIGIN, shape=SHAPE)
    found = differences(regular.positions, regular.weight, PRECISION)
    indexed = index_peaks(regular.positions, regular.weight, true, found)
    assert surprise_between(indexed, regular.positions, PRECISION) == (0.0, 0)


def test_concentration_does_not_depend_on_the_origin_nor_on_the_basis():
    random = np.random.default_rng(11)
    true = np.array(CELLS["oblique"])
    given = peaks(true, random, share=0.6, outliers=0.4, origin=ORIGIN, shape=SHAPE)
    found = differences(given.positions, given.weight, PRECISION)
    lattice = index_peaks(given.positions, given.weight, true, found).lattice
    own = concentration(type(lattice).straight(ORIGIN, true), given.positions, given.weight, PRECISION)
    for origin, basis in ((ORIGIN + np.array([7.7, -3.1]), true), (ORIGIN, np.array([[1, 1], [0, 1]]) @ true)):
        other = concentration(type(lattice).straight(origin, basis), given.positions, given.weight, PRECISION)
        assert other == pytest.approx(own, rel=0.02)
    anywhere = random.uniform(0, SHAPE[::-1], given.positions.shape)
    assert concentration(type(lattice).straight(ORIGIN, true), anywhere, given.weight, PRECISION) < 0.1 * own


@pytest.mark.parametrize("seed", range(4))
def test_the_lattice_stands_on_the_spots_and_not_on_their_satellites(seed):
    """Also where more than half of the spots are absent and their satellites, of half the weight, are all there."""
    random = np.random.default_rng(seed)
    basis = np.asarray(CELLS["oblique"])
    every = peaks(basis, random, share=1.0, origin=ORIGIN, shape=SHAPE)
    stays = random.random(len(every.positions)) < 0.4
    some = Peaks(*(array[stays] for array in (every.positions, every.weight, every.miller, every.lawful)))
    side = every.positions + np.array((0.27, 0.0)) @ basis
    others = Peaks(side, np.full(len(side), 0.55 * np.median(every.weight)), every.miller, np.zeros(len(side), bool))
    given = together(some, others)
    off = chosen(given).lattice.index(ORIGIN[None])
    assert np.max(np.abs(off - np.rint(off))) < 0.05
