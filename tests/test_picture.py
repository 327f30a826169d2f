"""The small picture of an image: what the eye is to see."""

import numpy as np
import pytest

from ed2d.picture import log_picture
from stills import image_of


def sloping(shape=(600, 500), seed=3, depth=400.0):
    """Counts on a background that falls by a factor of 40 from the middle, with weak spots; their places (x, y)."""
    y, x = np.indices(shape)
    radius = np.hypot(x - 260, y - 290)
    expected = 10 + depth * np.exp(-radius / 60)
    places = [(300, 300), (330, 250), (200, 290), (400, 420), (90, 500), (120, 60)]
    for px, py in places:
        expected += 1.2 * np.sqrt(expected[py, px]) * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)
    return np.random.default_rng(seed).poisson(expected).astype(float), places


def test_weak_spots_are_seen_wherever_they_are():
    """On the bright slope as on the dark outside: brighter than nearly all of their neighbourhood."""
    data, places = sloping()
    picture, factor = log_picture(image_of(data), longest=300)
    assert factor == 2 and picture.shape == (300, 250) and picture.dtype == np.uint8
    for x, y in places:
        x, y = x // factor, y // factor
        around = picture[max(y - 15, 0) : y + 16, max(x - 15, 0) : x + 16]
        assert picture[y - 1 : y + 2, x - 1 : x + 2].max() >= np.percentile(around, 97), (x, y)


@pytest.mark.parametrize("shape, longest", [((600, 500), 1024), ((600, 500), 599), ((601, 37), 100), ((1, 5), 2)])
def test_the_longer_side_is_within_the_limit(shape, longest):
    """By a whole factor, and no pixel is lost."""
    picture, factor = log_picture(image_of(np.arange(shape[0] * shape[1]).reshape(shape) % 17), longest=longest)
    assert max(picture.shape) <= longest and picture.shape == tuple(-(-size // factor) for size in shape)
    assert factor == 1 or max(shape) > longest


def test_ignored_pixels_are_black_and_have_no_say():
    """Whatever their counts are; blocks with one usable pixel are seen."""
    data, _ = sloping()
    ignored = np.zeros(data.shape, bool)
    ignored[:, 240:280] = True
    pictures = [
        log_picture(image_of(np.where(ignored, value, data), ignored=ignored), longest=300)[0] for value in (0, 6e4)
    ]
    np.testing.assert_array_equal(*pictures)
    assert (pictures[0][:, 120:140] == 0).all() and (np.delete(pictures[0], np.s_[120:140], axis=1) > 0).all()
    assert not log_picture(image_of(data, ignored=True))[0].any()


def test_camera_and_orientation_do_not_matter():
    """Another gain or pedestal gives the same picture, but for rounding, and so does a transposed image."""
    data, _ = sloping()
    picture, _ = log_picture(image_of(data), longest=300)
    for other in (
        log_picture(image_of(7 * data + 100), longest=300)[0],
        log_picture(image_of(data.T), longest=300)[0].T,
    ):
        assert np.abs(picture.astype(int) - other).max() <= 1


def test_a_picture_of_nothing_is_no_error():
    assert log_picture(image_of(np.full((20, 30), 5.0)))[0].shape == (20, 30)
