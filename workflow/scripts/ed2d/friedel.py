"""Friedel pairs and R_Friedel."""

import numpy as np


def friedel_pairs(miller):
    """Row indices (m, 2) of the pairs (h, k), (-h, -k) that are both present, each pair once.

    `miller`: (n, 2) integers, each index at most once. The first of a pair has h > 0, or h = 0 and k > 0;
    pairs are sorted by its h and k. (0, 0) has no mate.
    """
    miller = np.asarray(miller, np.int64).reshape(-1, 2)
    stride = 2 * np.abs(miller).max(initial=0) + 1
    key = miller[:, 0] * stride + miller[:, 1]  # key(-h, -k) = -key(h, k), and key > 0 is the half plane above
    order = np.argsort(key)
    first = order[key[order] > 0]
    place = np.searchsorted(key, -key[first], sorter=order)  # below the key of `first`, so always a valid place
    mate = order[place]
    paired = key[mate] == -key[first]
    return np.column_stack([first[paired], mate[paired]])


def r_friedel(miller, intensity):
    """R_Friedel and the number of pairs it is taken over; NaN without pairs or with a denominator of 0 or less.

    R = sum |I(h,k) - I(-h,-k)| / sum (I(h,k) + I(-h,-k))/2 over the pairs of which both intensities are finite
    (the definition of MRC's PICKAUTO; half of it in the other convention).
    """
    pairs = np.asarray(intensity, float)[friedel_pairs(miller)]
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    denominator = pairs.mean(axis=1).sum() if len(pairs) else 0.0
    if denominator <= 0:
        return float("nan"), len(pairs)
    return float(np.abs(pairs[:, 0] - pairs[:, 1]).sum() / denominator), len(pairs)
