"""Writing one group of a document: the other bytes stay, an edit meanwhile stays, a failure changes nothing."""

import errno
import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ed2d import xmlbytes
from ed2d.emdatainfo import Document, group_element, replace_group
from test_emdatainfo import EXTRACT, RESULT, refusal, write

OTHER = group_element("DiffExtract", {"Spots": 13})

LAYOUTS = {
    "group is there": "<R>\n <P>\n  <G>\n   <Old value='1'/>\n  </G>\n </P>\n</R>\n",
    "group is self-closed": "<R>\n <P>\n  <G a='>' />\n </P>\n</R>\n",
    "no group": "<R>\n <P>\n  <X/>\n </P>\n</R>\n",
    "parent is self-closed": "<R>\n <P a='/>' />\n</R>\n",
    "parent is empty": "<R>\n <P></P>\n</R>\n",
    "no parent": "<R>\n <DiffProcessing>\n </DiffProcessing>\n</R>",
    "root is self-closed": "<!-- x --><R b = '1'/><!-- y -->",
    "one line": "<R><P><G>/></G><X/></P></R>",
    "tabs": "<R>\n\t<P>\n\t\t<X/>\n\t</P>\n</R>\n",
    "flush": "<R>\n<P>\n<X/>\n</P>\n</R>\n",
    "decoys": "<R><!-- <P> --><![CDATA[<P><G/>]]><X><P><G/></P></X>\n<P><X><G/></X>/></P ></R>",
}
NAMES = {"R": "EMDataInfo", "P": "DiffProcessingResults", "G": "DiffExtract"}
LAYOUTS = {name: re.sub(r"(?<=[</])[RPG]\b", lambda match: NAMES[match[0]], layout) for name, layout in LAYOUTS.items()}
ENCODINGS = {
    "utf-8": ("", "utf-8"),
    "bom": ('<?xml version="1.0"?>\n', "utf-8-sig"),
    "utf-16": ('<?xml version="1.0" encoding="UTF-16"?>\n', "utf-16"),
    "utf-16-be": ("\ufeff<?xml version='1.0' encoding='utf-16'?>\n", "utf-16-be"),
    "latin-1": ('<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE EMDataInfo>\n<!-- \u00e9 -->\n', "latin-1"),
}


def common_head(before, after):
    """Number of leading characters that two texts share."""
    return next(
        (i for i, (x, y) in enumerate(zip(before, after, strict=False)) if x != y), min(len(before), len(after))
    )


def outside(before, after):
    """The pieces of two texts that are left without their common head and tail."""
    head = common_head(before, after)
    before, after = before[head:], after[head:]
    tail = common_head(before[::-1], after[::-1])
    return before[: len(before) - tail], after[: len(after) - tail]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_replace_group(tmp_path, layout, encoding, line_end):
    """In every layout, encoding and line end the group is written, reads back, and writing again changes no byte."""
    head, codec = ENCODINGS[encoding]
    text = (head + LAYOUTS[layout]).replace("\n", line_end)
    path = write(tmp_path, text.encode(codec))
    replace_group(path, EXTRACT, RESULT)
    first = path.read_bytes()
    info = Document.read(path)
    assert info.required(f"{EXTRACT}/Spots", "int") == 12
    assert info.required(f"{EXTRACT}/Inner/Good", "bool") is True
    assert info.required(f"{EXTRACT}/Note", "string") == "a < b & c"
    replace_group(path, EXTRACT, OTHER)
    assert path.read_bytes() != first
    replace_group(path, EXTRACT, RESULT)
    assert path.read_bytes() == first
    old, new = outside(text.encode(codec).decode(codec), first.decode(codec))
    assert old in ("", "/", " /") or "DiffExtract" in LAYOUTS[layout]
    assert set(re.findall("\r\n|\n|\r", new)) <= {line_end if re.search("[\r\n]", text) else "\n"}


def test_indentation_follows(tmp_path):
    """The new lines are indented as their surroundings, one blank a level in the data of IPLT."""
    path = write(tmp_path, LAYOUTS["no parent"])
    replace_group(path, EXTRACT, OTHER)
    assert path.read_text() == (
        "<EMDataInfo>\n <DiffProcessing>\n </DiffProcessing>\n <DiffProcessingResults>\n  <DiffExtract>\n"
        '   <Spots value="13" type="int"/>\n  </DiffExtract>\n </DiffProcessingResults>\n</EMDataInfo>'
    )
    path = write(tmp_path, LAYOUTS["tabs"])
    replace_group(path, EXTRACT, OTHER)
    assert (
        '\t\t<X/>\n\t\t<DiffExtract>\n\t\t\t<Spots value="13" type="int"/>\n\t\t</DiffExtract>\n\t</Diff'
        in path.read_text()
    )


names = st.sampled_from(["A", "Data", "DiffExtract", "DiffProcessing", "x"])
values = st.text(st.characters(codec="latin-1", exclude_characters="\"'<&]\r\n", exclude_categories=["Cc"]), max_size=9)
pieces = st.one_of(
    st.builds("<!--{}-->".format, values.map(lambda v: v.replace("-", "+"))),
    st.builds("<?p {}?>".format, values.map(lambda v: v.replace("?", "+"))),
    st.builds("<![CDATA[{}<DiffExtract>]]>".format, values),
    st.builds("<{0} value = '{1}\"' b=\"{1}'>\">{1}</{0} >".format, names, values),
    st.builds("<{0}\n value='{1}/>'/>".format, names, values),
    st.sampled_from(["\n", "\n  ", "\r\n\t", " ", "&lt;", "&#233;", "/>", "text"]),
)
contents = st.lists(pieces, max_size=6).map("".join)
parents = contents.filter(lambda text: "<DiffExtract\n" not in text and "<DiffExtract v" not in text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.tuples(contents, parents, contents, parents, contents), st.sampled_from(["utf-8", "latin-1", "utf-16"]))
def test_other_bytes_stay(tmp_path, parts, encoding):
    """Whatever stands around the group keeps every byte, and the file reads the same before and after."""
    before, left, inner, right, after = parts
    head = f"<?xml version='1.0' encoding='{encoding}'?><EMDataInfo c='é'>{before}<DiffProcessingResults>{left}"
    tail = f"{right}</DiffProcessingResults >{after}</EMDataInfo>\n"
    path = write(tmp_path, f"{head}<DiffExtract>{inner}</DiffExtract>{tail}".encode(encoding))
    replace_group(path, EXTRACT, RESULT)
    data, tail_bytes = path.read_bytes(), tail.encode(encoding).removeprefix(b"\xff\xfe")
    assert data.startswith(head.encode(encoding))
    assert data.endswith(tail_bytes)
    replace_group(path, EXTRACT, RESULT)
    assert path.read_bytes() == data
    bare = write(tmp_path, f"{head}{tail}".encode(encoding))
    replace_group(bare, EXTRACT, RESULT)
    data = bare.read_bytes()
    assert Document.read(bare).required(f"{EXTRACT}/Spots", "int") == 12
    old, _ = outside(f"{head}{tail}", data.decode(encoding))
    assert old == ""
    replace_group(bare, EXTRACT, RESULT)
    assert bare.read_bytes() == data


def test_characters_outside_the_encoding(tmp_path):
    """A text that the encoding of the file lacks is written as character references and reads back."""
    path = write(tmp_path, b'<?xml version="1.0" encoding="iso-8859-1"?><EMDataInfo/>')
    replace_group(path, EXTRACT, group_element("DiffExtract", {"Note": "\u03b1\n\t\r\"'é"}))
    assert b"&#945;" in path.read_bytes()
    assert Document.read(path).item(f"{EXTRACT}/Note", "string") == "\u03b1\n\t\r\"'é"


@pytest.mark.parametrize("place", ["DiffProcessingResults", "DiffExtract"])
def test_ambiguous_place_is_refused(tmp_path, place):
    """A group that is there twice is not written, and the file stays."""
    twice = "<DiffProcessingResults/>" * 2 if place == "DiffProcessingResults" else None
    twice = twice or "<DiffProcessingResults><DiffExtract/><DiffExtract/></DiffProcessingResults>"
    path = write(tmp_path, f"<EMDataInfo>{twice}</EMDataInfo>")
    before = path.read_bytes()
    refusal(lambda: replace_group(path, EXTRACT, RESULT), path, place, "2 times")
    assert path.read_bytes() == before


def test_namespaced_parent_is_refused(tmp_path):
    """A group that would not be found again when written is not written."""
    path = write(tmp_path, "<EMDataInfo><DiffProcessingResults xmlns='urn:x'/></EMDataInfo>")
    before = path.read_bytes()
    refusal(lambda: replace_group(path, EXTRACT, RESULT), path, EXTRACT)
    assert path.read_bytes() == before


def test_wrong_element_is_a_programming_error(tmp_path):
    """An element of another name than the group is refused before anything is written."""
    path = write(tmp_path, "<EMDataInfo/>")
    with pytest.raises(ValueError, match="DiffIntegrate"):
        replace_group(path, "DiffProcessingResults/DiffIntegrate", RESULT)


def test_broken_file_is_not_written(tmp_path):
    """A file that does not parse is refused and stays."""
    path = write(tmp_path, "<EMDataInfo>")
    refusal(lambda: replace_group(path, EXTRACT, RESULT), path, "line 1")
    assert path.read_text() == "<EMDataInfo>"


def test_unchanged_file_is_not_touched(tmp_path):
    """Writing what is there already leaves the time of the file."""
    path = write(tmp_path, "<EMDataInfo/>")
    replace_group(path, EXTRACT, RESULT)
    os.utime(path, ns=(1, 1))
    replace_group(path, EXTRACT, RESULT)
    assert path.stat().st_mtime_ns == 1


def test_permissions_and_links_stay(tmp_path):
    """The permission bits stay and a symbolic link is written through."""
    (tmp_path / "real").mkdir()
    target = write(tmp_path / "real", "<EMDataInfo/>")
    target.chmod(0o640)
    link = tmp_path / "info.xml"
    link.symlink_to(target)
    replace_group(link, EXTRACT, RESULT)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert Document.read(target).required(f"{EXTRACT}/Spots", "int") == 12
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["info.xml"]


def edit_at_fsync(monkeypatch, path, times):
    """Lets a user save `path` `times` times, each just before the program replaces it; returns the list of edits."""
    edits, fsync = [], os.fsync

    def save_then_fsync(descriptor):
        if len(edits) < times:
            edits.append(f"<EMDataInfo><!-- edit {len(edits)} --></EMDataInfo>")
            path.write_text(edits[-1])
        fsync(descriptor)

    monkeypatch.setattr(xmlbytes.os, "fsync", save_then_fsync)
    return edits


@pytest.mark.parametrize("times", [1, 4])
def test_edit_meanwhile_is_kept(tmp_path, monkeypatch, times):
    """An edit saved while the group is being written stays, and the group is put into it."""
    path = write(tmp_path, "<EMDataInfo/>")
    edits = edit_at_fsync(monkeypatch, path, times)
    replace_group(path, EXTRACT, RESULT)
    assert len(edits) == times
    assert f"<!-- edit {times - 1} -->" in path.read_text()
    assert Document.read(path).required(f"{EXTRACT}/Spots", "int") == 12
    assert os.listdir(tmp_path) == ["info.xml"]


def test_endless_edits_give_up(tmp_path, monkeypatch):
    """A file that changes at every attempt is left to its user."""
    path = write(tmp_path, "<EMDataInfo/>")
    edits = edit_at_fsync(monkeypatch, path, 100)
    refusal(lambda: replace_group(path, EXTRACT, RESULT), path, "again and again")
    assert len(edits) == 5
    assert path.read_text() == edits[-1]
    assert os.listdir(tmp_path) == ["info.xml"]


def test_removed_meanwhile(tmp_path, monkeypatch):
    """A file that is removed while the group is being written is not made again."""
    path = write(tmp_path, "<EMDataInfo/>")
    monkeypatch.setattr(xmlbytes.os, "fsync", lambda _: path.unlink())
    refusal(lambda: replace_group(path, EXTRACT, RESULT), path, "cannot be read")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "cure"), [(errno.ENOSPC, "free space"), (errno.EROFS, "writable"), (errno.EIO, "writable")]
)
def test_failed_write_keeps_the_file(tmp_path, monkeypatch, function, code, cure):
    """A full or read-only disk leaves the old file, no temporary one, and a cure."""

    def fail(*_):
        raise OSError(code, os.strerror(code))

    path = write(tmp_path, "<EMDataInfo/>")
    monkeypatch.setattr(xmlbytes.os, function, fail)
    refusal(lambda: replace_group(path, EXTRACT, RESULT), path, os.strerror(code), cure)
    assert path.read_text() == "<EMDataInfo/>"
    assert os.listdir(tmp_path) == ["info.xml"]


def test_interrupted_write_keeps_the_file(tmp_path, monkeypatch):
    """An interrupt leaves the old file and no temporary one."""

    def interrupt(*_):
        raise KeyboardInterrupt

    path = write(tmp_path, "<EMDataInfo/>")
    monkeypatch.setattr(xmlbytes.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_group(path, EXTRACT, RESULT)
    assert path.read_text() == "<EMDataInfo/>"
    assert os.listdir(tmp_path) == ["info.xml"]
