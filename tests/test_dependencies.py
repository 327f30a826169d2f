"""What results depend on: every value counts, nothing else does, and each is a line of text."""

import os

import pytest

from ed2d import dependencies
from ed2d.dependencies import digest, file_values, lines, names, written_values
from ed2d.emdatainfo import Document
from ed2d.parameters import INTEGRATE, REGISTRY, SEARCH
from emdatafiles import LATTICE, lattice_xml
from test_readings import CONFIG

STEPS = ("extract", "integrate")
MASK = "<EMDataInfo><DiffProcessingResults><DiffMask><Mask/></DiffMask></DiffProcessingResults></EMDataInfo>"
RADIUS = '<Radius value="3"/></Circle></Mask>'
TEXT = f"<EMDataInfo>\n<DiffProcessingResults>{lattice_xml(LATTICE)}</DiffProcessingResults></EMDataInfo>"


def written(info=TEXT, project="<EMDataInfo/>", config=CONFIG):
    return written_values(*(Document.parse(text.encode(), f"{text[:5]}.xml") for text in (info, project)), config)


def parameter(group, **items):
    inside = "".join(f'<{name} value="{value}"/>' for name, value in items.items())
    return TEXT.replace("\n", f"<DiffProcessing><{group}>{inside}</{group}></DiffProcessing>\n")


@pytest.mark.parametrize("step", STEPS)
def test_all_parameters_are_named(step):
    """Those of the step, the program, the files; the lattice for the extraction, which alone starts from it."""
    found = names(step)
    assert found[0] == "ed2d" and found[-2:] == ["image", "mask file"] and len(set(found)) == len(found)
    entries = REGISTRY if step == "extract" else REGISTRY + INTEGRATE
    assert {entry.path for entry in entries} <= set(found)
    assert {"origin", "a", "b", "barrel", "spiral"} & set(found) == (set(vars(LATTICE)) if step == "extract" else set())


def test_mask_and_search_have_their_own():
    """No size of a box, no lattice; the mask that is found in the same run is not in the plan of its search."""
    mask, search = names("mask"), names("search")
    assert mask == ["ed2d", "Detector/Saturation", "mask shapes", "image", "mask file"]
    added = {entry.path for entry in SEARCH} | {"UnitCell/A", "UnitCell/B", "UnitCell/Gamma", "found mask"}
    assert set(search) == set(mask) | added and len(set(search)) == len(search)
    assert set(search) - set(names("search", planned=True)) == {"found mask"}
    assert all(names(step) == names(step, planned=True) for step in ("mask", *STEPS))
    found = MASK.replace("<Mask/>", '<Mask><Circle><Center><x value="1"/><y value="2"/></Center>' + RADIUS)
    for planned, same in ((True, True), (False, False)):
        before, now = (digest("search", written(info), planned=planned) for info in (MASK, found))
        assert (before == now) == same
    assert all(digest(step, written(found)) != digest(step, written(MASK)) for step in STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_lines_are_lines(step):
    """Each is `name = value`, in the order of the names; what is not there is none."""
    values = written() | {"image": "7 bytes", "mask file": "none"}
    found = lines(step, values)
    assert [line.partition(" = ")[0] for line in found] == names(step)
    assert "LatticeExtract/BoxSize = 6" in found and "Wavelength = none" in found and "image = 7 bytes" in found
    assert all(line.isprintable() for line in found)


CHANGES = {  # an info.xml, and the steps that it concerns
    "BoxSize": (parameter("LatticeExtract", BoxSize=7), STEPS),
    "Gain": (parameter("Detector", Gain=2.5), STEPS),
    "ApplyErrorModel": (parameter("Integrate", ApplyErrorModel="true"), ("integrate",)),
    "origin": (TEXT.replace("505.6", "505.6000000000001"), ("extract",)),
    "spiral": (TEXT.replace("-2.5e-10", "-2.6e-10"), ("extract",)),
    "a comment": (TEXT.replace("\n", "<!-- 1 -->\n\n"), ()),
    "another writing": (parameter("LatticeExtract", BoxSize="+06"), ()),
    "results": (TEXT.replace("</DiffProcessingResults>", "<DiffExtract/></DiffProcessingResults>"), ()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_digest_changes_with_what_counts(change):
    """With each value of the step, to its last digit, and with no other and no other way to write it."""
    info, concerned = CHANGES[change]
    assert {step for step in STEPS if digest(step, written(info)) != digest(step, written())} == set(concerned)


def test_the_program_counts(monkeypatch):
    before = digest("extract", written())
    monkeypatch.setattr(dependencies, "__version__", "99")
    assert digest("extract", written()) != before


def test_where_a_value_comes_from_does_not_count():
    """From info.xml, project.xml or the configuration: an equal value is the same dependency."""
    config = CONFIG | {"LatticeExtract": CONFIG["LatticeExtract"] | {"BoxSize": 9}}
    nine = '<DiffProcessing><LatticeExtract><BoxSize value="9"/></LatticeExtract></DiffProcessing>'
    places = [
        written(TEXT.replace("\n", f"{nine}\n")),
        written(project=f"<EMDataInfo>{nine}</EMDataInfo>"),
        written(config=config),
    ]
    assert places[0] == places[1] == places[2] != written()


def test_files_are_told_by_size_and_time(tmp_path):
    """To the nanosecond; copies with their times are the same, links are what they lead to."""
    path, link = tmp_path / "a.tif", tmp_path / "link.tif"
    path.write_bytes(b"1234")
    link.symlink_to(path)
    os.utime(path, ns=(10**18, 10**18 + 1))
    first = file_values(path, None)
    assert first == {"image": "4 bytes of 2001-09-09 01:46:40.000000001 UTC", "mask file": "none"}
    assert file_values(link, None) == first and file_values(path, link)["mask file"] == first["image"]
    for size, time in ((4, 10**18), (4, 10**18 + 2), (5, 10**18 + 1), (4, -1), (4, 0)):
        path.write_bytes(b"x" * size)
        os.utime(path, ns=(time, time))
        assert file_values(path, None) != first
    path.write_bytes(b"abcd")
    os.utime(path, ns=(0, 10**18 + 1))
    assert file_values(path, None) == first


def test_files_that_cannot_be_read_are_text(tmp_path):
    """What is not there is not an error here: the job says so, or the plan."""
    assert file_values(tmp_path / "none.tif", None)["image"] == "cannot be read (No such file or directory)"
    (tmp_path / "loop.tif").symlink_to(tmp_path / "loop.tif")
    assert file_values(tmp_path / "loop.tif", None)["image"].startswith("cannot be read (Too many levels")
