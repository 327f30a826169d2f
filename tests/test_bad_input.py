"""What a user can get wrong: each mistake is one line with file, value and cure, and harms nothing else."""

import os
import re

import numpy as np
import pytest
import tifffile

from ed2d.mtz import read_mtz
from faults import assert_same_results, read_only, small_disk
from runs import IMAGES, INPUTS, RESULTS, contents, copy, edit, make_project, names, set_parameter, snakemake

FIRST, SECOND, THIRD = IMAGES
SHAPE = (256, 288)


# one image


def paths(directory):
    return directory / f"{directory.name}.tif", directory / f"{directory.name}_mask.tif", directory / "info.xml"


def cut_short(directory):
    image, _, _ = paths(directory)
    image.write_bytes(image.read_bytes()[:30000])


def coloured(directory):
    tifffile.imwrite(paths(directory)[0], np.full((*SHAPE, 3), 7, np.uint8), photometric="rgb")


def all_zero(directory):
    tifffile.imwrite(paths(directory)[0], np.zeros(SHAPE, np.uint16))


def other_mask(directory):
    tifffile.imwrite(paths(directory)[1], np.ones((288, 256), np.uint8))


def lattice(directory, *, origin=(146.0, 125.0), a=(24.0, 7.0), b=(-6.0, 26.0)):
    """Writes an info.xml with this VerifiedLattice."""
    pairs = zip(("Offset", "First", "Second"), (origin, a, b), strict=True)
    groups = "".join(f'<{name}><x value="{x}"/><y value="{y}"/></{name}>' for name, (x, y) in pairs)
    results = f"<DiffProcessingResults><VerifiedLattice>{groups}</VerifiedLattice></DiffProcessingResults>"
    (directory / "info.xml").write_text(f"<EMDataInfo>\n{results}\n</EMDataInfo>")


def broken_xml(directory):
    edit(directory / "info.xml", "</Offset>", "")


def own(**items):
    return lambda directory: set_parameter(directory / "info.xml", "LatticeExtract", **items)


MISTAKES = {
    "truncated TIFF": (cut_short, ".tif: is cut short: 256x288 pixels are declared", "copy it again"),
    "RGB": (coloured, ".tif: is a colour image (3 samples a pixel, RGB)", "save it as grey values"),
    "all zero": (all_zero, ".tif: all usable pixels have the value 0", "give the recorded image"),
    "mask": (other_mask, "_mask.tif: has (288, 256) rows and columns", "make a mask of the image's shape"),
    "singular": (
        lambda directory: lattice(directory, b=(48.0, 14.0)),
        "info.xml: First and Second are parallel in DiffProcessingResults/VerifiedLattice, (24.0, 7.0) and ",
        "give the basis vectors of the lattice in px",
    ),
    "far off": (
        lambda directory: lattice(directory, origin=(1e5, -3000.0)),
        "info.xml: the Offset (100000, -3000) of the VerifiedLattice is far off the image of 288 x 256",
        "give the origin of the lattice in px",
    ),
    "no match": (
        lambda directory: lattice(directory, origin=(157.0, 140.0)),
        "info.xml: the lattice cannot be refined: ",
        "check the VerifiedLattice against the image, and BoxSize",
    ),
    "broken XML": (broken_xml, "info.xml: not well-formed XML at line ", "correct the file there"),
    "six": (
        own(BoxSize="six"),
        "info.xml: the value 'six' of DiffProcessing/LatticeExtract/BoxSize is not a whole number",
        "give a whole number of at least 1",
    ),
    "neighbours": (
        own(BoxSize=24),
        "info.xml: BoxSize 24 puts the neighbouring spots, 24.0 px away, inside the box",
        "choose a BoxSize of at most 11",
    ),
    "larger": (
        own(BoxSize=150),
        "info.xml: boxes of 307 px (BoxSize 150) do not fit on an image of 288 x 256",
        "choose a smaller BoxSize, BoxGrowAmount or BackgroundRimSize",
    ),
}
BROKEN = {kind: f"ABC{number:07d}" for number, kind in enumerate(MISTAKES, start=1)}
GOOD, NANS, OVERLAP, NO_LATTICE = (f"ABC{number:07d}" for number in range(101, 105))


@pytest.fixture(scope="module")
def bad_project(tmp_path_factory):
    """A project with every mistake and some good images: its path, its files before the run, and the run."""
    directory = tmp_path_factory.mktemp("bad")
    project = make_project(directory / "project", [*BROKEN.values(), GOOD, NANS, OVERLAP, NO_LATTICE])
    for kind, (spoil, _, _) in MISTAKES.items():
        spoil(project / BROKEN[kind])
    image = tifffile.imread(project / NANS / f"{NANS}.tif").astype(np.float32)
    image[30:70, 40:90] = np.nan
    tifffile.imwrite(project / NANS / f"{NANS}.tif", image)
    own(BoxSize=12)(project / OVERLAP)
    (project / NO_LATTICE / "info.xml").write_text("<EMDataInfo/>")
    before = contents(project)
    return project, before, snakemake(directory, config=["search=never"])


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_is_one_line_with_file_value_and_cure(bad_project, kind):
    """The line stands in the report, behind the image's name, ends the log, and a job that began has said it."""
    project, _, run = bad_project
    name, (_, problem, cure) = BROKEN[kind], MISTAKES[kind]
    begin = f"  failed:  {name}: "
    line = next(line for line in run.report() if line.startswith(begin)).removeprefix(begin)
    assert line.startswith(f"project/{name}/") and problem in line and cure in line
    early = list(project.parent.glob(f".snakemake/ed2d/*/refused/{name}.log"))
    late = [path for path in [project / name / f"{name}_ext.log"] if path.is_file()]
    (path,) = early + late
    assert run.text.splitlines().count(line) == len(late)
    log = path.read_text()
    assert log.endswith(f"{line}\n") and ("Traceback" in log) == bool(late)


def test_mistakes_stop_no_other_image(bad_project):
    """The good images are measured, the report counts them, the status is 1 and no traceback is shown."""
    project, _, run = bad_project
    assert run.status == 1 and "Traceback" not in run.text
    assert run.report()[0] == f"project: 3 of {len(BROKEN) + 4} images are measured"
    assert run.report()[1] == f"  skipped: {NO_LATTICE}: info.xml has no VerifiedLattice"
    for name in (GOOD, NANS, OVERLAP):
        assert names(project / name, *RESULTS) <= set(os.listdir(project / name))


def test_mistakes_lose_nothing(bad_project):
    """Every file that was there is there byte for byte, but for the info.xml of measured images; no result is half."""
    project, before, _ = bad_project
    after = contents(project)
    assert {path for path in before if after.get(path) != before[path]} == {
        f"{name}/info.xml" for name in (GOOD, NANS, OVERLAP)
    }
    assert {path.split("/")[0] for path in after.keys() - before.keys()} == {GOOD, NANS, OVERLAP}


def test_nan_pixels_are_ignored(bad_project):
    """A float image with NaNs is measured: all other points, and each with finite intensity and sigma."""
    project, _, _ = bad_project
    table, _ = read_mtz(project / NANS / f"{NANS}_int.mtz")
    assert len(table) > 50 and np.isfinite(table["I"]).all() and np.isfinite(table["VARI"]).all()
    inside = (table["XDET"] > 44) & (table["XDET"] < 85) & (table["YDET"] > 34) & (table["YDET"] < 65)
    assert not inside.any()


def test_overlapping_boxes_are_a_warning(bad_project):
    """Inner boxes that overlap are measured all the same; the terminal says which file and how far neighbours are."""
    _, _, run = bad_project
    assert run.line(f"project/{OVERLAP}/info.xml: the inner squares of neighbouring spots, 24.0 px apart, overlap")


# the project and the configuration


def project_xml(content):
    return f"<EMDataInfo><DiffProcessing>{content}</DiffProcessing></EMDataInfo>"


@pytest.mark.parametrize(
    "content, problem, cure",
    [
        (None, "empty/project.xml: cannot be read (No such file or directory)", "check that it exists"),
        (project_xml(""), "empty/project.xml: the item DiffProcessing/ImageMask is missing", 'add <ImageMask value="'),
        (
            project_xml('<ImageMask value="ABC[0-9"/>'),
            "empty/project.xml: the value 'ABC[0-9' of DiffProcessing/ImageMask is no regular expression",
            "give one that matches the directories",
        ),
        (
            project_xml('<ImageMask value="XYZ[0-9]+"/>'),
            "empty/project.xml: no directory has a name that matches the value 'XYZ[0-9]+' of DiffProcessing/ImageMask",
            "correct it, or",
        ),
        (project_xml("<ImageMask>"), "empty/project.xml: not well-formed XML at line 1", "correct the file there"),
    ],
    ids=["no project.xml", "no ImageMask", "no regular expression", "no image", "broken XML"],
)
def test_a_useless_project_is_one_line(tmp_path, content, problem, cure):
    """Whatever is wrong with project.xml is told with file, value and cure before any job is started."""
    (tmp_path / "empty").mkdir()
    if content is not None:
        (tmp_path / "empty/project.xml").write_text(content)
    refused(snakemake(tmp_path, project="empty"), problem, cure)


def refused(run, problem, cure):
    """Asserts that the run did not begin, and said why in one line without a traceback."""
    assert run.status == 1 and run.jobs() == [] and "Traceback" not in run.text
    line = run.line(problem, cure)
    shown = [
        entry for entry in run.text.splitlines() if not entry.startswith(("Using workflow specific profile", "  File"))
    ]
    assert re.fullmatch(r'WorkflowError in file ".*common\.smk", line \d+:', shown[0]) and shown[1] == line


@pytest.mark.parametrize(
    "project, config, problem, cure",
    [
        ("nothing", [], "nothing: is not a directory", "set `project` to the directory with project.xml"),
        ("2024", [], "config: project is the number 2024", "project=./NAME"),
        (
            "project",
            ["LatticeExtract={BoxSise: 5}"],
            "config: LatticeExtract/BoxSise is no key of the configuration",
            "the keys of LatticeExtract are BoxSize, ",
        ),
        ("project", ["Detecter={Gain: 5}"], "config: Detecter is no key of the configuration", "Detector"),
        (
            "project",
            ["LatticeExtract={BoxSize: six}"],
            "config: the value 'six' of LatticeExtract/BoxSize is not of the type integer",
            "give the half-size",
        ),
        (
            "project",
            ["LatticeExtract=6"],
            "config: the value '6' of LatticeExtract is not of the type object",
            "BoxSize: 6",
        ),
        (
            "project",
            ["Detector={Gain: -1}"],
            "config: the value '-1' of Detector/Gain is less than 0",
            "counts per electron",
        ),
        ("project", ["UnitCell={A: 62}"], "config: UnitCell: 'B' is a required property", "give all of them"),
        (
            "project",
            ["Integrate={ApplyErrorModel: 2}"],
            "config: the value '2' of Integrate/ApplyErrorModel is not of the type boolean",
            "give true or false",
        ),
        (
            "project",
            ["Integrate={ApplyErrorModels: true}"],
            "config: Integrate/ApplyErrorModels is no key of the configuration",
            "the keys of Integrate are ApplyErrorModel",
        ),
        (
            "project",
            ["residuals=perhaps"],
            "config: the value 'perhaps' of residuals is not of the type boolean",
            "give true or false",
        ),
    ],
    ids=[
        *("no directory", "number", "misspelt key", "misspelt group", "type", "no group", "limit", "incomplete"),
        *("truth value", "misspelt truth value", "residuals"),
    ],
)
def test_a_wrong_configuration_is_one_line(tmp_path, project, config, problem, cure):
    """A misspelt key, a wrong type and a value out of range are refused with name, value and cure."""
    refused(snakemake(tmp_path, project=project, config=config), problem, cure)


def test_a_slip_in_project_xml_costs_no_result(tmp_path):
    """A bad value there fails every image, keeps all results, and when it is put right there is nothing to do."""
    project = make_project(tmp_path / "project", [FIRST])
    assert snakemake(tmp_path).status == 0
    edit(project / "project.xml", '<Gain value="8.0"', '<Gain value="eight"')
    before = contents(project)
    run = snakemake(tmp_path)
    problem = "project/project.xml: the value 'eight' of DiffProcessing/Detector/Gain is not a finite number; "
    assert run.status == 1 and run.report()[1].startswith(f"  failed:  {FIRST}: {problem}")
    assert contents(project) == before
    edit(project / "project.xml", '<Gain value="eight"', '<Gain value="8.0"')
    run = snakemake(tmp_path)
    assert run.status == 0 and run.jobs() == []


# the disk


def test_an_unwritable_directory_is_one_failed_image(tmp_path):
    """Before and after a first run: the image is reported with the cure, the others are measured, nothing is lost."""
    project = make_project(tmp_path / "project", IMAGES[:2])
    cure = f"  failed:  {SECOND}: project/{SECOND}: cannot be written to; make the directory writable"
    with read_only(project / SECOND):
        run = snakemake(tmp_path)
        assert run.status == 1 and "Traceback" not in run.text
        assert run.report() == ["project: 1 of 2 images are measured", cure]
    assert set(os.listdir(project / SECOND)) == names(project / SECOND, *INPUTS)
    assert snakemake(tmp_path).status == 0
    before = contents(project / SECOND)
    edit(project / "project.xml", '<BoxSize value="5"', '<BoxSize value="4"')
    with read_only(project / SECOND):
        run = snakemake(tmp_path)
        assert run.status == 1 and "Traceback" not in run.text and ("integrate", FIRST) in run.jobs()
        assert run.report()[1:] == [cure]
    assert contents(project / SECOND) == before


def test_a_full_disk_is_one_failed_image(tmp_path):
    """Full at the log, the reflections, info.xml or the montages: one line each, info.xml whole.

    When there is room again, the next run gives all files as on a disk that was never full.
    """
    room = {"ABC0000001": 0, "ABC0000002": 2, "ABC0000003": 6, "ABC0000004": 15}
    project = make_project(tmp_path / "project", ["ABC0000000", *room])
    other = copy(project, tmp_path / "other/project")
    assert snakemake(tmp_path / "other").status == 0
    with (
        small_disk(project / "ABC0000001", pages=0),
        small_disk(project / "ABC0000002", pages=2),
        small_disk(project / "ABC0000003", pages=6),
        small_disk(project / "ABC0000004", pages=15),
    ):
        infos = {name: (project / name / "info.xml").read_bytes() for name in room}
        run = snakemake(tmp_path)
        assert run.status == 1 and "Traceback" not in run.text
        assert run.report()[0] == "project: 1 of 5 images are measured"
        for name, file in zip(room, ("_ext.log", "_ext.mtz", "info.xml", "tmp_integrate1.tif"), strict=True):
            assert run.line(f"{name}/", file, "cannot be written", "No space left on device", "free space")
        for name, line in zip(room, run.report()[1:], strict=True):
            assert f" {name}: " in line and re.search("disk is full|No space left on device", line)
            assert not list((project / name).glob(".*")) and not (project / name / f"{name}_int.mtz").exists()
        for name in list(room)[:3]:
            assert (project / name / "info.xml").read_bytes() == infos[name]
            assert not (project / name / f"{name}_ext.mtz").exists()
        for name in room:
            (project / name / "filling").unlink()
        run = snakemake(tmp_path)
        assert run.status == 0 and run.report() == ["project: 5 of 5 images are measured"]
        assert_same_results(project, other)
