"""Box sums: the growth series of an intensity, every I_N a linear form of the pixels, its variance propagated."""

from dataclasses import dataclass

import numpy as np

from .background import clean
from .boxes import grid
from .gaussian import plane

FEWEST_RIM_PIXELS = 10
LOSS_OF_NO_ACCOUNT = 0.001  # share of the intensity that is not worth the noise of a larger box
STRONG = 20.0  # I/sigma of the spots that choose the size of the box


@dataclass(frozen=True)
class Foreground:
    """What stands in the boxes before summing, pixels (n, side^2).

    slope (n, 2) and its covariance (n, 2, 2): background slope, counts/px; profile: expected share of the spot in a
    pixel; usable: pixels that count; rim_allowed: pixels that may serve as background.
    """

    slope: np.ndarray
    slope_covariance: np.ndarray
    profile: np.ndarray
    usable: np.ndarray
    rim_allowed: np.ndarray


@dataclass(frozen=True)
class Growth:
    """Growth series, (steps, n): intensity, background per pixel at the centre, share of the spot on unusable pixels.

    covariance (steps, steps, n): of the intensities of different steps.
    """

    intensity: np.ndarray
    covariance: np.ndarray
    background: np.ndarray
    missing: np.ndarray

    @property
    def variance(self):
        """Variances of the intensities, (steps, n)."""
        return np.einsum("iin->in", self.covariance)


def squares(half, box_size, step, rim_size):
    """Inner square and rim of growth step N as two bool arrays (side^2,)."""
    dx, dy = grid(half)
    distance = np.maximum(np.abs(dx), np.abs(dy))
    inner = distance <= box_size + step
    return inner, ~inner & (distance <= box_size + step + rim_size)


def grow(boxes, foreground, noise, signal, *, box_size, steps, rim_size):
    """Growth series for N = 0..steps; signal (n,): expected volumes, counts, for the variance of the spot's own pixels.

    I_N = sum_inner (y - slope) - n_inner mean_rim (y - slope), divided by the share of the profile that the usable
    pixels of the inner square see. var(I_N) = sum c^2 var(y) + S^T cov(slope) S with the coefficients c of the pixels
    and S = sum c (dx, dy); pixels share coefficients between steps, hence the covariances.
    """
    slope = plane(boxes.half, np.column_stack([np.zeros(len(boxes)), foreground.slope]))
    flattened = np.where(foreground.usable, boxes.values - slope, 0.0)
    coefficients, background, missing = zip(
        *(
            _linear_form(flattened, foreground, noise, *squares(boxes.half, box_size, step, rim_size))
            for step in range(steps + 1)
        ),
        strict=True,
    )
    background, missing = np.array(background), np.array(missing)
    level = np.where(np.isfinite(background[-1]), background[-1], background[0])
    expected = level[:, None] + slope + np.maximum(signal, 0)[:, None] * foreground.profile
    return _sums(boxes.half, flattened, coefficients, noise.variance(expected), foreground, background, missing)


def _linear_form(flattened, foreground, noise, inner, rim):
    """Coefficients of the pixels in I_N, rim background, and the share of the spot that is missing; NaN without rim."""
    rim_kept = clean(flattened, foreground.usable & foreground.rim_allowed & rim, noise)
    count = np.count_nonzero(rim_kept, axis=1)
    members = foreground.usable & inner
    seen = np.sum(foreground.profile * members, axis=1) / np.sum(foreground.profile * inner, axis=1)
    seen = np.where((count >= FEWEST_RIM_PIXELS) & (seen > 0), seen, np.nan)
    weight = members - np.count_nonzero(members, axis=1)[:, None] * rim_kept / np.maximum(count, 1)[:, None]
    background = np.sum(flattened * rim_kept, axis=1) / np.where(count >= FEWEST_RIM_PIXELS, count, np.nan)
    return weight / seen[:, None], background, 1 - seen


def _sums(half, flattened, coefficients, pixel_variance, foreground, background, missing):
    offsets = np.stack(grid(half), axis=1)
    intensity, levers = [], []
    for weight in coefficients:
        intensity.append(np.sum(weight * flattened, axis=1))
        levers.append(weight @ offsets)

    steps = len(coefficients)
    covariance = np.empty((steps, steps, len(flattened)))
    for i, j in zip(*np.tril_indices(steps), strict=True):
        slope = np.einsum("ni,nij,nj->n", levers[i], foreground.slope_covariance, levers[j])
        covariance[i, j] = np.sum(coefficients[i] * coefficients[j] * pixel_variance, axis=1) + slope
        covariance[j, i] = covariance[i, j]
    return Growth(
        intensity=np.array(intensity),
        covariance=covariance,
        background=background,
        missing=missing,
    )


def choose_step(growth, *, largest):
    """The smallest N beyond which growth adds nothing significant, and the growth curve that says so.

    Decided once for an image from the strong spots, among N = 0..largest: D_N = sum (I_largest - I_N) / sum I_largest
    with its standard deviation; N is the first with D_N below one standard deviation or below LOSS_OF_NO_ACCOUNT.
    Returns N, D (largest + 1,), sigma_D (largest + 1,), number of strong spots. Without strong spots N = 0.
    """
    series, covariance = growth.intensity[: largest + 1], growth.covariance[: largest + 1, : largest + 1]
    last, variance = series[-1], covariance[-1, -1]
    known = np.all(np.isfinite(series), axis=0)
    with np.errstate(invalid="ignore"):
        strong = known & (growth.missing[largest] < 1e-6) & (last > STRONG * np.sqrt(variance))
    number = int(strong.sum())
    if not number:
        nothing = np.full(largest + 1, np.nan)
        return 0, nothing, nothing, 0
    total = last[strong].sum()
    loss = (last[strong] - series[:, strong]).sum(axis=1) / total
    own = np.einsum("iin->in", covariance)[:, strong]
    difference = own + variance[strong] - 2 * covariance[:, -1, strong]
    sigma = np.sqrt(np.maximum(difference, 0).sum(axis=1)) / total
    settled = loss <= np.maximum(sigma, LOSS_OF_NO_ACCOUNT)
    return int(np.argmax(settled)), loss, sigma, number
