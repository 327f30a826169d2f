"""What disturbs a simulated still: glows, spots that are not of the lattice, shadows; places (x, y), lengths in px.

A `Simulation` takes them in its fields `glows`, `strays` and `shadows`. Whatever is random in one of them has a seed
of its own, so that it stays as it is when the rest of the image changes.
"""

from dataclasses import dataclass, replace

import numpy as np

from .lattice import Lattice
from .simulate import draw_spots, predicted, spots_at

# ---- glows: electrons(x, y) are expected electrons per pixel; x and y broadcast


@dataclass(frozen=True, kw_only=True)
class Ring:
    """A ring of a powder: height exp(-((r - radius) / width)^2 / 2 + texture (cos(2 (phi - direction)) - 1)).

    `height` in electrons per pixel; texture 0 is smooth, 5 leaves two arcs about the direction, degrees.
    """

    center: tuple[float, float]
    radius: float
    width: float
    height: float
    texture: float = 0.0
    direction: float = 0.0

    def electrons(self, x, y):
        dx, dy = x - self.center[0], y - self.center[1]
        exponent = -0.5 * ((np.hypot(dx, dy) - self.radius) / self.width) ** 2
        if self.texture:
            exponent += self.texture * (np.cos(2 * (np.arctan2(dy, dx) - np.deg2rad(self.direction))) - 1)
        return self.height * np.exp(exponent)


@dataclass(frozen=True, kw_only=True)
class Beam:
    """The direct beam: a Gaussian of `volume` electrons, and tails that fall as height / (1 + (r / width)^2)."""

    center: tuple[float, float]
    volume: float
    sigma: float
    height: float = 0.0
    width: float = 1.0

    def electrons(self, x, y):
        r2 = (x - self.center[0]) ** 2 + (y - self.center[1]) ** 2
        core = self.volume / (2 * np.pi * self.sigma**2) * np.exp(-0.5 * r2 / self.sigma**2)
        return core + self.height / (1 + r2 / self.width**2)


@dataclass(frozen=True, kw_only=True)
class Haze:
    """A broad Gaussian of `height` electrons per pixel.

    With an `edge`, degrees, only the side of the center in that direction is lit, with a border of `soft` px.
    """

    center: tuple[float, float]
    height: float
    width: float
    edge: float | None = None
    soft: float = 1.0

    def electrons(self, x, y):
        dx, dy = x - self.center[0], y - self.center[1]
        light = self.height * np.exp(-0.5 * (dx * dx + dy * dy) / self.width**2)
        if self.edge is None:
            return light
        along = dx * np.cos(np.deg2rad(self.edge)) + dy * np.sin(np.deg2rad(self.edge))
        return light * 0.5 * (1 + np.tanh(along / self.soft))


# ---- strays: spots(simulation) are rows of TRUTH beside those of the lattice


@dataclass(frozen=True, kw_only=True)
class SecondLattice:
    """Another crystal with `share` of the mean volumes of the first, and intensities of its own."""

    lattice: Lattice
    share: float
    seed: int

    def spots(self, simulation):
        volume = self.share * simulation.peak_volume
        return draw_spots(replace(simulation, lattice=self.lattice, peak_volume=volume), seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Feet:
    """A foot of every spot of the lattice, `wider` than the spot, with `share` of its volume in addition.

    `seed`: that of the still.
    """

    share: float
    wider: float
    seed: int

    def spots(self, simulation):
        spots = draw_spots(simulation, seed=self.seed)
        spots["vol_counts"] *= self.share
        for width in ("s1", "s2"):
            spots[width] *= self.wider
        return spots


@dataclass(frozen=True, kw_only=True)
class Satellites:
    """Spots at miller + vector and miller - vector with `share` of the mean volume at their place."""

    vector: tuple[float, float]
    share: float
    seed: int

    def spots(self, simulation):
        random, miller = np.random.default_rng(self.seed), predicted(simulation)
        places = np.vstack([simulation.lattice.position(miller + sign * np.array(self.vector)) for sign in (1, -1)])
        return spots_at(simulation, places, self.share * random.exponential(size=len(places)))


@dataclass(frozen=True, kw_only=True)
class Grains:
    """`number` spots of a coarse powder on a ring, with `share` of the mean volume of the lattice's spots there."""

    center: tuple[float, float]
    radius: float
    width: float
    number: int
    share: float
    seed: int

    def spots(self, simulation):
        random = np.random.default_rng(self.seed)
        angle = random.uniform(0, 2 * np.pi, self.number)
        r = random.normal(self.radius, self.width, self.number)
        places = np.array(self.center) + np.column_stack([r * np.cos(angle), r * np.sin(angle)])
        return spots_at(simulation, places, self.share * random.exponential(size=self.number))


# ---- shadows: outside(x, y) is the distance beyond the edge, negative inside


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """`floor`: transmission in the shadow; `soft`: width of its edge, px; a dead one reads 0 in the image."""

    floor: float = 0.003
    soft: float = 1.0
    dead: bool = False


@dataclass(frozen=True, kw_only=True)
class Disc(Shadow):
    """A round shadow."""

    center: tuple[float, float]
    radius: float

    def outside(self, x, y):
        return np.hypot(x - self.center[0], y - self.center[1]) - self.radius


@dataclass(frozen=True, kw_only=True)
class Bar(Shadow):
    """From `tip` on in the direction, degrees, without an end; `taper`: growth of the half width per px."""

    tip: tuple[float, float]
    direction: float
    half_width: float
    taper: float = 0.0

    def outside(self, x, y):
        dx, dy = x - self.tip[0], y - self.tip[1]
        cos, sin = np.cos(np.deg2rad(self.direction)), np.sin(np.deg2rad(self.direction))
        along, across = cos * dx + sin * dy, np.abs(cos * dy - sin * dx)
        return np.maximum(across - self.half_width - self.taper * np.maximum(along, 0), -along)


@dataclass(frozen=True, kw_only=True)
class Strip(Shadow):
    """All columns x (or rows, where `rows`) from first to last."""

    first: int
    last: int
    rows: bool = False

    def outside(self, x, y):
        at = y if self.rows else x
        distance = np.maximum(self.first - 0.5 - at, at - self.last - 0.5)
        return np.broadcast_to(distance, np.broadcast_shapes(np.shape(x), np.shape(y)))


@dataclass(frozen=True, kw_only=True)
class Aperture(Shadow):
    """All that lies outside of a circle: a round detector, or the edge of an aperture."""

    center: tuple[float, float]
    radius: float

    def outside(self, x, y):
        return self.radius - np.hypot(x - self.center[0], y - self.center[1])


@dataclass(frozen=True, kw_only=True)
class Corner(Shadow):
    """All beyond a straight line at `distance` px from `center` in the direction, degrees."""

    center: tuple[float, float]
    direction: float
    distance: float

    def outside(self, x, y):
        angle = np.deg2rad(self.direction)
        return self.distance - (x - self.center[0]) * np.cos(angle) - (y - self.center[1]) * np.sin(angle)
