"""Stills that this project did not make, and simulated ones with their truth: the main job on the shared data."""

import importlib.util
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import gemmi
import numpy as np
import pytest
import tifffile

from ed2d.emdatainfo import Document, read_lattice
from ed2d.friedel import r_friedel
from ed2d.mtz import read_mtz
from runs import CHECKOUT, RESULTS, copy, names, snakemake

SHARED = CHECKOUT.parent / "shared"
DATA = SHARED / "data"
SCORE = SHARED / "check/score.py"
STILLS = ("GLY0000001", "GRA0000001")
LARGEST_RMS_TO_PEAKS = 0.4  # px; measured: 0.29 for the 19 peaks that PETS found on GLY0000001
ITEMS, LARGEST_NULL = ("Mean", "Width"), 0.05  # of the pulls of a null control; largest distance from 0 and from 1
POSITION_RMS = {"sim-a": 0.05, "sim-b": 0.10}  # px


def processed(source, directory):
    """A copy of a project, processed."""
    if not source.is_dir():
        pytest.skip(f"{source} is not there: the shared data are not part of the repository")
    project = copy(source, directory / "project")
    run = snakemake(directory, config=["residuals=true"])
    assert run.status == 0, run.text
    return project


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The project of real stills, processed."""
    return processed(DATA / "real/project", tmp_path_factory.mktemp("real"))


@pytest.fixture(scope="module")
def files(real):
    """The reflection files of the real stills with the lattice of each."""
    return {
        real / name / f"{name}{step}.mtz": refined_lattice(real / name / "info.xml")
        for name in STILLS
        for step in ("_ext", "_int")
    }


def refined_lattice(info):
    document = Document.read(info)
    return read_lattice(document.group("DiffProcessingResults/DiffExtract/RefinedLattice"), document)


def assert_original_indices(miller, positions, lattice):
    """The indices are those of the lattice points that the rows calculate: every point once, at its place."""
    assert len(miller) > 30 and len(np.unique(miller, axis=0)) == len(miller)
    np.testing.assert_allclose(positions, lattice.position(miller), atol=1e-3)  # px; float32 in the file


def test_every_result_is_there(real):
    """Both stills have all results of the contract."""
    for name in STILLS:
        assert all((real / name / file).stat().st_size > 0 for file in names(real / name, *RESULTS))


def test_friedel_mates_of_graphite_agree(real):
    """R_Friedel of GRA0000001 is below 0.25 over at least 36 reflections, though a third of the image is blocked."""
    table, _ = read_mtz(real / "GRA0000001/GRA0000001_int.mtz")
    value, pairs = r_friedel(np.column_stack([table["H"], table["K"]]), table["I"])
    assert value < 0.25 and pairs >= 15
    assert len(table) >= 36


def test_the_lattice_of_glycine_meets_the_peaks_that_pets_found(real):
    """Lattice points of GLY0000001 lie where another program found peaks."""
    peaks = np.genfromtxt(DATA / "real/GLY0000001_pets_peaks.csv", delimiter=",", names=True)
    assert len(peaks) == 19
    found = np.column_stack([peaks["x"], peaks["y"]])
    lattice = refined_lattice(real / "GLY0000001/info.xml")
    nearest = np.round(lattice.index(found))
    assert len(np.unique(nearest, axis=0)) == 19
    distance = np.linalg.norm(lattice.position(nearest) - found, axis=1)
    assert np.sqrt(np.mean(distance**2)) < LARGEST_RMS_TO_PEAKS


def test_gemmi_opens_every_file(files):
    """gemmi's own program finds no reflection outside of the asymmetric unit, and the original indices come back."""
    program = shutil.which("gemmi", path=str(Path(sys.executable).parent)) or shutil.which("gemmi")
    if program is None:
        pytest.skip("the command gemmi (package gemmi-program) is not installed")
    for path, lattice in files.items():
        done = subprocess.run([program, "mtz", "--check-asu=ccp4", path], capture_output=True, text=True, check=True)
        mtz = gemmi.read_mtz_file(str(path))
        assert f"inside / outside of ASU: {mtz.nreflections} / 0" in done.stdout
        mtz.switch_to_original_hkl()
        columns = [mtz.column_with_label(label).array for label in ("H", "K", "XDET", "YDET")]
        table = np.array(columns, float).T
        assert_original_indices(table[:, :2], table[:, 2:], lattice)


def test_reciprocalspaceship_opens_every_file(files):
    """reciprocalspaceship reads unmerged data, the original indices come back, I and SIGI of `_int` are finite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages do when they are imported is not tested here
        rs = pytest.importorskip("reciprocalspaceship", reason="reciprocalspaceship is not installed")
    for path, lattice in files.items():
        data = rs.read_mtz(str(path))
        assert not data.merged
        index = data.reset_index()
        miller = np.column_stack([index["H"], index["K"]]).astype(float)
        assert_original_indices(miller, data[["XDET", "YDET"]].to_numpy(float), lattice)
        if path.stem.endswith("_int"):
            assert np.isfinite(data[["I", "SIGI"]].to_numpy(float)).all()


IOTBX = """
import json, sys
import iotbx.mtz
found = {}
for path in sys.argv[1:]:
    mtz = iotbx.mtz.object(path)
    columns = [list(mtz.get_column(name).extract_values()) for name in ("XDET", "YDET")]
    found[path] = [list(mtz.extract_original_index_miller_indices()), columns]
    assert any(a.is_xray_intensity_array() for a in mtz.as_miller_arrays(merge_equivalents=False))
print(json.dumps(found))
"""


def test_iotbx_opens_every_file(files):
    """iotbx finds intensities, and the original indices come back."""
    if importlib.util.find_spec("iotbx") is None:
        pytest.skip("iotbx (package cctbx-base) is not installed")
    command = [sys.executable, "-c", IOTBX, *map(str, files)]  # cctbx crashes beside other compiled packages
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for path, lattice in files.items():
        miller, columns = found[str(path)]
        assert not any(layer for _, _, layer in miller)
        assert_original_indices(np.array(miller, float)[:, :2], np.array(columns).T, lattice)


def test_montages_open_in_tifffile(real):
    """The montages are single float images with the geometry that they tell, of the same ignored pixels."""
    for name in STILLS:
        images = []
        for file in ("tmp_integrate1.tif", "tmp_integrate2.tif", "tmp_integrate3.tif"):
            with tifffile.TiffFile(real / name / file) as tiff:
                assert len(tiff.pages) == 1
                geometry, image = json.loads(tiff.pages[0].description), tiff.asarray()
            step = geometry["side"] + geometry["gap"]
            assert image.dtype == np.float32
            assert image.shape == (geometry["rows"] * step - 1, geometry["columns"] * step - 1)
            images.append(image)
        raw, corrected, residual = images
        assert np.isfinite(residual).any() and (np.isfinite(residual) <= np.isfinite(raw)).all()
        assert np.isfinite(raw).any() and (np.isfinite(corrected) <= np.isfinite(raw)).all()
        assert abs(np.nanmedian(corrected)) < 0.2 * abs(np.nanmedian(raw)) + 1


def assert_null_control(project):
    """Between the lattice points of all stills box sums and profile fits are 0 within their errors."""
    documents = [Document.read(info) for info in sorted(project.glob("*/info.xml"))]
    for kind in ("BoxSum", "ProfileFit"):
        group = f"DiffProcessingResults/DiffIntegrate/NullControl/{kind}"
        mean, width = (np.mean([document.item(f"{group}/{name}", "float") for document in documents]) for name in ITEMS)
        assert abs(mean) < LARGEST_NULL and abs(width - 1) < LARGEST_NULL, kind


@pytest.mark.parametrize("dataset", POSITION_RMS)
def test_simulated_stills_score(tmp_path, dataset):
    """Against the truth: nothing lost, nothing spurious, positions and the pulls of strong spots as demanded."""
    if not SCORE.is_file():
        pytest.skip(f"{SCORE} is not there: the score program is not part of the repository")
    project = processed(DATA / dataset / "project", tmp_path)
    assert_null_control(project)
    copy(DATA / dataset / "truth", tmp_path / "truth")
    done = subprocess.run([sys.executable, SCORE, tmp_path, "--json"], capture_output=True, text=True, check=True)
    score = json.loads(done.stdout)
    assert score["clean_spots"] > 1000 and score["lost"] == 0 and score["spurious"] == 0
    assert score["position_rms_px"] <= POSITION_RMS[dataset]
    for kind in ("fit", "box"):
        pulls = score[f"pull_{kind}_strong"]
        assert abs(pulls["mean"]) <= 0.15 and 0.85 <= pulls["robust_width"] <= 1.25, kind
