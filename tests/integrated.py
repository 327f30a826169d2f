"""Stills with known truth that were extracted and integrated, for the tests of the intensities."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter

from ed2d.extraction import Extraction, extract_image
from ed2d.image import Image
from ed2d.integration import Integration, integrate_image
from ed2d.lattice import Lattice
from ed2d.noise import Noise
from ed2d.placement import Places
from ed2d.pulls import pulls
from ed2d.simulate import Simulation, expected, simulate, transmission
from stills import image_of, in_order_of, parameters

LATTICE = Lattice((271.3, 227.8), (27.1, 3.2), (-4.3, 28.9), 1.2e-7, -2e-7)
SHAPE = (450, 560)
GAIN, READ_NOISE = 5.0, 3.0
GIVEN = parameters(gain=GAIN, read_noise=READ_NOISE)
NOISE = Noise(gain=GAIN, read_variance=READ_NOISE**2, offset=0.0)
PLAIN = Simulation(
    shape=SHAPE,
    lattice=LATTICE,
    gain=GAIN,
    read_noise=READ_NOISE,
    peak_volume=3000.0,
    absent_fraction=0.2,
    background_diffuse=0.0,
    max_radius=1.5,
)
CLEAR = 10.0  # I/sigma of what counts as strong


@dataclass(frozen=True)
class Measured:
    """A still, the truth of its spots, and what both steps made of it."""

    image: Image
    truth: np.ndarray
    extraction: Extraction
    extracted: np.ndarray
    integration: Integration

    @property
    def made(self):
        """Lattice, noise and profile."""
        return self.extraction.lattice, self.extraction.noise, self.extraction.profile

    @property
    def places(self):
        """Where the spots are expected."""
        return Places.of(self.extracted, self.extraction.lattice, self.extraction.profile.straying)

    def spots(self):
        """The rows of `_int` that have a truth and no shadow, and this truth, both (m,)."""
        table = self.integration.table
        truth, known = in_order_of(np.column_stack([table["H"], table["K"]]), self.truth)
        clear = known & (truth["trans_min"] > 0.999)
        return table[clear], truth[clear]


@cache
def measured(simulation=PLAIN, seed=0, given=GIVEN):
    """Measured still of a simulation."""
    data, mask, truth = simulate(simulation, seed=seed)
    full = data >= (given.saturation or simulation.saturation)
    return measured_image(
        image_of(data, ignored=mask == 0, saturated=full & (mask > 0)), truth, simulation.lattice, given
    )


@cache
def blurred(width, seed):
    """Measured still of a camera of unknown gain in which every electron spreads by a Gaussian of `width` px."""
    simulation, random = replace(PLAIN, background_diffuse=300.0), np.random.default_rng(seed)
    _, mask, truth = simulate(simulation, seed=seed)
    electrons = random.poisson(expected(simulation, truth, transmission(simulation)[0])).astype(float)
    data = GAIN * gaussian_filter(electrons, width) + random.normal(0, READ_NOISE, SHAPE)
    return measured_image(image_of(data, ignored=mask == 0), truth, LATTICE, parameters())


def measured_image(image, truth, lattice, given):
    """Both steps on an image, from its true lattice."""
    extraction = extract_image(image, lattice, given)
    extracted = extraction.table()
    made = (extraction.lattice, extraction.noise, extraction.profile)
    return Measured(image, truth, extraction, extracted, integrate_image(image, extracted, *made, given))


def together(simulation=PLAIN, seeds=(0, 1), given=GIVEN):
    """Spots of several stills: rows of `_int` and their truth, both (m,)."""
    parts = [measured(simulation, seed, given).spots() for seed in seeds]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def pulls_of(table, truth, column):
    """Pulls (m,) of a column of intensities."""
    return pulls(table[column], table[f"VAR{column}"], truth["vol_counts"])
