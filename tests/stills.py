"""What the numerical tests share: parameters, images and boxes with a known truth, and how pulls are judged."""

from dataclasses import replace

import numpy as np

from ed2d import gaussian
from ed2d.boxes import Boxes, grid
from ed2d.image import Image
from ed2d.parameters import Parameters
from ed2d.placement import Places
from ed2d.simulate import Simulation, simulate

WIDE_SIGMA = 4.0  # standard errors of a statistical statement that a test allows


def parameters(**changes):
    """The defaults of the configuration with the detector given by `changes`."""
    values = {
        "box_size": 6,
        "box_grow_amount": 1,
        "background_rim_size": 2,
        "min_radius": 0.0,
        "max_radius": 0.0,
        "gain": 0.0,
        "read_noise": 0.0,
        "offset": 0.0,
        "saturation": 0.0,
        "mask": (),
        "unit_cell": None,
        "wavelength": None,
        "apply_error_model": False,
    }
    return Parameters(**values | changes)


def on_lattice(lattice, straying=0.0, miller=((0, 0),), moved=0.0):
    """Places on a lattice, of points that stray by that much (px), or `moved` (n, 2) from it at `miller` (n, 2)."""
    miller = np.asarray(miller)
    first = miller.min(axis=0)
    arrays = np.zeros((*(miller.max(axis=0) - first + 1), 2))
    arrays[tuple((miller - first).T)] = moved
    return Places(lattice, straying, first, arrays, np.zeros(arrays.shape[:2]))


def image_of(data, *, ignored=False, saturated=False):
    """An Image of an array (rows, columns); `ignored`, `saturated`: bool, broadcast."""
    data = np.asarray(data)
    bad, full = (np.broadcast_to(np.asarray(array, bool), data.shape).copy() for array in (ignored, saturated))
    return Image(data, bad | ~np.isfinite(data), full)


def boxes_of(values, *, usable=True):
    """Boxes from values (n, side^2), all centred on pixel (0, 0); not usable pixels are ignored ones of value 0."""
    values = np.asarray(values, float)
    half = (round(values.shape[1] ** 0.5) - 1) // 2
    usable = np.broadcast_to(np.asarray(usable, bool), values.shape).copy()
    none = np.zeros_like(usable)
    centre, flat = np.zeros((len(values), 2), np.int64), np.zeros((len(values), 3))
    return Boxes(
        half, centre, np.where(usable, values, 0.0), usable, none, ~usable, none, none, flat, np.zeros((len(values), 1))
    )


def drawn(half, spots):
    """Expected counts (n, side^2) by the formula of the contract.

    spots (n, 9): volume, Ux, Uy, Bx, By, w (degrees), C, Px, Py.
    """
    x, y = grid(half)
    volume, ux, uy, bx, by, w, c, px, py = (column[:, None] for column in np.asarray(spots, float).T)
    cos, sin = np.cos(np.radians(w)), np.sin(np.radians(w))
    u, v = cos * (x - ux) + sin * (y - uy), -sin * (x - ux) + cos * (y - uy)
    height = volume / (2 * np.pi * bx * by)
    return height * np.exp(-((u / bx) ** 2 + (v / by) ** 2) / 2) + c + px * x + py * y


def many_spots(n, random, *, volume, background, widths=(1.2, 2.2), slope=0.0, centre=1.0):
    """Spots (n, 9) of `drawn` with random centres, widths and angles; slope: largest, part of background / px."""
    large = random.uniform(*widths, n)
    small = large * random.uniform(0.6, 1.0, n)
    gradient = background * random.uniform(-slope, slope, (n, 2))
    place = random.uniform(-centre, centre, (n, 2))
    level = np.full((n, 1), float(background))
    shape = [large, small, random.uniform(-90, 90, n)]
    return np.column_stack([np.full(n, float(volume)), place, *shape, level, gradient])


def shape_of(spots):
    """Shapes (n, 3) of spots (n, 9) of `drawn`."""
    return gaussian.shape_from_widths(*np.asarray(spots)[:, 3:6].T)


def theta_of(spots):
    """A, C, Px, Py, x, y, p, r, s of spots (n, 9) of `drawn`."""
    volume, x, y, large, small, _, c, px, py = spots.T
    return np.column_stack([volume / (2 * np.pi * large * small), c, px, py, x, y, shape_of(spots)])


def fits_at(theta):
    """Fits with the nine parameters theta (n, 9) and nothing else."""
    amplitude, plane, centre, shape = theta[:, 0], theta[:, 1:4], theta[:, 4:6], theta[:, 6:]
    return replace(gaussian.Fits.missing(len(theta)), amplitude=amplitude, plane=plane, centre=centre, shape=shape)


def found_in(fits):
    """The nine parameters of the fits in the order of their covariance, (n, 9)."""
    return np.column_stack([fits.amplitude, fits.plane, fits.centre, fits.shape])


def sigma_of(fits):
    """Their standard deviations, (n, 9)."""
    return np.sqrt(np.einsum("nii->ni", fits.covariance))


def tracks(half, n, length, random, reach):
    """Straight tracks (n, side^2) of `length` px, along x or y or a diagonal, that start within `reach` px."""
    dx, dy = grid(half)
    start = random.integers(-reach, reach + 1, (n, 2))
    step = np.array([(1, 0), (0, 1), (1, 1), (1, -1)])[random.integers(0, 4, n)]
    hit = np.zeros((n, (2 * half + 1) ** 2), bool)
    for k in range(length):
        place = start + k * step
        hit |= (dx == place[:, :1]) & (dy == place[:, 1:])
    return hit


def recorded(expected, random, *, gain=1.0, read_noise=0.0, offset=0.0):
    """Counts of a camera that sees `expected` counts above the offset."""
    counts = gain * random.poisson(np.maximum(expected, 0) / gain).astype(float)
    return counts + random.normal(0.0, read_noise, np.shape(expected)) + offset


def still(lattice, *, shape, seed, masked=True, **changes):
    """A simulated still: (Image, truth, Simulation)."""
    simulation = Simulation(shape=shape, lattice=lattice, **changes)
    data, mask, truth = simulate(simulation, seed=seed)
    ignored = (mask == 0) if masked else False
    return image_of(data, ignored=ignored, saturated=data >= simulation.saturation), truth, simulation


def in_order_of(miller, truth):
    """Rows of truth in the order of miller (n, 2), and which of miller have one, (n,)."""
    place = {(int(row["h"]), int(row["k"])): number for number, row in enumerate(truth)}
    rows = np.array([place.get((int(h), int(k)), -1) for h, k in miller])
    return truth[rows], rows >= 0


def assert_pulls(pulls, *, bias=0.0, extra_width=0.0):
    """Mean 0 and width 1 within the statistical error, plus the stated allowances."""
    n = len(pulls)
    assert n > 50 and np.all(np.isfinite(pulls))
    mean, width = np.mean(pulls), np.std(pulls)
    assert abs(mean) < WIDE_SIGMA / np.sqrt(n) + bias, f"mean {mean:.3f} of {n}"
    assert abs(width - 1) < WIDE_SIGMA / np.sqrt(2 * n) + extra_width, f"width {width:.3f} of {n}"
