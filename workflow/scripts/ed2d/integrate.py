"""The step integrate: image and `_ext.mtz` in, `_int.mtz` and two montages of the boxes out."""

import logging

import numpy as np

from . import __version__
from .emdatainfo import group_element, replace_group
from .errors import InputError
from .inputs import read_inputs
from .integration import integrate_image
from .intensity import REASONS
from .merit import r_friedel
from .montage import write_montage
from .mtz import read_mtz, write_mtz

log = logging.getLogger(__name__)


def integrate(*, name, image, mask, info, project, config, reflections, output, raw, corrected):
    """Integrate one image directory `name`; paths of its files in, a summary line out.

    Lattice, noise model and profile are those of `reflections`, the `_ext.mtz`; writes `output`, the montages `raw` and
    `corrected`, and the group DiffIntegrate of info.xml, last. InputError for whatever a user can mend.
    """
    inputs = read_inputs("integrate", name=name, image=image, mask=mask, info=info, project=project, config=config)
    extracted, made_by = read_mtz(reflections)
    inputs.check_boxes(made_by.lattice)
    made = (made_by.lattice, made_by.noise, made_by.profile)
    integration = integrate_image(inputs.image, extracted, *made, inputs.parameters)
    table = integration.table()
    if not len(table):
        counts = ", ".join(f"{REASONS[reason]}: {rows.sum()}" for reason, rows in integration.measured.rejected.items())
        raise InputError(image, f"no point can be integrated ({counts})", "check mask, BoxSize and lattice")
    write_montage(raw, *integration.pictures(integration.measured.raw), title=f"{name}: boxes, counts")
    write_montage(
        corrected, *integration.pictures(integration.corrected), title=f"{name}: boxes less background, counts"
    )
    write_mtz(output, table, inputs.header("integrate", *made))
    replace_group(info, "DiffProcessingResults/DiffIntegrate", _results(integration, table))
    return _summary(name, integration, table)


def _r_friedel(table, column="I"):
    return r_friedel(np.column_stack([table["H"], table["K"]]), table[column])


def _results(integration, table):
    """The group DiffIntegrate of info.xml."""
    (value, pairs), (profile_value, _) = _r_friedel(table), _r_friedel(table, "IPR")
    curve = zip(integration.loss, integration.loss_sigma, strict=True)
    return group_element(
        "DiffIntegrate",
        {
            "Program": f"ed2d {__version__}",
            "Points": len(integration.measured.kept),
            "Integrated": len(table),
            "Rejected": {reason: int(rows.sum()) for reason, rows in integration.measured.rejected.items()},
            "GrowStep": integration.step,
            "StrongSpots": integration.strong,
            "Growth": {f"N{n}": {"Loss": float(loss), "Sigma": float(sigma)} for n, (loss, sigma) in enumerate(curve)},
            "Outside": integration.outside,
            "NullControl": {"BoxSum": integration.null_control.box_sum.items(), "ProfileFit": integration.null_control.profile_fit.items()},
            "Backgrounds": {"Plane": integration.backgrounds.plane.items(), "Intercalated": integration.backgrounds.intercalated.items()},
            "RFriedel": value,
            "RFriedelProfile": profile_value,
            "FriedelPairs": pairs,
            "MeanIOverSigma": float(np.mean(table["I"] / np.sqrt(table["VARI"]))),
            "MeanBackground": float(np.nanmean(table[f"BG{integration.step}"])),
        },
    )


def _summary(name, integration, table):
    """One line for people."""
    for reason, rows in integration.measured.rejected.items():
        log.info("rejected: %d: %s", rows.sum(), REASONS[reason])
    (value, pairs), (profile_value, _) = _r_friedel(table), _r_friedel(table, "IPR")
    mean = np.mean(table["I"] / np.sqrt(table["VARI"]))
    return (
        f"{name}: integrate: {len(integration.measured.kept)} spots, {len(table)} integrated, N = {integration.step}, "
        f"mean I/sigma {mean:.1f}, R_Friedel {value:.3f} (profile fits {profile_value:.3f}, {pairs} pairs)"
    )
