"""Controls of an integration by itself: points where nothing can be, backgrounds measured twice, Friedel mates."""

from dataclasses import dataclass

import numpy as np

from .boxes import evenly
from .friedel import Agreement, ErrorModel, agreement, error_model, measured_pairs, whole
from .intensity import measure_intensities
from .pulls import Summary, pulls

MOST_POINTS = 1000
BETWEEN = np.array([[0.5, 0.5], [0.5, 0.0], [0.0, 0.5]])  # lattice points


@dataclass(frozen=True)
class NullControl:
    """Pulls of box sums and of profile fits at points between the lattice points: 0 +- 1 where SIGI and SIGIPR are."""

    box_sum: Summary
    profile_fit: Summary


@dataclass(frozen=True)
class Backgrounds:
    """Pulls of the rim's background against the constant of the fitted plane, and against the intercalated one."""

    plane: Summary
    intercalated: Summary


@dataclass(frozen=True)
class FriedelControl:
    """Agreement of the Friedel mates: of all pairs, in bins of I/sigma and of the radius, px; and the error model."""

    all: Agreement
    by_significance: tuple[Agreement, ...]
    by_radius: tuple[Agreement, ...]
    model: ErrorModel

    @staticmethod
    def of(miller, intensity, variance, radius):
        """Of reflections with Miller indices (n, 2), intensities, variances and radii (n,)."""
        pairs = measured_pairs(miller, intensity, variance)
        return FriedelControl(
            all=whole(pairs),
            by_significance=agreement(pairs, pairs.significance),
            by_radius=agreement(pairs, pairs.mean_of(radius)),
            model=error_model(pairs),
        )


def null_control(image, miller, curvature, places, noise, profile, parameters, step):
    """NullControl between the lattice points miller (n, 2) with the curvature (n, 3) of the background at these.

    Box sums of growth step N = `step`. At most MOST_POINTS, evenly over the image.
    """
    between = (miller[:, None] + BETWEEN).reshape(-1, 2)
    chosen = evenly(len(between), MOST_POINTS)
    found = measure_intensities(
        image, between[chosen], curvature[chosen // len(BETWEEN)], places, noise, profile, parameters
    )
    kept = found.kept
    box_sums = pulls(found.growth.intensity[step], found.growth.variance[step])
    return NullControl(Summary.of(box_sums[kept]), Summary.of(pulls(found.volume, found.volume_variance)[kept]))


def compare_backgrounds(growth, step, intercalated, intercalated_variance):
    """Backgrounds of the points (n,) of a Growth with intercalated backgrounds (n,) and their variances (n,)."""
    difference = growth.background[step] - intercalated
    variance = growth.background_variance[step] + intercalated_variance
    plane = pulls(growth.against_plane[step], growth.against_plane_variance[step])
    return Backgrounds(Summary.of(plane), Summary.of(pulls(difference, variance)))
