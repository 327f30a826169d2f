"""Runs and jobs that are killed: nothing is half written, and the same command again ends as if nothing had been."""

import os
import random
import signal
from contextlib import suppress

import psutil
import pytest

from faults import assert_same_results, resume, started
from runs import IMAGES, contents, copy, edit, info_of, make_project, snakemake

THIRD = IMAGES[2]


# at random moments; `pytest tests/test_killed_runs.py --kills 60 -rP` does it more often and tells what was disturbed


def snakemake_alone(run):
    """Its jobs go on."""
    run.process.kill()


def snakemake_and_jobs(run):
    if run.process.poll() is None:  # the run may be over
        os.killpg(run.process.pid, signal.SIGKILL)


def one_job(run):
    """The first that is found; none when the run is over."""
    while run.process.poll() is None:
        for job in run.jobs():
            with suppress(psutil.NoSuchProcess):
                job.kill()
                return


def terminated(run):
    run.process.terminate()


def interrupted(run):
    """As by Ctrl-C, which goes to all processes of the terminal."""
    if run.process.poll() is None:
        os.killpg(run.process.pid, signal.SIGINT)


KINDS = (snakemake_alone, snakemake_and_jobs, one_job, terminated, interrupted)


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        seeds = range(metafunc.config.getoption("kills"))
        metafunc.parametrize("seed", seeds, ids=[f"{KINDS[seed % len(KINDS)].__name__}-{seed}" for seed in seeds])


def wait_for_a_moment(run, random, measured):
    """Any between the start and the end, however busy the machine is: some jobs are done, and a while has gone by."""
    jobs = len(measured.jobs())
    done = random.randrange(jobs)
    run.wait_for(lambda: run.said.read_text().count("Finished jobid: ") >= done)
    run.go_on(random.uniform(0, measured.seconds / (jobs if done else 2)))


@pytest.fixture(scope="module")
def second_run(first_run, tmp_path_factory):
    """A processed project with another parameter, before and after the run that measures all anew, and that run."""
    before = copy(first_run[0], tmp_path_factory.mktemp("second") / "before")
    edit(before / "project/project.xml", '<BoxSize value="5"', '<BoxSize value="4"')
    after = copy(before, before.parent / "after")
    return before, after, snakemake(after)


def test_the_same_command_again_ends_as_if_nothing_had_been(fresh, first_run, second_run, tmp_path, seed):
    """A first or second run is killed, then run again at once: jobs of the killed one may still be alive."""
    before, undisturbed, measured = second_run if seed % 2 else (fresh, *first_run)
    work = copy(before, tmp_path / "work")
    with started(work) as run:
        wait_for_a_moment(run, random.Random(seed), measured)
        KINDS[seed % len(KINDS)](run)
        disturbed = run.end()
        print(f"status {disturbed.status}, {len(disturbed.jobs())} jobs started")
        again = snakemake(work)
        assert again.status == 0 and again.report() == ["project: 3 of 3 images are measured"]
        run.wait_for_orphans()
    assert_same_results(work / "project", undisturbed / "project")


# at certain moments


def test_a_killed_job_is_one_failed_image(first_run, work):
    """After kill -9 of one job the others are done, its info.xml is as it was, and the next run does the rest."""
    info = info_of(work, THIRD).read_bytes()
    stops = [[["extract.py"], "open", ".tif"]]
    with started(work, "--forcerun", f"project/{THIRD}/{THIRD}_ext.mtz", stops=stops) as run:
        run.stopped().kill()
        disturbed = run.end()
    assert disturbed.status == 1 and disturbed.report()[0] == "project: 2 of 3 images are measured"
    assert disturbed.line(f"  unfinished: {THIRD}: ", "run again")
    assert info_of(work, THIRD).read_bytes() == info
    again = snakemake(work)
    assert again.status == 0 and again.measured() == [THIRD]
    assert_same_results(work / "project", first_run[0] / "project")


def test_jobs_of_a_killed_run_write_nothing_into_the_next(tmp_path):
    """One that has hardly started and one at work are held up until the next run, with another value, is over."""
    project = make_project(tmp_path / "project", IMAGES[:2])
    edit(project / "project.xml", '<BoxSize value="5" type="int"/>', "")
    stops = [[["extract.py", IMAGES[0]], "import", "numpy"], [["extract.py", IMAGES[1]], "open", ".tif"]]
    with started(tmp_path, config=["LatticeExtract={BoxSize: 5}"], stops=stops) as run:
        jobs = run.wait_for(lambda: len(run.all_stopped()) == 2 and run.all_stopped())
        run.process.kill()
        run.end()
        assert snakemake(tmp_path, config=["LatticeExtract={BoxSize: 4}"]).status == 0
        before = contents(project)
        for job in jobs:
            resume(job)
        run.wait_for_orphans()
    assert contents(project) == before
    assert run.said.read_text().count("stopped: the run that this job belongs to is gone\n") == 2
