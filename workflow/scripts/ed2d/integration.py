"""Integration: box sums, profile fits and intercalated background at every point of the refined lattice."""

from dataclasses import dataclass

import numpy as np

from . import flags
from .background import intercalated
from .control import Backgrounds, NullControl, compare_backgrounds, null_control
from .curvature import curvature
from .intensity import Intensities, Points, measure_intensities
from .placement import expected_places
from .summation import choose_step
from .table import empty_table, integrate_dtype


@dataclass(frozen=True)
class Integration:
    """What integrate measured at the n points of the extract table `extracted`, and how far it can be trusted.

    step: the chosen N; loss, loss_sigma (steps,), strong: the growth curve that chose it; background, its variance and
    count (n,): intercalated.
    """

    extracted: np.ndarray
    measured: Intensities
    step: int
    loss: np.ndarray
    loss_sigma: np.ndarray
    strong: int
    background: tuple[np.ndarray, np.ndarray, np.ndarray]
    null_control: NullControl
    backgrounds: Backgrounds

    @property
    def outside(self):
        """Mean share of the spots outside of the inner square of the chosen N, which the intensities are freed of."""
        return float(np.mean(1 - self.measured.growth.response[self.step, self.measured.kept]))

    def table(self):
        """The rows of `_int.mtz`: the points that no reason rejects."""
        measured, growth, steps = self.measured, self.measured.growth, len(self.loss)
        table = empty_table(integrate_dtype(steps - 1), len(self.extracted))
        for column in set(self.extracted.dtype.names) & set(table.dtype.names):
            table[column] = self.extracted[column]
        table["GVOL"], table["VARGVOL"] = self.extracted["I"], self.extracted["VARI"]
        table["I"], table["VARI"] = growth.intensity[self.step], growth.variance[self.step]
        table["NGROW"], table["FLAG"] = self.step, self.extracted["FLAG"] | measured.flag
        for step in range(steps):
            table[f"I{step}"], table[f"VARI{step}"] = growth.intensity[step], growth.variance[step]
            table[f"BG{step}"] = growth.background[step]
        table["IPR"], table["VARIPR"] = measured.volume, measured.volume_variance
        table["BGINT"], table["VARBGINT"], table["NBGINT"] = self.background
        return table[measured.kept]

    @property
    def corrected(self):
        """The boxes (n, side^2) less slope, curvature and the rim background of the chosen N."""
        constant = self.measured.growth.background[self.step]
        return self.measured.flat - constant[:, None].astype(np.float32)

    def pictures(self, pixels):
        """An (n, side^2) array of boxes as (n, side, side), and the Miller indices (n, 2), for a montage."""
        side = round(pixels.shape[1] ** 0.5)
        return pixels.reshape(-1, side, side), np.column_stack([self.extracted["H"], self.extracted["K"]])


def integrate_image(image, table, lattice, noise, profile, parameters):
    """Measure the intensities at the points of an extract table (n rows) on its refined lattice."""
    miller = np.column_stack([table["H"], table["K"]])
    calculated = lattice.position(miller)
    bending = curvature(lattice.reduced_index(miller), calculated, np.column_stack([table["PX"], table["PY"]]))
    points = Points(miller, *expected_places(table, calculated, profile.straying), bending)
    made = (lattice, noise, profile, parameters)
    measured = measure_intensities(image, points, *made)
    usable = measured.kept & (measured.flag & flags.SATURATED == 0)
    step, loss, loss_sigma, strong = choose_step(measured.growth, usable)
    background = intercalated(image, miller, lattice, noise)
    return Integration(
        extracted=table,
        measured=measured,
        step=step,
        loss=loss,
        loss_sigma=loss_sigma,
        strong=strong,
        background=background,
        null_control=null_control(image, miller, bending, *made, step),
        backgrounds=compare_backgrounds(measured.growth, step, *background[:2]),
    )
