"""The origin: by symmetry alone, by the background alone, below a stop, far off the middle."""

import numpy as np
import pytest

from ed2d.differences import differences
from ed2d.indexing import index_peaks, nearest
from ed2d.lattice import Lattice
from ed2d.nuisance import Disc, Haze
from ed2d.origin import FEWEST_PAIRS, Background, _symmetry, origins
from ed2d.parameters import SearchParameters
from ed2d.peaksearch import find_peaks
from peaklists import CELLS, turned
from stills import still

SHAPE = (330, 400)
FLAT = {"background_diffuse": 0.0, "background_plane": 0.0, "background": 20.0}
HALO = {"background_diffuse": 400.0, "background_width": 0.12, "background_plane": 4.0, "background": 20.0}
SPOTS = {"peak_volume": 6000.0, "falloff": 2.5, "sigma_low": 1.3, "sigma_high": 1.5, "elongation": 1.0, "zingers": 10}
RANDOM = {"friedel": False}
CERTAIN = 0.99


def searched(origin, seed, *, cell="oblique", masked=True, **changes):
    """The Origins of a still whose lattice and indices are known, and the place of the first, px."""
    random = np.random.default_rng(seed)
    basis = turned(CELLS[cell], random.uniform(0, 360))
    lattice = Lattice(tuple(origin), *map(tuple, basis))
    given = SPOTS | {"beamstop": False, "max_radius": 2.5, "min_radius": 0.02} | changes
    image, _, _ = still(lattice, shape=SHAPE, seed=seed, masked=masked, **given)
    contrast, peaks = find_peaks(image, SearchParameters())
    weight = np.sqrt(np.minimum(peaks.significance, 400) / 400)
    found = differences(peaks.positions, weight, contrast.precision)
    indexed = index_peaks(peaks.positions, weight, basis, found)
    return origins(image, contrast, indexed), indexed.lattice


def assert_found(found, lattice, origin, certain=True):
    assert np.linalg.norm(lattice.position(found.miller[:1])[0] - origin) < 1.0
    assert found.probability.sum() == pytest.approx(1.0)
    assert np.all(np.diff(found.probability) <= 0)
    assert not certain or found.probability[0] > CERTAIN


@pytest.mark.parametrize("cell", ("oblique", "hexagonal", "long"))
@pytest.mark.parametrize("seed", (1, 2))
def test_symmetry_alone_finds_the_origin(cell, seed):
    """On an even background, somewhat off the middle."""
    origin = np.array([214.0, 150.0])
    found, lattice = searched(origin, seed, cell=cell, **FLAT)
    assert_found(found, lattice, origin)
    assert found.symmetry[0] == max(found.symmetry) and found.correlation[0] > 0.7
    assert np.argmax(found.correlation * (found.pairs > 20)) == 0


@pytest.mark.parametrize("origin", [(90.0, 230.0), (310.0, 90.0)])
@pytest.mark.parametrize("background", (FLAT, HALO))
def test_origins_far_off_the_middle_are_found(origin, background):
    """At a fourth of the size from the middle, with Friedel pairs in one corner only."""
    found, lattice = searched(origin, 5, **background)
    assert_found(found, lattice, origin)
    assert found.place[0] < max(found.place)


@pytest.mark.parametrize("cell", ("square", "rhombic"))
@pytest.mark.parametrize("seed", (1, 2, 3))
def test_the_halo_alone_finds_the_origin(cell, seed):
    """Of a crystal whose mates have nothing to do with each other."""
    origin = np.array([222.0, 148.0])
    found, lattice = searched(origin, seed, cell=cell, **HALO, **RANDOM)
    assert_found(found, lattice, origin, certain=False)
    assert found.background[0] == max(found.background)
    assert found.symmetry[0] < 10


def test_without_symmetry_and_halo_nothing_is_certain():
    """Only the place on the image is left."""
    for seed in range(3):
        found, _ = searched((222.0, 148.0), seed, **FLAT, **RANDOM)
        assert found.probability[0] < 0.9
        assert found.probability.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("masked", (True, False))
@pytest.mark.parametrize("seed", (1, 2))
def test_the_origin_below_a_stop_is_found(masked, seed):
    """A disc with a bar that hides many spots, masked or not."""
    origin = np.array([214.0, 150.0])
    found, lattice = searched(origin, seed, masked=masked, beamstop=True, **HALO)
    assert_found(found, lattice, origin)


def test_a_stop_beside_the_origin_does_not_lead_astray():
    """The middle of the stop is two lattice vectors away."""
    origin = np.array([214.0, 150.0])
    shadow = Disc(center=(240.0, 190.0), radius=30.0, floor=0.003)
    for seed in (3, 4):
        found, lattice = searched(origin, seed, shadows=(shadow,), **HALO)
        assert_found(found, lattice, origin)


def test_a_lit_side_does_not_lead_astray():
    """Light that lies elsewhere, of one side of the image."""
    origin = np.array([190.0, 170.0])
    haze = Haze(center=(60.0, 60.0), height=40.0, width=120.0, edge=20.0, soft=5.0)
    found, lattice = searched(origin, 6, glows=(haze,), **HALO)
    assert_found(found, lattice, origin)


@pytest.mark.parametrize("seed", (1, 2))
def test_mates_that_differ_are_still_mates(seed):
    """By 30 %, with half of the pairs absent."""
    origin = np.array([214.0, 150.0])
    found, lattice = searched(origin, seed, friedel_difference=0.3, absent_fraction=0.5, **FLAT)
    assert_found(found, lattice, origin)


def test_the_index_of_the_origin_does_not_matter():
    """Indices counted from another point give the same places with the same probabilities."""
    origin = np.array([214.0, 150.0])
    basis = np.array(CELLS["oblique"])
    image, _, _ = still(
        Lattice(tuple(origin), *map(tuple, basis)), shape=SHAPE, seed=2, beamstop=False, **SPOTS, **HALO
    )
    contrast, peaks = find_peaks(image, SearchParameters())
    probabilities = []
    for shift, change in (((0, 0), np.eye(2)), ((3, -2), np.eye(2)), ((-1, 4), np.array([[1, 1], [0, 1]]))):
        weight = np.ones(len(peaks))
        found = differences(peaks.positions, weight, contrast.precision)
        indexed = index_peaks(peaks.positions, weight, change @ basis, found)
        moved = type(indexed.lattice).straight(origin + np.array(shift) @ basis, change @ basis)
        miller, off = nearest(moved, peaks.positions)
        given = type(indexed)(moved, miller, off, off < 3, indexed.evidence)
        result = origins(image, contrast, given)
        assert np.linalg.norm(moved.position(result.miller[:1])[0] - origin) < 1e-6
        probabilities.append(result.odds[:1])
    assert probabilities[1] == pytest.approx(probabilities[0], rel=1e-6)


# ---- the parts


@pytest.mark.parametrize("seed", range(3))
def test_symmetry_counts_pairs_as_a_loop_does(seed):
    """Numbers and correlations of the pairs about each point by loops over all points."""
    random = np.random.default_rng(seed)
    miller = np.array([(h, k) for h in range(-4, 6) for k in range(-5, 4) if random.random() < 0.9])
    known = random.random(len(miller)) < 0.85
    values, noise = random.exponential(30, len(miller)), random.uniform(1, 3, len(miller))
    odds, correlation, pairs = _symmetry(miller, known, values, noise)
    place = {tuple(index): number for number, index in enumerate(miller.tolist())}
    for number, (h, k) in enumerate(miller.tolist()):
        mates = [place.get((2 * h - i, 2 * k - j), -1) for i, j in miller.tolist()]
        wanted = sum(mate >= 0 and known[mate] and known[one] for one, mate in enumerate(mates)) / 2
        assert pairs[number] == pytest.approx(wanted)
    assert np.all(odds[pairs < FEWEST_PAIRS] == 0)
    assert odds == pytest.approx(-pairs / 2 * np.log(1 - correlation**2))


@pytest.mark.parametrize("seed", range(3))
def test_perfect_mates_correlate_at_their_centre_alone(seed):
    random = np.random.default_rng(seed)
    miller = np.array([(h, k) for h in range(-6, 7) for k in range(-5, 6)])
    strength = {tuple(index): random.exponential(40) for index in miller.tolist()}
    values = np.array([strength[max((h, k), (-h, -k))] for h, k in miller.tolist()])
    odds, correlation, pairs = _symmetry(miller, np.ones(len(miller), bool), values, np.ones(len(miller)))
    centre = int(np.flatnonzero(~miller.any(axis=1))[0])
    assert np.argmax(odds) == centre and correlation[centre] > 0.99
    assert pairs[centre] == pytest.approx(len(miller) / 2)
    others = np.delete(odds, centre)
    assert others.max() < 0.3 * odds[centre]


@pytest.mark.parametrize("centre", [(200.0, 165.0), (120.0, 240.0), (320.0, 60.0)])
def test_the_centre_of_a_halo_is_found(centre):
    """Under spots and a plane, whatever gain and pedestal; with a hole of ignored pixels over it."""
    lattice = Lattice(centre, (24.0, 3.0), (-5.0, 27.0))
    for changes in ({}, {"gain": 1.0, "read_noise": 0.0}, {"offset": 800.0}, {"beamstop": True}):
        image, _, _ = still(lattice, shape=SHAPE, seed=3, **SPOTS | HALO | {"beamstop": False} | changes)
        background = Background.of(image)
        found = background.centre(np.array(SHAPE[::-1]))
        assert np.linalg.norm(found - centre) < 12.0, changes
        assert background.misfit(np.array(centre)) < 0.7 * background.misfit(np.array(centre) + 40)


def test_a_background_of_too_little_is_none():
    image, _, _ = still(Lattice((200.0, 165.0), (24.0, 3.0), (-5.0, 27.0)), shape=SHAPE, seed=3, **HALO)
    ignored = np.ones(SHAPE, bool)
    ignored[:40, :60] = False
    assert Background.of(type(image)(image.data, ignored, image.saturated)) is None
