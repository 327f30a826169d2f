"""Friedel pairs: R_Friedel, and the scatter of their differences."""

from dataclasses import dataclass

import numpy as np

MOST_BINS = 5
FEWEST_IN_BIN = 10  # pairs
TUKEY = 4.5  # distance, in standard deviations, at which the biweight of a pair becomes zero
WEIGHTED_VARIANCE = 0.814793  # of a normal variable under the biweight, in units of its variance
WEIGHTED_COVARIANCE = 2.090457  # of a variance, relative, in units of the inverse sum of the biweights
CHI2_MEDIAN = 0.454936  # of one degree of freedom
SMALLEST = 1e-9  # expected d^2 / (var_1 + var_2), where most mates are equal
SETTLING_STEPS = 30  # of a scatter, which comes nearer by a factor of 3 in each


@dataclass(frozen=True)
class Pairs:
    """The m Friedel pairs of which both intensities and variances are known; rows (m, 2): where they stand.

    intensity (m, 2) and variance (m, 2), any units; the variances are above 0.
    """

    rows: np.ndarray
    intensity: np.ndarray
    variance: np.ndarray

    def __len__(self):
        return len(self.rows)

    @property
    def difference(self):
        """I(h,k) - I(-h,-k), (m,)."""
        return self.intensity[:, 0] - self.intensity[:, 1]

    @property
    def mean(self):
        """(I(h,k) + I(-h,-k)) / 2, (m,)."""
        return self.intensity.mean(axis=1)

    @property
    def significance(self):
        """Mean I over rms sigma, (m,). Bins of it are fair: mean and difference have independent errors."""
        return self.mean / np.sqrt(self.variance.mean(axis=1))

    def mean_of(self, values):
        """Mean (m,) over the mates of a quantity (n,) of the reflections, such as their radius."""
        return np.asarray(values, float)[self.rows].mean(axis=1)


@dataclass(frozen=True)
class Agreement:
    """How well the mates of some pairs agree.

    low, high: least and largest value of the quantity that the pairs were chosen by. scatter: width of
    d / sqrt(var_1 + var_2) with d the difference of the mates, 1 where the variances are right; robust (Tukey's
    biweight), with its standard deviation.
    """

    low: float
    high: float
    pairs: int
    r_friedel: float
    scatter: float
    scatter_sigma: float


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
    return _r_friedel(pairs), len(pairs)


def _r_friedel(pairs):
    """R_Friedel of intensities (m, 2)."""
    denominator = pairs.mean(axis=1).sum() if len(pairs) else 0.0
    return float(np.abs(pairs[:, 0] - pairs[:, 1]).sum() / denominator) if denominator > 0 else float("nan")


def measured_pairs(miller, intensity, variance):
    """The pairs among n reflections: miller (n, 2), intensity (n,), variance (n,)."""
    rows = friedel_pairs(miller)
    intensity, variance = (np.asarray(values, float)[rows] for values in (intensity, variance))
    known = np.all(np.isfinite(intensity) & np.isfinite(variance) & (variance > 0), axis=1)
    return Pairs(rows[known], intensity[known], variance[known])


def agreement(pairs, quantity, *, most_bins=MOST_BINS):
    """Agreement of the pairs in bins of a quantity (m,), each of about as many pairs and FEWEST_IN_BIN or more."""
    bins = min(most_bins, len(pairs) // FEWEST_IN_BIN)
    if not bins:
        return ()
    order = np.argsort(quantity, kind="stable")
    return tuple(_agreement(pairs, quantity, rows) for rows in np.array_split(order, bins))


def _agreement(pairs, quantity, rows):
    """Agreement of some of the pairs, by rows that are sorted by the quantity."""
    scatter, sigma = _scatter(pairs.difference[rows] ** 2 / pairs.variance[rows].sum(axis=1))
    return Agreement(
        low=float(quantity[rows[0]]),
        high=float(quantity[rows[-1]]),
        pairs=len(rows),
        r_friedel=_r_friedel(pairs.intensity[rows]),
        scatter=scatter,
        scatter_sigma=sigma,
    )


def _scatter(chi2):
    """Robust root of the mean of chi2 (m,), of one degree of freedom each, and its standard deviation."""
    variance = np.median(chi2) / CHI2_MEDIAN
    for _ in range(SETTLING_STEPS):
        weight = _biweight(chi2, max(variance, SMALLEST))
        variance = np.sum(weight * chi2) / (WEIGHTED_VARIANCE * np.sum(weight))
    scatter = float(np.sqrt(variance))
    return scatter, scatter * float(np.sqrt(WEIGHTED_COVARIANCE / np.sum(weight))) / 2


def _biweight(squares, expected):
    """Tukey's biweight (Beaton & Tukey, 1974) of deviations with these squares and expected squares."""
    return np.clip(1 - squares / (TUKEY**2 * expected), 0, None) ** 2
