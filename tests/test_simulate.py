"""The simulator obeys its own formula: means, variances, volumes, symmetry; and its files can be read."""

from dataclasses import replace

import numpy as np
import pytest
from lxml import etree

from ed2d.exampleproject import example_images, make_example, write_image_directory, write_project_xml
from ed2d.image import read_image
from ed2d.lattice import Lattice
from ed2d.simulate import Simulation, disturbed, simulate
from ed2d.tiff import read_tiff

LATTICE = Lattice((231.3, 197.8), (26.1, 5.2), (-7.3, 27.9), 3e-8, -2e-8)
PLAIN = Simulation(
    shape=(400, 470), lattice=LATTICE, offset=100.0, zingers=0, beamstop=False, gain=6.0, read_noise=8.0, max_radius=1.5
)


def model_counts(simulation, truth):
    """Expected counts by the formula, every Gaussian over the whole image."""
    y, x = np.indices(simulation.shape)
    (rows, columns), (x0, y0) = simulation.shape, simulation.lattice.origin
    width = simulation.background_width * min(simulation.shape)
    rise = (2 * x / (columns - 1) - 1) + 0.5 * (2 * y / (rows - 1) - 1)
    mu = simulation.background + simulation.background_plane * rise
    mu = simulation.gain * (mu + simulation.background_diffuse * np.exp(-np.hypot(x - x0, y - y0) / width))
    for s in truth:
        turn = np.exp(-1j * s["theta"]) * ((x - s["x"]) + 1j * (y - s["y"]))
        shape = np.exp(-((turn.real / s["s1"]) ** 2 + (turn.imag / s["s2"]) ** 2) / 2)
        mu += s["vol_counts"] * shape / (2 * np.pi * s["s1"] * s["s2"])
    return mu + simulation.offset


def test_mean_and_variance_of_every_pixel():
    """(image - model) / sqrt(gain mu + read noise^2) has mean 0 and variance 1 within its statistical error."""
    image, _, truth = simulate(PLAIN, seed=11)
    mean = model_counts(PLAIN, truth)
    variance = PLAIN.gain * (mean - PLAIN.offset) + PLAIN.read_noise**2 + 1 / 12
    z = (image - mean) / np.sqrt(variance)
    assert z.mean() == pytest.approx(0, abs=4 / np.sqrt(z.size))
    assert (z**2).mean() == pytest.approx(1, abs=4 * np.sqrt(2 / z.size))
    near = z[np.hypot(*(np.indices(PLAIN.shape) - np.array([197.8, 231.3])[:, None, None])) < 80]
    assert (near**2).mean() == pytest.approx(1, abs=4 * np.sqrt(2 / near.size))


def test_spot_sums_match_the_true_volumes():
    """Box sums less the true background scatter round the true volumes by their Poisson and read noise."""
    wide = replace(PLAIN, lattice=Lattice((231.3, 197.8), (45.0, 3.0), (2.0, 46.0)), background_diffuse=0.0)
    pulls = []
    for seed in range(6):
        image, _, truth = simulate(wide, seed=seed)
        for s in truth[truth["in_box"] == 1]:
            x0, y0 = round(s["x"]), round(s["y"])
            box = image[y0 - 9 : y0 + 10, x0 - 9 : x0 + 10].astype(float) - wide.offset
            plane = s["bg_counts"] + s["bgdx"] * (x0 - s["x"]) + s["bgdy"] * (y0 - s["y"])
            volume = box.sum() - box.size * plane
            variance = wide.gain * (s["vol_counts"] + box.size * plane) + box.size * wide.read_noise**2
            pulls.append((volume - s["vol_counts"]) / np.sqrt(variance))
    assert len(pulls) > 300
    assert np.mean(pulls) == pytest.approx(0, abs=4 / np.sqrt(len(pulls)))
    assert np.std(pulls) == pytest.approx(1, abs=4 / np.sqrt(2 * len(pulls)))


def test_background_of_the_truth_is_that_of_the_image():
    """Where there are no spots, image values at the spots' pixels follow background and slopes of the truth."""
    empty = replace(PLAIN, peak_volume=0.0)
    image, _, truth = simulate(empty, seed=3)
    truth = truth[(truth["in_box"] == 1) & (np.hypot(truth["x"] - 231.3, truth["y"] - 197.8) > 60)]
    x, y = np.rint(truth["x"]).astype(int) + 1, np.rint(truth["y"]).astype(int) - 1
    mean = truth["bg_counts"] + truth["bgdx"] * (x - truth["x"]) + truth["bgdy"] * (y - truth["y"])
    z = (image[y, x] - empty.offset - mean) / np.sqrt(empty.gain * mean + empty.read_noise**2)
    assert z.mean() == pytest.approx(0, abs=4 / np.sqrt(z.size))
    assert z.std() == pytest.approx(1, abs=4 / np.sqrt(2 * z.size))


def pairs(truth):
    volumes = {(h, k): v for h, k, v in zip(truth["h"], truth["k"], truth["vol_counts"], strict=True)}
    return np.array([(v, volumes[-h, -k]) for (h, k), v in volumes.items() if (-h, -k) in volumes])


def test_friedel_symmetry():
    """(h, k) and (-h, -k) have equal volumes, or independent ones without Friedel's law."""
    _, _, truth = simulate(replace(PLAIN, absent_fraction=0.2), seed=1)
    same = pairs(truth)
    assert len(same) > 100
    assert same[:, 0] == pytest.approx(same[:, 1], rel=1e-9)
    _, _, truth = simulate(replace(PLAIN, friedel=False, falloff=0.0), seed=1)
    other = pairs(truth)
    assert abs(np.corrcoef(other.T)[0, 1]) < 4 / np.sqrt(len(other))


def test_volumes_follow_wilson_and_the_falloff():
    """Volumes over their mean are exponential: mean 1 and variance 1; the absent fraction has none."""
    fine = replace(PLAIN, shape=(1000, 1100), lattice=Lattice((550.0, 500.0), (14.0, 0.5), (0.7, 15.0)), friedel=False)
    _, _, truth = simulate(replace(fine, peak_volume=100.0, absent_fraction=0.3), seed=4)
    part = np.hypot(truth["x"] - 550, truth["y"] - 500) / (0.5 * 1000 * 1.5)
    relative = truth["vol_counts"] / (600.0 * np.exp(-4.6 * part**2))
    present = relative[relative > 0]
    n = len(relative)
    assert 1 - len(present) / n == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / n * 2))
    assert present.mean() == pytest.approx(1, abs=4 / np.sqrt(len(present)))
    assert present.var() == pytest.approx(1, abs=4 * np.sqrt(8 / len(present)))


def test_positions_widths_and_directions():
    """Spots stand at the positions of the lattice, elongated along the radius, in a non-square image."""
    _, _, truth = simulate(PLAIN, seed=2)
    xy = LATTICE.position(np.column_stack([truth["h"], truth["k"]]))
    assert np.array_equal(np.column_stack([truth["x"], truth["y"]]), xy)
    assert truth["x"].max() > 400 and truth["y"].max() <= 400
    angle = np.arctan2(xy[:, 1] - 197.8, xy[:, 0] - 231.3)
    assert np.abs(np.sin(angle - truth["theta"])) == pytest.approx(0, abs=1e-12)
    assert np.all((truth["theta"] > -np.pi / 2) & (truth["theta"] <= np.pi / 2))
    assert np.all(truth["s1"] >= truth["s2"]) and np.all(truth["s2"] >= PLAIN.sigma_low)
    assert not np.any((truth["h"] == 0) & (truth["k"] == 0))


def test_seeds_and_doses():
    """One seed gives the same bytes, another does not; the dose changes only the scale of the volumes."""
    first, again, other = (simulate(PLAIN, seed=seed) for seed in (1, 1, 2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0]) and not np.array_equal(first[2], other[2])
    dimmer = simulate(replace(PLAIN, peak_volume=PLAIN.peak_volume / 10, gain=12.0, read_noise=0.0), seed=1)
    assert dimmer[2]["vol_counts"] == pytest.approx(first[2]["vol_counts"] / 5)


def test_beam_stop_and_its_mask():
    """The mask is 0 under the stop and its margin; outside of it the transmission is 1 to 1e-5, inside it is small."""
    stopped = replace(PLAIN, beamstop=True, peak_volume=0.0)
    image, mask, truth = simulate(stopped, seed=5)
    assert set(np.unique(mask)) == {0, 255} and mask[197, 231] == 0
    assert mask[0].min() == 0 and mask[-1].min() == 255  # the bar reaches the top edge only
    mean = model_counts(stopped, truth[:0])
    z = (image - mean) / np.sqrt(stopped.gain * (mean - 100) + 64 + 1 / 12)
    assert z[mask > 0].mean() == pytest.approx(0, abs=4 / np.sqrt((mask > 0).sum()))
    assert image[197, 231] < 100 + 0.02 * (mean[197, 231] - 100) + 5 * 8
    assert truth["trans_min"].min() < 0.1 and truth["trans_min"].max() > 0.999


def test_zingers_and_saturation_are_counted():
    """Zinger and saturated pixels near spots stand in the truth; the image is clipped at the saturation."""
    quiet, noisy = (simulate(replace(PLAIN, zingers=n), seed=6) for n in (0, 200))
    changed = noisy[0] != quiet[0]
    assert 0 < noisy[2]["n_zing"].sum() and quiet[2]["n_zing"].sum() == 0
    assert PLAIN.shape[0] > changed.sum() >= 150  # the other pixels keep their noise
    image, _, truth = simulate(replace(PLAIN, saturation=3000), seed=6)
    assert image.max() == 3000 and truth["n_sat"].sum() > 0


def test_disturbed_lattice():
    """A lattice checked by eye is off by the stated errors and has no distortions."""
    many = [disturbed(LATTICE, origin_error=2.0, vector_error=0.1, seed=seed) for seed in range(400)]
    origins = np.array([one.origin for one in many]) - LATTICE.origin
    vectors = np.array([one.basis for one in many]) - LATTICE.basis
    assert origins.std() == pytest.approx(2.0, rel=4 / np.sqrt(2 * origins.size))
    assert vectors.std() == pytest.approx(0.1, rel=4 / np.sqrt(2 * vectors.size))
    assert all(one.barrel == 0 and one.spiral == 0 for one in many)
    assert many[3] == disturbed(LATTICE, origin_error=2.0, vector_error=0.1, seed=3)


def value(element, path):
    """The number of an item of an XML document."""
    return float(element.find(path).get("value"))


def test_written_directory_is_read_back(tmp_path):
    """Image, mask and lattice come back exactly, and a second writing changes nothing."""
    truth = write_image_directory(tmp_path / "SIM7", PLAIN, seed=8, lattice=LATTICE, parameters={"A": {"B": 0.1}})
    image, mask, expected = simulate(PLAIN, seed=8)
    assert np.array_equal(truth, expected)
    assert np.array_equal(read_tiff(tmp_path / "SIM7/SIM7.tif")[0], image)
    assert np.array_equal(read_tiff(tmp_path / "SIM7/SIM7_mask.tif")[0], mask)
    root = etree.parse(tmp_path / "SIM7/info.xml").getroot()
    found = root.find("DiffProcessingResults/VerifiedLattice")
    points = [tuple(value(found, f"{name}/{axis}") for axis in "xy") for name in ("Offset", "First", "Second")]
    barrel, spiral = value(found, "BarrelDistortion"), value(found, "SpiralDistortion")
    assert Lattice(*points, barrel, spiral) == LATTICE and value(root, "DiffProcessing/A/B") == 0.1
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "SIM7/SIM7.tif").unlink()
    del before[tmp_path / "SIM7/SIM7.tif"]
    with pytest.raises(FileExistsError, match="SIM7"):
        write_image_directory(tmp_path / "SIM7", PLAIN, seed=9, lattice=LATTICE)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_project_xml_has_typed_items(tmp_path):
    """Items carry the type of their value, text none, and awkward characters survive."""
    items = {"I": 3, "F": np.float64(0.1), "B": True, "V": (1, 2.5, 0), "Group": {"S": 'a<"b"'}}
    write_project_xml(tmp_path / "project.xml", image_mask="[A-Z]&", parameters=items)
    found = etree.parse(tmp_path / "project.xml").find("DiffProcessing")
    expected = {
        "ImageMask": ("[A-Z]&", None),
        "I": ("3", "int"),
        "F": ("0.1", "float"),
        "B": ("true", "bool"),
        "V": ("[1.0, 2.5, 0.0]", "vector"),
        "Group/S": ('a<"b"', None),
    }
    assert {name: (found.find(name).get("value"), found.find(name).get("type")) for name in expected} == expected
    with pytest.raises(FileExistsError):
        write_project_xml(tmp_path / "project.xml", image_mask="x", parameters={})


def test_example_creates_only_what_is_missing(tmp_path):
    """The example is complete and readable, the same each time, and never touches a file that is there."""
    make_example(name="example", readme=tmp_path / "one/README.txt")
    whole = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*.*")}
    assert len(whole) == 14
    (tmp_path / "two/EXA0000002").mkdir(parents=True)
    (tmp_path / "two/EXA0000002/info.xml").write_text("mine")
    make_example(name="example", readme=tmp_path / "two/README.txt")
    make_example(name="example", readme=tmp_path / "two/README.txt")
    for name, content in whole.items():
        mine = name.as_posix() == "EXA0000002/info.xml"
        assert (tmp_path / "two" / name).read_bytes() == (b"mine" if mine else content)
    for name in example_images():
        folder = tmp_path / "one" / name
        image = read_image(folder / f"{name}.tif", mask_path=folder / f"{name}_mask.tif", saturation=60000)
        assert image.usable.mean() > 0.9
