"""Where the CPU of a job's process goes: its script, ended earlier and earlier, and what this imports."""

import re
import subprocess
import sys
from statistics import median

from watch import ENVIRONMENT, LIBRARY, cpu_seconds

PARTS = ("interpreter", "imports", "work")
WORK = "\nmain("  # the call in a script, after its imports


def commands(step, arguments):
    """Commands by name of the part of a job after which they end."""
    script = LIBRARY / f"{step}.py"
    imports, _, _ = script.read_text(encoding="utf-8").partition(WORK)
    programs = [["-c", ""], ["-c", imports], [script, *(f"{name}={value}" for name, value in arguments.items())]]
    return {part: [sys.executable, *program] for part, program in zip(PARTS, programs, strict=True)}


def cpu_of_parts(some, directory, runs, *, restore):
    """Median CPU seconds of each part, and of all together; `restore` puts back what the work has changed."""
    figures = []
    for _ in range(runs):
        restore()
        ends = [cpu_seconds(command, directory) for command in some.values()]
        starts = [0.0, *ends[:-1]]
        figures.append([*(end - start for start, end in zip(starts, ends, strict=True)), ends[-1]])
    return [median(column) for column in zip(*figures, strict=True)]


def import_times(some, directory, runs):
    """Median milliseconds by package of what a script imports."""
    figures = []
    for _ in range(runs):
        start, imports = (_import_times(some[part], directory) for part in PARTS[:2])
        figures.append(_by_package({module: spent for module, spent in imports.items() if module not in start}))
    packages = {package for figure in figures for package in figure}
    return {package: median(figure.get(package, 0.0) for figure in figures) for package in packages}


def _import_times(command, directory):
    """Milliseconds of each module that a command imports, without those that this one imports."""
    python, *program = command
    ways = {"cwd": directory, "env": ENVIRONMENT, "check": True, "capture_output": True, "text": True}
    told = subprocess.run([python, "-X", "importtime", *program], **ways).stderr
    lines = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)$", told, re.MULTILINE)
    return {module: int(microseconds) / 1000 for microseconds, module in lines}


def _by_package(times):
    sums = {}
    for module, milliseconds in times.items():
        top = module.partition(".")[0]
        package = "Python's own" if top in sys.stdlib_module_names else top
        sums[package] = sums.get(package, 0.0) + milliseconds
    return sums
