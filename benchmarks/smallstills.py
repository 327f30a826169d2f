"""Projects of thousands of small stills, made in seconds: a few are simulated, the others have the same images."""

import math
import os
import shutil
from itertools import cycle

from ed2d.exampleproject import write_image_directory, write_project_xml
from ed2d.lattice import Lattice
from ed2d.simulate import Simulation, disturbed

DIFFERENT = 24  # stills
SPACING, SIDE = 36.0, 256  # px: 28 spots, of which extract uses at least 15
DOSE = {"peak_volume": 8000.0, "background": 5.0, "background_diffuse": 0.0, "background_plane": 1.0, "zingers": 3}
DETECTOR = {"gain": 8.0, "read_noise": 6.0, "offset": 50.0}
PARAMETERS = {
    "LatticeExtract": {"BoxSize": 5, "BoxGrowAmount": 1, "BackgroundRimSize": 2, "MinRadius": 20.0, "MaxRadius": 110.0},
    "Detector": {"Gain": 8.0, "ReadNoise": 6.0, "Offset": 50.0, "Saturation": 60000.0},
}


def simulated(project):
    """Makes a project of different stills; returns their directories."""
    project.mkdir(parents=True)
    write_project_xml(project / "project.xml", image_mask="SIM[0-9]{7}", parameters=PARAMETERS)
    directories = [project / _name(seed) for seed in range(1, DIFFERENT + 1)]
    for seed, directory in enumerate(directories, start=1):
        u, v = SPACING * math.cos(0.9 * seed), SPACING * math.sin(0.9 * seed)
        lattice = Lattice((0.5 * SIDE + 2.3, 0.5 * SIDE - 2.2), (u, v), (-v, u))
        still = Simulation(shape=(SIDE, SIDE), lattice=lattice, **DOSE, **DETECTOR)
        checked = disturbed(lattice, origin_error=0.4, vector_error=0.04, seed=100 + seed)
        write_image_directory(directory, still, seed=seed, lattice=checked)
    return directories


def repeated(stills, project, images):
    """Makes a project of so many images from directories of stills, with the results that these have.

    Images and masks are hard links, everything else is a copy.
    """
    project.mkdir(parents=True)
    shutil.copy2(stills[0].parent / "project.xml", project)
    for number, still in zip(range(1, images + 1), cycle(stills), strict=False):
        name = _name(number)
        (project / name).mkdir()
        for file in still.iterdir():
            put = os.link if file.name in (f"{still.name}.tif", f"{still.name}_mask.tif") else shutil.copy2
            put(file, project / name / file.name.replace(still.name, name))


def _name(number):
    return f"SIM{number:07d}"
