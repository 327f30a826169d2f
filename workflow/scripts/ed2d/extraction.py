"""Extraction: predict, fit with held shape, fit the clear spots freely, and refine to the fixed point."""

from dataclasses import dataclass, replace

import numpy as np

from . import flags, gain, gaussfit, gaussian, profile
from .growth import grow
from .lattice import Lattice, predict
from .measurement import measure, measure_again
from .noise import Noise
from .peaks import look
from .refine import Refined, refine
from .residuals import under_spots
from .spots import Spots, misfits, with_smooth_errors
from .table import empty_table, extract_dtype
from .zingers import zingers

MOST_ROUNDS = 8
MOST_NOISE_MODELS = 3
LARGEST_GAIN_ERROR = 0.03  # of the gain; beyond it the pixels under the spots are asked too
TELLING = 15.0  # volume over its standard deviation of the spots that are asked
CLEARANCE = 0.35  # of the spacing, the largest half-size of the squares round the spots that are no background
FEWEST_WEAK = 10
LARGEST_RMS = 0.35  # of BoxSize, distance of the spots from the refined lattice; chance leaves half of BoxSize and more
LEAST_SHARE = 0.5  # of the clear peaks in the cells that are within LARGEST_RMS of the lattice points
LEAST_CLEAR = 0.4  # of the fitted points; a wrong lattice shares a quarter of its points with the right one, or fewer
CLEAR_PEAK = 9.0  # significance of these
FEWEST_CELLS, MOST_PIXELS = 40, 250_000  # that are looked at for them
REPLACED = flags.NOT_CONVERGED | flags.WIDTH | flags.CENTRE | flags.OUTLIER  # free fits that give way to held ones


class NotRefinable(ValueError):
    """The fitted centres do not lead to a lattice; the text says why."""


@dataclass(frozen=True)
class Extraction:
    """What extract measured: miller (n, 2), box centres (n, 2), fits and FLAG, and what they were made with.

    settled: nothing was left to measure anew; peaks_on_lattice: share of the clear peaks of the image that lie on it.
    """

    miller: np.ndarray
    centre: np.ndarray
    spots: Spots
    refined: Refined
    noise: Noise
    profile: profile.Profile
    settled: bool = True
    peaks_on_lattice: float = np.nan

    @property
    def lattice(self) -> Lattice:
        return self.refined.lattice

    @property
    def used(self):
        """True for the points that refined the lattice, (n,)."""
        return self.spots.flag & flags.EXCLUDING == 0

    @property
    def background_rchi2(self):
        """Median reduced chi-square of the weak spots' fits: 1 for a right noise model; NaN for fewer than ten."""
        weak = self.spots.fits.reduced_chi2[self.spots.flag & (flags.WEAK | flags.NOT_FITTED) == flags.WEAK]
        return float(np.median(weak)) if len(weak) >= FEWEST_WEAK else np.nan

    def table(self):
        """The rows of `_ext.mtz`, one for every predicted point."""
        table = empty_table(extract_dtype(), len(self.miller))
        fits = self.spots.fits
        table["H"], table["K"] = self.miller.T
        table["XDET"], table["YDET"] = self.lattice.position(self.miller).T
        table["I"], table["VARI"] = fits.volume, fits.volume_variance
        table["XOBS"], table["YOBS"] = (self.centre + fits.centre).T
        table["VARXOBS"], table["VARYOBS"] = np.where(fits.held[:, None], np.nan, _variance(fits)).T
        table["A"], (table["C"], table["PX"], table["PY"]) = fits.amplitude, fits.plane.T
        table["BX"], table["BY"], table["W"] = gaussian.widths(fits.shape)
        table["RCHI2"], table["FLAG"] = fits.reduced_chi2, self.spots.flag
        return table


def extract_image(image, lattice, parameters):
    """Fit every predicted point of `image` and refine `lattice` from the well-behaved fits.

    At the end no box moves to another pixel. Another start on the way to the same boxes moves calculated positions by
    thousandths of a pixel at most, and volumes by small parts of their standard deviations. Raises NotRefinable,
    UnknownGain.
    """
    lattice = grow(image, lattice, noise_of(image, lattice, parameters), parameters)
    noise = noise_of(image, lattice, parameters)
    for _ in range(MOST_NOISE_MODELS):
        extraction, measured = _settle(image, lattice, noise, parameters)
        lattice, noise = extraction.lattice, noise_of(image, extraction.lattice, parameters, measured, extraction.used)
        if noise.agrees(extraction.noise):
            break
    return _checked(image, _with_errors(extraction, measured), parameters)


def _settle(image, lattice, noise, parameters):
    """Fit and refine in turns until nothing has to be measured anew: Extraction and Measurement."""
    default = profile.default(lattice.origin, image.shape, parameters.expected_width, parameters.half)
    measured = measure(image, _predicted(image, lattice, parameters), lattice, default, noise, parameters)
    extraction = _refined(measured, lattice, default)
    measured = measured.bent(lattice)
    for _ in range(MOST_ROUNDS):
        lattice, learned = extraction.lattice, extraction.profile
        miller = _predicted(image, lattice, parameters)
        measured = measure_again(measured.apart(lattice, learned), image, miller, lattice, learned, parameters)
        if not measured.fresh:
            break
        extraction = _refined(measured, lattice, default)
    return replace(extraction, settled=not measured.fresh), measured


def _refined(measured, lattice, default):
    """Lattice and profile anew from the good free fits, and the better fit of every point."""
    held, free, clear = measured.held, measured.free, measured.clear
    flag = np.where(clear, free.flag, held.flag | np.where(held.flag & flags.NOT_FITTED, 0, flags.WEAK))
    background = measured.noise.variance(free.fits.plane[:, 0])
    flag |= np.where(clear & misfits(free.fits.reduced_chi2, background, free.fits.amplitude), flags.POOR_FIT, 0)
    good = np.flatnonzero(flag & flags.EXCLUDING == 0)
    observed = measured.boxes.centre[good] + free.fits.centre[good]
    try:
        refined = refine(lattice, measured.miller[good], observed, _variance(free.fits[good]))
    except ValueError as error:
        raise NotRefinable(str(error)) from error
    flag[good[~refined.used]] |= flags.OUTLIER
    used = good[refined.used]
    learned = profile.learn(observed[refined.used], free.fits[used], held.fits.significance[used], default=default)
    better = np.flatnonzero(clear & (flag & REPLACED == 0))
    spots = Spots(held.fits.replaced(better, free.fits[better]), flag)
    learned = replace(learned, straying=refined.scatter)
    return Extraction(measured.miller, measured.boxes.centre, spots, refined, measured.noise, learned)


def _with_errors(extraction, measured):
    """The extraction with the errors of free fits at their shapes shrunk towards the learned ones.

    The error of a shape is 1/significance of the held fit.
    """
    learned, noise, spots = extraction.profile, extraction.noise, extraction.spots
    if not learned.spots:
        return extraction
    smooth = learned.shape_at(measured.positions)
    spread = learned.uncertainty_at(measured.positions) * measured.held.fits.significance
    fits = with_smooth_errors(measured.boxes, noise, spots.fits, smooth, spread)
    return replace(extraction, spots=replace(spots, fits=fits))


def noise_of(image, lattice, parameters, measured=None, used=None):
    """The given noise model or, where Gain is 0, the estimated one.

    The background between the spots tells it best; where it is too even, the pixels under the good free fits (`used`,
    bool (n,)) of a Measurement do. Without one, all pixels are then taken to be as noisy as the background.
    """
    if parameters.gain > 0:
        return Noise(gain=parameters.gain, read_variance=parameters.read_noise**2, offset=parameters.offset)
    where = {
        "positions": lattice.position(_predicted(image, lattice, parameters)),
        "clearance": min(parameters.box_size, max(1, int(CLEARANCE * lattice.spacing))),
        "offset": parameters.offset,
    }
    try:
        noise = gain.estimate(image, **where, read_noise=parameters.read_noise)
    except gain.UnknownGain:
        noise = None
    if noise and (noise.correlation > 1 or noise.gain_error < LARGEST_GAIN_ERROR * noise.gain):
        return noise  # correlated residuals under spots tell nothing
    if measured is None:
        return gain.even_noise(image, **where)
    evidence = _under_spots(measured, used)
    return gain.estimate(image, **where, read_noise=parameters.read_noise, under_spots=evidence)


def _under_spots(measured, used):
    """Evidence of the residuals under spots, of fits with equal weights; None without clear spots."""
    rows = np.flatnonzero(used & (measured.held.fits.significance > TELLING))
    if not len(rows):
        return None
    boxes, fits = measured.boxes[rows].flat(), measured.free.fits[rows]
    boxes = boxes.without(zingers(boxes, measured.noise, *gaussian.parts(boxes.half, fits)))
    fits = gaussfit.fit(boxes, boxes.usable.astype(float), fits.centre, fits.shape)
    return under_spots(boxes, fits)


def _predicted(image, lattice, parameters):
    miller = predict(lattice, shape=image.shape, **parameters.radii)
    if not len(miller):
        raise NotRefinable("no lattice point lies on the image")
    return miller


def _variance(fits):
    """Variances (n, 2) of the fitted centre, px^2."""
    return np.einsum("nii->ni", fits.covariance)[:, 4:6]


def _checked(image, extraction, parameters):
    """The extraction with its share of peaks; NotRefinable where the lattice is not that of the spots.

    A second crystal, satellites and ice have peaks off the lattice too. So many may, where spots stand clear at
    LEAST_CLEAR of all points: a wrong lattice has few.
    """
    refined, limit = extraction.refined, LARGEST_RMS * parameters.box_size
    if np.mean(refined.used) < 0.5:
        raise NotRefinable(f"only {refined.used.sum()} of {len(refined.used)} fitted spots lie on one lattice")
    if refined.rms > limit:
        raise NotRefinable(f"the spots stay {refined.rms:.1f} px (rms) away from the refined lattice")
    near, clear = _on_lattice(image, extraction, limit, parameters)
    fitted = np.count_nonzero(extraction.spots.flag & flags.NOT_FITTED == 0)
    if near < LEAST_SHARE * clear and extraction.used.sum() < LEAST_CLEAR * fitted:
        raise NotRefinable(f"only {near} of {clear} clear peaks lie on the lattice")
    return replace(extraction, peaks_on_lattice=near / max(clear, 1))


def _on_lattice(image, extraction, limit, parameters):
    """How many of the clearest peaks in the cells round lattice points are within `limit` px of these, and of how many.

    The whole cell counts: a wrong lattice may share some points with the right one and have no spot near the others.
    """
    reach = max(1, int(extraction.lattice.square_spacing / 2))
    number = max(FEWEST_CELLS, int(MOST_PIXELS / (2 * reach + 1) ** 2))
    some = extraction.miller[:: 1 + len(extraction.miller) // number]
    calculated = extraction.lattice.position(some)
    peaks = look(image, calculated, extraction.noise, reach=reach, width=parameters.expected_width)
    clear = peaks.significance > CLEAR_PEAK
    near = clear & (np.linalg.norm(peaks.observed - calculated, axis=1) < limit)
    return int(near.sum()), int(clear.sum())
