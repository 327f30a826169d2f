"""Friedel pairs: R_Friedel, the scatter of their differences, and the errors that it suggests."""

from dataclasses import dataclass

import numpy as np

MOST_BINS = 5
FEWEST_IN_BIN = 10  # pairs
FEWEST_PAIRS = 15  # of an error model
TUKEY = 4.5  # distance, in standard deviations, at which the biweight of a pair becomes zero
WEIGHTED_VARIANCE = 0.814793  # of a normal variable under the biweight, in units of its variance
WEIGHTED_COVARIANCE = 2.090457  # of a variance, relative, in units of the inverse sum of the biweights
CHI2_MEDIAN = 0.454936  # of one degree of freedom
PRIOR = 1.5  # standard deviation of ln alpha and of beta before any pair is seen; K is then within a factor of 2.1
STARTS = (0.0, 0.01, 0.1)  # g
LARGEST_BETA = 2.0  # of var(d) / mean^2 without noise; at 4 one of the mates is 0
SMALLEST = 1e-9  # expected d^2 / (var_1 + var_2), where most mates are equal
LONGEST_STEP = 1.5  # of ln alpha and beta
CONVERGED = 1e-9  # standard deviations that a parameter still moves
MOST_STEPS = 100
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


@dataclass(frozen=True)
class ErrorModel:
    """sigma'^2 = K^2 (sigma^2 + (g I)^2) with K = sdfac and g = sdadd; NaN where there are too few pairs.

    The error model of Scala and Aimless without SdB (Evans, 2006; Evans & Murshudov, 2013).
    """

    sdfac: float
    sdfac_sigma: float
    sdadd: float
    sdadd_sigma: float
    pairs: int

    @property
    def isa(self):
        """I/sigma of a reflection without noise, 1 / (K g) (Diederichs, 2010); known also where K and g are not."""
        limit = self.sdfac * self.sdadd
        return 1 / limit if limit else float("inf")

    def apply(self, variance, intensity):
        """The variances sigma'^2 of intensities whose variances are `variance`; those below 0 count as 0.

        `intensity` should be a mean over equivalents: with the measured ones, those that are low by chance get the
        smaller errors, and weighted means of strong intensities come out too low, by 2 (K g)^2 of their value.
        """
        return self.sdfac**2 * (variance + (self.sdadd * np.maximum(intensity, 0)) ** 2)


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


def whole(pairs):
    """Agreement of all pairs; low and high are their significance; NaN for what too few do not tell."""
    found = agreement(pairs, pairs.significance, most_bins=1)
    unknown = float("nan")
    return found[0] if found else Agreement(unknown, unknown, len(pairs), _r_friedel(pairs.intensity), unknown, unknown)


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


def error_model(pairs):
    """The ErrorModel under which the differences d of the pairs are most likely; NaN with fewer than FEWEST_PAIRS.

    var(d) = K^2 (var_1 + var_2) + 2 (K g)^2 I^2, with Tukey's biweight of d^2 / var(d). I^2 is the square of the mean
    less its variance, var(d) / 4, so var(d) = alpha (var_1 + var_2) + beta mean^2 with (K g)^2 = 2 beta / (4 - beta)
    and K^2 = alpha (1 + (K g)^2 / 2). The errors of the mean and of d are independent; those of a single intensity and
    of d are not, and g would come out wrong. Weak pairs alone do not tell g, nor strong ones K (only K g): the standard
    deviations are large then, that of K as large as PRIOR lets it be.
    """
    if len(pairs) < FEWEST_PAIRS:
        return ErrorModel(*(float("nan"),) * 4, len(pairs))
    expected = pairs.variance.sum(axis=1)
    (log_alpha, beta), covariance = _components(pairs.difference**2 / expected, pairs.mean**2 / expected)
    alpha = np.exp(log_alpha)
    limit2, slope = 2 * beta / (4 - beta), 8 / (4 - beta) ** 2  # (K g)^2 and its derivative by beta
    sdfac2 = alpha * (1 + limit2 / 2)
    sdadd2 = limit2 / sdfac2
    of_log_sdfac = np.array([1 / 2, slope / (4 + 2 * limit2)])  # derivatives by ln alpha and beta
    of_sdadd2 = np.array([-sdadd2, slope * alpha / sdfac2**2])
    sdfac, sdadd = float(np.sqrt(sdfac2)), float(np.sqrt(sdadd2))
    return ErrorModel(
        sdfac=sdfac,
        sdfac_sigma=sdfac * float(np.sqrt(of_log_sdfac @ covariance @ of_log_sdfac)),
        sdadd=sdadd,
        sdadd_sigma=float(np.sqrt(sdadd2 + np.sqrt(of_sdadd2 @ covariance @ of_sdadd2))) - sdadd,  # also where g is 0
        pairs=len(pairs),
    )


def _components(chi2, signal):
    """ln alpha and beta (2,) of <chi2> = alpha + beta signal, chi2 and signal (m,), with their covariance (2, 2).

    Of what is found from several g, that which makes the differences most likely. Beforehand both are 0 +- PRIOR, which
    matters where the pairs do not tell one of them.
    """
    found = [_scored(chi2, signal, start) for start in _starts(chi2, signal)]
    return min(found, key=lambda one: _loss(chi2, signal, one[0]))


def _starts(chi2, signal):
    """ln alpha and beta (2,) for every g of STARTS, with the scale of a median."""
    for ratio in 2 * np.array(STARTS) ** 2:
        alpha = max(np.median(chi2 / (1 + ratio * signal)) / CHI2_MEDIAN, SMALLEST)
        yield np.array([np.log(alpha), min(alpha * ratio, LARGEST_BETA)])


def _loss(chi2, signal, values):
    """-2 ln likelihood, every pair beyond TUKEY counting as one there."""
    expected = np.exp(values[0]) + values[1] * signal
    return np.sum(np.log(expected) + np.minimum(chi2 / expected, TUKEY**2)) + np.sum(values**2) / PRIOR**2


def _scored(chi2, signal, values):
    """Fisher's scoring from `values` for normal differences, whose squares have the variance 2 <chi2>^2."""
    for _ in range(MOST_STEPS):
        alpha, beta = np.exp(values[0]), values[1]
        expected = alpha + beta * signal
        weight = _biweight(chi2, expected) / (WEIGHTED_COVARIANCE * expected**2)
        design = np.stack([np.full(len(chi2), alpha), signal])
        normal = (weight * design) @ design.T + np.eye(2) / PRIOR**2
        gradient = (weight * design) @ (chi2 / WEIGHTED_VARIANCE - expected) - values / PRIOR**2
        step = np.linalg.solve(normal, gradient)
        inside = np.clip(beta + step[1], 0, LARGEST_BETA) - beta
        if inside != step[1]:
            step = np.array([(gradient[0] - normal[0, 1] * inside) / normal[0, 0], inside])
        values = values + np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        if np.max(np.abs(step) * np.sqrt(np.diag(normal))) < CONVERGED:
            break
    return values, np.linalg.inv(normal)
