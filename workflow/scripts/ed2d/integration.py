"""Integration: box sums, held-profile fits and intercalated background at every point of the refined lattice."""

from dataclasses import dataclass, replace

import numpy as np

from . import flags, gaussian
from .background import intercalated
from .boxes import away_from_neighbours, cut, nearest_pixels
from .curvature import curvature
from .measurement import own_boxes
from .spots import cleaned, fit_held
from .summation import Foreground, Growth, choose_step, grow, squares
from .table import empty_table, integrate_dtype

LARGEST_MISSING = 0.05  # share of the expected spot that may lie on unusable pixels of the smallest inner square
REASONS = {
    "OffImage": "the inner square reaches beyond the edge of the image",
    "Saturated": "too much of the expected spot lies on saturated pixels",
    "Masked": "too much of the expected spot lies on masked or non-finite pixels",
    "NoBackground": "too few usable pixels in the rim",
}


@dataclass(frozen=True)
class Integration:
    """What integrate measured at the n points of the extract table `extracted`, and which of them are usable.

    rejected: reason -> (n,) bool, exclusive; step: the chosen N; loss, loss_sigma (steps,), strong: the growth curve
    that chose it; held: fits with centre and shape held; background, its variance and count: intercalated;
    raw, corrected (n, side^2): boxes without and with background correction, NaN where ignored.
    """

    extracted: np.ndarray
    growth: Growth
    step: int
    loss: np.ndarray
    loss_sigma: np.ndarray
    strong: int
    held: gaussian.Fits
    flag: np.ndarray
    background: tuple[np.ndarray, np.ndarray, np.ndarray]
    rejected: dict[str, np.ndarray]
    raw: np.ndarray
    corrected: np.ndarray

    @property
    def kept(self):
        """True for the points that no reason rejects, (n,)."""
        return ~np.any(list(self.rejected.values()), axis=0)

    def table(self):
        """The rows of `_int.mtz`: the points that no reason rejects."""
        growth, steps = self.growth, len(self.growth.intensity) - 1
        table = empty_table(integrate_dtype(steps), len(self.extracted))
        for column in set(self.extracted.dtype.names) & set(table.dtype.names):
            table[column] = self.extracted[column]
        table["GVOL"], table["VARGVOL"] = self.extracted["I"], self.extracted["VARI"]
        table["I"], table["VARI"] = growth.intensity[self.step], growth.variance[self.step]
        table["NGROW"], table["FLAG"] = self.step, self.flag
        for step in range(steps + 1):
            table[f"I{step}"], table[f"VARI{step}"] = growth.intensity[step], growth.variance[step]
            table[f"BG{step}"] = growth.background[step]
        table["IPR"], table["VARIPR"] = self.held.volume, self.held.volume_variance
        table["BGINT"], table["VARBGINT"], table["NBGINT"] = self.background
        return table[self.kept]

    def pictures(self, pixels):
        """An (n, side^2) array of boxes as (n, side, side), and the Miller indices (n, 2), for a montage."""
        side = round(pixels.shape[1] ** 0.5)
        return pixels.reshape(-1, side, side), np.column_stack([self.extracted["H"], self.extracted["K"]])


def integrate_image(image, table, lattice, noise, profile, parameters):
    """Measure the intensities at the points of an extract table (n rows) on its refined lattice."""
    miller = np.column_stack([table["H"], table["K"]])
    positions = lattice.position(miller)
    bending = curvature(lattice.reduced_index(miller), positions, np.column_stack([table["PX"], table["PY"]]))
    boxes = replace(cut(image, nearest_pixels(positions), parameters.half), curvature=bending)
    away = away_from_neighbours(boxes.half, miller, boxes.centre, lattice)
    own, shape = own_boxes(boxes, away, noise), profile.shape_at(positions)
    boxes, raw = boxes.flat(), np.where(boxes.usable, boxes.values, np.nan)
    held = fit_held(own, noise, positions - boxes.centre, shape)
    foreground = _foreground(boxes, table, held, positions, shape, away, noise)
    sizes = {"box_size": parameters.box_size, "rim_size": parameters.background_rim_size}
    signal = np.nan_to_num(held.fits.volume)
    growth = grow(boxes, foreground, noise, signal, steps=parameters.box_grow_amount, **sizes)
    step, loss, loss_sigma, strong = choose_step(growth, largest=_largest_step(lattice, parameters))
    overlap = flags.OVERLAP if lattice.square_spacing < 2 * (parameters.box_size + step) + 1 else 0
    return Integration(
        extracted=table,
        growth=growth,
        step=step,
        loss=loss,
        loss_sigma=loss_sigma,
        strong=strong,
        held=held.fits,
        flag=table["FLAG"] | held.flag | overlap,
        background=intercalated(image, miller, lattice, noise),
        rejected=_reject(boxes, foreground, growth, step, parameters.box_size),
        raw=raw,
        corrected=_corrected(boxes, foreground, growth.background[step]),
    )


def _largest_step(lattice, parameters):
    """The largest N whose inner squares leave those of the neighbours alone; 0 where none does."""
    free = int((lattice.square_spacing - 1) / 2) - parameters.box_size
    return min(max(free, 0), parameters.box_grow_amount)


def _foreground(boxes, table, held, positions, shape, away, noise):
    """Slope from the extract fit, else from the held one, else none; pixels freed of zingers."""
    slope = np.column_stack([table["PX"], table["PY"]])
    slope = np.where(np.isfinite(slope), slope, np.nan_to_num(held.fits.plane[:, 1:]))
    usable = boxes.usable.copy()
    fitted = np.flatnonzero(np.isfinite(held.fits.amplitude))
    _, clean = cleaned(boxes[fitted], fitted, noise, lambda _, rows: held.fits[rows])
    usable[fitted] = clean.usable
    return Foreground(
        slope=slope,
        slope_covariance=np.nan_to_num(held.fits.covariance[:, 2:4, 2:4]),
        profile=_unit_profile(boxes.half, positions - boxes.centre, shape),
        usable=usable,
        rim_allowed=away,
    )


def _unit_profile(half, centre, shape):
    """The Gaussian of unit volume on the pixels of the boxes, (n, side^2)."""
    return gaussian.gaussian(half, centre, shape) / gaussian.area(shape)[:, None]


def _reject(boxes, foreground, growth, step, box_size):
    """Reasons by geometry and detector alone: nothing here looks at an intensity."""
    inner, _ = squares(boxes.half, box_size, 0, 1)
    share = foreground.profile * inner
    whole = share.sum(axis=1)
    outside = np.any(boxes.outside & inner, axis=1)
    saturated = np.sum(share * boxes.saturated, axis=1) / whole
    ignored = np.sum(share * boxes.ignored, axis=1) / whole
    missing = saturated + ignored > LARGEST_MISSING
    ordered = {
        "OffImage": outside,
        "Saturated": missing & (saturated >= ignored),
        "Masked": missing,
        "NoBackground": ~np.isfinite(growth.background[step]) | ~np.isfinite(growth.intensity[step]),
    }
    rejected, before = {}, np.zeros(len(boxes), bool)
    for reason in REASONS:
        rejected[reason] = ordered[reason] & ~before
        before |= ordered[reason]
    return rejected


def _corrected(boxes, foreground, constant):
    """Boxes less slope and rim background, NaN where ignored."""
    plane = gaussian.plane(boxes.half, np.column_stack([constant, foreground.slope]))
    return np.where(boxes.usable, boxes.values - plane, np.nan)
