"""Documents of the project: what is read, what is refused, and that writing changes one group and nothing else."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ed2d.emdatainfo import (
    Document,
    group_element,
    replace_group,
    verified_lattice,
)
from ed2d.errors import InputError
from emdatafiles import EXTRACT, LATTICE, lattice_xml, refusal, wrap, write

RESULT = group_element("DiffExtract", {"Spots": 12, "Rms": 0.1, "Note": "a < b & c", "Inner": {"Good": True}})


# ---- items


@pytest.mark.parametrize(
    ("attributes", "kind", "expected"),
    [
        ('value="6" type="int"', "int", 6),
        ('value="6"', "int", 6),
        ('value=" +6 " type="Int"', "int", 6),
        ('value="6" type="STRING"', "int", 6),
        ('value="6.0" type="FLOAT"', "int", 6),
        ('value="6" type="int"', "float", 6.0),
        ('value="-.5e-3" type="Float"', "float", -0.0005),
        ('value="7."', "float", 7.0),
        ('value="0.000" type="float"', "float", 0.0),
        ('value="Yes" type="Bool"', "bool", True),
        ('value="1" type="bool"', "bool", True),
        ('value="FALSE"', "bool", False),
        ('value="no" type="bool"', "bool", False),
        ('value="[1, -2.5,3e2]" type="Vector"', "vector", (1.0, -2.5, 300.0)),
        ('value="ABC[0-9]{7}"', "string", "ABC[0-9]{7}"),
        ('value=" 12 " type="int"', "string", " 12 "),
    ],
)
def test_item_values(document, attributes, kind, expected):
    """A value is read as the kind wanted wherever that loses nothing."""
    value = document(wrap(f"<G><Item {attributes}/></G>")).item("DiffProcessing/G/Item", kind)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("value", "declared", "kind"),
    [
        ("6.5", "float", "int"),
        ("6.5", "int", "float"),
        ("6.0", "", "int"),
        ("1_000", "int", "int"),
        ("\u0666", "int", "int"),
        ("0x10", "int", "int"),
        ("9" * 5000, "int", "int"),
        ("9007199254740993", "int", "float"),
        ("", "int", "int"),
        ("six", "float", "float"),
        ("nan", "float", "float"),
        ("inf", "", "float"),
        ("-Infinity", "float", "int"),
        ("1e999", "float", "float"),
        ("1e-999", "float", "float"),
        ("1,5", "float", "float"),
        ("1 2", "float", "float"),
        ("2", "bool", "bool"),
        ("1", "int", "bool"),
        ("true", "bool", "int"),
        ("[1, 2]", "vector", "vector"),
        ("[1, 2, nan]", "vector", "vector"),
        ("1, 2, 3", "vector", "vector"),
        ("6", "double", "float"),
    ],
)
def test_bad_item(document, value, declared, kind):
    """A value that cannot be taken exactly is refused with the file, the path and the value."""
    info = document(wrap(f'<G><Item value="{value}" type="{declared}"/></G>'))
    refusal(lambda: info.item("DiffProcessing/G/Item", kind), info.path, "DiffProcessing/G/Item", value[:57])


def test_unknown_type_is_named(document):
    """A type that the format does not have is named in the message."""
    info = document(wrap('<A value="6" type="double"/>'))
    refusal(lambda: info.item("DiffProcessing/A", "float"), "unknown type 'double'")


def test_absent_item(document):
    """An absent item is None, and an error with a cure where it is required."""
    info = document(wrap("<G/>"))
    assert info.item("DiffProcessing/G/A", "int") is None
    assert info.item("Nowhere/A", "int") is None
    refusal(
        lambda: info.required("DiffProcessing/G/A", "int", low=1), info.path, "DiffProcessing/G/A", "missing", "<A "
    )


def test_item_without_value(document):
    """A group where an item is expected is refused."""
    info = document(wrap("<A><B/></A>"))
    refusal(lambda: info.item("DiffProcessing/A", "int"), info.path, "DiffProcessing/A", "no value")


@pytest.mark.parametrize(
    "content", ['<A value="1"/><A value="2"/>', '<A value="1"/></DiffProcessing><DiffProcessing><A value="2"/>']
)
def test_duplicate_item(document, content):
    """An item that is there twice is refused, also in two groups of one name."""
    info = document(wrap(content))
    refusal(lambda: info.item("DiffProcessing/A", "int"), info.path, "DiffProcessing/A", "2 times", "'1', '2'")


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        ({"low": 6}, True),
        ({"low": 7}, False),
        ({"high": 6}, True),
        ({"high": 5}, False),
        ({"above": 6}, False),
        ({"below": 6}, False),
    ],
)
def test_limits(document, limits, fits):
    """`low` and `high` are allowed values, `above` and `below` are not; the message names the limit."""
    info = document(wrap('<A value="6"/>'))
    if fits:
        assert info.item("DiffProcessing/A", "int", **limits) == 6
    else:
        (limit,) = limits.values()
        refusal(
            lambda: info.item("DiffProcessing/A", "int", **limits), info.path, "DiffProcessing/A", "'6'", f" {limit}"
        )


def test_group(document):
    """A group is found once, is None when absent, and refused when it is double or has a value."""
    info = document(wrap('<G><A value="1"/></G><H/><H/><I value="3"/>'))
    assert info.group("DiffProcessing/G").tag == "G"
    assert info.group("DiffProcessing/X") is None
    refusal(lambda: info.group("DiffProcessing/H"), info.path, "DiffProcessing/H", "2 times")
    refusal(lambda: info.group("DiffProcessing/I"), info.path, "DiffProcessing/I", "'3'")


# ---- files


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "windows-1252", "us-ascii"]
)
def test_encodings(document, encoding):
    """Files of the encodings that occur are read alike."""
    declared = {"utf-8-sig": "utf-8", "utf-16-le": "utf-16", "utf-16-be": "utf-16"}.get(encoding, encoding)
    text = "Molekül" if encoding != "us-ascii" else "Molek&#252;l"
    content = wrap(f'<A value="{text}"/>')
    info = document(f'<?xml version="1.0" encoding="{declared}"?>\r\n{content}'.encode(encoding))
    assert info.item("DiffProcessing/A", "string") == "Molekül"


def test_unrelated_content_is_ignored(document):
    """A DOCTYPE, comments, processing instructions and unknown groups do not disturb."""
    content = wrap('<!-- b --><?r?><X><Y/></X>text<A value="1"/>')
    info = document(f"<!DOCTYPE EMDataInfo><!-- a --><?p q?>{content}<!-- c -->")
    assert info.item("DiffProcessing/A", "int") == 1


BOMB = '<!DOCTYPE EMDataInfo [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {y} "{f"&{x};" * 10}">' for x, y in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (BOMB + f"]>{wrap('<A>&j;</A>')}", "entity"),
        ('<!DOCTYPE EMDataInfo [<!ENTITY x SYSTEM "file:///etc/hostname">]>' + wrap('<A value="1"/>&x;'), "entity"),
        ('<!DOCTYPE EMDataInfo [<!ENTITY % x SYSTEM "http://localhost/x">%x;]>' + wrap(""), "entity"),
        ('<!DOCTYPE EMDataInfo SYSTEM "x.dtd">' + wrap('<A value="6&x;"/>'), "entity 'x'"),
        ('<!DOCTYPE EMDataInfo SYSTEM "x.dtd">' + wrap("&x;"), "entity 'x'"),
        ("<EMDataInfo>" + "<a>" * 64 + "</a>" * 64 + "</EMDataInfo>", "64 deep"),
        ("<EMDataInfo " + " ".join(f'a{i}="1"' for i in range(65)) + "/>", "64 attributes"),
        ("<EMDataInfo>\n <A value='1'>\n</EMDataInfo>", "line 3, column 3 (mismatched tag)"),
        ("<EMDataInfo><A value='1' value='2'/></EMDataInfo>", "line 1, column"),
        ("<EMDataInfo><x:a/></EMDataInfo>", "not well-formed"),
        ("<EMDataInfo>&undefined;</EMDataInfo>", "undefined entity"),
        ("<Other/>", "'Other'"),
        ("<EMDataInfo xmlns='urn:x'/>", "without namespace"),
        ("plain text", "line 1, column 1"),
        ("", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0", "is not valid in the encoding utf-8"),
        (b"\0" * 100, "not well-formed"),
        ('<?xml version="1.0" encoding="klingon"?><EMDataInfo/>', "'klingon'"),
        ('<?xml version="1.0" encoding="rot13"?><EMDataInfo/>', "'rot13'"),
        ('<?xml version="1.0" encoding="utf-16"?><EMDataInfo/>', "'utf-16'"),
        ("<EMDataInfo>é</EMDataInfo>".encode("latin-1"), "utf-8"),
        (b"<EMDataInfo/>" + b" " * 2**24, "16 MB"),
    ],
)
def test_hostile_file(document, tmp_path, content, part):
    """Entities, depth, size, broken XML and other formats are refused at once and by name."""
    start = time.process_time()
    refusal(lambda: document(content), tmp_path / "info.xml", part)
    assert time.process_time() - start < 1


def test_external_dtd_is_not_read(document, tmp_path):
    """A DOCTYPE that points to a file is allowed and the file is not read."""
    (tmp_path / "x.dtd").write_text('<!ATTLIST A value CDATA "7">')
    info = document(f'<!DOCTYPE EMDataInfo SYSTEM "x.dtd">{wrap("<A/>")}')
    refusal(lambda: info.item("DiffProcessing/A", "int"), "no value")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.binary(max_size=3)), max_size=4))
def test_damaged_file(tmp_path, damages):
    """A file damaged anywhere is read, written, or refused in one line; nothing else happens."""
    data = f"<?xml version='1.0' encoding='utf-8'?>\n<!DOCTYPE EMDataInfo>\n{wrap(lattice_xml(LATTICE))}".encode()
    for start, length, new in damages:
        data = data[:start] + new + data[start + length :]
    path = write(tmp_path, data)
    try:
        verified_lattice(Document.read(path))
        replace_group(path, EXTRACT, RESULT)
        assert Document.read(path).required(f"{EXTRACT}/Spots", "int") == 12
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1
    assert os.listdir(tmp_path) == ["info.xml"]


def test_no_file(tmp_path):
    """A missing file, a directory and a pipe are refused with their paths."""
    os.mkfifo(tmp_path / "pipe")
    refusal(lambda: Document.read(tmp_path / "absent.xml"), tmp_path / "absent.xml", "cannot be read")
    refusal(lambda: Document.read(tmp_path), tmp_path, "is not a file")
    refusal(lambda: Document.read(tmp_path / "pipe"), tmp_path / "pipe", "is not a file")


def test_group_element_types():
    """Python and numpy values become typed items; what could not be measured is left out."""
    values = {"I": 3, "B": True, "F": 0.1, "S": "x", "N": None, "Nan": float("nan"), "Inf": np.inf}
    numpy = {"I": np.int64(3), "B": np.bool_(False), "F": np.float32(0.1), "D": np.float64(0.1)}
    document = Document(Path("info.xml"), group_element("EMDataInfo", values | {"G": numpy}))
    assert [child.tag for child in document.root] == ["I", "B", "F", "S", "G"]
    assert [child.get("type") for child in document.root] == ["int", "bool", "float", None, None]
    assert document.item("G/I", "int") == 3
    assert document.item("G/B", "bool") is False
    assert document.item("G/F", "float") == float(np.float32(0.1))
    assert document.item("G/D", "float") == 0.1
    with pytest.raises(TypeError, match="X"):
        group_element("G", {"X": object()})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_float_round_trip(number):
    """Every finite float reads back with the same bits."""
    document = Document(Path("info.xml"), group_element("EMDataInfo", {"A": number}))
    assert document.item("A", "float").hex() == number.hex()
