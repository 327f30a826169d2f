"""How well free fits measure: errors against the Cramer-Rao bound, pulls, and the bias of second order."""

import numpy as np
import pytest

from bounds import bound, differences
from ed2d import flags, gaussfit
from ed2d.boxes import grid
from ed2d.noise import Noise
from ed2d.spots import with_smooth_errors
from populations import CASES, HALF, fitted, measured
from stills import (
    WIDE_SIGMA,
    assert_pulls,
    boxes_of,
    drawn,
    found_in,
    many_spots,
    recorded,
    shape_of,
    sigma_of,
    theta_of,
)

SECOND_ORDER = 1.0  # / (I/sigma): pulls of a volume whose quoted error goes with it
SECOND_ORDER_OTHERS = 2.0  # / (I/sigma): pulls of all parameters, and widths
READ_NOISE = 10.0  # counts
BACKGROUNDS = (0.5, 5, 50)  # electrons
GAINS = (1, 5)
BINS = {(6, 15): 1.10, (15, 40): 1.05, (40, 200): 1.05}  # I/sigma; rms errors in units of the bound
SPOTS = 4000
LARGEST_BIAS = 0.1  # of the bound of the volume
DISTRUSTED = {(6, 15): 0.02, (15, 40): 0.0, (40, 200): 0.0}  # share of the fits that flags say not to use
HONEST = 1e-3  # share of the boxes that lose a pixel for a zinger
BAD = flags.NOT_CONVERGED | flags.WIDTH | flags.CENTRE


def sample(n, wanted, *, background, gain, seed):
    """About n spots of I/sigma within `wanted`, sigma being the bound; their boxes, noise and bounds."""
    random = np.random.default_rng(seed)
    noise = Noise(gain=gain, read_variance=READ_NOISE**2, offset=0.0)
    spots = many_spots(n, random, volume=1, background=gain * background, widths=(1.4, 2.6), slope=0.02)
    signal2 = np.exp(random.uniform(*np.log(np.square(wanted)), n))  # (I/sigma)^2
    area = 24 * spots[:, 3] * spots[:, 4]  # of background whose noise the volume has
    square = (1.05 * gain * signal2) ** 2 + 4 * signal2 * area * noise.variance(gain * background)
    spots[:, 0] = (1.05 * gain * signal2 + np.sqrt(square)) / 2
    covariance, sigma = bound(spots, noise)
    inside = (spots[:, 0] > wanted[0] * sigma) & (spots[:, 0] < wanted[1] * sigma)
    spots, covariance, sigma = spots[inside], covariance[inside], sigma[inside]
    boxes = boxes_of(recorded(drawn(HALF, spots), random, gain=gain, read_noise=READ_NOISE))
    return spots, boxes, noise, covariance, sigma


@pytest.mark.parametrize("wanted", BINS)
@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("gain", GAINS)
def test_errors_over_the_cramer_rao_bound(wanted, background, gain):
    """Volume and centre are as good as any unbiased estimate can be; their pulls have mean 0 and width 1."""
    spots, boxes, noise, covariance, sigma = sample(SPOTS, wanted, background=background, gain=gain, seed=1)
    _, found = fitted(boxes, noise, spots)
    good = found.flag & BAD == 0
    assert np.mean(~good) <= DISTRUSTED[wanted] and np.mean(found.flag & flags.ZINGER != 0) < HONEST
    fits, spots, covariance, sigma = found.fits[good], spots[good], covariance[good], sigma[good]
    error = (fits.volume - spots[:, 0]) / sigma
    displacement = (fits.centre - spots[:, 1:3]) / np.sqrt(np.einsum("nii->ni", covariance)[:, 4:6])
    assert np.sqrt(np.mean(error**2)) < BINS[wanted]
    assert np.sqrt(np.mean(displacement**2)) < BINS[wanted]
    assert abs(error.mean()) < LARGEST_BIAS
    allowance = SECOND_ORDER / np.median(spots[:, 0] / sigma)
    pulls = (fits.volume - spots[:, 0]) / np.sqrt(fits.volume_variance)
    assert_pulls(pulls, bias=allowance, extra_width=allowance / 2)
    centre = (fits.centre - spots[:, 1:3]) / sigma_of(fits)[:, 4:6]
    assert_pulls(centre.ravel(), extra_width=allowance / 2)


def test_errors_at_the_learned_shape_do_not_follow_the_volume():
    """At I/sigma 6 to 15 pulls with errors at each spot's own fitted shape are low in the mean, at smooth ones not."""
    pulls = {"own": [], "smooth": []}
    for background, gain in ((5, 1), (5, 5), (50, 1), (50, 5)):
        spots, boxes, noise, _, _ = sample(3000, (6, 15), background=background, gain=gain, seed=5)
        _, found = fitted(boxes, noise, spots)
        good = np.flatnonzero(found.flag & BAD == 0)
        own = found.fits[good]
        smooth = with_smooth_errors(boxes[good], noise, own, shape_of(spots)[good], np.zeros(len(good)))
        for name, fits in (("own", own), ("smooth", smooth)):
            np.testing.assert_array_equal(fits.volume, own.volume)
            pulls[name].append((fits.volume - spots[good, 0]) / np.sqrt(fits.volume_variance))
    own, smooth = (np.concatenate(pulls[name]) for name in ("own", "smooth"))
    statistical = 1 / np.sqrt(len(own))
    assert own.mean() < -WIDE_SIGMA * statistical < smooth.mean() < WIDE_SIGMA * statistical
    assert_pulls(smooth, extra_width=0.03)


def test_without_the_correction_weak_volumes_are_biased(monkeypatch):
    """At I/sigma 6 to 10 least squares alone is above the truth by a tenth of the bound and more; the fit is not."""
    errors = {"corrected": [], "least squares": []}
    for background, gain in ((0.5, 1), (5, 1), (5, 5), (50, 5)):
        spots, boxes, noise, _, sigma = sample(2000, (6, 10), background=background, gain=gain, seed=2)
        for name, limit in (("corrected", gaussfit.LARGEST_BIAS), ("least squares", 0.0)):
            with monkeypatch.context() as patch:
                patch.setattr(gaussfit, "LARGEST_BIAS", limit)
                _, found = fitted(boxes, noise, spots)
            good = found.flag & BAD == 0
            errors[name].append(((found.fits.volume - spots[:, 0]) / sigma)[good])
    biases = {name: np.mean(np.concatenate(parts)) for name, parts in errors.items()}
    statistical = 1 / np.sqrt(sum(map(len, errors["corrected"])))
    assert biases["least squares"] > LARGEST_BIAS + WIDE_SIGMA * statistical / 2
    assert abs(biases["corrected"]) < LARGEST_BIAS - WIDE_SIGMA * statistical


def test_the_bias_is_that_of_box(monkeypatch):
    """What is taken off equals -1/2 C J^T W tr(C H) with numerical J and H, for masked boxes too (Box 1971).

    The amplitude's part is such that the volume loses its own bias, curvature included.
    """
    _, boxes, weights, fits = measured("sparse", 12, seed=3)
    weights = weights * (np.random.default_rng(3).random(weights.shape) > 0.2)
    corrected = gaussfit.fit(boxes, weights, fits.centre, fits.shape)
    monkeypatch.setattr(gaussfit, "LARGEST_BIAS", 0.0)
    plain = gaussfit.fit(boxes, weights, fits.centre, fits.shape)
    theta, covariance = found_in(plain), plain.covariance
    slopes = differences(theta)
    traces = np.zeros_like(weights)
    for k, sigma in enumerate(sigma_of(plain).T):
        move = 1e-3 * sigma[:, None] * np.eye(9)[k]
        second = (differences(theta + move) - differences(theta - move)) / (2e-3 * sigma[:, None, None])
        traces += np.einsum("nj,njp->np", covariance[:, k], second)
    expected = -0.5 * np.einsum("nij,njp,np->ni", covariance, slopes, weights * traces)
    gradient, log_area = np.zeros((12, 9)), np.array([0, 0, 0, 0, 0, 0, 1.0, 0, 1.0])
    gradient[:, 0] = plain.volume / plain.amplitude
    gradient -= plain.volume[:, None] * log_area
    curvature = np.einsum("i,nij,j->n", log_area, covariance, log_area) * plain.volume
    curvature -= 2 * (covariance[:, 0] @ log_area) * plain.volume / plain.amplitude
    bias_of_volume = np.sum(gradient * expected, axis=1) + curvature / 2
    found = theta - found_in(corrected)
    assert np.max(np.abs(found - expected)[:, 1:] / sigma_of(plain)[:, 1:]) < 2e-3
    sigma = np.sqrt(plain.volume_variance)
    np.testing.assert_allclose(np.sum(gradient * found, axis=1) / sigma, bias_of_volume / sigma, atol=2e-3)
    assert np.max(np.abs(bias_of_volume / sigma)) > 0.02


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [3, 4])
def test_pulls_of_all_nine_parameters(case, seed):
    """Fisher errors: every parameter, and the volume, scatters round its truth by its own standard deviation."""
    spots, _, _, fits = measured(case, 900, seed=seed)
    assert fits.converged.all()
    allowance = SECOND_ORDER_OTHERS / np.median(fits.significance)
    pulls = (found_in(fits) - theta_of(spots)) / sigma_of(fits)
    pulls = np.column_stack([pulls, (fits.volume - spots[:, 0]) / np.sqrt(fits.volume_variance)])
    for column in pulls.T:
        assert_pulls(column, bias=allowance, extra_width=allowance / 2)
    assert fits.reduced_chi2.mean() == pytest.approx(1, abs=4 * np.sqrt(2 / fits.dof.sum()) + 1e-3)


@pytest.mark.parametrize("case", ["medium", "broad"])
def test_pulls_at_the_edge_and_under_masks(case):
    """Half of a box missing, or a fifth of its pixels masked: the errors grow and stay right."""
    spots, boxes, weights, _ = measured(case, 900, seed=5)
    random = np.random.default_rng(5)
    dx, dy = grid(HALF)
    seen = random.random(weights.shape) > 0.2
    seen[::2] &= (dx > -3)[None, :]
    seen[::3] &= (dy < 4)[None, :]
    truth = theta_of(spots)
    fits = gaussfit.fit(boxes, weights * seen, truth[:, 4:6], truth[:, 6:])
    pulls = (found_in(fits) - truth) / sigma_of(fits)
    assert fits.converged.all()
    np.testing.assert_array_equal(fits.dof, seen.sum(axis=1) - 9)
    allowance = 2 * SECOND_ORDER_OTHERS / np.median(fits.significance)
    for column in pulls.T:
        assert_pulls(column, bias=allowance, extra_width=allowance / 2)


@pytest.mark.parametrize("volume", [-300.0, 0.0, 300.0, 5000.0])
def test_pulls_of_the_linear_fit(volume):
    """With the true centre and shape the volume is unbiased whatever its sign."""
    random = np.random.default_rng(17)
    spots = many_spots(900, random, volume=max(volume, 0), background=30, slope=0.02)
    expected = drawn(HALF, spots)
    values = recorded(expected, random) + drawn(HALF, spots * ([min(volume, 0) / max(volume, 1)] + [1] * 5 + [0] * 3))
    fits = gaussfit.fit_linear(boxes_of(values), 1 / expected, spots[:, 1:3], shape_of(spots))
    assert_pulls((fits.volume - spots[:, 0]) / np.sqrt(fits.volume_variance))
