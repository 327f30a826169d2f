import json
import os

import numpy as np
import pytest
import tifffile

from ed2d.errors import InputError
from ed2d.montage import montage, write_montage

SIDE = 5
MILLER = np.array([(-3, 2), (4, -1), (0, 0), (4, 2), (-1, -1)])


@pytest.fixture
def boxes():
    boxes = np.random.default_rng(1).normal(size=(len(MILLER), SIDE, SIDE)).astype(np.float32)
    boxes[1, 2, 3] = np.nan
    return boxes


def cut(image, geometry, h, k):
    step = geometry["side"] + geometry["gap"]
    x, y = (h - geometry["hmin"]) * step, (k - geometry["kmin"]) * step
    return image[y : y + geometry["side"], x : x + geometry["side"]]


def test_every_box_is_found_by_the_geometry(boxes):
    """Cut out again by the geometry, boxes are what they were, not transposed, and all else is NaN."""
    image, geometry = montage(boxes, MILLER)
    assert geometry == {"hmin": -3, "kmin": -1, "side": SIDE, "gap": 1, "columns": 8, "rows": 4}
    assert image.dtype == np.float32 and image.shape == (4 * 6 - 1, 8 * 6 - 1)
    for box, (h, k) in zip(boxes, MILLER, strict=True):
        np.testing.assert_array_equal(cut(image, geometry, h, k), box)
    assert np.isfinite(image).sum() == np.isfinite(boxes).sum()


def test_order_of_boxes_does_not_matter(boxes):
    """The montage depends on the set of boxes, not on their order."""
    one, other = montage(boxes, MILLER)[0], montage(boxes[::-1], MILLER[::-1])[0]
    np.testing.assert_array_equal(one, other)


def test_one_box():
    """A single box is the whole montage."""
    box = np.arange(25.0).reshape(1, 5, 5)
    image, geometry = montage(box, [(7, -9)])
    np.testing.assert_array_equal(image, box[0])
    assert (geometry["hmin"], geometry["kmin"], geometry["columns"], geometry["rows"]) == (7, -9, 1, 1)


def test_no_boxes_is_an_error():
    """Nothing to show is a mistake of the caller."""
    with pytest.raises(ValueError, match="no boxes"):
        montage(np.empty((0, 5, 5)), np.empty((0, 2), int))


def test_file(tmp_path, boxes):
    """The file is one plain little-endian float32 page, with title and geometry as JSON and nothing of the day."""
    path = tmp_path / "tmp_integrate1.tif"
    write_montage(path, boxes, MILLER, title="ABCö0000001")
    image, geometry = montage(boxes, MILLER)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 1 and tiff.byteorder == "<" and not tiff.is_bigtiff
        page = tiff.pages[0]
        assert (page.bitspersample, page.sampleformat, page.predictor) == (32, 3, 1)
        assert {"Software", "DateTime", "Artist", "HostComputer"}.isdisjoint(tag.name for tag in page.tags)
        np.testing.assert_array_equal(page.asarray(), image)
        assert json.loads(page.description) == {"title": "ABCö0000001", **geometry}
    assert os.listdir(tmp_path) == [path.name]


def test_equal_bytes(tmp_path, boxes):
    """Equal input gives equal bytes, under any name."""
    for name in ("a.tif", "b.tif"):
        write_montage(tmp_path / name, boxes, MILLER, title="x")
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_an_elongated_lattice_takes_little_room(tmp_path, boxes):
    """Where most lattice points have no box, the file stays small."""
    path = tmp_path / "long.tif"
    write_montage(path, boxes, MILLER * 60, title="x")
    assert montage(boxes, MILLER * 60)[0].nbytes > 1e7
    assert path.stat().st_size < 1e6


def test_unwritable(tmp_path, boxes):
    """A directory that is not there is an InputError, and no file appears."""
    with pytest.raises(InputError, match="cannot be written"):
        write_montage(tmp_path / "none" / "x.tif", boxes, MILLER, title="x")
    assert os.listdir(tmp_path) == []
