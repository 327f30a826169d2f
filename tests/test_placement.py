"""Where a spot is expected: the mean of lattice and fit with its variance, and the shape of an uncertain place."""

import numpy as np
import pytest

from ed2d import flags, gaussian
from ed2d.lattice import Lattice
from ed2d.placement import Places, spread_out
from ed2d.table import empty_table, extract_dtype
from stills import WIDE_SIGMA, assert_pulls, many_spots, shape_of

HALF = 12
LATTICE = Lattice((281.3, 207.8), (24.1, 3.2), (-4.3, 25.9), 1e-8, -2e-8)


def table_of(miller, observed, variance, flag=0):
    """An extract table of points (n, 2) with observed centres (n, 2) and their variances (n, 2)."""
    table = empty_table(extract_dtype(), len(observed))
    table["H"], table["K"] = miller.T
    table["XOBS"], table["YOBS"] = observed.T
    table["VARXOBS"], table["VARYOBS"] = variance.T
    table["FLAG"] = flag
    return table


def scene(n, random, *, straying, errors):
    """Points, true places that stray about the lattice, observed ones and their variances, each (n, 2)."""
    h, k = np.mgrid[-40:33, -35:41]
    miller = random.permutation(np.column_stack([h.ravel(), k.ravel()]))[:n]
    true = LATTICE.position(miller) + straying * random.normal(size=(n, 2))
    sigma = random.uniform(*errors, (n, 2))
    return miller, true, true + sigma * random.normal(size=(n, 2)), sigma**2


@pytest.mark.parametrize("straying", [0.003, 0.05, 0.4])
@pytest.mark.parametrize("seed", [0, 1])
def test_pulls_of_the_places(straying, seed):
    """Fits from much better to much worse than the lattice: off by what the variance says."""
    random = np.random.default_rng(seed)
    miller, true, _, variance = scene(4000, random, straying=straying, errors=(0.01, 0.3))
    variance[:, 1] = variance[:, 0]
    observed = true + np.sqrt(variance) * random.normal(size=(4000, 2))
    places, left = Places.of(table_of(miller, observed, variance), LATTICE, straying).at(miller)
    assert_pulls(((true - places) / np.sqrt(left)[:, None]).ravel())
    assert np.all(left < np.minimum(straying**2, variance[:, 0]) * (1 + 1e-9))


@pytest.mark.parametrize("seed", [0, 1])
def test_errors_that_differ_along_the_axes(seed):
    """The variance is the mean of those of both coordinates, and no mean of place and lattice has a smaller one."""
    random = np.random.default_rng(seed)
    miller, true, observed, variance = scene(4000, random, straying=0.05, errors=(0.01, 0.3))
    places, left = Places.of(table_of(miller, observed, variance), LATTICE, 0.05).at(miller)
    ratio = np.sum((true - places) ** 2, axis=1) / (2 * left)
    assert abs(ratio.mean() - 1) < WIDE_SIGMA * ratio.std() / np.sqrt(4000)
    mean_square, calculated = np.mean((true - places) ** 2), LATTICE.position(miller)
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        assert mean_square < np.mean((true - calculated - share * (observed - calculated)) ** 2)


def test_without_a_good_fit_the_place_on_the_lattice():
    """Points that were not fitted, held or flagged: the lattice's place to the last bit, its whole variance."""
    random = np.random.default_rng(3)
    miller, _, observed, variance = scene(7, random, straying=0.05, errors=(0.01, 0.3))
    calculated = LATTICE.position(miller)
    excluding = next(flag.bit for flag in flags.REGISTRY.values() if flag.excludes)
    harmless = next(flag.bit for flag in flags.REGISTRY.values() if not flag.excludes)
    observed[0], variance[1], variance[2], observed[6, 0] = np.nan, np.nan, 0.0, np.inf
    table = table_of(miller, observed, variance, np.array([0, 0, 0, excluding, harmless, 0, 0]))
    places, left = Places.of(table, LATTICE, 0.05).at(miller)
    np.testing.assert_array_equal(places[:4], calculated[:4])
    np.testing.assert_allclose(left[:4], 0.05**2)
    assert np.all(places[4:6] != calculated[4:6]) and np.all(left[4:6] < 0.05**2)
    assert np.isfinite(places).all() and np.isfinite(left).all()


def test_spots_that_do_not_stray_are_on_the_lattice():
    """Without straying the fits have no say and nothing is uncertain."""
    miller, _, observed, variance = scene(50, np.random.default_rng(4), straying=0.05, errors=(0.01, 0.3))
    found = Places.of(table_of(miller, observed, variance), LATTICE, 0.0)
    places, left = found.at(miller)
    np.testing.assert_array_equal(places, LATTICE.position(miller))
    assert not left.any() and found.farthest == 0


def test_points_that_the_table_does_not_hold_are_on_the_lattice():
    """Beside it, among it and between its points: the lattice's place to the last bit, the variance straying^2."""
    random = np.random.default_rng(6)
    miller, _, observed, variance = scene(2000, random, straying=0.05, errors=(0.01, 0.3))
    found = Places.of(table_of(miller, observed, variance), LATTICE, 0.05)
    h, k = np.mgrid[-60:61, -60:61]
    every = np.column_stack([h.ravel(), k.ravel()])
    unknown = every[~np.any(np.all(every[:, None] == miller, axis=2), axis=1)]
    assert len(unknown) == len(every) - 2000
    steps = np.array([(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5), (0.5, 0.5), (0.25, 0), (0, 1e-9)])
    for points in (unknown, *(miller + step for step in steps)):
        places, left = found.at(points)
        np.testing.assert_array_equal(places, LATTICE.position(points))
        np.testing.assert_array_equal(left, 0.05**2)


def test_the_order_of_points_does_not_matter():
    """Rows of the table and points that are asked for, in any order, also as floating-point numbers: equal places."""
    random = np.random.default_rng(7)
    miller, _, observed, variance = scene(300, random, straying=0.05, errors=(0.01, 0.3))
    table = table_of(miller, observed, variance)
    places, left = Places.of(table, LATTICE, 0.05).at(miller)
    rows, order = random.permutation(300), random.permutation(300)[:77]
    again = Places.of(table[rows], LATTICE, 0.05)
    for kind in (int, float):
        np.testing.assert_array_equal(again.at(miller[order].astype(kind))[0], places[order])
        np.testing.assert_array_equal(again.at(miller[order].astype(kind))[1], left[order])
    farthest = np.max(np.linalg.norm(places - LATTICE.position(miller), axis=1))
    assert again.farthest == pytest.approx(farthest, rel=1e-9)
    nothing, none = again.at(np.empty((0, 2), int))
    assert nothing.shape == (0, 2) and none.shape == (0,)


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
