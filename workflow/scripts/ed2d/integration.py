"""Integration: box sums, profile fits and intercalated background at every point of the refined lattice."""

from dataclasses import dataclass

import numpy as np

from . import flags
from .background import intercalated
from .control import Backgrounds, FriedelControl, NullControl, compare_backgrounds, null_control
from .curvature import curvature
from .friedel import friedel_pairs
from .intensity import Intensities, measure_intensities
from .placement import Places
from .summation import STRONG, choose_step
from .table import empty_table, grow_steps, integrate_dtype

FEWEST_PAIRS = 50  # that a model must come from to be applied: 10 % of K


@dataclass(frozen=True)
class Integration:
    """What integrate measured at the n points of the extract table `extracted`, and how far it can be trusted.

    table: the rows of `_int.mtz`, the points that no reason rejects; step: the chosen N; loss, loss_sigma (steps,),
    strong: the growth curve that chose it; box_sums, profile_fits: their Friedel pairs, with the errors before any
    error model; applied: whether the table has errors by such models.
    """

    extracted: np.ndarray
    measured: Intensities
    table: np.ndarray
    step: int
    loss: np.ndarray
    loss_sigma: np.ndarray
    strong: int
    null_control: NullControl
    backgrounds: Backgrounds
    box_sums: FriedelControl
    profile_fits: FriedelControl
    applied: bool

    @property
    def outside(self):
        """Mean share of the spots outside of the inner square of the chosen N, which the intensities are freed of."""
        return float(np.mean(1 - self.measured.growth.response[self.step, self.measured.kept]))

    @property
    def profile_over_box(self):
        """Sum of the profile fits of strong spots over that of their box sums, and its standard deviation; or NaN.

        With the errors before any error model; those of the widths are the same for all spots.
        """
        growth, measured = self.measured.growth, self.measured
        box, variance = growth.intensity[self.step], growth.variance[self.step]
        strong = measured.kept & (box > STRONG * np.sqrt(variance))
        total = box[strong].sum() if strong.any() else np.nan
        wider = np.abs(growth.broadening[self.step] - measured.broadening) * np.sqrt(measured.uncertain)
        sigma = np.sqrt(np.sum(growth.against_profile[self.step, strong]) + np.sum(wider[strong]) ** 2)
        return float(measured.volume[strong].sum() / total), float(sigma / total)

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
    places = Places.of(table, lattice, profile.straying)
    made = (places, noise, profile, parameters)
    measured = measure_intensities(image, miller, bending, *made)
    whole = measured.kept & (measured.flag & flags.SATURATED == 0)
    step, loss, loss_sigma, strong = choose_step(measured.growth, whole)
    between = intercalated(image, miller, places, noise, profile)
    rows = _table(table, measured, step, between)[measured.kept]
    box_sums, profile_fits = (_friedel(rows, column, lattice) for column in ("I", "IPR"))
    return Integration(
        extracted=table,
        measured=measured,
        table=_with_models(rows, box_sums, profile_fits) if parameters.apply_error_model else rows,
        step=step,
        loss=loss,
        loss_sigma=loss_sigma,
        strong=strong,
        null_control=null_control(image, miller, bending, *made, step),
        backgrounds=compare_backgrounds(measured.growth, step, *between[:2]),
        box_sums=box_sums,
        profile_fits=profile_fits,
        applied=parameters.apply_error_model and max(box_sums.model.pairs, profile_fits.model.pairs) >= FEWEST_PAIRS,
    )


def _table(extracted, measured, step, intercalated):
    """The columns of `_int.mtz` for all points (n,)."""
    growth, steps = measured.growth, len(measured.growth.intensity)
    table = empty_table(integrate_dtype(steps - 1), len(extracted))
    for column in set(extracted.dtype.names) & set(table.dtype.names):
        table[column] = extracted[column]
    table["GVOL"], table["VARGVOL"] = extracted["I"], extracted["VARI"]
    table["I"], table["VARI"] = growth.intensity[step], growth.variance[step]
    table["NGROW"], table["FLAG"] = step, extracted["FLAG"] | measured.flag
    for n in range(steps):
        table[f"I{n}"], table[f"VARI{n}"] = growth.intensity[n], growth.variance[n]
        table[f"BG{n}"] = growth.background[n]
    table["IPR"], table["VARIPR"] = measured.volume, measured.volume_variance
    table["BGINT"], table["VARBGINT"], table["NBGINT"] = intercalated
    return table


def _friedel(table, column, lattice):
    radius = np.hypot(table["XDET"] - lattice.origin[0], table["YDET"] - lattice.origin[1])
    miller = np.column_stack([table["H"], table["K"]])
    return FriedelControl.of(miller, table[column], table[f"VAR{column}"], radius)


def _with_models(table, box_sums, profile_fits):
    """A copy of the table with the errors of box sums and profile fits by their error models, where these are known."""
    table, pairs = table.copy(), friedel_pairs(np.column_stack([table["H"], table["K"]]))
    series = ["I", *(f"I{n}" for n in range(grow_steps(table.dtype.names) + 1))]
    models = {column: box_sums.model for column in series} | {"IPR": profile_fits.model}
    for column, model in models.items():
        if model.pairs >= FEWEST_PAIRS:
            expected = table[column].copy()
            expected[pairs] = table[column][pairs].mean(axis=1, keepdims=True)
            table[f"VAR{column}"] = model.apply(table[f"VAR{column}"], expected)
    return table
