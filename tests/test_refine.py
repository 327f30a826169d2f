"""Refinement of the lattice: parameters with their pulls, outliers, distortions and what cannot be refined."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import least_squares
from scipy.stats import t as student

from ed2d.lattice import Lattice, predict
from ed2d.refine import TUKEY, WEIGHTED_COVARIANCE, WEIGHTED_VARIANCE, jacobian, lattice_of, parameters_of, refine
from stills import WIDE_SIGMA

SHAPE = (470, 640)
TRUE = Lattice((331.3, 227.8), (26.1, 5.2), (-7.3, 27.9), 1e-7, -1.5e-7)
FLAT = replace(TRUE, barrel=0.0, spiral=0.0)
START = Lattice((331.9, 227.1), (26.15, 5.13), (-7.36, 27.98))
FINE = Lattice((331.3, 227.8), (5.1, 1.2), (-1.3, 5.9), 1e-7, -1.5e-7)  # about 9700 spots
FINE_START = Lattice((331.5, 227.6), (5.105, 1.195), (-1.305, 5.905))
RUNS = 100
TWO_DECADES = (0.01, 1.0)
ALL_WRONG = ("h = 9", "h = 11", "h = 9, one vector off", "h > 9")


def measured(lattice, random, *, noise=(0.02, 0.2), scatter=0.0, wrong=None, share=0.0, spots=None):
    """Indices, observed positions and variances with errors between the limits of `noise`, px; and which are wrong."""
    miller = predict(lattice, shape=SHAPE)
    if spots:
        miller = random.permutation(miller)[:spots]
    sigma = np.exp(random.uniform(*np.log(noise), (len(miller), 2)))
    observed = lattice.position(miller) + random.normal(0, np.hypot(sigma, scatter))
    where = random.random(len(miller)) < share
    if wrong == "outliers":
        observed[where] += random.uniform(-6, 6, (where.sum(), 2))
    if wrong == "satellites":
        observed[where] += (3, 1)
    if wrong in ALL_WRONG:
        row = int(wrong.split()[2].strip(","))
        where |= miller[:, 0] > row if ">" in wrong else miller[:, 0] == row
        observed[where] += lattice.a if "vector" in wrong else (4, 2)
    return miller, observed, sigma**2, where


def repeated(truth, start, random, runs=RUNS, **conditions):
    """Results of `runs` refinements of one lattice."""
    return [refine(start, *measured(truth, random, **conditions)[:3]) for _ in range(runs)]


def pulls_of(truth, results):
    """Pulls (runs, p) of the refined parameters."""
    free = results[0].sigma > 0
    return np.array([(parameters_of(r.lattice) - parameters_of(truth))[free] / r.sigma[free] for r in results])


def assert_right_errors(pulls):
    """The pulls (runs, p) of every parameter have mean 0 and width 1 within the statistical error of the runs."""
    runs, squares = len(pulls), pulls**2
    assert np.abs(pulls.mean(axis=0)).max() < WIDE_SIGMA / np.sqrt(runs), pulls.mean(axis=0)
    error = np.maximum(np.sqrt(2), squares.std(axis=0)) / np.sqrt(runs)  # few spots: tails of Student's t
    assert (np.abs(squares.mean(axis=0) - 1) / error).max() < WIDE_SIGMA, np.sqrt(squares.mean(axis=0))


def assert_right_covariance(truth, results):
    """The mean covariance is that of the errors: chi^2 has its mean p."""
    error = np.array([parameters_of(result.lattice) - parameters_of(truth) for result in results])
    covariance = np.mean([result.covariance for result in results], axis=0)
    unit = np.sqrt(np.diag(covariance))
    error, covariance = error / unit, covariance / unit / unit[:, None]
    chi2 = np.einsum("np,pq,nq->", error, np.linalg.inv(covariance), error) / error.size
    assert chi2 == pytest.approx(1, abs=WIDE_SIGMA * np.sqrt(2 / error.size))


def derivatives(lattice, miller):
    """Derivatives (n, 2, 8) of the calculated positions by the parameters."""
    return jacobian(lattice, np.asarray(miller, float).T).transpose(2, 1, 0)


def test_jacobian_against_differences():
    """Derivatives of the positions by all eight parameters."""
    miller = predict(TRUE, shape=SHAPE)
    values = parameters_of(TRUE)
    found = derivatives(TRUE, miller)
    for n, step in enumerate([1e-3] * 6 + [1e-9] * 2):
        shift = np.zeros(8)
        shift[n] = step
        low, high = (lattice_of(values + sign * shift).position(miller) for sign in (-1, 1))
        expected = (high - low) / (2 * step)
        np.testing.assert_allclose(found[:, :, n], expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_moments_of_the_biweight():
    """The two constants of the biweight against integrals over chi^2 of two degrees of freedom."""

    def mean(function):
        return quad(lambda d2: function(d2, 1 - d2 / TUKEY**2) * np.exp(-d2 / 2) / 2, 0, TUKEY**2)[0]

    weight, square = mean(lambda d2, b: b**2), mean(lambda d2, b: b**2 * d2 / 2)
    slope, pull = mean(lambda d2, b: b * (1 - 3 * d2 / TUKEY**2)), mean(lambda d2, b: b**4 * d2 / 2)
    assert pytest.approx(square / weight, rel=1e-6) == WEIGHTED_VARIANCE
    assert pytest.approx(pull * weight / slope**2, rel=1e-6) == WEIGHTED_COVARIANCE


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"noise": (0.1, 0.1)},
        {"scatter": 0.1},
        {"noise": TWO_DECADES},
        {"noise": TWO_DECADES, "scatter": 0.05},
        {"wrong": "outliers", "share": 0.1},
        {"wrong": "outliers", "share": 0.2},
        {"wrong": "outliers", "share": 0.2, "scatter": 0.1},
        {"wrong": "outliers", "share": 0.2, "noise": TWO_DECADES},
        {"wrong": "satellites", "share": 0.2},
        {"wrong": "satellites", "share": 0.2, "scatter": 0.1},
        {"wrong": "satellites", "share": 0.2, "noise": TWO_DECADES},
        *({"wrong": wrong} for wrong in ALL_WRONG),
    ],
    ids=lambda conditions: ", ".join(f"{key} {value}" for key, value in conditions.items()) or "clean",
)
def test_pulls(conditions):
    """Every parameter is within its standard deviation of the truth, all together within their covariance.

    Whatever is added to a fifth of the spots or to whole rows, the scatter is that of the others.
    """
    results = repeated(TRUE, START, np.random.default_rng(1), **conditions)
    assert_right_errors(pulls_of(TRUE, results))
    assert_right_covariance(TRUE, results)
    if scatter := conditions.get("scatter"):
        squares = np.array([result.scatter**2 for result in results])
        assert np.mean(squares) == pytest.approx(scatter**2, abs=WIDE_SIGMA * np.std(squares) / np.sqrt(RUNS))


@pytest.mark.parametrize("noise", [(0.02, 0.2), (0.1, 0.1), TWO_DECADES])
@pytest.mark.parametrize("spots", [8, 12, 20])
def test_pulls_of_few_spots(spots, noise):
    """With few spots too; from 16 on, the distortions are among the parameters."""
    truth = TRUE if spots >= 16 else FLAT
    pulls = pulls_of(truth, repeated(truth, START, np.random.default_rng(spots), runs=RUNS, noise=noise, spots=spots))
    assert pulls.shape[1] == (8 if spots >= 16 else 6)
    assert_right_errors(pulls)


def test_scatter_of_few_spots():
    """Twenty spots, whose errors eight parameters have followed: the scatter^2 is right on average."""
    conditions = {"noise": (0.02, 0.02), "scatter": 0.1, "spots": 20}
    results = repeated(TRUE, START, np.random.default_rng(15), runs=200, **conditions)
    squares = np.array([result.scatter**2 for result in results])
    assert np.mean(squares) == pytest.approx(0.1**2, abs=WIDE_SIGMA * np.std(squares) / np.sqrt(len(squares)))


def test_pulls_of_many_spots():
    """Five thousand spots with errors over two decades and a fifth of outliers."""
    conditions = {"noise": TWO_DECADES, "wrong": "outliers", "share": 0.2, "spots": 5000}
    results = repeated(FINE, FINE_START, np.random.default_rng(2), runs=40, **conditions)
    assert_right_errors(pulls_of(FINE, results))
    assert_right_covariance(FINE, results)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_wrong_variances_do_not_make_wrong_errors(factor):
    """Fit errors that are half or twice as large as they say: the parameters' standard deviations are right."""
    random, results = np.random.default_rng(3), []
    for _ in range(RUNS):
        miller, observed, variance, _ = measured(TRUE, random, noise=(0.1, 0.1))
        results.append(refine(START, miller, observed, factor * variance))
    assert_right_errors(pulls_of(TRUE, results))
    assert_right_covariance(TRUE, results)


@pytest.mark.parametrize("conditions", [{}, {"wrong": "outliers", "share": 0.2}, {"scatter": 0.1, "spots": 60}])
def test_error_of_calculated_positions(conditions):
    """The stated one is the true one over many images, and within 1.2 of what least squares of the good spots gives."""
    random = np.random.default_rng(4)
    at = predict(TRUE, shape=SHAPE)
    stated, true, floor, pulls = [], [], [], []
    for _ in range(RUNS):
        miller, observed, variance, wrong = measured(TRUE, random, **conditions)
        result = refine(START, miller, observed, variance)
        error = result.lattice.position(at) - TRUE.position(at)
        stated.append(result.position_sigma(at) ** 2)
        true.append(np.mean(np.sum(error**2, axis=1)))
        pulls.append((error / np.sqrt(result.position_variance(at)))[::40].ravel())
        rows = derivatives(TRUE, miller[~wrong]).reshape(-1, 8)
        weight = 1 / (variance[~wrong] + conditions.get("scatter", 0.0) ** 2).ravel()
        covariance = np.linalg.inv(rows.T @ (weight[:, None] * rows))
        design = derivatives(TRUE, at)
        floor.append(np.mean(np.einsum("ncp,pq,ncq->n", design, covariance, design)))
    assert_right_errors(np.array(pulls))
    stated, true, floor = np.mean(stated), np.mean(true), np.mean(floor)
    print(f"positions: true {true**0.5:.4f} px, stated {stated**0.5:.4f} px, least squares {floor**0.5:.4f} px")
    assert true / stated == pytest.approx(1, abs=WIDE_SIGMA * np.sqrt(2 / 8 / RUNS) + 2 / np.sqrt(8 * RUNS))
    assert np.sqrt(true / floor) < 1.2 and np.sqrt(stated / floor) < 1.2


@pytest.mark.parametrize("wrong", ["outliers", "satellites"])
def test_three_tenths_wrong(wrong):
    """The lattice stays where it is when three spots of ten are wrong, and none of the far ones is used."""
    random = np.random.default_rng(5)
    for _ in range(20):
        miller, observed, variance, _ = measured(TRUE, random, wrong=wrong, share=0.3)
        result = refine(START, miller, observed, variance)
        far = np.sum((observed - TRUE.position(miller)) ** 2 / variance, axis=1) > (2 * TUKEY) ** 2
        assert np.abs(pulls_of(TRUE, [result])).max() < WIDE_SIGMA
        assert not np.any(result.used & far) and far.mean() > 0.2
        assert result.scatter < 0.03 and result.rms < 0.5


def test_against_least_squares():
    """With the weights of the result, scipy finds the same minimum."""
    miller, observed, variance, _ = measured(TRUE, np.random.default_rng(6), noise=(0.05, 0.05))
    result = refine(START, miller, observed, variance)
    unit = np.array([1.0] * 6 + [1e-7] * 2)
    weight = np.clip(1 - (result.distance / TUKEY) ** 2, 0, None)[:, None] / np.sqrt(variance + result.scatter**2)
    oracle = least_squares(
        lambda p: ((observed - lattice_of(p * unit).position(miller)) * weight).ravel(),
        parameters_of(START),
        jac="3-point",
        xtol=1e-14,
    )
    assert np.max(np.abs(oracle.x * unit - parameters_of(result.lattice)) / result.sigma) < 1e-3


@pytest.mark.parametrize("spots", [30, None])
def test_distortions_only_where_significant(spots):
    """Without distortion a barrel or spiral is invented in 0.3 % of the images each; its significance has width 1.

    In 0.6 % with 30 spots: the errors are estimates, and the pulls are as Student's t with a freedom for each spot.
    """
    runs = 300
    results = repeated(FLAT, START, np.random.default_rng(7), runs=runs, spots=spots)
    invented = np.array([(result.lattice.barrel != 0, result.lattice.spiral != 0) for result in results])
    expected = 2 * runs * 2 * student.sf(3, len(results[0].used) - 4)
    assert invented.sum() <= expected + WIDE_SIGMA * np.sqrt(expected)
    significance = np.array([result.significance for result in results])
    assert_right_errors(significance)
    np.testing.assert_array_equal(invented, np.abs(significance) > 3)


def test_strong_distortions_stay():
    """They are found to their standard deviations, and `significance` is the value in units of it."""
    strong = replace(TRUE, barrel=2e-7, spiral=-3e-7)
    results = repeated(strong, START, np.random.default_rng(8), runs=50)
    assert_right_errors(pulls_of(strong, results))
    for result in results:
        values = parameters_of(result.lattice)[6:]
        np.testing.assert_allclose(result.significance, values / result.sigma[6:], rtol=1e-4)


def test_one_distortion_alone():
    """A barrel without a spiral gives a spiral of exactly 0, with the standard deviation 0 of what is not refined."""
    miller, observed, variance, _ = measured(replace(FLAT, barrel=3e-7), np.random.default_rng(9))
    result = refine(START, miller, observed, variance)
    assert result.lattice.spiral == 0.0 == result.sigma[7] and result.lattice.barrel > 0 and result.sigma[6] > 0
    assert not result.covariance[7].any() and 0 < abs(result.significance[1]) < 3 < result.significance[0]
    without = refine(START, miller, observed, variance, distortion=False)
    assert without.lattice.barrel == 0.0 == without.lattice.spiral and np.isnan(without.significance).all()


def test_no_distortion_of_fifteen_spots():
    """They are not enough to try it, even from a start that has one."""
    miller, observed, variance, _ = measured(FLAT, np.random.default_rng(10), spots=15)
    result = refine(TRUE, miller, observed, variance)
    assert result.lattice.barrel == 0.0 == result.lattice.spiral and np.isnan(result.significance).all()


def test_a_distortion_no_lens_makes():
    """Where the spots ask for a bend by more than a tenth of the radius, both distortions are 0."""
    bent = replace(FLAT, barrel=1.5e-6)
    miller, observed, variance, _ = measured(bent, np.random.default_rng(11))
    result = refine(START, miller, observed, variance)
    assert result.lattice.barrel == 0.0 == result.lattice.spiral and result.significance[0] > 3


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("spots", "share"), [(None, 0.2), (40, 0.0), (12, 0.0)])
def test_the_start_does_not_matter(seed, spots, share):
    """From other starts, also with distortions and from the result itself, the lattice is equal to the last bit."""
    truth = FLAT if spots == 12 else TRUE
    conditions = {"scatter": 0.05, "wrong": "outliers", "share": share, "spots": spots}
    miller, observed, variance, _ = measured(truth, np.random.default_rng(seed), **conditions)
    first = refine(START, miller, observed, variance)
    for start in (TRUE, first.lattice, replace(FLAT, origin=(333.0, 226.0), barrel=1e-7)):
        assert refine(start, miller, observed, variance).lattice == first.lattice


def test_swapped_axes_and_order():
    """Swapping a and b, or the order of the spots, gives the same lattice."""
    random = np.random.default_rng(12)
    miller, observed, variance, _ = measured(TRUE, random, wrong="satellites", share=0.2)
    first = refine(START, miller, observed, variance)
    swapped = refine(replace(START, a=START.b, b=START.a), miller[:, ::-1], observed, variance)
    np.testing.assert_allclose(swapped.lattice.a + swapped.lattice.b, first.lattice.b + first.lattice.a, atol=1e-7)
    np.testing.assert_allclose(swapped.sigma, first.sigma[[0, 1, 4, 5, 2, 3, 6, 7]], rtol=1e-6)
    order = random.permutation(len(miller))
    permuted = refine(START, miller[order], observed[order], variance[order])
    np.testing.assert_allclose(parameters_of(permuted.lattice), parameters_of(first.lattice), rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(permuted.used, first.used[order])


def test_moved_and_enlarged():
    """Shifting the image moves the origin only; pixels half as large double lengths and quarter the distortions."""
    miller, observed, variance, _ = measured(TRUE, np.random.default_rng(13), scatter=0.05)
    first = refine(START, miller, observed, variance)
    shift, scale = np.array([100.25, -40.5]), 2.0
    start = Lattice(tuple(scale * (np.array(START.origin) + shift)), *(tuple(scale * v) for v in START.basis))
    moved = refine(start, miller, scale * (observed + shift), scale**2 * variance)
    unit = np.array([scale] * 6 + [scale**-2] * 2)
    expected = (parameters_of(first.lattice) + np.array([*shift, 0, 0, 0, 0, 0, 0])) * unit
    assert np.max(np.abs(parameters_of(moved.lattice) - expected) / moved.sigma) < 1e-3
    np.testing.assert_allclose(moved.sigma, first.sigma * unit, rtol=1e-6)
    assert moved.scatter == pytest.approx(scale * first.scatter, rel=1e-6)


def test_too_few_spots():
    """Five spots are refused; six are enough for a lattice without distortions."""
    miller = np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (2, -1)])
    observed, variance = FLAT.position(miller), np.full((6, 2), 1e-4)
    with pytest.raises(ValueError, match="6 are needed"):
        refine(START, miller[:5], observed[:5], variance[:5])
    result = refine(START, miller, observed, variance)
    np.testing.assert_allclose(parameters_of(result.lattice), parameters_of(FLAT), atol=1e-7)
    assert result.covariance.shape == (8, 8)


@pytest.mark.parametrize("line", [(1, 0), (0, 1), (2, -1)])
def test_spots_on_one_line(line):
    """Spots along one direction do not determine two vectors, with few or many of them."""
    for n in (4, 15):
        miller = np.array([(line[0] * k, line[1] * k) for k in range(-n, n + 1) if k])
        with pytest.raises(ValueError, match=r"line|determine"):
            refine(START, miller, FLAT.position(miller), np.full((2 * n, 2), 1e-4))


@pytest.mark.parametrize(("place", "value"), [("observed", np.nan), ("variance", 0.0), ("variance", np.inf)])
def test_numbers_that_are_none(place, value):
    """A centre that is not finite, and a variance of 0, are refused."""
    miller, observed, variance, _ = measured(TRUE, np.random.default_rng(14))
    (observed if place == "observed" else variance)[3, 0] = value
    with pytest.raises(ValueError, match="finite"):
        refine(START, miller, observed, variance)
