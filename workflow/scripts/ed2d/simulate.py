"""Simulated stills with their truth, for tests, benchmarks and the shipped example.

The expected electrons at a pixel centre are

    mu(x, y) = T(x, y) (background(x, y) + sum of V / (2 pi s1 s2) exp(-((u/s1)^2 + (v/s2)^2) / 2))

with T the transmission of the beam stop and of the shadows, and the image is gain * Poisson(mu) + Normal(read_noise)
+ offset, rounded and clipped. The Gaussians are sampled at pixel centres, as the model of the fit is. What disturbs a
still stands in `ed2d.nuisance`: glows add to the background, strays are spots of something else, shadows are dark.
"""

from dataclasses import dataclass

import numpy as np

from .lattice import Lattice, predict

PATCH = 6.0  # a spot is drawn to this many widths from its centre
TRUTH = np.dtype(
    [(name, np.int64) for name in ("h", "k")]
    + [(name, float) for name in ("x", "y", "vol_counts", "s1", "s2", "theta")]
    + [(name, float) for name in ("bg_counts", "bgdx", "bgdy", "trans_min")]
    + [(name, np.int64) for name in ("n_sat", "n_zing", "in_box")]
)
STOP_RADIUS, STOP_HALF_WIDTH, STOP_ANGLE = 0.022, 0.009, np.deg2rad(-62.0)  # fractions of the size; of the bar
STOP_FLOOR, STOP_MARGIN = 0.003, 6.0  # transmission in the shadow; the mask is larger than the stop by so many px


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What an image is made of; `size` below is the shorter side of `shape`, r the distance from the origin, px."""

    shape: tuple[int, int]  # (rows, columns)
    lattice: Lattice
    peak_volume: float = 20000.0  # mean volume at the centre, electrons
    falloff: float = 4.6  # the mean volume is peak_volume exp(-falloff (r / r_max)^2)
    sigma_low: float = 1.2  # tangential width at the centre, px
    sigma_high: float = 2.0  # tangential width at r_max, px; grows with r^2
    elongation: float = 1.3  # radial over tangential width at r_max; 1 at the centre, grows with r^2
    background: float = 30.0  # electrons per pixel
    background_diffuse: float = 5000.0  # electrons per pixel at the origin, times exp(-r / (background_width size))
    background_width: float = 0.07
    background_plane: float = 8.0  # electrons per pixel: rise from the middle to the right edge; half of it downwards
    gain: float = 5.0  # counts per electron
    read_noise: float = 10.0  # counts, rms
    offset: float = 0.0  # counts
    saturation: int = 60000  # counts, at most 65535
    zingers: int = 60  # hot pixels and tracks of up to 4 px
    beamstop: bool = True  # a disc over the origin and a bar to the edge
    min_radius: float = 0.04  # of half the size: no spots inside
    max_radius: float = 0.94  # of half the size: r_max, no spots outside
    friedel: bool = True  # equal volumes of (h, k) and (-h, -k)
    absent_fraction: float = 0.0  # of the pairs: no volume
    friedel_difference: float = 0.0  # rms of the difference of two mates over their mean
    orders: tuple = ()  # of Order: classes of spots that are weaker or absent
    envelope: tuple[float, float] = (1.0, 0.0)  # times faster falls the volume across a direction, degrees
    glows: tuple = ()  # with electrons(x, y): expected electrons per pixel
    strays: tuple = ()  # with spots(simulation): array of TRUTH
    shadows: tuple = ()  # with outside(x, y), px beyond the edge, and floor, soft, dead
    box_half: int = 9  # px; truth's in_box tells whether a box of this half-size lies on the image

    @property
    def size(self):
        """The shorter side, px."""
        return min(self.shape)

    @property
    def r_max(self):
        """Distance of the outermost spots from the origin, px."""
        return 0.5 * self.size * self.max_radius


@dataclass(frozen=True)
class Order:
    """Spots with p h + q k no multiple of n have `factor` of their volume; `row` = (r, s): only where r h + s k = 0.

    A screw axis or glide line along a: Order((1, 0), 2, row=(0, 1)); pseudo-centring: Order((1, 1), 2, factor=0.1).
    """

    indices: tuple[int, int]
    multiple: int
    row: tuple[int, int] = (0, 0)
    factor: float = 0.0

    def scale(self, miller):
        """Factors (n,) of the volumes of Miller indices (n, 2)."""
        weaker = (miller @ np.array(self.indices) % self.multiple != 0) & (miller @ np.array(self.row) == 0)
        return np.where(weaker, self.factor, 1.0)


def simulate(simulation, *, seed):
    """One image, its mask and its truth: (uint16 (rows, columns), uint8 (rows, columns), array (n,) of TRUTH).

    The mask is 0 on the beam stop, the shadows and a margin of 6 px round them, 255 elsewhere.
    Truth, a row for each spot: Miller index, centre (px), volume and background above the offset (counts; per pixel,
    with its slope, both without the beam stop), widths and direction of s1 (px, radians), and within 3 widths of the
    centre the least transmission and the numbers of saturated and of zinger pixels. One seed gives the same relative
    volumes whatever the dose, the gain and the noise.
    """
    random = np.random.default_rng(seed)
    truth = _draw_spots(simulation, random)
    transmitted, mask = transmission(simulation)
    electrons = random.poisson(expected(simulation, truth, transmitted))
    counts = simulation.gain * electrons + simulation.offset
    counts += random.normal(0.0, simulation.read_noise, simulation.shape)
    zingers = _draw_zingers(simulation, random)
    counts = np.clip(np.rint(counts) + zingers, 0, simulation.saturation)
    for shadow in simulation.shadows:
        if shadow.dead:
            counts[shadow.outside(*_pixels(simulation)) < 0] = 0
    _count_defects(simulation, truth, transmitted, counts >= simulation.saturation, zingers > 0)
    return counts.astype(np.uint16), mask, truth


def draw_spots(simulation, *, seed):
    """The truth of `simulate` before the image is drawn: without what only the image can tell."""
    return _draw_spots(simulation, np.random.default_rng(seed))


def expected(simulation, truth, transmitted):
    """Expected electrons mu (rows, columns) of the spots in `truth` and of the strays through the beam stop."""
    mu = background(simulation, *_pixels(simulation))
    for spots in (truth, *(stray.spots(simulation) for stray in simulation.strays)):
        _add_spots(simulation, spots, mu)
    return mu * transmitted


def _add_spots(simulation, spots, mu):
    for spot in spots:
        down, across = patch(spot, simulation.shape, PATCH)
        dy = np.arange(down.start, down.stop)[:, None] - spot["y"]
        dx = np.arange(across.start, across.stop) - spot["x"]
        cos, sin = np.cos(spot["theta"]), np.sin(spot["theta"])
        u, v = (cos * dx + sin * dy) / spot["s1"], (cos * dy - sin * dx) / spot["s2"]
        height = spot["vol_counts"] / simulation.gain / (2 * np.pi * spot["s1"] * spot["s2"])
        mu[down, across] += height * np.exp(-0.5 * (u * u + v * v))


def background(simulation, x, y):
    """Expected background electrons per pixel at x, y (broadcast; px), without the beam stop; never negative."""
    rows, columns = simulation.shape
    r = np.hypot(x - simulation.lattice.origin[0], y - simulation.lattice.origin[1])
    halo = simulation.background_diffuse * np.exp(-r / (simulation.background_width * simulation.size))
    rise = (2 * x / (columns - 1) - 1) + 0.5 * (2 * y / (rows - 1) - 1)
    smooth = np.maximum(simulation.background + simulation.background_plane * rise + halo, 0.0)
    return sum((glow.electrons(x, y) for glow in simulation.glows), start=smooth)


def transmission(simulation):
    """Transmission of stop and shadows, with soft edges, and the mask (0 = ignore), both (rows, columns)."""
    opened, mask = np.ones(simulation.shape), np.full(simulation.shape, 255, np.uint8)
    if simulation.beamstop:
        outside = _outside_stop(simulation)
        opened = _opened(outside, STOP_FLOOR, 1.0)
        mask[outside <= STOP_MARGIN] = 0
    for shadow in simulation.shadows:
        outside = shadow.outside(*_pixels(simulation))
        opened = opened * _opened(outside, shadow.floor, shadow.soft)
        mask[outside <= STOP_MARGIN] = 0
    return opened, mask


def _outside_stop(simulation):
    """Distance (rows, columns), px, beyond the edge of the beam stop, negative inside."""
    x, y = _pixels(simulation)
    dx, dy = x - simulation.lattice.origin[0], y - simulation.lattice.origin[1]
    along = dx * np.cos(STOP_ANGLE) + dy * np.sin(STOP_ANGLE)
    across = np.abs(dy * np.cos(STOP_ANGLE) - dx * np.sin(STOP_ANGLE))
    disc = np.hypot(dx, dy)
    bar = np.where(along > 0, across - STOP_HALF_WIDTH * simulation.size, np.inf)
    return np.minimum(disc - STOP_RADIUS * simulation.size, bar)


def _opened(outside, floor, soft):
    """Transmission at so many px beyond an edge that is `soft` px wide."""
    return floor + (1 - floor) * (0.5 * (1 + np.tanh(np.clip(outside / soft, -20, 20))))


def _pixels(simulation):
    """Coordinates x (1, columns) and y (rows, 1)."""
    rows, columns = simulation.shape
    return np.arange(columns)[None, :], np.arange(rows)[:, None]


def patch(spot, shape, widths):
    """Slices (rows, columns) of the square of half-size `widths` times s1 round a spot, cut to the image."""
    half = widths * spot["s1"]
    return tuple(
        slice(max(0, int(np.ceil(spot[name] - half))), max(0, min(size, int(np.floor(spot[name] + half)) + 1)))
        for name, size in zip("yx", shape, strict=True)
    )


def disturbed(lattice, *, origin_error, vector_error, seed):
    """A lattice as checked by eye: normal errors (px, each coordinate) and no distortions."""
    random = np.random.default_rng(seed)
    origin = np.array(lattice.origin) + random.normal(0.0, origin_error, 2)
    a, b = lattice.basis + random.normal(0.0, vector_error, (2, 2))
    return Lattice(*(tuple(float(v) for v in vector) for vector in (origin, a, b)))


def _draw_spots(simulation, random):
    """Truth (n,) of the spots on the image between the radii, without what only the image can tell."""
    miller = predicted(simulation)
    truth = spots_at(simulation, simulation.lattice.position(miller), _relative_volumes(simulation, miller, random))
    truth["h"], truth["k"] = miller.T
    _note_background(simulation, truth)
    rows, columns = simulation.shape
    column, row, half = np.rint(truth["x"]), np.rint(truth["y"]), simulation.box_half
    truth["in_box"] = (np.minimum(column, row) >= half) & (column + half <= columns - 1) & (row + half <= rows - 1)
    return truth


def predicted(simulation):
    """Miller indices (n, 2) of the spots on the image between the radii."""
    limits = {"min_radius": 0.5 * simulation.size * simulation.min_radius, "max_radius": simulation.r_max}
    return predict(simulation.lattice, shape=simulation.shape, **limits)


def spots_at(simulation, xy, relative):
    """Array (n,) of TRUTH at places (n, 2): widths, directions, volumes of `relative` (n,) times the mean there."""
    truth = np.zeros(len(xy), TRUTH)
    truth["x"], truth["y"] = xy.T
    dx, dy = truth["x"] - simulation.lattice.origin[0], truth["y"] - simulation.lattice.origin[1]
    part = (dx * dx + dy * dy) / simulation.r_max**2
    truth["s2"] = simulation.sigma_low + (simulation.sigma_high - simulation.sigma_low) * part
    truth["s1"] = truth["s2"] * (1 + (simulation.elongation - 1) * part)
    angle, (faster, direction) = np.arctan2(dy, dx), simulation.envelope
    truth["theta"] = np.pi / 2 - np.mod(np.pi / 2 - angle, np.pi)  # -90 < theta <= 90 degrees
    part = part * (1 + (faster**2 - 1) * np.sin(angle - np.deg2rad(direction)) ** 2)
    mean = simulation.gain * simulation.peak_volume * np.exp(-simulation.falloff * part)
    truth["vol_counts"] = mean * relative
    return truth


def _relative_volumes(simulation, miller, random):
    """Volumes over their mean (n,): exponential (Wilson's statistics of acentric crystals), some absent."""
    first = (miller[:, 0] > 0) | ((miller[:, 0] == 0) & (miller[:, 1] > 0))
    pairs, pair = np.unique(np.where(first[:, None], miller, -miller), axis=0, return_inverse=True)
    both = random.exponential(size=(len(pairs), 2))
    present = random.random(len(pairs)) >= simulation.absent_fraction
    side = np.zeros(len(miller), int) if simulation.friedel else first.astype(int)
    relative = (both * present[:, None])[pair.ravel(), side]
    if simulation.friedel_difference:
        half = 0.5 * random.spawn(1)[0].normal(0.0, simulation.friedel_difference, len(pairs))[pair.ravel()]
        relative = relative * (1 + np.where(first, 1, -1) * np.clip(half, -1, 1))
    for order in simulation.orders:
        relative = relative * order.scale(miller)
    return relative


def _note_background(simulation, truth):
    """Sets background (counts, above the offset) and its slopes by central differences over 1 px."""
    x, y, gain = truth["x"], truth["y"], simulation.gain
    truth["bg_counts"] = gain * background(simulation, x, y)
    truth["bgdx"] = gain * (background(simulation, x + 0.5, y) - background(simulation, x - 0.5, y))
    truth["bgdy"] = gain * (background(simulation, x, y + 0.5) - background(simulation, x, y - 0.5))


def _draw_zingers(simulation, random):
    """Counts (rows, columns) of straight tracks of 1 to 4 px, 0 elsewhere."""
    rows, columns = simulation.shape
    counts = np.zeros(simulation.shape)
    for _ in range(simulation.zingers):
        start, angle = random.random(2) * (rows, columns), random.random() * 2 * np.pi
        steps = np.arange(random.choice([1, 1, 1, 2, 3, 4]))
        y = np.clip(start[0] + steps * np.sin(angle), 0, rows - 1).astype(int)
        x = np.clip(start[1] + steps * np.cos(angle), 0, columns - 1).astype(int)
        counts[y, x] = random.uniform(0.02, 1.0) * simulation.saturation
    return counts


def _count_defects(simulation, truth, transmitted, saturated, zingers):
    """Sets the least transmission and the numbers of saturated and zinger pixels within 3 widths."""
    for row in truth:
        region = patch(row, simulation.shape, 3.0)
        row["trans_min"] = transmitted[region].min()
        row["n_sat"], row["n_zing"] = saturated[region].sum(), zingers[region].sum()
