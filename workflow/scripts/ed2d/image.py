"""Reading an image and the pixels that must not be used."""

import logging
import math
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tifffile

from .errors import InputError
from .maskshapes import rasterise

MOST_PIXELS = 2**31
FEWEST_PIXELS = 16  # along each edge
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
GREY = (0, 1, 34892)  # PhotometricInterpretation: white is zero, black is zero, linear raw
REDUCED = 1  # bit of NewSubfileType (TIFF 6.0 section 8): a reduced-resolution version of another image


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
        rows, columns = np.nonzero(self.saturated & ~self.ignored)
        if not len(rows):
            return np.broadcast_to(False, self.shape)
        touched = np.zeros(np.array(self.shape) + 2, bool)
        for down, across in np.ndindex(3, 3):
            touched[rows + down, columns + across] = True
        return touched[1:-1, 1:-1]

    @property
    def usable(self):
        """Pixels that are neither ignored nor overloaded, bool (rows, columns)."""
        return ~(self.ignored | self.overloaded)

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
    ignored = ~np.isfinite(data) if data.dtype.kind == "f" else np.zeros(data.shape, bool)
    if mask_path is not None:
        ignored |= _read_mask(mask_path, path, data.shape)
    if shapes:
        ignored |= rasterise(shapes, data.shape)
    image = Image(data, ignored, _saturated(data, saturation), pages)
    for array in (image.data, image.ignored, image.saturated):
        array.flags.writeable = False
    _check_content(path, image)
    return image


def read_tiff(path):
    """The first image of a TIFF file and the number of images in it: (array (rows, columns), pages).

    The array has the number type of the file in native byte order; the first row of the file is row 0, tags of
    orientation or colour (white is zero) change nothing. Several pages must be alike in shape and type: a file
    that mixes an image with previews does not say which one was meant.
    InputError: no file, no TIFF, damaged, colour, an unusual number type, too small or too large.
    """
    path = Path(path)
    _check_file(path)
    try:
        with _quiet(), tifffile.TiffFile(path, is_ome=False) as tiff:  # OME metadata could open other files
            page, pages = _single_page(path, tiff)
            _check_storage(path, page, path.stat().st_size)
            array = page.asarray(maxworkers=1)  # one core a job: Snakemake counts them
    except InputError:
        raise
    except Exception as error:  # tifffile and its decoders raise nearly everything on damaged files
        raise InputError(path, f"cannot be read as a TIFF image ({_brief(error)})", "write the file again") from error
    if array.shape != page.shape:
        raise InputError(path, f"holds {array.shape} instead of {page.shape} pixels", "write the file again")
    return np.ascontiguousarray(array, array.dtype.newbyteorder("=")), pages


def _saturated(data, saturation):
    """Bool array: data >= saturation, compared exactly in the type of the data."""
    if data.dtype.kind == "f":
        return data >= saturation if saturation > 0 else np.zeros(data.shape, bool)
    largest = int(np.iinfo(data.dtype).max)
    limit = math.ceil(saturation) if saturation > 0 else largest
    return data >= limit if limit <= largest else np.zeros(data.shape, bool)


def _read_mask(mask_path, path, shape):
    """Ignored pixels (bool) of a mask file for the image `path` of this shape."""
    mask, pages = read_tiff(mask_path)
    if mask.shape != shape:
        problem = f"has {mask.shape} rows and columns, but {Path(path).name} has {shape}"
        raise InputError(mask_path, problem, "make a mask of the image's shape")
    if mask.dtype.kind == "f" or pages > 1:
        problem = f"holds {mask.dtype} numbers" if pages == 1 else f"holds {pages} pages"
        raise InputError(mask_path, problem, "save the mask as one page of integers, 0 = ignore")
    return mask == 0


def _check_content(path, image):
    """InputError unless the usable pixels have at least two different values."""
    usable = image.usable
    first = np.unravel_index(usable.argmax(), usable.shape)
    if not usable[first]:
        counts = f"{image.ignored.sum()} ignored, {image.saturated.sum()} saturated"
        raise InputError(path, f"no usable pixel is left ({counts})", "check the mask and Detector/Saturation")
    if not np.any((image.data != image.data[first]) & usable):
        problem = f"all usable pixels have the value {image.data[first]}"
        raise InputError(path, problem, "give the recorded image, or put a file named ignore into its directory")


def _check_file(path):
    """InputError unless the path is a file with something in it."""
    try:
        if path.is_dir():
            raise InputError(path, "is a directory", "give the TIFF file in it")
        if not path.exists():
            raise InputError(path, "does not exist", "check the name")
        if not path.is_file():
            raise InputError(path, "is not a regular file", "give a TIFF file")
        if path.stat().st_size == 0:
            raise InputError(path, "is empty", "copy the image again")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:  # InputError is a ValueError and passes through
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"cannot be opened ({_brief(error)})", "check the name and the permissions") from error


def _single_page(path, tiff):
    """The first page and the number of images, after the rules of `read_tiff` about kinds and sizes."""
    pages = list(tiff.pages)
    if not pages:
        raise InputError(path, "holds no image", "write the file again")
    first = pages[0]
    if any(page.subfiletype & REDUCED for page in pages) or len({_kind(page) for page in pages}) > 1:
        listed = ", ".join(sorted({f"{_size(page)} {page.dtype}" for page in pages})[:4])
        raise InputError(path, f"mixes images with previews or others ({listed})", "save the image alone, as one page")
    _check_kind(path, first)
    series = tiff.series  # some programs write a stack behind a single page's header
    stacked = series[0].size // first.size if len(series) == 1 and first.size else 1
    return first, max(len(pages), stacked)


def _kind(page):
    return page.shape, str(page.dtype), page.photometric, page.samplesperpixel


def _size(page):
    return "x".join(str(n) for n in page.shape)


def _check_kind(path, page):
    """InputError unless the page is a grey image of whole-byte numbers and of a reasonable size."""
    if page.samplesperpixel != 1 or page.photometric not in GREY:
        kind = getattr(page.photometric, "name", page.photometric)
        problem = f"is a colour image ({page.samplesperpixel} samples a pixel, {kind})"
        raise InputError(path, problem, "save it as grey values, not as RGB or palette")
    if str(page.dtype) not in DTYPES or page.bitspersample != 8 * page.dtype.itemsize:
        kind = f"{page.bitspersample} bits, {page.dtype}"
        raise InputError(path, f"has numbers of an unusual type ({kind})", f"save it as one of {', '.join(DTYPES)}")
    if len(page.shape) != 2:
        raise InputError(path, f"is a volume of {_size(page)}", "save one image of rows and columns")
    if min(page.shape) < FEWEST_PIXELS:
        raise InputError(path, f"has only {_size(page)} pixels", f"{FEWEST_PIXELS} each way is the least")
    if max(page.size, page.tilewidth * page.tilelength) > MOST_PIXELS:
        raise InputError(path, f"declares {_size(page)} pixels, too many to be true", "write the file again")


def _check_storage(path, page, file_size):
    """InputError unless every strip or tile that the page declares lies inside the file."""
    offsets, counts = page.dataoffsets, page.databytecounts
    wanted = math.prod(page.chunked)
    whole = len(offsets) == len(counts) >= wanted and all(
        0 < offset and 0 < count and offset + count <= file_size for offset, count in zip(offsets, counts, strict=True)
    )
    if whole and page.compression == 1:
        whole = sum(counts) >= page.size * page.dtype.itemsize
    if not whole:
        raise InputError(path, f"is cut short: {_size(page)} pixels are declared, not all are there", "copy it again")


@contextmanager
def _quiet():
    """Keeps tifffile's log and warnings off stderr: what matters is said by an InputError."""
    logger = logging.getLogger("tifffile")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def _brief(error):
    """Type and first words of a foreign exception."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
