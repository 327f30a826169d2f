"""Refinement of the lattice: parameters with their pulls, outliers, distortions and what cannot be refined."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from ed2d.lattice import Lattice, predict
from ed2d.refine import jacobian, lattice_of, parameters_of, refine
from stills import WIDE_SIGMA

SHAPE = (470, 640)
TRUE = Lattice((331.3, 227.8), (26.1, 5.2), (-7.3, 27.9), 2e-8, -3e-8)
FLAT = replace(TRUE, barrel=0.0, spiral=0.0)
START = Lattice((331.9, 227.1), (26.15, 5.13), (-7.36, 27.98))
RUNS = 60


def measured(lattice, random, *, noise=(0.02, 0.2), scatter=0.0, outliers=0.0):
    """Indices, observed positions and variances with errors between the limits of `noise`, px."""
    miller = predict(lattice, shape=SHAPE)
    sigma = random.uniform(*noise, (len(miller), 2))
    observed = lattice.position(miller) + random.normal(0, np.hypot(sigma, scatter))
    wrong = random.random(len(miller)) < outliers
    observed[wrong] += random.uniform(-4, 4, (wrong.sum(), 2)) + np.sign(random.normal(size=(wrong.sum(), 2)))
    return miller, observed, sigma**2, wrong


def test_jacobian_against_differences():
    """Derivatives of the positions by all eight parameters."""
    miller = predict(TRUE, shape=SHAPE)
    values = parameters_of(TRUE)
    found = jacobian(TRUE, miller)
    for n, step in enumerate([1e-3] * 6 + [1e-9] * 2):
        shift = np.zeros(8)
        shift[n] = step
        low, high = (lattice_of(values + sign * shift).position(miller) for sign in (-1, 1))
        expected = (high - low) / (2 * step)
        np.testing.assert_allclose(found[:, :, n], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("scatter", "outliers"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.1, 0.1)])
def test_pulls_of_the_parameters(scatter, outliers):
    """Every parameter is within its standard deviation of the truth, with an unknown scatter and 10 % outliers too."""
    random = np.random.default_rng(1)
    pulls, scatters = [], []
    for _ in range(RUNS):
        miller, observed, variance, wrong = measured(TRUE, random, scatter=scatter, outliers=outliers)
        result = refine(START, miller, observed, variance)
        assert np.all(result.sigma > 0) and not np.any(result.used[wrong & (result.distance > 6)])
        pulls.append((parameters_of(result.lattice) - parameters_of(TRUE)) / result.sigma)
        scatters.append(result.scatter)
        assert result.rms < 0.5
    pulls = np.array(pulls)
    robust = 0.1  # the biweight costs a little precision that the errors do not show
    assert np.all(np.abs(pulls.mean(axis=0)) < WIDE_SIGMA / np.sqrt(RUNS))
    assert np.all(np.abs(pulls.std(axis=0) - 1) < WIDE_SIGMA / np.sqrt(2 * RUNS) + robust)
    assert np.mean(scatters) == pytest.approx(scatter, abs=0.04 if outliers else 0.025)  # outliers move the median


def test_against_least_squares():
    """Without scatter beyond the errors and far from the biweight's bend, scipy finds the same minimum."""
    random = np.random.default_rng(2)
    miller, observed, variance, _ = measured(TRUE, random, noise=(0.05, 0.05))
    observed = TRUE.position(miller) + 0.2 * (observed - TRUE.position(miller))
    result = refine(START, miller, observed, variance)
    unit = np.array([1.0] * 6 + [1e-7] * 2)
    weight = np.sqrt(np.clip(1 - (result.distance / 6) ** 2, 0, None) ** 2)[:, None] / np.sqrt(variance)
    oracle = least_squares(
        lambda p: ((observed - lattice_of(p * unit).position(miller)) * weight).ravel(),
        parameters_of(START),
        jac="3-point",
        xtol=1e-14,
    )
    assert result.scatter == 0.0
    assert np.max(np.abs(oracle.x * unit - parameters_of(result.lattice)) / result.sigma) < 1e-3
    covariance = np.linalg.inv(oracle.jac.T @ oracle.jac) * unit * unit[:, None]
    np.testing.assert_allclose(result.sigma, np.sqrt(np.diag(covariance)), rtol=1e-3)


def test_distortions_only_where_significant():
    """Without distortion a barrel or spiral is invented in 0.3 % of the images each; strong ones always stay."""
    random = np.random.default_rng(3)
    runs, invented = 100, 0
    for _ in range(runs):
        miller, observed, variance, _ = measured(FLAT, random)
        lattice = refine(START, miller, observed, variance).lattice
        invented += (lattice.barrel != 0) + (lattice.spiral != 0)
    expected = 2 * 0.0027 * runs
    assert invented <= expected + WIDE_SIGMA * np.sqrt(expected)
    strong = replace(TRUE, barrel=2e-7, spiral=-3e-7)
    for _ in range(5):
        miller, observed, variance, _ = measured(strong, random)
        lattice = refine(START, miller, observed, variance).lattice
        assert lattice.barrel == pytest.approx(2e-7, rel=0.2) and lattice.spiral == pytest.approx(-3e-7, rel=0.2)


def test_one_distortion_alone():
    """A barrel without a spiral gives a spiral of exactly 0, with the standard deviation 0 of what is not refined."""
    miller, observed, variance, _ = measured(replace(FLAT, barrel=3e-7), np.random.default_rng(4))
    result = refine(START, miller, observed, variance)
    assert result.lattice.spiral == 0.0 == result.sigma[7] and result.lattice.barrel > 0 and result.sigma[6] > 0
    without = refine(START, miller, observed, variance, distortion=False)
    assert without.lattice.barrel == 0.0 == without.lattice.spiral


def test_the_start_does_not_matter():
    """From other starts, also with distortions, the refined lattice is equal to the last bit."""
    random = np.random.default_rng(5)
    miller, observed, variance, _ = measured(TRUE, random, scatter=0.05, outliers=0.05)
    first = refine(START, miller, observed, variance)
    for start in (TRUE, first.lattice, replace(FLAT, origin=(333.0, 226.0), barrel=1e-7)):
        assert refine(start, miller, observed, variance).lattice == first.lattice


def test_swapped_axes_and_order():
    """Swapping a and b, or the order of the spots, gives the same lattice."""
    random = np.random.default_rng(6)
    miller, observed, variance, _ = measured(TRUE, random)
    first = refine(START, miller, observed, variance)
    swapped = refine(replace(START, a=START.b, b=START.a), miller[:, ::-1], observed, variance).lattice
    np.testing.assert_allclose(swapped.a + swapped.b, first.lattice.b + first.lattice.a, atol=1e-7)
    order = random.permutation(len(miller))
    permuted = refine(START, miller[order], observed[order], variance[order])
    np.testing.assert_allclose(parameters_of(permuted.lattice), parameters_of(first.lattice), rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(permuted.used, first.used[order])


def test_too_few_spots():
    """Five spots are refused; six are enough for a lattice without distortions."""
    miller = np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (2, -1)])
    observed, variance = FLAT.position(miller), np.full((6, 2), 1e-4)
    with pytest.raises(ValueError, match="6 are needed"):
        refine(START, miller[:5], observed[:5], variance[:5])
    lattice = refine(START, miller, observed, variance).lattice
    np.testing.assert_allclose(parameters_of(lattice), parameters_of(FLAT), atol=1e-7)


@pytest.mark.parametrize("line", [(1, 0), (0, 1), (2, -1)])
def test_spots_on_one_line(line):
    """Spots along one direction do not determine two vectors, with few or many of them."""
    for n in (4, 15):
        miller = np.array([(line[0] * k, line[1] * k) for k in range(-n, n + 1) if k])
        with pytest.raises(ValueError, match=r"line|determine"):
            refine(START, miller, FLAT.position(miller), np.full((2 * n, 2), 1e-4))
