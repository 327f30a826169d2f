"""The simulator obeys its own formula: means, variances, volumes, symmetry; and its files can be read."""

from dataclasses import replace

import numpy as np
import pytest
from lxml import etree

from ed2d.exampleproject import example_images, make_example, write_image_directory, write_project_xml
from ed2d.image import read_image
from ed2d.lattice import Lattice
from ed2d.nuisance import (
    Aperture,
    Bar,
    Beam,
    Corner,
    Disc,
    Feet,
    Grains,
    Haze,
    Ring,
    Satellites,
    SecondLattice,
    Strip,
)
from ed2d.simulate import Order, Simulation, disturbed, draw_spots, expected, simulate
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


# ---- what disturbs a still

EMPTY = replace(PLAIN, peak_volume=0.0, background=20.0, background_diffuse=0.0, background_plane=0.0)


def electrons(simulation, seed=7):
    """Electrons (rows, columns) above the constant background that an image holds, and the rms noise of one pixel."""
    image, _, _ = simulate(simulation, seed=seed)
    noise = np.sqrt(simulation.background + (simulation.read_noise / simulation.gain) ** 2)
    return (image - simulation.offset) / simulation.gain - simulation.background, noise


def polar(center):
    y, x = np.indices(EMPTY.shape)
    return np.hypot(x - center[0], y - center[1]), np.arctan2(y - center[1], x - center[0])


def test_ring_has_its_radius_width_and_electrons():
    """First moments over an annulus: 2 pi radius sqrt(2 pi) width height electrons at the mean radius."""
    ring = Ring(center=(240.0, 190.0), radius=120.0, width=4.0, height=30.0)
    found, noise = electrons(replace(EMPTY, glows=(ring,)))
    r, angle = polar(ring.center)
    near = np.abs(r - 120) < 24
    total, allowed = found[near].sum(), 4 * np.sqrt((noise**2 + 30) * near.sum())
    assert total == pytest.approx(2 * np.pi * 120 * np.sqrt(2 * np.pi) * 4 * 30, abs=allowed)
    weight = found[near] / r[near]  # each radius alike
    assert weight @ r[near] / weight.sum() == pytest.approx(120, abs=24 * allowed / total)
    spread = np.sqrt(weight @ (r[near] - 120) ** 2 / weight.sum())
    assert spread == pytest.approx(4, abs=24**2 * allowed / total / 8)
    arcs, _ = electrons(replace(EMPTY, glows=(replace(ring, texture=3.0, direction=30.0),)))
    turn = np.exp(2j * angle[near]) @ arcs[near]
    assert np.rad2deg(np.angle(turn)) / 2 == pytest.approx(30, abs=np.rad2deg(allowed / abs(turn)))
    assert np.abs(turn) > 0.5 * arcs[near].sum()


def test_glows_have_their_electrons():
    """The direct beam has its volume and its tails half the height at their width; a haze with an edge is half lit."""
    beam = Beam(center=(230.4, 200.7), volume=50000.0, sigma=3.0)
    found, noise = electrons(replace(EMPTY, glows=(beam,)))
    near = polar(beam.center)[0] < 15
    assert found[near].sum() == pytest.approx(50000, abs=4 * np.sqrt(50000 + noise**2 * near.sum()))
    tails = replace(beam, volume=0.0, height=8.0, width=30.0)
    assert tails.electrons(230.4 + 30.0, 200.7) == pytest.approx(4.0)
    haze = Haze(center=(200.0, 180.0), height=10.0, width=60.0, edge=90.0, soft=2.0)
    below, above = haze.electrons(200.0, 180.0 + 50), haze.electrons(200.0, 180.0 - 50)
    assert below == pytest.approx(10 * np.exp(-0.5 * (50 / 60) ** 2)) and above == pytest.approx(0, abs=1e-12)
    assert replace(haze, edge=None).electrons(200.0, 130.0) == pytest.approx(below)


def test_second_lattice_has_its_share_where_it_is_told():
    """Boxes hold the electrons of its truth; the mean volume is the share of the first lattice's, at its own places."""
    second = SecondLattice(lattice=Lattice(LATTICE.origin, (38.0, 20.0), (-22.0, 37.0)), share=0.3, seed=5)
    dark, truth = replace(EMPTY, peak_volume=20000.0, background=0.0), second.spots(replace(PLAIN, peak_volume=20000.0))
    mu = expected(replace(dark, strays=(second,)), truth[:0], 1.0)
    for spot in truth[truth["in_box"] == 1]:
        y, x = round(spot["y"]), round(spot["x"])
        volume = mu[y - 9 : y + 10, x - 9 : x + 10].sum() * dark.gain
        assert volume == pytest.approx(spot["vol_counts"], rel=0.01, abs=1.0)
    volume = truth["vol_counts"] / PLAIN.gain
    xy = second.lattice.position(np.column_stack([truth["h"], truth["k"]]))
    assert np.array_equal(xy, np.column_stack([truth["x"], truth["y"]]))
    part = np.hypot(*(xy - LATTICE.origin).T) / PLAIN.r_max
    relative = volume / (20000 * np.exp(-PLAIN.falloff * part**2))
    assert relative.mean() == pytest.approx(0.3, abs=4 * 0.3 / np.sqrt(len(relative)))


def test_satellites_stand_beside_every_spot():
    """Indices of their places differ from integers by the vector or minus it; their mean volume is the share."""
    satellites = Satellites(vector=(0.31, -0.12), share=0.2, seed=2)
    truth = satellites.spots(PLAIN)
    index = LATTICE.index(np.column_stack([truth["x"], truth["y"]]))
    half = len(truth) // 2
    plus, minus = index[:half] - (0.31, -0.12), index[half:] - (-0.31, 0.12)
    assert plus == pytest.approx(np.rint(plus), abs=1e-6) and minus == pytest.approx(np.rint(minus), abs=1e-6)
    assert len(truth) == 2 * len(draw_spots(PLAIN, seed=1))
    part = np.hypot(truth["x"] - 231.3, truth["y"] - 197.8) / PLAIN.r_max
    relative = truth["vol_counts"] / (PLAIN.gain * PLAIN.peak_volume * np.exp(-PLAIN.falloff * part**2))
    assert relative.mean() == pytest.approx(0.2, abs=4 * 0.2 / np.sqrt(len(truth)))


def test_feet_stand_below_the_spots():
    """Every spot has a foot at its place with its share of the volume of this very spot."""
    _, _, truth = simulate(PLAIN, seed=6)
    feet = Feet(share=0.3, wider=4.0, seed=6).spots(PLAIN)
    for name, factor in (("x", 1), ("y", 1), ("theta", 1), ("s1", 4), ("s2", 4), ("vol_counts", 0.3)):
        assert feet[name] == pytest.approx(factor * truth[name])


def test_grains_lie_on_their_ring():
    grains = Grains(center=(230.0, 200.0), radius=140.0, width=2.0, number=300, share=0.5, seed=3)
    spots = grains.spots(PLAIN)
    r = np.hypot(spots["x"] - 230, spots["y"] - 200)
    assert r.mean() == pytest.approx(140, abs=4 * 2 / np.sqrt(300))
    assert r.std() == pytest.approx(2, abs=4 * 2 / np.sqrt(600))


def test_strays_do_not_change_the_truth():
    """The spots of the lattice stay what they are; the strays come back the same for the same seed."""
    second = SecondLattice(lattice=Lattice(LATTICE.origin, (38.0, 20.0), (-22.0, 37.0)), share=0.3, seed=5)
    _, _, truth = simulate(PLAIN, seed=1)
    _, _, with_strays = simulate(replace(PLAIN, strays=(second,)), seed=1)
    assert np.array_equal(truth, with_strays)
    assert np.array_equal(second.spots(PLAIN), second.spots(PLAIN))


def test_shadows_cover_what_they_name():
    """Under a shadow only its floor is seen, a dead one reads 0, the mask covers both, and nothing else changes."""
    shadows = {
        Disc(center=(300.0, 100.0), radius=40.0, floor=0.1): [(300, 100), (330, 110)],
        Bar(tip=(100.0, 200.0), direction=90.0, half_width=12.0, floor=0.1): [(100, 210), (109, 390)],
        Bar(tip=(100.0, 200.0), direction=180.0, half_width=12.0, taper=0.2, floor=0.1): [(60, 200), (2, 225)],
        Strip(first=50, last=53, dead=True): [(50, 7), (53, 300)],
        Strip(first=50, last=53, rows=True, dead=True): [(7, 50), (300, 53)],
        Aperture(center=(235.0, 200.0), radius=190.0, floor=0.1): [(5, 5), (440, 200)],
        Corner(center=(235.0, 200.0), direction=45.0, distance=150.0, floor=0.1): [(465, 395), (400, 330)],
    }
    bright = replace(EMPTY, background=1000.0)
    whole, _, _ = simulate(bright, seed=4)
    for shadow, inside in shadows.items():
        image, mask, _ = simulate(replace(bright, shadows=(shadow,)), seed=4)
        for x, y in inside:
            counts = 0 if shadow.dead else bright.offset + bright.gain * 100
            assert image[y, x] == pytest.approx(counts, abs=0 if shadow.dead else 5 * np.sqrt(36 * 100 + 64))
            assert mask[y, x] == 0
        open_ = image[mask > 0] - bright.offset - bright.gain * 1000.0
        assert open_.mean() == pytest.approx(0, abs=4 * np.sqrt((36 * 1000 + 64) / open_.size))
        assert 0.2 < (mask > 0).mean() < 0.995 and whole.std() < image.std()


def test_orders_weaken_whole_classes():
    """A screw axis takes every odd spot of its row, a pseudo-centring scales half of all spots."""
    plain = draw_spots(PLAIN, seed=9)
    screw = draw_spots(replace(PLAIN, orders=(Order((1, 0), 2, row=(0, 1)),)), seed=9)
    odd = (plain["k"] == 0) & (plain["h"] % 2 == 1)
    assert odd.sum() > 5 and np.all(screw["vol_counts"][odd] == 0)
    assert np.array_equal(screw["vol_counts"][~odd], plain["vol_counts"][~odd])
    centred = draw_spots(replace(PLAIN, orders=(Order((1, 1), 2, factor=0.2),)), seed=9)
    weak = (plain["h"] + plain["k"]) % 2 == 1
    assert centred["vol_counts"] == pytest.approx(np.where(weak, 0.2, 1.0) * plain["vol_counts"])


def test_mates_differ_as_told():
    """Relative differences of the mates have the given rms, and their mean is the volume of before."""
    fine = replace(PLAIN, shape=(900, 900), lattice=Lattice((450.0, 450.0), (14.0, 0.5), (0.7, 15.0)))
    equal, unequal = (pairs(draw_spots(replace(fine, friedel_difference=d), seed=1)) for d in (0.0, 0.2))
    assert unequal.mean(axis=1) == pytest.approx(equal.mean(axis=1))
    relative = (unequal[:, 0] - unequal[:, 1]) / unequal.mean(axis=1)
    assert np.sqrt(np.mean(relative**2)) == pytest.approx(0.2, rel=4 / np.sqrt(len(relative)))


def test_envelope_of_a_tilted_crystal():
    """Across the direction the mean volume falls as at `faster` times the distance; along it nothing changes."""
    fine = replace(PLAIN, shape=(900, 900), lattice=Lattice((450.0, 450.0), (14.0, 0.5), (0.7, 15.0)))
    plain, tilted = draw_spots(fine, seed=1), draw_spots(replace(fine, envelope=(2.0, 30.0)), seed=1)
    dx, dy = plain["x"] - 450, plain["y"] - 450
    across = (dy * np.cos(np.deg2rad(30)) - dx * np.sin(np.deg2rad(30))) / fine.r_max
    ratio = tilted["vol_counts"] / plain["vol_counts"]
    assert ratio == pytest.approx(np.exp(-fine.falloff * 3 * across**2))


def value(element, path):
    """The number of an item of an XML document."""
    return float(element.find(path).get("value"))


def test_written_directory_is_read_back(tmp_path):
    """Image, mask and lattice come back exactly, and a second writing changes nothing."""
    truth = write_image_directory(tmp_path / "SIM7", PLAIN, seed=8, lattice=LATTICE, parameters={"A": {"B": 0.1}})
    image, mask, drawn = simulate(PLAIN, seed=8)
    assert np.array_equal(truth, drawn)
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
