"""Backgrounds: robust means that do not bias Poisson counts, and the background between the spots."""

import numpy as np
import pytest

from ed2d.background import PATCH_HALF, clean, intercalated
from ed2d.boxes import cut, nearest_pixels
from ed2d.lattice import Lattice, predict
from ed2d.noise import Noise
from ed2d.profile import default
from stills import WIDE_SIGMA, assert_pulls, image_of, on_lattice, recorded

COUNTED = Noise(gain=1.0, read_variance=0.0, offset=0.0)
LATTICE = Lattice((201.3, 157.8), (24.1, 3.2), (-4.3, 25.9), 1e-7, -2e-7)
SHAPE = (330, 410)
ROUND = default(LATTICE.origin, SHAPE, 1.2, 9)
DENSE = Lattice(LATTICE.origin, (14.0, 1.0), (-0.7, 14.3))


def patterned(lattice, width, random, *, background, straying=0.0, gain=1.0):
    """Counts of round spots at all points of a lattice but the origin, of all volumes, on an even background."""
    h, k = np.mgrid[-60:61, -60:61]
    miller = np.column_stack([h.ravel(), k.ravel()])
    place = lattice.position(miller) + straying * random.normal(size=miller.shape)
    volume = random.exponential(3000, len(miller)) * np.any(miller, axis=1)
    down, across = (
        np.exp(-0.5 * ((np.arange(size) - place[:, [axis]]) / width) ** 2) for axis, size in ((1, 330), (0, 410))
    )
    expected = background + (down * (volume / (2 * np.pi * width**2))[:, None]).T @ across
    return recorded(expected, random, gain=gain)


@pytest.mark.parametrize("mean", [0.1, 0.3, 1.0, 3.0, 10.0, 100.0])
@pytest.mark.parametrize("gain", [1.0, 20.0])
def test_clean_does_not_bias_poisson_means(mean, gain):
    """The mean of the kept pixels is the Poisson mean within the statistical error of 300,000 pixels."""
    random = np.random.default_rng(round(100 * mean))
    values = gain * random.poisson(mean, (3000, 100))
    noise = Noise(gain=gain, read_variance=0.0, offset=0.0)
    kept = clean(values, np.ones(values.shape, bool), noise)
    found = np.sum(values * kept) / np.sum(kept) / gain
    assert found == pytest.approx(mean, abs=WIDE_SIGMA * np.sqrt(mean / values.size))
    assert np.mean(~kept) < 1e-4


@pytest.mark.parametrize("mean", [0.1, 1.0, 10.0, 100.0])
def test_clean_removes_zingers(mean):
    """Pixels far above are left out, all of them and nothing else; what was not chosen never comes back."""
    random = np.random.default_rng(1)
    values = random.poisson(mean, (300, 100)).astype(float)
    chosen = random.random(values.shape) < 0.7
    hit = random.random(values.shape) < 0.02
    values[hit] += 30 + 20 * np.sqrt(mean)
    kept = clean(values, chosen, COUNTED)
    assert not np.any(kept & (hit | ~chosen))
    assert np.mean(kept[chosen & ~hit]) > 0.9999
    values[~chosen] = 1e6
    np.testing.assert_array_equal(clean(values, chosen, COUNTED), kept)


def test_clean_of_nothing():
    """Rows without any chosen pixel stay empty, without a warning."""
    values = np.random.default_rng(2).poisson(5.0, (4, 30)).astype(float)
    assert not clean(values, np.zeros((4, 30), bool), COUNTED).any()


@pytest.mark.parametrize(("gain", "read_noise", "level"), [(1.0, 0.0, 0.3), (1.0, 0.0, 20.0), (5.0, 10.0, 100.0)])
def test_intercalated_background(gain, read_noise, level):
    """On a sloping background the mean of the four half-way points is that under the spot, errors included."""
    random = np.random.default_rng(3)
    y, x = np.indices(SHAPE)
    expected = level * (1 + 0.3 * (x - 205) / 205 - 0.2 * (y - 165) / 165)
    data = recorded(expected, random, gain=gain, read_noise=read_noise)
    data[random.random(SHAPE) < 2e-3] += 4000
    plain = Lattice(LATTICE.origin, LATTICE.a, LATTICE.b)
    miller = predict(plain, shape=SHAPE)
    inner = np.all(np.abs(plain.position(miller) - [205, 165]) < [155, 115], axis=1)
    noise = Noise(gain=gain, read_variance=read_noise**2, offset=0.0)
    mean, variance, number = intercalated(image_of(data), miller[inner], on_lattice(plain), noise, ROUND)
    place = plain.position(miller[inner])
    truth = level * (1 + 0.3 * (place[:, 0] - 205) / 205 - 0.2 * (place[:, 1] - 165) / 165)
    assert np.all(number == 4)
    assert mean.mean() == pytest.approx(truth.mean(), abs=WIDE_SIGMA * np.sqrt(variance.mean() / len(mean)))
    if level > 1:
        assert_pulls((mean - truth) / np.sqrt(variance), extra_width=0.05)


def test_patches_on_masks_and_off_the_image():
    """NBGINT counts the patches with 13 usable pixels or more; masked ones have no influence; none left gives NaN."""
    random = np.random.default_rng(4)
    data = random.poisson(20.0, SHAPE).astype(float)
    ignored = np.zeros(SHAPE, bool)
    ignored[100:220, 150:260] = True
    ignored |= random.random(SHAPE) < 0.2
    miller = predict(LATTICE, shape=SHAPE)
    made = (miller, on_lattice(LATTICE), COUNTED, ROUND)
    mean, variance, number = intercalated(image_of(data, ignored=ignored), *made)
    expected = np.zeros(len(miller), int)
    for step in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)):
        patch = cut(image_of(data, ignored=ignored), nearest_pixels(LATTICE.position(miller + step)), PATCH_HALF)
        expected += patch.usable.sum(axis=1) >= 13
    np.testing.assert_array_equal(number, expected)
    assert set(number) >= {0, 2, 4}
    np.testing.assert_array_equal(np.isnan(mean), number == 0)
    np.testing.assert_array_equal(np.isnan(variance), number == 0)
    wild = intercalated(image_of(np.where(ignored, 1e9, data), ignored=ignored), *made)
    for one, two in zip(wild, (mean, variance, number), strict=True):
        np.testing.assert_array_equal(one, two)
    assert variance[number == 1].mean() > 3 * variance[number == 4].mean()


@pytest.mark.parametrize(("width", "straying"), [(1.0, 0.0), (1.2, 0.0), (1.2, 0.15)])
@pytest.mark.parametrize(("background", "gain"), [(20.0, 1.0), (300.0, 5.0)])
def test_pulls_on_a_dense_lattice(width, straying, background, gain):
    """Among spots 14 px apart: mean 0 and width 1 about the true background, without the pixels that spots reach."""
    noise, pulls = Noise(gain=gain, read_variance=0.0, offset=0.0), []
    profile = default(DENSE.origin, SHAPE, width, 9)
    miller = predict(DENSE, shape=SHAPE)
    miller = miller[miller.sum(axis=1) % 2 == 0]  # no two of these share a patch
    for seed in range(4):
        random = np.random.default_rng(seed)
        image = image_of(patterned(DENSE, width, random, background=background, straying=straying, gain=gain))
        mean, variance, number = intercalated(image, miller, on_lattice(DENSE, straying), noise, profile)
        assert np.all(number[np.all(np.abs(DENSE.position(miller) - [205, 165]) < [180, 140], axis=1)] == 4)
        pulls.append((mean - background) / np.sqrt(variance))
    assert_pulls(np.concatenate(pulls))


@pytest.mark.parametrize(("spacing", "width", "straying"), [(9.0, 1.2, 0.0), (14.0, 1.6, 0.0), (14.0, 1.2, 1.0)])
def test_no_background_where_spots_reach_everywhere(spacing, width, straying):
    """Where spots, as wide as their places are uncertain, reach all patches: NaN, none of four, without a warning."""
    lattice = Lattice(LATTICE.origin, (spacing, 1.0), (-0.7, 1.02 * spacing))
    image = image_of(patterned(lattice, width, np.random.default_rng(0), background=20.0))
    miller, profile = predict(lattice, shape=SHAPE), default(lattice.origin, SHAPE, width, 9)
    mean, variance, number = intercalated(image, miller, on_lattice(lattice, straying), COUNTED, profile)
    assert np.isnan(mean).all() and np.isnan(variance).all() and not number.any()
