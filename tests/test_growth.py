"""Growth of a rough lattice from the centre outward: how wrong it may be, and what it does without spots."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ed2d.growth import grow
from ed2d.lattice import Lattice, predict
from ed2d.noise import Noise
from stills import image_of, parameters, still

TRUE = Lattice((301.3, 237.8), (27.1, 3.2), (-4.3, 28.9), 1.2e-7, -2e-7)
BENT = replace(TRUE, barrel=4e-7, spiral=-6e-7)  # 8 px at the corners
SHAPE = (480, 620)
GAIN, READ_NOISE = 5.0, 3.0
NOISE = Noise(gain=GAIN, read_variance=READ_NOISE**2, offset=0.0)
GIVEN = parameters(gain=GAIN, read_noise=READ_NOISE)
NEAR = 0.3  # px, rms over the image: what the fits that follow take for their start
SEEDS = (0, 1, 2)


@cache
def image(seed, lattice=TRUE, **changes):
    """A still; a beam stop of the usual size."""
    values = {"gain": GAIN, "read_noise": READ_NOISE, "peak_volume": 6000.0, "max_radius": 1.5} | changes
    return still(lattice, shape=SHAPE, seed=seed, background_diffuse=0.0, **values)[0]


def grown(start, *arguments, **changes):
    return grow(image(*arguments, **changes), start, NOISE, GIVEN)


def distance(lattice, true=TRUE):
    """Rms distance, px, of the calculated positions of the points on the image from the true ones."""
    miller = predict(true, shape=SHAPE)
    return np.sqrt(np.mean(np.sum((lattice.position(miller) - true.position(miller)) ** 2, axis=1)))


def wrong_vectors(true, share, random):
    """A lattice without distortions whose point farthest from the true one is `share` of the spacing away."""
    flat = replace(true, barrel=0.0, spiral=0.0)
    a, b = random.normal(0, 1, (2, 2))
    miller = predict(true, shape=SHAPE)
    largest = np.max(np.linalg.norm(miller @ np.array([a, b]), axis=1))
    factor = share * true.spacing / largest
    return replace(flat, a=tuple(flat.a + factor * a), b=tuple(flat.b + factor * b))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.1, 1 / 3])
@pytest.mark.parametrize("true", [TRUE, BENT], ids=["nearly straight", "bent"])
def test_wrong_vectors(true, share, seed):
    """Far spots off by up to a third of the spacing, with the distortion unknown besides: the true lattice."""
    random = np.random.default_rng(seed)
    for _ in range(4):
        start = wrong_vectors(true, share, random)
        assert distance(grown(start, seed, true), true) < NEAR


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.1, 0.25, 0.35])
def test_wrong_origin(share, seed):
    """The origin off by up to 0.35 of the spacing in any direction: the true lattice, with the same indices."""
    for angle in np.radians(np.arange(0, 360, 45) + 10 * seed):
        shift = share * TRUE.spacing * np.array([np.cos(angle), np.sin(angle)])
        start = replace(TRUE, origin=tuple(TRUE.origin + shift), barrel=0.0, spiral=0.0)
        assert distance(grown(start, seed)) < NEAR


@pytest.mark.parametrize("seed", SEEDS)
def test_most_spots_absent(seed):
    """With 80 % of the spots absent the others are enough."""
    random = np.random.default_rng(seed)
    for share in (0.1, 0.2):
        start = wrong_vectors(TRUE, share, random)
        start = replace(start, origin=tuple(start.origin + random.uniform(-2, 2, 2)))
        assert distance(grown(start, seed, absent_fraction=0.8)) < NEAR


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("radius", [60, 110])
def test_a_stop_over_the_first_circle(radius, seed):
    """A beam stop over all or most of the first circle: growth begins at the first spots that can be seen."""
    whole = image(seed)
    y, x = np.indices(SHAPE)
    hidden = np.hypot(x - TRUE.origin[0], y - TRUE.origin[1]) < radius
    stopped = image_of(np.where(hidden, 20, whole.data), ignored=whole.ignored | hidden, saturated=whole.saturated)
    random = np.random.default_rng(seed)
    for _ in range(3):
        start = wrong_vectors(TRUE, 0.2, random)
        assert distance(grow(stopped, start, NOISE, GIVEN)) < NEAR


@pytest.mark.parametrize("seed", SEEDS)
def test_the_true_lattice_stays(seed):
    """From the truth growth moves no position by more than the centroids' errors, and again from its own result."""
    first = grown(TRUE, seed)
    assert distance(first) < 0.1
    again = grown(first, seed)
    assert distance(again, first) < 0.03


def test_pixels_under_the_mask_have_no_influence():
    """Anything may stand on ignored pixels: the same lattice to the last bit."""
    seen = image(0)
    start = wrong_vectors(TRUE, 0.2, np.random.default_rng(0))
    first = grow(seen, start, NOISE, GIVEN)
    for value in (np.nan, 1e9, -np.inf):
        data = np.where(seen.ignored, value, seen.data.astype(float))
        assert grow(image_of(data, ignored=seen.ignored, saturated=seen.saturated), start, NOISE, GIVEN) == first


@pytest.mark.parametrize("gain", [1.0, 5.0])
def test_without_spots_nothing_moves_far(gain):
    """An image of noise gives no clear peaks; the lattice stays where it was."""
    random = np.random.default_rng(6)
    noise = Noise(gain=gain, read_variance=9.0, offset=0.0)
    empty = image_of(gain * random.poisson(30.0, SHAPE) + random.normal(0, 3, SHAPE))
    assert grow(empty, TRUE, noise, GIVEN) == TRUE


@pytest.mark.parametrize("radii", [(0.0, 60.0), (150.0, 0.0), (100.0, 160.0)])
def test_radii(radii):
    """Points inside MinRadius and outside MaxRadius are not looked at; the others lead to a lattice right there."""
    low, high = radii
    given = parameters(gain=GAIN, read_noise=READ_NOISE, min_radius=low, max_radius=high)
    start = replace(TRUE, origin=(TRUE.origin[0] + 2.0, TRUE.origin[1] - 1.5), barrel=0.0, spiral=0.0)
    lattice = grow(image(1), start, NOISE, given)
    miller = predict(TRUE, shape=SHAPE, min_radius=low, max_radius=high)
    error = np.linalg.norm(lattice.position(miller) - TRUE.position(miller), axis=1)
    assert np.sqrt(np.mean(error**2)) < NEAR


def test_a_lattice_off_the_image():
    """Without a point on the image there is nothing to do, and no error."""
    start = replace(TRUE, origin=(-5000.0, 9000.0))
    assert grow(image(0), start, NOISE, replace(GIVEN, max_radius=300.0)) == start
