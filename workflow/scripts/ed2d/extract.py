"""The step extract: image and verified lattice in, `_ext.mtz` and RefinedLattice out."""

import logging

import numpy as np

from . import __version__, flags, gaussian
from .emdatainfo import Document, group_element, lattice_element, refined_lattice, replace_group, verified_lattice
from .errors import InputError
from .extraction import NotRefinable, extract_image
from .image import read_image
from .merit import r_friedel
from .mtz import Header, batch_number, write_mtz
from .parameters import describe, effective_parameters
from .refine import NAMES, parameters_of
from .table import empty_table, extract_dtype

log = logging.getLogger(__name__)


def extract(*, name, image, mask, info, project, config, output):
    """Measure one image directory `name`; paths of its files in, a summary line out; writes `output` and info.xml.

    The reflections are written first and the result group of info.xml last: a job that is broken off leaves an
    info.xml from which the next one starts as this one did. InputError for whatever a user can mend.
    """
    document = Document.read(info)
    parameters = effective_parameters(document, Document.read(project), config)
    verified = verified_lattice(document)
    if verified is None:
        raise InputError(info, "has no VerifiedLattice", "add the lattice that was checked by eye")
    start = refined_lattice(document, verified)
    log.info("starts from the %s", "RefinedLattice of an earlier run" if start else "VerifiedLattice")
    for item, value in describe(parameters).items():
        log.info("%s = %s", item, value)
    still = read_image(image, mask_path=mask, shapes=parameters.mask, saturation=parameters.saturation)
    _report_pages(image, still)
    _check_origin(verified, still.shape, info)
    check_boxes(verified, still.shape, parameters, info)
    try:
        extraction = extract_image(still, start or verified, parameters)
    except NotRefinable as error:
        cure = "check the VerifiedLattice against the image, and BoxSize"
        raise InputError(info, f"the lattice cannot be refined: {error}", cure) from error
    table = tabulate(extraction)
    write_mtz(output, table, header(name, "extract", extraction.lattice, extraction.noise, parameters))
    replace_group(info, "DiffProcessingResults/DiffExtract", _results(extraction, verified))
    return _summary(name, extraction)


def _check_origin(lattice, shape, info):
    """InputError when the origin is further outside of the image than the image is long."""
    rows, columns = shape
    (x, y), reach = lattice.origin, max(shape)
    if not (-reach <= x <= columns + reach and -reach <= y <= rows + reach):
        problem = f"the Offset ({x:g}, {y:g}) of the VerifiedLattice is far off the image of {columns} x {rows}"
        raise InputError(info, problem, "give the origin of the lattice in px of the image, x = column, y = row")


def check_boxes(lattice, shape, parameters, info):
    """InputError when the boxes cannot be measured: larger than the image, or a neighbour inside the inner square."""
    side, spacing = 2 * parameters.half + 1, lattice.square_spacing
    if side > min(shape):
        problem = (
            f"boxes of {side} px (BoxSize {parameters.box_size}) do not fit on an image of {shape[1]} x {shape[0]}"
        )
        raise InputError(info, problem, "choose a smaller BoxSize, BoxGrowAmount or BackgroundRimSize")
    if parameters.box_size >= spacing - 1:
        problem = f"BoxSize {parameters.box_size} puts the neighbouring spots, {spacing:.1f} px away, inside the box"
        raise InputError(info, problem, f"choose a BoxSize of at most {max(1, int((spacing - 1) / 2))}")
    if 2 * (parameters.box_size + parameters.box_grow_amount) + 1 > spacing:
        said = "%s: the inner boxes overlap, neighbours are %.1f px away; such points carry the flag OVERLAP"
        log.warning(said, info, spacing)


def header(name, step, lattice, noise, parameters):
    """Header of the MTZ file of one step."""
    cell = parameters.unit_cell
    return Header(
        program=f"ed2d {__version__}",
        step=step,
        image=name,
        batch=batch_number(name),
        lattice=lattice,
        unit_cell=(cell.a, cell.b, cell.gamma, cell.c) if cell else None,
        wavelength=parameters.wavelength,
        noise={
            "gain": noise.gain,
            "gain_error": noise.gain_error,
            "read_variance": noise.read_variance,
            "offset": noise.offset,
            "estimated": int(noise.estimated),
        },
        parameters=describe(parameters),
    )


def tabulate(extraction):
    """The rows of `_ext.mtz`, one for every predicted point."""
    table = empty_table(extract_dtype(), len(extraction.miller))
    fits = extraction.spots.fits
    table["H"], table["K"] = extraction.miller.T
    table["XDET"], table["YDET"] = extraction.lattice.position(extraction.miller).T
    table["I"], table["VARI"] = fits.volume, fits.volume_variance
    table["XOBS"], table["YOBS"] = (extraction.centre + fits.centre).T
    table["A"], table["C"], table["PX"], table["PY"] = fits.amplitude, *fits.plane.T
    table["BX"], table["BY"], table["W"] = gaussian.widths(fits.shape)
    table["RCHI2"], table["FLAG"] = fits.reduced_chi2, extraction.spots.flag
    free = np.where(fits.held, np.nan, 1.0)
    table["VARXOBS"], table["VARYOBS"] = (np.einsum("nii->ni", fits.covariance)[:, 4:6] * free[:, None]).T
    unfitted = table["FLAG"] & flags.NOT_FITTED != 0
    for column in set(table.dtype.names) - {"H", "K", "XDET", "YDET", "FLAG"}:
        table[column][unfitted] = np.nan
    return table


def _results(extraction, verified):
    """The group DiffExtract of info.xml."""
    refined, noise, flag = extraction.refined, extraction.noise, extraction.spots.flag
    value, pairs = _r_friedel(extraction)
    sigmas = {name: float(sigma) for name, sigma in zip(NAMES, refined.sigma, strict=True)}
    element = group_element(
        "DiffExtract",
        {
            "Program": f"ed2d {__version__}",
            "Predicted": len(flag),
            "Fitted": int(np.sum(flag & flags.NOT_FITTED == 0)),
            "Used": int(extraction.used.sum()),
            "RmsPosition": refined.rms,
            "Scatter": refined.scatter,
            "RFriedel": value,
            "FriedelPairs": pairs,
            "Gain": noise.gain,
            "GainSigma": noise.gain_error,
            "GainEstimated": noise.estimated,
            "ReadNoise": noise.read_noise,
            "Offset": noise.offset,
            "ProfileScatter": extraction.profile.scatter,
            "Flags": {name: int(np.sum(flag & entry.bit != 0)) for name, entry in flags.REGISTRY.items()},
        },
    )
    extra = {"VerifiedDigest": verified.digest(), "StandardDeviations": sigmas}
    element.insert(0, lattice_element("RefinedLattice", refined.lattice, **extra))
    return element


def _r_friedel(extraction):
    volume = np.where(extraction.spots.flag & flags.NOT_FITTED, np.nan, extraction.spots.fits.volume)
    return r_friedel(extraction.miller, volume)


def _report_pages(path, still):
    if still.pages > 1:
        log.warning("%s holds %d pages: the first is the image, the others are not read", path, still.pages)


def _summary(name, extraction):
    """One line for people."""
    refined, noise, lattice = extraction.refined, extraction.noise, extraction.lattice
    for label, value, sigma in zip(NAMES, parameters_of(lattice), refined.sigma, strict=True):
        log.info("%s = %.9g +- %.2g", label, value, sigma)
    value, pairs = _r_friedel(extraction)
    gain = f"gain {noise.gain:.3g}" + (f" +- {noise.gain_error:.2g} (estimated)" if noise.estimated else "")
    return (
        f"{name}: extract: {len(extraction.miller)} spots, {extraction.used.sum()} used, rms {refined.rms:.3f} px, "
        f"R_Friedel {value:.3f} ({pairs} pairs), {gain}"
    )
