"""Projects whose images were searched for a lattice, written by hand: for the tests of verification."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tifffile
from lxml import etree

from ed2d.emdatainfo import group_element, lattice_element
from ed2d.exampleproject import write_project_xml
from ed2d.lattice import Lattice, predict
from ed2d.simulate import Simulation, disturbed, simulate

SHAPE = (300, 340)  # rows, columns
LATTICE = Lattice(origin=(171.3, 148.4), a=(24.0, 7.0), b=(-6.0, 26.0), barrel=3e-7, spiral=-2e-7)
RUNNER_UP = Lattice(origin=(183.3, 151.9), a=(24.0, 7.0), b=(18.0, 33.0))
FACTOR = 2
MASK = """<Mask>
  <Polygon>
    <Node><x value="160" type="float"/><y value="140" type="float"/></Node>
    <Node><x value="182" type="float"/><y value="140" type="float"/></Node>
    <Node><x value="176" type="float"/><y value="300" type="float"/></Node>
    <Node><x value="166" type="float"/><y value="300" type="float"/></Node>
  </Polygon>
  <Circle>
    <Center><x value="171" type="float"/><y value="148" type="float"/></Center><Radius value="16" type="float"/>
  </Circle>
</Mask>"""


@dataclass(frozen=True)
class Searched:
    """What was found in one image; `lattice` and `runner_up` may be None, `extra` are groups beside DiffSearch."""

    lattice: Lattice | None = LATTICE
    confidence: float = 0.6
    sure: bool = False
    reason: str = "the origin is uncertain: the next candidate is nearly as good"
    runner_up: Lattice | None = RUNNER_UP
    extra: list = field(default_factory=list)


def write_project(directory, images):
    """A project of images {name: Searched}, all with the same picture; returns its directory as a Path."""
    directory = Path(directory)
    directory.mkdir(parents=True)
    write_project_xml(directory / "project.xml", image_mask=".*", parameters={})
    picture = still(LATTICE, SHAPE, seed=1)
    for name, searched in images.items():
        write_image(directory / name, searched, picture)
    return directory


def write_image(directory, searched, picture):
    """info.xml and tmp_search.tif of an image; `picture`: pixels and description."""
    directory.mkdir()
    (directory / "info.xml").write_bytes(info(searched))
    pixels, about = picture
    tifffile.imwrite(directory / "tmp_search.tif", pixels, description=json.dumps(about), metadata=None)


def info(searched):
    """The bytes of an info.xml with DiffMask and DiffSearch."""
    root = etree.Element("EMDataInfo")
    results = etree.SubElement(root, "DiffProcessingResults")
    mask = etree.SubElement(results, "DiffMask")
    mask.append(etree.fromstring(MASK))
    figures = {"Confidence": searched.confidence, "Sure": searched.sure, "Reason": searched.reason or None}
    figures |= {"Peaks": 150, "PeaksOnLattice": 0.93, "RmsPosition": 0.31}
    search = group_element("DiffSearch", figures)
    if searched.lattice:
        search.insert(0, lattice_element("SearchedLattice", searched.lattice))
    if searched.runner_up:
        search.append(lattice_element("RunnerUp", searched.runner_up, Confidence=0.21))
    results.append(search)
    for element in searched.extra:
        results.append(element)
    etree.indent(root)
    return etree.tostring(root)


def still(lattice, shape, *, seed, factor=FACTOR, **simulation):
    """Pixels and description of the picture of a simulated still, with peaks on its lattice and beside it."""
    rng = np.random.default_rng(seed)
    parameters = {"peak_volume": 3000.0, "background": 3.0, "background_diffuse": 200.0} | simulation
    image, _, truth = simulate(Simulation(shape=shape, lattice=lattice, **parameters), seed=seed)
    rows, columns = (n // factor * factor for n in shape)
    mean = image[:rows, :columns].reshape(rows // factor, factor, columns // factor, factor).mean((1, 3))
    logarithm = np.log(mean - mean.min() + 30)
    low, high = np.percentile(logarithm, [1, 99.8])
    pixels = np.clip((logarithm - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    strong = np.argsort(-truth["vol_counts"] * (truth["trans_min"] > 0.5))[: len(truth) // 2]
    clear = np.column_stack([truth["x"], truth["y"]])[strong]
    clear = clear + rng.normal(scale=0.25, size=clear.shape)
    stray = rng.uniform([0, 0], [shape[1], shape[0]], size=(max(3, len(clear) // 12), 2))
    peaks = [[*map(float, at), 1] for at in clear] + [[*map(float, at), 0] for at in stray]
    about = {"program": "ed2d", "shape": list(shape), "factor": factor, "peaks": peaks[:1000]}
    return pixels, about


def points(lattice, shape=SHAPE):
    """{(h, k): position} of all predicted points."""
    miller = predict(lattice, shape=shape)
    return {tuple(index): xy for index, xy in zip(miller.tolist(), lattice.position(miller), strict=True)}


def lattices(number, *, seed=0):
    """Turned lattices of one crystal, each a little different."""
    rng = np.random.default_rng(seed)
    for turn in rng.uniform(0, 360, number):
        first, second = np.deg2rad(turn), np.deg2rad(turn + 98)
        lattice = Lattice(
            origin=(512.0, 500.0),
            a=(float(33 * np.cos(first)), float(33 * np.sin(first))),
            b=(float(37 * np.cos(second)), float(37 * np.sin(second))),
            barrel=6e-8,
            spiral=-4e-8,
        )
        yield disturbed(lattice, origin_error=12.0, vector_error=0.4, seed=int(rng.integers(2**31)))
