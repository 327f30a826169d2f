"""Runs that start from bare images: lattices are searched, and those that are sure are measured in the same run."""

import os
import signal

import numpy as np
import pytest
import tifffile

from ed2d.emdatainfo import SEARCHED, Document, create_info, lattice_element, replace_group, searched_lattice
from faults import assert_no_leftovers, assert_same_results, resume, started
from runs import contents, copy, info_of, make_project, snakemake, without_results
from test_batches import batches, logs

BARE, MASKED, VERIFIED, EMPTY, BROKEN = (f"ABC000000{n}" for n in range(1, 6))
SEARCHES = (BARE, MASKED, EMPTY)
RESULTS = "DiffProcessingResults"


def plans(run):
    """How often a run has planned."""
    return run.text.count("Building DAG of jobs...")


def write_lattice(directory, image, tag):
    """Writes the searched lattice of an image once more, under another name."""
    info = info_of(directory, image)
    replace_group(info, f"{RESULTS}/{tag}", lattice_element(tag, searched_lattice(Document.read(info))))


def item(directory, image, path, kind):
    return Document.read(info_of(directory, image)).item(path, kind)


def lines_of(directory, image, log):
    return (directory / "project" / image / f"{image}{log}").read_text()


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A directory with a project: a bare image, one with a mask, one with a lattice, one of noise, a broken one."""
    directory = tmp_path_factory.mktemp("bare")
    project = make_project(directory / "project", [BARE, MASKED, VERIFIED, EMPTY, BROKEN])
    for name in (BARE, MASKED, EMPTY, BROKEN):
        (project / name / "info.xml").unlink()
    for name in (BARE, EMPTY, BROKEN):
        (project / name / f"{name}_mask.tif").unlink()
    noise = np.random.default_rng(7).poisson(30, (256, 288)).astype(np.uint16)
    tifffile.imwrite(project / EMPTY / f"{EMPTY}.tif", 8 * noise + 50)
    broken = project / BROKEN / f"{BROKEN}.tif"
    broken.write_bytes(broken.read_bytes()[:5000])
    return directory


@pytest.fixture(scope="module")
def first(bare, tmp_path_factory):
    """A copy of it that was measured once, and the run."""
    directory = copy(bare, tmp_path_factory.mktemp("first") / "first")
    return directory, snakemake(directory)


@pytest.fixture(scope="module")
def whole(first, tmp_path_factory):
    """A copy of that without the broken image."""
    directory = copy(first[0], tmp_path_factory.mktemp("whole") / "whole")
    (directory / "project" / BROKEN / "ignore").touch()
    return directory


@pytest.fixture
def work(whole, tmp_path):
    return copy(whole, tmp_path / "work")


def test_bare_images_are_measured_in_one_command(bare, first):
    """Searched in a first plan, measured in a second; an unsure one and a broken one cost the others nothing."""
    directory, run = first
    assert run.status == 1 and plans(run) == 2 and "Traceback" not in run.text
    both = [("extract", name) for name in (BARE, MASKED, VERIFIED)]
    both += [("integrate", name) for name in (BARE, MASKED, VERIFIED)]
    found = [("mask", name) for name in (BARE, EMPTY, BROKEN)] + [("search", name) for name in SEARCHES]
    assert [job for job in run.jobs() if job[0] != "all"] == sorted(both + found)
    assert run.line("4 images searched: 2 are sure and measured now, 1 waits for verification, 1 failed")
    planned_first = run.text.partition("images searched: ")[0]
    assert f"{VERIFIED}: integrate: " in planned_first and f"{BARE}: extract: " not in planned_first
    heading, *reasons = run.report()
    assert heading == "project: 3 of 5 images are measured"
    assert reasons[0].startswith(f"  unverified: {EMPTY}: no lattice was found: ") and "snakemake verify" in reasons[0]
    assert reasons[1].startswith(f"  failed:  {BROKEN}: project/{BROKEN}/{BROKEN}.tif: is cut short")
    assert_no_leftovers(directory / "project")
    assert list(directory.glob(".snakemake/ed2d/*/*order*")) == []
    for name in SEARCHES:
        assert run.line(f"{name}: search: ", " peaks")
        assert item(directory, name, f"{SEARCHED}/Sure", "bool") == (name != EMPTY)
        assert (item(directory, name, f"{SEARCHED}/Confidence", "float") > 0) == (name != EMPTY)
    assert Document.read(info_of(directory, EMPTY)).group(f"{SEARCHED}/SearchedLattice") is None
    assert item(directory, EMPTY, f"{SEARCHED}/Reason", "string")
    assert "measures the SearchedLattice" in lines_of(directory, BARE, "_ext.log")


def test_what_is_written_and_what_is_not(bare, first):
    """A picture, a mask where there was none, an info.xml; a VerifiedLattice stays as it is and is not searched."""
    directory, _ = first
    project = directory / "project"
    given = bare / "project" / VERIFIED
    assert without_results(project / VERIFIED / "info.xml") == (given / "info.xml").read_bytes()
    assert not {"tmp_search.tif", "tmp_mask.tif"} & set(os.listdir(project / VERIFIED))
    assert (
        without_results(project / BARE / "info.xml").split()
        == b"<EMDataInfo> <DiffProcessingResults> </DiffProcessingResults> </EMDataInfo>".split()
    )
    assert {"tmp_mask.tif", "tmp_search.tif"} <= set(os.listdir(project / BARE))
    assert "tmp_mask.tif" not in os.listdir(project / MASKED)
    with tifffile.TiffFile(project / BARE / "tmp_search.tif") as file:
        assert file.pages[0].dtype == np.uint8 and file.pages[0].shape == (256, 288)
        assert '"shape": [256, 288], "factor": 1, "peaks": [[' in file.pages[0].description
    rows = {line.split("\t")[0]: line.split("\t") for line in (project / "summary.tsv").read_text().splitlines()}
    place = rows["image"].index("confidence")
    assert 0.5 < float(rows[BARE][place]) <= 1 and rows[EMPTY][place] == "0" and rows[VERIFIED][place] == ""


def test_a_second_run_does_nothing(work):
    """Nor does it when lattices are verified as they were found; a rejected one stops its image."""
    before = contents(work / "project")
    run = snakemake(work)
    assert run.status == 0 and run.jobs() == [] and plans(run) == 1 and contents(work / "project") == before
    write_lattice(work, BARE, "VerifiedLattice")
    write_lattice(work, MASKED, "RejectedLattice")
    run = snakemake(work)
    assert run.status == 0 and run.jobs() == [] and plans(run) == 1
    heading, *reasons = run.report()
    assert heading == "project: 2 of 5 images are measured"
    assert (
        f"  unverified: {MASKED}: the lattice that was found is rejected; give a VerifiedLattice, or "
        in reasons[1 - 1] + reasons[1]
    )


def test_a_dry_run_shows_the_first_plan(bare, tmp_path):
    """And says how many images are searched; it writes nothing."""
    before = contents(bare / "project")
    run = snakemake(copy(bare, tmp_path / "work"), "--dry-run")
    assert run.status == 0 and plans(run) == 1 and contents(tmp_path / "work/project") == before
    assert run.line("lattices to be searched first: 4; those that are sure are measured after that, in the same run")
    assert (
        ("search", BARE) in run.jobs() and ("extract", VERIFIED) in run.jobs() and ("extract", BARE) not in run.jobs()
    )


def test_a_parameter_of_the_search_concerns_the_search_of_its_image(work):
    """A lattice that is found again with the same floats costs no measurement; an own lattice is not searched."""
    for name in (BARE, VERIFIED):
        create = (
            info_of(work, name)
            .read_bytes()
            .replace(
                b"<EMDataInfo>\n",
                b'<EMDataInfo><DiffProcessing><LatticeSearch><MaximalLatticeLength value="5000"/>'
                b"</LatticeSearch></DiffProcessing>\n",
                1,
            )
        )
        info_of(work, name).write_bytes(create)
    before = contents(work / "project")
    run = snakemake(work)
    assert run.status == 0 and plans(run) == 2 and ("search", BARE) in run.jobs()
    assert {job for job in run.jobs() if job[1]} <= {(step, BARE) for step in ("search", "extract", "integrate")}
    assert "LatticeSearch/MaximalLatticeLength = 5000.0" in (work / f"project/{BARE}/{BARE}_src.log").read_text()
    same = searched_lattice(Document.parse(before[f"{BARE}/info.xml"], "before")) == searched_lattice(
        Document.read(info_of(work, BARE))
    )
    assert same == (("extract", BARE) not in run.jobs())


def test_a_result_that_somebody_has_removed_is_found_again(first, work):
    """Its file or its info.xml; nothing is measured that was measured with the same lattice."""
    (work / "project" / MASKED / "tmp_search.tif").unlink()
    info_of(work, EMPTY).unlink()
    run = snakemake(work)
    assert run.status == 0 and run.jobs() == [("all", ""), ("mask", EMPTY), ("search", MASKED), ("search", EMPTY)]
    assert plans(run) == 2 and "Nothing to be done" in run.text
    assert contents(work / "project") | {f"{BROKEN}/ignore": b""} == contents(first[0] / "project") | {
        f"{BROKEN}/ignore": b""
    }


def test_a_forced_run_does_everything_once(work):
    """In two plans, with the same bytes; a forced search alone measures nothing anew."""
    before = contents(work / "project")
    run = snakemake(work, "--forcerun", "search")
    assert run.status == 0 and [job for job in run.jobs() if job[1]] == [("search", name) for name in SEARCHES]
    run = snakemake(work, "--forceall")
    assert run.status == 0 and plans(run) == 2 and contents(work / "project") == before
    jobs = [job for job in run.jobs() if job[1]]
    assert len(jobs) == len(set(jobs)) == 2 + 3 + 3 + 3
    assert "2 are sure and measured now" in run.text


def test_proposals_wait(bare, tmp_path):
    """`search=propose` measures no lattice before it is verified, `never` searches none."""
    work = copy(bare, tmp_path / "work")
    run = snakemake(work, config=["search=never"])
    assert run.status == 0 and run.measured() == [VERIFIED] and plans(run) == 1
    assert run.line(f"skipped: {BARE}: has no info.xml, hence no lattice")
    (work / "project" / BROKEN / "ignore").touch()
    run = snakemake(work, config=["search=propose"])
    assert run.status == 0 and plans(run) == 1 and not {"extract", "integrate"} & {job for job, _ in run.jobs()}
    assert run.line("3 images searched: 3 wait for verification")
    assert run.line(f"unverified: {BARE}: confidence ", "nobody has verified it; `snakemake verify`")
    write_lattice(work, BARE, "VerifiedLattice")
    run = snakemake(work, config=["search=propose"])
    assert run.status == 0 and plans(run) == 1 and run.measured() == [BARE]
    run = snakemake(work)
    assert run.status == 0 and plans(run) == 1 and run.measured() == [MASKED]
    assert snakemake(work, config=["search=maybe"]).line("config: the value 'maybe' of search is none of the choices")


def test_a_replaced_image_gets_its_own_lattice_and_mask(work):
    """Also without the log that tells image from image, and a found mask where the lattice is verified."""
    other = tifffile.imread(work / f"project/{BARE}/{BARE}.tif")[:, ::-1]
    before = {name: searched_lattice(Document.read(info_of(work, name))) for name in (BARE, MASKED)}
    for name in (BARE, MASKED):
        (work / f"project/{name}/{name}_mask.tif").unlink(missing_ok=True)
    write_lattice(work, MASKED, "VerifiedLattice")
    assert snakemake(work, "mask_all").status == 0
    for name in (BARE, MASKED):
        (work / f"project/{name}/{name}_src.log").unlink()
        tifffile.imwrite(work / f"project/{name}/{name}.tif", other)
    mask = (work / f"project/{MASKED}/tmp_mask.tif").read_bytes()
    run = snakemake(work)
    assert plans(run) == 2 and {("mask", MASKED), ("search", BARE), ("extract", BARE)} <= set(run.jobs())
    x, y = before[BARE].origin
    found = searched_lattice(Document.read(info_of(work, BARE)))
    assert np.allclose(found.origin, (other.shape[1] - 1 - x, y), atol=0.5)
    assert (work / f"project/{MASKED}/tmp_mask.tif").read_bytes() != mask


def test_targets_of_their_own_lead_no_further(bare, tmp_path):
    """mask_all, verify and files; an image that is not searched yet is no target of a measurement."""
    work = copy(bare, tmp_path / "work")
    (work / "project" / BROKEN / "ignore").touch()
    run = snakemake(work, "mask_all")
    assert run.status == 0 and [job for job in run.jobs() if job[1]] == [("mask", BARE), ("mask", EMPTY)]
    run = snakemake(work, f"project/{BARE}/{BARE}_ext.mtz")
    assert run.status == 1 and run.line(f"{BARE}: its lattice is to be searched first; give the target project/{BARE}/")
    run = snakemake(work, "--until", "extract")
    assert run.status == 1 and run.line("--until extract: leaves out the search of the lattices of 3 images")
    run = snakemake(work, "verify")
    assert run.status == 0 and plans(run) == 1 and run.jobs().count(("verify", "")) == 1
    assert [job for job in run.jobs() if job[1]] == [("search", name) for name in SEARCHES]
    assert (work / "project/verify.html").is_file()
    run = snakemake(work, "extract_all")
    assert run.status == 0 and plans(run) == 1 and run.measured() == [BARE, MASKED, VERIFIED]


def test_the_page_is_made_of_what_could_be_searched(bare, tmp_path):
    """In the second plan where a search has failed."""
    work = copy(bare, tmp_path / "work")
    run = snakemake(work, "verify")
    assert run.status == 1 and plans(run) == 2 and run.jobs().count(("verify", "")) == 1
    assert run.line("4 images searched: 2 are sure, 1 waits for verification, 1 failed")
    assert not {"extract", "integrate"} & {job for job, _ in run.jobs()}
    assert (work / "project/verify.html").is_file()


def test_batches_start_from_bare_images(bare, first, tmp_path):
    """Each searches and measures its images in two plans of its own; then nothing is left to do."""
    work = copy(bare, tmp_path / "work")
    run = snakemake(work, config=["images_per_job=3"])
    assert run.status == 1 and plans(run) == 1 and batches(run) == 2 and run.report() == first[1].report()
    assert_same_results(work / "project", first[0] / "project")
    assert logs(work).count("sure and measured now") == 2
    assert list(work.glob(".snakemake/ed2d/*/batches/*/*order*")) == []
    (work / "project" / BROKEN / "ignore").touch()
    run = snakemake(work, config=["images_per_job=3"])
    assert run.status == 0 and run.jobs() == []


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_plans_no_more(bare, first, tmp_path, kind):
    """While a lattice is searched; the same command again ends as if nothing had been."""
    work = copy(bare, tmp_path / "work")
    with started(work, cores=1, stops=[[["search.py", MASKED], "open", ".tif"]]) as run:
        job = run.stopped()
        if kind == signal.SIGINT:
            os.killpg(run.process.pid, kind)
        else:
            os.kill(run.process.pid, kind)
        resume(job)
        stopped = run.end()
        assert stopped.status != 0 and plans(stopped) == 1 and "images searched" not in stopped.text
        run.wait_for_orphans()
    assert_no_leftovers(work / "project" / VERIFIED)
    if kind == signal.SIGKILL:
        again = snakemake(work)
        assert again.status == 1 and again.report() == first[1].report()
        assert_same_results(work / "project", first[0] / "project")


def test_images_without_directories_are_told_of(tmp_path):
    """Image files that lie loose in the project directory need a directory each."""
    project = make_project(tmp_path / "project", [BARE])
    (project / BARE / f"{BARE}.tif").rename(project / f"{BARE}.tif")
    (project / BARE).rename(project / "other")
    run = snakemake(tmp_path)
    assert run.status == 1
    assert run.line(f"give each image a directory of its name: {BARE}.tif becomes {BARE}/{BARE}.tif")


def test_an_info_xml_is_never_written_over(tmp_path):
    """One that comes while it is made stays; a missing one is made whole."""
    path = tmp_path / "info.xml"
    create_info(path)
    assert Document.read(path).root.tag == "EMDataInfo" and os.listdir(tmp_path) == ["info.xml"]
    path.write_text("mine")
    create_info(path)
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    create_info(path)
    assert path.is_symlink() and not path.exists()
