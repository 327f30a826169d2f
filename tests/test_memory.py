"""Peak memory of fresh jobs on large images: a few times the size of the pixels more than on a tiny one."""

import json
import subprocess
import sys

import pytest
import tifffile

from ed2d.exampleproject import write_image_directory, write_project_xml
from ed2d.lattice import Lattice
from ed2d.simulate import Simulation
from runs import CHECKOUT

NAME = "ABC0000001"
JOB = """
import json, sys
from ed2d.extract import extract
from ed2d.integrate import integrate

both, outputs = json.loads(sys.argv[1])
for step, output in zip((extract, integrate), outputs, strict=True):
    step(**both, **output)
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peaks(folder, size, spacing, dtype, gain):
    """Peaks in MB after extract and after integrate on a simulated still, both in one fresh process."""
    lattice = Lattice((size / 2 + 4.3, size / 2 - 2.1), (0.9 * spacing, 0.3 * spacing), (-0.3 * spacing, 0.9 * spacing))
    simulation = Simulation(shape=(size, size), lattice=lattice, falloff=1.0, background_diffuse=500.0, zingers=9)
    directory = folder / NAME
    write_image_directory(directory, simulation, seed=1, lattice=lattice)
    image = directory / f"{NAME}.tif"
    tifffile.imwrite(image, tifffile.imread(image).astype(dtype), photometric="minisblack", metadata=None)
    boxes = {"BoxSize": 6, "BoxGrowAmount": 1, "BackgroundRimSize": 2, "MinRadius": 0.0, "MaxRadius": 0.0}
    detector = {"Gain": gain, "ReadNoise": 0.0, "Offset": 0.0, "Saturation": 60000.0}
    parameters = {"LatticeExtract": boxes, "Detector": detector}
    write_project_xml(folder / "project.xml", image_mask="ABC.*", parameters=parameters)
    both = {"name": NAME, "image": str(image), "mask": str(directory / f"{NAME}_mask.tif")}
    both |= {"info": str(directory / "info.xml"), "project": str(folder / "project.xml")}
    both |= {"config": {"Integrate": {"ApplyErrorModel": False}}}
    pictures = {name: str(directory / f"{name}.tif") for name in ("raw", "corrected", "residuals")}
    reflections = str(directory / "ext.mtz")
    outputs = {"output": reflections}, {"reflections": reflections, "output": str(directory / "int.mtz"), **pictures}
    done = subprocess.run(
        [sys.executable, "-c", JOB, json.dumps([both, outputs])],
        env={"PYTHONPATH": str(CHECKOUT / "workflow/scripts"), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [int(peak) / 1024 for peak in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
@pytest.mark.parametrize(("dtype", "spacing", "gain"), [("float32", 400.0, 5.0), ("uint16", 130.0, 0.0)])
def test_peak_on_a_large_image(tmp_path, dtype, spacing, gain):
    """4096 x 4096 px, spots far apart, or nearer and the gain unknown: three times the pixels, four of 16 bits."""
    tiny = peaks(tmp_path / "tiny", 320, 24.0, dtype, gain)
    large = peaks(tmp_path / "large", 4096, spacing, dtype, gain)
    allowed = {"float32": 3 * 64, "uint16": 4 * 32}[dtype]
    assert all(peak - small < allowed for peak, small in zip(large, tiny, strict=True)), (tiny, large)
