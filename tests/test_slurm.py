"""Snakemake's jobs in a real Slurm."""

import subprocess

import pytest

from runs import snakemake
from slurm import GENERIC, SLURM

JOBS = """
rule all:
    input: expand("{name}.txt", name=["a", "b", "c"])

rule one:
    output: "{name}.txt"
    shell: "echo $SLURM_JOB_ID > {output}"
"""


@pytest.mark.parametrize("executor", [SLURM, GENERIC], ids=["slurm", "cluster-generic"])
def test_every_job_is_a_job_of_slurm(slurm, tmp_path, executor):
    """Three jobs run under three job numbers, and Slurm knows them as completed."""
    snakefile = tmp_path / "Snakefile"
    snakefile.write_text(JOBS)
    run = snakemake(tmp_path, *executor, "--jobs", "3", project=None, snakefile=snakefile)
    assert run.status == 0, run.text
    numbers = {(tmp_path / f"{name}.txt").read_text().strip() for name in "abc"}
    query = ["squeue", "--noheader", "--states=all", f"--jobs={','.join(numbers)}", "--format=%T"]
    states = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()
    assert states == ["COMPLETED"] * 3
