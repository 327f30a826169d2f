"""Simulated stills on which the lattice search is measured: `still(n)` is one case, `make(case)` its image and truth.

Every case has a seed of its own, made of the master seed of the set and its number: case 317 can be made alone. In turn
each has one of FEATURES in full strength, the others by chance. The ranges stand in the functions that draw them:

spots on the image 30 to 5,000, shortest vector 10 to 150 px, axial ratio 1 to 3, any direction; oblique, rectangular,
square, hexagonal, rhombic cells, tilted ones stretched by up to 1 / cos 60 degrees; barrel and spiral distortion up to
20 px at the corner that is farthest from the origin; sizes 512^2 to 2048^2, also not square; origin up to 0.35 of the
size off the middle; widths 0.8 to 4 px at the origin; background 0.5 to 60 electrons with a halo up to 500 times as
high; gain 1 to 30, pedestal 0 to 500 counts, read noise 0 to 15 counts, or a counting detector.

The least dose at which a human could index it, as `indexable.py` puts it, is found for each still, and it has this dose
times a factor, log-uniform from 1 to 100 (1 to 3 for "low dose").
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from indexable import STRONGEST, least_dose, limits

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
from ed2d.simulate import Order, Simulation, draw_spots, simulate

MEASURED, CALIBRATION = 20261, 777  # master seeds; constants of the search are fitted to the second set alone
OTHERS = 0.1  # chance of a feature that is not the one in turn
ATTEMPTS = 300
FEATURES = (
    *("plain", "distorted", "absences", "weak orders", "absent pairs", "diffuse", "satellites", "zingers", "ring"),
    *("second", "bar", "direct beam", "far origin", "low dose", "few spots", "many spots", "shadows", "tilted"),
    *("friedel", "wide spots", "long cell", "feet"),
)
SHAPES = ((512, 512), (516, 516), (1024, 1024), (1024, 1024), (1024, 1024), (2048, 2048))


@dataclass(frozen=True)
class Case:
    """One still: its number in the set, its features, what it is made of; `floating`: float32 without the pedestal."""

    number: int
    tags: tuple[str, ...]
    simulation: Simulation
    seed: int
    floating: bool = False


class Made(NamedTuple):
    """Image (rows, columns), uint16 or float32; true lattice; TRUTH of its spots; numbers of `limits`, `mask`."""

    image: np.ndarray
    lattice: Lattice
    truth: np.ndarray
    info: dict


def stills(number=500, seed=MEASURED):
    """The first cases of a set."""
    return map(partial(still, seed=seed), range(number))


def large(number=3):
    """Cases of 4096^2, for timing alone."""
    return [_case(number, 4096, (4096, 4096)) for number in range(number)]


def still(number, seed=MEASURED):
    """The case of this number in the set of a master seed."""
    return _case(number, seed, None)


def make(case):
    """Image and truth of a case."""
    image, mask, truth = simulate(case.simulation, seed=case.seed)
    if case.floating:
        image = image.astype(np.float32) - np.float32(case.simulation.offset)
    info = limits(case.simulation, truth) | {"mask": mask}
    return Made(image, case.simulation.lattice, truth, info)


# ---- drawing a case


class _Draft:
    """A still while it is drawn: random numbers, its features, and fields of its Simulation."""

    def __init__(self, random, main):
        self.random = random
        self.features = {name for name in FEATURES if random.random() < OTHERS} | {main}
        if main == "plain":
            self.features = {main}
        if "many spots" in self.features:
            self.features -= {"few spots", "wide spots"} if main == "many spots" else {"many spots"}
        self.features -= {"plain"} - {main}
        self.fields, self.floating = {"glows": (), "strays": (), "shadows": (), "orders": ()}, False

    def has(self, feature):
        return feature in self.features

    def add(self, field, *values):
        self.fields[field] += values

    def between(self, low, high):
        return float(self.random.uniform(low, high))

    def log(self, low, high):
        """Log-uniform."""
        return float(np.exp(self.random.uniform(np.log(low), np.log(high))))

    def choose(self, *values):
        return values[self.random.integers(len(values))]

    def chance(self, probability):
        return bool(self.random.random() < probability)

    def sign(self):
        return self.choose(-1.0, 1.0)

    @property
    def size(self):
        return min(self.fields["shape"])

    @property
    def origin(self):
        return self.fields["lattice"].origin


def _case(number, seed, shape):
    main = FEATURES[number % len(FEATURES)]
    for attempt in range(ATTEMPTS):
        draft = _Draft(np.random.default_rng([seed, number, attempt]), main)
        draft.fields["shape"] = shape or _shape(draft)
        for part in (_lattice, _detector, _background, _order, _beam, _disturb, _shadow):
            part(draft)
        found = _dosed(draft)
        if found:
            return Case(number, tuple(sorted(draft.features)), *found, draft.floating)
    raise ValueError(f"case {number} of set {seed} cannot be drawn")


def _shape(draft):
    if draft.chance(0.35):
        return tuple(int(draft.random.integers(512, 1537)) for _ in "xy")
    return draft.choose(*SHAPES[2:]) if draft.has("many spots") else draft.choose(*SHAPES)


def _lattice(draft):
    """Origin, vectors and distortions; radii; sets widths that the spacing allows."""
    rows, columns = draft.fields["shape"]
    far = draft.between(0.2, 0.35) if draft.has("far origin") else min(abs(draft.random.normal(0, 0.03)), 0.12)
    away, middle = draft.between(0, 2 * np.pi), np.array([columns - 1, rows - 1]) / 2
    origin = middle + far * draft.size * np.array([np.cos(away), np.sin(away)])
    corner = np.hypot(*np.maximum(origin, [columns - origin[0], rows - origin[1]]))
    reach = corner * draft.between(0.55, 1.0)
    number = draft.log(*_numbers(draft))
    basis = _cell(draft) * np.sqrt(min(np.pi * reach**2, rows * columns) / number)
    bend = draft.random.normal(0, 0.5, 2)
    if draft.has("distorted"):
        bend = np.array([draft.sign() * draft.log(3, 20), draft.sign() * draft.log(0.5, 20)])[:: draft.choose(1, -1)]
    barrel, spiral = bend / corner**3
    vectors = (tuple(map(float, vector)) for vector in (origin, *basis))
    draft.fields["lattice"] = Lattice(*vectors, float(barrel), float(spiral))
    falloff = draft.between(1.5, 5) if reach > 0.95 * corner else draft.between(3.5, 6)
    draft.fields |= {"min_radius": 0.02, "max_radius": float(2 * reach / draft.size), "falloff": falloff}
    _widths(draft)


def _numbers(draft):
    """Least and largest number of spots."""
    if draft.has("few spots"):
        return 40, 90
    return (1500, 5000) if draft.has("many spots") else (90, 1500)


def _cell(draft):
    """Vectors (2, 2) of a cell of area 1 in any direction, stretched where the crystal is tilted."""
    ratio = draft.between(1.8, 3.0) if draft.has("long cell") else draft.log(1, 1.8)
    kind = draft.choose("oblique", "rectangular", "square", "hexagonal", "rhombic")
    gamma = {"oblique": draft.between(65, 115), "hexagonal": draft.choose(60, 120), "rhombic": draft.between(50, 75)}
    gamma, ratio = np.deg2rad(gamma.get(kind, 90)), ratio if kind in ("oblique", "rectangular") else 1.0
    basis = np.array([[1, 0], [ratio * np.cos(gamma), ratio * np.sin(gamma) * draft.sign()]])
    turn, axis = draft.random.uniform(0, 2 * np.pi, 2)
    basis = basis @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    draft.features.add("oblique" if draft.has("tilted") else kind)
    if draft.has("tilted"):
        stretch, across = 1 / np.cos(np.deg2rad(draft.between(20, 60))), np.array([-np.sin(axis), np.cos(axis)])
        basis = basis + (stretch - 1) * np.outer(basis @ across, across)
        draft.fields["envelope"] = (draft.between(1.0, 2.5), float(np.rad2deg(axis)))
    return basis / np.sqrt(abs(np.linalg.det(basis)))


def _widths(draft):
    """Widths of spots; at most a sixth of the spacing."""
    growth, longer, most = draft.between(1, 1.8), draft.between(1, 1.6), draft.fields["lattice"].spacing / 6
    low = draft.between(2.5, 4.0) if draft.has("wide spots") else draft.log(0.8, 2.5)
    low = min(low, most / (growth * longer))
    draft.fields |= {"sigma_low": low, "sigma_high": low * growth, "elongation": longer}


def _detector(draft):
    counting = draft.chance(0.6 if draft.has("low dose") else 0.2)
    camera = {"gain": 1.0, "read_noise": 0.0, "offset": 0.0, "saturation": 65535}
    if not counting:
        camera = {"gain": draft.log(1, 30), "read_noise": draft.between(0, 15), "offset": draft.between(0, 500)}
        camera |= {"saturation": draft.choose(16383, 60000, 65535)}
    draft.fields |= camera
    draft.features |= {"counting"} if counting else set()
    draft.floating = not counting and draft.chance(0.1)
    zingers = draft.log(50, 500) if draft.has("zingers") else draft.log(1, 30)
    draft.fields["zingers"] = int(zingers * np.prod(draft.fields["shape"]) / 2**20)


def _background(draft):
    level = draft.log(0.5, 2) if draft.has("low dose") else draft.log(1, 60)
    halo = {"background_diffuse": level * draft.log(3, 60), "background_width": draft.between(0.03, 0.12)}
    plane = draft.between(0, 0.3)
    if draft.has("diffuse"):
        halo = {"background_diffuse": level * draft.log(60, 500), "background_width": draft.between(0.08, 0.3)}
        plane = draft.between(0.3, 0.66)
    most = (draft.fields["saturation"] - draft.fields["offset"]) / draft.fields["gain"]
    halo["background_diffuse"] = min(halo["background_diffuse"], 0.5 * most)
    draft.fields |= {"background": level, "background_plane": level * plane} | halo
    if draft.has("diffuse") or draft.chance(0.1):
        rows, columns = draft.fields["shape"]
        center = draft.between(0, columns), draft.between(0, rows)
        light = {"height": level * draft.log(0.5, 8), "width": draft.size * draft.between(0.2, 0.8)}
        edge = {"edge": draft.choose(draft.between(0, 360), 0.0, 90.0, 180.0, 270.0), "soft": draft.log(0.3, 30)}
        edge = edge if draft.chance(0.5) else {}
        draft.add("glows", Haze(center=center, **light, **edge))


def _order(draft):
    """Absent and weaker spots, differences of the mates."""
    along_a, along_b = Order((1, 0), 2, row=(0, 1)), Order((0, 1), 2, row=(1, 0))
    if draft.has("absences"):
        draft.add("orders", *draft.choose((along_a,), (along_b,), (along_a, along_b), (along_a, along_b)))
    if draft.has("weak orders"):
        indices, multiple = draft.choose(((1, 0), 2), ((0, 1), 2), ((1, 1), 2), ((1, 0), 3), ((0, 1), 3), ((1, -1), 3))
        draft.add("orders", Order(indices, multiple, factor=draft.log(0.05, 0.4)))
    draft.fields["absent_fraction"] = draft.between(0.2, 0.6) if draft.has("absent pairs") else 0.0
    draft.fields["friedel_difference"] = draft.between(0.1, 0.3) if draft.has("friedel") else draft.between(0, 0.05)


def _beam(draft):
    """A beam stop, the direct beam, or neither."""
    size, (x, y), level = draft.size, draft.origin, draft.fields["background"]
    kinds = ("disc and bar",) * 4 + ("bar",) * 2 + ("disc", "direct beam", "nothing")
    kind = next((name for name in ("bar", "direct beam") if draft.has(name)), None) or draft.choose(*kinds)
    draft.features.add(kind)
    radius = size * draft.log(0.012, 0.07)
    center = tuple(float(at + 0.2 * radius * draft.random.normal()) for at in (x, y))
    dark = {"floor": draft.log(0.001, 0.1), "soft": draft.log(0.7, 4)}
    if kind.startswith("disc"):
        draft.add("shadows", Disc(center=center, radius=radius, **dark))
    if kind.endswith("bar"):
        half = radius * (draft.between(0.15, 0.6) if kind.startswith("disc") else draft.between(0.5, 1.2))
        direction, over = draft.between(0, 360), 0.0 if kind.startswith("disc") else radius * draft.between(0.3, 3)
        turn = np.deg2rad(direction)
        tip = (float(center[0] - over * np.cos(turn)), float(center[1] - over * np.sin(turn)))
        taper = draft.choose(0.0, 0.0, draft.between(0, 0.06))
        draft.add("shadows", Bar(tip=tip, direction=direction, half_width=half, taper=taper, **dark))
    if kind == "direct beam" or (kind != "nothing" and draft.chance(0.2)):  # seen through the stop, or its tails beside
        sigma = draft.fields["sigma_low"] * draft.between(1, 3)
        tails = {"height": level * draft.log(10, 1000), "width": size * draft.log(0.01, 0.04)}
        draft.add("glows", Beam(center=(x, y), volume=draft.log(1e4, 3e6), sigma=sigma, **tails))


def _disturb(draft):
    """Rings, satellites, a second lattice."""
    lattice = draft.fields["lattice"]
    if draft.has("ring"):
        for _ in range(draft.choose(1, 1, 2, 3)):
            _ring(draft)
    if draft.has("second"):
        turn = np.deg2rad(draft.between(3, 40)) * draft.sign()
        basis = lattice.basis @ [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
        if draft.chance(0.2):
            basis = basis * draft.between(0.7, 1.4)
        vectors = (tuple(map(float, vector)) for vector in basis)
        other = Lattice(lattice.origin, *vectors, lattice.barrel, lattice.spiral)
        share, seed = draft.between(0.05, 0.5), int(draft.random.integers(2**31))
        draft.add("strays", SecondLattice(lattice=other, share=share, seed=seed))
    if draft.has("satellites"):
        vector = draft.between(0.1, 0.45), draft.sign() * draft.between(0.1, 0.45)
        vector = draft.choose((vector[0], 0.0), (0.0, vector[1]), vector)
        share, seed = draft.log(0.02, 0.33), int(draft.random.integers(2**31))
        draft.add("strays", Satellites(vector=vector, share=share, seed=seed))


def _ring(draft):
    place = {"center": draft.origin, "radius": draft.size * draft.between(0.1, 0.48), "width": draft.log(1.2, 6)}
    halo = draft.fields["background_diffuse"] * np.exp(-place["radius"] / draft.size / draft.fields["background_width"])
    if draft.chance(0.3):
        grains = {
            "number": int(draft.log(15, 150)),
            "share": draft.log(0.1, 1),
            "seed": int(draft.random.integers(2**31)),
        }
        draft.add("strays", Grains(**place, **grains))
    height = (draft.fields["background"] + halo) * draft.log(0.3, 5)
    texture = draft.choose(0.0, 0.0, draft.between(0.5, 6))
    draft.add("glows", Ring(**place, height=height, texture=texture, direction=draft.between(0, 180)))


def _shadow(draft):
    """Corners, dead strips, a round edge."""
    rows, columns = draft.fields["shape"]
    middle = ((columns - 1) / 2, (rows - 1) / 2)
    for _ in range(draft.choose(1, 2, 3) if draft.has("shadows") else 0):
        kind = draft.choose("corner", "strip", "cross", "round")
        if kind == "corner":
            direction = draft.choose(45, 135, 225, 315, 90) + draft.between(-20, 20)
            place = {"center": middle, "direction": direction, "distance": draft.size * draft.between(0.3, 0.55)}
            draft.add("shadows", Corner(**place, floor=draft.log(0.02, 0.5), soft=draft.log(3, 40)))
        elif kind == "round":
            place = {"center": middle, "radius": draft.size * draft.between(0.46, 0.6)}
            draft.add("shadows", Aperture(**place, floor=0.0, dead=draft.chance(0.5)))
        else:
            _strips(draft, kind)


def _strips(draft, kind):
    """Dead columns or rows, or the gaps of a detector of four panels."""
    rows, columns = draft.fields["shape"]
    if kind == "cross":
        gap = draft.choose(2, 4, 8)
        for size, horizontal in ((rows, True), (columns, False)):
            first = size // 2 - gap // 2
            draft.add("shadows", Strip(first=first, last=first + gap - 1, rows=horizontal, dead=True))
        return
    horizontal = draft.chance(0.5)
    first = int(draft.between(0, rows if horizontal else columns))
    last = first + int(draft.log(1, 16)) - 1
    draft.add("shadows", Strip(first=first, last=last, rows=horizontal, dead=draft.chance(0.7), floor=0.05))


def _dosed(draft):
    """The Simulation with its dose, and its seed; None where no dose fulfils the limits, or a range is left."""
    lattice = draft.fields["lattice"]
    if not 10 <= lattice.spacing <= 150 or draft.fields["sigma_low"] < 0.8:
        return None
    seed = int(draft.random.integers(2**31))
    if draft.has("feet"):
        wider = max(1.5, min(draft.log(3, 8), lattice.spacing / 2 / draft.fields["sigma_high"]))
        draft.add("strays", Feet(share=draft.log(0.1, 0.6), wider=wider, seed=seed))
    simulation = Simulation(**draft.fields, beamstop=False)
    truth = draw_spots(simulation, seed=seed)
    dose = least_dose(simulation, truth)
    more = draft.log(1, 3) if draft.has("low dose") else draft.log(1, 100)
    if not np.isfinite(dose):
        return None
    return replace(simulation, peak_volume=min(dose * more * simulation.peak_volume, STRONGEST)), seed
