"""The quick look: centroids within their stated variance, what stands out and what must not."""

import numpy as np
import pytest

from ed2d.noise import Noise
from ed2d.peaks import SYSTEMATIC, look
from stills import WIDE_SIGMA, drawn, image_of, many_spots, recorded

SHAPE = (400, 520)
PITCH, REACH, WIDTH = 36, 6, 2.0
DETECTORS = {"counted": (1.0, 0.0, 20.0), "camera": (5.0, 10.0, 100.0), "sparse": (1.0, 0.0, 0.5)}  # background, counts
CLEAR = 6.0  # significance that growth asks for


def field(random, *, volume, gain, read_noise, background, widths=(1.2, 2.4), off=3.0):
    """Counts (rows, columns) of spots on a square grid, each `off` px from its point at most; points and centres."""
    x, y = np.meshgrid(np.arange(PITCH, SHAPE[1] - 18, PITCH), np.arange(PITCH, SHAPE[0] - 18, PITCH))
    points = np.column_stack([x.ravel(), y.ravel()])
    spots = many_spots(len(points), random, volume=volume, background=0, widths=widths, centre=off)
    expected = np.full(SHAPE, float(background))
    for (px, py), square in zip(points, drawn(15, spots).reshape(-1, 31, 31), strict=True):
        expected[py - 15 : py + 16, px - 15 : px + 16] += square
    return recorded(expected, random, gain=gain, read_noise=read_noise), points, points + spots[:, 1:3]


def noise_of(gain, read_noise):
    return Noise(gain=gain, read_variance=read_noise**2, offset=0.0)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("strength", [15, 40, 300])
def test_centroids_within_their_variance(detector, strength):
    """Clear spots anywhere in reach are seen, and their centroids scatter no more than the variance says."""
    gain, read_noise, background = DETECTORS[detector]
    noise, random = noise_of(gain, read_noise), np.random.default_rng(strength)
    volume = strength * np.sqrt(noise.variance(background) * 4 * np.pi * WIDTH**2)
    deviations = []
    for _ in range(4):
        data, points, centres = field(random, volume=volume, gain=gain, read_noise=read_noise, background=background)
        peaks = look(image_of(data), points, noise, reach=REACH, width=WIDTH)
        assert np.mean(peaks.significance > CLEAR) > 0.95
        clear = peaks.significance > CLEAR
        deviations.append(((peaks.observed - centres) / np.sqrt(peaks.variance))[clear])
    deviation = np.concatenate(deviations).ravel()
    n = len(deviation)
    assert abs(deviation.mean()) < WIDE_SIGMA / np.sqrt(n)
    assert np.sqrt(np.mean(deviation**2)) < 1.1 + WIDE_SIGMA / np.sqrt(2 * n)
    assert np.all(peaks.variance >= SYSTEMATIC**2)


@pytest.mark.parametrize("detector", DETECTORS)
def test_noise_alone_is_rarely_clear(detector):
    """Without spots, the significance of what stands out most reaches that of a clear peak in few boxes."""
    gain, read_noise, background = DETECTORS[detector]
    random = np.random.default_rng(1)
    data, points, _ = field(random, volume=0, gain=gain, read_noise=read_noise, background=background)
    peaks = look(image_of(data), points, noise_of(gain, read_noise), reach=REACH, width=WIDTH)
    assert np.mean(peaks.significance > CLEAR) < 0.02 and np.isfinite(peaks.observed).all()


@pytest.mark.parametrize("detector", ["counted", "camera"])
@pytest.mark.parametrize("height", [300, 5000, 60000])
def test_a_pixel_alone_is_no_peak(detector, height):
    """A zinger of one pixel in an empty box is not clear; beside a spot it does not hide the spot."""
    gain, read_noise, background = DETECTORS[detector]
    random = np.random.default_rng(2)
    for volume in (0.0, 40 * np.sqrt(noise_of(gain, read_noise).variance(background) * 4 * np.pi * WIDTH**2)):
        data, points, centres = field(random, volume=volume, gain=gain, read_noise=read_noise, background=background)
        place = points + random.choice([-5, -4, 4, 5], points.shape)
        far = np.linalg.norm(place - centres, axis=1) > 5
        data[place[:, 1], place[:, 0]] += gain * height
        peaks = look(image_of(data), points, noise_of(gain, read_noise), reach=REACH, width=WIDTH)
        if not volume:
            assert np.mean(peaks.significance > CLEAR) < 0.02
        else:
            near = np.linalg.norm(peaks.observed - centres, axis=1) < 1.0
            assert np.mean(near[far]) > 0.98 and np.all(peaks.significance[far & near] > CLEAR)


def test_masked_places():
    """Under a mask there is no peak; whatever stands there, the same peaks; a spot beside the mask is still seen."""
    gain, read_noise, background = DETECTORS["counted"]
    noise, random = noise_of(gain, read_noise), np.random.default_rng(3)
    data, points, centres = field(random, volume=5000, gain=gain, read_noise=read_noise, background=background)
    y, x = np.indices(SHAPE)
    ignored = np.zeros(SHAPE, bool)
    whole, beside = points[::3], centres[1::3]
    for px, py in whole:
        ignored |= (np.abs(x - px) <= 14) & (np.abs(y - py) <= 14)
    for px, py in beside:
        ignored |= (np.abs(x - px - 9) <= 3) & (np.abs(y - py) <= 12)
    results = [
        look(image_of(np.where(ignored, value, data), ignored=ignored), points, noise, reach=REACH, width=WIDTH)
        for value in (0.0, np.nan, 1e9, -np.inf)
    ]
    for peaks in results[1:]:
        for name in ("observed", "variance", "significance"):
            np.testing.assert_array_equal(getattr(peaks, name), getattr(results[0], name))
    assert not results[0].significance[::3].any()
    for rows in (slice(1, None, 3), slice(2, None, 3)):
        assert np.all(results[0].significance[rows] > CLEAR)
        assert np.abs(results[0].observed - centres)[rows].max() < 1.0


def test_the_edge_of_the_image():
    """Points beyond and at the edge: never an error, and clear peaks only where spots are, hence on the image."""
    random = np.random.default_rng(4)
    expected = np.full((100, 130), 30.0)
    centres = np.array([[20, 20], [60, 24], [110, 20], [22, 50], [108, 52], [21, 80], [66, 79], [109, 80]])
    for x, y in centres:
        expected[y - 15 : y + 16, x - 15 : x + 16] += drawn(15, [[3e4, 0, 0, 2, 1.5, 30, 0, 0, 0]]).reshape(31, 31)
    image = image_of(recorded(expected[18:82, 18:112], random))
    x, y = np.meshgrid(np.arange(-40, 150, 7), np.arange(-40, 130, 7))
    points = np.column_stack([x.ravel(), y.ravel()])
    peaks = look(image, points, noise_of(1.0, 0.0), reach=REACH, width=WIDTH)
    assert np.isfinite(peaks.observed).all() and np.all(np.abs(peaks.observed - points) <= REACH + 5)
    clear = peaks.significance > 3 * CLEAR
    distance = np.linalg.norm(peaks.observed[clear][:, None] - (centres - 18)[None], axis=2)
    assert np.all(distance.min(axis=1) < 3) and len(set(distance.argmin(axis=1))) >= 6
    off = np.any((points < -10) | (points > [94 + 10, 64 + 10]), axis=1)
    assert not peaks.significance[off].any()


def test_gain_and_translation():
    """Counts times a factor with the noise of that gain, or an image moved by whole pixels: the same peaks."""
    random = np.random.default_rng(5)
    data, points, _ = field(random, volume=2000, gain=1.0, read_noise=0.0, background=20)
    one = look(image_of(data), points, noise_of(1.0, 0.0), reach=REACH, width=WIDTH)
    ten = look(image_of(10 * data), points, noise_of(10.0, 0.0), reach=REACH, width=WIDTH)
    moved = look(
        image_of(np.roll(data, (7, -5), (0, 1))), points + np.array([-5, 7]), noise_of(1.0, 0.0), reach=REACH, width=2.0
    )
    np.testing.assert_allclose(ten.observed, one.observed, atol=1e-6)
    np.testing.assert_allclose(ten.significance, one.significance, rtol=1e-6)
    inner = np.all((points > 40) & (points < np.array(SHAPE[::-1]) - 40), axis=1)
    np.testing.assert_allclose((moved.observed - [-5, 7])[inner], one.observed[inner], atol=1e-9)
