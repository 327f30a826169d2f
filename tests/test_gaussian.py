"""Shapes of Gaussians, their pixels and derivatives, and what a set of fits tells."""

from dataclasses import fields, replace

import numpy as np
import pytest

from ed2d import gaussian
from ed2d.boxes import grid
from ed2d.polynomials import monomials
from stills import WIDE_SIGMA, drawn, fits_at, many_spots, theta_of

HALF = 9
STEP = 1e-5  # of numerical derivatives
NUMERICAL = 1e-6  # their error, relative to the largest value


def some_shapes(n, seed):
    """Centres (n, 2) and shapes (n, 3) as different as fits may meet, px."""
    random = np.random.default_rng(seed)
    large = random.uniform(0.8, 5, n)
    shape = gaussian.shape_from_widths(large, large * random.uniform(0.2, 1.0, n), random.uniform(-90, 90, n))
    return random.uniform(-4, 4, (n, 2)), shape


def exponent(theta, x, y):
    """-q/2 (n, pixels) at x, y by the definition of cx, cy, p, r, s (n, 5)."""
    cx, cy, p, r, s = (column[:, None] for column in theta.T)
    u, v = np.exp(p) * (x - cx) + r * (y - cy), np.exp(s) * (y - cy)
    return -(u * u + v * v) / 2


def shifted(theta, parameter, step):
    return theta + step * np.eye(5)[parameter]


def test_the_angle_is_the_direction_of_the_larger_width():
    """u = cos w (x - Ux) + sin w (y - Uy) runs along Bx: a spot drawn with w has its second moments there."""
    dx, dy = grid(15)
    for angle in (-89.0, -45.0, -10.0, 0.0, 30.0, 60.0, 90.0):
        shape = gaussian.shape_from_widths(np.array([2.5]), np.array([1.2]), np.array([angle]))
        values = gaussian.gaussian(15, np.zeros((1, 2)), shape)[0]
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        along, across = (np.sum(values * d**2) / values.sum() for d in (cos * dx + sin * dy, cos * dy - sin * dx))
        assert along == pytest.approx(2.5**2, rel=1e-6) and across == pytest.approx(1.2**2, rel=1e-4)


def test_angles_lie_in_their_range():
    """-90 < w <= 90 with Bx >= By > 0 for every shape; an upright ellipse has +90."""
    random = np.random.default_rng(18)
    shape = np.column_stack([random.normal(0, 1, 5000), random.normal(0, 2, 5000), random.normal(0, 1, 5000)])
    large, small, angle = gaussian.widths(shape)
    assert np.all((angle > -90) & (angle <= 90)) and np.all((large >= small) & (small > 0))
    for moments in ((1.0, 0.0, 4.0), (1.0, -0.0, 4.0), (1.0, -1e-300, 4.0)):
        upright = gaussian.shape_from_covariance(*(np.array([value]) for value in moments))
        assert gaussian.widths(upright)[2] == 90.0


def test_conversions_of_shapes_round_trip():
    """Widths and angle, second moments and (p, r, s) say the same; the moments match the rotation matrix."""
    random = np.random.default_rng(19)
    large = random.uniform(0.6, 6, 500)
    small = large * random.uniform(0.2, 0.99, 500)
    angle = random.uniform(-90, 90, 500)
    shape = gaussian.shape_from_widths(large, small, angle)
    np.testing.assert_allclose(np.array(gaussian.widths(shape)), [large, small, angle], rtol=1e-9, atol=1e-9)
    moments = gaussian.covariance_from_shape(shape)
    np.testing.assert_allclose(gaussian.shape_from_covariance(*moments), shape, rtol=1e-9, atol=1e-9)
    for n in range(20):
        cos, sin = np.cos(np.radians(angle[n])), np.sin(np.radians(angle[n]))
        axes = np.array([[cos, -sin], [sin, cos]])
        matrix = axes @ np.diag([large[n] ** 2, small[n] ** 2]) @ axes.T
        sxx, sxy, syy = (m[n] for m in moments)
        np.testing.assert_allclose([[sxx, sxy], [sxy, syy]], matrix, rtol=1e-9, atol=1e-12)


def test_the_model_of_a_fit_is_the_formula_of_the_contract():
    """gaussian, plane and model draw what the contract says."""
    spots = many_spots(30, np.random.default_rng(20), volume=900, background=20, slope=0.05)
    fits = fits_at(theta_of(spots))
    np.testing.assert_allclose(gaussian.model(HALF, fits), drawn(HALF, spots), rtol=1e-10)
    np.testing.assert_allclose(fits.volume, spots[:, 0], rtol=1e-12)


def test_log_widths_are_mean_half_difference_and_twice_the_angle():
    """g = log(Bx By)/2 and log(Bx/By)/2 towards 2 w, from widths and angle; and back to the same (p, r, s)."""
    random = np.random.default_rng(23)
    large = random.uniform(0.4, 6, 500)
    small = large * random.uniform(0.02, 1.0, 500)
    angle = random.uniform(-90, 90, 500)
    shape = gaussian.shape_from_widths(large, small, angle)
    mean, half, twice = np.log(large * small) / 2, np.log(large / small) / 2, 2 * np.radians(angle)
    logs = np.column_stack([mean, half * np.cos(twice), half * np.sin(twice)])
    np.testing.assert_allclose(gaussian.log_widths(shape), logs, atol=1e-9)
    np.testing.assert_allclose(gaussian.shape_from_log_widths(logs), shape, rtol=1e-9, atol=1e-9)


def test_log_widths_of_circles():
    """A circle has no direction: exactly 0 for both other numbers, and hardly more for what is nearly one."""
    width = np.array([0.4, 1.0, 2.0, 7.0])
    circles = gaussian.shape_from_covariance(width**2, 0 * width, width**2)
    np.testing.assert_allclose(gaussian.log_widths(circles), np.column_stack([np.log(width), 0 * width, 0 * width]))
    np.testing.assert_allclose(gaussian.shape_from_log_widths(gaussian.log_widths(circles)), circles, atol=1e-12)
    for tiny in (1e-300, 1e-160, 1e-16, 1e-8):
        nearly = gaussian.shape_from_log_widths(np.array([[0.5, tiny, -tiny]]))
        np.testing.assert_allclose(gaussian.widths(nearly)[:2], np.exp(0.5), rtol=4 * tiny + 1e-12)
    logs = np.random.default_rng(24).normal(0, 1, (2000, 3))
    np.testing.assert_allclose(gaussian.log_widths(gaussian.shape_from_log_widths(logs)), logs, atol=1e-6)


def test_the_variances_of_log_widths_are_those_of_their_draws():
    """Thousands of draws of the shapes from a small covariance: their log widths scatter as predicted."""
    random = np.random.default_rng(25)
    theta = theta_of(many_spots(6, random, volume=900, background=20))
    root = 0.002 * random.normal(size=(6, 9, 9))
    fits = replace(fits_at(theta), covariance=root @ root.transpose(0, 2, 1))
    draws = theta + np.einsum("nij,mnj->mni", root, random.normal(size=(4000, 6, 9)))
    logs = np.array([gaussian.log_widths(draw[:, 6:]) for draw in draws])
    variance = gaussian.log_widths_variance(fits)
    assert variance.shape == (6, 3)
    np.testing.assert_allclose(logs.var(axis=0), variance, rtol=WIDE_SIGMA * np.sqrt(2 / 4000) + 2e-2)


def test_unit_volume_adds_up_to_one():
    """The pixels of a Gaussian that lies in the box add up to 1, wherever its centre; volume times it is the peak."""
    random = np.random.default_rng(26)
    spots = many_spots(50, random, volume=700, background=0, widths=(1.0, 2.0))
    found = gaussian.unit_volume(15, spots[:, 1:3], gaussian.shape_from_widths(*spots[:, 3:6].T))
    broad = spots[:, 4] > 0.9
    assert broad.sum() > 20
    np.testing.assert_allclose(found.sum(axis=1)[broad], 1, atol=1e-6)
    np.testing.assert_allclose(700 * found, drawn(15, spots), atol=1e-9)


def test_the_parts_of_a_model_are_plane_and_peak():
    """parts are the model without spot and without plane, and add up to it; peaks may be negative."""
    spots = many_spots(30, np.random.default_rng(27), volume=900, background=20, slope=0.05)
    spots[::3, 0] *= -1
    fits = fits_at(theta_of(spots))
    plane, peak = gaussian.parts(HALF, fits)
    np.testing.assert_allclose(plane, drawn(HALF, spots * [0, 1, 1, 1, 1, 1, 1, 1, 1]), atol=1e-9)
    np.testing.assert_allclose(peak, drawn(HALF, spots * [1, 1, 1, 1, 1, 1, 0, 0, 0]), atol=1e-9)
    np.testing.assert_allclose(plane + peak, gaussian.model(HALF, fits), atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_first_derivatives_against_differences(seed):
    """Polynomials of -1/2 dq/d(cx, cy, p, r, s) equal central differences of the definition on every pixel."""
    centre, shape = some_shapes(40, seed)
    theta, (dx, dy) = np.column_stack([centre, shape]), grid(HALF)
    np.testing.assert_allclose(-0.5 * gaussian.quadratic(centre, shape) @ monomials(dx, dy, 2).T,
                               exponent(theta, dx, dy), rtol=1e-9, atol=1e-9)  # fmt: skip
    found = gaussian.derivatives(centre, shape) @ monomials(dx, dy, 2).T
    for k in range(5):
        numerical = (exponent(shifted(theta, k, STEP), dx, dy) - exponent(shifted(theta, k, -STEP), dx, dy)) / (
            2 * STEP
        )
        assert np.max(np.abs(found[:, k] - numerical)) < NUMERICAL * np.abs(numerical).max()


@pytest.mark.parametrize("seed", [0, 1])
def test_second_derivatives_against_differences(seed):
    """Polynomials of the 25 second derivatives equal central differences of the first ones; symmetric."""
    centre, shape = some_shapes(40, seed)
    theta, terms = np.column_stack([centre, shape]), monomials(*grid(HALF), 2).T
    found = gaussian.second_derivatives(centre, shape)
    np.testing.assert_array_equal(found, found.transpose(0, 2, 1, 3))
    assert found.shape == (40, 5, 5, 6)
    for k in range(5):
        above, below = (shifted(theta, k, sign * STEP) for sign in (1, -1))
        slopes = [gaussian.derivatives(moved[:, :2], moved[:, 2:]) @ terms for moved in (above, below)]
        numerical = (slopes[0] - slopes[1]) / (2 * STEP)
        assert np.max(np.abs(found[:, k] @ terms - numerical)) < NUMERICAL * np.abs(numerical).max()


def test_the_variance_of_the_volume_is_that_of_its_draws():
    """A thousand draws of the nine parameters from a small covariance: their volumes scatter by volume_variance."""
    random = np.random.default_rng(5)
    theta = theta_of(many_spots(3, random, volume=900, background=20))
    root = 1e-3 * random.normal(size=(3, 9, 9)) * np.array([1.0] * 4 + [1e-2] * 5)[:, None]
    fits = replace(fits_at(theta), covariance=root @ root.transpose(0, 2, 1))
    draws = theta + np.einsum("nij,mnj->mni", root, random.normal(size=(4000, 3, 9)))
    volumes = np.array([fits_at(draw).volume for draw in draws])
    np.testing.assert_allclose(volumes.var(axis=0), fits.volume_variance, rtol=WIDE_SIGMA * np.sqrt(2 / 4000) + 1e-2)
    np.testing.assert_allclose(fits.significance, fits.volume / np.sqrt(fits.volume_variance))


def test_missing_joined_and_replaced():
    """Missing fits are NaN and never significant; rows taken from other fits replace them, in a copy."""
    theta = theta_of(many_spots(5, np.random.default_rng(21), volume=900, background=20))
    fits = replace(fits_at(theta), covariance=np.tile(np.eye(9), (5, 1, 1)), converged=np.ones(5, bool))
    missing = gaussian.Fits.missing(8)
    assert np.isnan(missing.volume).all() and not missing.significance.any() and not missing.converged.any()
    assert np.all(fits.significance > 0)
    mixed = missing.replaced(np.array([1, 3, 4, 6, 7]), fits)
    for field in fields(gaussian.Fits):
        np.testing.assert_array_equal(getattr(mixed, field.name)[[1, 3, 4, 6, 7]], getattr(fits, field.name))
    assert np.isnan(mixed.volume[[0, 2, 5]]).all() and np.isnan(missing.amplitude).all()
    both = gaussian.Fits.joined([fits, missing])
    assert len(both) == 13
    np.testing.assert_array_equal(both[:5].covariance, fits.covariance)
