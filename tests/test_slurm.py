"""The workflow on a cluster: many images a job, jobs that are cancelled or killed, runs that are broken off."""

import os
import shutil
import signal
from contextlib import suppress

import psutil
import pytest

from faults import assert_all_results, assert_same_results, started
from runs import INPUTS, RESULTS, copy, info_of, make_project, names, set_parameter, snakemake
from slurm import GENERIC, SLURM, jobs_of, processes, tell_slurm, wait_until

DIFFERENT = 10  # images; the others are copies of these under other names
COMPARED = 20  # of many images; the others are the same again
MANY, FEW = ([f"ABC{number:07d}" for number in range(count)] for count in (60, 6))
ONE_THREAD = ("--set-threads", "batch=1")  # two jobs at a time on two processors
ALL_THREADS = ("--set-threads", f"batch={os.cpu_count()}")  # one at a time


def cluster_project(directory, images):
    """A project of so many images that only some had to be simulated."""
    project = make_project(directory / "project", images[:DIFFERENT])
    for number, name in enumerate(images[DIFFERENT:]):
        original = project / images[number % DIFFERENT]
        (project / name).mkdir()
        for pattern in INPUTS:
            shutil.copy2(original / pattern.format(original.name), project / name / pattern.format(name))
    return directory


def measured_here(directory, images):
    """The project of a directory with the results of a run without a cluster in a copy of it."""
    undisturbed = copy(directory, directory.with_name("undisturbed"))
    run = snakemake(undisturbed)
    assert run.status == 0 and run.report() == [f"project: {len(images)} of {len(images)} images are measured"]
    return undisturbed


@pytest.fixture(scope="module")
def few(slurm, tmp_path_factory):
    """A project for three jobs of two images, not processed and processed."""
    directory = cluster_project(tmp_path_factory.mktemp("few") / "few", FEW)
    return directory, measured_here(directory, FEW)


def on_cluster(directory, *options, images=2):
    """A run with so many images in a job."""
    return snakemake(directory, *options, config=[f"images_per_job={images}"])


def begun(directory, *options):
    """A run of jobs of two images in the background."""
    return started(directory, *options, config=["images_per_job=2"])


def submitted(run):
    """How many jobs were given to the cluster."""
    return run.text.count("has been submitted with SLURM jobid") + run.text.count("with external jobid '")


def done(directory):
    """The images with all results."""
    images = sorted((directory / "project").glob("ABC*"))
    return [image.name for image in images if names(image, *RESULTS) <= set(os.listdir(image))]


def resumed(directory, *options):
    """The run that gets the project, after those that are refused as long as jobs of an earlier one are at work."""

    def run():
        again = on_cluster(directory, *options)
        if again.status:
            assert again.line("is still being measured by jobs of an earlier run (process ", "; wait for the end or")
        return None if again.status else again

    return wait_until(run)


def test_sixty_images_in_three_jobs(slurm, tmp_path):
    """Broken images cost the others nothing; mended, they alone are submitted; then nothing is, and all is right."""
    directory = cluster_project(tmp_path / "cluster", MANY)
    undisturbed = measured_here(cluster_project(tmp_path / "part", MANY[:COMPARED]), MANY[:COMPARED])
    broken = {MANY[7]: "is cut short", MANY[18]: "is empty"}
    for name, content in zip(broken, (5000, 0), strict=True):
        path = directory / "project" / name / f"{name}.tif"
        path.write_bytes(path.read_bytes()[:content])
    run = on_cluster(directory, *GENERIC, images=20)
    assert run.status == 1 and "Traceback" not in run.text and submitted(run) == 3
    assert run.report()[0] == "project: 58 of 60 images are measured"
    rows = dict(line.split("\t")[:3:2] for line in (directory / "project/summary.tsv").read_text().splitlines())
    assert {name for name, reason in rows.items() if reason and name != "image"} == set(broken)
    for name, problem in broken.items():
        assert problem in rows[name]
        inputs = (directory / "project" / name, undisturbed / "project" / name)
        shutil.copy2(inputs[1] / f"{name}.tif", inputs[0] / f"{name}.tif")
    again = on_cluster(directory, *SLURM, images=20)
    assert again.status == 0 and submitted(again) == 1
    for name in MANY[:COMPARED]:
        assert_same_results(directory / "project" / name, undisturbed / "project" / name)
    assert_all_results(directory / "project", MANY)
    last = on_cluster(directory, *GENERIC, images=20)
    assert last.status == 0 and submitted(last) == 0 and "Nothing to be done" in last.text


def test_a_cancelled_and_a_killed_job(few, tmp_path):
    """The third job's images stay; a resume does the rest, with the same results; then a change is one job."""
    directory, undisturbed = few
    work = copy(directory, tmp_path / "work")
    with begun(work, *GENERIC, *ONE_THREAD) as run:
        cancelled, killed = run.wait_for(lambda: jobs_of(work, "RUNNING")[:2] if done(work) else None)
        for process in processes(killed)[1:]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        tell_slurm("scancel", cancelled)
        disturbed = run.end()
    before = done(work)
    assert disturbed.status == 1 and submitted(disturbed) == 3
    assert disturbed.report()[0] == f"project: {len(before)} of 6 images are measured"
    assert 2 <= len(before) < 6
    again = resumed(work, *GENERIC)
    assert 1 <= submitted(again) <= 2
    assert_same_results(work / "project", undisturbed / "project")
    set_parameter(info_of(work, FEW[3]), "LatticeExtract", BoxSize=4)
    changed = on_cluster(work, *GENERIC)
    assert changed.status == 0 and submitted(changed) == 1
    (images,) = work.glob(".snakemake/ed2d/*/batches/*/0.txt")
    assert images.read_text() == f"{FEW[3]}\n"


def test_a_killed_run_whose_jobs_go_on(few, tmp_path):
    """Kill -9 of Snakemake: the next run waits for the jobs at work; a job that starts only later does nothing."""
    directory, undisturbed = few
    work = copy(directory, tmp_path / "work")
    with begun(work, *GENERIC, *ALL_THREADS) as run:
        run.wait_for(lambda: len(jobs_of(work)) == 3 and jobs_of(work, "RUNNING"))
        late = jobs_of(work, "PENDING")[-1]
        tell_slurm("scontrol", "hold", late)
        run.wait_for(lambda: done(work))
        run.process.kill()
        again = resumed(work, *GENERIC)
        assert 1 <= submitted(again) <= 3
        assert_same_results(work / "project", undisturbed / "project")
        times = {path: path.stat().st_mtime_ns for path in work.glob("project/*/*")}
        tell_slurm("scontrol", "release", late)
        wait_until(lambda: late not in jobs_of(work))
    assert {path: path.stat().st_mtime_ns for path in work.glob("project/*/*")} == times


def test_an_interrupted_run_takes_its_jobs_with_it(few, tmp_path):
    """Ctrl-C cancels the jobs; the next run does the rest."""
    directory, undisturbed = few
    work = copy(directory, tmp_path / "work")
    with begun(work, *GENERIC, *ONE_THREAD) as run:
        run.wait_for(lambda: done(work))
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.end().status == 1
        wait_until(lambda: not jobs_of(work))
    assert len(done(work)) < 6
    resumed(work, *GENERIC)
    assert_all_results(work / "project", FEW)
    assert_same_results(work / "project", undisturbed / "project")
