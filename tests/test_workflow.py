"""The workflow as a user runs it: what is measured, what is measured anew and why, and what is never touched."""

import os
import re

import numpy as np
import pytest
import tifffile

import runs
from ed2d.emdatainfo import Document
from ed2d.mtz import read_mtz
from runs import (
    IMAGES,
    INPUTS,
    LOGS,
    RESULTS,
    assert_same_points,
    contents,
    copy,
    edit,
    info_of,
    make_project,
    names,
    set_origin,
    set_parameter,
    snakemake,
    without_results,
)

FIRST, SECOND, THIRD = IMAGES


# what is made


def test_first_run_makes_the_results_and_nothing_else(first_run):
    """Beside every image stand exactly the files of the contract and the two logs, in info.xml the two groups."""
    directory, run = first_run
    assert run.status == 0
    for image in (directory / "project" / name for name in IMAGES):
        assert set(os.listdir(image)) == names(image, *INPUTS, *RESULTS, *LOGS)
        document = Document.read(image / "info.xml")
        assert document.group("DiffProcessingResults/DiffExtract/RefinedLattice") is not None
        assert document.group("DiffProcessingResults/DiffIntegrate") is not None
    assert set(os.listdir(directory / "project")) == {"project.xml", "summary.tsv", *IMAGES}
    assert set(os.listdir(directory)) == {"project", ".snakemake"}
    assert not list((directory / "project").rglob(".*"))


def test_a_run_says_what_a_person_wants_to_know(first_run):
    """Each image has one line for each step with its figures of merit, and the report counts the images."""
    _, run = first_run
    for name in IMAGES:
        run.line(f"{name}: extract: ", " spots, ", " used, ", " px, R_Friedel 0.")
        run.line(f"{name}: integrate: ", " integrated, ", "mean I/sigma", "R_Friedel 0.")
    assert run.report() == ["project: 3 of 3 images are measured"]


def test_logs_hold_version_and_parameters(first_run):
    """The log of a job names the program's version and every parameter with its value."""
    log = (first_run[0] / "project" / FIRST / f"{FIRST}_ext.log").read_text()
    assert re.match(r"ed2d \d+\.\d+", log) and "LatticeExtract/BoxSize = 5\n" in log and "Detector/Gain = 8.0\n" in log


def test_second_run_does_nothing(work):
    """Where all is up to date no job is started and no byte changes."""
    before = contents(work / "project")
    run = snakemake(work)
    assert run.status == 0 and run.jobs() == [] and "Nothing to be done" in run.text
    assert contents(work / "project") == before


def test_the_steps_are_targets(single, tmp_path):
    """`extract_all` stops before the integration, and `integrate_all` then only integrates."""
    image = copy(single, tmp_path / "project") / FIRST
    run = snakemake(tmp_path, "extract_all")
    assert run.status == 0 and run.jobs() == [("extract", FIRST), ("extract_all", "")]
    assert set(os.listdir(image)) == names(image, *INPUTS, "{0}_ext.mtz", "{0}_ext.log")
    run = snakemake(tmp_path, "integrate_all")
    assert run.status == 0 and run.jobs() == [("integrate", FIRST), ("integrate_all", "")]
    assert set(os.listdir(image)) == names(image, *INPUTS, *RESULTS, *LOGS)


# what is made again, and why


def test_a_parameter_of_one_image_concerns_this_image(work):
    """Only the image whose info.xml changes is measured anew, and the reason names the parameter before and now."""
    before = contents(work / "project")
    set_parameter(info_of(work, SECOND), "LatticeExtract", BoxSize=4)
    run = snakemake(work)
    assert run.status == 0 and run.measured() == [SECOND]
    was, now = run.changes("extract", SECOND)
    assert "'LatticeExtract/BoxSize = 5'" in was and "'LatticeExtract/BoxSize = 4'" in now
    changed = {path for path, content in contents(work / "project").items() if content != before[path]}
    image = work / "project" / SECOND
    assert changed == {f"{SECOND}/{name}" for name in names(image, "info.xml", *RESULTS)}


def test_project_xml_concerns_the_images_without_an_own_value(work):
    """A value in project.xml reruns every image but the one whose info.xml has the value itself."""
    set_parameter(info_of(work, SECOND), "LatticeExtract", BoxSize=5)
    edit(work / "project/project.xml", '<BoxSize value="5"', '<BoxSize value="4"')
    run = snakemake(work)
    assert run.status == 0 and run.measured() == [FIRST, THIRD]


def test_the_configuration_counts_where_no_file_has_the_value(work):
    """A nested value of `--config` reruns the images where project.xml does not have it, else none."""
    run = snakemake(work, config=["LatticeExtract={BoxSize: 4}"])
    assert run.status == 0 and run.jobs() == []
    edit(work / "project/project.xml", '<BoxSize value="5" type="int"/>', "")
    set_parameter(info_of(work, FIRST), "LatticeExtract", BoxSize=5)
    run = snakemake(work, config=["LatticeExtract={BoxSize: 4}"])
    assert run.status == 0 and run.measured() == [SECOND, THIRD]
    assert "'LatticeExtract/BoxSize = 4'" in run.changes("extract", SECOND)[1]


def test_error_models_concern_the_integration_only(work):
    """`--config 'Integrate={ApplyErrorModel: true}'` integrates again and extracts nothing.

    The images have too few pairs for a model, and info.xml says so: no intensity or error changes.
    """
    before = {name: read_mtz(work / "project" / name / f"{name}_int.mtz")[0] for name in IMAGES}
    config = ["Integrate={ApplyErrorModel: true}"]
    run = snakemake(work, config=config)
    assert run.status == 0 and run.jobs() == [("all", ""), *(("integrate", name) for name in IMAGES)]
    assert "'Integrate/ApplyErrorModel = True'" in run.changes("integrate", SECOND)[1]
    for name in IMAGES:
        table, header = read_mtz(work / "project" / name / f"{name}_int.mtz")
        assert table.tobytes() == before[name].tobytes() and header.image == name
        document = Document.read(info_of(work, name))
        assert document.item("DiffProcessingResults/DiffIntegrate/ErrorModelApplied", "bool") is False
    assert snakemake(work, config=config).jobs() == []


def test_error_models_of_one_image(work):
    """ApplyErrorModel in an info.xml concerns this image."""
    set_parameter(info_of(work, SECOND), "Integrate", ApplyErrorModel="true")
    run = snakemake(work)
    assert run.status == 0 and run.jobs() == [("all", ""), ("integrate", SECOND)]


def test_the_picture_of_the_residuals_comes_when_asked_for(work):
    """`--config residuals=true` makes the third picture of every image, once, and changes no other file."""
    before = contents(work / "project")
    run = snakemake(work, config=["residuals=true"])
    assert run.status == 0 and run.jobs() == [("all", ""), *(("integrate", name) for name in IMAGES)]
    after = contents(work / "project")
    assert set(after) - set(before) == {f"{name}/tmp_integrate3.tif" for name in IMAGES}
    assert {path: content for path, content in after.items() if path in before} == before
    assert snakemake(work, config=["residuals=true"]).jobs() == []
    (work / "project" / FIRST / "tmp_integrate3.tif").unlink()
    assert snakemake(work, config=["residuals=true"]).jobs() == [("all", ""), ("integrate", FIRST)]


def test_an_edited_lattice_reruns_its_image(work):
    """A new VerifiedLattice reruns the image, the reason shows the vector, and the refinement starts from it."""
    set_origin(info_of(work, THIRD), 146.0)
    run = snakemake(work)
    assert run.status == 0 and run.measured() == [THIRD]
    was, now = run.changes("extract", THIRD)
    assert "'origin = (" in was and "'origin = (146.0, " in now
    assert (
        "measures the VerifiedLattice, starts from the lattice that was given"
        in (work / "project" / THIRD / f"{THIRD}_ext.log").read_text()
    )


def test_comments_blanks_and_times_rerun_nothing(work):
    """An edit of info.xml or project.xml that changes no value, or a new time stamp, starts no job."""
    edit(info_of(work, FIRST), "<EMDataInfo>", "<EMDataInfo>\n<!-- looked at on Monday -->\n\n")
    edit(info_of(work, SECOND), "<DiffExtract>", "<DiffExtract>   ")
    info_of(work, THIRD).touch()
    edit(work / "project/project.xml", "<LatticeExtract>", "<!-- for all --><LatticeExtract>")
    run = snakemake(work)
    assert run.status == 0 and run.jobs() == []


def test_a_mask_file_that_comes_or_goes_reruns_its_image(work, tmp_path):
    """Removing NAME_mask.tif reruns the image, and so does putting it back."""
    mask = work / "project" / SECOND / f"{SECOND}_mask.tif"
    mask.rename(tmp_path / "mask.tif")
    run = snakemake(work)
    assert run.status == 0 and run.measured() == [SECOND]
    assert "'mask file = none'" in run.changes("extract", SECOND)[1]
    (tmp_path / "mask.tif").rename(mask)
    run = snakemake(work)
    assert run.status == 0 and run.measured() == [SECOND]


def test_a_changed_image_is_measured_again(work):
    """A newer image file of other content reruns both steps of this image."""
    path = work / "project" / FIRST / f"{FIRST}.tif"
    tifffile.imwrite(path, tifffile.imread(path) + np.uint16(8))
    run = snakemake(work)
    assert run.status == 0 and run.jobs() == [("all", ""), ("extract", FIRST), ("integrate", FIRST)]
    assert all("'image = " in text for text in run.changes("extract", FIRST))


def test_a_missing_result_is_made_again(work):
    """Any result that someone removed comes back, also one on the way to others that are there."""
    before = contents(work / "project")
    (work / "project" / FIRST / f"{FIRST}_ext.mtz").unlink()
    (work / "project" / SECOND / "tmp_integrate1.tif").unlink()
    run = snakemake(work)
    assert run.status == 0
    assert run.jobs() == [("all", ""), ("extract", FIRST), ("integrate", FIRST), ("integrate", SECOND)]
    assert contents(work / "project").keys() == before.keys()


# what is not touched


def test_all_that_a_user_wrote_survives(single, tmp_path):
    """Comments, unknown groups, order, CRLF and a last line without an end stay byte for byte, also when forced."""
    image = copy(single, tmp_path / "project") / FIRST
    text = (image / "info.xml").read_text()
    own = '<Camera name="K2">\n  <!-- ünknown to the program -->\n\t<Serial value="7"/></Camera>\n'
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<!-- kept -->\n{text}'.replace(
        "<EMDataInfo>\n", f"<EMDataInfo>\n{own}"
    )
    text = text.replace(
        "</DiffProcessingResults>", "<Judgement value='good &amp; sharp'  />\n </DiffProcessingResults>"
    )
    original = text.rstrip().replace("\n", "\r\n").encode()
    (image / "info.xml").write_bytes(original)
    for forced in ((), ("--forceall",)):
        assert snakemake(tmp_path, *forced).status == 0
        assert without_results(image / "info.xml") == original
    assert b"\n" not in (image / "info.xml").read_bytes().replace(b"\r\n", b"")


def test_a_broken_image_stops_no_other_and_loses_nothing(work):
    """One failure gives status 1 and one line in the report; its info.xml stays, the other images are measured."""
    broken = work / "project" / SECOND
    path = broken / f"{SECOND}.tif"
    path.write_bytes(path.read_bytes()[:5000])
    info = (broken / "info.xml").read_bytes()
    edit(work / "project/project.xml", '<BoxSize value="5"', '<BoxSize value="4"')
    run = snakemake(work)
    assert run.status == 1 and "Traceback" not in run.text
    assert run.report()[0] == "project: 2 of 3 images are measured"
    assert [
        line for line in run.report()[1:] if f"failed:  {SECOND}: project/{SECOND}/{SECOND}.tif: is cut short" in line
    ]
    assert (broken / "info.xml").read_bytes() == info
    others = [("extract", name) for name in IMAGES if name != SECOND]
    assert others == [job for job in run.jobs() if job[0] == "extract"]
    for name in (FIRST, THIRD):
        assert (work / "project" / name / f"{name}_int.mtz").exists()


def test_skipped_images_are_no_failure(tmp_path):
    """`ignore` (forced or not), no image: skipped with the reason, and the status is 0.

    So is an image without info.xml or lattice where no lattice is to be searched.
    """
    whole, ignored, imageless, infoless, latticeless = (f"ABC000000{n}" for n in range(5))
    project = make_project(tmp_path / "project", [whole, ignored, imageless, infoless, latticeless])
    (project / ignored / "ignore").touch()
    (project / imageless / f"{imageless}.tif").unlink()
    (project / infoless / "info.xml").unlink()
    (project / latticeless / "info.xml").write_text("<EMDataInfo><DiffProcessing/></EMDataInfo>")
    copy(project / whole, project / "ABC00000001")
    copy(project / whole, project / "xABC0000001")
    (project / "ABC0000009").write_text("a file, no directory")
    before = contents(project)
    run = snakemake(tmp_path, "--forceall", config=["search=never"])
    assert run.status == 0 and run.measured() == [whole]
    reasons = {
        ignored: "has a file `ignore`",
        imageless: f"has no image {imageless}.tif",
        infoless: "has no info.xml, hence no lattice",
        latticeless: "info.xml has no VerifiedLattice",
    }
    skipped = [f"skipped: {name}: {reason}" for name, reason in reasons.items()]
    assert run.report() == ["project: 1 of 5 images are measured", *(f"  {line}" for line in skipped)]
    assert [line for line in run.text.splitlines() if line.startswith("skipped: ")] == skipped
    log = next((tmp_path / ".snakemake/log").iterdir()).read_text()
    assert all(line in log for line in skipped)
    after = contents(project)
    assert {path for path in after if after[path] != before.get(path)} == {
        f"{whole}/{name}" for name in names(project / whole, "info.xml", *RESULTS)
    }


# where the project is


@pytest.mark.parametrize(
    "place, given",
    [
        ("two words/Kälte & Größe (1)", "two words/Kälte & Größe (1)"),
        ("project", "project/"),
        ("project", "other/../project"),
        (".", "."),
    ],
)
def test_any_path_will_do(single, tmp_path, place, given):
    """Blanks, letters beyond ASCII, a slash at the end, `.` and `..` in the project's path are no obstacle."""
    base = tmp_path / "base with blank"
    (base / "other").mkdir(parents=True)
    if place == ".":
        copy(single / FIRST, base / FIRST)
        (base / "project.xml").write_bytes((single / "project.xml").read_bytes())
    else:
        copy(single, base / place)
    run = snakemake(base, project=given)
    assert run.status == 0 and run.measured() == [FIRST]
    image = base / place / FIRST
    assert set(os.listdir(image)) == names(image, *INPUTS, *RESULTS, *LOGS)


def test_a_linked_project_from_another_directory(single, tmp_path):
    """Started elsewhere with `--snakefile`, a symbolic link to the project serves as its path and stays a link."""
    copy(single, tmp_path / "real")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    info = tmp_path / "real" / FIRST / "info.xml"
    info.rename(tmp_path / "lattice.xml")
    info.symlink_to(tmp_path / "lattice.xml")
    run = snakemake(None, cwd=elsewhere, project=tmp_path / "link")
    assert run.status == 0 and run.report() == [f"{tmp_path / 'real'}: 1 of 1 images are measured"]
    assert (tmp_path / "link").is_symlink() and info.is_symlink()
    assert b"<DiffIntegrate>" in (tmp_path / "lattice.xml").read_bytes()


MODULE = """
module ed2d:
    snakefile: {snakefile!r}
    config: {{"project": {project!r}}}

use rule * from ed2d as ed2d_*

rule everything:
    default_target: True
    input:
        rules.ed2d_all.input,
    output:
        "done.txt",
    shell:
        "touch {{output}}"
"""


def test_the_workflow_is_a_module_of_another(first_run, tmp_path):
    """Used as a `module` with nothing but `project` in its configuration it gives the same bytes."""
    project = make_project(tmp_path / "data/project")
    snakefile = tmp_path / "Snakefile"
    snakefile.write_text(MODULE.format(snakefile=str(runs.SNAKEFILE), project=str(project)))
    (tmp_path / "work").mkdir()
    run = snakemake(tmp_path / "work", snakefile=snakefile, project=None)
    assert run.status == 0 and (tmp_path / "work/done.txt").exists()
    assert contents(project) == contents(first_run[0] / "project")


# the same again


@pytest.mark.parametrize("cores", [1, 8])
def test_equal_input_gives_equal_bytes(first_run, tmp_path, cores):
    """A fresh copy at another place, with another number of cores, gives every file byte for byte."""
    project = make_project(tmp_path / "elsewhere/project")
    assert snakemake(tmp_path, project=project, cores=cores).status == 0
    assert contents(project) == contents(first_run[0] / "project")


def test_a_forced_run_gives_equal_bytes(first_run, work):
    """With the same values an extraction starts where it started, and all files are those of the first run."""
    run = snakemake(work, "--forceall")
    assert run.status == 0 and run.measured() == list(IMAGES)
    for name in IMAGES:
        log = (work / "project" / name / f"{name}_ext.log").read_text()
        assert "starts from the StartLattice of an earlier run with the same values" in log
    assert contents(work / "project") == contents(first_run[0] / "project")


def test_an_extraction_with_another_value_goes_on_from_the_refined_lattice(first_run, work):
    """The value has no influence here, and no predicted position moves by more than 0.01 px."""
    edit(work / "project/project.xml", '<Saturation value="60000.0"', '<Saturation value="59000.0"')
    assert snakemake(work).measured() == list(IMAGES)
    for name in IMAGES:
        log = (work / "project" / name / f"{name}_ext.log").read_text()
        assert "starts from the RefinedLattice of an earlier run" in log
        assert_same_points(first_run[0] / "project" / name, work / "project" / name)
