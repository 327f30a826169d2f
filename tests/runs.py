"""Real runs of Snakemake on small simulated projects, for the tests of the workflow."""

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ed2d.exampleproject import write_image_directory, write_project_xml
from ed2d.lattice import Lattice
from ed2d.mtz import read_mtz
from ed2d.simulate import Simulation, disturbed

CHECKOUT = Path(__file__).resolve().parents[1]
SNAKEFILE = CHECKOUT / "Snakefile"
LATTICE = Lattice((146.3, 125.4), (24.0, 7.0), (-6.0, 26.0))
IMAGES = ("ABC0000001", "ABC0000002", "ABC0000003")
PARAMETERS = {
    "LatticeExtract": {"BoxSize": 5, "BoxGrowAmount": 1, "BackgroundRimSize": 2},
    "Detector": {"Gain": 8.0, "ReadNoise": 6.0, "Offset": 50.0, "Saturation": 60000.0},
}
INPUTS = ("{0}.tif", "{0}_mask.tif", "info.xml")
RESULTS = ("{0}_ext.mtz", "{0}_int.mtz", "tmp_integrate1.tif", "tmp_integrate2.tif")
FOUND = ("tmp_mask.tif", "tmp_search.tif")
LOGS = ("{0}_ext.log", "{0}_int.log")
LARGEST_MOVE = 0.01  # px, of a predicted position when an image is extracted again
TIMEOUT = 300  # s, for a run that takes a few


@dataclass(frozen=True)
class Run:
    """What a finished run left: its exit status, all that the terminal showed, and how long it took."""

    status: int
    text: str
    seconds: float

    def jobs(self):
        """The jobs that were started, (rule, image) sorted; the image of `all` and its like is ""."""
        found = re.findall(r"^(?:local)?(?:rule|checkpoint) (\w+):\n((?: {4}.*\n)*)", self.text, re.MULTILINE)
        named = [(rule, re.search(r"wildcards: image=(.*)", body)) for rule, body in found]
        return sorted((rule, match[1] if match else "") for rule, match in named)

    def measured(self):
        """The names of the images of which a job was started."""
        return sorted({image for _, image in self.jobs() if image})

    def reason(self, rule, image):
        """The reason line of one job."""
        blocks = re.findall(rf"^(?:local)?rule {rule}:\n((?: {{4}}.*\n)*)", self.text, re.MULTILINE)
        block = next(block for block in blocks if f"wildcards: image={image}\n" in block)
        return re.search(r"reason: (.*)", block)[1]

    def changes(self, rule, image):
        """The values before and now that the reason line of one job shows, two texts."""
        return re.search(r" before: (.*) now: (.*)", self.reason(rule, image)).groups()

    def line(self, *parts):
        """The first line that has all the parts; AssertionError with the whole text when there is none."""
        for line in self.text.splitlines():
            if all(part in line for part in parts):
                return line
        raise AssertionError(f"no line has {parts} in\n{self.text}")

    def report(self):
        """The lines of the report at the end: how many images are measured, and why the others are not."""
        report = re.search(r"^(.* images are measured); see .*\n((?:  [a-z]+: .*\n)*)", self.text, re.MULTILINE)
        assert report, f"no report in\n{self.text}"
        return [report[1], *report[2].splitlines()]


def command(directory, *arguments, project="project", config=(), cores=2, snakefile=SNAKEFILE, quiet=("host",)):
    """The command line of a run in `directory`, None = the current one; `project` is relative to it or absolute.

    quiet: what Snakemake does not say; without "rules" it tells of each job.
    """
    options = ["--snakefile", snakefile, "--cores", cores, "--quiet", *quiet]
    options += ["--directory", directory] if directory else []
    given = [f"project={project}", *config] if project is not None else []
    parts = [sys.executable, "-m", "snakemake", *arguments, *options, *(["--config", *given] if given else [])]
    return [str(part) for part in parts]


def snakemake(directory, *arguments, cwd=None, **keywords):
    """Runs Snakemake as `command` has it, from the directory `cwd` if given; returns the Run."""
    start = time.monotonic()
    done = subprocess.run(
        command(None if cwd else directory, *arguments, **keywords),
        cwd=cwd or directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    return Run(done.returncode, done.stdout, time.monotonic() - start)


def make_project(directory, images=IMAGES, *, mask="ABC[0-9]{7}"):
    """A project of simulated stills of 288 x 256 px with about 110 spots; returns its path."""
    directory.mkdir(parents=True)
    for seed, name in enumerate(images, start=1):
        simulation = Simulation(
            shape=(256, 288),
            lattice=LATTICE,
            peak_volume=6000.0,
            background=5.0,
            background_diffuse=500.0,
            background_plane=1.0,
            gain=8.0,
            read_noise=6.0,
            offset=50.0,
            zingers=3,
        )
        checked = disturbed(LATTICE, origin_error=0.4, vector_error=0.04, seed=100 + seed)
        write_image_directory(directory / name, simulation, seed=seed, lattice=checked)
    write_project_xml(directory / "project.xml", image_mask=mask, parameters=PARAMETERS)
    return directory


def copy(source, target):
    """A copy of a directory tree with its times, so that nothing in it has to be measured anew."""
    shutil.copytree(source, target, symlinks=True)
    return target


def edit(path, old, new):
    """Replaces the only occurrence of a text in a file."""
    content = path.read_bytes()
    assert content.count(old.encode()) == 1, (path, old, content)
    path.write_bytes(content.replace(old.encode(), new.encode()))


def set_parameter(info, group, **items):
    """Puts a group of items into DiffProcessing at the start of an info.xml without one."""
    inside = "".join(f'<{name} value="{value}"/>' for name, value in items.items())
    edit(info, "<EMDataInfo>\n", f"<EMDataInfo><DiffProcessing><{group}>{inside}</{group}></DiffProcessing>\n")


def set_origin(info, x):
    """Writes another x of the Offset into the VerifiedLattice of an info.xml."""
    old = re.search(rb'<VerifiedLattice>\s*<Offset>\s*<x value="[^"]*"', info.read_bytes())[0].decode()
    edit(info, old, f'<VerifiedLattice><Offset><x value="{x}"')


def names(directory, *patterns):
    """File names of an image directory from patterns such as RESULTS."""
    return {pattern.format(directory.name) for pattern in patterns}


def contents(directory):
    """Bytes of all files below a directory except the logs and the summary, by relative path."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file() and path.suffix not in (".log", ".tsv"))
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def info_of(directory, image):
    """The info.xml of an image in the project of a directory."""
    return directory / "project" / image / "info.xml"


def without_results(info):
    """The bytes of an info.xml without the groups that the workflow writes."""
    return re.sub(
        rb"\s*<(DiffMask|DiffSearch|DiffExtract|DiffIntegrate)>.*?</\1>", b"", info.read_bytes(), flags=re.DOTALL
    )


def assert_same_points(before, after):
    """Asserts that two extractions predict the same points, at most LARGEST_MOVE apart."""
    old, new = (read_mtz(directory / f"{directory.name}_ext.mtz")[0] for directory in (before, after))
    for column in ("H", "K"):
        np.testing.assert_array_equal(old[column], new[column])
    assert len(old) > 50
    assert np.hypot(old["XDET"] - new["XDET"], old["YDET"] - new["YDET"]).max() <= LARGEST_MOVE
