#!/usr/bin/env python3
"""CPU seconds and peak memory of fresh extract and integrate jobs on simulated stills, each part apart.

usage: bench_job.py [--runs N] [--quick]      with ed2d installed and scipy, on Linux; prints markdown tables

Every run is a process of its own with one BLAS thread, as the workflow starts it; the image is in the page cache.
"""

import json
import math
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import machine  # before numpy
import numpy as np
import rival
import tifffile

from ed2d.exampleproject import write_image_directory, write_project_xml
from ed2d.lattice import Lattice
from ed2d.simulate import Simulation, disturbed

CASES = {  # pixels along an edge, spots, wanted CPU seconds of extract
    "1024^2, 600": (1024, 600, None),
    "2048^2, 500": (2048, 500, 0.40),
    "2048^2, 2,000": (2048, 2000, 0.30),
    "2048^2, 5,000": (2048, 5000, 0.90),
    "4096^2, 10,000": (4096, 10000, 1.80),
}
LARGE = "16384^2 float, 1,000"  # a patch of 2048^2 with 16 spots, repeated
QUICK = {"320^2, 100": (320, 100, 0.40)}
SCALE = 640  # mixed fits per CPU-second of curve_fit on the machine that the wanted seconds are for
NAME = "SIM0000001"
CONFIG = {"Integrate": {"ApplyErrorModel": False}}  # all else stands in project.xml
PARTS = {  # of extract_image, all but refine is the fit: boxes, noise, profile and flags with it
    "read": ("ed2d.extract.read_inputs", "ed2d.extract.starting_lattice"),
    "fit": ("ed2d.extract.extract_image",),
    "refine": ("ed2d.extraction.refine",),
    "write": ("ed2d.extract.write_mtz", "ed2d.extract.replace_group"),
}
COLUMNS = ("start-up", "imports", *PARTS, "rest", "total", "peak")
CHILD = """
import time
startup = time.process_time()
from ed2d.job import run
from ed2d.{step} import {step}
imports = time.process_time() - startup
import importlib, json, sys

arguments, parts = json.loads(sys.argv[1]), json.loads(sys.argv[2])
spent = dict.fromkeys(parts, 0.0)

def timed(part, work):
    def wrapper(*args, **keywords):
        start, inside = time.process_time(), sum(spent.values())
        try:
            return work(*args, **keywords)
        finally:
            spent[part] += time.process_time() - start - (sum(spent.values()) - inside)
    return wrapper

for part, names in parts.items():
    for module, _, name in (name.rpartition(".") for name in names):
        module = importlib.import_module(module)
        setattr(module, name, timed(part, getattr(module, name)))
run({step}, **arguments)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(dict(spent, imports=imports, peak=int(peak) / 1024, **{{"start-up": startup}})))
"""


def simulate(folder, size, spots):
    """The directory of one image with about so many spots, all that is predicted, in a project of its own."""
    whole = Simulation(shape=(size, size), lattice=Lattice((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
    low, high = 0.5 * size * whole.min_radius, whole.r_max
    spacing, turn = math.sqrt(math.pi * (high**2 - low**2) / spots), 0.3
    u, v = spacing * math.cos(turn), spacing * math.sin(turn)
    lattice = Lattice((size / 2 + 4.3, size / 2 - 2.1), (u, v), (-v, u))
    boxes = {"BoxSize": 6, "BoxGrowAmount": 1, "BackgroundRimSize": 2}
    parameters = {
        "LatticeExtract": boxes | {"MinRadius": low, "MaxRadius": high},
        "Detector": {"Gain": whole.gain, "ReadNoise": whole.read_noise, "Offset": 0.0, "Saturation": 60000.0},
    }
    write_project_xml(folder / "project.xml", image_mask="SIM[0-9]{7}", parameters=parameters)
    checked = disturbed(lattice, origin_error=1.0, vector_error=0.02, seed=1)
    simulation = Simulation(shape=(size, size), lattice=lattice)
    write_image_directory(folder / NAME, simulation, seed=1, lattice=checked)
    return folder / NAME


def repeat(folder):
    """The directory of an image of 16384^2 float32, uncompressed, with a thousand spots: the same patch everywhere."""
    side, spacing, times = 2048, 512.0, 8
    lattice = Lattice((100.3, 100.7), (spacing, 0.0), (0.0, spacing))
    even = {"background_diffuse": 0.0, "background_plane": 0.0, "falloff": 0.0, "zingers": 0, "beamstop": False}
    patch = Simulation(shape=(side, side), lattice=lattice, min_radius=0.0, max_radius=4.0, **even)
    half = side * times / 2
    boxes = {"BoxSize": 6, "BoxGrowAmount": 1, "BackgroundRimSize": 2}
    parameters = {
        "LatticeExtract": boxes | {"MinRadius": 0.0, "MaxRadius": 0.0},
        "Detector": {"Gain": patch.gain, "ReadNoise": patch.read_noise, "Offset": 0.0, "Saturation": 60000.0},
    }
    write_project_xml(folder / "project.xml", image_mask="SIM[0-9]{7}", parameters=parameters)
    middle = Lattice((100.3 + half, 100.7 + half), lattice.a, lattice.b)
    write_image_directory(folder / NAME, patch, seed=1, lattice=middle)
    image, mask = (folder / NAME / f"{NAME}{suffix}" for suffix in (".tif", "_mask.tif"))
    pixels = np.tile(tifffile.imread(image).astype(np.float32), (times, times))
    tifffile.imwrite(image, pixels, photometric="minisblack", metadata=None)
    whole = np.full(pixels.shape, 255, np.uint8)
    tifffile.imwrite(mask, whole, photometric="minisblack", metadata=None, compression="zlib")
    return folder / NAME


def run_job(step, directory):
    """One fresh job: CPU seconds of its parts and in total, the end of Python with it, and the peak in MB."""
    path = {suffix: str(directory / f"{NAME}{suffix}") for suffix in (".tif", "_mask.tif", "_ext.mtz", "_int.mtz")}
    arguments = {"name": NAME, "image": path[".tif"], "mask": path["_mask.tif"], "config": CONFIG}
    arguments |= {"info": str(directory / "info.xml"), "project": str(directory.parent / "project.xml")}
    arguments |= {"log": str(directory / f"{step}.log"), "output": path["_ext.mtz"]}
    if step == "integrate":
        arguments |= {"reflections": path["_ext.mtz"], "output": path["_int.mtz"]}
        arguments |= {"raw": str(directory / "raw.tif"), "corrected": str(directory / "corrected.tif")}
    parts = PARTS if step == "extract" else {}
    command = [sys.executable, "-c", CHILD.format(step=step), json.dumps(arguments), json.dumps(parts)]
    before = _cpu_of_children()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout) | {"total": _cpu_of_children() - before}
    known = sum(figures[name] for name in ("start-up", "imports", *parts))
    return figures | {"rest": figures["total"] - known}


def _cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(draw, runs, boxes):
    """Medians of the figures of extract, of integrate, and of the rival's rate in between; draw(folder): the image."""
    extract, integrate, rates = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        directory = draw(Path(folder))
        info = (directory / "info.xml").read_bytes()
        run_job("extract", directory)  # compiles the modules and fills the page cache
        for _ in range(runs):
            (directory / "info.xml").write_bytes(info)
            extract.append(run_job("extract", directory))
            integrate.append(run_job("integrate", directory))
            rates.append(rival.rate(boxes)[0])
    return _medians(extract), _medians(integrate), median(rates)


def _medians(runs):
    return {name: median(run[name] for run in runs) for name in runs[0]}


def main():
    arguments = machine.arguments(
        __doc__,
        runs="fresh processes a figure is the median of",
        quick="one small image, to see that it runs",
    )
    boxes = rival.mixed(50 if arguments.quick else 600)
    cases = QUICK if arguments.quick else CASES
    drawn = {label: (partial(simulate, size=size, spots=spots), goal) for label, (size, spots, goal) in cases.items()}
    drawn |= {} if arguments.quick else {LARGE: (repeat, None)}
    print("| extract of | curve_fit /s | wanted here |", " | ".join(COLUMNS), "MB |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    rows = []
    for label, (draw, wanted) in drawn.items():
        extract, integrate, rate = measure(draw, arguments.runs, boxes)
        target = f"{wanted * SCALE / rate:.2f}" if wanted else "-"
        cells = " | ".join(f"{extract[name]:.2f}" for name in COLUMNS[:-1])
        print(f"| {label} | {rate:.0f} | {target} | {cells} | {extract['peak']:.0f} |", flush=True)
        rows.append(f"| {label} | {integrate['total']:.2f} | {integrate['peak']:.0f} |")
    print("\n| integrate of | total | peak MB |\n|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
