"""What `integrate` leaves in info.xml, in the pictures and in the log, and the error models it applies when asked."""

import json
import logging
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import tifffile

from ed2d import flags
from ed2d.control import FriedelControl
from ed2d.emdatainfo import Document
from ed2d.friedel import friedel_pairs
from ed2d.image import read_image
from ed2d.integration import FEWEST_PAIRS, integrate_image
from ed2d.intensity import REASONS
from ed2d.mtz import file_digest, read_mtz
from ed2d.parameters import effective_parameters
from ed2d.pulls import Summary
from test_steps import APPLIED, CONFIG, integrated_again, measured

GROUP = "DiffProcessingResults/DiffIntegrate"
FLOAT32 = 1e-6  # of a value of an MTZ file


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Paths of one measured still with a picture of residuals, and the Integration that the library makes of it."""
    _, path, _ = measured(tmp_path_factory.mktemp("done"), gain=8, peak_volume=30000.0, beamstop=False, zingers=3)
    said = integrated_again(path, residuals=True)
    return path, said, by_the_library(path, CONFIG)


def by_the_library(path, config):
    parameters = effective_parameters(Document.read(path["info"]), Document.read(path["project"]), config)
    image = read_image(path[".tif"], saturation=parameters.saturation)
    extracted, header = read_mtz(path["_ext.mtz"])
    return integrate_image(image, extracted, header.lattice, header.noise, header.profile, parameters)


def items(element, above=""):
    """{path: (value, type)} of all items below an element of XML."""
    found = {}
    for child in element.iterchildren("*"):
        name = f"{above}{child.tag}"
        found |= (
            {name: (child.get("value"), child.get("type"))} if "value" in child.attrib else items(child, f"{name}/")
        )
    return found


def numbers(path):
    """{path: value} of the group DiffIntegrate, as Python's int, float, bool and str."""
    kinds = {"int": int, "float": float, "bool": lambda text: text == "true", None: str}
    group = Document.read(path["info"]).group(GROUP)
    return {name: kinds[kind](value) for name, (value, kind) in items(group).items()}


def summary(pulls):
    names = {"Number": "number", "Mean": "mean", "MeanSigma": "mean_sigma", "Width": "width"}
    names |= {"WidthSigma": "width_sigma", "Outliers": "outliers"}
    assert set(names.values()) == {field.name for field in fields(Summary)}
    return {name: getattr(pulls, field) for name, field in names.items()}


def agreement(one):
    names = {"Low": "low", "High": "high", "Pairs": "pairs", "RFriedel": "r_friedel"}
    names |= {"Scatter": "scatter", "ScatterSigma": "scatter_sigma"}
    assert set(names.values()) == {field.name for field in fields(one)}
    return {name: getattr(one, field) for name, field in names.items()}


def friedel(control):
    """The items of one of the two groups of Friedel mates."""
    found = agreement(control.all)
    for name, bins in (("ByIOverSigma", control.by_significance), ("ByRadius", control.by_radius)):
        found |= {
            f"{name}/Bin{n}/{item}": value for n, one in enumerate(bins) for item, value in agreement(one).items()
        }
    model = control.model
    values = {"K": model.sdfac, "KSigma": model.sdfac_sigma, "G": model.sdadd, "GSigma": model.sdadd_sigma}
    return found | {f"ErrorModel/{name}": value for name, value in values.items()}


def below(name, values):
    return {f"{name}/{item}": value for item, value in values.items()}


def test_info_xml_says_all_that_the_library_found(done):
    """Every control, count and figure of the Integration that is known stands in DiffIntegrate, and nothing else."""
    path, _, integration = done
    table, found = integration.table, numbers(path)
    expected = {"Points": len(integration.extracted), "Integrated": len(table), "GrowStep": integration.step}
    expected |= below("Rejected", {reason: int(integration.measured.rejected[reason].sum()) for reason in REASONS})
    expected |= {"PoorFits": int(np.count_nonzero(table["FLAG"] & flags.POOR_FIT))}
    expected |= {"StrongSpots": integration.strong, "Outside": integration.outside}
    for n, (loss, sigma) in enumerate(zip(integration.loss, integration.loss_sigma, strict=True)):
        expected |= {f"Growth/N{n}/Loss": loss, f"Growth/N{n}/Sigma": sigma}
    ratio, sigma = integration.profile_over_box
    expected |= {"ProfileOverBox": ratio, "ProfileOverBoxSigma": sigma, "ErrorModelApplied": False}
    box, profile = integration.box_sums, integration.profile_fits
    expected |= {"RFriedel": box.all.r_friedel, "RFriedelProfile": profile.all.r_friedel, "FriedelPairs": box.all.pairs}
    expected |= {"MeanIOverSigma": np.mean(table["I"] / np.sqrt(table["VARI"]))}
    expected |= {"MeanBackground": np.nanmean(table[f"BG{integration.step}"])}
    expected |= below("NullControl/BoxSum", summary(integration.null_control.box_sum))
    expected |= below("NullControl/ProfileFit", summary(integration.null_control.profile_fit))
    expected |= below("Backgrounds/Plane", summary(integration.backgrounds.plane))
    expected |= below("Backgrounds/Intercalated", summary(integration.backgrounds.intercalated))
    expected |= below("Friedel/BoxSum", friedel(box)) | below("Friedel/ProfileFit", friedel(profile))
    assert found.pop("Program").startswith("ed2d ") and len(found.pop("Inputs")) == 16
    assert found.pop("Reflections") == file_digest(path["_ext.mtz"])
    known = {name: value for name, value in expected.items() if np.isfinite(value)}
    assert set(found) == set(known) and {name.split("/")[-1] for name in set(expected) - set(known)} <= {"RFriedel"}
    for name, value in known.items():
        assert type(found[name]) is (type(value) if isinstance(value, (bool, int)) else float), name
        assert found[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


def test_info_xml_agrees_with_the_table(done):
    """The figures can be computed again from the reflection file."""
    path, said, _ = done
    found, (table, _) = numbers(path), read_mtz(path["_int.mtz"])
    assert found["Integrated"] == len(table) and set(table["NGROW"]) == {found["GrowStep"]}
    assert found["Points"] == len(table) + sum(found[f"Rejected/{reason}"] for reason in REASONS)
    miller = np.column_stack([table["H"], table["K"]])
    for column, name in (("I", "BoxSum"), ("IPR", "ProfileFit")):
        control = FriedelControl.of(miller, table[column], table[f"VAR{column}"], np.ones(len(table)))
        assert found[f"Friedel/{name}/RFriedel"] == pytest.approx(control.all.r_friedel, rel=1e-4)
        assert found[f"Friedel/{name}/Scatter"] == pytest.approx(control.all.scatter, rel=1e-3)
        assert found[f"Friedel/{name}/ErrorModel/K"] == pytest.approx(control.model.sdfac, rel=1e-2)
    assert found["MeanIOverSigma"] == pytest.approx(np.mean(table["I"] / np.sqrt(table["VARI"])), rel=1e-5)
    for part in (
        f"{found['Points']} spots, {found['Integrated']} integrated, N = {found['GrowStep']}",
        f"mean I/sigma {found['MeanIOverSigma']:.1f}",
        f"R_Friedel {found['RFriedel']:.3f} ({found['FriedelPairs']} pairs), ",
        f"null control {found['NullControl/BoxSum/Width']:.2f}; profile fits: ",
        f"R_Friedel {found['RFriedelProfile']:.3f}, null control {found['NullControl/ProfileFit/Width']:.2f}",
    ):
        assert part in said


def test_the_picture_of_the_residuals(done):
    """A montage like the others, of what fits leave over its noise: mean 0, width 1, NaN where a pixel is ignored."""
    path, _, integration = done
    images = {}
    for name in ("raw", "corrected", "residuals"):
        with tifffile.TiffFile(path[name]) as tiff:
            assert len(tiff.pages) == 1
            description, images[name] = json.loads(tiff.pages[0].description), tiff.asarray()
        side, step = description["side"], description["side"] + description["gap"]
        shape = tuple(description[each] * step - description["gap"] for each in ("rows", "columns"))
        assert images[name].dtype == np.float32 and images[name].shape == shape
    assert "standard deviations" in description["title"]
    assert np.all(np.isfinite(images["residuals"]) <= np.isfinite(images["raw"]))
    half = side // 2
    for row in np.flatnonzero(integration.measured.kept)[:20]:
        h, k = integration.extracted[row][["H", "K"]]
        x, y = (h - description["hmin"]) * step, (k - description["kmin"]) * step
        box = images["residuals"][y : y + side, x : x + side]
        np.testing.assert_array_equal(box, integration.measured.residual[row].reshape(side, side))
    left = images["residuals"][np.isfinite(images["residuals"])]
    assert len(left) > 50 * (2 * half) ** 2
    assert abs(left.mean()) < 0.02 and left.std() == pytest.approx(1 - 2.5 / side**2, abs=0.02)  # 5 unknowns a box


def test_the_third_picture_is_made_when_asked_for(tmp_path):
    """Without a path for it there is none, and the two others are the same."""
    _, path, _ = measured(tmp_path, gain=8)
    pictures = [Path(path[name]).read_bytes() for name in ("raw", "corrected")]
    assert not (tmp_path / "ABC0000001/tmp_integrate3.tif").exists()
    integrated_again(path, residuals=True)
    assert (tmp_path / "ABC0000001/tmp_integrate3.tif").exists()
    assert pictures == [Path(path[name]).read_bytes() for name in ("raw", "corrected")]


def test_error_models_are_applied_when_asked_for(tmp_path):
    """Only SIGI of every step and SIGIPR change: sigma'^2 = K^2 (sigma^2 + (g <I>)^2), <I> the mean of the mates."""
    _, path, _ = measured(tmp_path, gain=8, peak_volume=30000.0, shape=(330, 360))
    plain, _ = read_mtz(path["_int.mtz"])
    before = numbers(path)
    integrated_again(path, config=APPLIED)
    applied, header = read_mtz(path["_int.mtz"])
    after = numbers(path)
    changed = {name: after[name] for name in ("Inputs", "MeanIOverSigma")}
    assert after == before | changed | {"ErrorModelApplied": True} and after["Inputs"] != before["Inputs"]
    assert header.parameters["Integrate/ApplyErrorModel"] in (True, "True", "true")
    changed = {"VARI", "VARI0", "VARI1", "VARIPR"}
    for name in plain.dtype.names:
        if name not in changed:
            np.testing.assert_array_equal(applied[name], plain[name])
    pairs = friedel_pairs(np.column_stack([plain["H"], plain["K"]]))
    for column, kind in (("I", "BoxSum"), ("I0", "BoxSum"), ("I1", "BoxSum"), ("IPR", "ProfileFit")):
        k, g = (after[f"Friedel/{kind}/ErrorModel/{name}"] for name in "KG")
        expected = plain[column].copy()
        expected[pairs] = plain[column][pairs].mean(axis=1)[:, None]
        wanted = k**2 * (plain[f"VAR{column}"] + (g * np.maximum(expected, 0)) ** 2)
        np.testing.assert_allclose(applied[f"VAR{column}"], wanted, rtol=10 * FLOAT32)
        assert not np.allclose(applied[f"VAR{column}"], plain[f"VAR{column}"], rtol=1e-3)
    np.testing.assert_array_equal(applied["VARI"], applied[f"VARI{after['GrowStep']}"])
    control = FriedelControl.of(
        np.column_stack([applied["H"], applied["K"]]), applied["I"], applied["VARI"], np.ones(len(applied))
    )
    assert abs(control.model.sdfac - 1) < 0.02 and control.model.sdadd < before["Friedel/BoxSum/ErrorModel/G"] + 1e-3


def test_few_pairs_are_no_error_model(tmp_path):
    """With fewer pairs than a model must come from nothing changes, and info.xml says so."""
    _, path, _ = measured(tmp_path, gain=8, peak_volume=30000.0)
    plain, before = read_mtz(path["_int.mtz"])[0], numbers(path)
    assert 0 < before["FriedelPairs"] < FEWEST_PAIRS and np.isfinite(before["Friedel/BoxSum/ErrorModel/K"])
    integrated_again(path, config=APPLIED)
    assert read_mtz(path["_int.mtz"])[0].tobytes() == plain.tobytes()
    after = numbers(path)
    assert after == before | {"Inputs": after["Inputs"]} and before["ErrorModelApplied"] is False


WARNED = {  # changes of the still, gain that is given; what the log says of it
    "gain too small": ({"background": 200.0}, 4.0, "scatter 1."),
    "gain too large": ({"background": 200.0}, 16.0, "scatter 0.7"),
    "a beam stop that is not masked": ({}, 8.0, "an edge that is not masked?"),
    "halo": ({"background_diffuse": 4000.0, "background_width": 0.2}, 8.0, "no plane?"),
}


@pytest.mark.parametrize("kind", WARNED)
def test_warnings(tmp_path, caplog, kind):
    """What the image says against gain or background stands in the log once for each control, with the info.xml."""
    changes, gain, text = WARNED[kind]
    measured(tmp_path, gain=gain, **changes)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and r.name == "ed2d.integrate"]
    assert any(text in line for line in warnings)
    assert all("info.xml: " in line and "\n" not in line for line in warnings) and len(set(warnings)) == len(warnings)


def test_the_log_suggests_an_error_model(tmp_path, caplog):
    """Reasons to reject with their numbers, the scatter of the mates, and K and g stand in the log."""
    with caplog.at_level(logging.INFO):
        measured(tmp_path, gain=8)
    found = numbers({"info": str(tmp_path / "ABC0000001/info.xml")})
    for reason, meaning in REASONS.items():
        assert f"rejected: {found[f'Rejected/{reason}']}: {meaning}" in caplog.text
    for what, kind in (("box sums", "BoxSum"), ("profile fits", "ProfileFit")):
        group = f"Friedel/{kind}"
        assert f"{what}: Friedel mates differ by {found[f'{group}/Scatter']:.2f} +- " in caplog.text
        assert f"K = {found[f'{group}/ErrorModel/K']:.3f} +- " in caplog.text
