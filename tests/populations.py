"""Boxes of spots of the usual kinds for the tests of the fits, with their least-squares fits from starts nearby."""

import numpy as np

from ed2d import gaussfit, gaussian
from ed2d.noise import Noise
from ed2d.spots import fit_free, fit_held
from ed2d.zingers import spikes
from stills import boxes_of, drawn, found_in, many_spots, recorded, shape_of, sigma_of

HALF, BOX_SIZE = 9, 6
ROUND = gaussian.shape_from_covariance(4.0, 0.0, 4.0)  # the start of the first round of an extraction
CASES = {  # volume, background (counts), gain, read noise, widths; I/sigma of the volume
    "dense": (20000, 30, 1, 0, (1.2, 2.2)),  # 130
    "medium": (2000, 30, 1, 0, (1.2, 2.2)),  # 30
    "sparse": (500, 5, 1, 0, (1.2, 2.2)),  # 17
    "camera": (20000, 150, 5, 10, (1.2, 2.2)),  # 49
    "narrow": (400000, 600, 20, 10, (1.0, 1.3)),  # 137
    "broad": (40000, 100, 1, 3, (2.5, 3.2)),  # 140
    "bright": (1000000, 10, 1, 3, (1.5, 3.0)),  # 995
}


def population(case, n, *, seed):
    """Spots (n, 9), boxes, right weights and starts a few tenths of a pixel off, of n random spots of a case."""
    volume, background, gain, read_noise, widths = CASES[case]
    random = np.random.default_rng(seed)
    spots = many_spots(n, random, volume=volume, background=background, widths=widths, slope=0.02)
    expected = drawn(HALF, spots)
    boxes = boxes_of(recorded(expected, random, gain=gain, read_noise=read_noise))
    noise = Noise(gain=gain, read_variance=read_noise**2, offset=0.0)
    start = spots[:, 1:3] + random.normal(0, 0.3, (n, 2)), shape_of(spots)
    return spots, boxes, 1 / noise.variance(expected), start


def measured(case, n, *, seed):
    """Spots, boxes, weights and fits of n random spots of a case."""
    spots, boxes, weights, start = population(case, n, seed=seed)
    return spots, boxes, weights, gaussfit.fit(boxes, weights, *start)


def in_sigmas(first, second):
    """Largest difference (n,) of the nine parameters, in standard deviations of the second."""
    return np.max(np.abs(found_in(first) - found_in(second)) / sigma_of(second), axis=1)


def fitted(boxes, noise, spots, *, round_start=False, exact=False):
    """Held and free fits as extraction makes them, after spikes: held at centres 0.05 px and widths 3 % off.

    round_start: as in its first round, held 0.3 px off and round; exact: held at the true place and shape.
    """
    random = np.random.default_rng(len(spots))
    centre = spots[:, 1:3] + random.normal(0, 0.3 if round_start else 0.05, (len(spots), 2))
    shape = (
        np.tile(ROUND, (len(spots), 1)) if round_start else shape_of(spots) + random.normal(0, 0.03, (len(spots), 3))
    )
    if exact:
        centre, shape = spots[:, 1:3], shape_of(spots)
    boxes = boxes.without(spikes(boxes, noise))
    held = fit_held(boxes, noise, centre, shape)
    return held, fit_free(boxes, noise, held.fits, box_size=BOX_SIZE)
