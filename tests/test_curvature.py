"""Curvature of the background from the slopes of neighbouring planes: right where it is there, 0 where it is not."""

import numpy as np
import pytest

from ed2d.curvature import curvature
from ed2d.lattice import Lattice, predict

LATTICE = Lattice((301.3, 237.8), (27.1, 3.2), (-4.3, 28.9), 1.2e-7, -2e-7)
SHAPE = (480, 620)
ORIGIN = np.array(LATTICE.origin)


def points(lattice=LATTICE):
    miller = predict(lattice, shape=SHAPE)
    return miller, lattice.position(miller)


def halo(positions, height=300.0, width=120.0):
    """Slopes (n, 2) and second derivatives (n, 3) of height exp(-r^2 / (2 width^2)) about the origin."""
    x, y = ((positions - ORIGIN) / width).T
    value = height * np.exp(-(x * x + y * y) / 2)
    second = np.stack([x * x - 1, x * y, y * y - 1], axis=1) * (value / width**2)[:, None]
    return -np.stack([x, y], axis=1) * (value / width)[:, None], second


def test_a_paraboloid_comes_back():
    """Slopes that grow linearly: their second derivatives at every point with neighbours enough."""
    miller, positions = points()
    true = np.array([0.03, -0.01, 0.05])
    slopes = positions @ np.array([[0.03, -0.01], [-0.01, 0.05]]) + [4.0, -7.0]
    found = curvature(miller, positions, slopes)
    known = found.any(axis=1)
    assert known.mean() > 0.95
    np.testing.assert_allclose(found[known], np.tile(true, (known.sum(), 1)), rtol=1e-9)


def test_a_halo():
    """In a halo far wider than the spacing the second derivatives are right to the next order."""
    miller, positions = points()
    slopes, true = halo(positions)
    found = curvature(miller, positions, slopes)
    near = (np.linalg.norm(positions - ORIGIN, axis=1) < 100) & found.any(axis=1)
    assert near.sum() > 20
    assert np.max(np.abs(found - true)[near]) < 0.1 * np.abs(true).max()


def test_noise_has_no_curvature():
    """Slopes of noise alone give none at nearly all points, and less noise does not change that."""
    miller, positions = points()
    random = np.random.default_rng(1)
    for sigma in (1e-3, 1.0):
        found = curvature(miller, positions, random.normal(0, sigma, positions.shape))
        assert np.mean(found.any(axis=1)) < 0.1
        assert not curvature(miller, positions, np.zeros_like(positions)).any()


def test_swirling_slopes_are_no_background():
    """Slopes that no surface has, turning round the origin, are not believed."""
    miller, positions = points()
    swirl = (positions - ORIGIN) @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert not curvature(miller, positions, 0.01 * swirl).any()


@pytest.mark.parametrize("seed", [0, 1])
def test_unknown_slopes_have_no_influence(seed):
    """NaN slopes count for nothing, wherever they are; order of the points does not matter; nor does their absence."""
    miller, positions = points()
    slopes, _ = halo(positions)
    random = np.random.default_rng(seed)
    unknown = random.random(len(miller)) < 0.3
    with_nan = np.where(unknown[:, None], np.nan, slopes)
    found = curvature(miller, positions, with_nan)
    without = curvature(miller[~unknown], positions[~unknown], slopes[~unknown])
    np.testing.assert_allclose(found[~unknown], without, rtol=1e-9, atol=1e-15)
    assert np.isfinite(found).all() and not found[unknown].any()
    order = random.permutation(len(miller))
    np.testing.assert_allclose(curvature(miller[order], positions[order], with_nan[order]), found[order], atol=1e-12)


def test_scaled_and_transposed():
    """Counts times a factor scale it; exchanging x and y exchanges xx and yy."""
    miller, positions = points()
    slopes, _ = halo(positions)
    found = curvature(miller, positions, slopes)
    np.testing.assert_allclose(curvature(miller, positions, 7 * slopes), 7 * found, rtol=1e-9, atol=1e-12)
    swapped = curvature(miller, positions[:, ::-1], slopes[:, ::-1])
    np.testing.assert_allclose(swapped[:, ::-1], found, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [1, 3])
def test_few_points(n):
    """Too few neighbours tell nothing, and points without any known slope neither."""
    miller, positions = points()
    slopes, _ = halo(positions)
    assert not curvature(miller[:n], positions[:n], slopes[:n]).any()
    assert not curvature(miller, positions, np.full_like(slopes, np.nan)).any()
