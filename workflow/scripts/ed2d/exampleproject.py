"""Simulated projects on disk: directories of images, and the example that is shipped."""

import io
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import tifffile

from .atomic import replacing
from .lattice import Lattice
from .simulate import Simulation, disturbed, simulate

PROJECT_PARAMETERS = {
    "LatticeExtract": {"BoxSize": 6, "BoxGrowAmount": 1, "BackgroundRimSize": 2},
    "Detector": {"Gain": 8.0, "ReadNoise": 6.0, "Offset": 50.0, "Saturation": 60000.0},
}
README = """This project is simulated: four stills whose truth is known, to try ed2d on.
Remove the directory to have it made again.
"""


def write_image_directory(directory, simulation, *, seed, lattice, parameters=None):
    """Writes NAME.tif, NAME_mask.tif and info.xml into the directory NAME; returns the truth of the image.

    `lattice` becomes the VerifiedLattice, `parameters` (nested dict) the image's own DiffProcessing.
    FileExistsError, before anything is written, when one of the three files is there.
    """
    directory = Path(directory)
    for name in _file_names(directory):
        if (directory / name).exists():
            raise FileExistsError(f"{directory / name}: exists, and is not overwritten")
    return _write_missing(directory, simulation, seed=seed, lattice=lattice, parameters=parameters)


def write_project_xml(path, *, image_mask, parameters):
    """Writes project.xml with ImageMask and typed items from nested dicts; FileExistsError when it is there."""
    body = _elements({"ImageMask": image_mask, **parameters}, "    ")
    _create(Path(path), _document(["  <DiffProcessing>", *body, "  </DiffProcessing>"]))


def make_example(*, name, readme):
    """Makes the example project in the directory of `readme`: creates what is missing, leaves what is there."""
    directory = Path(readme).parent
    directory.mkdir(parents=True, exist_ok=True)
    images = example_images()
    for image, keywords in images.items():
        if not all((directory / image / file).exists() for file in _file_names(directory / image)):
            _write_missing(directory / image, **keywords)
    if not (directory / "project.xml").exists():
        write_project_xml(directory / "project.xml", image_mask="EXA[0-9]{7}", parameters=PROJECT_PARAMETERS)
    with replacing(readme) as temporary:
        temporary.write_text(README, encoding="utf-8")
    return f"{name}: {len(images)} simulated images in {directory}"


def example_images():
    """The keywords of `write_image_directory` for each image of the example, by name.

    Four stills of increasing dose, rotated against each other and bent a little by the lenses. The gain stands in
    project.xml, except for EXA0000004: another camera whose info.xml asks for an estimate of the gain.
    """
    kinds = {  # rows, columns, electrons at the centre, rotation (degrees), gain
        "EXA0000001": (512, 448, 2000.0, 12.0, 8.0),
        "EXA0000002": (512, 512, 6000.0, 31.0, 8.0),
        "EXA0000003": (576, 640, 20000.0, -20.0, 8.0),
        "EXA0000004": (640, 640, 8000.0, 50.0, 12.0),
    }
    images = {}
    for seed, (name, (rows, columns, dose, turn, gain)) in enumerate(kinds.items(), start=1):
        lattice = _turned_lattice(rows, columns, turn)
        simulation = Simulation(
            shape=(rows, columns),
            lattice=lattice,
            peak_volume=dose,
            background=max(3.0, dose / 1000),
            background_diffuse=dose / 8,
            background_plane=1.0,
            gain=gain,
            read_noise=6.0,
            offset=50.0,
            zingers=8,
        )
        checked = disturbed(lattice, origin_error=0.5, vector_error=0.04, seed=100 + seed)
        images[name] = {"simulation": simulation, "seed": seed, "lattice": checked, "parameters": None}
    images["EXA0000004"]["parameters"] = {"Detector": {"Gain": 0.0}}
    return images


def _turned_lattice(rows, columns, degrees):
    """The example's crystal (28.0 and 30.8 px, 98 degrees) near the middle of the image."""
    first, second = np.deg2rad(degrees), np.deg2rad(degrees + 98)
    return Lattice(
        origin=(0.5 * columns + 3.3, 0.5 * rows - 2.6),
        a=(float(28 * np.cos(first)), float(28 * np.sin(first))),
        b=(float(30.8 * np.cos(second)), float(30.8 * np.sin(second))),
        barrel=6e-8,
        spiral=-4e-8,
    )


def _file_names(directory):
    return f"{directory.name}.tif", f"{directory.name}_mask.tif", "info.xml"


def _write_missing(directory, simulation, *, seed, lattice, parameters):
    """Simulates, writes those of the three files that are not there, and returns the truth."""
    image, mask, truth = simulate(simulation, seed=seed)
    contents = _tiff(image), _tiff(mask), _info(lattice, parameters)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in zip(_file_names(directory), contents, strict=True):
        if not (directory / name).exists():
            _create(directory / name, content)
    return truth


def _tiff(array):
    """The bytes of a TIFF file compressed by deflate."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, compression="deflate", photometric="minisblack", metadata=None, software="ed2d")
    return stream.getvalue()


def _info(lattice, parameters):
    """The bytes of an info.xml with a VerifiedLattice and, if any, the image's own parameters."""
    vectors = {"Offset": lattice.origin, "First": lattice.a, "Second": lattice.b}
    content = {name: {"x": float(x), "y": float(y)} for name, (x, y) in vectors.items()}
    for name, value in (("BarrelDistortion", lattice.barrel), ("SpiralDistortion", lattice.spiral)):
        if value:
            content[name] = float(value)
    lines = _elements({"DiffProcessing": parameters}, "  ") if parameters else []
    return _document(lines + _elements({"DiffProcessingResults": {"VerifiedLattice": content}}, "  "))


def _document(lines):
    """The bytes of an XML file with these lines in its root."""
    return "\n".join(["<!DOCTYPE EMDataInfo>", "<EMDataInfo>", *lines, "</EMDataInfo>", ""]).encode()


def _elements(parameters, indent):
    """Lines of XML: a dict is a group, anything else an item."""
    lines = []
    for name, value in parameters.items():
        if isinstance(value, dict):
            lines += [f"{indent}<{name}>", *_elements(value, indent + "  "), f"{indent}</{name}>"]
        else:
            text, kind = _typed(value)
            lines.append(f"{indent}<{name} value={quoteattr(text)}{kind}/>")
    return lines


def _typed(value):
    """The text of a value, a float exactly, and its type attribute (none for text)."""
    if isinstance(value, str):
        return value, ""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower(), ' type="bool"'
    if isinstance(value, (int, np.integer)):
        return str(int(value)), ' type="int"'
    if isinstance(value, (list, tuple, np.ndarray)):
        return str([float(number) for number in value]), ' type="vector"'
    return repr(float(value)), ' type="float"'


def _create(path, content):
    """Writes a new file, whole or not at all; FileExistsError when it is there."""
    with path.open("xb") as stream:
        try:
            stream.write(content)
        except BaseException:
            path.unlink()
            raise
