"""Friedel pairs: found as a dictionary finds them, R by hand, scatter and error model against simulated truth."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from ed2d import friedel
from ed2d.friedel import agreement, error_model, friedel_pairs, measured_pairs, r_friedel


def random_miller(rng, n):
    every = np.array([(h, k) for h in range(-9, 10) for k in range(-9, 10)])
    return rng.permutation(every)[:n]


@pytest.mark.parametrize("n", [1, 30, 200, 361])
def test_pairs_are_those_a_dictionary_finds(n):
    """The pairs equal those of a slow search, in any order of the rows."""
    miller = random_miller(np.random.default_rng(n), n)
    rows = {tuple(index): row for row, index in enumerate(miller.tolist())}
    expected = {
        (row, rows[-h, -k]) for (h, k), row in rows.items() if (-h, -k) in rows and (h > 0 or (h == 0 and k > 0))
    }
    pairs = friedel_pairs(miller)
    assert len(pairs) == len(expected)
    assert set(map(tuple, pairs.tolist())) == expected


def test_no_pairs():
    """Without rows, with the origin alone, or in one half plane there are no pairs and R is NaN."""
    for miller in (np.empty((0, 2), int), [(0, 0)], [(1, 2), (1, -2), (2, 0)]):
        assert friedel_pairs(miller).shape == (0, 2)
        value, pairs = r_friedel(miller, np.ones(len(miller)))
        assert np.isnan(value) and pairs == 0


def test_r_friedel_of_two_known_pairs():
    """The definition, by hand: (|10-14| + |3-1|) / (12 + 2); the pair with a missing intensity does not count."""
    miller = [(1, 0), (0, 1), (-1, 0), (0, -1), (5, 5), (2, 2), (-2, -2)]
    value, pairs = r_friedel(miller, [10, 3, 14, 1, 99, np.nan, 7])
    assert value == pytest.approx(6 / 14) and pairs == 2


def test_r_friedel_invariances():
    """R does not change with the scale or with the sign of all indices, and is 0 where Friedel's law holds."""
    rng = np.random.default_rng(5)
    miller = random_miller(rng, 300)
    intensity = rng.uniform(1, 9, 300)
    value, pairs = r_friedel(miller, intensity)
    assert r_friedel(-miller, 7 * intensity) == (pytest.approx(value), pairs)
    assert r_friedel(miller, np.sum(miller**2, axis=1))[0] == 0


def test_r_friedel_of_known_noise():
    """For Gaussian noise of 5 % R is 0.05 * 2 / sqrt(pi), within four standard errors."""
    rng = np.random.default_rng(6)
    h, k = np.mgrid[-50:51, -50:51]
    miller = np.column_stack([h.ravel(), k.ravel()])
    value, pairs = r_friedel(miller, rng.normal(100, 5, len(miller)))
    expected = 0.05 * 2 / np.sqrt(np.pi)
    error = 0.05 * np.sqrt(2 - 4 / np.pi) / np.sqrt(pairs)  # of the mean of |N(0, 2 sigma^2)|
    assert pairs == (101**2 - 1) // 2
    assert abs(value - expected) < 4 * error


def test_r_friedel_without_signal():
    """A sum of intensities of 0 or less has no R."""
    value, pairs = r_friedel([(1, 0), (-1, 0)], [-3.0, 1.0])
    assert np.isnan(value) and pairs == 1


POPULATIONS = {  # limits of I/sigma without systematic errors; K, g
    "mixed": ((0.3, 300), 1.3, 0.08),
    "precise": ((0.3, 3000), 0.7, 0.02),
    "weak": ((0.03, 0.3), 2.0, 0.05),
    "strong": ((1e5, 1e6), 1.0, 0.15),
    "no systematic error": ((0.3, 300), 1.0, 0.0),
}


def half_plane(m):
    """Miller indices (m, 2), no two of them mates."""
    h, k = np.divmod(np.arange(m), 100)
    return np.column_stack([h + 1, k])


def reflections(rng, m, population):
    """Miller indices, intensities and stated variances of m pairs: signal from far below 0 to far above noise."""
    (low, high), sdfac, sdadd = POPULATIONS[population]
    true = 100 * np.exp(rng.uniform(np.log(low), np.log(high), m))
    variance = 100**2 + 50 * true  # read noise of the background, and shot noise
    intensity = rng.normal(true, sdfac * np.sqrt(variance + (sdadd * true) ** 2), (2, m))
    stated = variance * np.exp(rng.normal(0, 0.1, (2, m)))
    return np.vstack([half_plane(m), -half_plane(m)]), intensity.ravel(), stated.ravel()


def simulated(m, population, *, seed):
    return measured_pairs(*reflections(np.random.default_rng(seed), m, population))


def models(m, population, *, sets):
    """sdfac, sdfac_sigma, sdadd, sdadd_sigma and I/sigma at most of many sets, as columns."""
    found = (error_model(simulated(m, population, seed=[m, seed])) for seed in range(sets))
    return np.array([(f.sdfac, f.sdfac_sigma, f.sdadd, f.sdadd_sigma, f.isa) for f in found]).T


def assert_pulls(pulls, *, bias, width=(0.9, 1.15)):
    """Mean within `bias` of 0, and a width near 1, beside three statistical errors."""
    error = 3 / np.sqrt(len(pulls))
    assert abs(pulls.mean()) < bias + error
    assert width[0] - error < pulls.std() < width[1] + error


def test_pairs_that_are_not_measured_are_left_out():
    """A mate without intensity, or without a variance above 0, takes its pair away; order and means are the rows'."""
    miller = [(1, 0), (-1, 0), (2, 0), (-2, 0), (0, -3), (0, 3), (4, 0), (-4, 0), (5, 1)]
    intensity = [10, 14, np.nan, 1, -3, 5, 1, 1, 1]
    pairs = measured_pairs(miller, intensity, [4, 12, 1, 1, 2, 2, 0, 1, 1])
    assert pairs.rows.tolist() == [[5, 4], [0, 1]]
    assert pairs.difference.tolist() == [8, -4] and pairs.mean.tolist() == [1, 12]
    np.testing.assert_allclose(pairs.significance, [1 / np.sqrt(2), 12 / np.sqrt(8)])
    assert pairs.mean_of(np.arange(9)).tolist() == [4.5, 0.5]


@pytest.mark.parametrize(("m", "sizes"), [(0, []), (9, []), (19, [19]), (38, [13, 13, 12]), (57, [12, 12, 11, 11, 11])])
def test_bins_divide_the_pairs_by_the_quantity(m, sizes):
    """Bins of about equal population follow each other and hold every pair; R is that of their pairs alone."""
    pairs = simulated(m, "mixed", seed=m)
    quantity = np.random.default_rng(m).permutation(m).astype(float)
    bins = agreement(pairs, quantity)
    assert [one.pairs for one in bins] == sizes
    for one, start in zip(bins, np.cumsum([0, *sizes]), strict=False):
        assert (one.low, one.high) == (start, start + one.pairs - 1)
        chosen = pairs.intensity[(quantity >= one.low) & (quantity <= one.high)]
        miller = np.vstack([half_plane(one.pairs), -half_plane(one.pairs)])
        assert r_friedel(miller, chosen.T.ravel()) == (pytest.approx(one.r_friedel), one.pairs)


def test_scatter_has_the_stated_error():
    """Where the variances are right the scatter of every bin is 1, with pulls of width 1."""
    pulls = []
    for seed in range(200):
        pairs = simulated(250, "no systematic error", seed=seed)
        pulls += [(one.scatter - 1) / one.scatter_sigma for one in agreement(pairs, pairs.significance)]
    assert_pulls(np.array(pulls), bias=0.2)  # a small scatter has a small error


def test_scatter_shows_where_the_errors_are_too_small():
    """It is K for weak pairs and more for strong ones; gross errors of a few pairs do not move it."""
    pairs = simulated(5000, "mixed", seed=1)
    weak, *_, strong = agreement(pairs, pairs.significance)
    assert abs(weak.scatter - 1.3) < 4 * weak.scatter_sigma
    assert strong.scatter > 1.5 * weak.scatter
    spoilt = pairs.intensity.copy()
    spoilt[::50, 0] += 1000 * np.sqrt(pairs.variance[::50, 0])
    other = agreement(replace(pairs, intensity=spoilt), pairs.significance)[0]
    assert abs(other.scatter - weak.scatter) < weak.scatter_sigma


def test_the_biweight_is_calibrated():
    """Its two constants are those of a normal variable: <b z^2> / <b>, and the variance of a robust variance."""

    def mean(function):
        return integrate.quad(lambda z: function(z * z) * stats.norm.pdf(z), -friedel.TUKEY, friedel.TUKEY)[0]

    def b(u):
        return (1 - u / friedel.TUKEY**2) ** 2

    def slope(u):
        return b(u) - 2 / friedel.TUKEY**2 * (1 - u / friedel.TUKEY**2) * (u - c)

    c = mean(lambda u: u * b(u)) / mean(b)
    covariance = mean(lambda u: (b(u) * (u - c)) ** 2) * mean(b) / mean(lambda u: u * slope(u)) ** 2
    assert friedel.WEIGHTED_VARIANCE == pytest.approx(c, abs=1e-6)
    assert friedel.WEIGHTED_COVARIANCE == pytest.approx(covariance, abs=1e-6)
    assert friedel.CHI2_MEDIAN == pytest.approx(stats.chi2.median(1), abs=1e-6)


@pytest.mark.parametrize("population", ["mixed", "precise"])
@pytest.mark.parametrize("m", [50, 250])
def test_error_model_finds_the_truth(population, m):
    """Where weak and strong pairs are there, pulls of ln K and g have mean 0 and width 1."""
    _, true_sdfac, true_sdadd = POPULATIONS[population]
    sdfac, sdfac_sigma, sdadd, sdadd_sigma, _ = models(m, population, sets=400)
    assert_pulls(np.log(sdfac / true_sdfac) / (sdfac_sigma / sdfac), bias=0.15)
    assert_pulls((sdadd - true_sdadd) / sdadd_sigma, bias=0.2)


def test_weak_pairs_do_not_tell_g():
    """They tell K; the standard deviation of g says that it could be anything from 0 to where it would be seen."""
    sdfac, sdfac_sigma, sdadd, sdadd_sigma, _ = models(250, "weak", sets=400)
    assert_pulls(np.log(sdfac / 2) / (sdfac_sigma / sdfac), bias=0.15)
    assert np.median(sdadd_sigma) > 0.1
    assert np.mean(np.abs(sdadd - 0.05) < 3 * sdadd_sigma) > 0.97


def test_strong_pairs_do_not_tell_k():
    """Its standard deviation is then the prior one, that of g as large; I/sigma at most, 1 / (K g), is right."""
    sdfac, sdfac_sigma, sdadd, sdadd_sigma, isa = models(50, "strong", sets=400)
    np.testing.assert_allclose(sdfac, 1, atol=0.1)
    np.testing.assert_allclose(sdfac_sigma, friedel.PRIOR / 2, atol=0.1)
    assert np.all(sdadd_sigma > 0.5 * sdadd)
    assert np.mean(1 / isa) == pytest.approx(0.15, rel=0.03)
    assert np.std(1 / isa) < 1.25 * 0.15 / np.sqrt(2 * 50)  # normal maximum likelihood has this error without the 1.25


def test_no_systematic_error_is_found_where_there_is_none():
    """g is 0 in half of the sets and within its standard deviation in most others; K is not biased by it."""
    sdfac, sdfac_sigma, sdadd, sdadd_sigma, isa = models(250, "no systematic error", sets=400)
    assert 0.3 < np.mean(sdadd == 0) < 0.7 and np.all((isa == np.inf) == (sdadd == 0))
    assert np.mean(sdadd < 2.5 * sdadd_sigma) > 0.9
    assert abs(np.median(sdfac) - 1) < 0.3 * np.median(sdfac_sigma)


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_gross_errors_do_not_move_the_error_model(share):
    """With 2 or 10 % of gross errors K and g are those of the other pairs."""
    rng = np.random.default_rng(11)
    moved = []
    for seed in range(100):
        pairs = simulated(200, "mixed", seed=seed)
        good = error_model(pairs)
        spoilt = pairs.intensity.copy()
        gross = rng.random(200) < share
        size = 30 * np.sqrt(good.apply(pairs.variance.mean(axis=1), pairs.mean))
        spoilt[gross, 0] += size[gross] * rng.choice([-1, 1], gross.sum())
        found = error_model(replace(pairs, intensity=spoilt))
        left = error_model(
            replace(pairs, intensity=pairs.intensity[~gross], variance=pairs.variance[~gross], rows=pairs.rows[~gross])
        )
        moved.append([(found.sdfac - left.sdfac) / left.sdfac_sigma, (found.sdadd - left.sdadd) / left.sdadd_sigma])
    assert np.quantile(np.abs(moved), 0.95) < 0.5


@pytest.mark.parametrize("m", [0, 1, friedel.FEWEST_PAIRS - 1])
def test_few_pairs_have_no_error_model(m):
    """Then K, g and all corrected variances are NaN."""
    model = error_model(simulated(m, "mixed", seed=1))
    assert model.pairs == m
    assert np.isnan([model.sdfac, model.sdfac_sigma, model.sdadd, model.sdadd_sigma, model.isa]).all()
    assert np.isnan(model.apply(np.ones(2), np.ones(2))).all()


@pytest.mark.parametrize(
    "intensity",
    [
        np.zeros((2, 30)),
        np.ones((2, 30)),
        -np.arange(60.0).reshape(2, 30),
        np.array([[1e9], [-1e9]]) * np.ones(30),
        np.array([[1e9], [0]]) * np.ones(30),
        1e-150 * np.arange(60.0).reshape(2, 30),
    ],
    ids=["nothing", "equal mates", "negative", "opposite mates", "one mate is nothing", "tiny"],
)
def test_odd_intensities_give_numbers(intensity):
    """No warning, no NaN, K above 0 and g not below it, errors above 0."""
    miller = np.vstack([half_plane(30), -half_plane(30)])
    pairs = measured_pairs(miller, intensity.ravel(), np.ones(60))
    model = error_model(pairs)
    assert np.isfinite([model.sdfac, model.sdfac_sigma, model.sdadd, model.sdadd_sigma]).all()
    assert model.sdfac > 0 and model.sdadd >= 0 and model.sdfac_sigma > 0 and model.sdadd_sigma > 0
    assert all(np.isfinite(one.scatter) for one in agreement(pairs, pairs.significance))


def test_order_sign_and_scale_do_not_matter():
    """Permuted rows, swapped mates and another unit of intensity give the same bins and the same error model."""
    rng = np.random.default_rng(12)
    miller, intensity, variance = reflections(rng, 120, "mixed")
    intensity -= 50  # some are negative
    order = rng.permutation(240)
    pairs = measured_pairs(miller, intensity, variance)
    for other, unit in (
        (measured_pairs(miller[order], intensity[order], variance[order]), 1),
        (measured_pairs(-miller, intensity, variance), 1),
        (measured_pairs(miller, 1e6 * intensity, 1e12 * variance), 1e6),
    ):
        np.testing.assert_allclose(np.abs(other.difference), np.abs(unit * pairs.difference))
        for one, same in zip(agreement(pairs, pairs.significance), agreement(other, other.significance), strict=True):
            assert vars(same) == pytest.approx(vars(one), nan_ok=True)
        assert vars(error_model(other)) == pytest.approx(vars(error_model(pairs)), rel=1e-6)


def test_corrected_variances_explain_the_differences():
    """With the variances of the error model the scatter is 1 for weak, medium and strong pairs."""
    pairs = simulated(5000, "mixed", seed=3)
    model = error_model(pairs)
    corrected = replace(pairs, variance=model.apply(pairs.variance, pairs.mean[:, None]))
    for one in agreement(corrected, pairs.significance):
        assert abs(one.scatter - 1) < 4 * one.scatter_sigma + 0.01


def test_weights_of_measured_intensities_make_means_too_low():
    """By 2 (K g)^2, with the corrected variances of strong intensities; with those of their mean they do not."""
    model = friedel.ErrorModel(sdfac=1.0, sdfac_sigma=0.1, sdadd=0.1, sdadd_sigma=0.01, pairs=99)
    intensity = np.random.default_rng(4).normal(1, 0.1, 100000)
    low = np.average(intensity, weights=1 / model.apply(0.0, intensity))
    right = np.average(intensity, weights=1 / model.apply(np.zeros(100000), intensity.mean()))
    assert low - 1 == pytest.approx(-2 * 0.1**2, rel=0.2) and right == pytest.approx(1, abs=0.002)
    assert np.all(model.apply(1.0, np.array([-50.0, 0.0])) == 1)
