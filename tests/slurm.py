"""A real Slurm for the tests that hand jobs to a cluster, and the options that make Snakemake use it."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from runs import CHECKOUT

RIG = Path(__file__).with_name("slurm.sh")
CONFIGURATION = Path("/etc/slurm/slurm.conf")  # as in slurm.sh
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PROFILES = CHECKOUT / "workflow/profiles"
PATIENCE = 120  # s, for something that takes a few

# The executor asks after so many seconds and 10 s later each time that no job has ended; a failed job does not count.
# squeue, because sacct needs a database. The partition takes no job without an end.
SLURM = (
    *("--profile", PROFILES / "slurm", "--slurm-no-account", "--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10"),
    *("--default-resources", "mem_mb_per_cpu=500", "runtime=10"),
)

# Without a status command Snakemake waits forever for a job that Slurm has cancelled. squeue forgets a job after 5 min.
STATUS = (
    "sh -c 'case $(squeue --noheader --states=all --format=%T --jobs=$0) in COMPLETED) echo success ;; "
    '"" | BOOT_FAIL | CANCELLED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | TIMEOUT) echo failed ;; '
    "*) echo running ;; esac'"
)
GENERIC = (
    *("--profile", PROFILES / "cluster", "--cluster-generic-cancel-cmd", "scancel"),
    *("--cluster-generic-submit-cmd", "sbatch --parsable --cpus-per-task={threads} --output=/dev/null"),
    *("--cluster-generic-status-cmd", STATUS, "--seconds-between-status-checks", "1", "--latency-wait", "3"),
)


@pytest.fixture(scope="session", name="slurm")
def running_slurm():
    """A Slurm of one node while the tests run. One that slurm.sh has started before goes on afterwards."""
    if reason := lacking():
        pytest.skip(reason)
    if rig("status").returncode == 0:
        yield
        return
    started = rig("start")
    assert started.returncode == 0, started.stderr
    yield
    stopped = rig("stop")
    assert stopped.returncode == 0, stopped.stderr


def lacking():
    """What this machine lacks to start a Slurm of its own, or ""."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")]
    if missing:
        return f"no {', '.join(missing)}: a Slurm needs the Debian packages slurm-wlm and munge"
    if os.geteuid() != 0:
        return "not root: a Slurm of the tests' own needs it"
    if CONFIGURATION.exists() and "tests/slurm.sh" not in CONFIGURATION.read_text().partition("\n")[0]:
        return f"{CONFIGURATION} belongs to another Slurm"
    return ""


def rig(verb):
    """Runs slurm.sh with a verb; returns the finished process."""
    return subprocess.run([RIG, verb], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)


def jobs_of(directory, *states):
    """The numbers of the jobs from a working directory in some states, by default those that have not ended."""
    states = ",".join(states or ("PENDING", "RUNNING", "COMPLETING"))
    query = ["squeue", "--noheader", f"--states={states}", "--format=%i %Z", "--sort=i"]
    lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    return [number for number, _, place in (line.partition(" ") for line in lines) if place == str(directory)]


def tell_slurm(*words):
    """Runs a command of Slurm's."""
    subprocess.run(words, check=True)


def wait_until(found):
    """Waits until `found()` is true and returns its answer; AssertionError after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not (answer := found()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return answer


def processes(job):
    """The processes of a running job on this node, that of Slurm first."""
    (step,) = (
        one for one in psutil.process_iter(["cmdline"]) if f"[{job}.batch]" in " ".join(one.info["cmdline"] or ())
    )
    return [step, *step.children(recursive=True)]
