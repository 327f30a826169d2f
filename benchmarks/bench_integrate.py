#!/usr/bin/env python3
"""Errors of the intensities of extract and integrate on simulated stills, against truth, bound and the best fit.

usage: bench_integrate.py [--stills N] [--quick] [KIND ...]      with ed2d installed and scipy; prints markdown tables
"""

import argparse
import time

import machine  # before numpy
import numpy as np
from patterns import KINDS, TINY, best_fit, clean_spots, draw
from population import bound

from ed2d.extraction import extract_image
from ed2d.friedel import r_friedel
from ed2d.integration import integrate_image
from ed2d.pulls import pulls
from ed2d.simulate import disturbed

ORIGIN_ERROR, VECTOR_ERROR = 0.7, 0.03  # px, rms: the lattice to start from
ELLIPSE = 3.0  # widths; noise of the spots in the table of relative errors
METHODS = {"box": ("I", "VARI"), "profile": ("IPR", "VARIPR"), "best": ("best", "VARbest")}
OVER_BOUND = ((1, 3), (3, 6), (6, 15), (15, 40), (40, np.inf))
RELATIVE = ((1, 3), (3, 10), (10, 30), (30, np.inf))
DIALS = "| DIALS 3.12.1, tuned by hand | facts | .67 | .24 | .081 | .028 |"  # elsewhere, on stills of the kind facts
STRONG = 10.0  # I/sigma
FAR = 5.0  # standard deviations that no normal error reaches
FEWEST = 10  # spots of which there is a figure
WIDTH_ERROR = 0.96  # of half the distance between the quantiles, times the root of the number (normal errors)
OVERVIEW = """
| kind | spots | I/sigma | lost, no profile | R box | R profile | R best | BGINT pull width | extract s | integrate s |
|---|---|---|---|---|---|---|---|---|---|"""
PULLS = """
| kind | intensity | I/sigma | spots | bias | pull mean | std | robust width | beyond 5 |
|---|---|---|---|---|---|---|---|---|"""


def measure(kind, seed):
    """Columns of the clean spots of one still that the table has, and figures: CPU seconds, lost spots, R_Friedel.

    bound, noise: standard deviations of the volume, by all nine parameters and by the ellipse of 3 widths on a known
    background.
    """
    still = draw(kind, seed)
    errors = {"origin_error": ORIGIN_ERROR, "vector_error": VECTOR_ERROR}
    start = disturbed(kind.simulation.lattice, **errors, seed=seed)
    before = time.process_time()
    extraction = extract_image(still.image, start, kind.parameters)
    between = time.process_time()
    made = (extraction.lattice, extraction.noise, extraction.profile)
    integration = integrate_image(still.image, extraction.table(), *made, kind.parameters)
    after = time.process_time()

    (truth, population), table = clean_spots(still), integration.table
    rows = _rows(truth, table)
    found = rows >= 0
    truth, population, table = truth[found], population[found], table[rows[found]]
    spots = {name: table[name] for name in ("I", "VARI", "IPR", "VARIPR", "BGINT", "VARBGINT")}
    spots |= dict(zip(METHODS["best"], best_fit(population), strict=True))
    spots |= {"true": truth["vol_counts"], "background": truth["bg_counts"] + kind.camera.offset}
    spots |= {"bound": bound(population)[1], "noise": _noise(truth, kind.camera)}
    figures = {"extract": between - before, "integrate": after - between}
    figures |= {"lost": np.sum(~found), "no profile": np.sum(np.isnan(spots["IPR"]))}
    miller = np.column_stack([truth["h"], truth["k"]])
    return spots, figures | {method: r_friedel(miller, spots[name])[0] for method, (name, _) in METHODS.items()}


def _rows(truth, table):
    """The row of the table for every spot of the truth, -1 where it has none."""
    row_of = {index: row for row, index in enumerate(zip(table["H"].tolist(), table["K"].tolist(), strict=True))}
    indices = zip(truth["h"].tolist(), truth["k"].tolist(), strict=True)
    return np.array([row_of.get(index, -1) for index in indices])


def _noise(truth, camera):
    """sqrt(g V + n (g b + r^2)), counts: spot and n = 9 pi s1 s2 pixels of the background b, without the offset."""
    pixels = ELLIPSE**2 * np.pi * truth["s1"] * truth["s2"]
    background = camera.gain * np.maximum(truth["bg_counts"], 0) + camera.read_noise**2
    return np.sqrt(camera.gain * truth["vol_counts"] + pixels * background)


def overview(spots, figures):
    """One row of cells: numbers of spots, R_Friedel, intercalated background, CPU seconds."""
    pull = pulls(spots["BGINT"], spots["VARBGINT"], spots["background"])
    clarity = np.median(spots["true"] / spots["noise"])
    cells = [f"{len(pull)}", f"{clarity:.1f}", f"{sum(figures['lost'])}, {sum(figures['no profile'])}"]
    cells += [f"{np.mean(figures[m]):.4f} ± {_standard_error(figures[m]):.4f}" for m in METHODS]
    backgrounds = f"{_robust_width(pull):.2f}" if np.isfinite(pull).any() else "-"
    return [*cells, backgrounds, *(f"{np.mean(figures[s]):.2f}" for s in ("extract", "integrate"))]


def over_bound(spots):
    """Rows of cells: numbers of spots, rms errors over the bound, in bins of true I/sigma by the bound."""
    return _binned(spots, spots["bound"], spots["bound"], OVER_BOUND)


def relative(spots):
    """Rows of cells: numbers of spots, rms of (I - I_true) / I_true, in bins of true I/sigma by the ellipse."""
    return _binned(spots, spots["noise"], spots["true"], RELATIVE)


def _binned(spots, sigma, unit, bins):
    clarity = spots["true"] / sigma
    chosen = [(clarity >= low) & (clarity < high) for low, high in bins]
    rows = [["spots", *(f"{rows.sum()}" for rows in chosen)]]
    for method, (name, _) in METHODS.items():
        error = (spots[name] - spots["true"]) / unit
        rows.append([method, *(_cell(error[rows]) for rows in chosen)])
    return rows


def pull_rows(spots):
    """Rows of cells: mean error over the bound (bias) and pulls, of strong and of weak spots."""
    strong, rows = spots["true"] / spots["bound"] > STRONG, []
    for method, (name, variance) in METHODS.items():
        error, pull = (spots[name] - spots["true"]) / spots["bound"], pulls(spots[name], spots[variance], spots["true"])
        for label, some in (("> 10", strong), ("<= 10", ~strong)):
            known = some & np.isfinite(pull)
            rows.append([method, label, *_pull_cells(error[known], pull[known])])
    return rows


def _pull_cells(error, pull):
    n, root = len(pull), np.sqrt(len(pull))
    if n < FEWEST:
        return [f"{n}", *"-----"]
    robust, far = _robust_width(pull), np.sum(np.abs(pull) > FAR)
    values = error.mean(), pull.mean(), pull.std(), robust
    errors = np.array([error.std(), pull.std(), np.sqrt(0.5) * pull.std(), WIDTH_ERROR * robust]) / root
    return [f"{n}", *(f"{value:.3f} ± {error:.3f}" for value, error in zip(values, errors, strict=True)), f"{far}"]


def _robust_width(values):
    low, high = np.nanpercentile(values, [15.87, 84.13])
    return (high - low) / 2


def _standard_error(values):
    return np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan


def _cell(errors):
    """Rms of the errors that are known; three digits."""
    known = errors[np.isfinite(errors)]
    return f"{np.sqrt(np.mean(known**2)):.3g}" if len(known) >= FEWEST else "-"


def print_tables(results):
    """Four markdown tables of {kind: (spots, figures)}."""
    print(OVERVIEW)
    for label, (spots, figures) in results.items():
        _print_row(label, overview(spots, figures))
    for what, bins, rows_of in (("rms/bound", OVER_BOUND, over_bound), ("rms/I", RELATIVE, relative)):
        print(f"\n| kind | {what} |", " | ".join(f"{a}-{b}" if b < np.inf else f">{a}" for a, b in bins), "|")
        print("|---" * (len(bins) + 2) + "|")
        if rows_of is relative:
            print(DIALS)
        _print_rows(results, rows_of)
    print(PULLS)
    _print_rows(results, pull_rows)


def _print_rows(results, rows_of):
    for label, (spots, _) in results.items():
        for cells in rows_of(spots):
            _print_row(label, cells)


def _print_row(*cells):
    label, rest = cells
    print(f"| {label} |", " | ".join(rest), "|")


def together(parts):
    """Dictionaries of the stills as one of arrays."""
    return {name: np.hstack([part[name] for part in parts]) for name in parts[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; default: all")
    parser.add_argument("--stills", type=int, default=4, help="of a kind, each with a seed of its own")
    parser.add_argument("--quick", action="store_true", help="a small still, to see that it runs")
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(KINDS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    print(machine.described())
    kinds = {"tiny": TINY} if arguments.quick else {name: KINDS[name] for name in arguments.kinds or KINDS}
    results = {}
    for label, kind in kinds.items():
        measured = [measure(kind, seed) for seed in range(1, arguments.stills + 1)]
        results[label] = tuple(together(parts) for parts in zip(*measured, strict=True))
    print_tables(results)


if __name__ == "__main__":
    main()
