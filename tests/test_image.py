"""Reading TIFF files: what is accepted is read exactly, what is not gets one line that says why."""

import itertools
import logging
import os
import struct

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from ed2d.errors import InputError
from ed2d.image import Image, read_image
from ed2d.maskshapes import Circle
from ed2d.tiff import DTYPES, read_tiff

SHAPE = (37, 53)  # not square, not a multiple of any strip or tile


def example(dtype, shape=SHAPE, seed=1):
    """Random numbers over the whole range of a type, with its extremes."""
    random = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        data = random.normal(0, 1e4, shape).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        data = random.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
        data.flat[:2] = limits.min, limits.max
    return data


def same(array, expected):
    return array.dtype == expected.dtype and array.dtype.isnative and np.array_equal(array, expected)


def refusal(path):
    """The text of the InputError of a file, which must be one line that begins with its name."""
    with pytest.raises(InputError) as caught:
        read_tiff(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text


LAYOUTS = {
    "one strip": {},
    "strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 32)},
    "bigtiff": {"bigtiff": True},
    "white is zero": {"photometric": "miniswhite"},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_type_order_and_layout(tmp_path, dtype, byteorder, layout):
    """Every number type in both byte orders and every layout comes back exactly, in native order."""
    data = example(dtype)
    keywords = {"photometric": "minisblack", **LAYOUTS[layout]}
    tifffile.imwrite(tmp_path / "a.tif", data, byteorder=byteorder, **keywords)
    array, pages = read_tiff(tmp_path / "a.tif")
    assert same(array, data) and pages == 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
@pytest.mark.parametrize(
    ("compression", "predictor"), [("lzw", 2), ("deflate", True), ("zstd", None), ("packbits", None)]
)
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_compressions(tmp_path, dtype, compression, predictor, tile):
    """Compressed strips and tiles come back exactly."""
    data = example(dtype)
    predictor = None if np.dtype(dtype).kind == "f" and predictor == 2 else predictor
    tifffile.imwrite(tmp_path / "a.tif", data, compression=compression, predictor=predictor, tile=tile)
    assert same(read_tiff(tmp_path / "a.tif")[0], data)


def test_alike_pages_are_counted(tmp_path):
    """Of alike pages the first is the image, and the caller learns how many there are."""
    data = example("uint16", (4, *SHAPE))
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack")
    array, pages = read_tiff(tmp_path / "a.tif")
    assert same(array, data[0]) and pages == 4
    assert read_image(tmp_path / "a.tif").pages == 4


def test_stack_behind_one_header_is_counted(tmp_path):
    """A stack whose file declares only its first page counts all its images."""
    data = example("uint16", (3, *SHAPE))
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "b.tif", data, photometric="minisblack", metadata={"truncate": True})
    for name in ("a.tif", "b.tif"):
        array, pages = read_tiff(tmp_path / name)
        assert same(array, data[0]) and pages == 3


def write_pages(path, *pages):
    with tifffile.TiffWriter(path) as tiff:
        for data, keywords in pages:
            tiff.write(data, photometric="minisblack", metadata=None, **keywords)


def test_previews_are_refused(tmp_path):
    """A preview before or behind the image, by shape, type or by its tag, is refused."""
    full, small, other = example("uint16"), example("uint16", (20, 30)), example("uint8")
    write_pages(tmp_path / "a.tif", (small, {}), (full, {}))
    write_pages(tmp_path / "b.tif", (full, {}), (small, {"subfiletype": 1}))
    write_pages(tmp_path / "c.tif", (full, {}), (other, {}))
    write_pages(tmp_path / "d.tif", (full, {"subfiletype": 1}), (full, {}))
    for name in "abcd":
        assert "mixes images with previews" in refusal(tmp_path / f"{name}.tif")
    assert "20x30 uint16, 37x53 uint16" in refusal(tmp_path / "a.tif")


def test_colour_is_refused(tmp_path):
    """RGB, planar samples and palettes are not counts."""
    rgb = example("uint8", (*SHAPE, 3))
    tifffile.imwrite(tmp_path / "rgb.tif", rgb, photometric="rgb")
    tifffile.imwrite(tmp_path / "planar.tif", np.moveaxis(rgb, 2, 0), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(tmp_path / "two.tif", rgb[..., :2], photometric="minisblack", planarconfig="contig")
    palette = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", rgb[..., 0], photometric="palette", colormap=palette)
    for name in ("rgb", "planar", "two", "palette"):
        assert "is a colour image" in refusal(tmp_path / f"{name}.tif")


@pytest.mark.parametrize("dtype", ["complex64", "bool", "uint64", "int64", "float16"])
def test_unusual_numbers_are_refused(tmp_path, dtype):
    """Complex, one-bit, 64-bit integer and 16-bit float numbers are named and refused."""
    tifffile.imwrite(tmp_path / "a.tif", example("uint8").astype(dtype), photometric="minisblack")
    text = refusal(tmp_path / "a.tif")
    assert "numbers of an unusual type" in text and "uint16" in text


def test_small_images_are_refused(tmp_path):
    """Below 16 pixels along an edge there is nothing to measure."""
    tifffile.imwrite(tmp_path / "a.tif", example("uint16", (15, 100)), photometric="minisblack")
    assert "15x100" in refusal(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", example("uint16", (16, 16)), photometric="minisblack")
    assert read_tiff(tmp_path / "b.tif")[0].shape == (16, 16)


def test_not_a_file(tmp_path):
    """A missing file, a directory, an empty file, a pipe and an impossible name are told apart."""
    (tmp_path / "empty.tif").touch()
    os.mkfifo(tmp_path / "pipe.tif")
    assert "does not exist" in refusal(tmp_path / "none.tif")
    assert "is a directory" in refusal(tmp_path)
    assert "is empty" in refusal(tmp_path / "empty.tif")
    assert "not a regular file" in refusal(tmp_path / "pipe.tif")
    assert refusal(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    "content", [b"II", b"hello, world\n" * 99, b"\x89PNG\r\n\x1a\n" + bytes(99), b"II*\0" + bytes(99)]
)
def test_not_a_tiff(tmp_path, content):
    """Other content in a .tif file is refused."""
    (tmp_path / "a.tif").write_bytes(content)
    assert "TIFF" in refusal(tmp_path / "a.tif") or "holds no image" in refusal(tmp_path / "a.tif")


KEYWORDS = [{}, {"rowsperstrip": 5}, {"compression": "deflate", "rowsperstrip": 5}, {"tile": (16, 16)}]


@pytest.mark.parametrize("keywords", KEYWORDS)
def test_truncated_file_is_never_read(tmp_path, keywords, capfd):
    """A file cut off anywhere is refused, or (cut behind the pixels) read exactly; nothing reaches stderr."""
    data = example("uint16")
    tifffile.imwrite(tmp_path / "whole.tif", data, photometric="minisblack", **keywords)
    content = (tmp_path / "whole.tif").read_bytes()
    path = tmp_path / "cut.tif"
    for length in {*range(1, len(content), 97), len(content) - 1}:
        path.write_bytes(content[:length])
        assert str(path) in refusal(path)
    assert capfd.readouterr().err == ""


def test_damaged_bytes_never_raise_anything_else(tmp_path, capfd):
    """Random damage gives an array of the declared kind or an InputError, no other exception, no log."""
    random = np.random.default_rng(5)
    tifffile.imwrite(tmp_path / "whole.tif", example("uint16"), compression="deflate", rowsperstrip=9)
    content = np.frombuffer((tmp_path / "whole.tif").read_bytes(), np.uint8)
    outcomes = set()
    for header in itertools.islice(itertools.cycle([True, False]), 400):
        damaged = content.copy()
        reach = 300 if header else len(content)
        damaged[random.integers(0, reach, 3)] = random.integers(0, 256, 3)
        (tmp_path / "a.tif").write_bytes(damaged.tobytes())
        try:
            outcomes.add(read_tiff(tmp_path / "a.tif")[0].ndim)
        except InputError:
            outcomes.add("refused")
    assert outcomes == {2, "refused"}
    assert capfd.readouterr().err == ""
    assert not logging.getLogger("tifffile").disabled


def hostile_tiff(width, length, count, offset=200, bits=16):
    """The bytes of a classic TIFF with one uncompressed uint16 strip, its sizes as given."""
    tags = [(256, 4, width), (257, 4, length), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, offset)]
    tags += [(277, 3, 1), (278, 4, length), (279, 4, count)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4 + 2000)


def test_hostile_sizes_are_refused_before_allocation(tmp_path):
    """Declared sizes beyond 2^31 pixels or beyond the file are refused, and so are zero sizes."""
    cases = {
        "too many": hostile_tiff(100_000, 100_000, 1000),
        "overflow": hostile_tiff(2**32 - 1, 2**32 - 1, 1000),
        "cut short": hostile_tiff(30_000, 30_000, 1000),
        "cut short ": hostile_tiff(30_000, 30_000, 1_800_000_000),
        "cut short  ": hostile_tiff(20, 20, 800, offset=1_000_000),
        "0x20": hostile_tiff(20, 0, 800),
        "20x0": hostile_tiff(0, 20, 800),
    }
    for name, content in cases.items():
        (tmp_path / "a.tif").write_bytes(content)
        text = refusal(tmp_path / "a.tif")
        assert name.strip() in text or name == "overflow", text
    (tmp_path / "a.tif").write_bytes(hostile_tiff(20, 20, 800))
    assert read_tiff(tmp_path / "a.tif")[0].shape == (20, 20)


def test_packed_numbers_are_refused(tmp_path):
    """12 bits a pixel are refused: they would be read as uint16 with a wrong saturation."""
    (tmp_path / "a.tif").write_bytes(hostile_tiff(20, 20, 800, bits=12))
    assert "12 bits, uint16" in refusal(tmp_path / "a.tif")


def write(path, data, **keywords):
    tifffile.imwrite(path, data, photometric="minisblack", **keywords)
    return path


def test_mask_file_and_shapes_are_joined(tmp_path):
    """Zero pixels of the mask file and pixels of the shapes are ignored, everything else is usable."""
    image = write(tmp_path / "a.tif", example("uint16") // 2)
    mask = example("uint8", seed=2) % 2
    read = read_image(image, mask_path=write(tmp_path / "m.tif", mask), shapes=(Circle((20.0, 10.0), 3.0),))
    y, x = np.indices(SHAPE)
    expected = (mask == 0) | (np.hypot(x - 20, y - 10) <= 3)
    assert np.array_equal(read.ignored, expected) and np.array_equal(read.usable, ~expected)
    assert read.shape == SHAPE and not read.saturated.any()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32"])
def test_mask_of_any_integer_type(tmp_path, dtype):
    """Only 0 ignores a pixel, whatever the integer type; negative numbers do not."""
    mask = example(dtype) % 3
    mask[1, 1] = -1 if np.dtype(dtype).kind == "i" else 7
    image = write(tmp_path / "a.tif", example("uint16"))
    assert np.array_equal(read_image(image, mask_path=write(tmp_path / "m.tif", mask)).ignored, mask == 0)


def test_bad_masks_are_refused(tmp_path):
    """A mask of another shape is refused with both shapes; float or several pages with what they are."""
    image = write(tmp_path / "a.tif", example("uint16"))
    other = write(tmp_path / "m.tif", np.ones((53, 37), np.uint8))
    with pytest.raises(InputError, match=r"m\.tif: has \(53, 37\) .* a\.tif has \(37, 53\)"):
        read_image(image, mask_path=other)
    with pytest.raises(InputError, match="holds float32"):
        read_image(image, mask_path=write(tmp_path / "f.tif", np.ones(SHAPE, np.float32)))
    with pytest.raises(InputError, match="holds 2 pages"):
        read_image(image, mask_path=write(tmp_path / "p.tif", np.ones((2, *SHAPE), np.uint8)))
    with pytest.raises(InputError, match="does not exist"):
        read_image(image, mask_path=tmp_path / "none.tif")


def test_non_finite_pixels_are_ignored(tmp_path):
    """NaN and infinite pixels are ignored, and none of a float image is saturated by default."""
    data = example("float32")
    data[3, 4:7] = np.nan, np.inf, -np.inf
    read = read_image(write(tmp_path / "a.tif", data))
    assert np.array_equal(np.argwhere(read.ignored), [[3, 4], [3, 5], [3, 6]]) and not read.saturated.any()
    assert np.array_equal(read_image(tmp_path / "a.tif", saturation=5000.0).saturated, data >= 5000)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32"])
def test_saturation_default_is_the_largest_integer(tmp_path, dtype):
    """Without a given saturation the largest value of the type is saturated, one less is not."""
    data = example(dtype)
    data[0, :3] = np.iinfo(dtype).max, np.iinfo(dtype).max - 1, 0
    assert np.array_equal(read_image(write(tmp_path / "a.tif", data)).saturated, data == np.iinfo(dtype).max)


@pytest.mark.parametrize("saturation", [1000.0, 1000.5, 65535, 65535.5, 1e9])
def test_given_saturation(tmp_path, saturation):
    """Pixels at or above the given counts are saturated, compared exactly."""
    data = example("uint16") % 900
    data[::7, ::5] = example("uint16", seed=2)[::7, ::5]
    data[0, :3] = 999, 1000, 1001
    read = read_image(write(tmp_path / "a.tif", data), saturation=saturation)
    assert np.array_equal(read.saturated, data.astype(float) >= saturation)


@pytest.mark.parametrize("saturation", [-1.0, np.nan, np.inf])
def test_senseless_saturation_is_refused(tmp_path, saturation):
    """A negative or non-finite saturation is a mistake."""
    with pytest.raises(InputError, match="Detector/Saturation"):
        read_image(write(tmp_path / "a.tif", example("uint16")), saturation=saturation)


@pytest.mark.parametrize("share", [0.0, 0.003, 0.03, 0.3])
def test_overloaded_pixels(share):
    """Saturated pixels and their eight neighbours, by dilation; ignored ones, saturated or not, overload nothing."""
    random = np.random.default_rng(5)
    saturated, ignored = random.random(SHAPE) < share, random.random(SHAPE) < 0.2
    saturated[0, 0] = saturated[-1, 7] = saturated[11, -1] = share > 0
    image = Image(example("float32"), ignored, saturated)
    expected = ndimage.binary_dilation(saturated & ~ignored, np.ones((3, 3)))
    np.testing.assert_array_equal(image.overloaded, expected)
    np.testing.assert_array_equal(image.usable, ~expected & ~ignored)
    assert expected.any() == (share > 0)
    hidden = Image(image.data, ignored | saturated, saturated)
    assert not hidden.overloaded.any()
    np.testing.assert_array_equal(hidden.usable, ~hidden.ignored)


def test_pixels_beside_saturated_ones_are_no_content(tmp_path):
    """An image whose pixels are saturated or touch such a pixel has none that is usable."""
    data = example("uint16") % 900
    data[1::3, 1::3] = 65535
    data[:, -1] = data[-1] = 65535
    with pytest.raises(InputError, match="no usable pixel is left"):
        read_image(write(tmp_path / "a.tif", data))
    data[1, 1] = 0
    read = read_image(write(tmp_path / "b.tif", data))
    assert np.array_equal(np.argwhere(read.usable), [[y, x] for y in range(3) for x in range(3)])


def test_images_without_content_are_refused(tmp_path):
    """An image of one value among its usable pixels, or without usable pixels, is refused."""
    flat = np.zeros(SHAPE, np.uint16)
    with pytest.raises(InputError, match="all usable pixels have the value 0"):
        read_image(write(tmp_path / "a.tif", flat))
    flat[5, 5] = 65535
    with pytest.raises(InputError, match="all usable pixels have the value 0"):
        read_image(write(tmp_path / "b.tif", flat))
    with pytest.raises(InputError, match="no usable pixel is left"):
        read_image(tmp_path / "b.tif", shapes=(Circle((0.0, 0.0), 100.0),))
    bright = np.arange(7, 7 + flat.size, dtype=np.uint16).reshape(SHAPE)
    with pytest.raises(InputError, match="1961 saturated"):
        read_image(write(tmp_path / "c.tif", bright), saturation=7)


def test_arrays_are_read_only(tmp_path):
    """Nobody downstream can change the image by accident."""
    read = read_image(write(tmp_path / "a.tif", example("uint16")))
    assert isinstance(read, Image)
    for array in (read.data, read.ignored, read.saturated):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
