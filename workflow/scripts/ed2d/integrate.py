"""The step integrate: image and `_ext.mtz` in, `_int.mtz` and montages of the boxes out."""

import logging

import numpy as np

from . import __version__, flags
from .emdatainfo import INTEGRATED, group_element, replace_group
from .errors import InputError
from .inputs import read_inputs
from .integration import integrate_image
from .intensity import REASONS
from .montage import write_montage
from .mtz import file_digest, read_mtz, write_mtz

FAR_FROM_0, FAR_FROM_1 = 0.2, 0.1  # mean and width of the pulls of a null control
FAR_BACKGROUND = 1.0  # mean and width - 1 of the differences of backgrounds
MANY_POOR_FITS = 0.1  # of the intensities
MANY_OUTLIERS = 0.005  # of a null control
MANY_REJECTED = 0.3  # of the points
FAR_PROFILE = 0.05  # of 1, the profile fits over the box sums of strong spots
CERTAIN = 4.0  # standard errors, of all these

log = logging.getLogger(__name__)


def integrate(*, reflections, output, raw, corrected, residuals=None, **given):
    """Integrate one image directory, given as in `read_inputs`; a summary line out.

    Lattice, noise model and profile are those of `reflections`, the `_ext.mtz`; writes `output`, the montages `raw` and
    `corrected`, where asked for `residuals` too, and the group DiffIntegrate of info.xml, last. InputError for whatever
    a user can mend.
    """
    inputs = read_inputs("integrate", **given)
    extracted, made_by = read_mtz(reflections)
    inputs.check_boxes(made_by.lattice)
    made = (made_by.lattice, made_by.noise, made_by.profile)
    integration = integrate_image(inputs.image, extracted, *made, inputs.parameters)
    if not len(integration.table):
        rejected = integration.measured.rejected
        counts = ", ".join(f"{REASONS[reason]}: {rows.sum()}" for reason, rows in rejected.items())
        raise InputError(given["image"], f"no point can be integrated ({counts})", "check mask, BoxSize and lattice")
    _check(integration, inputs)
    pictures = [
        (raw, integration.measured.raw, "counts"),
        (corrected, integration.corrected, "less background, counts"),
    ]
    if residuals:
        pictures.append((residuals, integration.measured.residual, "less fit, standard deviations"))
    inputs.check_unchanged()
    for path, pixels, what in pictures:
        write_montage(path, *integration.pictures(pixels), title=f"{inputs.name}: boxes, {what}")
    write_mtz(output, integration.table, inputs.header(*made))
    made_of = {"Inputs": inputs.digest, "Reflections": file_digest(reflections)}
    replace_group(inputs.info.path, INTEGRATED, _results(integration, made_of))
    return _summary(inputs.name, integration)


def _check(integration, inputs):
    """Warnings where the image itself shows that intensities, their errors or the backgrounds are not right."""
    path, null = inputs.info.path, integration.null_control
    for what, pulls in (("box sums", null.box_sum), ("profile fits", null.profile_fit)):
        where = f"{path}: {what} between the lattice points, where nothing is,"
        if pulls.mean_differs(FAR_FROM_0, CERTAIN):
            log.warning("%s are %.2f of their errors on average: is the background no plane?", where, pulls.mean)
        if pulls.width_differs(FAR_FROM_1, CERTAIN):
            said = "%s scatter %.2f times as much as their errors say: check Gain, ReadNoise and Offset"
            log.warning(said, where, pulls.width)
        if pulls.many_outliers(MANY_OUTLIERS):
            said = "%s %d of %d are far off: an ice ring, satellites, another crystal, an edge that is not masked?"
            log.warning(said, where, pulls.outliers, pulls.number)
    backgrounds = {"fitted": integration.backgrounds.plane, "intercalated": integration.backgrounds.intercalated}
    for what, pulls in backgrounds.items():
        if pulls.mean_differs(FAR_BACKGROUND, CERTAIN) or pulls.width_differs(FAR_BACKGROUND, CERTAIN):
            said = "%s: rim less %s background, over its error: mean %.1f and width %.1f, not 0 and 1: no plane?"
            log.warning(said, path, what, pulls.mean, pulls.width)
    poor = np.mean(integration.table["FLAG"] & flags.POOR_FIT != 0)
    if poor > MANY_POOR_FITS:
        said = "%s: %.0f %% of the boxes hold more than spot, plane and noise: check Gain, ReadNoise; an ice ring?"
        log.warning(said, path, 100 * poor)
    ratio, sigma = integration.profile_over_box
    if abs(ratio - 1) > max(FAR_PROFILE, CERTAIN * sigma):
        said = "%s: profile fits of strong spots are %.3f +- %.3f of their box sums: no Gaussians, or a bent background"
        log.warning(said, path, ratio, sigma)
    lost = 1 - np.mean(integration.measured.kept)
    if lost > MANY_REJECTED:
        said = "%s: %.0f %% of the points are rejected, see the log; are BoxSize and mask right?"
        log.warning(said, path, 100 * lost)


def _results(integration, made_of):
    """The group DiffIntegrate of info.xml; `made_of`: digests of the values it was made with and of `_ext.mtz`."""
    table, null, backgrounds = integration.table, integration.null_control, integration.backgrounds
    curve = zip(integration.loss, integration.loss_sigma, strict=True)
    ratio, ratio_sigma = integration.profile_over_box
    return group_element(
        "DiffIntegrate",
        {
            "Program": f"ed2d {__version__}",
            **made_of,
            "Points": len(integration.extracted),
            "Integrated": len(table),
            "Rejected": {reason: int(rows.sum()) for reason, rows in integration.measured.rejected.items()},
            "PoorFits": int(np.sum(table["FLAG"] & flags.POOR_FIT != 0)),
            "GrowStep": integration.step,
            "StrongSpots": integration.strong,
            "Growth": {f"N{n}": {"Loss": float(loss), "Sigma": float(sigma)} for n, (loss, sigma) in enumerate(curve)},
            "Outside": integration.outside,
            "ProfileOverBox": ratio,
            "ProfileOverBoxSigma": ratio_sigma,
            "RFriedel": integration.box_sums.all.r_friedel,
            "RFriedelProfile": integration.profile_fits.all.r_friedel,
            "FriedelPairs": integration.box_sums.all.pairs,
            "MeanIOverSigma": float(np.mean(table["I"] / np.sqrt(table["VARI"]))),
            "MeanBackground": float(np.nanmean(table[f"BG{integration.step}"])),
            "NullControl": {"BoxSum": _pulls(null.box_sum), "ProfileFit": _pulls(null.profile_fit)},
            "Backgrounds": {"Plane": _pulls(backgrounds.plane), "Intercalated": _pulls(backgrounds.intercalated)},
            "Friedel": {"BoxSum": _friedel(integration.box_sums), "ProfileFit": _friedel(integration.profile_fits)},
            "ErrorModelApplied": integration.applied,
        },
    )


def _pulls(summary):
    return {
        "Number": summary.number,
        "Mean": summary.mean,
        "MeanSigma": summary.mean_sigma,
        "Width": summary.width,
        "WidthSigma": summary.width_sigma,
        "Outliers": summary.outliers,
    }


def _friedel(control):
    model = control.model
    bins = {"ByIOverSigma": control.by_significance, "ByRadius": control.by_radius}
    known = {"K": model.sdfac, "KSigma": model.sdfac_sigma, "G": model.sdadd, "GSigma": model.sdadd_sigma}
    return {
        **_agreement(control.all),
        **{name: {f"Bin{n}": _agreement(one) for n, one in enumerate(some)} for name, some in bins.items()},
        "ErrorModel": {**known, "ISa": model.isa},
    }


def _agreement(agreement):
    return {
        "Low": agreement.low,
        "High": agreement.high,
        "Pairs": agreement.pairs,
        "RFriedel": agreement.r_friedel,
        "Scatter": agreement.scatter,
        "ScatterSigma": agreement.scatter_sigma,
    }


def _summary(name, integration):
    """One line for people."""
    for reason, rows in integration.measured.rejected.items():
        log.info("rejected: %d: %s", rows.sum(), REASONS[reason])
    for what, control in (("box sums", integration.box_sums), ("profile fits", integration.profile_fits)):
        pairs, model = control.all, control.model
        log.info("%s: Friedel mates differ by %.2f +- %.2f of their errors", what, pairs.scatter, pairs.scatter_sigma)
        suggested = (model.sdfac, model.sdfac_sigma, model.sdadd, model.sdadd_sigma)
        log.info(
            "%s: suggested: sigma'^2 = K^2 (sigma^2 + (g I)^2), K = %.3f +- %.3f, g = %.3g +- %.2g", what, *suggested
        )
    table, null, pairs = integration.table, integration.null_control, integration.box_sums.all
    significance = np.mean(table["I"] / np.sqrt(table["VARI"]))
    return (
        f"{name}: integrate: {len(integration.extracted)} spots, {len(table)} integrated, N = {integration.step}, "
        f"mean I/sigma {significance:.1f}, R_Friedel {pairs.r_friedel:.3f} ({pairs.pairs} pairs), null control "
        f"{null.box_sum.width:.2f}; profile fits: R_Friedel {integration.profile_fits.all.r_friedel:.3f}, "
        f"null control {null.profile_fit.width:.2f}"
    )
