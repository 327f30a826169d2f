"""Held and free fits: the choice between them biases neither, and what is kept equals what would come out anew."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ed2d import flags, gaussian, profile
from ed2d.lattice import Lattice, predict
from ed2d.measurement import CLEAR, SAME_PIXELS, SAME_VOLUME, measure, measure_again
from ed2d.noise import Noise
from ed2d.simulate import Simulation, simulate
from populations import HALF, fitted
from stills import (
    WIDE_SIGMA,
    assert_pulls,
    boxes_of,
    drawn,
    image_of,
    in_order_of,
    many_spots,
    parameters,
    recorded,
)

LATTICE = Lattice((141.3, 107.8), (26.1, 2.2), (-3.3, 27.0), 1e-7, -2e-7)
SHAPE = (230, 290)
GAIN, READ_NOISE = 5.0, 3.0
NOISE = Noise(gain=GAIN, read_variance=READ_NOISE**2, offset=0.0)
GIVEN = parameters(gain=GAIN, read_noise=READ_NOISE)
MOVED = 0.05  # standard deviations: what 0.02 px and 2 % of the width, and the tolerance of the fits, do to a volume
BIAS = 0.05  # of the bound of the volume


@pytest.mark.parametrize(("background", "gain", "read_noise"), [(50, 1, 0), (5, 1, 0), (25, 5, 10)])
def test_the_choice_biases_neither(background, gain, read_noise):
    """Spots of I/sigma 4 to 8, of which chance lifts some above the threshold: as a whole they have no bias."""
    random = np.random.default_rng(1)
    n = 6000
    noise = Noise(gain=gain, read_variance=read_noise**2, offset=0.0)
    spots = many_spots(n, random, volume=1, background=background, widths=(1.4, 2.4))
    wanted = random.uniform(4, 8, n) * CLEAR / 6.5
    square = wanted**2 * gain
    area = 4 * np.pi * spots[:, 3] * spots[:, 4]
    spots[:, 0] = (square + np.sqrt(square**2 + 4 * wanted**2 * area * noise.variance(background))) / 2
    boxes = boxes_of(recorded(drawn(HALF, spots), random, gain=gain, read_noise=read_noise))
    held, free = fitted(boxes, noise, spots, exact=True)
    clear = held.fits.significance >= CLEAR
    assert 0.2 < clear.mean() < 0.8
    good = clear & (free.flag & (flags.NOT_CONVERGED | flags.WIDTH | flags.CENTRE) == 0)
    assert np.mean(clear & ~good) < 0.01
    volume = np.where(good, free.fits.volume, held.fits.volume)
    sigma = np.where(good, np.sqrt(free.fits.volume_variance), np.sqrt(held.fits.volume_variance))
    error = (volume - spots[:, 0]) / np.median(sigma)
    statistical = WIDE_SIGMA * np.std(error) / np.sqrt(n)
    assert abs(np.mean(error)) < BIAS + statistical
    assert_pulls((volume - spots[:, 0]) / sigma, bias=2 * BIAS, extra_width=0.1)


@pytest.mark.parametrize("true", [0.0, 5.0])
def test_held_volumes_do_not_select_themselves(true):
    """Of spots of one strength, the difference between free and held volume does not depend on the held one."""
    random = np.random.default_rng(2)
    n, noise = 4000, Noise(gain=1.0, read_variance=0.0, offset=0.0)
    spots = many_spots(n, random, volume=1, background=30, widths=(1.8, 1.9))
    spots[:, 0] = (true + 4.0) * np.sqrt(30 * 4 * np.pi * spots[:, 3] * spots[:, 4])
    boxes = boxes_of(recorded(drawn(HALF, spots), random))
    held, free = fitted(boxes, noise, spots, exact=True)
    good = free.flag & (flags.NOT_CONVERGED | flags.WIDTH | flags.CENTRE) == 0
    strength = (held.fits.volume - spots[:, 0])[good]
    gain = (free.fits.volume - held.fits.volume)[good]
    correlation = np.corrcoef(strength, np.clip(gain, *np.percentile(gain, [1, 99])))[0, 1]
    assert abs(correlation) < 0.1 + WIDE_SIGMA / np.sqrt(good.sum())


@cache
def scene(diffuse=0.0):
    """A still and its truth."""
    simulation = Simulation(
        shape=SHAPE,
        lattice=LATTICE,
        gain=GAIN,
        read_noise=READ_NOISE,
        peak_volume=4000.0,
        max_radius=1.5,
        background_diffuse=diffuse,
        background_width=0.2,
    )
    data, mask, truth = simulate(simulation, seed=4)
    return image_of(data, ignored=mask == 0), truth


@cache
def learned(width):
    """A profile of round spots."""
    return profile.default(LATTICE.origin, SHAPE, width, GIVEN.half)


def moved(lattice, x, y):
    return replace(lattice, origin=(lattice.origin[0] + x, lattice.origin[1] + y))


def assert_alike(one, two):
    """Equal volumes and flags of held and of free fits, to a small part of the standard deviations."""
    np.testing.assert_array_equal(one.miller, two.miller)
    np.testing.assert_array_equal(one.boxes.centre, two.boxes.centre)
    np.testing.assert_array_equal(one.boxes.usable, two.boxes.usable)
    np.testing.assert_array_equal(one.boxes.values, two.boxes.values)
    difference = (one.held.fits.volume - two.held.fits.volume) / np.sqrt(two.held.fits.volume_variance)
    assert np.nanmax(np.abs(difference)) < MOVED
    both = one.clear & two.clear
    assert np.mean(one.clear != two.clear) < 0.02
    difference = (one.free.fits.volume - two.free.fits.volume)[both] / np.sqrt(two.free.fits.volume_variance[both])
    assert np.nanmax(np.abs(difference)) < MOVED


@pytest.mark.parametrize(
    ("shift", "width"),
    [((0.0, 0.0), 1.5), ((0.005, -0.005), 1.5), ((0.3, 0.0), 1.5), ((0.0, 0.0), 1.8), ((-1.4, 2.6), 1.7)],
    ids=["nothing", "hardly", "other pixels", "other widths", "all"],
)
def test_what_is_kept_is_what_would_come_out(shift, width):
    """After a change of the lattice or the widths, small or large: as a measurement from scratch."""
    image, _ = scene()
    miller = predict(LATTICE, shape=SHAPE)
    before = measure(image, miller, LATTICE, learned(1.5), NOISE, GIVEN)
    lattice = moved(LATTICE, *shift)
    miller = predict(lattice, shape=SHAPE)
    after = measure_again(before, image, miller, lattice, learned(width), GIVEN)
    assert_alike(after, measure(image, miller, lattice, learned(width), NOISE, GIVEN))


def test_nothing_is_measured_twice():
    """The same lattice and profile again: nothing is fresh and all is kept to the last bit; a new place is fresh."""
    image, _ = scene()
    miller = predict(LATTICE, shape=SHAPE)
    first = measure(image, miller, LATTICE, learned(1.5), NOISE, GIVEN)
    assert first.fresh == len(miller)
    second = measure_again(first, image, miller, LATTICE, learned(1.5), GIVEN)
    assert second.fresh == 0
    for name in ("amplitude", "plane", "centre", "shape", "covariance"):
        for one, two in ((first.held, second.held), (first.free, second.free)):
            np.testing.assert_array_equal(getattr(one.fits, name), getattr(two.fits, name))
    third = measure_again(second, image, miller, moved(LATTICE, 0.1, 0.0), learned(1.5), GIVEN)
    assert third.fresh == len(miller)


def test_points_come_and_go():
    """Points that enter, leave or change their order keep their own fits."""
    image, _ = scene()
    miller = predict(LATTICE, shape=SHAPE)
    random = np.random.default_rng(5)
    some, other = (np.sort(random.permutation(len(miller))[: len(miller) * 2 // 3]) for _ in range(2))
    before = measure(image, miller[some], LATTICE, learned(1.5), NOISE, GIVEN)
    order = random.permutation(other)
    after = measure_again(before, image, miller[order], LATTICE, learned(1.5), GIVEN)
    assert_alike(after, measure(image, miller[order], LATTICE, learned(1.5), NOISE, GIVEN))
    assert after.fresh == len(set(other) - set(some))


def test_a_lost_point_is_a_change():
    """A point that is no longer there leaves something to do, though nothing is measured anew."""
    image, _ = scene()
    miller = predict(LATTICE, shape=SHAPE)
    before = measure(image, miller, LATTICE, learned(1.5), NOISE, GIVEN)
    after = measure_again(before, image, miller[1:], LATTICE, learned(1.5), GIVEN)
    assert after.fresh == 1 and len(after.held.flag) == len(miller) - 1
    assert measure_again(after, image, miller[1:], LATTICE, learned(1.5), GIVEN).fresh == 0


def test_the_background_bends_under_the_spots():
    """In a halo, volumes measured with the curvature that the slopes tell have less bias than those without."""
    image, truth = scene(diffuse=300.0)
    miller = predict(LATTICE, shape=SHAPE)
    first = measure(image, miller, LATTICE, learned(1.5), NOISE, GIVEN)
    second = measure_again(first.bent(LATTICE), image, miller, LATTICE, learned(1.5), GIVEN)
    rows, known = in_order_of(miller, truth)
    known &= (rows["trans_min"] > 0.999) & (rows["in_box"] == 1) & first.clear & second.clear
    pulls = [
        (m.free.fits.volume - rows["vol_counts"])[known] / np.sqrt(m.free.fits.volume_variance[known])
        for m in (first, second)
    ]
    assert second.fresh > 0 and np.any(second.boxes.curvature)
    assert abs(np.median(pulls[1])) < abs(np.median(pulls[0])) + SAME_VOLUME


def test_clear_is_decided_by_the_held_fit():
    """Clear points, and only those, have free fits or the reason why not."""
    image, _ = scene()
    miller = predict(LATTICE, shape=SHAPE)
    found = measure(image, miller, LATTICE, learned(1.5), NOISE, GIVEN)
    np.testing.assert_array_equal(found.clear, found.held.fits.significance >= CLEAR)
    np.testing.assert_array_equal(np.isfinite(found.free.fits.amplitude), found.clear)
    assert found.held.fits.held[np.isfinite(found.held.fits.amplitude)].all() and 10 < found.clear.sum() < len(miller)


DENSE, DENSE_SHAPE, WIDTH = Lattice((100.3, 90.7), (8.6, 0.7), (-0.9, 9.3)), (181, 201), 1.5
ELECTRONS = Noise(gain=1.0, read_variance=0.0, offset=0.0)


@cache
def crowd():
    """A picture of round spots close to each other, its points, their true volumes, and which are inner ones."""
    random = np.random.default_rng(6)
    h, k = np.mgrid[-30:31, -30:31]
    every = np.column_stack([h.ravel(), k.ravel()])
    places, volumes = DENSE.position(every), random.exponential(3000, len(every)) * np.any(every, axis=1)
    y, x = np.indices(DENSE_SHAPE)
    across, along = (np.exp(-0.5 * ((axis - places[:, [n]]) / WIDTH) ** 2) for n, axis in enumerate((x[0], y[:, 0])))
    expected = 20 + (along * (volumes / (2 * np.pi * WIDTH**2))[:, None]).T @ across
    miller = predict(DENSE, shape=DENSE_SHAPE)
    true = volumes[(miller[:, 0] + 30) * 61 + miller[:, 1] + 30]
    inner = np.all((DENSE.position(miller) > 20) & (DENSE.position(miller) < 160), axis=1)
    return image_of(random.poisson(expected).astype(float)), miller, true, inner


def crowded_profile():
    return profile.default(DENSE.origin, DENSE_SHAPE, WIDTH, GIVEN.half)


def rounds(n):
    """The measurement of the crowd after n rounds of taking neighbours off."""
    image, miller, _, _ = crowd()
    found = measure(image, miller, DENSE, crowded_profile(), ELECTRONS, GIVEN)
    for _ in range(n):
        found = measure_again(found.apart(DENSE, crowded_profile()), image, miller, DENSE, crowded_profile(), GIVEN)
    return found


def test_neighbours_are_taken_off_the_boxes():
    """In a crowd, what neighbours put into boxes is taken off, and with it most of the bias; else nothing."""
    _, miller, true, inner = crowd()
    first, second = rounds(0), rounds(1)
    pulls = [((m.held.fits.volume - true) / np.sqrt(m.held.fits.volume_variance))[inner] for m in (first, second)]
    assert abs(pulls[1].mean()) < 0.4 * abs(pulls[0].mean())
    assert_pulls(pulls[1], bias=BIAS)
    assert second.fresh == len(miller) and np.any(second.boxes.surroundings)
    image, _ = scene()
    alone = measure(image, predict(LATTICE, shape=SHAPE), LATTICE, learned(1.5), NOISE, GIVEN)
    assert alone.apart(LATTICE, learned(1.5)) is alone


def test_rounds_of_neighbours_come_to_an_end():
    """Again and again, fewer boxes change, and then none; the volumes stay unbiased."""
    _, miller, true, inner = crowd()
    found = [rounds(n) for n in range(5)]
    fresh = [part.fresh for part in found]
    assert fresh[0] == fresh[1] == len(miller) and fresh[2] < len(miller) / 2 and fresh[-1] == 0
    assert np.all(np.diff(fresh) <= 0)
    for part in found[1:]:
        assert_pulls(((part.held.fits.volume - true) / np.sqrt(part.held.fits.volume_variance))[inner], bias=BIAS)
    again = found[-1].apart(DENSE, crowded_profile())
    np.testing.assert_array_equal(again.boxes.surroundings, found[-1].boxes.surroundings)
    np.testing.assert_array_equal(again.positions, found[-1].positions)


@pytest.mark.parametrize("n", [0, 1])
def test_only_boxes_whose_neighbours_changed_are_measured_anew(n):
    """Surroundings that change by SAME_PIXELS or less stay to the last bit, with their fits; the others do not."""
    before = rounds(n)
    after = before.apart(DENSE, crowded_profile())
    stale = np.isnan(after.positions).any(axis=1)
    change = after.boxes.surroundings - before.boxes.surroundings
    np.testing.assert_array_equal(change.any(axis=1), stale)
    pixel = ELECTRONS.variance(before.held.fits.plane[:, :1])
    size = np.sqrt(np.sum(change**2 * before.boxes.usable / pixel, axis=1))
    assert np.all(size[stale] > SAME_PIXELS)
    np.testing.assert_array_equal(after.positions[~stale], before.positions[~stale])
    for one, two in ((before.free, after.free), (before.held, after.held)):
        np.testing.assert_array_equal(one.fits.volume[~stale], two.fits.volume[~stale])
    assert np.isnan(after.free.fits.volume[stale]).all()


def test_a_changed_spot_changes_its_neighbours_only():
    """One volume altered by hand: the boxes that its spot reaches change by what it puts into them, no other."""
    before = rounds(5)
    row = int(np.argmin(np.linalg.norm(DENSE.position(before.miller) - [100, 60], axis=1)))
    held, free = before.held.fits, before.free.fits
    altered = replace(
        before,
        held=replace(before.held, fits=replace(held, amplitude=held.amplitude + 500 * (np.arange(len(held)) == row))),
        free=replace(before.free, fits=replace(free, amplitude=free.amplitude + 500 * (np.arange(len(free)) == row))),
    )
    after = altered.apart(DENSE, crowded_profile())
    change = after.boxes.surroundings - before.boxes.surroundings
    touched = np.flatnonzero(change.any(axis=1))
    distance = np.max(np.abs(before.boxes.centre - before.boxes.centre[row]), axis=1)
    assert row not in touched and len(touched) >= 8 and np.all(distance[touched] < 2 * before.boxes.half + 1)
    volume = 500 * gaussian.area((free if np.isfinite(free.volume[row]) else held).shape[row])
    offset = DENSE.position(before.miller)[[row]] - before.boxes.centre[touched]
    shape = crowded_profile().shape_at(DENSE.position(before.miller[touched]))
    expected = volume * gaussian.unit_volume(before.boxes.half, offset, shape)
    pixel = np.sqrt(ELECTRONS.variance(before.held.fits.plane[touched, :1]))
    difference = np.sum(((change[touched] - expected) / pixel) ** 2 * before.boxes.usable[touched], axis=1)
    assert np.all(difference < SAME_PIXELS**2)
