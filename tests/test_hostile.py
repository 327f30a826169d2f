"""XML, masks and reflection files made to do harm: each is refused in little memory and time."""

import os
import struct
import threading
import time

import numpy as np
import pytest
import tifffile

from ed2d.emdatainfo import Document
from ed2d.errors import InputError
from ed2d.maskshapes import MOST_NODES, MOST_SHAPES, Circle, Composite, Extent, Invert, Polygon, rasterise, read_shapes
from ed2d.mtz import read_mtz, write_mtz
from ed2d.tiff import read_tiff
from emdatafiles import refusal, write
from hostile import told
from test_mtz import make_header, make_table

MB = 2**20
OPEN, CLOSE = "<EMDataInfo>", "</EMDataInfo>"
DOCTYPE = "<!DOCTYPE EMDataInfo"


def grown(name, depth):
    """Entities each of which is ten of the one before."""
    pairs = zip("abcdefghi"[:depth], "bcdefghij", strict=False)
    return f"<!ENTITY {name} 'ha'>" + "".join(f"<!ENTITY {y} '{f'&{x};' * 10}'>" for x, y in pairs)


XML = {  # what the message has
    "entities of entities": (f"{DOCTYPE} [{grown('a', 9)}]>{OPEN}&j;{CLOSE}", "entity 'a'"),
    "external entity": (f"{DOCTYPE} [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>{OPEN}&x;{CLOSE}", "entity 'x'"),
    "parameter entity": (f"{DOCTYPE} [<!ENTITY % p SYSTEM 'file:///etc/passwd'>%p;]>{OPEN}{CLOSE}", "entity 'p'"),
    "large default value": (
        f"{DOCTYPE} [<!ATTLIST a b CDATA '{'x' * MB}'>]>{OPEN}{'<a/>' * 500_000}{CLOSE}",
        "the attribute 'b'",
    ),
    "nested declaration": (f"{DOCTYPE} [<!ELEMENT a {'(' * MB}b{')' * MB}>]>{OPEN}{CLOSE}", "too deep"),
    "nested elements": (OPEN + "<a>" * 4 * MB, "64 deep"),
    "many elements": (OPEN + "<a/>" * 3 * MB + CLOSE, "more than 100000"),
    "many comments": (OPEN + "<!---->" * 2 * MB + CLOSE, "more than 100000"),
    "many instructions": (OPEN + "<?a?>" * 3 * MB + CLOSE, "more than 100000"),
    "many namespaces": (OPEN + "".join(f"<a{n}:b xmlns:a{n}='u'/>" for n in range(200_000)) + CLOSE, "100000"),
    "many attributes": (OPEN[:-1] + "".join(f" a{n}='1'" for n in range(MB)) + "/>", "64 attributes"),
    "long text": (OPEN + "x" * 15 * MB + CLOSE, "not well-formed"),
    "long value": (f"{OPEN}<a value='{'9' * 15 * MB}'/>{CLOSE}", "not well-formed"),
    "long name": (f"{OPEN}<{'a' * 9 * MB}/>{CLOSE}", "more than 200 characters"),
    "UTF-32": (f"{OPEN}{CLOSE}".encode("utf-32"), "NUL"),
    "NUL": (f"{OPEN}\0{CLOSE}", "NUL"),
    "EBCDIC": ("<?xml version='1.0' encoding='cp037'?><EMDataInfo/>".encode("cp037"), "encoding"),
    "UTF-7": ("<?xml version='1.0' encoding='utf-7'?><EMDataInfo/>", "encoding"),
    "half a character": ("<EMDataInfo>é".encode()[:-1], "the byte at 12"),
    "half a UTF-16 character": ("<EMDataInfo/>".encode("utf-16")[:-1], "the byte at 26"),
    "lone surrogate": ("<EMDataInfo>".encode("utf-16") + b"\x00\xd8\n\0", "the byte at 26"),
    "character of no number": (f"{OPEN}&#1;{CLOSE}", "invalid character number"),
}


def test_hostile_xml(tmp_path):
    """Bombs of entities, default values, nodes and names, and odd encodings are refused by name."""
    files = {}
    for name, (content, part) in XML.items():
        (tmp_path / f"{name}.xml").write_bytes(content if isinstance(content, bytes) else content.encode())
        files[str(tmp_path / f"{name}.xml")] = part
    for path, outcome in told(files, "emdatainfo", "Document.read").items():
        assert files[path] in outcome, (path, outcome)


def test_no_xml_files(tmp_path):
    """A sparse terabyte, a pipe, a directory, devices and links in a circle are refused and not waited for."""
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**40)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    parts = {"large": "larger than 16 MB", "pipe": "is not a file", "directory": "is not a file", "circle": "symbolic"}
    paths = {str(tmp_path / name): part for name, part in parts.items()} | {"/dev/zero": "is not a file"}
    for path, outcome in told(paths, "emdatainfo", "Document.read").items():
        assert paths[path] in outcome


@pytest.mark.parametrize("kind", ["info.xml", "a.tif"])
def test_a_file_that_changes_while_it_is_read(tmp_path, kind):
    """Each read gives a whole state of the file, or an InputError."""
    path = tmp_path / kind
    if kind == "a.tif":
        tifffile.imwrite(path, np.arange(40_000, dtype=np.uint16).reshape(200, 200), rowsperstrip=10)
    else:
        path.write_text(f"{OPEN}{'<a/>' * 20_000}{CLOSE}")
    content, stop, outcomes = path.read_bytes(), threading.Event(), []

    def change():
        while not stop.is_set():
            path.write_bytes(content[: len(content) // 2])
            path.write_bytes(content)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                read = read_tiff(path)[0].shape if kind == "a.tif" else len(Document.read(path).root)
            except InputError as error:
                assert error.file == str(path)
            else:
                outcomes.append(read)
    finally:
        stop.set()
        thread.join()
    assert set(outcomes) <= {(200, 200), 20_000}


# ---- mask shapes


NODE = "<Node><x value='{}'/><y value='{}'/></Node>"
MASKS = {
    "numbers beyond all": ("<Polygon>" + NODE.format("1e300", "1e-300") * 3 + "</Polygon>", "out of range ('1e300')"),
    "long number": ("<Polygon>" + NODE.format("9" * MB, 1) * 3 + "</Polygon>", "out of range ('999"),
    "long text": ("<Polygon>" + NODE.format("x" * MB, 1) * 3 + "</Polygon>", "is not a number"),
    "many nodes": ("<Polygon>" + NODE.format(1, 1) * (MOST_NODES + 1) + "</Polygon>", "Node"),
    "many shapes": ("<Invert>" + "<Circle/>" * MOST_SHAPES + "</Invert>", "1001 of Polygon, Circle"),
}


@pytest.mark.parametrize("name", MASKS)
def test_hostile_masks(tmp_path, name):
    """Absurd numbers and too many shapes are refused in one short line."""
    content, part = MASKS[name]
    path = write(tmp_path, f"{OPEN}<DiffProcessing><Mask>{content}</Mask></DiffProcessing>{CLOSE}")
    document = Document.read(path)
    text = refusal(lambda: read_shapes(document.group("DiffProcessing/Mask"), document), part)
    assert len(text) < len(str(path)) + 300


def test_absurd_shapes_are_drawn():
    """Shapes at the limits, as many nodes as are allowed and deep nesting are drawn as they are, in a few seconds."""
    shape, random = (300, 2000), np.random.default_rng(1)
    assert rasterise((Circle((0.0, 0.0), 1e9), Extent((-1e9, -1e9), (1e9, 1e9))), shape).all()
    teeth = [(float(n % 2000), -1.0 + 302.0 * (n % 2)) for n in range(MOST_NODES)]
    drawn = rasterise((Polygon(tuple(teeth)),), shape)
    assert np.array_equal(drawn, rasterise((Polygon(tuple(teeth[::-1])),), shape)) and 0 < drawn.sum() < drawn.size
    far = Polygon(tuple(map(tuple, random.uniform(-1e9, 1e9, (MOST_NODES, 2)).tolist())))
    assert len(np.unique(rasterise((far,), shape))) <= 2
    nested = Circle((5.0, 5.0), 3.0)
    for _ in range(30):
        nested = Invert((Composite((Invert((nested,)),)),))
    assert np.array_equal(rasterise((nested,), shape), rasterise((Circle((5.0, 5.0), 3.0),), shape))


def test_bands_of_rows_do_not_show():
    """On an image of several bands shapes are drawn as on one of few rows at the same place."""
    shape, low = (2100, 4100), 1000
    nodes = ((100.3, 5.5), (4000.1, 1030.7), (2000.2, 2090.9))
    shapes = Polygon(nodes), Circle((3000.3, 1024.2), 700.7), Extent((1.0, 1015.0), (90.0, 1040.0))
    moved = (
        Polygon(tuple((x, y - low) for x, y in nodes)),
        Circle((3000.3, 1024.2 - low), 700.7),
        Extent((1.0, 15.0), (90.0, 40.0)),
    )
    for one, other in zip(shapes, moved, strict=True):
        drawn = rasterise((one,), shape)[low : low + 100]
        assert np.array_equal(drawn, rasterise((other,), (100, 4100))) and drawn.any() and not drawn.all()


# ---- reflection files


def changed(content, old, new):
    """The bytes with the first occurrence of `old` replaced, as long as it was."""
    assert content.count(old) >= 1 and len(new) <= len(old)
    return content.replace(old, new.ljust(len(old)), 1)


def at(content, place, data):
    return content[:place] + data + content[place + len(data) :]


DAMAGES = {
    "columns": lambda content: changed(content, b"NCOL       22          110", b"NCOL 99999999 99999999"),
    "rows": lambda content: changed(content, b"NCOL       22          110", b"NCOL       22   2000000000"),
    "datasets": lambda content: changed(content, b"NDIF        2", b"NDIF 99999999"),
    "header beyond the file": lambda content: at(content, 4, struct.pack("<i", 2**31 - 1)),
    "header far beyond": lambda content: at(content, 4, struct.pack("<iiq", -1, 0x4144, 2**62)),
    "byte order": lambda content: at(content, 8, b"\x11\x11"),
    "far index": lambda content: at(content, 80, struct.pack("<f", 1e7)),
    "no index": lambda content: at(content, 80, struct.pack("<f", np.nan)),
    "half an index": lambda content: at(content, 80, struct.pack("<f", 0.5)),
    "infinite": lambda content: at(content, 80 + 4 * 7, struct.pack("<f", np.inf)),
    "text for a number": lambda content: changed(content, b'"gain": 5.1, ', b'"gain":"5.1",'),
    "list for a number": lambda content: changed(content, b'"gain": 5.1, ', b'"gain":[5.1],'),
    "gain below 0": lambda content: changed(content, b'"gain": 5.1', b'"gain":-5.1'),
    "thin lattice": lambda content: changed(content, b'"a": [19.1, 0.3]', b'"a": [1e-9,1e-9]'),
    "singular lattice": lambda content: changed(content, b'"a": [19.1, 0.3]', b'"a": [0.0, 0.0]'),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_reflections(tmp_path, name):
    """Absurd sizes, numbers and parameters in a reflection file are refused."""
    path = tmp_path / "a.mtz"
    write_mtz(path, make_table("extract", np.random.default_rng(3)), make_header("extract"))
    read_mtz(path)
    path.write_bytes(DAMAGES[name](path.read_bytes()))
    (outcome,) = told([path], "mtz", "read_mtz").values()
    assert "cannot be read as an MTZ file of ed2d" in outcome


def test_no_reflection_files(tmp_path):
    """A pipe, a directory and an empty file are refused and not waited for."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    for outcome in told([tmp_path, tmp_path / "pipe", tmp_path / "empty", "/dev/zero"], "mtz", "read_mtz").values():
        assert "cannot be read as an MTZ file of ed2d" in outcome
