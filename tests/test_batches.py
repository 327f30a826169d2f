"""Jobs of many images: what is in them, and that they do what single jobs do."""

import json
import os
import sys
from pathlib import Path

import pytest

from ed2d.batches import images_of, plan_batches, retire_batches
from ed2d.errors import InputError
from faults import assert_no_leftovers, assert_same_results
from runs import IMAGES, contents, copy, edit, info_of, set_parameter, snakemake

FIRST, SECOND, THIRD = IMAGES
HEAD = "output_file\tdate\trule\tlog-file(s)\tstatus\tplan"
PAIRS = ["images_per_job=2"]


def row(name, *, project="project", rule="integrate", plan="update pending"):
    """A line of Snakemake's summary."""
    return f"{project}/{name}/{name}_int.mtz\t-\t{rule}\t-\tmissing\t{plan}"


def saying(*lines, status=0, error=""):
    """A command that prints lines instead of planning."""
    return [sys.executable, "-c", f"import sys; print({chr(10).join(lines)!r}); sys.exit({error!r} or {status})"]


def plan(directory, command, images=2, **options):
    """The images of each batch."""
    names = plan_batches(directory, command, {"project": "p"}, target="integrate_all", images=images, **options)
    return [images_of(directory / f"{name}.txt") for name in names]


def lists(directory):
    """The images of each batch that runs in a directory have planned, and not removed yet."""
    found = directory.glob(".snakemake/ed2d/*/batches/*/[0-9]*.txt")
    return [images_of(path) for path in sorted(found, key=lambda path: int(path.stem))]


def logs(directory):
    """What the batches of the last run have said."""
    return "".join(path.read_text() for path in directory.glob(".snakemake/ed2d/*/batches/*/*.log"))


def batches(run):
    """How many batches a run has started."""
    return run.jobs().count(("batch", ""))


# plans


@pytest.mark.parametrize("images, most, sizes", [(60, 20, [20] * 3), (61, 20, [16, 15, 15, 15]), (3, 50, [3])])
def test_every_image_is_in_one_batch_of_the_size_wanted(tmp_path, images, most, sizes):
    names = [f"ABC{n:07d}" for n in range(images)]
    planned = plan(tmp_path, saying(HEAD, *map(row, names), *(row(name, rule="extract") for name in names)), most)
    assert [len(batch) for batch in planned] == sizes
    assert sorted(name for batch in planned for name in batch) == names


def test_only_images_that_are_not_done_are_planned(tmp_path):
    """Not those of other rules: the example, what is refused."""
    done, refused = row("a", plan="no update"), row("b", rule="refused")
    assert plan(tmp_path, saying(HEAD, done, row("c"), refused)) == [["c"]]


def test_a_plan_of_nothing_leaves_nothing(tmp_path):
    assert plan(tmp_path, saying(HEAD, row("a", plan="no update"))) == []
    assert list(tmp_path.iterdir()) == []


def test_any_name_is_planned(tmp_path):
    """Blanks, letters beyond ASCII, separators of lines that are none for files, a quote in the project's path."""
    names = ["-a b", "Größe (1)", "c\u2028d\x85e"]
    assert plan(tmp_path, saying(HEAD, *(row(name, project="o\"ne/'t wo") for name in names)), 3) == [names]


def test_a_path_that_breaks_the_table_is_refused(tmp_path):
    for project in ("a\tb", "a\nb"):
        with pytest.raises(InputError, match="has a tab or a line break; rename it, or set images_per_job=0"):
            plan(tmp_path, saying(HEAD, row("c", project=project)))
    assert list(tmp_path.iterdir()) == []


def test_why_there_is_no_plan_is_said(tmp_path):
    with pytest.raises(InputError, match=r"^images_per_job: what is left to do cannot be told; no memory left$"):
        plan(tmp_path, saying(error="no\nmemory left"))
    assert list(tmp_path.iterdir()) == []


def test_batches_get_options_target_and_configuration(tmp_path):
    """The plan is made with them too."""
    told = tmp_path / "told.json"
    command = [sys.executable, "-c", f"import sys, json; json.dump(sys.argv[1:], open({str(told)!r}, 'w'))"]
    with pytest.raises(InputError):  # it has no table
        plan(tmp_path / "batches", [*command, "--quiet"], options=["--forceall"])
    words = ["--forceall", "--", "integrate_all"]
    said = json.loads(told.read_text())
    assert said[:2] == ["--quiet", "--configfile"] and said[3:] == ["--summary", *words]
    plan(tmp_path / "batches", saying(HEAD, row("a")), options=["--forceall"])
    (run,) = (tmp_path / "batches").iterdir()
    assert (run / "words.txt").read_text().splitlines() == words
    assert json.loads((run / "config.json").read_text()) == {"project": "p"}


def test_earlier_batches_are_retired(tmp_path):
    """Plans of the same second are two; what is not kept is gone, and its jobs are told so."""
    command = saying(HEAD, row("a"))
    old, new = (plan_batches(tmp_path, command, {}, target="all", images=1) for _ in range(2))
    retire_batches(tmp_path, {Path(new[0]).parent.name})
    assert images_of(tmp_path / f"{new[0]}.txt") == ["a"]
    with pytest.raises(InputError, match="a newer run has taken over"):
        images_of(tmp_path / f"{old[0]}.txt")
    retire_batches(tmp_path / "nothing", set())


# runs, with the jobs on this machine


@pytest.fixture(scope="module")
def batched(fresh, tmp_path_factory):
    """The project measured in batches of two images, and the run."""
    directory = copy(fresh, tmp_path_factory.mktemp("batched") / "batched")
    return directory, snakemake(directory, config=PAIRS)


def test_batches_do_what_single_jobs_do(batched, first_run):
    """Three images are two batches with the results of six jobs, byte for byte; then nothing is left to do."""
    directory, run = batched
    assert run.status == 0 and run.report() == ["project: 3 of 3 images are measured"]
    assert run.jobs() == [("all", ""), ("batch", ""), ("batch", "")]
    assert lists(directory) == [[FIRST, THIRD], [SECOND]]
    assert_same_results(directory / "project", first_run[0] / "project")
    for again in (snakemake(directory, config=PAIRS), snakemake(directory)):
        assert again.status == 0 and again.jobs() == [] and "Nothing to be done" in again.text


def test_a_broken_image_costs_the_others_of_its_batch_nothing(fresh, first_run, tmp_path):
    """It fails with its reason in the report; mended, it alone is in a batch, and all is as if it had been whole."""
    work = copy(fresh, tmp_path / "work")
    path = work / "project" / FIRST / f"{FIRST}.tif"
    whole, times = path.read_bytes(), path.stat()
    path.write_bytes(whole[:5000])
    run = snakemake(work, config=PAIRS)
    assert run.status == 1 and "Traceback" not in run.text and batches(run) == 2
    heading, reason = run.report()
    assert heading == "project: 2 of 3 images are measured"
    assert reason.startswith(f"  failed:  {FIRST}: project/{FIRST}/{FIRST}.tif: is cut short")
    path.write_bytes(whole)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = snakemake(work, config=PAIRS)
    assert again.status == 0 and batches(again) == 1 and lists(work) == [[FIRST]]
    assert_same_results(work / "project", first_run[0] / "project")


def test_a_changed_parameter_is_a_batch_of_its_image(batched, tmp_path):
    """And --forcerun of a step, which goes together with it, a batch of all that measures the others in part."""
    work = copy(batched[0], tmp_path / "work")
    set_parameter(info_of(work, SECOND), "LatticeExtract", BoxSize=4)
    run = snakemake(work, config=PAIRS)
    assert run.status == 0 and batches(run) == 1 and lists(work) == [[SECOND]]
    set_parameter(info_of(work, FIRST), "LatticeExtract", BoxSize=4)
    run = snakemake(work, "--forcerun", "integrate", config=["images_per_job=3"])
    assert run.status == 0 and lists(work) == [list(IMAGES)]
    said = logs(work)
    assert said.count(": integrate: ") == 3 and said.count(": extract: ") == said.count(f"{FIRST}: extract: ") == 1


def test_forced_batches(batched, tmp_path):
    """--forceall measures all images again, with the same results; with the target extract_all the first step only."""
    work = copy(batched[0], tmp_path / "work")
    before = contents(work / "project")
    run = snakemake(work, "--forceall", config=PAIRS)
    assert run.status == 0 and lists(work) == [[FIRST, THIRD], [SECOND]] and contents(work / "project") == before
    assert logs(work).count(": extract: ") == logs(work).count(": integrate: ") == 3
    run = snakemake(work, "extract_all", "--forceall", config=PAIRS)
    assert run.status == 0 and (logs(work).count(": extract: "), logs(work).count(": integrate: ")) == (3, 0)


@pytest.mark.parametrize(
    "options, names",
    [
        (["--forcerun", f"project/{FIRST}/{FIRST}_ext.mtz"], f"project/{FIRST}/{FIRST}_ext.mtz"),
        (["all", f"project/{FIRST}/{FIRST}_int.mtz"], f"project/{FIRST}/{FIRST}_int.mtz"),
        (["--until", "extract"], "extract"),
        (["--omit-from", "integrate"], "integrate"),
    ],
)
def test_what_concerns_single_jobs_is_refused(batched, options, names):
    """Files of images beside batches, and rules of which there are no jobs."""
    run = snakemake(batched[0], "--dry-run", *options, config=PAIRS)
    assert run.status == 1 and run.line(f"{names}: does not go together with images_per_job; ")


def test_batches_with_any_path(single, tmp_path):
    """Blanks, quotes and letters beyond ASCII in the project's path, in a directory with a blank."""
    base, project = tmp_path / "base with blank", "two words/Kälte & 'Größe' (1)"
    copy(single, base / project)
    assert snakemake(base, project=project, config=PAIRS).report() == [f"{project}: 1 of 1 images are measured"]
    assert batches(snakemake(base, project=project, config=PAIRS)) == 0


def test_a_profile_of_the_environment_is_not_for_batches(single, tmp_path, monkeypatch):
    """SNAKEMAKE_PROFILE is for the run itself."""
    copy(single, tmp_path / "project")
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "config.yaml").write_text(f"config: [project=project, {PAIRS[0]}]\nuntil: [extract]\nforceall: true\n")
    monkeypatch.setenv("SNAKEMAKE_PROFILE", str(profile))
    run = snakemake(tmp_path, "--until", "batch", config=PAIRS)
    assert run.status == 0 and logs(tmp_path).count(": integrate: ") == 1


# what happens between plan and job


@pytest.fixture
def waiting(fresh, tmp_path, monkeypatch):
    """A copy of the project with a batch of all its images that waits for `snakemake` to run it."""
    work = copy(fresh, tmp_path / "work")
    images = work / "images.txt"
    images.write_text("".join(f"{name}\n" for name in IMAGES))
    monkeypatch.setenv("ED2D_PART", str(images))
    return work


def test_images_that_go_or_break_meanwhile_cost_the_others_nothing(waiting):
    (waiting / "project" / FIRST).rename(waiting / "elsewhere")
    edit(info_of(waiting, THIRD), "<EMDataInfo>", "<EMDataInf>")
    run = snakemake(waiting, "integrate_all")
    assert run.status == 1 and "Traceback" not in run.text
    done = [("extract", SECOND), ("integrate", SECOND), ("refused", THIRD)]
    assert run.jobs() == done


def test_a_retired_batch_does_nothing(waiting):
    (waiting / "images.txt").unlink()
    before = contents(waiting / "project")
    run = snakemake(waiting, "integrate_all")
    assert run.status == 1 and run.line("images.txt: a newer run has taken over the images of this job; nothing is")
    assert contents(waiting / "project") == before
    assert_no_leftovers(waiting / "project")
