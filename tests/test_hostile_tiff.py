"""TIFF files made to do harm: each is read or refused in little memory and time, and no other file is opened."""

import os
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile

from ed2d.errors import InputError
from ed2d.image import read_image
from ed2d.tiff import read_tiff
from hostile import Tiff, grey, told

PIXELS = np.arange(800, dtype="<u2").tobytes()
BOMBS = {"deflate": (8, zlib.compress), "lzw": (5, imagecodecs.lzw_encode), "zstd": (50000, imagecodecs.zstd_encode)}


def shared_strips(path, codec, size, rows):
    """An image of zeros whose strips are all the same few bytes."""
    number, encode = BOMBS[codec]
    tiff = Tiff(encode(bytes(size * rows * 2)))
    strips = -(-size // rows)
    return tiff.write(
        path,
        tiff.page(grey(size, size, [tiff.at] * strips, [len(tiff.body)] * strips, compression=number, rows=rows)),
    )


@pytest.mark.parametrize("codec", BOMBS)
def test_bombs(tmp_path, codec):
    """A small file that declares a huge image, by strips that share their bytes, is refused before it is decoded."""
    paths = [shared_strips(tmp_path / f"{size}.tif", codec, size, rows) for size, rows in ((40000, 400), (16384, 256))]
    for path, outcome in told(paths, "tiff", "read_tiff").items():
        assert "nothing can be on it" in outcome, path


def small(path, *, data=PIXELS, order="<", big=False, tags=(), **keywords):
    """An image of 20 x 20 px with changed tags, or more of them."""
    tiff = Tiff(data, order=order, big=big)
    page = {tag[0]: tag for tag in grey(20, 20, tiff.at, len(data), **keywords)} | {tag[0]: tag for tag in tags}
    return tiff.write(path, tiff.page([page[code] for code in sorted(page)]))


ZEROS = zlib.compress(bytes(2**28), 9)
DEFLATE = {"data": zlib.compress(PIXELS), "compression": 8}
TILES = [(322, "I", 40000), (323, "I", 40000), (324, "I", 8), (325, "I", 1600)]
COMPANION = b"""<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">
<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="20" SizeY="20" SizeC="1" SizeZ="1" SizeT="2">
<TiffData IFD="0" FirstT="1"><UUID FileName="other.tif">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>\0"""
FILES = {  # what the message has, None where it may be read
    "more than declared": (None, {"data": ZEROS, "compression": 8}),
    "huge tiles": ("", {"tags": TILES}),
    "huge packed tiles": ("", DEFLATE | {"tags": [*TILES[:2], (324, "I", 8), (325, "I", len(DEFLATE["data"]))]}),
    "no tile size": ("", {"tags": [(322, "I", 0), (323, "I", 0), *TILES[2:]]}),
    "tiles of a pixel": ("", {"tags": [(322, "I", 1), (323, "I", 1), (256, "I", 20000), (257, "I", 20000)]}),
    "tag beyond the file": ("", {"tags": [(273, "I", 2**32 - 1, 8)]}),
    "tag of half a gigabyte": ("too many numbers", {"tags": [(270, "s", 2**29, 8)]}),
    "many widths": ("50 numbers in the tag 256", {"tags": [(256, "I", [20] * 50)]}),
    "many bits": (None, {"tags": [(258, "H", [16, 8] * 500)]}),
    "many tags": ("tags", {"tags": [(50000 + n, "H", 1) for n in range(300)]}),
    "offset below 0": ("", {"kind": "i", "tags": [(273, "i", -8)]}),
    "strips of nothing": ("cut short", {"tags": [(279, "I", 0)]}),
    "strip at 0": ("cut short", {"tags": [(273, "I", 0)]}),
    "offset beyond all": ("", {"big": True, "kind": "Q", "tags": [(273, "Q", 2**64 - 1)]}),
    "count beyond all": ("", {"big": True, "kind": "Q", "tags": [(279, "Q", 2**64 - 1)]}),
    "tag beyond all": ("too many numbers", {"big": True, "kind": "Q", "tags": [(273, "Q", 2**63, 8)]}),
    "preview in the file": (None, {"tags": [(330, "I", [8, 8, 8, 8])]}),
    "OME": (None, {"tags": [(270, "s", COMPANION)]}),
    "ImageJ": (None, {"tags": [(270, "s", b"ImageJ=1.11a\nimages=999999999\nslices=999999999\n\0")]}),
    "shaped": (None, {"tags": [(270, "s", b'{"shape": [999999999, 999999999, 20, 20]}\0')]}),
    "no shape": (None, {"tags": [(270, "s", b'{"shape": ["a", null]}\0')]}),
    "GDAL": (None, {"tags": [(42112, "s", b"<GDALMetadata/>\0"), (42113, "s", b"1e999\0")]}),
    "NDTiff": (None, {"tags": [(51123, "s", b"{}\0")]}),
    "MetaMorph": ("MetaMorph", {"tags": [(33628, "I", 2**20, 8), (33629, "I", 2**32 - 1, 8)]}),
    "LSM": (None, {"tags": [(34412, "s", b"\0" * 600)]}),
    "ScanImage": (None, {"tags": [(305, "s", b"SI.LINE_FORMAT_VERSION = 1\0"), (270, "s", b"state.config\0")]}),
    "big-endian BigTIFF": (None, {"order": ">", "big": True}),
    **{f"compression {n}": ("compressed as", {"compression": n}) for n in (2, 6, 7, 34712, 34887, 50001, 50002, 65000)},
}


def test_hostile_files(tmp_path):
    """Absurd sizes, counts, offsets and metadata are refused or without effect."""
    (tmp_path / "other.tif").write_bytes(b"")
    files = {str(small(tmp_path / f"{name}.tif", **keywords)): part for name, (part, keywords) in FILES.items()}
    for path, outcome in told(files, "tiff", "read_tiff").items():
        assert files[path] is None or (outcome != "read" and files[path] in outcome), (path, outcome)
        assert files[path] is not None or outcome == "read" or "cannot be read" in outcome, (path, outcome)


def test_chains_of_pages(tmp_path):
    """Directories in a circle, whatever its length, and a million of them are refused."""
    paths = []
    for length in (1, 2, 150):
        tiff = Tiff(PIXELS)
        tags = grey(20, 20, tiff.at, 800)
        size = 2 + 12 * len(tags) + 4
        for page in range(length):
            tiff.page(tags, following=tiff.at + 1600 + size * ((page + 1) % length))
        paths.append(tiff.write(tmp_path / f"circle{length}.tif", tiff.at + 1600))
    chain = Tiff()
    chain.put(b"".join(struct.pack("<HI", 0, 14 + 6 * n) for n in range(1_000_000)))
    paths.append(chain.write(tmp_path / "chain.tif", 8))
    outcomes = list(told(paths, "tiff", "read_tiff").values())
    assert all("form a circle" in outcome for outcome in outcomes[:3])
    assert "pages before it" in outcomes[3]


def test_pages_beyond_a_broken_link_are_none(tmp_path):
    """A directory behind the end of the file is no page."""
    tiff = Tiff(PIXELS)
    tiff.write(tmp_path / "a.tif", tiff.page(grey(20, 20, tiff.at, 800), following=2**31))
    array, pages = read_tiff(tmp_path / "a.tif")
    assert pages == 1 and array.tobytes() == PIXELS[:800]


@pytest.mark.parametrize(("codec", "dtype"), [("zlib", "uint16"), ("lzw", "uint16"), ("zstd", "float32")])
def test_sparse_and_blank_images_are_no_bombs(tmp_path, codec, dtype):
    """An electron on every 300th pixel of a large image, and one with a small content, are read."""
    random, size = np.random.default_rng(1), 12288 if dtype == "uint16" else 8704
    data = np.zeros((size, size), dtype)
    data.ravel()[random.integers(0, data.size, data.size // 300)] = 1
    keywords = {"compression": codec, "rowsperstrip": 512, "photometric": "minisblack", "metadata": None}
    tifffile.imwrite(tmp_path / "sparse.tif", data, **keywords)
    assert np.array_equal(read_tiff(tmp_path / "sparse.tif")[0], data)
    data[:] = 0
    data[5000:6024, 4000:5024] = random.poisson(3.0, (1024, 1024))
    tifffile.imwrite(tmp_path / "blank.tif", data, **keywords)
    assert np.array_equal(read_tiff(tmp_path / "blank.tif")[0], data)


def test_masks_pack_well(tmp_path):
    """A mask may pack to next to nothing: its image says that its size is right."""
    size = 12288
    image, mask = np.zeros((size, size), np.uint16), np.ones((size, size), np.uint16)
    image[:, :64] = np.random.default_rng(1).poisson(20.0, (size, 64))
    mask[5, 6] = 0
    for name, data in (("a", image), ("m", mask)):
        tifffile.imwrite(tmp_path / f"{name}.tif", data, compression="zlib", rowsperstrip=512, metadata=None)
    read = read_image(tmp_path / "a.tif", mask_path=tmp_path / "m.tif")
    assert np.array_equal(np.argwhere(read.ignored), [[5, 6]])
    with pytest.raises(InputError, match="nothing can be on it"):
        read_tiff(tmp_path / "m.tif")


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "circle"])
def test_no_files(tmp_path, kind):
    """A pipe, a device, a directory and a link to itself, in place of image or mask, are refused and not waited for."""
    tifffile.imwrite(tmp_path / "a.tif", np.arange(800, dtype=np.uint16).reshape(20, 40))
    path = tmp_path / "m.tif"
    {
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "directory": path.mkdir,
        "circle": lambda: path.symlink_to(path),
    }[kind]()
    told([path], "tiff", "read_tiff")
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "a.tif", mask_path=path)
    assert caught.value.file == str(path)
