"""Bases from differences: the lattice is found with gaps, outliers, errors, a second lattice and few peaks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ed2d.differences import Differences, bases, differences, log_odds, same_points
from peaklists import CELLS, CHANGES, PRECISION, bent, peaks, relation, together, turned

SHORTEST = 6.0  # px
EXACT = 0.006  # of a vector, error that a basis from a hundred peaks may have
ROUGH = 0.02  # likewise, where the lattice bends or the peaks are few


def searched(given, precision=PRECISION, **limits):
    found = differences(given.positions, given.weight, precision)
    return found, bases(found, **({"shortest": SHORTEST, "longest": np.inf} | limits))


def best_of(found, tried):
    return max(tried, key=found.evidence)


def assert_is(basis, true, within=EXACT):
    index, error = relation(basis, np.asarray(true))
    assert index == 1 and error < within, (index, error)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("share, outliers", [(0.35, 0.0), (0.3, 1.0)])
def test_the_basis_of_a_lattice_has_most_evidence(cell, share, outliers):
    """In any direction, with two of three points missing, with as many outliers as points."""
    random = np.random.default_rng([round(10 * share), round(10 * outliers), len(cell)])
    true = turned(CELLS[cell], random.uniform(0, 360))
    found, tried = searched(peaks(true, random, share=share, outliers=outliers))
    assert_is(best_of(found, tried), true)


@pytest.mark.parametrize("cell", ("oblique", "hexagonal"))
@pytest.mark.parametrize("number", (14, 25, 60))
def test_few_peaks_suffice(cell, number):
    """Where they are neighbours."""
    for seed in range(3):
        random = np.random.default_rng([seed, number])
        true = turned(CELLS[cell], random.uniform(0, 360))
        area = abs(np.linalg.det(true)) * number / 0.7
        side = int(np.sqrt(area / 1.3))
        _, tried = searched(peaks(true, random, share=0.7, shape=(side + 7, round(1.3 * side) + 7)))
        assert any(relation(one, true)[0] == 1 and relation(one, true)[1] < ROUGH for one in tried), seed


@pytest.mark.parametrize("angle", (5.0, 17.0, 40.0))
@pytest.mark.parametrize("share", (0.3, 0.6))
def test_the_second_of_two_lattices_does_not_replace_the_first(angle, share):
    """A turned lattice with fewer and weaker peaks."""
    random = np.random.default_rng(round(angle))
    true = np.array(CELLS["oblique"])
    first, second = peaks(true, random, share=0.8), peaks(turned(true, angle), random, share=0.8 * share)
    weak = type(second)(second.positions, 0.6 * second.weight, second.miller, second.lawful)
    found, tried = searched(together(first, weak))
    assert_is(best_of(found, tried), true)


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_lattices_that_bend_by_several_px_are_found(seed):
    random = np.random.default_rng(seed)
    true = turned(CELLS["oblique"], random.uniform(0, 360))
    found, tried = searched(peaks(true, random, bend=bent(7.0, -5.0, np.array([300.0, 190.0]))))
    assert_is(best_of(found, tried), true, ROUGH)


@pytest.mark.parametrize("seed", range(2))
def test_where_the_peaks_are_does_not_matter(seed):
    """Moved, turned, mirrored and enlarged peaks give the moved, turned, mirrored, enlarged lattice."""
    random = np.random.default_rng(seed)
    true = np.array(CELLS["rhombic"])
    given = peaks(true, random, share=0.5, outliers=0.3)
    angle = random.uniform(0, 360)
    for change, precision in ((turned(np.eye(2), angle), 1), (np.diag([1.0, -1.0]), 1), (3 * np.eye(2), 3)):
        moved = type(given)(given.positions @ change + (3000.0, -500.0), given.weight, given.miller, given.lawful)
        found, tried = searched(moved, PRECISION * precision, shortest=SHORTEST * precision)
        assert_is(best_of(found, tried), true @ change)


def test_lengths_are_limited():
    """No basis has a vector beyond the limits; a lattice whose vectors lie within is not lost by limits."""
    random = np.random.default_rng(4)
    true = np.array(CELLS["rectangular"])
    given = peaks(true, random)
    for limits in ({"shortest": 15.0}, {"shortest": 20.0}, {"longest": 33.0}, {"longest": 40.0, "shortest": 17.0}):
        found, tried = searched(given, **limits)
        assert tried
        for basis in tried:
            lengths = np.linalg.norm(basis, axis=1)
            assert limits.get("shortest", 0) * 0.99 < lengths.min()
            assert lengths.max() < limits.get("longest", np.inf) * 1.01
        if limits.get("shortest", 0) < 18:
            assert_is(best_of(found, tried), true)


def test_peaks_on_a_line_or_in_one_place_have_no_basis():
    random = np.random.default_rng(1)
    line = np.arange(40)[:, None] * (17.0, 5.0) + random.normal(0, 0.2, (40, 2))
    for positions in (line, np.full((30, 2), 100.0), np.array([[1.0, 2.0], [30.0, 40.0]])):
        found = differences(positions, np.ones(len(positions)), PRECISION)
        assert bases(found, shortest=SHORTEST, longest=np.inf) == []


def test_bases_are_reduced_and_unlike_each_other():
    random = np.random.default_rng(8)
    _, tried = searched(peaks(CELLS["oblique"], random, outliers=0.5))
    assert len(tried) > 1
    for number, one in enumerate(tried):
        short, long = np.linalg.norm(one, axis=1)
        assert short <= long * (1 + 1e-9) and abs(one[0] @ one[1]) <= 0.5 * short**2 * (1 + 1e-9)
        assert not any(same_points(one, other) for other in tried[:number])


@pytest.mark.parametrize("seed", range(3))
def test_random_peaks_have_less_evidence_than_a_lattice(seed):
    """Of as many peaks of the same weights: the best of all bases of random peaks by far."""
    random = np.random.default_rng(seed)
    given = peaks(CELLS["oblique"], random, share=0.4)
    lattice, tried = searched(given)
    anywhere = random.uniform(0, (560, 400), given.positions.shape)
    none, by_chance = searched(type(given)(anywhere, given.weight, given.miller, given.lawful))
    own = lattice.evidence(best_of(lattice, tried)) / lattice.weight.sum()
    chance = max((none.evidence(basis) for basis in by_chance), default=0) / none.weight.sum()
    assert own > 1.0 > 5 * chance


# ---- the parts


def test_differences_are_those_to_the_nearest_peaks():
    """By an independent search of the neighbours; each pair once."""
    random = np.random.default_rng(2)
    positions, weight = random.uniform(0, 500, (150, 2)), random.uniform(0.1, 1, 150)
    found = differences(positions, weight, PRECISION)
    distance = np.linalg.norm(positions[:, None] - positions, axis=2)
    wanted = {tuple(sorted((i, int(j)))) for i in range(150) for j in np.argsort(distance[i])[1:61]}
    assert {tuple(sorted(pair)) for pair in zip(found.first.tolist(), found.second.tolist(), strict=True)} == wanted
    assert len(found) == len(wanted)
    assert found.vectors == pytest.approx(positions[found.second] - positions[found.first])
    assert found.weight == pytest.approx(np.minimum(weight[found.first], weight[found.second]))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(CHANGES),
    st.sampled_from(sorted(CELLS)),
    st.floats(0, 360),
)
def test_same_points_whatever_the_basis(change, cell, angle):
    """Any basis of a lattice spans the same points; one of a sublattice does not, nor a longer one."""
    basis = turned(CELLS[cell], angle)
    other = change @ basis
    assert same_points(other, basis) and same_points(basis, other)
    assert not same_points(np.diag([2, 1]) @ other, basis) and not same_points(basis, np.diag([1, 3]) @ other)
    assert not same_points(1.1 * basis, basis)


def test_log_odds_know_no_gain_where_nothing_is_dense():
    """Of even things the odds are 0 at most; of dense ones they are those of the best share of STRAY."""
    weight = np.array([1.0, 0.5, 0.2])
    assert log_odds(np.ones(3), weight) == pytest.approx(0.0)
    assert log_odds(np.zeros(3), weight) < 0
    few_strays = log_odds(np.full(3, 50.0), weight)
    assert few_strays == pytest.approx(1.7 * np.log(0.1 + 0.9 * 50.0))
    assert log_odds(np.array([50.0, 50.0, 0.0]), weight) < few_strays
    assert log_odds(np.array([50.0, 0.0]), np.ones(2)) == pytest.approx(
        max(np.log(e + (1 - e) * 50) + np.log(e) for e in (0.1, 0.3, 0.6, 0.85, 0.95))
    )


def test_evidence_prefers_the_lattice_to_sublattices_and_to_finer_ones():
    random = np.random.default_rng(5)
    true = np.array(CELLS["oblique"])
    given = peaks(true, random, share=0.6)
    found = differences(given.positions, given.weight, PRECISION)
    own = found.evidence(true)
    for change in ([[2, 0], [0, 1]], [[1, 0], [0, 3]], [[0.5, 0], [0, 1]], [[1, 0], [0, 1 / 3]], [[1.05, 0], [0, 1]]):
        assert found.evidence(np.array(change) @ true) < own
    assert found.evidence(np.array([[1, 1], [0, 1]]) @ true) == pytest.approx(own)


def test_steps_are_whole_and_off_counts_standard_deviations():
    vectors = np.array([[24.0, 0.3], [1.0, 48.0], [36.0, 0.0]])
    arrays = np.ones(3), np.zeros(3, int), np.ones(3, int)
    found = Differences(vectors, *arrays, 0.25)
    steps, off = found.steps(24 * np.eye(2))
    assert np.array_equal(steps[:2], [[1, 0], [0, 2]])
    assert off * found.sigma == pytest.approx([0.3, 1.0, 12.0])
    assert np.all(found.sigma > 2**0.5 * 0.25) and found.sigma[1] > found.sigma[0]
