"""The page of lattices to verify, read as a browser reads it: what is on it, in which order, and that it is safe."""

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from statistics import median

import imagecodecs
import numpy as np
import pytest
import tifffile
from lxml import etree, html

from ed2d import contactsheet
from ed2d.contactsheet import contact_sheet
from ed2d.emdatainfo import lattice_element
from ed2d.lattice import Lattice
from ed2d.maskshapes import rasterise, read_shapes
from emdatafiles import refusal
from searched import FACTOR, LATTICE, MASK, RUNNER_UP, SHAPE, Searched, still, write_image, write_project

VERIFIED = [lattice_element("VerifiedLattice", LATTICE)]
REJECTED = [lattice_element("RejectedLattice", replace(LATTICE, origin=(171.9, 148.4)))]
HOSTILE = "</script><script>hacked = 1</script><!-- <img src=x onerror=hacked=1> &quot; \u2028 @SCRIPT@ ${1}"


class Page:
    """A page as a browser sees it: its project, its images by name, and their pictures."""

    def __init__(self, path):
        self.text = path.read_text(encoding="utf-8")
        self.tree = html.document_fromstring(self.text)
        (project,) = self.tree.xpath("//script[@id='project']")
        self.project = json.loads(project.text)
        listed = [json.loads(script.text) for script in self.tree.find_class("image")]
        self.order = [image["image"] for image in listed]
        self.images = dict(zip(self.order, listed, strict=True))
        pictures = [base64.b64decode(script.text, validate=True) for script in self.tree.find_class("picture")]
        self.pictures = dict(zip(self.order, pictures, strict=True))

    @property
    def broken(self):
        return {one["image"]: one["reason"] for one in self.project["broken"]}


def made(project):
    """The page of a project, and the summary line."""
    output = project / "verify.html"
    said = contact_sheet(project=str(project), config={}, memory=None, output=str(output))
    return Page(output), said


@pytest.fixture
def page(tmp_path):
    """A function that makes the page of images {name: Searched}."""
    return lambda images: made(write_project(tmp_path / "project", images))[0]


def test_images_come_in_order_of_doubt(page):
    images = {
        "sure": Searched(confidence=0.9999, sure=True, reason=""),
        "less": Searched(confidence=0.4),
        "even": Searched(confidence=0.4),
        "none": Searched(None, confidence=0.0, runner_up=None, reason="no clear peaks"),
        "least": Searched(confidence=0.1),
        "rejected": Searched(confidence=0.2, extra=REJECTED),
        "verified": Searched(confidence=0.0, extra=VERIFIED),
    }
    assert page(images).order == ["none", "least", "even", "less", "sure", "rejected"]


def test_images_that_do_not_wait_are_not_shown(tmp_path):
    project = write_project(tmp_path / "project", dict.fromkeys(("ignored", "new", "empty", "waits"), Searched()))
    (project / "ignored/ignore").touch()
    (project / "new/info.xml").write_text("<EMDataInfo/>")
    (project / "empty/info.xml").unlink()
    page, said = made(project)
    assert page.order == ["waits"] and page.broken == {}
    assert said == f"{project}: 1 to verify (0 without a lattice), 0 broken; open {project}/verify.html in a browser"


def test_lattices_come_through_exactly(page):
    odd = Lattice(origin=(1 / 3, 2**-40), a=(1e-9 + 7, -0.0), b=(np.pi, -1e3 / 7), barrel=-1.23e-17, spiral=5e-324)
    image = page({"A1": Searched(odd, runner_up=RUNNER_UP)}).images["A1"]
    for said, lattice in ((image["lattice"], odd), (image["runnerUp"], RUNNER_UP)):
        vectors = (tuple(said[name]) for name in ("offset", "first", "second"))
        assert Lattice(*vectors, said["barrel"], said["spiral"]).digest() == lattice.digest()
    assert image["searched"] == odd.digest()


def test_what_the_search_says_is_on_the_page(page):
    image = page({"A1": Searched(confidence=0.25, reason="too few peaks")}).images["A1"]
    expected = {"confidence": 0.25, "sure": False, "reason": "too few peaks", "runnerUpConfidence": 0.21}
    expected |= {"peakCount": 150, "share": 0.93, "rms": 0.31, "rejected": False, "shape": list(SHAPE)}
    assert image | expected == image
    peaks = still(LATTICE, SHAPE, seed=1)[1]["peaks"]
    assert image["factor"] == FACTOR
    assert np.array(image["peaks"]) == pytest.approx(np.array(peaks), abs=0.006)


def test_there_is_no_second_lattice_without_a_first(page):
    image = page({"A1": Searched(None, runner_up=RUNNER_UP)}).images["A1"]
    assert image["lattice"] is image["runnerUp"] is image["searched"] is None


def test_pictures_are_those_of_the_search(page):
    jpeg = page({"A1": Searched()}).pictures["A1"]
    pixels, _ = still(LATTICE, SHAPE, seed=1)
    shown = imagecodecs.jpeg8_decode(jpeg)
    assert shown.shape == pixels.shape
    assert np.abs(shown.astype(float) - pixels).mean() < 8


def test_noisy_pictures_are_small(tmp_path):
    project = write_project(tmp_path / "project", {})
    noise = np.random.default_rng(1).normal(100, 12, (1024, 1024)).clip(0, 255).astype(np.uint8)
    write_image(project / "A1", Searched(), (noise, {"shape": [4096, 4094], "factor": 4, "peaks": []}))
    page, _ = made(project)
    assert len(page.pictures["A1"]) < 1.5 * contactsheet.MOST_BYTES


# ---- cells and shapes


def test_the_median_is_that_of_the_sure_lattices(page):
    grown = {f"A{n}": replace(LATTICE, a=(24.0 + n, 7.0)) for n in range(6)}
    sure = {name: Searched(lattice, sure=name != "A5", reason="") for name, lattice in grown.items()}
    sure["A0"] = replace(sure["A0"], extra=[lattice_element("VerifiedLattice", grown["A0"])])
    said = page(sure).project["median"]
    those = [lattice for name, lattice in grown.items() if name != "A5"]
    lengths = [(np.hypot(*lattice.a), np.hypot(*lattice.b), lattice.gamma) for lattice in those]
    assert said == pytest.approx([median(column) for column in zip(*lengths, strict=True)], rel=1e-12)


def test_there_is_no_median_of_two(page):
    assert page({"A1": Searched(sure=True), "A2": Searched(sure=True), "A3": Searched()}).project["median"] is None


def drawn(outlines):
    """The pixels inside of outlines as the page has them."""
    mask = etree.Element("Mask")
    for one in outlines:
        if "nodes" in one:
            shape = etree.SubElement(mask, "Polygon")
            points = [(etree.SubElement(shape, "Node"), node) for node in one["nodes"]]
        else:
            shape = etree.SubElement(mask, "Circle")
            points = [(etree.SubElement(shape, "Center"), one["center"])]
            etree.SubElement(shape, "Radius", value=str(one["radius"]))
        for element, (x, y) in points:
            etree.SubElement(element, "x", value=str(x))
            etree.SubElement(element, "y", value=str(y))
    return rasterise(read_shapes(mask, None), SHAPE)


EXTENT = "<Extent><Start><x value='3'/><y value='4'/></Start><End><x value='40.5'/><y value='9'/></End></Extent>"


def test_outlines_are_those_of_the_shapes_in_force(tmp_path):
    names = ("found", "own", "file")
    project = write_project(tmp_path / "project", dict.fromkeys(names, Searched()))
    own = f"<DiffProcessing><Mask><Composite>{EXTENT}</Composite></Mask></DiffProcessing></EMDataInfo>"
    path = project / "own/info.xml"
    path.write_text(path.read_text().replace("</EMDataInfo>", own))
    tifffile.imwrite(project / "file/file_mask.tif", np.ones(SHAPE, np.uint8))
    page, _ = made(project)
    found = rasterise(read_shapes(etree.fromstring(MASK), None), SHAPE)
    extent = rasterise(read_shapes(etree.fromstring(f"<Mask>{EXTENT}</Mask>"), None), SHAPE)
    assert found.sum() > 1000 and extent.sum() > 100
    assert np.mean(drawn(page.images["found"]["outlines"]) != found) < 1e-3
    assert np.mean(drawn(page.images["own"]["outlines"]) != extent) < 1e-3  # the last row and column are an edge
    assert page.images["file"]["outlines"] == []


def test_a_mask_of_the_project_is_in_force_besides(tmp_path):
    project = write_project(tmp_path / "project", {"A1": Searched()})
    path = project / "project.xml"
    inverted = f"<Mask><Invert>{EXTENT}</Invert></Mask></DiffProcessing>"
    path.write_text(path.read_text().replace("</DiffProcessing>", inverted))
    outlines = made(project)[0].images["A1"]["outlines"]
    assert [sorted(one) for one in outlines] == [["nodes"], ["nodes"], ["center", "radius"]]
    assert outlines[0]["nodes"] == [[3.0, 4.0], [40.5, 4.0], [40.5, 9.0], [3.0, 9.0]]


# ---- a page that is whole, and harms nobody


def test_the_page_needs_nothing_else(page):
    page = page({"A1": Searched()})
    policies = page.tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    (policy,) = policies
    sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert sources["default-src"] == sources["base-uri"] == sources["form-action"] == "'none'"
    assert sources["img-src"] == "data:"
    for tag, source in (("style", "style-src"), ("script", "script-src")):
        *_, own = (one for one in page.tree.iter(tag) if one.get("type") is None)
        digest = base64.b64encode(hashlib.sha256(own.text.encode()).digest()).decode()
        assert sources[source] == f"'sha256-{digest}'"
    assert not page.tree.xpath("//@src | //@href | //link | //iframe | //object | //*[@style]")
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|innerHTML|eval\(", page.text)


def test_hostile_texts_stay_texts(tmp_path):
    name = "<img src=x onerror=alert(1)> \u2028'\"&"
    project = write_project(tmp_path / "@STYLE@ </title><b>", {name: Searched(reason=HOSTILE), "A1": Searched()})
    (project / "A1/tmp_search.tif").unlink()
    (project / "A1").rename(project / "<script>b")
    page, _ = made(project)
    assert page.order == [name]
    assert page.images[name]["reason"] == HOSTILE
    assert list(page.broken) == ["<script>b"]
    assert page.project["name"] == page.tree.findtext(".//title").removeprefix("ed2d: verify ") == project.name
    scripts = [one for one in page.tree.iter("script") if one.get("type") is None]
    assert len(scripts) == 1 and not page.tree.xpath("//b/b | //body//img[@src]")


def break_picture(content):
    return lambda directory: (directory / "tmp_search.tif").write_bytes(content)


def describe(description):
    def change(directory):
        pixels, about = still(LATTICE, SHAPE, seed=1)
        text = description if isinstance(description, str) else json.dumps(about | description)
        tifffile.imwrite(directory / "tmp_search.tif", pixels, description=text, metadata=None)

    return change


def edit(old, new):
    def change(directory):
        path = directory / "info.xml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return change


FAULTS = {
    "bad XML": edit("<DiffSearch>", ""),
    "two searches": edit("<DiffSearch>", "<DiffSearch/><DiffSearch>"),
    "a number that is none": edit('value="0.6"', 'value="much"'),
    "a share above 1": edit('value="0.93"', 'value="93"'),
    "lattice without origin": edit("Offset>", "Other>"),
    "bad mask": edit('<Radius value="16"', '<Radius value="-16"'),
    "directory in place of info.xml": lambda path: ((path / "info.xml").unlink(), (path / "info.xml").mkdir()),
    "no picture": lambda path: (path / "tmp_search.tif").unlink(),
    "empty picture": break_picture(b""),
    "no TIFF": break_picture(b"<svg onload=alert(1)>"),
    "cut short": lambda path: os.truncate(path / "tmp_search.tif", 9000),
    "counts": lambda path: tifffile.imwrite(path / "tmp_search.tif", np.ones((99, 99), np.uint16)),
    "colour": lambda path: tifffile.imwrite(path / "tmp_search.tif", np.ones((99, 99, 3), np.uint8), photometric="rgb"),
    "too large": lambda path: tifffile.imwrite(path / "tmp_search.tif", np.ones((2100, 99), np.uint8)),
    "no description": describe(""),
    "no JSON": describe("{"),
    "a list": describe("[]"),
    "deep": describe("[" * 100_000),
    "another shape": describe({"shape": [30, 40]}),
    "shape of one": describe({"shape": [300]}),
    "factor 0": describe({"factor": 0}),
    "factor of text": describe({"factor": "2"}),
    "peaks of pairs": describe({"peaks": [[1.0, 2.0]]}),
    "peaks of texts": describe({"peaks": [["<", "b", ">"]]}),
    "ragged peaks": describe({"peaks": [[1.0, 2.0, 1], [2.0]]}),
    "infinite peaks": describe({"peaks": [[1.0, float("inf"), 1]]}),
    "huge peaks": describe({"peaks": [[10**400, 1.0, 1]]}),
    "a thousand and one": describe({"peaks": [[1.0, 2.0, 1]] * 1001}),
}


def test_broken_images_are_listed_and_hurt_no_other(tmp_path):
    names = {fault: f"A{number}" for number, fault in enumerate(FAULTS)}
    project = write_project(tmp_path / "project", dict.fromkeys([*names.values(), "good"], Searched()))
    for fault, change in FAULTS.items():
        change(project / names[fault])
    page, said = made(project)
    assert page.order == ["good"]
    assert set(page.broken) == set(names.values())
    for name, reason in page.broken.items():
        assert reason.startswith(f"{project / name}/") and reason.isprintable() and reason.count("; ") >= 1, reason
    assert f"1 to verify (0 without a lattice), {len(FAULTS)} broken" in said


def test_the_most_doubtful_are_on_the_page(page, monkeypatch):
    monkeypatch.setattr(contactsheet, "MOST_IMAGES", 3)
    shown = page({f"A{n}": Searched(confidence=1 - n / 10) for n in range(7)})
    assert shown.order == ["A6", "A5", "A4"]
    assert shown.project["remaining"] == 4


def test_the_same_files_make_the_same_page(tmp_path):
    project = write_project(tmp_path / "project", {"A1": Searched()})
    assert made(project)[0].text == made(project)[0].text


def test_a_project_that_is_none_is_said(tmp_path):
    arguments = {"config": {}, "memory": None, "output": str(tmp_path / "verify.html")}
    refusal(lambda: contact_sheet(project=str(tmp_path / "missing"), **arguments), "is not a directory")
    assert not list(tmp_path.iterdir())
