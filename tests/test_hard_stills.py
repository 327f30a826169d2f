"""Extraction of stills that are not what it hopes for: satellites, misplaced rows, absent spots, wrong starts."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ed2d import flags
from ed2d.extraction import NotRefinable, extract_image
from ed2d.lattice import Lattice, predict
from ed2d.simulate import Simulation, expected, simulate, transmission
from stills import assert_pulls, image_of, in_order_of, parameters, recorded

TRUE = Lattice((301.3, 237.8), (27.1, 3.2), (-4.3, 28.9), 1.2e-7, -2e-7)
START = replace(TRUE, barrel=0.0, spiral=0.0)
SHAPE = (480, 620)
GIVEN = parameters(gain=5.0, read_noise=3.0)
SEEDS = (0, 1)
UNUSED = flags.NOT_FITTED | flags.SATURATED | flags.OUTLIER | flags.POOR_FIT | flags.EDGE
FLOOR = 0.06  # px, rms over the image of an undisturbed lattice


def simulation(**changes):
    values = {"gain": 5.0, "read_noise": 3.0, "peak_volume": 6000.0, "max_radius": 1.5, "background_diffuse": 0.0}
    return Simulation(shape=SHAPE, lattice=TRUE, **values | changes)


@cache
def scene(seed, change=None, **changes):
    """Image and truth of a still whose spots `change(truth, random)` has altered, or added to."""
    simulated = simulation(**changes)
    _, mask, truth = simulate(simulated, seed=seed)
    drawn = truth if change is None else change(truth, np.random.default_rng(seed))
    transmitted, _ = transmission(simulated)
    mu = simulated.gain * expected(simulated, drawn, transmitted)
    data = recorded(mu, np.random.default_rng(100 + seed), gain=simulated.gain, read_noise=simulated.read_noise)
    return image_of(np.rint(data), ignored=mask == 0), truth


def with_satellites(truth, random):
    """A second spot, as strong, 4 to 5 px from each of a fifth of the spots."""
    more = truth[random.random(len(truth)) < 0.2].copy()
    angle, distance = random.uniform(0, 2 * np.pi, len(more)), random.uniform(4, 5, len(more))
    more["x"] += distance * np.cos(angle)
    more["y"] += distance * np.sin(angle)
    return np.concatenate([truth, more])


def with_a_second_crystal(truth, random):
    """Another crystal, as strong, turned by 12 degrees."""
    cos, sin = np.cos(np.radians(12)), np.sin(np.radians(12))
    turned = replace(
        TRUE, a=tuple(TRUE.basis[0] @ [[cos, sin], [-sin, cos]]), b=tuple(TRUE.basis[1] @ [[cos, sin], [-sin, cos]])
    )
    more = truth.copy()
    more["x"], more["y"] = turned.position(np.column_stack([truth["h"], truth["k"]])).T
    more["vol_counts"] = random.permutation(truth["vol_counts"])
    return np.concatenate([truth, more])


def with_a_row_off(truth, random):
    """The spots of the row k = 2 stand 4 px from their points."""
    truth = truth.copy()
    truth["x"][truth["k"] == 2] += 3.2
    truth["y"][truth["k"] == 2] += 2.4
    return truth


def position_rms(lattice):
    """Rms distance, px, of the calculated positions from the true ones over the whole image."""
    miller = predict(TRUE, shape=SHAPE)
    return np.sqrt(np.mean(np.sum((lattice.position(miller) - TRUE.position(miller)) ** 2, axis=1)))


def pulls_of(result, truth):
    """Pulls of the volumes and which of them (n,) are to be judged."""
    rows, known = in_order_of(result.miller, truth)
    fits = result.spots.fits
    good = known & (rows["trans_min"] > 0.999) & (result.spots.flag & UNUSED == 0) & np.isfinite(fits.volume)
    return (fits.volume - rows["vol_counts"]) / np.sqrt(np.where(good, fits.volume_variance, 1.0)), good


@pytest.mark.parametrize("seed", SEEDS)
def test_satellites(seed):
    """A fifth of the spots with a second one as strong in the box: the lattice is that of the spots."""
    image, truth = scene(seed, with_satellites)
    result = extract_image(image, START, GIVEN)
    assert position_rms(result.lattice) < 2 * FLOOR
    alone, _ = in_order_of(result.miller, truth)
    pulls, good = pulls_of(result, truth)
    assert np.mean(np.abs(pulls[good]) < 4) > 0.75 and len(alone) == len(result.miller)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_second_crystal(seed):
    """The lattice of the verified crystal stays right, and the share of its peaks tells of the other."""
    image, _ = scene(seed, with_a_second_crystal)
    result = extract_image(image, START, GIVEN)
    assert position_rms(result.lattice) < 2 * FLOOR
    assert 0.2 < result.peaks_on_lattice < 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_one_row_off(seed):
    """Spots of one row 4 px from their points are outliers or weak; all others are as if there were no such row."""
    image, truth = scene(seed, with_a_row_off)
    plain, _ = scene(seed)
    result, reference = extract_image(image, START, GIVEN), extract_image(plain, START, GIVEN)
    assert position_rms(result.lattice) < FLOOR
    pulls, good = pulls_of(result, truth)
    others = result.miller[:, 1] != 2
    assert_pulls(pulls[good & others], bias=0.1, extra_width=0.1)
    assert not np.any(result.used & ~others)
    assert result.used.sum() > 0.9 * np.sum(reference.used & (reference.miller[:, 1] != 2))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [1 / 5, 1 / 3])
def test_far_spots_off_by_a_third_of_the_spacing(share, seed):
    """Vectors so wrong that the farthest spots are a third of the spacing off: the same as from the right start."""
    image, _ = scene(seed)
    reference = extract_image(image, START, GIVEN)
    random = np.random.default_rng(seed)
    error = random.normal(0, 1, (2, 2))
    largest = np.max(np.linalg.norm(predict(TRUE, shape=SHAPE) @ error, axis=1))
    a, b = START.basis + share * TRUE.spacing / largest * error
    result = extract_image(image, replace(START, a=tuple(a), b=tuple(b)), GIVEN)
    assert_same(result, reference)


def assert_same(result, reference):
    """No calculated position moved by 1e-3 px and no volume by 0.05 standard deviations."""
    np.testing.assert_array_equal(result.miller, reference.miller)
    shift = result.lattice.position(result.miller) - reference.lattice.position(result.miller)
    assert np.max(np.abs(shift)) < 1e-3
    moved = result.spots.fits.volume - reference.spots.fits.volume
    assert np.nanmax(np.abs(moved) / np.sqrt(reference.spots.fits.volume_variance)) < 0.05
    np.testing.assert_array_equal(np.isnan(result.spots.fits.volume), np.isnan(reference.spots.fits.volume))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", [None, with_satellites, with_a_row_off, "absent"])
def test_a_restart_moves_nothing(kind, seed):
    """Started from its own result, with less than 1e-3 px and 0.05 standard deviations of change, flags kept."""
    change, changes = (None, {"absent_fraction": 0.6}) if kind == "absent" else (kind, {})
    image, _ = scene(seed, change, **changes)
    first = extract_image(image, START, GIVEN)
    second = extract_image(image, first.lattice, GIVEN)
    assert_same(second, first)
    assert np.mean(second.spots.flag != first.spots.flag) < 0.005


@pytest.mark.parametrize("seed", SEEDS)
def test_most_spots_absent(seed):
    """With 80 % of the spots absent the lattice is right, and the absent ones scatter about 0."""
    image, truth = scene(seed, absent_fraction=0.8)
    result = extract_image(image, replace(START, origin=(303.0, 236.5)), GIVEN)
    assert position_rms(result.lattice) < 3 * FLOOR
    pulls, good = pulls_of(result, truth)
    rows, _ = in_order_of(result.miller, truth)
    absent = good & (rows["vol_counts"] == 0)
    assert_pulls(pulls[absent], bias=0.05, extra_width=0.05)
    assert np.mean(result.spots.flag[absent] & flags.WEAK != 0) == 1.0


WRONG = {
    "other vectors": Lattice((301.3, 237.8), (21.7, -6.0), (9.0, 25.0)),
    "mirrored": Lattice((301.3, 237.8), (27.1, -3.2), (4.3, 28.9)),
    "origin between spots": Lattice((314.0, 252.0), (27.1, 3.2), (-4.3, 28.9)),
    "larger vectors": Lattice((301.3, 237.8), (35.1, 3.2), (-4.3, 37.9)),
    "turned and larger": Lattice((301.3, 237.8), (27.4, 8.3), (-9.8, 29.1)),
    "turned by 45 degrees": Lattice((301.3, 237.8), (16.9, 21.4), (-23.5, 17.4)),
    "far smaller vectors": Lattice((301.3, 237.8), (19.3, 2.0), (-3.0, 17.1)),
    "a third longer along one vector": Lattice((301.3, 237.8), (36.1, 4.3), (-4.3, 28.9)),
    "sheared": Lattice((301.3, 237.8), (27.1, 13.2), (-4.3, 28.9)),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_lattice_is_refused(wrong, seed):
    """A lattice that the spots do not lie on raises NotRefinable instead of giving numbers."""
    image, _ = scene(seed)
    with pytest.raises(NotRefinable):
        extract_image(image, WRONG[wrong], GIVEN)


def random_start(random):
    """A lattice turned, scaled and shifted at random."""
    turn, scale = np.deg2rad(random.uniform(-20, 20)), random.uniform(0.85, 1.2)
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    a, b = START.basis @ rotation.T
    return Lattice(tuple(np.array(START.origin) + random.uniform(-12, 12, 2)), tuple(a), tuple(b))


@pytest.mark.parametrize("seed", range(12))
def test_any_lattice_is_made_right_or_refused(seed):
    """A start turned, scaled and shifted at random leads to a lattice of the spots, or to none."""
    image, truth = scene(seed % 2)
    try:
        lattice = extract_image(image, random_start(np.random.default_rng(seed)), GIVEN).lattice
    except NotRefinable:
        return
    indices = lattice.index(np.column_stack([truth["x"], truth["y"]]))
    assert np.abs(indices - np.round(indices)).max() < 0.05
