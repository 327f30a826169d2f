#!/usr/bin/env python3
"""Mask and search of the lattice on the simulated stills of stills_search.py, against the truth.

usage: bench_search.py [--stills N] [--large] [--calibrate] [--processes N] [--quick] [NUMBER ...]

Prints markdown tables, with ed2d installed and scipy; numbers measure these cases only. --calibrate takes the other set
and prints one JSON object a line for each still, with all figures that the search gives.
"""

import argparse
import dataclasses
import json
import multiprocessing
import sys
import time
from itertools import pairwise
from pathlib import Path

import machine  # before numpy
import numpy as np
import stills_search
import yaml
from verdicts import displaced, judged

from ed2d.emdatainfo import Document
from ed2d.image import Image
from ed2d.latticesearch import search_image
from ed2d.maskshapes import rasterise
from ed2d.nuisance import SecondLattice
from ed2d.parameters import effective_parameters
from ed2d.shadows import find_shadows

CONFIG = Path(__file__).resolve().parents[1] / "config/config.yaml"
CONFIDENCES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
QUICK = (21, 77)  # small stills
TABLE = """
| | stills | right | wrong | none | sure | wrong of the sure | vectors % | origin px | places px | mask s | search s |
|---|---|---|---|---|---|---|---|---|---|---|---|"""
RELIABILITY = "\n| confidence | stills | mean | right |\n|---|---|---|---|"
FAILURES = """
| number | sure | confidence | clear spots | what is wrong | runner-up | features |
|---|---|---|---|---|---|---|"""


def measure(case):
    """A dictionary of plain figures of one still: truth, verdict, what the search says, CPU seconds."""
    made = stills_search.make(case)
    figures = {"number": case.number, "tags": case.tags}
    figures |= {"true": {name: value for name, value in made.info.items() if name != "mask"}}
    try:
        search, ignored, seconds = _searched(made.image)
    except Exception as error:  # the others are measured all the same
        nothing = dataclasses.asdict(judged(None, made.lattice)) | {
            "confidence": 0.0,
            "sure": False,
            "runner-up": "none",
        }
        return figures | nothing | {"fault": repr(error), "mask seconds": np.nan, "search seconds": np.nan}
    others = [stray.lattice for stray in case.simulation.strays if isinstance(stray, SecondLattice)]
    verdict = judged(search.best and search.best.lattice, made.lattice, others)
    figures |= dataclasses.asdict(verdict) | seconds
    if verdict.kind == "right":
        miller = np.column_stack([made.truth["h"], made.truth["k"]])
        figures["places"] = displaced(search.best.lattice, made.lattice, miller)
    figures |= {"confidence": search.best.confidence if search.best else 0.0, "sure": search.sure}
    figures["runner-up"] = judged(search.runner_up and search.runner_up.lattice, made.lattice).kind
    figures["lost"] = np.mean(ignored & (made.info["mask"] > 0))  # of the pixels: without a shadow, but masked
    return _plain(figures | {"search": search})


def _searched(data):
    """The Search on an image, the pixels ignored in it, CPU seconds; nothing is known of the detector."""
    full = data >= 65535 if data.dtype == np.uint16 else np.zeros(data.shape, bool)
    image, start = Image(data, np.zeros(data.shape, bool), full), time.process_time()
    ignored = rasterise(find_shadows(image), data.shape)
    between = time.process_time()
    search = search_image(Image(data, ignored, full), _parameters())
    return search, ignored, {"mask seconds": between - start, "search seconds": time.process_time() - between}


def _parameters():
    """Those of the configuration, with nothing known of the detector."""
    empty = Document.parse(b"<EMDataInfo/>", "info.xml")
    return effective_parameters(empty, empty, yaml.safe_load(CONFIG.read_text(encoding="utf-8")))


def _plain(value):
    """All that JSON can hold of nested dataclasses, dictionaries and tuples; arrays are left out."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if not isinstance(one, np.ndarray)}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


def measured(cases, processes):
    """Figures of all cases by number; a line on the screen tells how far it is."""
    found = []
    with multiprocessing.Pool(processes) as pool:
        for figures in pool.imap_unordered(measure, cases):
            found.append(figures)
            right = sum(one["kind"] == "right" for one in found)
            print(f"\r{len(found)} of {len(cases)} stills, {right} right ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return sorted(found, key=lambda figures: figures["number"])


def print_tables(found):
    """Tables by feature and by confidence, and the list of what failed."""
    print(TABLE)
    _print_row("all", *_counts(found))
    for tag in sorted({tag for one in found for tag in one["tags"]}):
        _print_row(tag, *_counts([one for one in found if tag in one["tags"]]))
    print(RELIABILITY)
    for low, high in pairwise(CONFIDENCES):
        last = high == CONFIDENCES[-1]
        some = [one for one in found if low <= one["confidence"] < high or (last and one["confidence"] == high)]
        if some:
            mean = np.mean([one["confidence"] for one in some])
            _print_row(f"{low:g} to {high:g}", len(some), f"{mean:.4f}", f"{_share(some, kind='right'):.4f}")
    print(FAILURES)
    for one in found:
        if one["kind"] != "right":
            sure = "**sure**" if one["sure"] else "no"
            confidence, features = f"{one['confidence']:.4f}", ", ".join(one["tags"])
            _print_row(one["number"], sure, confidence, one["true"]["clear"], one["fault"], one["runner-up"], features)


def _counts(some):
    """Cells of a row: numbers, medians of the errors of the right ones, mean CPU seconds."""
    right = [one for one in some if one["kind"] == "right"]
    sure = [one for one in some if one["sure"]]
    wrong = sum(one["kind"] != "right" for one in sure)
    kinds = [sum(one["kind"] == kind for one in some) for kind in ("right", "wrong", "none")]
    errors = (("vector_error", 100, 3), ("origin_error", 1, 2), ("places", 1, 2))
    medians = (
        f"{scale * np.median([one[name] for one in right]):.{n}f}" if right else "-" for name, scale, n in errors
    )
    seconds = (f"{np.nanmean([one[f'{step} seconds'] for one in some]):.2f}" for step in ("mask", "search"))
    shares = f"{kinds[0]} ({100 * kinds[0] / len(some):.1f} %)", *kinds[1:], len(sure), wrong
    return len(some), *shares, *medians, *seconds


def _share(some, *, kind):
    return np.mean([one["kind"] == kind for one in some])


def _print_row(*cells):
    print("|", " | ".join(map(str, cells)), "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="cases; default: all")
    parser.add_argument("--stills", type=int, default=500, help="how many")
    parser.add_argument("--calibrate", action="store_true", help="the other set, as JSON")
    parser.add_argument("--large", action="store_true", help="three stills of 4096^2 instead, for their seconds")
    parser.add_argument("--processes", type=int, default=2, help="at the same time")
    parser.add_argument("--quick", action="store_true", help="two small stills, to see that it runs")
    given = parser.parse_args()
    seed = stills_search.CALIBRATION if given.calibrate else stills_search.MEASURED
    numbers = QUICK if given.quick else given.numbers or range(given.stills)
    cases = stills_search.large() if given.large else [stills_search.still(number, seed) for number in numbers]
    found = measured(cases, given.processes)
    if given.calibrate:
        print("\n".join(json.dumps(one) for one in found))
        return
    print(machine.described())
    print_tables(found)


if __name__ == "__main__":
    main()
