"""Reading the first image of a TIFF file; hostile and damaged files refused before they take memory or time."""

import logging
import math
import re
import struct
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile

from .errors import InputError

MOST_PIXELS = 2**31
FEWEST_PIXELS = 16  # along each edge
DTYPES = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64")
GREY = (0, 1, 34892)  # PhotometricInterpretation: white is zero, black is zero, linear raw
STORAGE = (1, 5, 8, 32773, 32946, 34925, 50000)  # Compression: none, LZW, deflate, PackBits, deflate, LZMA, Zstandard
REDUCED = 1  # bit of NewSubfileType (TIFF 6.0 section 8): a reduced-resolution version of another image
MOST_INFLATED = 700  # times the size of the file; a still with an electron on every 300th 64-bit pixel packs to 1/550
HARMLESS = 2**28  # bytes; smaller images may be as empty as they like
MOST_SEGMENTS = 2**20  # strips or tiles
MOST_TAGS, MOST_TAGS_OF_PAGE = 100_000, 256  # of all pages, and of one
MOST_TAG_BYTES = 2**26  # of the values of all tags
SINGLE = (256, 257, 259, 262, 266, 277, 284, 317, 322, 323)  # tags of one number
METAMORPH = 33628  # UIC1, tag of a stack whose planes are not pages
HEADERS = {  # byte order, format of the number of tags, of an offset, and of a tag up to its value
    b"II*\0": ("<", "H", "I", "HHI"),
    b"MM\0*": (">", "H", "I", "HHI"),
    b"II+\0": ("<", "Q", "Q", "HHQ"),  # BigTIFF
    b"MM\0+": (">", "Q", "Q", "HHQ"),
}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
READ_AT_ONCE = 2**24  # bytes of compressed strips or tiles
PLAIN = {"is_ome": False, "is_lsm": False, "is_scanimage": False, "is_ndpi": False}  # tifffile would follow their pages


def read_tiff(path):
    """The first image of a TIFF file and the number of images in it: (array (rows, columns), pages).

    The array has the number type of the file in native byte order; the first row of the file is row 0, tags of
    orientation or colour (white is zero) change nothing. Several pages must be alike in shape and type: a file
    that mixes an image with previews does not say which one was meant.
    InputError: no file, no TIFF, damaged, colour, an unusual number type, too small or too large.
    """
    return read_page(path, _check_inflation)


def read_page(path, check):
    """As `read_tiff`; check(path, page, pages, size of the file, bytes), of a page that can be read, may refuse it."""
    path = Path(path)
    _check_file(path)
    try:
        _check_directory(path)
        with _quiet(), tifffile.TiffFile(path, **PLAIN) as tiff:
            page, pages = _single_page(path, tiff)
            size = path.stat().st_size
            _check_storage(path, page, size)
            check(path, page, max(pages, _stacked(page, size)), size)
            array, pages = _pixels(page), max(pages, _stacked(page, size))
    except InputError:
        raise
    except Exception as error:  # tifffile and its decoders raise nearly everything on damaged files
        raise InputError(path, f"cannot be read as a TIFF image ({_brief(error)})", "write the file again") from error
    if array.shape != page.shape:
        raise InputError(path, f"holds {array.shape} instead of {page.shape} pixels", "write the file again")
    return array, pages


def _pixels(page):
    """The pixels in native byte order; decoded by one core, as Snakemake counts cores."""
    if math.prod(page.chunked) == 1 and not page.is_tiled and not page.is_contiguous:
        ((strip, _, _),) = page.segments(maxworkers=1)  # asarray would copy it
        array = strip.reshape(strip.shape[1:3])
    else:
        array = page.asarray(maxworkers=1, buffersize=READ_AT_ONCE)
    if array.dtype.isnative:
        return np.ascontiguousarray(array)
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


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


def _check_directory(path):
    """InputError for directories of pages that have no end, or are larger than any image needs.

    tifffile would follow all of them and load their values.
    """
    with path.open("rb") as file:
        if (header := file.read(4)) not in HEADERS:
            raise InputError(path, f"is no TIFF file, it begins with {header!r}", "save the image as TIFF")
        order, number, offset, tag = HEADERS[header]
        entry = struct.Struct(f"{order}{tag}{struct.calcsize(offset)}x")
        file.seek(4 if offset == "I" else 8)
        seen, tags, size = set(), 0, 0
        while place := _next_number(file, order + offset):
            if place in seen:
                raise InputError(path, "the directories of its pages form a circle", "write the file again")
            seen.add(place)
            file.seek(place)
            count = _next_number(file, order + number)
            if count > MOST_TAGS_OF_PAGE or tags > MOST_TAGS:
                problem = f"page {len(seen)} has {count} tags, the pages before it {tags}"
                raise InputError(path, problem, "save the image alone, as one page")
            entries = file.read(count * entry.size)
            tags += count + 1
            for code, kind, values in entry.iter_unpack(entries[: len(entries) // entry.size * entry.size]):
                size += values * SIZES.get(kind, 1)
                if code in SINGLE and values != 1:
                    raise InputError(path, f"has {values} numbers in the tag {code}, not one", "write the file again")
                if size > MOST_TAG_BYTES or code == METAMORPH:
                    problem = "is a MetaMorph stack" if code == METAMORPH else "declares too many numbers in its tags"
                    raise InputError(path, problem, "save the image alone, as one page")


def _next_number(file, kind):
    """The next number of a file, 0 at its end."""
    data = file.read(struct.calcsize(kind))
    return struct.unpack(kind, data)[0] if len(data) == struct.calcsize(kind) else 0


def _single_page(path, tiff):
    """The first page and the number of pages, after the rules of `read_tiff` about kinds and sizes."""
    pages = list(tiff.pages)
    if not pages:
        raise InputError(path, "holds no image", "write the file again")
    first = pages[0]
    if any(page.subfiletype & REDUCED for page in pages) or len({_kind(page) for page in pages}) > 1:
        listed = ", ".join(sorted({f"{_size(page)} {page.dtype}" for page in pages})[:4])
        raise InputError(path, f"mixes images with previews or others ({listed})", "save the image alone, as one page")
    _check_kind(path, first)
    return first, len(pages)


def _stacked(page, size):
    """How many images stand behind one page's header, by what ImageJ and tifffile say in its description."""
    if page.description.startswith("ImageJ="):
        said = dict(re.findall(r"^(images|channels|slices|frames)=([0-9]{1,9})$", page.description, re.MULTILINE))
        number = math.prod(int(said.get(name, 1)) for name in ("channels", "slices", "frames"))
        number = number if number > 1 else int(said.get("images", 1))
    elif shape := re.match(r'{"shape": \[([0-9]{1,9}(?:, ?[0-9]{1,9})*)\]', page.description):
        number = math.prod(map(int, shape[1].split(","))) // page.size
    else:
        return 1
    return number if page.is_contiguous and page.dataoffsets[0] + number * page.nbytes <= size else 1


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
        kind = f"{str(page.bitspersample)[:40]} bits, {page.dtype}"
        raise InputError(path, f"has numbers of an unusual type ({kind})", f"save it as one of {', '.join(DTYPES)}")
    if page.compression not in STORAGE:
        kind = getattr(page.compression, "name", page.compression)
        raise InputError(path, f"is compressed as {kind}", "save it uncompressed, or with LZW, deflate or Zstandard")
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
    if wanted > MOST_SEGMENTS:
        raise InputError(path, f"is cut into {wanted} strips or tiles", "save it in larger ones, or uncompressed")
    whole = len(offsets) == len(counts) >= wanted and all(
        0 < offset and 0 < count and offset + count <= file_size for offset, count in zip(offsets, counts, strict=True)
    )
    if whole and page.compression == 1:
        whole = min(sum(counts), file_size) >= _unpacked(page)
    if not whole:
        raise InputError(path, f"is cut short: {_size(page)} pixels are declared, not all are there", "copy it again")


def _unpacked(page):
    """Bytes that all strips or tiles have when decoded."""
    pixels = math.prod(page.chunked) * math.prod(page.chunks) if page.is_tiled else page.size
    return pixels * page.dtype.itemsize


def _check_inflation(path, page, _, file_size):
    """InputError for a large image in a file too small to hold one."""
    if _unpacked(page) > max(HARMLESS, MOST_INFLATED * file_size):
        problem = f"declares {_size(page)} pixels of {page.dtype} in {file_size} bytes: nothing can be on it"
        raise InputError(path, problem, "give the recorded image")


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
