"""Box sums: the growth series of an intensity, every I_N a linear form of the pixels, its variance propagated."""

from dataclasses import dataclass, replace

import numpy as np

from .background import clean
from .boxes import grid

FEWEST_RIM_PIXELS = 10
SIGNIFICANT = 3.0  # standard deviations of the loss
LOSS_OF_NO_ACCOUNT = 0.003  # share of the intensity that is not worth the noise of a larger box
WIDTH_OVER_DEVIATION = 1.4826  # width of a normal distribution over its median absolute deviation
MEDIAN_OVER_MEAN = 1.2533  # standard deviation of the median over that of the mean of normal variables
STRONG = 20.0  # I/sigma of the spots that choose the size of the box


@dataclass(frozen=True)
class Growth:
    """Growth series, (steps, n): intensity, background per pixel at the centre with its variance, response.

    covariance (steps, steps, n): of the intensities of different steps, from the noise of the pixels; response: share
    of a spot that the sum sees, before it is divided by that; broadening: relative change of the intensity with the
    logarithm of the spot's width; against_plane, its variance: background less the constant of the fitted plane;
    against_profile: variance of the intensity less that of the profile fit, from the noise of the pixels.
    """

    intensity: np.ndarray
    covariance: np.ndarray
    background: np.ndarray
    background_variance: np.ndarray
    against_plane: np.ndarray
    against_plane_variance: np.ndarray
    against_profile: np.ndarray
    response: np.ndarray
    broadening: np.ndarray

    @property
    def variance(self):
        """Variances of the intensities, (steps, n)."""
        return np.einsum("iin->in", self.covariance)

    @staticmethod
    def joined(parts):
        """One from several."""
        return Growth(*(np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in vars(parts[0])))

    def uncertain(self, variance):
        """The series where the logarithms of the widths times the intensities have the given variance (n,)."""
        shared = self.broadening[:, None] * self.broadening * variance
        return replace(self, covariance=self.covariance + shared)


def squares(half, box_size, step, rim_size):
    """Inner square and rim of growth step N as two bool arrays (side^2,)."""
    dx, dy = grid(half)
    distance = np.maximum(np.abs(dx), np.abs(dy))
    inner = distance <= box_size + step
    return inner, ~inner & (distance <= box_size + step + rim_size)


def grow(fits, neighbours, noise, *, box_size, steps, rim_size):
    """Growth series for N = 0..steps of ProfileFits (n) and their Neighbours.

    I_N = sum_p c_p y_p / sum_p c_p g_p, with g the spot's profile of volume 1. c is 1 on the inner square, less the
    mean of the rim, less the slope and the neighbours' volumes of the fit, which are linear forms of the pixels
    themselves: so slope and neighbours leave c exactly, and var(I_N) = sum c_p^2 var(y_p) has all covariances in it.
    The denominator gives back what lies outside of the square, in the rim, and on pixels that are not usable.
    """
    half, values = fits.boxes.half, fits.boxes.values
    innermost, _ = squares(half, box_size, 0, rim_size)
    seen = ~(fits.boxes.outside | fits.boxes.ignored | fits.boxes.saturated)
    possible = seen & neighbours.clear & ~innermost
    background = clean(values - fits.surroundings, possible & fits.boxes.usable, noise)
    series = []
    for step in range(steps + 1):
        inner, rim = squares(half, box_size, step, rim_size)
        enough, known = (np.count_nonzero(some & rim, axis=1) >= FEWEST_RIM_PIXELS for some in (possible, seen))
        series.append(_linear_forms(fits, inner, background & rim, enough, known))
    forms, levels, differences, responses = (np.array(part) for part in zip(*series, strict=True))
    return Growth(
        intensity=np.einsum("snp,np->sn", forms, values),
        covariance=fits.covariances(forms),
        background=np.einsum("snp,np->sn", levels, values),
        background_variance=fits.variances(levels),
        against_plane=np.einsum("snp,np->sn", differences, values),
        against_plane_variance=fits.variances(differences),
        against_profile=fits.variances(forms - fits.forms[:, 0]),
        response=responses,
        broadening=np.einsum("snp,np->sn", forms, fits.broadening),
    )


def _linear_forms(fits, inner, rim, enough, known):
    """Coefficients (n, side^2) of the pixels in I_N, in the background per pixel and in this less the plane's constant.

    And the response (n,). rim (n, side^2): pixels of the background. Where they are not enough (n,) because neighbours
    cover what the image has of the rim (known, (n,)), the constant of the fitted plane takes the place of their mean,
    and there is no difference; where the image has too little of it, NaN.
    """
    members, constant, enough = fits.boxes.usable & inner, fits.forms[:, 1], enough[:, None]
    count = np.count_nonzero(rim, axis=1)[:, None]
    mean = np.where(count > 0, rim / np.maximum(count, 1), constant)
    level = np.where(enough, mean, np.where(known[:, None], constant, np.nan))
    level = _without(level, fits, [0, *fits.others])
    form = _without(members - np.count_nonzero(members, axis=1)[:, None] * level, fits, fits.others)
    response = np.einsum("np,np->n", form, fits.profiles[:, 0])
    difference = np.where(enough, level - constant, np.nan)
    return form / np.where(response > 0, response, np.nan)[:, None], level, difference, response


def _without(form, fits, unknowns):
    """Linear forms (n, side^2) less what some unknowns of the fit put into them."""
    inside = np.einsum("np,nkp->nk", form, fits.profiles[:, unknowns])
    return form - np.einsum("nk,nkp->np", inside, fits.forms[:, unknowns])


def choose_step(growth, usable):
    """The smallest N beyond which growth adds nothing significant, and the growth curve that says so.

    Decided once for an image from the strong spots among the usable ones (n,), N = 0..largest. D_N is the median of
    their relative losses (I_largest - I_N) / I_largest, which a few spots on odd backgrounds do not move; its standard
    deviation is that of the median of as many normal variables with the width of the losses, or with their expected
    width if this is larger. N is the first with |D_N| below SIGNIFICANT standard deviations or LOSS_OF_NO_ACCOUNT.
    Returns N, D (steps,), sigma_D (steps,), number of strong spots. Without these N = 0.
    """
    series, covariance = growth.intensity, growth.covariance
    known = usable & np.all(np.isfinite(series), axis=0)
    strong = np.flatnonzero(known)[series[-1, known] > STRONG * np.sqrt(covariance[-1, -1, known])]
    if not len(strong):
        nothing = np.full(len(series), np.nan)
        return 0, nothing, nothing, 0
    last, covariance = series[-1, strong], covariance[:, :, strong]
    losses = 1 - series[:, strong] / last
    loss = np.median(losses, axis=1)
    variance = np.einsum("iin->in", covariance) + covariance[-1, -1] - 2 * covariance[:, -1]
    expected = np.median(np.sqrt(np.maximum(variance, 0)) / last, axis=1)
    width = WIDTH_OVER_DEVIATION * np.median(np.abs(losses - loss[:, None]), axis=1)
    sigma = MEDIAN_OVER_MEAN * np.maximum(width, expected) / len(strong) ** 0.5
    settled = np.abs(loss) <= np.maximum(SIGNIFICANT * sigma, LOSS_OF_NO_ACCOUNT)
    return int(np.argmax(settled)), loss, sigma, len(strong)
