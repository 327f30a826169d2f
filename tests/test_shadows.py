"""Shadows: painted ones on simulated stills are covered, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from ed2d.image import Image
from ed2d.lattice import Lattice
from ed2d.maskshapes import Extent, Polygon, rasterise
from ed2d.nuisance import Beam, Haze, Ring
from ed2d.outlines import outlines
from ed2d.shadows import find_shadows
from ed2d.simulate import Simulation, background, expected, simulate, transmission

SHAPE = (512, 400)
MISSED, WRONG = 0.02, 0.01  # of the shadow; of the pixels farther than AROUND from one
AROUND = 12.0  # px; margin for soft edges
FLOOR, FAINT = 0.003, 0.5  # transmission in a shadow, and in a faint one
STILL = Simulation(
    shape=SHAPE,
    lattice=Lattice((180.0, 270.0), (21.0, 5.0), (-4.0, 24.0)),
    beamstop=False,
    zingers=20,
    saturation=60000,
)
DETECTORS = {
    "plain": {},
    "pedestal 1000": {"offset": 1000.0, "gain": 2.0},
    "pedestal 100": {"offset": 100.0, "gain": 12.0, "read_noise": 15.0},
    "one electron": {"gain": 1.0, "read_noise": 0.0, "background": 1.0, "background_diffuse": 60.0}
    | {"background_plane": 0.3, "peak_volume": 1500.0, "zingers": 0},
    "even": {"background_diffuse": 0.0, "background_plane": 0.0},
    "steep": {"background_diffuse": 20000.0, "background_width": 0.03},
    "sloping": {"background_diffuse": 200.0, "background_plane": 18.0},
    "strong spots": {"peak_volume": 200000.0},
}
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)


def bar(origin, angle, half_width):
    """Distance, px, from a bar that begins at the origin."""
    along = (X - origin[0]) * np.cos(angle) + (Y - origin[1]) * np.sin(angle)
    across = np.abs((Y - origin[1]) * np.cos(angle) - (X - origin[0]) * np.sin(angle)) - half_width
    return np.where(along > 0, across, np.hypot(X - origin[0], Y - origin[1]))


def disc(origin, radius):
    return np.hypot(X - origin[0], Y - origin[1]) - radius


SHADOWS = {  # distance from the shadow, px, negative inside
    "stop": np.minimum(disc((180, 270), 18), bar((180, 270), -1.1, 9)),
    "disc beside the origin": disc((190, 262), 25),
    "small disc": disc((180, 270), 9),
    "block": np.maximum(np.abs(X - 180) - 20, Y - 300),
    "stop at the edge": disc((0, 250), 60),
    "corner": X * np.cos(0.7) + Y * np.sin(0.7) - 110,
    "lower part": 420 - Y + 0.1 * (X - 200),
    "round detector": 200 - np.hypot(X - 200, Y - 256),
}


def still(distance, seed, *, width=1.0, floor=FLOOR, **changes):
    """Counts of a simulated still behind a shadow with edges of this width, px."""
    simulation = replace(STILL, **changes)
    random = np.random.default_rng(seed)
    _, _, truth = simulate(simulation, seed=seed)
    open_share = floor + (1 - floor) * 0.5 * (1 + np.tanh(np.clip(distance / width, -20, 20)))
    electrons = random.poisson(expected(simulation, truth, open_share))
    counts = simulation.gain * electrons + simulation.offset + random.normal(0, simulation.read_noise, SHAPE)
    return np.clip(np.rint(counts), 0, simulation.saturation).astype(np.uint16)


def image_of(data, ignored=False):
    bad = ~np.isfinite(data) | ignored
    return Image(data, bad, data >= 60000)


def nodes(shapes):
    return sum(len(shape.nodes) if isinstance(shape, Polygon) else 2 for shape in shapes)


def check(data, distance, *, missed=MISSED, wrong=WRONG, around=AROUND, **given):
    """Shares of the shadow that is missed, and of the open pixels that are covered."""
    shapes = find_shadows(image_of(data), **given)
    covered = rasterise(shapes, data.shape)
    inside, outside = distance < 0.5, distance > around
    assert not inside.any() or np.mean(~covered[inside]) <= missed
    assert np.mean(covered[outside]) <= wrong
    assert nodes(shapes) <= 220
    return shapes


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("shadow", SHADOWS)
def test_shadows_are_covered_and_little_else(shadow, detector):
    """A shadow of any kind on a still of any dose, pedestal, gain and background."""
    check(still(SHADOWS[shadow], len(shadow), **DETECTORS[detector]), SHADOWS[shadow])


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("seed", (1, 2))
def test_stills_without_shadow_stay_bare(detector, seed):
    """Spots, gaps between them, slopes and halos are no shadows."""
    assert find_shadows(image_of(still(np.full(SHAPE, 99.0), seed, **DETECTORS[detector]))) == ()


@pytest.mark.parametrize("name", ("beam", "rings", "far off centre", "ramp"))
def test_bright_things_are_no_shadows(name):
    """Direct beam, ice rings, a halo in the corner and a steep ramp leave the image open."""
    r = np.hypot(X - 180, Y - 270)
    mu = (
        background(STILL, X, Y)
        + {
            "beam": 1e5 * np.exp(-0.5 * (r / 6) ** 2),
            "rings": 90 * sum(np.exp(-0.5 * ((r - radius) / 2.5) ** 2) for radius in (72, 120, 136)),
            "far off centre": 2e4 * np.exp(-np.hypot(X - 20, Y - 40) / 30),
            "ramp": 0.3 * X,
        }[name]
    )
    data = 5 * np.random.default_rng(3).poisson(mu) + 200
    assert find_shadows(image_of(np.minimum(data, 60000).astype(np.uint16))) == ()


def dense(seed):
    """Many spots, the direct beam with tails, a ring and a slope."""
    random = np.random.default_rng(seed)
    origin, turn, a = tuple(random.uniform(230, 310, 2)), random.uniform(0, 2 * np.pi), random.uniform(15, 28)
    basis = ((float(a * np.cos(angle)), float(a * np.sin(angle))) for angle in (turn, turn + np.pi / 3))
    level = random.uniform(1, 5)
    tails = {"height": level * 10 ** random.uniform(1.5, 3), "width": random.uniform(7, 28)}
    ring = {"radius": random.uniform(150, 220), "width": random.uniform(2, 6), "height": level * random.uniform(0.5, 3)}
    return replace(
        STILL,
        shape=(560, 520),
        lattice=Lattice(origin, *basis),
        peak_volume=10 ** random.uniform(3.3, 4.7),
        falloff=random.uniform(1, 3),
        max_radius=1.4,
        background=level,
        background_diffuse=20 * level,
        background_plane=level * random.uniform(0.3, 0.66),
        glows=(
            Beam(center=origin, volume=1e6, sigma=6.0, **tails),
            Ring(center=origin, **ring, texture=4.0 * (seed % 2)),
        ),
    )


@pytest.mark.parametrize("seed", range(12))
def test_dense_patterns_are_no_shadows(seed):
    """Also where a slope is as dark as the pedestal, and its edge runs from spot to spot."""
    data, _, _ = simulate(dense(seed), seed=seed)
    assert np.mean(rasterise(find_shadows(image_of(data)), data.shape)) < WRONG


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_what_has_spots_is_no_shadow(seed):
    """A sharp border of light across a pattern leaves its dark side open."""
    glow = Haze(center=(180.0, 270.0), height=40.0, width=1e4, edge=60.0 * seed)
    even = replace(STILL, background=10.0, background_plane=0.0, background_diffuse=30.0, falloff=2.0, glows=(glow,))
    data, _, _ = simulate(replace(even, peak_volume=30000.0), seed=seed)
    assert np.mean(rasterise(find_shadows(image_of(data)), SHAPE)) < WRONG


@pytest.mark.parametrize("seed", (5, 6, 7))
def test_beam_stop_of_the_simulation(seed):
    """The stop of ed2d.simulate is covered, its margin of 6 px hardly exceeded."""
    simulation = replace(
        STILL, shape=(600, 760), beamstop=True, lattice=Lattice((340.0, 310.0), (30.0, 4.0), (-3, 27.0))
    )
    data, mask, _ = simulate(simulation, seed=seed)
    through, _ = transmission(simulation)
    covered = rasterise(find_shadows(image_of(data)), data.shape)
    assert np.mean(~covered[through < 0.6]) < MISSED
    assert np.mean(covered[mask == 255]) < 0.002


@pytest.mark.parametrize("kind", (np.float32, np.float64, np.int16, np.uint8, np.int32))
def test_number_types(kind):
    """Signed and float counts around 0 and bytes are as good as uint16."""
    data = still(SHADOWS["stop"], 4, **DETECTORS["one electron"]).astype(float)
    data = np.minimum(data, 255) if kind is np.uint8 else data - 40
    check(data.astype(kind), SHADOWS["stop"])


def test_soft_edges_get_a_wider_margin():
    """Where the signal is below 0.9 of that outside the mask covers, with soft edges as with sharp ones."""
    for width in (1.0, 3.0, 6.0):
        distance = SHADOWS["lower part"]
        covered = rasterise(find_shadows(image_of(still(distance, 2, width=width))), SHAPE)
        dim = distance < width * np.arctanh(0.8)
        assert np.mean(~covered[dim]) < 0.01
        assert np.mean(covered[distance > 3 * width + AROUND]) < 0.001


@pytest.mark.parametrize("shadow", ("small disc", "stop", "disc beside the origin", "block"))
def test_a_shadow_may_be_brighter_than_the_background_elsewhere(shadow):
    """A stop in the halo that lets 5 % through, with edges of 2 px."""
    data = still(SHADOWS[shadow], 8, floor=0.05, width=2.0)
    assert np.median(data[SHADOWS["small disc"] < 0]) > 2 * np.median(data[:100])
    check(data, SHADOWS[shadow])


def test_transposed_image_has_the_transposed_shadow():
    """Rows and columns are treated alike."""
    data = still(SHADOWS["stop"], 9)
    one, other = (rasterise(find_shadows(image_of(d)), d.shape) for d in (data, np.ascontiguousarray(data.T)))
    assert np.mean(one != other.T) < 1e-3


def test_gain_and_pedestal_do_not_matter():
    """Counts times 4 plus 3000 have the same shadow."""
    data = still(SHADOWS["block"], 9)
    one, other = (rasterise(find_shadows(image_of(d)), SHAPE) for d in (data, np.minimum(data, 14000) * 4 + 3000))
    assert np.mean(one != other) < 1e-3 and one.any()


# ---- dead pixels


@pytest.mark.parametrize("detector", ("plain", "pedestal 1000", "one electron", "strong spots"))
def test_dead_rows_columns_and_tiles(detector):
    """Constant strips and tiles are covered to the pixel, and a beam stop beside them is found all the same."""
    data = still(SHADOWS["disc beside the origin"], 3, **DETECTORS[detector])
    dead = np.zeros(SHAPE, bool)
    dead[:, 60:62] = dead[440:443, :] = dead[100, :200] = dead[0:128, 300:400] = True
    data[dead] = 0
    shapes = find_shadows(image_of(data))
    covered = rasterise(shapes, SHAPE)
    far = np.ones(SHAPE, bool)
    for row, column in zip(*np.nonzero(dead), strict=True):
        far[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = False
    far[SHADOWS["disc beside the origin"] < AROUND] = False
    assert covered[dead].all()
    assert np.mean(~covered[SHADOWS["disc beside the origin"] < 0.5]) < MISSED
    assert np.mean(covered[far]) < WRONG
    assert sum(isinstance(shape, Extent) for shape in shapes) >= 4


def test_dark_strip_that_is_not_constant():
    """A part of a column that counts a fifth of its neighbours is covered; one that counts 0.9 of them is not."""
    data = still(np.full(SHAPE, 99.0), 3).astype(float)
    data[150:, 300:304] *= 0.2
    data[:, 80:84] *= 0.9
    covered = rasterise(find_shadows(image_of(np.rint(data).astype(np.uint16))), SHAPE)
    assert covered[230:, 300:304].all()
    covered[140:, 296:308] = False
    assert not covered.any()


def test_zeros_of_sparse_counts_are_not_dead():
    """Most pixels of a counting detector may be 0."""
    data = np.random.default_rng(1).poisson(0.2, SHAPE).astype(np.uint8)
    assert find_shadows(image_of(data)) == ()


def test_saturated_columns_are_no_dead_ones():
    """Constant pixels at the saturation are overloaded, not dead."""
    data = still(np.full(SHAPE, 99.0), 3)
    data[100:300, 180:186] = 60000
    assert find_shadows(image_of(data)) == ()


# ---- ignored pixels and drawn shapes


def test_not_finite_pixels_do_not_matter():
    """NaN in the shadow, on its edge and elsewhere."""
    data = still(SHADOWS["block"], 5).astype(np.float32)
    data[250:290, 170:230] = np.nan
    data[40:60] = np.nan
    check(data, np.where(np.isfinite(data), SHADOWS["block"], AROUND / 2))


def test_ignored_pixels_do_not_matter():
    """What a mask hides is not looked at: a region of zeros changes nothing."""
    data = still(SHADOWS["small disc"], 5)
    hidden = np.zeros(SHAPE, bool)
    hidden[:80] = hidden[:, 390:] = True
    data[hidden] = 0
    covered = rasterise(find_shadows(image_of(data, hidden)), SHAPE)
    assert np.mean(~covered[SHADOWS["small disc"] < 0.5]) < MISSED
    assert np.mean(covered[(SHADOWS["small disc"] > AROUND) & ~hidden]) < WRONG


@pytest.mark.parametrize("moved", ((0, 0), (25, -10), (-30, 20)))
def test_a_drawn_shape_may_be_displaced(moved):
    """The stop is found where it is, also where the drawn polygon, whose pixels are ignored, hides a part of it."""
    drawn = Polygon(tuple((x + moved[0], y + moved[1]) for x, y in ((155, -5), (205, -5), (205, 305), (155, 305))))
    data = still(SHADOWS["block"], 6)
    image = image_of(data, rasterise((drawn,), SHAPE))
    covered = rasterise(find_shadows(image, start=(drawn,)), SHAPE)
    assert np.mean(~covered[SHADOWS["block"] < 0.5]) < MISSED
    assert np.mean(covered[SHADOWS["block"] > AROUND]) < WRONG


def test_less_is_asked_near_a_drawn_shape():
    """A faint shadow counts where somebody has drawn one, and only there."""
    faint, dark = SHADOWS["disc beside the origin"] < 0, SHADOWS["corner"] < 0
    mu = np.where(faint, FAINT, 1.0) * np.where(dark, 0.0, 1.0) * (30 + 0.35 * X)
    data = np.random.default_rng(2).poisson(20 * mu).astype(np.uint16)
    drawn = Polygon(((165.0, 240.0), (210.0, 240.0), (210.0, 290.0), (165.0, 290.0)))
    without, given = (rasterise(find_shadows(image_of(data), start=start), SHAPE) for start in ((), (drawn,)))
    assert not without[faint].any() and without[dark].all()
    assert np.mean(given[faint]) > 0.98


@pytest.mark.parametrize("shape", ((1, 2), (3, 5), (20, 20), (64, 37), (33, 1000), (601, 30)))
def test_small_and_narrow_images(shape):
    """Images too small to tell anything are left open."""
    assert find_shadows(image_of(np.random.default_rng(1).poisson(9.0, shape).astype(np.uint16))) == ()


# ---- outlines


@pytest.mark.parametrize("size", (1, 2, 5))
def test_outlines_are_what_they_were_drawn_from(size):
    """Regions, holes, an island in a hole, regions at edges and corners of the image, and cells partly off it."""
    shape = (61 * size - size // 2, 83 * size)
    y, x = np.mgrid[:61, :83]
    r = np.hypot(x - 40, y - 30)
    marked = (r < 25) & (r > 12) | (r < 6) | (x < 9) & (y > 20) | (x + y > 131)
    shapes = outlines(marked, size=size, shape=shape, tolerance=0.3 * size, most=500)
    drawn = rasterise(shapes, shape)
    truth = marked.repeat(size, axis=0).repeat(size, axis=1)[: shape[0]]
    assert np.mean(drawn != truth) < 0.03
    assert len(shapes) == 4
    inner, outer = (ndimage.binary_erosion(m, iterations=size, border_value=m is truth) for m in (truth, ~truth))
    assert drawn[inner].all() and not drawn[outer].any()


def test_outlines_keep_to_the_number_of_nodes():
    """A ragged region gets a coarser outline, not more nodes than allowed."""
    marked = ndimage.gaussian_filter(np.random.default_rng(1).random((200, 150)), 2.0) > 0.5
    for most in (2000, 400):
        assert 0 < nodes(outlines(marked, size=1, shape=marked.shape, tolerance=0.5, most=most)) <= 2 * most
