"""The learned profile: widths as smooth functions of the place."""

import numpy as np
import pytest

from ed2d import gaussian
from ed2d.profile import learn
from stills import WIDE_SIGMA

SHAPE = (400, 560)
ORIGIN = (280.0, 200.0)
BOX_SIZE = 6


def moments_at(positions):
    """A truth of second degree: (n, 3) second moments, px^2."""
    x, y = (positions[:, 0] - 280) / 280, (positions[:, 1] - 200) / 280
    return np.column_stack([2.5 + 0.8 * x * x + 0.3 * y, 0.4 * x * y - 0.2 * x, 2.0 + 0.7 * y * y - 0.2 * x])


def taught(n, random, *, scatter=0.0, significance=30.0, truth=moments_at):
    """Positions, shapes with relative errors and significances of n spots."""
    positions = np.column_stack([random.uniform(0, 560, n), random.uniform(0, 400, n)])
    moments = truth(positions)
    size = np.sqrt(moments[:, 0] * moments[:, 2] - moments[:, 1] ** 2)[:, None]
    spread = np.hypot(scatter, np.sqrt(2) / significance)
    moments = moments + random.normal(0, 1, moments.shape) * [1, 0.7, 1] * spread * size
    return positions, gaussian.shape_from_covariance(*moments.T), np.full(n, significance)


def learned_moments(profile, positions):
    return np.stack(gaussian.covariance_from_shape(profile.shape_at(positions)), axis=-1)


def test_exact_shapes_come_back():
    """Without noise a truth of second degree is reproduced everywhere."""
    random = np.random.default_rng(1)
    profile = learn(*taught(200, random, significance=1e9), origin=ORIGIN, image_shape=SHAPE, box_size=BOX_SIZE)
    places = np.column_stack([random.uniform(0, 560, 100), random.uniform(0, 400, 100)])
    np.testing.assert_allclose(learned_moments(profile, places), moments_at(places), atol=1e-6)
    assert profile.spots == 200 and profile.basis == "quadratic"


def radial_moments(positions):
    """A truth for few spots: a constant ellipse, broader with the radius, and more so along it."""
    x, y = (positions[:, 0] - 280) / 280, (positions[:, 1] - 200) / 280
    r2 = x * x + y * y
    return np.column_stack([2.2 + 0.6 * r2 + 0.9 * x * x, 0.1 + 0.9 * x * y, 1.9 + 0.6 * r2 + 0.9 * y * y])


@pytest.mark.parametrize("n", [5, 12, 59])
def test_few_exact_shapes_come_back(n):
    """Without noise a truth that depends on radius and direction comes back from few spots."""
    random = np.random.default_rng(n)
    taught_spots = taught(n, random, significance=1e9, truth=radial_moments)
    profile = learn(*taught_spots, origin=ORIGIN, image_shape=SHAPE, box_size=BOX_SIZE)
    places = np.column_stack([random.uniform(0, 560, 100), random.uniform(0, 400, 100)])
    np.testing.assert_allclose(learned_moments(profile, places), radial_moments(places), atol=1e-4)
    assert profile.basis == "radial"


@pytest.mark.parametrize("seed", range(4))
def test_noisy_shapes_average(seed):
    """With errors of 5 % the 400 spots give the widths to 2 %, and a twentieth of wild spots does not change that."""
    random = np.random.default_rng(seed)
    positions, shapes, significance = taught(400, random)
    wild = random.random(400) < 0.05
    shapes[wild] -= [0.8, 0.0, 0.8]
    profile = learn(positions, shapes, significance, origin=ORIGIN, image_shape=SHAPE, box_size=BOX_SIZE)
    inner = np.column_stack([random.uniform(30, 530, 100), random.uniform(30, 370, 100)])
    ratio = learned_moments(profile, inner)[:, [0, 2]] / moments_at(inner)[:, [0, 2]]
    assert np.abs(np.sqrt(ratio) - 1).max() < 0.02


@pytest.mark.parametrize(
    ("n", "basis"), [(60, "quadratic"), (59, "radial"), (15, "radial"), (5, "radial"), (4, "constant"), (3, "constant")]
)
def test_fewer_spots_simpler_basis(n, basis):
    """The basis is what the number of spots allows; a constant truth comes back unbiased."""
    random = np.random.default_rng(n)
    constant = np.array([2.5, 0.3, 1.8])
    found = [
        learned_moments(
            learn(
                *taught(n, random, truth=lambda p: np.tile(constant, (len(p), 1))),
                origin=ORIGIN,
                image_shape=SHAPE,
                box_size=6,
            ),
            np.array([[280.0, 200.0]]),
        )[0]
        for _ in range(30)
    ]
    deviation = np.mean(found, axis=0) - constant
    assert np.all(np.abs(deviation) < WIDE_SIGMA * np.std(found, axis=0) / np.sqrt(30) + 1e-3)
    assert learn(*taught(n, random), origin=ORIGIN, image_shape=SHAPE, box_size=BOX_SIZE).basis == basis


@pytest.mark.parametrize("n", [0, 2])
def test_without_spots_a_round_default(n):
    """Fewer than three spots: round, a third of BoxSize, everywhere."""
    profile = learn(*taught(n, np.random.default_rng(0)), origin=ORIGIN, image_shape=SHAPE, box_size=BOX_SIZE)
    large, small, _ = gaussian.widths(profile.shape_at([[0, 0], [559, 399]]))
    np.testing.assert_allclose([large, small], 2.0)
    assert profile.spots == 0


def test_widths_stay_within_bounds():
    """A polynomial that runs away is held between the narrowest spot and BoxSize, with a positive determinant."""
    steep = np.random.default_rng(5)
    positions, shapes, significance = taught(100, steep, significance=1e6)
    left = positions[:, 0] < 200
    shapes[left] += np.array([1.5, 0.0, 1.5]) * (1 - positions[left, :1] / 200)
    profile = learn(positions, shapes, significance, origin=ORIGIN, image_shape=SHAPE, box_size=BOX_SIZE)
    x, y = np.meshgrid(np.linspace(-600, 1200, 40), np.linspace(-600, 1000, 40))
    large, small, _ = gaussian.widths(profile.shape_at(np.column_stack([x.ravel(), y.ravel()])))
    assert np.all(small >= 0.4 - 1e-9) and np.all(large <= BOX_SIZE + 1e-9)


def test_transposed_image():
    """Exchanging x and y exchanges the moments."""
    positions, shapes, significance = taught(150, np.random.default_rng(6))
    one = learn(positions, shapes, significance, origin=ORIGIN, image_shape=SHAPE, box_size=BOX_SIZE)
    moments = gaussian.covariance_from_shape(shapes)
    turned = learn(
        positions[:, ::-1],
        gaussian.shape_from_covariance(*moments[::-1]),
        significance,
        origin=ORIGIN[::-1],
        image_shape=SHAPE[::-1],
        box_size=BOX_SIZE,
    )
    np.testing.assert_allclose(learned_moments(turned, positions[:, ::-1])[:, ::-1], learned_moments(one, positions))
    assert turned.scatter == pytest.approx(one.scatter)
