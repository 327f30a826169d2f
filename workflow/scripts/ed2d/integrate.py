"""The step integrate: image and `_ext.mtz` in, `_int.mtz` and two montages of the boxes out."""

import logging

import numpy as np

from . import __version__
from .emdatainfo import Document, group_element, replace_group
from .errors import InputError
from .extract import check_boxes, header
from .image import read_image
from .integration import REASONS, integrate_image
from .merit import r_friedel
from .montage import write_montage
from .mtz import read_mtz, write_mtz
from .noise import Noise
from .parameters import effective_parameters
from .table import empty_table, integrate_dtype

log = logging.getLogger(__name__)


def integrate(*, name, image, mask, info, project, config, reflections, output, raw, corrected):
    """Integrate one image directory `name`; paths of its files in, a summary line out.

    Lattice and noise model are those of `reflections`, the `_ext.mtz`; writes `output`, the montages `raw` and
    `corrected`, and the group DiffIntegrate of info.xml, last. InputError for whatever a user can mend.
    """
    parameters = effective_parameters(Document.read(info), Document.read(project), config)
    still = read_image(image, mask_path=mask, shapes=parameters.mask, saturation=parameters.saturation)
    extracted, made_by = read_mtz(reflections)
    check_boxes(made_by.lattice, still.shape, parameters, info)
    noise = noise_of(made_by)
    integration = integrate_image(still, extracted, made_by.lattice, noise, parameters)
    table = tabulate(integration, extracted)
    if not len(table):
        counts = ", ".join(f"{REASONS[reason]}: {rows.sum()}" for reason, rows in integration.rejected.items())
        raise InputError(image, f"no point can be integrated ({counts})", "check mask, BoxSize and lattice")
    squares = (len(extracted), 2 * parameters.half + 1, 2 * parameters.half + 1)
    miller = np.column_stack([extracted["H"], extracted["K"]])
    write_montage(raw, integration.raw.reshape(squares), miller, title=f"{name}: boxes, counts")
    write_montage(
        corrected, integration.corrected.reshape(squares), miller, title=f"{name}: boxes less background, counts"
    )
    write_mtz(output, table, header(name, "integrate", made_by.lattice, noise, parameters))
    replace_group(info, "DiffProcessingResults/DiffIntegrate", _results(integration, table))
    return _summary(name, integration, table)


def noise_of(made_by):
    """Noise model from the header of an `_ext.mtz`."""
    values = dict(made_by.noise)
    return Noise(estimated=bool(values.pop("estimated")), **values)


def tabulate(integration, extracted):
    """The rows of `_int.mtz`: the points that no reason rejects."""
    growth, kept = integration.growth, integration.kept
    steps = len(growth.intensity) - 1
    table = empty_table(integrate_dtype(steps), len(extracted))
    for column in set(extracted.dtype.names) & set(table.dtype.names):
        table[column] = extracted[column]
    table["GVOL"], table["VARGVOL"] = extracted["I"], extracted["VARI"]
    table["I"], table["VARI"] = growth.intensity[integration.step], growth.variance[integration.step]
    table["NGROW"], table["FLAG"] = integration.step, integration.flag
    for step in range(steps + 1):
        table[f"I{step}"], table[f"VARI{step}"] = growth.intensity[step], growth.variance[step]
        table[f"BG{step}"] = growth.background[step]
    table["IPR"], table["VARIPR"] = integration.held.volume, integration.held.volume_variance
    table["BGINT"], table["VARBGINT"], table["NBGINT"] = integration.background
    return table[kept]


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
            "Points": len(integration.kept),
            "Integrated": len(table),
            "Rejected": {reason: int(rows.sum()) for reason, rows in integration.rejected.items()},
            "GrowStep": integration.step,
            "StrongSpots": integration.strong,
            "Growth": {f"N{n}": {"Loss": float(loss), "Sigma": float(sigma)} for n, (loss, sigma) in enumerate(curve)},
            "RFriedel": value,
            "RFriedelProfile": profile_value,
            "FriedelPairs": pairs,
            "MeanIOverSigma": float(np.mean(table["I"] / np.sqrt(table["VARI"]))),
            "MeanBackground": float(np.nanmean(table[f"BG{integration.step}"])),
        },
    )


def _summary(name, integration, table):
    """One line for people."""
    for reason, rows in integration.rejected.items():
        log.info("rejected: %d: %s", rows.sum(), REASONS[reason])
    value, pairs = _r_friedel(table)
    mean = np.mean(table["I"] / np.sqrt(table["VARI"]))
    return (
        f"{name}: integrate: {len(integration.kept)} spots, {len(table)} integrated, N = {integration.step}, "
        f"mean I/sigma {mean:.1f}, R_Friedel {value:.3f} ({pairs} pairs)"
    )
