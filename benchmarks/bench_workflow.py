#!/usr/bin/env python3
"""Cost of the workflow on many small stills: jobs against one process, runs with nothing to do, parts of a job.

usage: bench_workflow.py [--runs N] [--whole] [--quick]      with ed2d installed, on Linux; prints markdown tables

Snakemake runs the Snakefile of this checkout with two cores; the projects lie in a temporary directory.
"""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import machine  # before numpy
import yaml
from jobparts import PARTS, commands, cpu_of_parts, import_times
from smallstills import DIFFERENT, repeated, simulated
from watch import LIBRARY, Cost, watched

from ed2d.imagedirectory import RESULTS, ImageDirectory

ROOT = LIBRARY.parents[1]
STEPS = ("extract", "integrate")
CORES = 2
MEASURED, PLANNED = (100, 1000), (5000,)  # images of projects with their first run, and with results that are copies
FEW = (2,), (4,)
WORK_FACTOR, PER_JOB = 1.5, 0.35  # allowed: so many times the CPU of one process, and CPU seconds for each job
LEAST_IMPORT = 1.0  # ms; packages below it are counted together
ANOTHER_BOX = b'<EMDataInfo><DiffProcessing><LatticeExtract><BoxSize value="4"/></LatticeExtract></DiffProcessing>'
ONE_PROCESS = """
import json, sys
from ed2d.extract import extract
from ed2d.integrate import integrate
for first, second in json.load(open(sys.argv[1])):
    extract(**first)
    integrate(**second)
"""
TOUCH = """
import sys
from snakemake.executors import touch
touch.Executor.SLEEPING_TIME = 0  # s for each job; it is 0.1
from snakemake.cli import main
main(sys.argv[1:])
"""
FIRST = """| first run of | wall s | CPU s | main process s/job | job's process s | one process s | more s/job \
| of allowed | peak MB | others |
|---|---|---|---|---|---|---|---|---|---|"""
AGAIN = """
| nothing to do for | wall s | CPU s | peak MB | MB per 1,000 more | with -n: wall s | CPU s | others |
|---|---|---|---|---|---|---|---|"""


def snakemake(directory, *arguments, program=("-m", "snakemake"), cores=CORES):
    """Cost and text of a run of the workflow on the project in a directory."""
    options = ["--snakefile", ROOT / "Snakefile", "--cores", cores, "--directory", directory, *arguments]
    return watched([sys.executable, *program, *options, "--config", "project=project"], directory)


def measure(directory, stills, images):
    """Costs of the first run on so many images in a new directory, and of the same work in one process."""
    repeated(stills, directory / "project", images)
    repeated(stills, directory / "alone", images)
    cost, text = snakemake(directory)
    assert f"project: {images} of {images} images are measured" in text, text
    return cost, in_one_process(directory)


def in_one_process(directory):
    """Cost of the jobs' work on the project `alone`."""
    work = []
    for path in sorted((directory / "alone").glob("SIM*")):
        given = ImageDirectory(path).given() | {"config": configuration("alone")}
        work.append([given | own for own in arguments_of_steps(path).values()])
    (directory / "alone.json").write_text(json.dumps(work))
    return watched([sys.executable, "-c", ONE_PROCESS, "alone.json"], directory)[0]


def arguments_of_steps(directory):
    """The files that extract and integrate are told of for an image directory, beside those in it to read."""
    extracted, integrated, raw, corrected = map(str, ImageDirectory(directory).results(*RESULTS))
    both = {"project": str(directory.parent / "project.xml")}
    return {
        "extract": both | {"output": extracted},
        "integrate": both | {"reflections": extracted, "output": integrated, "raw": raw, "corrected": corrected},
    }


def configuration(project):
    """The configuration of a run without options."""
    return yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8")) | {"project": project}


def copy_results(directory, measured, images):
    """Makes a project whose images have the results of measured ones, as Snakemake remembers its own."""
    repeated(measured, directory / "project", images)
    snakemake(directory, "--touch", "--forceall", program=("-c", TOUCH), cores=len(STEPS) * images)


def again(directory, runs):
    """Median costs of runs that have nothing to do, and of such with -n, in turn."""
    costs = [(run_again(directory), run_again(directory, "-n")) for _ in range(runs)]
    check_memory(directory)
    return [Cost(*map(median, zip(*column, strict=True))) for column in zip(*costs, strict=True)]


def run_again(directory, *arguments):
    cost, text = snakemake(directory, *arguments)
    assert "Nothing to be done" in text, text
    return cost


def check_memory(directory):
    """Asserts that Snakemake knows what the results were made with: another parameter of an image is two jobs."""
    info = next((directory / "project").glob("SIM*")) / "info.xml"
    before = info.read_bytes()
    info.write_bytes(before.replace(b"<EMDataInfo>", ANOTHER_BOX, 1))
    _, text = snakemake(directory, "-n", "--quiet", "host")
    planned = re.findall(rf"^rule ({'|'.join(STEPS)}):", text, re.MULTILINE)
    assert sorted(planned) == sorted(STEPS), text
    info.write_bytes(before)


def first_row(images, run, alone, empty):
    """Cells of a first run; `empty`: cost of the run that has nothing to do."""
    jobs = len(STEPS) * images
    shares = (run.main - empty.main) / jobs, run.descendants / jobs
    more, allowed = (run.cpu - alone.cpu) / jobs, WORK_FACTOR * alone.cpu + PER_JOB * jobs
    cells = [f"{run.wall:.0f}", f"{run.cpu:.1f}", *(f"{s:.3f}" for s in shares), f"{alone.cpu:.1f}", f"{more:.3f}"]
    return [f"{images:,}", *cells, f"{run.cpu / allowed:.2f}", f"{run.peak:.0f}", f"{run.others:.1f}"]


def again_row(images, empty, dry, smallest):
    """Cells of runs that have nothing to do; `smallest`: images and peak of the smallest project."""
    more = images - smallest[0]
    growth = f"{1000 * (empty.peak - smallest[1]) / more:.0f}" if more else "-"
    cells = [f"{empty.wall:.1f}", f"{empty.cpu:.1f}", f"{empty.peak:.0f}", growth, f"{dry.wall:.1f}", f"{dry.cpu:.1f}"]
    return [f"{images:,}", *cells, f"{max(empty.others, dry.others):.1f}"]


def print_runs(folder, stills, *, measured, planned, runs):
    """The tables of first runs and of runs with nothing to do."""
    smallest, rows, done = None, [], stills
    print(FIRST)
    for images in (*measured, *planned):
        directory = folder / f"{images}"
        if images in measured:
            costs = measure(directory, stills, images)
            done = sorted((directory / "project").glob("SIM*"))[:DIFFERENT]
        else:
            copy_results(directory, done, images)
        empty, dry = again(directory, runs)
        smallest = smallest or (images, empty.peak)
        rows.append(again_row(images, empty, dry, smallest))
        if images in measured:
            print_row(first_row(images, *costs, empty))
    print(AGAIN)
    for row in rows:
        print_row(row)


def print_parts(directory, stills, *, runs):
    """The tables of the CPU of a job's process and of what it imports."""
    repeated(stills, directory / "project", 1)
    (still,) = (directory / "project").glob("SIM*")
    given = {"directory": still, "config": json.dumps(configuration("project")), "log": still / "job.log"}
    print("\n| CPU s of |", " | ".join([*PARTS, "together"]), "|")
    print("|---" * (len(PARTS) + 2) + "|")
    columns = []
    for step, own in arguments_of_steps(still).items():
        some = commands(step, given | own)
        restore = [stills[0] / "info.xml", still / "info.xml"]
        spent = cpu_of_parts(some, directory, runs, restore=lambda files=restore: shutil.copy(*files))
        print_row([step, *(f"{seconds:.3f}" for seconds in spent)])
        columns.append(import_times(some, directory, runs))
    print_imports(*columns)


def print_imports(*columns):
    """The table of dictionaries of milliseconds by package, one for each step."""
    print("\n| ms to import for |", " | ".join(STEPS), "|\n|---|---|---|")
    rows = {package: [column.get(package, 0.0) for column in columns] for column in columns for package in column}
    some = {package: row for package, row in rows.items() if max(row) >= LEAST_IMPORT}
    others = [row for package, row in rows.items() if package not in some]
    for package in sorted(some, key=lambda package: -sum(some[package])):
        print_row([package, *(f"{milliseconds:.0f}" for milliseconds in some[package])])
    print_row(["others", *(f"{sum(column):.0f}" for column in zip([0.0] * len(columns), *others, strict=True))])


def print_row(cells):
    print("|", " | ".join(cells), "|", flush=True)


def main():
    arguments = machine.arguments(
        __doc__,
        runs="repetitions of the runs with nothing to do and of the parts of a job",
        whole=f"also the first run of {PLANNED[0]:,} images, which takes an hour",
        quick="a few images, to see that it runs",
    )
    measured, planned = FEW if arguments.quick else (MEASURED, PLANNED)
    if arguments.whole:
        measured, planned = (*measured, *planned), ()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stills = simulated(folder / "stills")
        repeated(stills, folder / "warm/project", 1)
        snakemake(folder / "warm")  # compiles the library and fills the page cache
        print_runs(folder, stills, measured=measured, planned=planned, runs=arguments.runs)
        print_parts(folder / "parts", stills, runs=arguments.runs)


if __name__ == "__main__":
    main()
