"""The summary of a run: a row for each image, its file, its lines on the screen."""

import csv
import json
import re
from statistics import median

import pytest
import yaml
from lxml import etree

from ed2d.dependencies import digest, written_values
from ed2d.emdatainfo import SEARCHED, Document, group_element, lattice_element, replace_group, verified_lattice
from ed2d.imagedirectory import ImageDirectory
from ed2d.joblog import FILES
from ed2d.project import Project
from ed2d.summary import COLUMNS, SHOWN, STATUSES, summarise
from runs import CHECKOUT, IMAGES, RESULTS, copy, edit, info_of, names, set_parameter

FIRST = IMAGES[0]
CONFIG = yaml.safe_load((CHECKOUT / "config/config.yaml").read_text())
ITEMS = {
    "spots": "DiffExtract/Predicted",
    "used": "DiffExtract/Used",
    "rms_px": "DiffExtract/RmsPosition",
    "gain": "DiffExtract/Gain",
    "r_friedel": "DiffIntegrate/RFriedelProfile",
    "null_width": "DiffIntegrate/NullControl/ProfileFit/Width",
}


def summary_of(directory):
    """The Summary of the project in a directory, as the next run would write it."""
    return summarise(Project(directory / "project", CONFIG, directory / "readings.json"))


def rows_of(directory):
    """The rows of its file by image."""
    with open(directory / "project/summary.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {row["image"]: row for row in rows}


def another(directory, name):
    """A measured image of another name; returns its directory."""
    image = copy(directory / "project" / FIRST, directory / "project" / name)
    for path in image.glob(f"{FIRST}*"):
        path.rename(path.with_name(path.name.replace(FIRST, name)))
    return image


def without(image, *patterns):
    for name in names(image, *patterns):
        (image / name).unlink()


def failed_at_work(image, text):
    """What a job leaves that fails with a message."""
    without(image, "{0}_ext.mtz")
    (image / f"{image.name}_ext.log").write_text(f"ed2d\nERROR: {text}\n", encoding="utf-8")


@pytest.fixture
def others(work):
    """A function that adds an image of the next free number to the measured project; returns its directory."""
    numbers = iter(range(11, 99))
    return lambda: another(work, f"ABC{next(numbers):07d}")


def killed(image):
    without(image, *RESULTS)
    (image / f"{image.name}_ext.log").write_text("")


def searched(image, *, sure, old=False):
    """In place of its VerifiedLattice the image has one that was searched."""
    info = image / "info.xml"
    document = Document.read(info)
    lattice = verified_lattice(document)
    info.write_bytes(re.sub(rb"<VerifiedLattice>.*</VerifiedLattice>", b"", info.read_bytes(), flags=re.DOTALL))
    written = written_values(document, Document.read(image.parent / "project.xml"), CONFIG, mask_file=True)
    inputs = "of old" if old else digest("search", written)
    reason = None if sure else "the origin may be one vector off"
    element = group_element("DiffSearch", {"Inputs": inputs, "Confidence": 0.62, "Sure": sure, "Reason": reason})
    element.append(lattice_element("SearchedLattice", lattice))
    replace_group(info, SEARCHED, element)
    (image / "tmp_search.tif").touch()
    (image / f"{image.name}_src.log").write_text(f"{FILES}{json.dumps(ImageDirectory(image).file_values())}\n")


def failed_search(image):
    without(image, "info.xml")
    (image / f"{image.name}_src.log").write_text("ed2d\nERROR: x.tif: is bad; cure it\n")


WAYS = {
    "measured": (lambda image: None, "measured", ""),
    "not integrated": (
        lambda image: without(image, "{0}_int.mtz", "{0}_int.log"),
        "extracted",
        "not integrated; run again",
    ),
    "stopped": (lambda image: without(image, "{0}_ext.mtz"), "unfinished", "not finished: the job was stopped"),
    "stopped later": (lambda image: without(image, "{0}_int.mtz"), "unfinished", "not finished: the job was stopped"),
    "killed": (killed, "unfinished", "is empty: the job was killed or the disk is full; run again"),
    "other values": (
        lambda image: set_parameter(image / "info.xml", "LatticeExtract", BoxSize=4),
        "outdated",
        "its results were made with other values; run again",
    ),
    "searched": (lambda image: searched(image, sure=True), "measured", ""),
    "unsure": (
        lambda image: searched(image, sure=False),
        "unverified",
        "confidence 0.62: the origin may be one vector off; `snakemake verify`",
    ),
    "searched before": (
        lambda image: searched(image, sure=True, old=True),
        "outdated",
        "its lattice was searched with other values; run again",
    ),
    "no lattice": (
        lambda image: without(image, "info.xml"),
        "unfinished",
        "its lattice is not searched yet; run again",
    ),
    "failed search": (failed_search, "failed", "x.tif: is bad; cure it"),
    "ignored": (lambda image: (image / "ignore").touch(), "skipped", "has a file `ignore`"),
    "broken XML": (lambda image: edit(image / "info.xml", "</VerifiedLattice>", ""), "failed", "not well-formed XML"),
    "failed job": (lambda image: failed_at_work(image, "x.tif: is bad; cure it"), "failed", "x.tif: is bad; cure it"),
}


def test_each_status_has_its_row(work, others):
    """Status and reason of whatever can be the matter with an image; figures where it is measured, and only there."""
    images = {way: others() for way in WAYS}
    for way, image in images.items():
        WAYS[way][0](image)
    summary = summary_of(work)
    rows = rows_of(work)
    assert not summary.complete and list(rows) == sorted([*IMAGES, *(image.name for image in images.values())])
    for way, (_, status, reason) in WAYS.items():
        row = rows[images[way].name]
        assert row["status"] == status and reason in row["reason"] and bool(row["reason"]) == bool(reason), (way, row)
        figures = {column for column in COLUMNS[3:] if row[column]}
        assert figures - {"confidence"} == (set(ITEMS) | {"seconds"} if status == "measured" else set()), (way, row)
        assert ("confidence" in figures) == (way in ("searched", "unsure")), (way, row)
    assert {row["status"] for row in rows.values()} == set(STATUSES)
    for status in STATUSES:
        count = sum(row["status"] == status for row in rows.values())
        assert [line for line in summary.lines if re.match(rf"{status} +{count}\b", line)]
    assert f"{work}/project: 5 of 17 images are measured; see {work}/project/summary.tsv" in summary.lines
    said = [line for line in summary.lines if line.startswith("  ")]
    assert sorted(said) == sorted(
        f"  {row['status'] + ':':8} {name}: {row['reason']}"
        for name, row in rows.items()
        if row["status"] != "measured"
    )


def test_figures_are_those_of_info_xml(work):
    """Read by another program: the file to six digits, the screen as medians."""
    summary, rows = summary_of(work), rows_of(work)
    figures = {name: [] for name in ITEMS}
    for name in IMAGES:
        results = etree.parse(info_of(work, name)).find("DiffProcessingResults")
        for column, path in ITEMS.items():
            figures[column].append(float(results.find(path).get("value")))
            assert float(rows[name][column]) == pytest.approx(figures[column][-1], rel=1e-5)
    header, measured = (line.split() for line in summary.lines[:2])
    assert summary.complete and measured[:2] == ["measured", "3"]
    for column, values in figures.items():
        assert float(measured[header.index(column)]) == pytest.approx(median(values), rel=5e-3)


def test_skipped_images_are_no_failure(work, others):
    """Nor are those whose lattice waits for the user."""
    (others() / "ignore").touch()
    searched(others(), sure=False)
    assert summary_of(work).complete


def test_odd_texts_stay_on_their_line(work, others):
    """Tabs, line ends and control characters in names and reasons spoil neither the table nor the terminal."""
    edit(work / "project/project.xml", "ABC[0-9]{7}", "(?s)ABC.*")
    for name in ("ABC\ttab", "ABC\nline", "ABC\x1b[31mred", "ABC\udcff", 'ABC"quote', "ABC\u2028separator"):
        (work / "project" / name).mkdir()
    failed_at_work(others(), "a\tb \x1b[2J \"c' \u00e4; cure")
    summary = summary_of(work)
    content = (work / "project/summary.tsv").read_text(encoding="utf-8")
    lines = content.splitlines()
    assert len(lines) == 1 + 3 + 7 == content.count("\n") and all(
        line.count("\t") == len(COLUMNS) - 1 for line in lines
    )
    assert all(line.replace("\t", "").isprintable() for line in lines)
    assert all(line.isprintable() for line in summary.lines)
    assert rows_of(work)["ABC0000011"]["reason"] == "a\\tb \\x1b[2J \"c' \u00e4; cure"


def test_the_file_is_written_only_where_it_is_new(work):
    """An equal one stays untouched; what a killed run has left half written beside it goes."""
    summary_of(work)
    path = work / "project/summary.tsv"
    before = path.stat()
    (work / "project/.ed2d-0123456789abcdef.tsv").write_text("half")
    summary_of(work)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not list((work / "project").glob(".*"))
    path.write_text("edited")
    summary_of(work)
    assert len(rows_of(work)) == 3


def test_the_screen_shows_some_and_the_file_all(work, others):
    """Of many failures the first are shown, and how many more there are."""
    for _ in range(SHOWN + 5):
        failed_at_work(others(), "x.tif: is bad; cure it")
    lines = summary_of(work).lines
    assert sum(line.startswith("  failed:  ABC") for line in lines) == SHOWN and lines[-1] == "  failed:  and 5 more"
    assert sum(row["status"] == "failed" for row in rows_of(work).values()) == SHOWN + 5


def test_a_table_that_cannot_be_written_is_one_line(work):
    """All else is said all the same."""
    (work / "project/summary.tsv").unlink()
    (work / "project/summary.tsv").mkdir()
    summary = summary_of(work)
    assert summary.complete and summary.lines[0].startswith("status")
    assert "project/summary.tsv: cannot be written" in summary.lines[-1]


@pytest.mark.parametrize("last", ["CPU seconds = soon", "CPU seconds = ", "", "nothing"])
def test_an_odd_log_costs_the_seconds(work, last):
    """A log that somebody has edited is no reason to say nothing."""
    (work / f"project/{FIRST}/{FIRST}_ext.log").write_text(f"ed2d\n{last}\n")
    assert summary_of(work).complete
    assert rows_of(work)[FIRST]["seconds"] == "" and rows_of(work)[FIRST]["spots"]
