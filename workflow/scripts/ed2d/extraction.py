"""Extraction: predict, fit, refine outward to the fixed point, and hold the shape of what is too weak to fit freely."""

from dataclasses import dataclass, replace

import numpy as np

from . import flags, gain, gaussian, profile
from .boxes import away_from_neighbours, cut, nearest_pixels
from .lattice import Lattice, predict
from .noise import Noise
from .refine import Refined, refine
from .spots import Spots, fit_free, fit_held
from .table import empty_table, extract_dtype

WEAKEST_FREE_FIT = 6.0  # volume over its standard deviation at which centre and shape are determined
FIRST_POINTS = 60  # lattice points inside the first circle of the refinement
WIDE = 2.0  # times BoxSize, the reach of the boxes in the first circle, where the origin is found ...
LARGEST_REACH = 0.4  # ... in units of the distance to the neighbours
GROWTH = 1.5  # of the radius from one circle to the next
MOST_ROUNDS = 8
MOST_NOISE_MODELS = 3
CLEARANCE = 0.35  # of the spacing, the largest half-size of the squares round the spots that are no background
LEAST_SHARE = 0.5  # of the clear spots in the boxes that lie on the lattice; chance puts up to 0.4 there
FEWEST_WEAK = 10
LARGEST_RMS = 0.35  # of BoxSize, distance of the spots from the refined lattice; chance leaves half of BoxSize and more
LARGEST_MISFIT = 0.25  # rms of what noise does not explain, in units of the peak
EXPLAINED = flags.EXCLUDING & ~flags.NOT_FITTED  # what a free fit says of itself; WEAK explains all the others
HELD = flags.NOT_CONVERGED | flags.WEAK | flags.WIDTH | flags.CENTRE | flags.OUTLIER


class NotRefinable(ValueError):
    """The fitted centres do not lead to a lattice; the text says why."""


@dataclass(frozen=True)
class Extraction:
    """What extract measured: miller (n, 2), box centres (n, 2), fits and FLAG, and what they were made with."""

    miller: np.ndarray
    centre: np.ndarray
    spots: Spots
    refined: Refined
    noise: Noise
    profile: profile.Profile

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
        table["VARXOBS"], table["VARYOBS"] = np.where(fits.held[:, None], np.nan, _variance(self.spots)).T
        table["A"], (table["C"], table["PX"], table["PY"]) = fits.amplitude, fits.plane.T
        table["BX"], table["BY"], table["W"] = gaussian.widths(fits.shape)
        table["RCHI2"], table["FLAG"] = fits.reduced_chi2, self.spots.flag
        return table


def extract_image(image, lattice, parameters):
    """Fit every predicted point of `image` and refine `lattice` from the well-behaved fits.

    The result depends on the start only through the pixels that the boxes are centred on: at the fixed point these no
    longer change, and neither does anything else but the last bits of the fits. Raises NotRefinable, UnknownGain.
    """
    measured = _grow(image, lattice, noise_of(image, lattice, parameters), parameters)
    noise = noise_of(image, measured.lattice, parameters)
    for _ in range(MOST_NOISE_MODELS):
        measured = _settle(image, measured, noise, parameters)
        noise = noise_of(image, measured.lattice, parameters)
        if noise == measured.noise:
            break
    _check(measured, parameters.box_size)
    return _hold(image, measured, parameters)


def _settle(image, measured, noise, parameters):
    """Fit and refine in turns until the boxes stay where they are."""
    for _ in range(MOST_ROUNDS):
        before = measured
        measured = _measure(image, before.lattice, noise, parameters, np.inf, previous=before)
        if before.noise == noise and np.array_equal(measured.centre, before.centre):
            break
    return measured


def _grow(image, lattice, noise, parameters):
    """Refine within growing circles, so that a start which is wrong far outside still converges."""
    radius = np.sqrt(FIRST_POINTS / np.pi * abs(np.linalg.det(lattice.basis)))
    reach = float(np.hypot(*image.shape))
    wide = max(parameters.box_size, int(min(WIDE * parameters.box_size, LARGEST_REACH * lattice.square_spacing)))
    wide = replace(parameters, box_size=wide)
    lattice = _measure(image, lattice, noise, wide, radius, previous=None, tolerant=True).lattice
    measured = None
    while radius < reach:
        measured = _measure(image, lattice, noise, parameters, radius, previous=measured, tolerant=True)
        lattice = measured.lattice
        radius *= GROWTH
    return _measure(image, lattice, noise, parameters, np.inf, previous=measured, tolerant=True)


def _measure(image, lattice, noise, parameters, radius, *, previous, tolerant=False):
    """Free fits of all points within `radius` of the origin and the lattice refined from them."""
    everything = _predicted(image, lattice, parameters)
    positions = lattice.position(everything)
    near = np.linalg.norm(positions - lattice.origin, axis=1) <= radius
    miller, centre = everything[near], nearest_pixels(positions[near])
    spots = _fit_moved(image, miller, centre, lattice, noise, parameters, previous)
    flag = spots.flag | np.where(spots.fits.significance < WEAKEST_FREE_FIT, flags.WEAK, 0)
    flag |= np.where(_misfit(spots.fits, noise) > LARGEST_MISFIT, flags.POOR_FIT, 0)
    good = flag & flags.EXCLUDING == 0
    try:
        refined = refine(lattice, miller[good], _observed(centre, spots)[good], _variance(spots)[good])
    except ValueError as error:
        if not tolerant:
            raise NotRefinable(str(error)) from error
        refined = Refined(lattice, np.zeros(8), np.nan, np.zeros(good.sum()), np.ones(good.sum(), bool), np.nan)
    flag[np.flatnonzero(good)[~refined.used]] |= flags.OUTLIER
    return Extraction(miller, centre, replace(spots, flag=flag), refined, noise, None)


def _predicted(image, lattice, parameters):
    miller = predict(lattice, shape=image.shape, min_radius=parameters.min_radius, max_radius=parameters.max_radius)
    if not len(miller):
        raise NotRefinable("no lattice point lies on the image")
    return miller


def noise_of(image, lattice, parameters):
    """The given noise model, or the one estimated from the background between the spots where Gain is 0."""
    if parameters.gain > 0:
        return Noise(gain=parameters.gain, read_variance=parameters.read_noise**2, offset=parameters.offset)
    return gain.estimate(
        image,
        lattice.position(_predicted(image, lattice, parameters)),
        clearance=min(parameters.box_size, max(1, int(CLEARANCE * lattice.spacing))),
        offset=parameters.offset,
        read_noise=parameters.read_noise,
    )


def own_boxes(image, miller, centre, lattice, parameters):
    """Boxes to fit a spot in: without the pixels that belong to the neighbouring spots."""
    distance = min(parameters.box_size, lattice.spacing / 2)
    boxes = cut(image, centre, parameters.half)
    return boxes.restricted(away_from_neighbours(boxes.half, miller, centre, lattice, distance))


def _fit_moved(image, miller, centre, lattice, noise, parameters, previous):
    """Free fits; those of `previous` are kept where the noise model and the pixel of the box are the same."""
    kept_rows, old_rows = _unmoved(miller, centre, previous, noise)
    fresh = np.setdiff1d(np.arange(len(miller)), kept_rows)
    boxes = own_boxes(image, miller[fresh], centre[fresh], lattice, parameters)
    start_width = max(parameters.box_size / 3, 0.7)
    spots = fit_free(boxes, noise, box_size=parameters.box_size, start_width=start_width)
    if not len(kept_rows):
        return spots
    order = np.argsort(np.concatenate([fresh, kept_rows]), kind="stable")
    old = previous.spots
    pixel_flags = old.flag[old_rows] & ~(flags.WEAK | flags.POOR_FIT | flags.OUTLIER)
    return Spots(
        gaussian.Fits.joined([spots.fits, old.fits[old_rows]])[order],
        np.concatenate([spots.flag, pixel_flags])[order],
    )


def _unmoved(miller, centre, previous, noise):
    """Rows of `miller` and of the previous measurement that share index and box."""
    if previous is None or previous.noise != noise:
        return np.empty(0, int), np.empty(0, int)
    names = ("h", "k", "x", "y")
    new, old = (
        np.column_stack(pair).astype(np.int64).view([(name, np.int64) for name in names]).ravel()
        for pair in ((miller, centre), (previous.miller, previous.centre))
    )
    _, rows, old_rows = np.intersect1d(new, old, assume_unique=True, return_indices=True)
    return rows, old_rows


def _observed(centre, spots):
    return centre + spots.fits.centre


def _variance(spots):
    """Variances (n, 2) of the fitted centre, px^2."""
    return np.einsum("nii->ni", spots.fits.covariance)[:, 4:6]


def _misfit(fits, noise):
    """Rms of the residual beyond the noise of the background, in units of the peak."""
    excess = np.maximum(fits.reduced_chi2 - 1, 0) * noise.variance(fits.plane[:, 0])
    return np.sqrt(excess) / np.maximum(np.abs(fits.amplitude), 1e-300)


def _check(measured, box_size):
    refined = measured.refined
    share = np.mean(refined.used)
    if share < 0.5:
        raise NotRefinable(f"only {refined.used.sum()} of {len(refined.used)} fitted spots lie on one lattice")
    clear = measured.spots.flag & flags.EXCLUDING & ~(flags.CENTRE | flags.OUTLIER) == 0
    if measured.used.sum() < LEAST_SHARE * clear.sum():
        raise NotRefinable(f"only {measured.used.sum()} of {clear.sum()} clear spots lie on the lattice")
    if refined.rms > LARGEST_RMS * box_size:
        raise NotRefinable(f"the spots stay {refined.rms:.1f} px (rms) away from the refined lattice")


def _hold(image, measured, parameters):
    """Replace the fits that a free fit cannot determine by fits with the centre and shape of the neighbourhood."""
    lattice, used = measured.lattice, measured.used
    learned = profile.learn(
        _observed(measured.centre, measured.spots)[used],
        measured.spots.fits.shape[used],
        measured.spots.fits.significance[used],
        origin=lattice.origin,
        image_shape=image.shape,
        box_size=parameters.box_size,
    )
    rows = np.flatnonzero(measured.spots.flag & HELD)
    positions = lattice.position(measured.miller[rows])
    boxes = own_boxes(image, measured.miller[rows], measured.centre[rows], lattice, parameters)
    held = fit_held(boxes, measured.noise, positions - boxes.centre, learned.shape_at(positions))
    flag = measured.spots.flag.copy()
    flag[rows] = np.where(flag[rows] & flags.WEAK, flags.WEAK, flag[rows] & EXPLAINED) | held.flag
    spots = Spots(measured.spots.fits.replaced(rows, held.fits), flag)
    return replace(measured, spots=spots, profile=learned)
