"""Runs and jobs that are killed: nothing is half written, and the same command again ends as if nothing had been."""

import os
import random
import signal
from contextlib import suppress

from faults import assert_same_results, started
from runs import copy, snakemake


def snakemake_alone(run):
    run.process.kill()


def snakemake_and_jobs(run):
    with suppress(ProcessLookupError):  # the run may be over
        os.killpg(run.process.pid, signal.SIGKILL)


def one_job(run):
    """The first that is found; none when the run is over."""
    while run.process.poll() is None:
        for job in run.jobs():
            job.kill()
            return


def terminated(run):
    run.process.terminate()


def interrupted(run):
    """As by Ctrl-C, which goes to all processes of the terminal."""
    with suppress(ProcessLookupError):
        os.killpg(run.process.pid, signal.SIGINT)


KINDS = (snakemake_alone, snakemake_and_jobs, one_job, terminated, interrupted)


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        seeds = range(metafunc.config.getoption("kills"))
        metafunc.parametrize("seed", seeds, ids=[f"{KINDS[seed % len(KINDS)].__name__}-{seed}" for seed in seeds])


def test_the_same_command_again_ends_as_if_nothing_had_been(fresh, first_run, tmp_path, seed):
    """Killed at a random moment, then run again at once, while jobs of the first run may still be alive."""
    undisturbed, measured = first_run
    work = copy(fresh, tmp_path / "work")
    run = started(work)
    run.go_on(random.Random(seed).uniform(0, measured.seconds))
    KINDS[seed % len(KINDS)](run)
    disturbed = run.end()
    print(f"status {disturbed.status}, {len(disturbed.jobs())} jobs started")  # for --kills N -rP
    again = snakemake(work)
    assert again.status == 0 and again.report() == ["project: 3 of 3 images are measured"]
    run.wait_for_orphans()
    assert_same_results(work / "project", undisturbed / "project")
