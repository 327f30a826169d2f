"""Pulls and their summaries: right means, widths and standard errors, whatever a few outliers do."""

import numpy as np
import pytest

from ed2d.pulls import Summary, pulls
from stills import WIDE_SIGMA


def test_pulls():
    """Pulls of noise of known variance have mean 0 and width 1; without a variance there is none."""
    random = np.random.default_rng(7)
    truth, variance = random.uniform(0, 100, 10000), random.uniform(1, 400, 10000)
    values = pulls(random.normal(truth, np.sqrt(variance)), variance, truth)
    assert abs(values.mean()) < 4 / 100 and abs(values.std() - 1) < 4 / np.sqrt(20000)
    assert np.isnan(pulls([1.0, 1.0, 1.0], [0.0, -1.0, np.nan], 0.0)).all()


def test_pulls_do_not_follow_units():
    """Values and truth in other units, and variances in their squares, give the same pulls."""
    random = np.random.default_rng(8)
    value, variance, truth = random.normal(0, 3, 50), random.uniform(1, 4, 50), random.normal(0, 1, 50)
    np.testing.assert_allclose(pulls(8 * value, 64 * variance, 8 * truth), pulls(value, variance, truth), rtol=1e-12)


@pytest.mark.parametrize(("mean", "width"), [(0.0, 1.0), (0.4, 1.5), (-2.0, 0.3)])
def test_standard_errors_of_a_summary(mean, width):
    """Of many samples the means and widths scatter about the truth by the stated standard errors."""
    random = np.random.default_rng(9)
    found = [Summary.of(random.normal(mean, width, 400)) for _ in range(1000)]
    tolerance = WIDE_SIGMA / np.sqrt(2 * len(found))
    for name, truth in (("mean", mean), ("width", width)):
        values, sigmas = (np.array([getattr(one, each) for one in found]) for each in (name, f"{name}_sigma"))
        assert np.std(values) / np.mean(sigmas) == pytest.approx(1, abs=tolerance)
        bias = 0.005 * width if name == "width" else 0.0  # percentiles of 400 deviates
        assert abs(np.mean(values) - truth) < WIDE_SIGMA * np.std(values) / np.sqrt(len(found)) + bias


def test_outliers_are_counted_and_do_no_harm():
    """Ten far values among a thousand are ten outliers, and neither mean nor width follows them."""
    values = np.random.default_rng(10).normal(0, 1, 1000)
    clean = Summary.of(values)
    hit = Summary.of(np.concatenate([values, np.full(10, 1e6)]))
    assert (clean.outliers, hit.outliers, hit.number) == (0, 10, 1010)
    assert hit.mean == pytest.approx(clean.mean, abs=1e-9)
    assert hit.width == pytest.approx(clean.width, abs=0.05)


def test_what_is_not_finite_does_not_count():
    """NaN and infinite pulls are left out."""
    values = np.random.default_rng(11).normal(0, 1, 300)
    spoilt = np.insert(values, [0, 100, 200], [np.nan, np.inf, -np.inf])
    assert Summary.of(spoilt) == Summary.of(values)


@pytest.mark.parametrize("values", [[], [1.0], [np.nan, 2.0]])
def test_too_few_tell_nothing(values):
    """One pull has neither mean nor width, and differs from nothing."""
    summary = Summary.of(np.array(values))
    assert summary.number == np.isfinite(values).sum() and summary.outliers == 0
    assert np.isnan([summary.mean, summary.mean_sigma, summary.width, summary.width_sigma]).all()
    assert not summary.mean_differs(0.0, 0.0) and not summary.width_differs(0.0, 0.0)


def test_equal_values_have_no_width():
    """Pulls that are all alike have the width 0 and are no outliers."""
    summary = Summary.of(np.full(20, 3.0))
    assert (summary.mean, summary.width, summary.outliers) == (3.0, 0.0, 0)


def test_differences_are_large_and_certain():
    """A difference counts only where it exceeds both what is of account and some standard errors."""
    summary = Summary(number=400, mean=0.5, mean_sigma=0.1, width=0.6, width_sigma=0.05, outliers=0)
    assert summary.mean_differs(0.4, 4.0) and not summary.mean_differs(0.6, 4.0) and not summary.mean_differs(0.4, 6.0)
    assert summary.width_differs(0.3, 4.0) and not summary.width_differs(0.5, 4.0)
    assert not summary.width_differs(0.3, 9.0)
