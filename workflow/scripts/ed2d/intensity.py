"""Intensities at points of an image, some boxes at a time: profile fit, box sums, and why a point is not usable."""

from dataclasses import dataclass

import numpy as np

from . import flags, gaussian
from .boxes import chunks, cut, nearest_pixels
from .neighbours import neighbours
from .placement import spread_out
from .profilefit import fit_profiles
from .spots import misfits, pixel_flags
from .summation import Growth, grow, squares
from .zingers import spikes

CHUNK = 256  # boxes
UNEXPLAINED = 6.0  # standard deviations of a reduced chi-square
LARGEST_MASKED = 0.05  # share of the expected spot in the smallest inner square
LARGEST_SATURATED = 0.9  # the same, masked pixels counted in; the wings tell the rest
REASONS = {
    "OffImage": "the inner square reaches beyond the edge of the image",
    "Masked": "too much of the expected spot lies on masked or non-finite pixels",
    "Saturated": "too much of the expected spot lies on saturated pixels",
    "NoBackground": "too few usable pixels in the rim",
}


@dataclass(frozen=True)
class Intensities:
    """What n points give.

    volume, volume_variance (n,): profile fits; broadening (n,): their relative change with the logarithm of the width;
    uncertain (n,): variance of the volume times that logarithm; growth: box sums; flag (n,); rejected: reason -> (n,)
    bool, exclusive, by geometry and detector alone; raw, flat, residual (n, side^2), float32, NaN where ignored:
    counts, counts less the slope and the curvature of the background, and what the profile fit leaves over its standard
    deviation.
    """

    volume: np.ndarray
    volume_variance: np.ndarray
    broadening: np.ndarray
    uncertain: np.ndarray
    growth: Growth
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


def measure_intensities(image, miller, curvature, places, noise, profile, parameters):
    """Intensities at points with Miller indices (n, 2), fractional between the spots, at their Places.

    curvature (n, 3): of the background, counts/px^2.
    """
    made = (places, noise, profile, parameters)
    parts = [_measure(image, miller[rows], curvature[rows], *made) for rows in chunks(len(miller), CHUNK)]
    return Intensities.joined(parts)


def _measure(image, miller, curvature, places, noise, profile, parameters):
    calculated = places.lattice.position(miller)
    expected, variance = places.at(miller)
    cut_out = cut(image, nearest_pixels(calculated), parameters.half)
    boxes = cut_out.bent(curvature).flat()
    near = neighbours(boxes.half, miller, boxes.centre, places, profile)
    shape = spread_out(profile.shape_at(expected), variance)
    fits = fit_profiles(boxes.without(spikes(boxes, noise)), noise, expected - boxes.centre, shape, near)
    sizes = {"box_size": parameters.box_size, "rim_size": parameters.background_rim_size}
    growth = grow(fits, near, noise, steps=parameters.box_grow_amount, **sizes)
    broadening = np.einsum("np,np->n", fits.forms[:, 0], fits.broadening)
    uncertain = (profile.uncertainty_at(expected) * np.maximum(fits.volume, 0)) ** 2
    drawn = gaussian.unit_volume(boxes.half, calculated - boxes.centre, profile.shape_at(calculated))
    return Intensities(
        volume=fits.volume,
        volume_variance=fits.variances(fits.forms[:, 0]) + uncertain * broadening**2,
        broadening=broadening,
        uncertain=uncertain,
        growth=growth.uncertain(uncertain),
        flag=_flags(fits, shape, noise, near),
        rejected=_rejected(boxes, drawn, growth, parameters.box_size),
        raw=_picture(cut_out.values, cut_out.usable),
        flat=_picture(boxes.values - fits.slope, boxes.usable),
        residual=_picture(fits.residual, fits.boxes.usable),
    )


def _flags(fits, shape, noise, near):
    """FLAG (n,): pixels, neighbours, and boxes in which more is than spots and a plane."""
    chi2, pixels = fits.reduced_chi2, np.count_nonzero(fits.boxes.usable, axis=1)
    odd = chi2 - 1 > UNEXPLAINED * np.sqrt(2 / np.maximum(pixels, 1))
    background = noise.variance(fits.unknowns[:, 1])
    odd &= misfits(chi2, background, fits.volume / gaussian.area(shape))
    return pixel_flags(fits.boxes) | np.where(near.close, flags.OVERLAP, 0) | np.where(odd, flags.POOR_FIT, 0)


def _picture(pixels, usable):
    return np.where(usable, pixels, np.nan).astype(np.float32)


def _rejected(boxes, profile, growth, box_size):
    """Reasons by geometry and detector alone, for spots drawn where the lattice says: nothing looks at an intensity."""
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
