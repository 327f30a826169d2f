"""The learned profile: widths as smooth functions of the place."""

import numpy as np
import pytest

from ed2d import gaussian
from ed2d.profile import FEWEST_SPOTS, default, learn
from stills import WIDE_SIGMA

SHAPE = (400, 560)
ORIGIN = (280.0, 200.0)
BOX_SIZE = 6
START = default(ORIGIN, SHAPE, 2.0, BOX_SIZE)


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
    profile = learn(*taught(200, random, significance=1e9), default=START)
    places = np.column_stack([random.uniform(0, 560, 100), random.uniform(0, 400, 100)])
    np.testing.assert_allclose(learned_moments(profile, places), moments_at(places), atol=1e-6)
    assert profile.spots == 200 and profile.basis == "quadratic"


def radial_moments(positions):
    """A truth for few spots: a constant ellipse, broader with the radius, and more so along it."""
    x, y = (positions[:, 0] - 280) / 280, (positions[:, 1] - 200) / 280
    r2 = x * x + y * y
    return np.column_stack([2.2 + 0.6 * r2 + 0.9 * x * x, 0.1 + 0.9 * x * y, 1.9 + 0.6 * r2 + 0.9 * y * y])


@pytest.mark.parametrize("n", [6, 12, 20, 59])
def test_few_exact_shapes_come_back(n):
    """Without noise a truth that depends on radius and direction comes back from few spots."""
    random = np.random.default_rng(n)
    taught_spots = taught(n, random, significance=1e9, truth=radial_moments)
    profile = learn(*taught_spots, default=START)
    places = np.column_stack([random.uniform(0, 560, 100), random.uniform(0, 400, 100)])
    np.testing.assert_allclose(learned_moments(profile, places), radial_moments(places), atol=1e-4)
    assert profile.basis == ("radial" if n < FEWEST_SPOTS["radial quartic"] else "radial quartic")


@pytest.mark.parametrize("seed", range(4))
def test_noisy_shapes_average(seed):
    """With errors of 5 % the 400 spots give the widths to 2 %, and a twentieth of wild spots does not change that."""
    random = np.random.default_rng(seed)
    positions, shapes, significance = taught(400, random)
    wild = random.random(400) < 0.05
    shapes[wild] -= [0.8, 0.0, 0.8]
    profile = learn(positions, shapes, significance, default=START)
    inner = np.column_stack([random.uniform(30, 530, 100), random.uniform(30, 370, 100)])
    ratio = learned_moments(profile, inner)[:, [0, 2]] / moments_at(inner)[:, [0, 2]]
    assert np.abs(np.sqrt(ratio) - 1).max() < 0.02


def constant_moments(positions):
    """A truth without any place in it."""
    return np.tile([2.5, 0.3, 1.8], (len(positions), 1))


def quartic_moments(positions):
    """A truth that grows with the fourth power of the radius outside."""
    x, y = (positions[:, 0] - 280) / 280, (positions[:, 1] - 200) / 280
    r4 = (x * x + y * y) * np.stack([x * x, x * y, y * y])
    return radial_moments(positions) + np.column_stack([1.2 * r4[0], 1.2 * r4[1], 1.2 * r4[2]])


TRUTHS = {
    "constant": constant_moments,
    "radial": radial_moments,
    "radial quartic": quartic_moments,
    "quadratic": moments_at,
}


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_quadratic_basis_only_where_it_explains_more(truth):
    """From 400 spots of errors of 3 %, a truth about the origin hardly ever takes the richest basis, another always."""
    random = np.random.default_rng(7)
    found = [learn(*taught(400, random, significance=50.0, truth=TRUTHS[truth]), default=START) for _ in range(40)]
    share = np.mean([profile.basis == "quadratic" for profile in found])
    assert share == 1 if truth == "quadratic" else share <= 0.05


@pytest.mark.parametrize("n", [3, 4, 5, 6, 7, 19, 20, 60])
def test_fewer_spots_simpler_basis(n):
    """The basis is one that so many spots allow; a constant truth comes back unbiased however few teach it."""
    random = np.random.default_rng(n)
    found = [learn(*taught(n, random, truth=constant_moments), default=START) for _ in range(40)]
    assert all(FEWEST_SPOTS[profile.basis] <= n and profile.spots == n for profile in found)
    middle = np.array([learned_moments(profile, np.array([[280.0, 200.0]]))[0] for profile in found])
    deviation = middle.mean(axis=0) - [2.5, 0.3, 1.8]
    assert np.all(np.abs(deviation) < WIDE_SIGMA * middle.std(axis=0) / np.sqrt(40) + 1e-3)
    assert all(FEWEST_SPOTS[learn(*taught(n, random), default=START).basis] <= n for _ in range(20))


@pytest.mark.parametrize("scatter", [0.06, 0.15])
def test_the_scatter_of_the_spots(scatter):
    """The scatter of the widths, half that of their squares, comes back; it is small where there is none."""
    random = np.random.default_rng(9)
    for significance in (150.0, 1000.0):
        profile = learn(*taught(400, random, scatter=scatter, significance=significance), default=START)
        assert profile.scatter == pytest.approx(scatter / 2, rel=0.2)
    assert learn(*taught(400, random, significance=200.0), default=START).scatter < 0.015


@pytest.mark.parametrize("significance", [10.0, 100.0, 1000.0])
def test_spots_that_have_no_common_shape(significance):
    """Widths without any order, as a wrong lattice finds them, however few or precise: a profile within bounds."""
    random = np.random.default_rng(11)
    for n in (3, 5, 7, 9, 12, 20, 30, 60, 90):
        for _ in range(10):
            positions, _, weights = taught(n, random, significance=significance)
            widths = random.choice([1.0, 3.0], n) * random.uniform(0.9, 1.1, n)
            shapes = gaussian.shape_from_widths(
                widths, widths * random.uniform(0.6, 1.0, n), random.uniform(-90, 90, n)
            )
            large, small, _ = gaussian.widths(learn(positions, shapes, weights, default=START).shape_at(positions))
            assert np.all((small >= START.narrowest - 1e-9) & (large <= START.widest + 1e-9))


@pytest.mark.parametrize("n", [0, 2])
def test_without_spots_a_round_default(n):
    """Fewer than three spots: round, a third of BoxSize, everywhere."""
    profile = learn(*taught(n, np.random.default_rng(0)), default=START)
    large, small, _ = gaussian.widths(profile.shape_at([[0, 0], [559, 399]]))
    np.testing.assert_allclose([large, small], 2.0)
    assert profile.spots == 0


def test_widths_stay_within_bounds():
    """A polynomial that runs away is held between the narrowest spot and BoxSize, with a positive determinant."""
    steep = np.random.default_rng(5)
    positions, shapes, significance = taught(100, steep, significance=1e6)
    left = positions[:, 0] < 200
    shapes[left] += np.array([1.5, 0.0, 1.5]) * (1 - positions[left, :1] / 200)
    profile = learn(positions, shapes, significance, default=START)
    x, y = np.meshgrid(np.linspace(-600, 1200, 40), np.linspace(-600, 1000, 40))
    large, small, _ = gaussian.widths(profile.shape_at(np.column_stack([x.ravel(), y.ravel()])))
    assert np.all(small >= 0.4 - 1e-9) and np.all(large <= BOX_SIZE + 1e-9)


def test_transposed_image():
    """Exchanging x and y exchanges the moments."""
    positions, shapes, significance = taught(150, np.random.default_rng(6))
    one = learn(positions, shapes, significance, default=START)
    moments = gaussian.covariance_from_shape(shapes)
    turned = learn(
        positions[:, ::-1],
        gaussian.shape_from_covariance(*moments[::-1]),
        significance,
        default=default(ORIGIN[::-1], SHAPE[::-1], 2.0, BOX_SIZE),
    )
    back = learned_moments(turned, positions[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(
        back, learned_moments(one, positions), atol=0.003 * 2.5
    )  # errors of p, s: not quite alike
    assert turned.scatter == pytest.approx(one.scatter, rel=0.05)
    assert turned.basis == one.basis
