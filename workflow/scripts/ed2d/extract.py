"""The step extract: image and lattice in, `_ext.mtz` and RefinedLattice out."""

import logging

import numpy as np

from . import __version__, flags
from .emdatainfo import EXTRACTED, group_element, lattice_element, replace_group, starting_lattice
from .errors import InputError
from .extraction import NotRefinable, extract_image
from .friedel import r_friedel
from .gain import UnknownGain
from .gaussian import widths
from .inputs import read_inputs
from .mtz import file_digest, write_mtz
from .refine import NAMES, parameters_of

RIGHT_RCHI2 = (0.7, 1.4)  # of fits where there is little but background
FAR_FROM_VERIFIED = 0.33  # of the spacing
FEW_PEAKS = 0.5  # of the clear ones
LARGE_SCATTER = 0.2  # of the smaller width of the spots
MANY_ZINGERS = 0.2  # of the clear spots

log = logging.getLogger(__name__)


def extract(*, output, **given):
    """Measure one image directory, given as in `read_inputs`; a summary line out; writes `output` and info.xml.

    The reflections are written first and the result group of info.xml last. Repeated with the same values, the
    extraction starts where it started: a job that is broken off at any moment is made again byte for byte. InputError
    for whatever a user can mend.
    """
    inputs = read_inputs("extract", **given)
    info, image = inputs.info.path, given["image"]
    choice = inputs.choice
    verified = choice.lattice
    start, origin = starting_lattice(inputs.info, verified, inputs.digest)
    log.info("measures the %s, starts from the %s", choice.name, origin)
    _check_origin(choice, inputs.image.shape, info)
    inputs.check_boxes(verified)
    try:
        extraction = extract_image(inputs.image, start, inputs.parameters)
    except NotRefinable as error:
        cure = f"check the {choice.name} against the image, and BoxSize"
        raise InputError(info, f"the lattice cannot be refined: {error}", cure) from error
    except UnknownGain as error:
        raise InputError(
            image, f"the gain cannot be estimated: {error}", "give Detector/Gain in counts per electron"
        ) from error
    _check_noise(extraction, inputs)
    _check_lattice(extraction, choice, inputs)
    inputs.check_unchanged()
    write_mtz(output, extraction.table(), inputs.header(extraction.lattice, extraction.noise, extraction.profile))
    made = {"Inputs": inputs.digest, "Reflections": file_digest(output)}
    replace_group(info, EXTRACTED, _results(extraction, verified, start, made))
    return _summary(inputs.name, extraction)


def _check_origin(choice, shape, info):
    """InputError when the origin is further outside of the image than the image is long."""
    rows, columns = shape
    (x, y), reach = choice.lattice.origin, max(shape)
    if not (-reach <= x <= columns + reach and -reach <= y <= rows + reach):
        problem = f"the Offset ({x:g}, {y:g}) of the {choice.name} is far off the image of {columns} x {rows}"
        raise InputError(info, problem, "give the origin of the lattice in px of the image, x = column, y = row")


def _check_noise(extraction, inputs):
    """Warnings where the gain is hardly known, and where the background scatters otherwise than expected."""
    noise, (low, high) = extraction.noise, RIGHT_RCHI2
    if noise.gain_error >= noise.gain:
        said = "%s: the background is too even to tell gain and read noise apart: gain %.3g is used; give Detector/Gain"
        log.warning(said, inputs.info.path, noise.gain)
    rchi2 = extraction.background_rchi2 * noise.correlation
    if not low <= rchi2 <= high and np.isfinite(rchi2):
        said = "%s: the background's variance is %.2g times what Gain, ReadNoise and Offset say; check them"
        log.warning(said, inputs.info.path, rchi2)
    if noise.correlation > 1:
        said = "noise of neighbouring pixels is correlated: sums vary %.2f times as much as single pixels say"
        log.info(said, noise.correlation)


def _check_lattice(extraction, choice, inputs):
    """Warnings where the numbers may be those of a wrong lattice, though they look right."""
    path, refined, spots = inputs.info.path, extraction.refined, extraction.spots
    moved = _moved(extraction, choice.lattice)
    if moved > FAR_FROM_VERIFIED * extraction.lattice.spacing:
        said = "%s: the refined lattice is up to %.1f px away from the %s: look whether it is the right one"
        log.warning(said, path, moved, choice.name)
    if extraction.peaks_on_lattice < FEW_PEAKS:
        said = "%s: only %.0f %% of the clear peaks lie on the lattice: a second crystal, satellites or ice?"
        log.warning(said, path, 100 * extraction.peaks_on_lattice)
    width = np.median(widths(spots.fits.shape[extraction.used])[1])
    if refined.scatter > LARGE_SCATTER * width:
        said = (
            "%s: the spots scatter by %.2f px about the lattice, beyond their errors: more than one crystal, or bent?"
        )
        log.warning(said, path, refined.scatter)
    hit = np.mean(spots.flag[extraction.used] & flags.ZINGER != 0)
    if hit > MANY_ZINGERS:
        said = "%s: pixels of %.0f %% of the clear spots count as zingers; spots narrower than 0.6 px look like these"
        log.warning(said, path, 100 * hit)
    if not extraction.settled:
        log.warning("%s: the fits did not settle; the last digits depend on the start", path)


def _moved(extraction, verified):
    """Largest distance, px, of the spots used from where the lattice that was given puts them."""
    miller = extraction.miller[extraction.used]
    distance = np.linalg.norm(extraction.lattice.position(miller) - verified.position(miller), axis=1)
    return float(np.max(distance, initial=0.0))


def _results(extraction, verified, start, made):
    """The group DiffExtract of info.xml; `made`: digests of the values that it was made with and of the reflections."""
    refined, noise, flag = extraction.refined, extraction.noise, extraction.spots.flag
    value, pairs = _r_friedel(extraction)
    sigmas = {name: float(sigma) for name, sigma in zip(NAMES, refined.sigma, strict=True)}
    element = group_element(
        "DiffExtract",
        {
            "Program": f"ed2d {__version__}",
            **made,
            "Predicted": len(flag),
            "Fitted": int(np.sum(flag & flags.NOT_FITTED == 0)),
            "Used": int(extraction.used.sum()),
            "RmsPosition": refined.rms,
            "Scatter": refined.scatter,
            "Moved": _moved(extraction, verified),
            "PeaksOnLattice": extraction.peaks_on_lattice,
            "PositionSigma": refined.position_sigma(extraction.miller[extraction.used]),
            "BarrelSignificance": float(refined.significance[0]),
            "SpiralSignificance": float(refined.significance[1]),
            "RFriedel": value,
            "FriedelPairs": pairs,
            "Gain": noise.gain,
            "GainSigma": noise.gain_error,
            "GainEstimated": noise.estimated,
            "Correlation": noise.correlation,
            "ReadNoise": noise.read_noise,
            "Offset": noise.offset,
            "ProfileSpots": extraction.profile.spots,
            "ProfileScatter": extraction.profile.scatter,
            "ProfileError": _profile_error(extraction),
            "BackgroundRChi2": extraction.background_rchi2,
            "Flags": {name: int(np.sum(flag & entry.bit != 0)) for name, entry in flags.REGISTRY.items()},
        },
    )
    extra = {"VerifiedDigest": verified.digest(), "StandardDeviations": sigmas}
    element.insert(0, lattice_element("RefinedLattice", refined.lattice, **extra))
    element.insert(1, lattice_element("StartLattice", start, RefinedDigest=refined.lattice.digest()))
    return element


def _profile_error(extraction):
    """Rms relative error of the learned widths at the spots used."""
    positions = extraction.lattice.position(extraction.miller[extraction.used])
    return float(np.sqrt(np.mean(extraction.profile.error_at(positions) ** 2)))


def _r_friedel(extraction):
    volume = np.where(extraction.spots.flag & flags.NOT_FITTED, np.nan, extraction.spots.fits.volume)
    return r_friedel(extraction.miller, volume)


def _summary(name, extraction):
    """One line for people."""
    refined, noise, lattice = extraction.refined, extraction.noise, extraction.lattice
    for label, value, sigma in zip(NAMES, parameters_of(lattice), refined.sigma, strict=True):
        log.info("%s = %.9g +- %.2g", label, value, sigma)
    known = refined.position_sigma(extraction.miller[extraction.used])
    log.info("calculated positions of the spots used are known to %.2g px (rms)", known)
    for label, significance in zip(NAMES[6:], refined.significance, strict=True):
        if np.isfinite(significance):
            log.info("%s alone differs from 0 by %.1f standard deviations", label, significance)
    value, pairs = _r_friedel(extraction)
    gain = f"gain {noise.gain:.3g}" + (f" +- {noise.gain_error:.2g} (estimated)" if noise.estimated else "")
    return (
        f"{name}: extract: {len(extraction.miller)} spots, {extraction.used.sum()} used, rms {refined.rms:.3f} px, "
        f"R_Friedel {value:.3f} ({pairs} pairs), {gain}"
    )
