"""Noise that a point spread has made common to neighbours: its strength, and the errors of sums of such pixels."""

import numpy as np
import pytest
from scipy import ndimage

from ed2d import gaussian
from ed2d.neighbours import Neighbours
from ed2d.noise import Noise
from ed2d.pointspread import REACH, kernel, undone, widened
from ed2d.profilefit import fit_profiles
from stills import WIDE_SIGMA, assert_pulls, boxes_of, drawn, many_spots, shape_of

HALF = 9
SIDE = 2 * HALF + 1


def spread(electrons, correlation):
    """Pictures (n, side, side) of electrons (n, side + 2 REACH, side + 2 REACH), by a separate convolution."""
    shares = kernel(correlation)
    for axis in (1, 2):
        electrons = ndimage.convolve1d(electrons, shares, axis=axis, mode="constant")
    return electrons[:, REACH:-REACH, REACH:-REACH]


@pytest.mark.parametrize("correlation", [1.0, 1.3, 2.0, 5.0, 20.0])
def test_the_kernel_leads_to_its_correlation(correlation):
    """Even and of sum 1; pixels of spread noise scatter less than large sums of them by the correlation."""
    shares = kernel(correlation)
    assert shares.sum() == pytest.approx(1) and np.allclose(shares, shares[::-1]) and np.all(np.diff(shares[:4]) >= 0)
    random = np.random.default_rng(1)
    picture = spread(random.normal(size=(40, 206, 206)), correlation)
    blocks = picture.reshape(40, 5, 40, 5, 40).sum(axis=(2, 4)).ravel()
    lost = 1 - 2 * np.sum(np.abs(np.arange(-REACH, REACH + 1)) * shares) / 40
    ratio = blocks.var() / 1600 / picture.var()
    assert ratio == pytest.approx(correlation, rel=WIDE_SIGMA * np.sqrt(2 / len(blocks)) + 2 * (1 - lost))


@pytest.mark.parametrize("correlation", [1.0, 1.5, 4.0])
def test_forms_of_pixels_as_forms_of_electrons(correlation):
    """Any linear form of the spread pictures is the form `undone` of the electrons."""
    random = np.random.default_rng(2)
    forms = random.normal(size=(3, 20, SIDE**2))
    electrons = random.normal(size=(20, SIDE + 2 * REACH, SIDE + 2 * REACH))
    direct = np.sum(forms * spread(electrons, correlation).reshape(20, -1), axis=-1)
    found = np.sum(undone(forms, correlation) * electrons.reshape(20, -1), axis=-1)
    np.testing.assert_allclose(found, direct, atol=1e-9)
    np.testing.assert_array_equal(undone(forms, correlation)[1], undone(forms[1], correlation))


def test_a_margin_repeats_the_edge():
    """The middle of a widened box is the box, every margin pixel that of the nearest edge."""
    pixels = np.random.default_rng(3).normal(size=(4, 25))
    found = widened(pixels).reshape(4, 5 + 2 * REACH, 5 + 2 * REACH)
    nearest = np.clip(np.arange(-REACH, 5 + REACH), 0, 4)
    np.testing.assert_array_equal(found, pixels.reshape(4, 5, 5)[:, nearest[:, None], nearest])


@pytest.mark.parametrize("correlation", [1.2, 2.0, 4.0])
@pytest.mark.parametrize("volume", [0, 3000])
def test_pulls_of_profile_fits_to_correlated_pixels(correlation, volume):
    """Spread electrons on a background: volumes with pulls of mean 0 and width 1."""
    random = np.random.default_rng(int(10 * correlation))
    n, gain = 1500, 5.0
    spots = many_spots(n, random, volume=volume, background=30, widths=(1.2, 1.8), centre=0.5)
    electrons = random.poisson(drawn(HALF + REACH, spots)).reshape(n, SIDE + 2 * REACH, SIDE + 2 * REACH).astype(float)
    boxes = boxes_of(gain * spread(electrons, correlation).reshape(n, -1))
    added = np.sum(np.arange(-REACH, REACH + 1) ** 2 * kernel(correlation))
    sxx, sxy, syy = gaussian.covariance_from_shape(shape_of(spots))
    shape = gaussian.shape_from_covariance(sxx + added, sxy, syy + added)
    clear = np.ones((n, SIDE**2), bool)
    none = Neighbours(np.empty((n, 0, SIDE**2)), clear, clear)
    noise = Noise(gain=gain, read_variance=0.0, offset=0.0, correlation=correlation)
    fits = fit_profiles(boxes, noise, spots[:, 1:3], shape, none)
    forms = np.moveaxis(fits.forms, 1, 0)
    covariances = fits.covariances(forms)
    assert_pulls((fits.volume - gain * volume) / np.sqrt(covariances[0, 0]))
    np.testing.assert_allclose(fits.variances(forms), np.einsum("iin->in", covariances), rtol=1e-9)
    pulls = fits.unknowns - np.column_stack([np.full(n, gain * volume), gain * spots[:, 6:]])
    product, expected = pulls[:, 0] * pulls[:, 1], covariances[0, 1]
    assert abs(np.mean(product / expected) - 1) < WIDE_SIGMA * np.std(product / expected) / np.sqrt(n)
    chi2 = fits.reduced_chi2
    taken_up = 4 * (correlation - 1) / (SIDE**2 - 4)  # four unknowns take up as much as 4 correlations do
    assert abs(chi2.mean() - 1 + taken_up) < WIDE_SIGMA * chi2.std() / np.sqrt(n)
