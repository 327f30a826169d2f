"""A real Slurm for the tests that hand jobs to a cluster, and the options that make Snakemake use it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RIG = Path(__file__).with_name("slurm.sh")
CONFIGURATION = Path("/etc/slurm/slurm.conf")  # as in slurm.sh
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")

# The executor asks after so many seconds and 10 s later each time that no job has ended. A trivial job takes 4 s: two
# Snakemakes start in it. Snakemake's own end waits for the same interval. squeue, because sacct needs a database.
SLURM = (
    *("--executor", "slurm", "--slurm-no-account", "--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "10"),
    *("--default-resources", "mem_mb=500", "runtime=10"),
)

# Without a status command Snakemake waits forever for a job that Slurm has cancelled. squeue forgets a job after 5 min.
STATUS = (
    "sh -c 'case $(squeue --noheader --states=all --format=%T --jobs=$0) in COMPLETED) echo success ;; "
    '"" | BOOT_FAIL | CANCELLED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | TIMEOUT) echo failed ;; '
    "*) echo running ;; esac'"
)
GENERIC = (
    *("--executor", "cluster-generic", "--cluster-generic-cancel-cmd", "scancel"),
    *("--cluster-generic-submit-cmd", "sbatch --parsable --cpus-per-task={threads} --output=/dev/null"),
    *("--cluster-generic-status-cmd", STATUS, "--seconds-between-status-checks", "1", "--latency-wait", "10"),
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
    return subprocess.run([RIG, verb], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
