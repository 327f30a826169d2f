"""Intensities at points of an image, some boxes at a time: profile fit, box sums, and why a point is not usable."""

from dataclasses import dataclass, fields

import numpy as np

from . import flags
from .boxes import chunks, cut, nearest_pixels
from .neighbours import neighbours
from .placement import spread_out
from .profilefit import fit_profiles
from .spots import pixel_flags
from .summation import Growth, grow, squares
from .zingers import spikes

CHUNK = 256  # boxes
LARGEST_MASKED = 0.05  # share of the expected spot in the smallest inner square
LARGEST_SATURATED = 0.9  # the same, masked pixels counted in; the wings tell the rest
REASONS = {
    "OffImage": "the inner square reaches beyond the edge of the image",
    "Masked": "too much of the expected spot lies on masked or non-finite pixels",
    "Saturated": "too much of the expected spot lies on saturated pixels",
    "NoBackground": "too few usable pixels in the rim",
}


@dataclass(frozen=True)
class Points:
    """Where to measure: miller (n, 2), fractional between the spots; places (n, 2), px, and their variance (n,), px^2.

    curvature (n, 3): of the background, counts/px^2.
    """

    miller: np.ndarray
    places: np.ndarray
    variance: np.ndarray
    curvature: np.ndarray

    def __len__(self):
        return len(self.miller)

    def __getitem__(self, rows):
        return Points(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Intensities:
    """What n points give.

    volume, volume_variance (n,): profile fits; growth: box sums; constant (n,): background of the fit at the centre;
    flag (n,); rejected: reason -> (n,) bool, exclusive, by geometry and detector alone; raw, flat, residual
    (n, side^2), float32, NaN where ignored: counts, counts less the slope and the curvature of the background, and
    what the profile fit leaves over its standard deviation.
    """

    volume: np.ndarray
    volume_variance: np.ndarray
    growth: Growth
    constant: np.ndarray
    flag: np.ndarray
    rejected: dict[str, np.ndarray]
    raw: np.ndarray
    flat: np.ndarray
    residual: np.ndarray

    @property
    def kept(self):
        """True for the points that no reason rejects, (n,)."""
        return ~np.any(list(self.rejected.values()), axis=0)

    @staticmethod
    def joined(parts):
        """One from several."""
        columns = {name: [getattr(part, name) for part in parts] for name in vars(parts[0])}
        growth, rejected = Growth.joined(columns.pop("growth")), columns.pop("rejected")
        rejected = {reason: np.concatenate([part[reason] for part in rejected]) for reason in REASONS}
        arrays = {name: np.concatenate(column) for name, column in columns.items()}
        return Intensities(**arrays, growth=growth, rejected=rejected)


def measure_intensities(image, points, lattice, noise, profile, parameters):
    """Intensities at points of a lattice."""
    parts = [_measure(image, points[rows], lattice, noise, profile, parameters) for rows in chunks(len(points), CHUNK)]
    return Intensities.joined(parts)


def _measure(image, points, lattice, noise, profile, parameters):
    boxes = cut(image, nearest_pixels(points.places), parameters.half)
    raw = boxes
    boxes = boxes.bent(points.curvature).flat()
    near = neighbours(boxes.half, points.miller, points.places, boxes.centre, lattice, profile)
    shape = spread_out(profile.shape_at(points.places), points.variance)
    fits = fit_profiles(boxes.without(spikes(boxes, noise)), noise, points.places - boxes.centre, shape, near)
    sizes = {"box_size": parameters.box_size, "rim_size": parameters.background_rim_size}
    growth = grow(fits, near, noise, steps=parameters.box_grow_amount, **sizes)
    broadening = np.einsum("np,np->n", fits.forms[:, 0], fits.broadening)
    uncertain = (profile.uncertainty * np.maximum(fits.volume, 0)) ** 2
    return Intensities(
        volume=fits.volume,
        volume_variance=fits.covariance(fits.forms[:, 0], fits.forms[:, 0]) + uncertain * broadening**2,
        growth=growth.uncertain(uncertain),
        constant=fits.unknowns[:, 1],
        flag=pixel_flags(fits.boxes) | np.where(near.close, flags.OVERLAP, 0),
        rejected=_rejected(boxes, fits.profiles[:, 0], growth, parameters.box_size),
        raw=_picture(raw.values, raw.usable),
        flat=_picture(boxes.values - fits.slope, boxes.usable),
        residual=_picture(fits.residual, fits.boxes.usable),
    )


def _picture(pixels, usable):
    return np.where(usable, pixels, np.nan).astype(np.float32)


def _rejected(boxes, profile, growth, box_size):
    """Reasons by geometry and detector alone: nothing here looks at an intensity."""
    inner, _ = squares(boxes.half, box_size, 0, 1)
    share = profile * inner / np.sum(profile * inner, axis=1, keepdims=True)
    ignored, saturated = np.sum(share * boxes.ignored, axis=1), np.sum(share * boxes.saturated, axis=1)
    reasons = {
        "OffImage": np.any(boxes.outside & inner, axis=1),
        "Masked": ignored > LARGEST_MASKED,
        "Saturated": ignored + saturated > LARGEST_SATURATED,
        "NoBackground": ~np.all(np.isfinite(growth.intensity), axis=0),
    }
    rejected, before = {}, np.zeros(len(boxes), bool)
    for reason in REASONS:
        rejected[reason] = reasons[reason] & ~before
        before |= reasons[reason]
    return rejected
