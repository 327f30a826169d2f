"""The covariance of neighbouring pixels of the background: of electrons that spread, and of interpolated images."""

import numpy as np

LONGEST_LAG = 3  # px
BELIEVED = 2.0  # standard deviations at which there is covariance at a lag
AXES = ((1, 0), (0, 1))  # the lags that tell whether there is any


def ratio_of_neighbours(blocks, weight):
    """`ratio` for the four nearest neighbours alone: a quick test."""
    return ratio(blocks, weight, products(blocks, AXES))


def significant_products(blocks, weight):
    """`products` of all lags within the smallest square beyond which there is no covariance, and their `ratio`."""
    found, value, error = np.zeros((2, len(blocks))), 1.0, 0.0
    for reach in range(1, LONGEST_LAG + 1):
        wider = found + products(blocks, ring(reach))
        wider_value, wider_error = ratio(blocks, weight, wider)
        if reach > 1 and wider_value - value < BELIEVED * np.sqrt(max(wider_error**2 - error**2, 0)):
            break
        found, value, error = wider, wider_value, wider_error
    return found, value


def ring(reach):
    """Lags (dx, dy) on the square of half-size `reach` px, one of every opposite pair."""
    square = [(dx, dy) for dy in range(reach + 1) for dx in range(-reach, reach + 1) if dy > 0 or dx > 0]
    return [lag for lag in square if max(abs(lag[0]), lag[1]) == reach]


def ratio(blocks, weight, found):
    """Autocovariance summed over the lags, with lag 0, over the pixel variance, and its standard deviation.

    blocks: residuals.Blocks; weight (m,): of their variances; found (2, m): of `products`. The sum S that the
    surfaces took up is itself ratio times the pixel variance.
    """
    pixels = blocks.pixels
    power, value = blocks.variance * (pixels - blocks.surface.terms) / pixels, 1.0
    for _ in range(30):
        pixel = power / np.maximum(1 - value * blocks.surface.terms / pixels, 0.2)
        own = np.sum(weight * pixel * (1 - found[1]))
        value, before = np.sum(weight * (pixel + found[0])) / own, value
        if abs(value - before) < 1e-4:
            break
    scatter = pixel + found[0] - value * pixel * (1 - found[1])
    return value, np.sqrt(np.sum((weight * scatter) ** 2)) / own


def products(blocks, lags):
    """Sums over the lags and their opposites of the mean product of residuals, and of the mean projection, (2, m).

    The surface takes S H_ij from the expected product at pixels i and j, where S is the autocovariance summed over
    all lags, which must be short against the surface, and H the projection on it.
    """
    surface, side = blocks.surface, blocks.surface.side
    inverse = np.linalg.inv(surface.normal(blocks.free)).reshape(len(blocks), -1)
    terms = surface.monomials(surface.degree).reshape(side, side, -1)
    squares, free = (array.reshape(-1, side, side) for array in (blocks.residual, blocks.free))
    found = np.zeros((2, len(blocks)))
    for x, y in lags:
        here = (slice(None, side - y), slice(max(-x, 0), side - max(x, 0)))
        there = (slice(y, None), slice(max(x, 0), side + min(x, 0)))
        pairs = (free[:, *here] * free[:, *there]).reshape(len(blocks), -1)
        product = np.einsum("nyx,nyx->n", squares[:, *here], squares[:, *there])
        outer = (terms[here][..., :, None] * terms[there][..., None, :]).reshape(pairs.shape[1], -1)
        projection = np.einsum("nk,nk->n", pairs @ outer, inverse)
        found += 2 * np.stack([product, projection]) / np.maximum(pairs.sum(axis=1), 1)
    return found
