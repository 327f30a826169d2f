"""What info.xml files say: read, remembered, and read again when anything has changed."""

import json
from dataclasses import asdict

import pytest

from ed2d.emdatainfo import Document
from ed2d.exampleproject import write_project_xml
from ed2d.readings import MADE, Reading, Readings
from emdatafiles import LATTICE, lattice_xml
from runs import PARAMETERS

CONFIG = {
    "LatticeExtract": {"BoxSize": 6, "BoxGrowAmount": 1, "BackgroundRimSize": 2, "MinRadius": 0.0, "MaxRadius": 0.0},
    "Detector": {"Gain": 0.0, "ReadNoise": 0.0, "Offset": 0.0, "Saturation": 0.0},
    "Integrate": {"ApplyErrorModel": False},
}
RESULTS = '<DiffExtract><Inputs value="ab12"/><Predicted value="110" type="int"/><Gain value="many"/></DiffExtract>'


SPOILT = '<DiffProcessing><Detector><Gain value="x"/></Detector></DiffProcessing>'


def info_xml(content="", results=RESULTS):
    results = f"<DiffProcessingResults>{lattice_xml(LATTICE)}{results}</DiffProcessingResults>"
    return f"<EMDataInfo>{content}{results}</EMDataInfo>"


@pytest.fixture
def info(tmp_path):
    path = tmp_path / "info.xml"
    path.write_text(info_xml())
    write_project_xml(tmp_path / "project.xml", image_mask="ABC.*", parameters=PARAMETERS)
    return path


def readings(info, config=CONFIG):
    """Readings of a project as a new run makes them, with what earlier ones have left."""
    return Readings(info.parent / "memory/readings.json", Document.read(info.parent / "project.xml"), config)


def after(info, **changes):
    """The Reading of a file by a run that comes after one with these."""
    first = readings(info, **changes)
    first.read(info)
    first.remember()
    return readings(info).read(info)


def parsed(monkeypatch):
    """A list that grows with each file that is parsed."""
    files, parse = [], Document.parse.__func__

    def watched(cls, data, path):
        files.append(path)
        return parse(cls, data, path)

    monkeypatch.setattr(Document, "parse", classmethod(watched))
    return files


def test_what_a_file_says(info):
    """Values in force, digests of what results were made with, figures; spoilt ones are none."""
    reading = readings(info).read(info)
    assert reading.error is None and reading.measurable
    assert reading.written["LatticeExtract/BoxSize"] == "5" and reading.written["Detector/Gain"] == "8.0"
    assert reading.written["origin"] == str(LATTICE.origin) and reading.written["barrel"] == str(LATTICE.barrel)
    assert reading.made == dict.fromkeys(MADE) | {"extract": "ab12"}
    assert reading.verified and not reading.unverified
    assert reading.figures == {"spots": 110}


def test_the_answer_is_the_same_from_memory(info, monkeypatch):
    """Of a file that is as it was nothing is parsed in the next run, whose answer is the same."""
    first = readings(info).read(info)
    assert after(info) == first
    second = readings(info)
    files = parsed(monkeypatch)
    assert second.read(info) == first and files == []


CHANGES = {
    "BoxSize": lambda info: info.write_text(
        info_xml('<DiffProcessing><LatticeExtract><BoxSize value="4"/></LatticeExtract></DiffProcessing>')
    ),
    "results": lambda info: info.write_text(info_xml(results=RESULTS.replace("110", "111"))),
    "lattice": lambda info: info.write_text(info.read_text().replace('"505.6"', '"505.7"')),
    "no lattice": lambda info: info.write_text("<EMDataInfo/>"),
    "broken": lambda info: info.write_text(info_xml() + "<"),
    "gone": lambda info: info.unlink(),
    "project.xml": lambda info: (info.parent / "project.xml").write_text("<EMDataInfo/>"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed(info, change):
    """In info.xml or project.xml: what is remembered no longer counts."""
    before = after(info)
    CHANGES[change](info)
    now = readings(info).read(info)
    assert now != before
    (info.parent / "memory/readings.json").unlink()
    assert readings(info).read(info) == now


def test_a_change_of_the_configuration_is_noticed(info):
    """Read first with another default, a file answers with that of this run."""
    (info.parent / "project.xml").write_text("<EMDataInfo/>")
    other = CONFIG | {"LatticeExtract": CONFIG["LatticeExtract"] | {"BoxSize": 9}}
    assert readings(info, other).read(info).written["LatticeExtract/BoxSize"] == "9"
    assert after(info, config=other).written["LatticeExtract/BoxSize"] == "6"


def test_a_change_during_the_run_is_noticed(info):
    """The second answer of the same Readings is of the file as it is then."""
    both = readings(info)
    first = both.read(info)
    CHANGES["BoxSize"](info)
    assert both.read(info).written["LatticeExtract/BoxSize"] == "4" != first.written["LatticeExtract/BoxSize"]


@pytest.mark.parametrize("content", ["<EMDataInfo>", info_xml(SPOILT)])
def test_errors_are_remembered(info, content, monkeypatch):
    """What is wrong with a file is said again, in the same words, though it is not parsed again."""
    info.write_text(content)
    first = readings(info).read(info)
    assert first.error and first.measurable and str(info) in first.error
    assert after(info) == first
    second = readings(info)
    files = parsed(monkeypatch)
    assert second.read(info) == first and files == []


@pytest.mark.parametrize(
    "memory",
    [
        *(b"", b"null", b"[]", b"{}", b"7", b'"text"', b"{", b"\xff\xfe", b"\0" * 4096, b"[" * 100000),
        b'{"a": 1}',
        b'{"a": ["b", {"error": 1}]}',
        b'{"a": ["b", ["error", "written", "made", "figures"]]}',
    ],
)
def test_a_broken_memory_is_none(info, memory):
    """Whatever stands in the file, the answer is the right one, and the next run remembers again."""
    wanted = after(info)
    path = info.parent / "memory/readings.json"
    path.write_bytes(memory)
    again = readings(info)
    assert again.read(info) == wanted
    again.remember()
    assert json.loads(path.read_bytes())


@pytest.mark.parametrize(
    "poison",
    [
        {"error": 5},
        {"written": None},
        {"written": [1]},
        {"written": {"origin": 5}},
        {"made": {}},
        {"made": {"extract": 7, "integrate": None}},
        {"made": "made"},
        {"figures": []},
        {"figures": {"spots": "many"}},
        {"figures": {"status": 1}},
        {"figures": {"spots": True}},
    ],
)
def test_what_no_run_has_written_is_not_believed(info, poison):
    """A memory of the right form and the right content of the file, but of other types than any run writes."""
    wanted = after(info)
    path = info.parent / "memory/readings.json"
    memory = json.loads(path.read_bytes())
    ((content, _),) = memory.values()
    path.write_text(json.dumps({str(info): [content, asdict(wanted) | poison]}))
    assert readings(info).read(info) == wanted


def test_a_memory_that_cannot_be_written_is_no_failure(info):
    """A file where its directory should be: the run goes on without."""
    (info.parent / "memory").write_text("a file")
    run = readings(info)
    assert isinstance(run.read(info), Reading)
    run.remember()
    assert (info.parent / "memory").read_text() == "a file"


def test_memory_is_written_where_there_is_something_new(info):
    after(info)
    path = info.parent / "memory/readings.json"
    before = path.stat()
    after(info)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
