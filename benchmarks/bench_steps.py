#!/usr/bin/env python3
"""CPU seconds and peak memory of fresh extract and integrate processes on simulated stills.

usage: bench_steps.py [--runs N]      with ed2d installed, on Linux; prints one table, keeps nothing

Every run is a process of its own with one BLAS thread, as the workflow starts it; the image is in the page cache.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ed2d.exampleproject import write_image_directory, write_project_xml
from ed2d.lattice import Lattice
from ed2d.simulate import Simulation, disturbed

CASES = {"2048^2, 2000 spots": (2048, 42.0), "2048^2, 5000 spots": (2048, 26.5), "1024^2, 600 spots": (1024, 38.0)}
PARAMETERS = {
    "LatticeExtract": {"BoxSize": 6, "BoxGrowAmount": 1, "BackgroundRimSize": 2, "MinRadius": 0.0, "MaxRadius": 0.0},
    "Detector": {"Gain": 5.0, "ReadNoise": 10.0, "Offset": 0.0, "Saturation": 60000.0},
}
STEP = """
import resource, sys
from pathlib import Path
from ed2d.{step} import {step}
directory = Path(sys.argv[1])
path = lambda suffix: str(directory / f"{{directory.name}}{{suffix}}")
extra = dict(reflections=path("_ext.mtz"), output=path("_int.mtz"), raw=path("_1.tif"), corrected=path("_2.tif"))
{step}(name=directory.name, image=path(".tif"), mask=path("_mask.tif"), info=str(directory / "info.xml"),
       project=str(directory.parent / "project.xml"), config={{}},
       **(extra if "{step}" == "integrate" else dict(output=path("_ext.mtz"))))
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, int(peak) / 1024)
"""


def simulate(folder, size, spacing):
    """One image directory with about (size / spacing)^2 lattice points."""
    lattice = Lattice(
        (size / 2 + 4.3, size / 2 - 2.1), (spacing * 0.95, spacing * 0.3), (-spacing * 0.3, spacing * 0.95)
    )
    write_project_xml(folder / "project.xml", image_mask="SIM[0-9]{7}", parameters=PARAMETERS)
    checked = disturbed(lattice, origin_error=1.0, vector_error=0.02, seed=1)
    write_image_directory(
        folder / "SIM0000001", Simulation(shape=(size, size), lattice=lattice), seed=1, lattice=checked
    )
    return folder / "SIM0000001"


def measure(step, directory):
    """CPU seconds and peak MB of one fresh process."""
    command = [sys.executable, "-c", STEP.format(step=step), str(directory)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [float(figure) for figure in done.stdout.split()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    print("| image | step | CPU s (median) | peak MB |\n|---|---|---|---|")
    for label, (size, spacing) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            directory = simulate(Path(folder), size, spacing)
            for step in ("extract", "integrate"):
                info = (directory / "info.xml").read_bytes()
                figures = []
                for _ in range(runs):
                    if step == "extract":
                        (directory / "info.xml").write_bytes(info)
                    figures.append(measure(step, directory))
                cpu, memory = (statistics.median(column) for column in zip(*figures, strict=True))
                print(f"| {label} | {step} | {cpu:.2f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
