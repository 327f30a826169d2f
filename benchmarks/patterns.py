"""Whole simulated stills of several kinds, and their spots as boxes with truth and bound; drawn by `ed2d.simulate`.

Only the shapes are other ones. With (r, phi) the place h a + k b on the lattice before its distortion, r in units of
r_max, and d = high - low:

s1 = low + d (0.35 + 0.55 r + 0.08 cos(phi)),  s2 = low + d (0.05 + 0.40 r + 0.05 sin(phi)),
theta = 25 degrees + 0.35 r cos(phi - 0.5)

so that shapes of Friedel mates differ and no polynomial of the place is exactly right.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from population import HALF, SIDE, Camera, Population, X, Y, model

from ed2d.boxes import away_from_neighbours
from ed2d.image import Image
from ed2d.lattice import Lattice
from ed2d.parameters import Parameters
from ed2d.simulate import Simulation, expected, simulate, transmission


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A simulation whose own shapes do not count, the least and the largest width, px, and how it is measured."""

    simulation: Simulation
    widths: tuple[float, float]
    box_size: int = 6
    gain_given: bool = True  # with the read noise

    @property
    def camera(self):
        still = self.simulation
        return Camera(gain=still.gain, read_noise=still.read_noise, offset=still.offset)

    @property
    def parameters(self):
        """Every lattice point on the image is measured, also where there are no spots."""
        still = self.simulation
        known = {"gain": still.gain, "read_noise": still.read_noise} if self.gain_given else {}
        return Parameters(
            **{"gain": 0.0, "read_noise": 0.0} | known,
            **{"box_size": self.box_size, "box_grow_amount": 1, "background_rim_size": 2},
            **{"min_radius": 0.0, "max_radius": 0.0, "offset": still.offset, "saturation": float(still.saturation)},
            **{"mask": (), "unit_cell": None, "wavelength": None, "apply_error_model": False},
        )


def _kinds():
    origin, a, b = (1028.257, 1021.109), (34.19512, 10.65059), (-18.89071, 36.60008)
    straight, bent = Lattice(origin, a, b), Lattice(origin, a, b, barrel=-3e-9, spiral=2e-9)
    hexagonal = Lattice((516.351, 509.463), (28.21747, 24.52909), (-35.35154, 12.17251), barrel=1.2e-8)
    large = Simulation(shape=(2048, 2048), lattice=straight)
    low = {"peak_volume": 900.0, "background": 4.0, "background_diffuse": 400.0, "background_plane": 2.0, "zingers": 20}
    low |= {"gain": 12.0, "read_noise": 15.0, "offset": 100.0}
    faint = Kind(simulation=Simulation(shape=(1024, 1024), lattice=hexagonal, **low), widths=(1.1, 2.0))
    u, v = 8 * np.cos(0.3), 8 * np.sin(0.3)
    dense = Simulation(
        shape=(700, 700),
        lattice=Lattice((354.3, 347.9), (u, v), (-v, u)),
        peak_volume=8000.0,
        background_diffuse=500.0,
        zingers=8,
    )
    return {
        "facts": Kind(simulation=large, widths=(1.2, 2.5)),
        "distorted": Kind(simulation=replace(large, lattice=bent), widths=(1.2, 2.5)),
        "low dose": faint,
        "gain unknown": replace(faint, gain_given=False),
        "dense": Kind(simulation=dense, widths=(1.15, 1.25), box_size=3),
        "dense, large box": Kind(simulation=dense, widths=(1.15, 1.25)),
    }


KINDS = _kinds()
TINY = Kind(
    simulation=Simulation(
        shape=(300, 320), lattice=Lattice((158.3, 151.6), (26.1, 4.2), (-5.3, 24.8)), background_diffuse=50.0, zingers=2
    ),
    widths=(1.2, 2.0),
)


@dataclass(frozen=True)
class Still:
    """An image of ed2d and the truth of its spots; expected electrons and pixels with a zinger (rows, columns)."""

    kind: Kind
    image: Image
    truth: np.ndarray
    expected: np.ndarray
    zinger: np.ndarray


def draw(kind, seed):
    """One still: volumes, places and zingers as `ed2d.simulate.simulate` draws them, other shapes, another noise."""
    simulation, random = kind.simulation, np.random.default_rng([seed, 1])
    _, mask, truth = simulate(simulation, seed=seed)
    dark = {"peak_volume": 0.0, "background": 0.0, "background_diffuse": 0.0, "background_plane": 0.0}
    zingers, _, _ = simulate(replace(simulation, **dark, read_noise=0.0, offset=0.0), seed=seed)
    truth["s1"], truth["s2"], truth["theta"] = shapes(kind, truth)
    mu = expected(simulation, truth, transmission(simulation)[0])
    counts = simulation.gain * random.poisson(mu) + random.normal(simulation.offset, simulation.read_noise, mu.shape)
    counts = np.clip(np.rint(counts) + zingers, 0, simulation.saturation).astype(np.uint16)
    return Still(kind, Image(counts, mask == 0, counts >= simulation.saturation), truth, mu, zingers > 0)


def shapes(kind, truth):
    """Both widths, px, and the direction of the first, radians, (3, n)."""
    (low, high), lattice = kind.widths, kind.simulation.lattice
    x, y = (np.column_stack([truth["h"], truth["k"]]) @ lattice.basis / kind.simulation.r_max).T
    r, phi = np.hypot(x, y), np.arctan2(y, x)
    first = low + (high - low) * (0.35 + 0.55 * r + 0.08 * np.cos(phi))
    second = low + (high - low) * (0.05 + 0.40 * r + 0.05 * np.sin(phi))
    return np.stack([first, second, np.deg2rad(25) + 0.35 * r * np.cos(phi - 0.5)])


def clean_spots(still):
    """Truth (n,) and boxes of the spots that nothing but noise disturbs, as a Population.

    The box of half-size 9 px is on the image and unmasked, and within 3 widths there is no saturated pixel and no
    zinger. Usable are the pixels that the program may use: those of its box away from neighbours, without zingers.
    """
    whole = still.truth[still.truth["in_box"] == 1]
    corner = np.rint([whole["y"], whole["x"]]).astype(int) - HALF
    ignored, saturated, zinger, mu, counts = (
        sliding_window_view(array, (SIDE, SIDE))[*corner].reshape(len(whole), -1)
        for array in (still.image.ignored, still.image.saturated, still.zinger, still.expected, still.image.data)
    )
    dx, dy = whole["x"] - corner[1] - HALF, whole["y"] - corner[0] - HALF
    near = np.maximum(np.abs(X - dx[:, None]), np.abs(Y - dy[:, None])) <= 3 * whole["s1"][:, None]
    clean = ~ignored.any(axis=1) & ~np.any((saturated | zinger) & near, axis=1)

    simulation, half = still.kind.simulation, still.kind.parameters.half
    miller = np.column_stack([whole["h"], whole["k"]])
    usable = away_from_neighbours(HALF, miller, corner[::-1].T + HALF, simulation.lattice) & ~(saturated | zinger)
    usable &= np.maximum(np.abs(X), np.abs(Y)) <= half
    electrons = [whole[name] / simulation.gain for name in ("vol_counts", "bg_counts", "bgdx", "bgdy")]
    height = electrons[0] / (2 * np.pi * whole["s1"] * whole["s2"])
    parameters = np.column_stack([height, dx, dy, whole["s1"], whole["s2"], whole["theta"], *electrons[1:]])
    return whole[clean], Population(still.kind.camera, parameters, mu, counts, usable)[clean]


def best_fit(population):
    """Volumes, counts, and their variances: least squares of amplitude and plane alone, all else being the truth.

    Centre, shape, weights 1/variance, and what the pixels hold beside the spot and its plane (tails of neighbours,
    curvature of the background) are taken from the truth.
    """
    camera, truth = population.camera, population.truth
    unit = truth * np.array([0.0, 1, 1, 1, 1, 1, 0, 0, 0])
    unit[:, 0] = 1 / (2 * np.pi * truth[:, 3] * truth[:, 4])
    beside = population.expected - model(truth)
    values = (population.counts - camera.offset) / camera.gain - beside
    design = np.stack(np.broadcast_arrays(model(unit), 1.0, X, Y), axis=-1)
    weighted = design * (population.usable / (population.expected + (camera.read_noise / camera.gain) ** 2))[..., None]
    covariance = np.linalg.inv(weighted.transpose(0, 2, 1) @ design)
    volume = np.einsum("ni,npi,np->n", covariance[:, 0], weighted, values)
    return camera.gain * volume, camera.gain**2 * covariance[:, 0, 0]
