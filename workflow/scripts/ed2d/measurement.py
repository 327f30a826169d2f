"""Held and free fits at the points of a lattice, kept from one lattice to the next where nothing has changed."""

from dataclasses import dataclass, replace

import numpy as np

from . import gaussian
from .boxes import Boxes, away_from_neighbours, cut, grid, nearest_pixels
from .curvature import curvature
from .neighbours import REACH
from .noise import Noise
from .spots import Spots, fit_free, fit_held
from .zingers import spikes

CLEAR = 9.0  # volume over its standard deviation with held shape; about 6 in a free fit, which then determines all
SAME_PLACE = 0.02  # px; a held fit does not notice it
SAME_SHAPE = 0.02  # of the width; nor this
SAME_PIXELS = 0.2  # standard deviations, root of the summed squares; what a change of the neighbours may do to a box
SAME_VOLUME = 0.03  # standard deviations; what a change of the curvature may do to a volume


@dataclass(frozen=True)
class Measurement:
    """Fits at n points with miller (n, 2); positions (n, 2) and shapes (n, 3) are those that `held` was held at.

    free: the free fits, missing where the held one is not clear; fresh: number of points measured anew, or lost.
    """

    noise: Noise
    miller: np.ndarray
    boxes: Boxes
    positions: np.ndarray
    shapes: np.ndarray
    held: Spots
    free: Spots
    fresh: int

    @property
    def clear(self):
        """True where the spot determines its centre and shape, (n,).

        Decided by the fit with held shape: where that shape is right its volume is the more precise one, and its error
        uncorrelated with what a free fit adds to it (Hausman 1978). So the choice does not bias the volumes of a spot
        that is fitted now one way, now the other.
        """
        return self.held.fits.significance >= CLEAR

    def at(self, miller, centre, image, lattice, parameters):
        """The measurement of other points in boxes round other pixels `centre`: boxes, and no fits, where new.

        The curvature belongs to the point and stays.
        """
        source = _rows_of(np.column_stack([miller, centre]), np.column_stack([self.miller, self.boxes.centre]))
        new = np.flatnonzero(source < 0)
        if np.array_equal(source, np.arange(len(self.miller))):
            return self
        positions, shapes = self.positions[source], self.shapes[source]
        positions[new] = np.nan
        point = _rows_of(miller[new], self.miller)
        known = np.where((point >= 0)[:, None], self.boxes.curvature[point], 0.0)
        boxes = _boxes(image, miller[new], centre[new], lattice, self.noise, parameters.half)
        boxes = self.boxes.replaced(new, boxes.bent(known), source)
        held, free = (part[source].replaced(new, Spots.missing(len(new))) for part in (self.held, self.free))
        return replace(self, miller=miller, boxes=boxes, positions=positions, shapes=shapes, held=held, free=free)

    def bent(self, lattice):
        """The measurement with the curvature that its slopes tell, without the fits that this would change."""
        known = np.isfinite(self.free.fits.amplitude)[:, None]
        slopes = np.where(known, self.free.fits.plane[:, 1:], self.held.fits.plane[:, 1:])
        found = curvature(lattice.reduced_index(self.miller), self.positions, slopes)
        bend = np.abs(found[:, 0] + found[:, 2]) * self.boxes.half * (self.boxes.half + 1) / 6
        volume = 2 * gaussian.area(self.shapes) * bend
        rows = np.flatnonzero(volume > SAME_VOLUME * np.sqrt(self.held.fits.volume_variance))
        bending = np.zeros_like(found)
        bending[rows], stale = found[rows], self.positions.copy()
        stale[rows] = np.nan
        free = self.free.replaced(rows, Spots.missing(len(rows)))
        return replace(self, boxes=self.boxes.bent(bending), positions=stale, free=free)

    def apart(self, lattice, profile):
        """The measurement with what its fits put into the boxes of others, without the fits that this would change.

        Spots that are farther apart than a box and REACH widths do not reach each other.
        """
        positions = lattice.position(self.miller)
        shapes = profile.shape_at(positions)
        if lattice.spacing > self.boxes.half + REACH * np.max(gaussian.widths(shapes)[0]):
            return self
        held, free = self.held.fits, self.free.fits
        volumes = np.maximum(np.nan_to_num(np.where(np.isfinite(free.volume), free.volume, held.volume)), 0)
        own = volumes[:, None] * gaussian.unit_volume(self.boxes.half, positions - self.boxes.centre, shapes)
        found, known = _overlaid(self.boxes, own) - own, np.broadcast_to(self.boxes.surroundings, own.shape).copy()
        pixel = self.noise.variance(held.plane[:, :1])
        rows = np.flatnonzero(np.sum((found - known) ** 2 * self.boxes.usable / pixel, axis=1) > SAME_PIXELS**2)
        known[rows], stale = found[rows], self.positions.copy()
        stale[rows] = np.nan
        free = self.free.replaced(rows, Spots.missing(len(rows)))
        return replace(self, boxes=replace(self.boxes, surroundings=known), positions=stale, free=free)


def _overlaid(boxes, pixels):
    """Sums (n, side^2) over all boxes of their pixels (n, side^2), at the places where they overlap."""
    columns, rows = (boxes.centre[:, [axis]] + offset for axis, offset in enumerate(grid(boxes.half)))
    columns, rows = columns - columns.min(), rows - rows.min()
    canvas = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(canvas, (rows, columns), pixels)
    return canvas[rows, columns]


def _rows_of(wanted, known):
    """The row of `known` (m, columns) that equals each of `wanted` (n, columns), -1 where none does; all integers."""
    kinds = np.dtype([(str(column), np.int64) for column in range(wanted.shape[1])])
    new, old = (np.ascontiguousarray(table, np.int64).view(kinds).ravel() for table in (wanted, known))
    source = np.full(len(wanted), -1)
    _, rows, old_rows = np.intersect1d(new, old, assume_unique=True, return_indices=True)
    source[rows] = old_rows
    return source


def measure(image, miller, lattice, profile, noise, parameters):
    """Measurement of points `miller` (n, 2) on a lattice, with shapes from a profile."""
    positions = lattice.position(miller)
    shapes, centre = profile.shape_at(positions), nearest_pixels(positions)
    boxes = _boxes(image, miller, centre, lattice, noise, parameters.half)
    held, free = fit_held(boxes, noise, positions - centre, shapes), Spots.missing(len(miller))
    return _with_free_fits(Measurement(noise, miller, boxes, positions, shapes, held, free, len(miller)), parameters)


def measure_again(before, image, miller, lattice, profile, parameters):
    """As `measure`, with the noise of the measurement `before`, of which all is kept that would come out alike."""
    positions = lattice.position(miller)
    shapes, centre = profile.shape_at(positions), nearest_pixels(positions)
    now = before.at(miller, centre, image, lattice, parameters)
    stale = ~(_alike(now.positions, positions, SAME_PLACE) & _alike(now.shapes, shapes, SAME_SHAPE))
    rows = np.flatnonzero(stale)
    held = now.held.replaced(rows, fit_held(now.boxes, now.noise, positions - centre, shapes, rows))
    positions, shapes = (
        np.where(stale[:, None], new, old) for new, old in ((positions, now.positions), (shapes, now.shapes))
    )
    fresh = len(rows) + abs(len(miller) - len(before.miller))
    return _with_free_fits(replace(now, positions=positions, shapes=shapes, held=held, fresh=fresh), parameters)


def _with_free_fits(measurement, parameters):
    """The measurement with free fits of those clear points that have none."""
    rows = np.flatnonzero(measurement.clear & np.isnan(measurement.free.fits.amplitude))
    start = measurement.held.fits
    fits = fit_free(measurement.boxes, measurement.noise, start, box_size=parameters.box_size, rows=rows)
    return replace(measurement, free=measurement.free.replaced(rows, fits))


def _alike(old, new, tolerance):
    """True for rows (n,) that differ by less than `tolerance`; rows with NaN are unlike all."""
    return np.max(np.abs(new - old), axis=1) < tolerance


def _boxes(image, miller, centre, lattice, noise, half):
    """The boxes to fit the spots in."""
    return own_boxes(cut(image, centre, half), away_from_neighbours(half, miller, centre, lattice), noise)


def own_boxes(boxes, away, noise):
    """Boxes to fit a spot in: with the pixels `away` (n, side^2) from the neighbouring spots, and without spikes."""
    boxes = boxes.restricted(away)
    return boxes.without(spikes(boxes, noise))
