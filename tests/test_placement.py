"""Where a spot is expected: the mean of lattice and fit with its variance, and the shape of an uncertain place."""

import numpy as np
import pytest

from ed2d import flags, gaussian
from ed2d.placement import expected_places, spread_out
from ed2d.table import empty_table, extract_dtype
from stills import WIDE_SIGMA, assert_pulls, many_spots, shape_of

HALF = 12


def table_of(observed, variance, flag=0):
    """An extract table of observed centres (n, 2) with variances (n, 2)."""
    table = empty_table(extract_dtype(), len(observed))
    table["XOBS"], table["YOBS"] = observed.T
    table["VARXOBS"], table["VARYOBS"] = variance.T
    table["FLAG"] = flag
    return table


def scene(n, random, *, straying, errors):
    """Places on the lattice, true places that stray about them, observed ones and their variances, each (n, 2)."""
    calculated = random.uniform(0, 500, (n, 2))
    true = calculated + straying * random.normal(size=(n, 2))
    sigma = random.uniform(*errors, (n, 2))
    return calculated, true, true + sigma * random.normal(size=(n, 2)), sigma**2


@pytest.mark.parametrize("straying", [0.003, 0.05, 0.4])
@pytest.mark.parametrize("seed", [0, 1])
def test_pulls_of_the_places(straying, seed):
    """Fits from much better to much worse than the lattice: off by what the variance says."""
    random = np.random.default_rng(seed)
    calculated, true, observed, variance = scene(4000, random, straying=straying, errors=(0.01, 0.3))
    variance[:, 1] = variance[:, 0]
    observed = true + np.sqrt(variance) * random.normal(size=(4000, 2))
    places, left = expected_places(table_of(observed, variance), calculated, straying)
    assert_pulls(((true - places) / np.sqrt(left)[:, None]).ravel())
    assert np.all(left < np.minimum(straying**2, variance[:, 0]) * (1 + 1e-9))


@pytest.mark.parametrize("seed", [0, 1])
def test_errors_that_differ_along_the_axes(seed):
    """The variance is the mean of those of both coordinates, and no mean of place and lattice has a smaller one."""
    random = np.random.default_rng(seed)
    calculated, true, observed, variance = scene(4000, random, straying=0.05, errors=(0.01, 0.3))
    places, left = expected_places(table_of(observed, variance), calculated, 0.05)
    ratio = np.sum((true - places) ** 2, axis=1) / (2 * left)
    assert abs(ratio.mean() - 1) < WIDE_SIGMA * ratio.std() / np.sqrt(4000)
    mean_square = np.mean((true - places) ** 2)
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        assert mean_square < np.mean((true - calculated - share * (observed - calculated)) ** 2)


def test_without_a_good_fit_the_place_on_the_lattice():
    """Points that were not fitted, held or flagged: the lattice's place to the last bit, its whole variance."""
    random = np.random.default_rng(3)
    calculated, _, observed, variance = scene(7, random, straying=0.05, errors=(0.01, 0.3))
    excluding = next(flag.bit for flag in flags.REGISTRY.values() if flag.excludes)
    harmless = next(flag.bit for flag in flags.REGISTRY.values() if not flag.excludes)
    observed[0], variance[1], variance[2], observed[6, 0] = np.nan, np.nan, 0.0, np.inf
    table = table_of(observed, variance, np.array([0, 0, 0, excluding, harmless, 0, 0]))
    places, left = expected_places(table, calculated, 0.05)
    np.testing.assert_array_equal(places[:4], calculated[:4])
    np.testing.assert_allclose(left[:4], 0.05**2)
    assert np.all(places[4:6] != calculated[4:6]) and np.all(left[4:6] < 0.05**2)
    assert np.isfinite(places).all() and np.isfinite(left).all()


def test_spots_that_do_not_stray_are_on_the_lattice():
    """Without straying the fits have no say and nothing is uncertain."""
    calculated, _, observed, variance = scene(50, np.random.default_rng(4), straying=0.05, errors=(0.01, 0.3))
    places, left = expected_places(table_of(observed, variance), calculated, 0.0)
    np.testing.assert_array_equal(places, calculated)
    assert not left.any()


@pytest.mark.parametrize("variance", [0.0, 0.01, 0.3, 1.5])
def test_spread_out_is_the_mean_over_the_places(variance):
    """The Gaussian averaged over normal displacements (Gauss-Hermite nodes) has the spread out shape."""
    spots = many_spots(20, np.random.default_rng(5), volume=1, background=0, widths=(1.2, 2.2))
    centre, shape = spots[:, 1:3], shape_of(spots)
    node, weight = np.polynomial.hermite_e.hermegauss(25)
    weight = weight / weight.sum()
    expected = sum(
        wx * wy * gaussian.unit_volume(HALF, centre + variance**0.5 * np.array([x, y]), shape)
        for x, wx in zip(node, weight, strict=True)
        for y, wy in zip(node, weight, strict=True)
    )
    found = gaussian.unit_volume(HALF, centre, spread_out(shape, np.full(20, variance)))
    np.testing.assert_allclose(found, expected, atol=1e-7)
