"""Damaged files, hundreds of each kind: read, written, or refused in one line; with ED2D_FUZZ=N, N others at random."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ed2d.emdatainfo import Document, group_element, refined_lattice, replace_group, verified_lattice
from ed2d.errors import InputError
from ed2d.mtz import read_mtz, write_mtz
from ed2d.parameters import describe, effective_parameters, unknown_items, unused_groups
from ed2d.tiff import DTYPES, read_tiff
from emdatafiles import EXTRACT, LATTICE, lattice_xml
from runs import CHECKOUT
from test_mtz import make_header, make_table
from test_xmlbytes import outside

CONFIG = yaml.safe_load((CHECKOUT / "config/config.yaml").read_text())
RESULT = group_element("DiffExtract", {"Spots": 12, "Note": "a < b & c"})
EXAMPLES = os.environ.get("ED2D_FUZZ")


def fuzzed(examples):
    """Settings of a test that takes some seconds, always the same; or as many examples as the user asks for."""
    return settings(
        max_examples=int(EXAMPLES or examples),
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def damages(pieces, near):
    """Strategy of functions that damage bytes: here and there some are removed and others put in their place.

    pieces: strategy of what is put in; near: places from the start that are hit more often.
    """
    place = st.integers(0, near).map(lambda place: lambda size: min(place, size))
    place |= st.integers(0, 2**16).map(lambda share: lambda size: size * share // 2**16)
    edits = st.lists(
        st.tuples(place, st.sampled_from([0, 0, 1, 2, 4, 8, 12, 40, None]), pieces), min_size=1, max_size=5
    )

    def damaged(edits):
        def damage(data):
            for where, length, piece in edits:
                start = where(len(data))
                data = data[:start] + piece + data[start + (len(piece) if length is None else length) :]
            return data

        return damage

    return edits.map(damaged)


NUMBERS = [0, 1, 2, 3, 8, 15, 16, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1]
BINARY = st.binary(max_size=4) | st.builds(
    lambda kind, value: struct.pack(kind, value % 2 ** (8 * struct.calcsize(kind))),
    st.sampled_from(["<H", ">H", "<I", ">I", "<Q", ">Q"]),
    st.sampled_from(NUMBERS),
)


def refused(path, error, *others):
    """Asserts that the InputError is one short line that begins with the file, or another of its names."""
    text = str(error)
    assert text.startswith(tuple(f"{name}: " for name in (path, *others))), text
    assert len(text.splitlines()) == 1 and len(text) < len(str(path)) + 500, text


# ---- images

KINDS = {
    "strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 32)},
    "deflate": {"compression": "zlib", "rowsperstrip": 9, "predictor": True},
    "LZW": {"compression": "lzw", "tile": (16, 16)},
    "one strip": {"compression": "zstd"},
    "BigTIFF": {"bigtiff": True, "byteorder": ">", "rowsperstrip": 7},
    "big-endian": {"byteorder": ">"},
    "ImageJ": {"imagej": True},
}


def stored(kind, dtype, pages):
    """The bytes of a TIFF file."""
    random, stream, keywords = np.random.default_rng(1), io.BytesIO(), KINDS[kind]
    data = (200 * random.random((pages, 37, 53))).astype(dtype)
    photometric = {} if kind == "ImageJ" else {"photometric": "minisblack"}
    tifffile.imwrite(stream, data if pages > 1 else data[0], **keywords, **photometric)
    return stream.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_images(tmp_path, capfd, kind):
    """A TIFF file damaged anywhere gives an image of a kind that is accepted, or is refused."""
    wholes = {(dtype, pages): stored(kind, dtype, pages) for dtype in ("uint16", "float32") for pages in (1, 3)}
    path, outcomes = tmp_path / "a.tif", set()

    @fuzzed(250)
    @given(st.sampled_from(sorted(wholes)), damages(BINARY, 420))
    def read(which, damage):
        path.write_bytes(damage(wholes[which]))
        try:
            array, pages = read_tiff(path)
        except InputError as error:
            refused(path, error)
            outcomes.add("refused")
        else:
            assert array.ndim == 2 and min(array.shape) >= 16 and str(array.dtype) in DTYPES and pages >= 1
            assert array.dtype.isnative and array.flags.c_contiguous
            outcomes.add("read")

    read()
    assert outcomes == {"read", "refused"} and capfd.readouterr() == ("", "")
    assert os.listdir(tmp_path) == ["a.tif"]


# ---- documents

PIECES = """<!-- --> <![CDATA[ ]]> <? ?> <?xml&#32;version='1.1'?> <DiffExtract> </DiffExtract> <DiffExtract/> > /> <a/>
    <DiffProcessingResults> </DiffProcessingResults> <EMDataInfo> </EMDataInfo> &amp; &x; &#10; &#xFFFE; ' " xmlns='u'
    xmlns:a='b' a: value='1' type='int' type='vector' encoding='utf-16' encoding='latin-1' 1e300 -1e309 nan 0 -1 1_0
    <!DOCTYPE&#32;EMDataInfo&#32;[ ]> <!ENTITY&#32;x&#32;'y'> <!ATTLIST&#32;a&#32;b&#32;CDATA&#32;'c'>
    <Mask><Circle/></Mask>""".split()
PIECES = [piece.replace("&#32;", " ").encode() for piece in PIECES]
PIECES += [b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc2\x85", b"\xe2\x80\xa8"]
POINTS = "".join(f'<Node><x value="{x}"/><y value="{y}"/></Node>' for x, y in [(0, 0), (10.5, 0), (3, "1e1")])
INFO = f"""<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE EMDataInfo>
<EMDataInfo>
 <!-- checked by eye: é -->
 <DiffProcessing>
  <LatticeExtract><MinRadius value="3.5"/><MaxRadius value="100" type="float"/></LatticeExtract>
  <UnitCell><A value="60"/><B value="60"/><Gamma value="120"/></UnitCell>
  <Mask><Polygon>{POINTS}</Polygon><Invert><Extent><Start><x value="5"/><y value="6"/></Start><End><x value="1"/>
   <y value="2"/></End></Extent></Invert></Mask>
 </DiffProcessing>
 <DiffProcessingResults>
  {lattice_xml(LATTICE)}
  <DiffExtract>{lattice_xml(LATTICE, "RefinedLattice", VerifiedDigest=LATTICE.digest())}</DiffExtract>
 </DiffProcessingResults>
</EMDataInfo>
"""
PROJECT = """<EMDataInfo>
 <DiffProcessing>
  <ImageMask value="SIM[0-9]{7}"/>
  <LatticeExtract><BoxSize value="6" type="int"/><BoxGrowAmount value="1" type="int"/></LatticeExtract>
  <Detector><Gain value="5.0" type="float"/><ReadNoise value="10.0"/><Saturation value="60000.0"/></Detector>
  <Integrate><ApplyErrorModel value="true" type="bool"/></Integrate>
 </DiffProcessing>
</EMDataInfo>
"""
WRITTEN = {
    "UTF-8": INFO.encode(),
    "CR LF and BOM": b"\xef\xbb\xbf" + INFO.replace("\n", "\r\n").encode(),
    "UTF-16": INFO.replace("utf-8", "utf-16").encode("utf-16"),
    "Latin-1": INFO.replace("utf-8", "iso-8859-1").encode("latin-1"),
    "empty": b"<EMDataInfo/>",
}
DAMAGES = damages(st.sampled_from(PIECES) | st.sampled_from(PIECES) | BINARY, 80)


def outside_is_kept(before, after):
    """Asserts that two files differ only where a group was put in, or at one that was there."""
    lost, _ = outside(before, after)
    assert lost.replace(b"\0", b"").strip() in (b"", b"/") or b"<DiffExtract" in before.replace(b"\0", b""), lost


@pytest.mark.parametrize("encoding", WRITTEN)
def test_damaged_info(tmp_path, capfd, encoding):
    """A damaged info.xml gives parameters and lattices or is refused; a group goes into it, or not a byte changes."""
    project, path, outcomes = tmp_path / "project.xml", tmp_path / "info.xml", set()
    project.write_text(PROJECT)

    @fuzzed(250)
    @given(DAMAGES)
    def read_and_write(damage):
        before = damage(WRITTEN[encoding])
        path.write_bytes(before)
        try:
            used(path, path, project)
        except InputError as error:
            refused(path, error)
        try:
            replace_group(path, EXTRACT, RESULT)
        except InputError as error:
            refused(path, error)
            assert path.read_bytes() == before
            outcomes.add("refused")
        else:
            after = path.read_bytes()
            outside_is_kept(before, after)
            assert Document.read(path).required(f"{EXTRACT}/Spots", "int") == 12
            replace_group(path, EXTRACT, RESULT)
            assert path.read_bytes() == after
            outcomes.add("written")

    read_and_write()
    assert outcomes == {"written", "refused"} and capfd.readouterr() == ("", "")
    assert sorted(os.listdir(tmp_path)) == ["info.xml", "project.xml"]


def used(path, info, project):
    """Takes from the two files all that the steps take, and `path` is the damaged one."""
    documents = Document.read(info), Document.read(project)
    damaged = documents[info != path]
    assert all(len(name.splitlines()) == 1 for name in [*unknown_items(damaged), *unused_groups(damaged), "one"])
    describe(effective_parameters(*documents, CONFIG), "integrate")
    verified = verified_lattice(documents[0])
    return refined_lattice(documents[0], verified) if verified else None


def test_damaged_project(tmp_path, capfd):
    """A damaged project.xml gives parameters, or is refused."""
    info, path, outcomes = tmp_path / "info.xml", tmp_path / "project.xml", set()
    info.write_text(INFO)

    @fuzzed(400)
    @given(DAMAGES)
    def read(damage):
        path.write_bytes(damage(PROJECT.encode()))
        try:
            used(path, info, path)
            outcomes.add("read")
        except InputError as error:
            refused(path, error, "config")
            outcomes.add("refused")

    read()
    assert outcomes == {"read", "refused"} and capfd.readouterr() == ("", "")


# ---- reflection files


@pytest.mark.parametrize("step", ["extract", "integrate"])
def test_damaged_reflections(tmp_path, capfd, step):
    """A damaged reflection file gives rows of the right type with whole indices, or is refused."""
    path, outcomes = tmp_path / "a.mtz", set()
    write_mtz(path, make_table(step, np.random.default_rng(3)), make_header(step))
    whole, (expected, _) = path.read_bytes(), read_mtz(path)
    text = whole.index(b"VERS MTZ")

    @fuzzed(400)
    @given(st.sampled_from([0, text]), damages(BINARY | st.sampled_from([b"1", b"-", b"e", b'"', b"]", b"9" * 9]), 900))
    def read(start, damage):
        path.write_bytes(whole[:start] + damage(whole[start:]))
        try:
            table, header = read_mtz(path)
        except InputError as error:
            refused(path, error)
            outcomes.add("refused")
        else:
            assert table.dtype == expected.dtype and header.step == step and len(table)
            assert np.isfinite(header.lattice.position(np.column_stack([table["H"], table["K"]]))).all()
            outcomes.add("read")

    read()
    assert outcomes == {"read", "refused"} and capfd.readouterr() == ("", "")
    assert Path(path).exists()
