"""The steps as functions of paths: what they warn of, and what they leave in info.xml."""

import logging

import pytest

from ed2d.emdatainfo import Document, refined_lattice, verified_lattice
from ed2d.exampleproject import write_image_directory, write_project_xml
from ed2d.extract import extract
from ed2d.friedel import r_friedel
from ed2d.integrate import integrate
from ed2d.lattice import Lattice
from ed2d.mtz import read_mtz
from ed2d.simulate import Simulation

LATTICE = Lattice((146.3, 125.4), (24.0, 7.0), (-6.0, 26.0))
BOXES = {"BoxSize": 5, "BoxGrowAmount": 1, "BackgroundRimSize": 2, "MinRadius": 0.0, "MaxRadius": 0.0}
CONFIG = {"Integrate": {"ApplyErrorModel": False}}
APPLIED = {"Integrate": {"ApplyErrorModel": True}}
PICTURES = ("raw", "corrected", "residuals")


def measured(folder, *, gain, verified=LATTICE, shape=(256, 288), **changes):
    """Document, paths and summary lines of both steps on one still whose Detector/Gain is `gain`; true gain 8."""
    values = {"peak_volume": 6000.0, "background_diffuse": 500.0, "gain": 8.0, "read_noise": 0.0, **changes}
    directory = folder / "ABC0000001"
    write_image_directory(directory, Simulation(shape=shape, lattice=LATTICE, **values), seed=1, lattice=verified)
    detector = {"Gain": float(gain), "ReadNoise": 0.0, "Offset": 0.0, "Saturation": 60000.0}
    parameters = {"LatticeExtract": BOXES, "Detector": detector}
    write_project_xml(folder / "project.xml", image_mask="ABC.*", parameters=parameters)
    path = {suffix: str(directory / f"ABC0000001{suffix}") for suffix in (".tif", "_ext.mtz", "_int.mtz")}
    path |= {"info": str(directory / "info.xml"), "project": str(folder / "project.xml"), "mask": None}
    path |= {name: str(directory / f"tmp_integrate{n}.tif") for n, name in enumerate(PICTURES, start=1)}
    said = [extract(**inputs_of(path), output=path["_ext.mtz"]), integrated_again(path)]
    return Document.read(path["info"]), path, said


def inputs_of(path, config=CONFIG):
    """What both steps are given."""
    given = {"image": path[".tif"]} | {name: path[name] for name in ("mask", "info", "project")}
    return given | {"name": "ABC0000001", "config": config}


def integrated_again(path, *, config=CONFIG, residuals=False):
    """The summary line of `integrate` on what `extract` has left."""
    pictures = {name: path[name] for name in PICTURES[: 2 + residuals]}
    return integrate(**inputs_of(path, config), reflections=path["_ext.mtz"], output=path["_int.mtz"], **pictures)


def test_figures_in_info_xml_are_those_of_the_files(tmp_path):
    """Refined lattice, counts and R_Friedel of info.xml, of the summary lines and of the MTZ files agree."""
    info, path, said = measured(tmp_path, gain=8)
    fits, header = read_mtz(path["_ext.mtz"])
    intensities, _ = read_mtz(path["_int.mtz"])
    results = "DiffProcessingResults"
    assert refined_lattice(info, verified_lattice(info)) == header.lattice
    assert info.item(f"{results}/DiffExtract/Predicted", "int") == len(fits)
    assert info.item(f"{results}/DiffIntegrate/Integrated", "int") == len(intensities)
    value, pairs = r_friedel(list(zip(intensities["H"], intensities["K"], strict=True)), intensities["I"])
    assert info.item(f"{results}/DiffIntegrate/RFriedel", "float") == pytest.approx(value, rel=1e-5)
    assert info.item(f"{results}/DiffIntegrate/FriedelPairs", "int") == pairs
    assert f"{len(fits)} spots" in said[0] and f"R_Friedel {value:.3f}" in said[1]


def test_the_right_gain_warns_of_nothing(tmp_path, caplog):
    """Neither step has anything to complain of where no beam stop is left unmasked and zingers are rare."""
    measured(tmp_path, gain=8, beamstop=False, zingers=5)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_lattice_far_from_the_verified_one_is_said(tmp_path, caplog):
    """The true lattice is found from vectors wrong by more than a third of the spacing, and this is said."""
    wrong = Lattice(LATTICE.origin, (24.0, 10.0), (-9.0, 26.0))
    info, _, _ = measured(tmp_path, gain=8, verified=wrong)
    assert "away from the VerifiedLattice" in caplog.text
    assert info.item("DiffProcessingResults/DiffExtract/Moved", "float") > 0.33 * LATTICE.spacing
    assert info.item("DiffProcessingResults/DiffExtract/PeaksOnLattice", "float") > 0.7


def test_spots_narrower_than_pixels_are_said(tmp_path, caplog):
    """Spots of 0.45 px look like zingers, and a warning says so."""
    measured(tmp_path, gain=8, sigma_low=0.45, sigma_high=0.45, elongation=1.0)
    assert "count as zingers" in caplog.text


def test_a_wrong_gain_is_said(tmp_path, caplog):
    """A gain that is three times too large shows in the background, once."""
    measured(tmp_path, gain=24)
    assert caplog.text.count("times what Gain, ReadNoise and Offset say") == 1


EVEN = {"background_diffuse": 0.0, "background_plane": 0.0, "background": 40.0, "read_noise": 9.0}


def test_an_even_background_is_said(tmp_path, caplog):
    """A gain that neither the background nor the spots can tell is said once, with the value that is used."""
    measured(tmp_path, gain=0, peak_volume=2000.0, **EVEN)
    assert caplog.text.count("too even to tell gain and read noise apart") == 1


def test_bright_spots_tell_the_gain(tmp_path, caplog):
    """Beside bright spots an even background is no obstacle: the gain within its error, and nothing said."""
    info, _, _ = measured(tmp_path, gain=0, **EVEN)
    gain, sigma = (info.item(f"DiffProcessingResults/DiffExtract/{name}", "float") for name in ("Gain", "GainSigma"))
    assert abs(gain - 8.0) < 4 * sigma < 8.0
    assert "too even" not in caplog.text
