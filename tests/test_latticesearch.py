"""The whole search: lattice and origin of small stills, and doubts in plain words where there is reason for doubt."""

from dataclasses import replace

import numpy as np
import pytest

from ed2d.lattice import Lattice
from ed2d.latticesearch import SURE, search_image
from ed2d.maskshapes import rasterise
from ed2d.nuisance import Beam, Feet, Grains, Ring, Satellites, SecondLattice
from ed2d.parameters import SearchParameters, UnitCell
from ed2d.shadows import find_shadows
from ed2d.simulate import Order, Simulation, simulate
from peaklists import CELLS, relation, turned
from stills import image_of, parameters, still

SHAPE = (340, 420)
VECTOR, ORIGIN = 0.003, 1.0  # of a vector; px
AT = (217.0, 161.0)
STILL = {
    "peak_volume": 8000.0,
    "falloff": 3.0,
    "background": 20.0,
    "background_diffuse": 800.0,
    "background_width": 0.1,
    "background_plane": 4.0,
    "max_radius": 1.5,
    "beamstop": False,
    "zingers": 20,
}
CHOSEN = parameters(search=SearchParameters())


def lattice(cell="oblique", angle=20.0, at=AT, **distortion):
    return Lattice(at, *(tuple(map(float, vector)) for vector in turned(CELLS[cell], angle)), **distortion)


def searched(true, seed, *, masked=True, given=CHOSEN, shape=SHAPE, **changes):
    image, _, _ = still(true, shape=shape, seed=seed, masked=masked, **STILL | changes)
    return search_image(image, given)


def assert_right(found, true, sure=True):
    assert found.best is not None, found.reason
    index, error = relation(found.best.lattice.basis, true.basis)
    assert index == 1 and error < VECTOR, (index, error)
    assert np.linalg.norm(np.subtract(found.best.lattice.origin, true.origin)) < ORIGIN
    assert found.sure == (found.best.confidence >= SURE) and found.sure == (found.reason == "")
    assert found.sure or not sure, found.reason
    assert found.rms < 1.0 and np.mean(found.on_lattice) > 0.4


DISTURBED = {
    "plain": {},
    "counting": {"gain": 1.0, "read_noise": 0.0, "saturation": 65535},
    "pedestal": {"gain": 2.0, "offset": 700.0},
    "beam stop": {"beamstop": True},
    "direct beam": {"glows": (Beam(center=AT, volume=3e5, sigma=2.0, height=500.0, width=8.0),)},
    "rings": {
        "glows": (Ring(center=AT, radius=90, width=2.5, height=60), Ring(center=AT, radius=140, width=4, height=20))
    },
    "grains": {"strays": (Grains(center=AT, radius=110, width=2, number=40, share=0.5, seed=3),)},
    "second lattice": {"strays": (SecondLattice(lattice=lattice(angle=33.0), share=0.3, seed=8),)},
    "satellites": {"strays": (Satellites(vector=(0.37, 0.0), share=0.1, seed=4),)},
    "feet": {"strays": (Feet(share=0.3, wider=4.0, seed=11),)},
    "weak orders": {"orders": (Order((1, 1), 2, factor=0.15),)},
    "absences": {"orders": (Order((1, 0), 2, row=(0, 1)), Order((0, 1), 2, row=(1, 0)))},
    "absent pairs": {"absent_fraction": 0.5},
    "zingers": {"zingers": 150},
}


@pytest.mark.parametrize("name", DISTURBED)
def test_disturbed_stills_are_right_and_sure(name):
    true = lattice()
    assert_right(searched(true, 11, **DISTURBED[name]), true)


@pytest.mark.parametrize("cell, angle", [(cell, 47.0 * number) for number, cell in enumerate(CELLS)])
def test_lattices_of_all_kinds_are_right_and_sure(cell, angle):
    true = lattice(cell, angle)
    assert_right(searched(true, round(angle) + 1), true)


@pytest.mark.parametrize("barrel, spiral", [(4e-7, 0.0), (-3e-7, 3e-7), (0.0, -5e-7)])
def test_distorted_stills_are_right_and_sure(barrel, spiral):
    """By 5 to 8 px in the corner; the distortion is found as well."""
    true = lattice(barrel=barrel, spiral=spiral)
    found = searched(true, 2, peak_volume=30000.0)
    assert_right(found, true)
    assert (found.best.lattice.barrel, found.best.lattice.spiral) == pytest.approx((barrel, spiral), abs=1e-7)


def test_far_origins_are_right_and_sure():
    true = lattice(at=(110.0, 95.0))
    assert_right(searched(true, 3, max_radius=2.5, falloff=2.0, beamstop=True), true)


# ---- doubt


def empty(seed, *, glows=(), strays=(), background=25.0, **changes):
    """A still without spots of a lattice: (data, Image)."""
    given = {"background_diffuse": 500.0, "background_plane": 3.0, "zingers": 30} | changes
    simulation = Simulation(
        shape=SHAPE, lattice=lattice(), peak_volume=0.0, background=background, glows=glows, strays=strays, **given
    )
    data, mask, _ = simulate(simulation, seed=seed)
    return image_of(data, ignored=mask == 0)


def assert_not_sure(found):
    assert not found.sure and found.reason
    assert found.best is None or found.best.confidence < SURE


@pytest.mark.parametrize("background", (0.3, 3.0, 100.0))
@pytest.mark.parametrize("seed", (2, 3))
def test_noise_is_never_sure(background, seed):
    """Not even where weak peaks are asked for, so that there are hundreds of them."""
    image = empty(seed, background=background, background_diffuse=5 * background, background_plane=0.0)
    for search in (SearchParameters(), SearchParameters(peak_search_sensitivity=2.0)):
        found = search_image(image, parameters(search=search))
        assert_not_sure(found)
    assert len(found.peaks) > 50


@pytest.mark.parametrize("seed", range(3))
def test_rings_alone_are_never_sure(seed):
    """Smooth and textured rings, and such of coarse grains."""
    random = np.random.default_rng(seed)
    radii = random.uniform(50, 180, 3)
    glows = tuple(Ring(center=AT, radius=r, width=2.0, height=40.0, texture=seed % 3, direction=30 * r) for r in radii)
    grains = tuple(Grains(center=AT, radius=r, width=1.5, number=40, share=1.0, seed=seed) for r in radii[1:])
    found = search_image(empty(seed, glows=glows), CHOSEN)
    assert_not_sure(found)
    simulation = {"peak_volume": 4000.0, "lattice": lattice(), "shape": SHAPE}
    truth = [stray.spots(Simulation(**simulation)) for stray in grains]
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mu = 20 + sum(glow.electrons(x, y) for glow in glows)
    for spot in np.concatenate(truth):
        mu = mu + 60 * np.exp(-((x - spot["x"]) ** 2 + (y - spot["y"]) ** 2) / 4)
    found = search_image(image_of(random.poisson(mu)), CHOSEN)
    assert len(found.peaks) > 30
    assert_not_sure(found)


@pytest.mark.parametrize("seed", range(3))
def test_random_spots_are_never_sure(seed):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    mu = np.full(SHAPE, 20.0)
    for cx, cy in random.uniform((10, 10), np.array(SHAPE[::-1]) - 10, (100, 2)):
        mu += random.exponential(200) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 4)
    found = search_image(image_of(random.poisson(mu)), CHOSEN)
    assert len(found.peaks) > 60
    assert_not_sure(found)


def test_nothing_is_found_on_an_even_image():
    for data in (np.zeros(SHAPE, np.uint16), np.random.default_rng(1).poisson(30, SHAPE)):
        found = search_image(image_of(data), CHOSEN)
        assert found.best is None and found.runner_up is None and not found.sure
        assert found.reason == f"only {len(found.peaks)} peaks stand out"
        assert len(found.on_lattice) == len(found.peaks) and not found.on_lattice.any() and np.isnan(found.rms)


def test_few_spots_are_not_sure():
    """Of a dozen spots the lattice may be right; it is not sure, and the reason says that they are few."""
    for seed in range(3):
        found = searched(lattice(), seed, peak_volume=1500.0, max_radius=0.45, background_diffuse=0.0)
        assert_not_sure(found)
        assert "peaks" in found.reason


def test_two_equal_origins_are_not_sure():
    """Without halo and symmetry: the lattice is right, and the reason names the origin; the runner-up has another."""
    true = lattice()
    for seed in range(2):
        found = searched(true, seed, friedel=False, background_diffuse=0.0, background_plane=0.0)
        assert_not_sure(found)
        assert relation(found.best.lattice.basis, true.basis)[0] == 1
        assert "the origin may be" in found.reason and "Friedel pairs" in found.reason
        steps = np.subtract(found.runner_up.lattice.origin, found.best.lattice.origin) @ np.linalg.inv(true.basis)
        assert np.abs(steps - np.rint(steps)).max() < 0.1 and np.abs(np.rint(steps)).max() >= 1
        assert found.runner_up.confidence <= found.best.confidence
        assert found.best.confidence + found.runner_up.confidence <= 1


def test_confidence_grows_with_the_dose():
    """More electrons, more certainty; from nothing to sure."""
    true, before = lattice(), []
    for volume in (60.0, 600.0, 6000.0):
        some = [searched(true, seed, peak_volume=volume) for seed in range(2)]
        before.append(np.mean([found.best.confidence if found.best else 0.0 for found in some]))
    assert before[0] < 0.5 and before[2] > SURE and before[0] <= before[1] <= before[2] + 0.001


# ---- invariance


def test_transposing_transposes_the_lattice():
    true = lattice("rectangular", 17.0)
    image, _, _ = still(true, shape=SHAPE, seed=4, **STILL)
    one, other = search_image(image, CHOSEN), search_image(image_of(image.data.T), CHOSEN)
    mirrored = Lattice(*(vector[::-1] for vector in (true.origin, true.a, true.b)))
    assert_right(one, true)
    assert_right(other, mirrored)
    assert np.linalg.det(one.best.lattice.basis) > 0 and np.linalg.det(other.best.lattice.basis) > 0


@pytest.mark.parametrize("move", [(7, -5), (-31, 22)])
def test_moving_the_image_moves_the_origin(move):
    """The same pixels of a larger still, cut out elsewhere."""
    shape = tuple(np.array(SHAPE) + 100)
    image, _, _ = still(lattice(at=(267.0, 211.0)), shape=shape, seed=5, **STILL | {"max_radius": 0.7})
    found = []
    for dx, dy in ((0, 0), move):
        cut = image.data[50 + dy : 50 + dy + SHAPE[0], 50 + dx : 50 + dx + SHAPE[1]]
        found.append(search_image(image_of(cut), CHOSEN))
        assert_right(found[-1], lattice(at=(217.0 - dx, 161.0 - dy)))
    moved = np.subtract(found[0].best.lattice.origin, found[1].best.lattice.origin)
    assert moved == pytest.approx(move, abs=0.1)


def test_gain_and_pedestal_change_nothing():
    true = lattice()
    image, _, _ = still(true, shape=SHAPE, seed=6, **STILL)
    one, other = (search_image(image_of(data), CHOSEN) for data in (image.data, 3.0 * image.data + 250.0))
    assert one.sure and other.sure
    assert other.best.lattice.basis == pytest.approx(one.best.lattice.basis, abs=0.01)
    assert other.best.lattice.origin == pytest.approx(one.best.lattice.origin, abs=0.05)


# ---- masks and parameters


def test_a_found_mask_keeps_the_search_right():
    """Of a still behind a stop, with what is found of the stop ignored."""
    true = lattice()
    data, _, _ = simulate(Simulation(shape=SHAPE, lattice=true, **STILL | {"beamstop": True}), seed=7)
    ignored = rasterise(find_shadows(image_of(data)), SHAPE)
    assert 0 < ignored.mean() < 0.1
    assert_right(search_image(image_of(data, ignored=ignored), CHOSEN), true)


def test_a_hot_corner_needs_its_mask():
    """Structured light in a part of the image gives peaks that are not of the lattice: none where it is ignored."""
    true = lattice()
    data, _, _ = simulate(Simulation(shape=SHAPE, lattice=true, **STILL), seed=8)
    ignored = np.zeros(SHAPE, bool)
    ignored[200:, 300:] = True
    for y, x in np.random.default_rng(1).integers((205, 305), (330, 410), (40, 2)):
        data[y - 1 : y + 3, x - 1 : x + 3] = 9000
    without, found = (search_image(image_of(data, ignored=some), CHOSEN) for some in (False, ignored))
    assert_right(found, true)
    assert np.mean(found.on_lattice) > np.mean(without.on_lattice) + 0.1


@pytest.mark.parametrize(
    "cell", [UnitCell(a=80.0, b=62.0, c=100.0, gamma=90.0), UnitCell(a=70.0, b=70.0, c=100.0, gamma=120.0)]
)
@pytest.mark.parametrize("angle", (10.0, 200.0))
def test_a_known_cell_says_which_vector_is_which(cell, angle):
    """a* is First although it is the shorter or longer one."""
    pixel_size, gamma = 6e-4, np.deg2rad(cell.gamma)
    direct = np.array([[cell.a, 0.0], [cell.b * np.cos(gamma), cell.b * np.sin(gamma)]])
    basis = turned(np.linalg.inv(direct).T / pixel_size, angle)
    true = Lattice(AT, *map(tuple, basis))
    known = parameters(search=SearchParameters(pixel_size=pixel_size), unit_cell=cell)
    found = searched(true, 9, given=known)
    assert_right(found, true)
    lengths = np.linalg.norm(found.best.lattice.basis, axis=1)
    assert lengths == pytest.approx(np.linalg.norm(basis, axis=1), rel=0.01)
    assert np.cos(np.deg2rad(found.best.lattice.gamma)) == pytest.approx(np.cos(np.pi - gamma), abs=0.02)
    swapped = replace(cell, a=cell.b, b=cell.a)
    other = searched(true, 9, given=replace(known, unit_cell=swapped)).best.lattice
    assert np.linalg.norm(other.basis, axis=1) == pytest.approx(lengths[::-1], rel=0.01)


def test_a_cell_that_does_not_fit_is_a_doubt():
    true = lattice("rectangular")
    known = parameters(
        search=SearchParameters(pixel_size=6e-4), unit_cell=UnitCell(a=31.0, b=45.0, c=100.0, gamma=100.0)
    )
    found = searched(true, 10, given=known)
    assert_not_sure(found)
    assert "its vectors do not fit UnitCell and PixelSize" in found.reason
    assert relation(found.best.lattice.basis, true.basis)[0] == 1


def test_limits_of_lengths_are_kept():
    true = lattice("rectangular")
    found = searched(true, 12, given=parameters(search=SearchParameters(maximal_lattice_length=25.0)))
    assert found.best is None or not found.sure
    for limits in ({"minimal_lattice_length": 12.0}, {"maximal_lattice_length": 40.0}):
        assert_right(searched(true, 12, given=parameters(search=SearchParameters(**limits))), true)
