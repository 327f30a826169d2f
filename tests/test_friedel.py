import numpy as np
import pytest

from ed2d.friedel import friedel_pairs, r_friedel


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
