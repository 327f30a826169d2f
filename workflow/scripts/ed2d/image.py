"""Reading an image and the pixels that must not be used."""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .errors import InputError
from .maskshapes import bands, mark
from .tiff import read_page, read_tiff


@dataclass(frozen=True)
class Image:
    """One still; arrays (rows, columns), `data[y, x]` in counts, read-only, in the number type of the file.

    `ignored`: masked or non-finite pixels; `saturated`: counts at or above the saturation;
    `pages`: how many images the file holds (the first is this one).
    """

    data: np.ndarray
    ignored: np.ndarray
    saturated: np.ndarray
    pages: int = 1

    @cached_property
    def overloaded(self):
        """Saturated pixels that are not ignored, and all that touch one, bool (rows, columns).

        A pixel beside it is not saturated only where noise has made it low: sums of such pixels would be too small.
        """
        touched = None
        for band in bands(self.shape):
            rows, columns = np.nonzero(self.saturated[band] & ~self.ignored[band])
            if len(rows) and touched is None:
                touched = np.zeros(np.array(self.shape) + 2, bool)
            for down, across in np.ndindex(3, 3) if len(rows) else ():
                touched[rows + band.start + down, columns + across] = True
        return np.broadcast_to(False, self.shape) if touched is None else touched[1:-1, 1:-1]

    @property
    def usable(self):
        """Pixels that are neither ignored nor overloaded, bool (rows, columns)."""
        return self.usable_in(slice(None))

    def usable_in(self, rows):
        """`usable` of a slice of rows alone: what is worked on band by band takes little memory."""
        found = self.ignored[rows] | self.overloaded[rows]
        return np.logical_not(found, out=found)

    @property
    def shape(self):
        """(rows, columns)."""
        return self.data.shape


def read_image(path, *, mask_path=None, shapes=(), saturation=0.0):
    """The image of a TIFF file with its ignored and saturated pixels.

    `mask_path`: TIFF of the same shape and an integer type, 0 = ignore this pixel.
    `shapes`: ignored pixels as shapes of `ed2d.maskshapes`.
    `saturation`: counts; pixels at or above it are saturated. 0 stands for the largest value that the integer
    type of the file can hold (65535 for uint16, also where the camera has fewer bits), and none for float.
    InputError: what `read_tiff` refuses, a mask of another shape, and an image without two different usable values.
    """
    data, pages = read_tiff(path)
    if not 0 <= saturation < math.inf:
        raise InputError(path, f"Detector/Saturation is {saturation}", "give counts above 0, or 0 for the default")
    ignored = (
        _found(lambda pixels: ~np.isfinite(pixels), data) if data.dtype.kind == "f" else np.zeros(data.shape, bool)
    )
    if mask_path is not None:
        mask = _read_mask(mask_path, path, data.shape)
        for rows in bands(mask.shape):
            ignored[rows][mask[rows] == 0] = True
        del mask
    mark(shapes, ignored)
    image = Image(data, ignored, _saturated(data, saturation), pages)
    for array in (image.data, image.ignored, image.saturated):
        array.flags.writeable = False
    _check_content(path, image)
    return image


def _found(test, data):
    """Bool array: where test(pixels) is true; where none is for long it takes no memory."""
    found = np.zeros(data.shape, bool)
    for rows in bands(data.shape):
        hit = test(data[rows])
        if hit.any():
            found[rows][hit] = True
    return found


def _saturated(data, saturation):
    """Bool array: data >= saturation, compared exactly in the type of the data."""
    if data.dtype.kind == "f":
        return _found(lambda pixels: pixels >= saturation, data) if saturation > 0 else np.zeros(data.shape, bool)
    largest = int(np.iinfo(data.dtype).max)
    limit = math.ceil(saturation) if saturation > 0 else largest
    return _found(lambda pixels: pixels >= limit, data) if limit <= largest else np.zeros(data.shape, bool)


def _read_mask(mask_path, path, shape):
    """The pixels of a mask file for the image `path` of this shape; 0 = ignore."""

    def check(mask_path, page, pages, _):
        if page.shape != shape:
            problem = f"has {page.shape} rows and columns, but {Path(path).name} has {shape}"
            raise InputError(mask_path, problem, "make a mask of the image's shape")
        if page.dtype.kind == "f" or pages > 1:
            problem = f"holds {page.dtype} numbers" if pages == 1 else f"holds {pages} pages"
            raise InputError(mask_path, problem, "save the mask as one page of integers, 0 = ignore")

    return read_page(mask_path, check)[0]


def _check_content(path, image):
    """InputError unless the usable pixels have at least two different values."""
    first = None
    for rows in bands(image.shape):
        values = image.data[rows][image.usable_in(rows)]
        if len(values):
            first = values[0] if first is None else first
            if np.any(values != first):
                return
    if first is None:
        counts = f"{image.ignored.sum()} ignored, {image.saturated.sum()} saturated"
        raise InputError(path, f"no usable pixel is left ({counts})", "check the mask and Detector/Saturation")
    problem = f"all usable pixels have the value {first}"
    raise InputError(path, problem, "give the recorded image, or put a file named ignore into its directory")
