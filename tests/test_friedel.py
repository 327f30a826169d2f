"""Friedel pairs: found as a dictionary finds them, R by hand, scatter against simulated truth."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from ed2d import friedel
from ed2d.friedel import agreement, friedel_pairs, measured_pairs, r_friedel


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


def test_order_sign_and_scale_do_not_matter():
    """Permuted rows, swapped mates and another unit of intensity give the same bins."""
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
