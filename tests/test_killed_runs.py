"""Runs and jobs that are killed: nothing is half written, and the next run goes on."""

import os
import signal
import subprocess
import time

import psutil

import runs
from runs import IMAGES, RESULTS, assert_same_points, info_of, names, snakemake, without_results

THIRD = IMAGES[2]


def wait_for(found, process):
    """Waits until `found()` is true while the process runs."""
    while not found():
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.002)


def started(directory, *arguments):
    """A run in the background, the leader of its process group."""
    return subprocess.Popen(
        runs.command(directory, *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_killed_run_resumes(first_run, work):
    """After kill -9 of Snakemake and its jobs every info.xml is whole, and a rerun brings all results."""
    project = work / "project"
    for log in project.rglob("*.log"):
        log.unlink()
    before = {name: without_results(info_of(work, name)) for name in IMAGES}
    process = started(work, "--forceall")
    wait_for(lambda: list(project.rglob("*.log")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for name in IMAGES:
        assert without_results(info_of(work, name)) == before[name]
    assert not all((project / name / f"{name}_ext.mtz").exists() for name in IMAGES)
    assert snakemake(work).status == 1, "the directory is locked"
    assert snakemake(work, "--unlock").status == 0
    run = snakemake(work)
    assert run.status == 0 and run.report() == ["project: 3 of 3 images are measured"]
    assert {n for image in IMAGES for n in names(project / image, *RESULTS)} <= {p.name for p in project.rglob("*")}
    for name in IMAGES:
        assert_same_points(first_run[0] / "project" / name, project / name)


def test_a_killed_job_is_one_failed_image(work):
    """After kill -9 of one job the others are done, its info.xml is as it was, and the next run needs no flag."""
    info = info_of(work, THIRD).read_bytes()
    process = started(work, "--forcerun", f"project/{THIRD}/{THIRD}_ext.mtz")
    job = []

    def found():
        children = psutil.Process(process.pid).children(recursive=True)
        job[:] = [child for child in children if runs_extract(child)]
        return job

    wait_for(found, process)
    job[-1].kill()
    text, _ = process.communicate()
    run = runs.Run(process.returncode, text)
    assert run.status == 1 and "project: 2 of 3 images are measured" in run.report()
    assert run.report()[1].startswith(f"  failed:  {THIRD}: not finished; ")
    assert info_of(work, THIRD).read_bytes() == info
    run = snakemake(work)
    assert run.status == 0 and run.measured() == [THIRD]


def runs_extract(process):
    """Whether a process is the interpreter that runs the script of the rule extract, not the shell around it."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return bool(words) and "python" in words[0] and words[-1].endswith(".extract.py")
