#!/usr/bin/env python3
"""Speed of the fits against scipy's curve_fit in the same run, and their errors over the Cramer-Rao bound.

usage: bench_fit.py [--runs N] [--quick]      with ed2d installed and scipy; prints markdown tables
"""

import time
from statistics import median

import machine  # before numpy
import numpy as np
import rival
from population import HALF, SIDE, Camera, bound, draw

from ed2d import gaussfit, gaussian
from ed2d.boxes import cut
from ed2d.extraction import REPLACED
from ed2d.image import Image
from ed2d.measurement import CLEAR
from ed2d.noise import Noise
from ed2d.spots import fit_free, fit_held, with_smooth_errors
from ed2d.zingers import spikes

BOX_SIZE = 6  # px; with BoxGrowAmount 1 and BackgroundRimSize 2 the boxes are 19 x 19
POSITION_ERROR, WIDTH_ERROR = 0.05, 0.03  # px, relative: what a held fit is given is so far from the truth
SCATTER = 0.03  # of the widths about the learned shape
ACROSS = 50  # boxes side by side in the mosaic
COUNTS = Camera(gain=1.0, read_noise=0.0, offset=0.0)
CAMERA = Camera(gain=5.0, read_noise=10.0, offset=100.0)
BINS = ((3, 6), (6, 15), (15, 40), (40, 1000))
SPEED = """| population | curve_fit /s | gave up, ran away % | bare fits /s | ratio | all on /s | ratio | held % |
|---|---|---|---|---|---|---|---|"""
ERRORS = """| gain, read noise | e/px | I/sigma | held, none, far % | centre | volume | bias | pull mean | pull width |
|---|---|---|---|---|---|---|---|---|"""
FAR = 5.0  # standard deviations that no normal error reaches
FAINTEST, BRIGHTEST = 0.3, 6000.0  # peaks, electrons, that fill the bins


def mosaic(population):
    """The boxes side by side as an image of ed2d, and the pixels in their middle (n, 2)."""
    n = len(population)
    down = -(-n // ACROSS)
    tiles = np.zeros((2, down * ACROSS, SIDE, SIDE))
    tiles[:, :n] = np.stack([population.counts, ~population.usable]).reshape(2, n, SIDE, SIDE)
    squares = tiles.reshape(2, down, ACROSS, SIDE, SIDE).transpose(0, 1, 3, 2, 4)
    data, ignored = squares.reshape(2, down * SIDE, ACROSS * SIDE)
    row, column = np.divmod(np.arange(n), ACROSS)
    saturated = np.zeros(data.shape, bool)
    return Image(data, ignored > 0, saturated), np.column_stack([column, row]) * SIDE + HALF


def neighbourhood(population, seed=2):
    """Centres (n, 2) and shapes (n, 3) as the lattice and the profile give them: the truth with small errors."""
    random, n = np.random.default_rng(seed), len(population)
    _, x0, y0, bx, by, w = population.truth[:, :6].T
    centre = np.column_stack([x0, y0]) + random.normal(0.0, POSITION_ERROR, (n, 2))
    wrong = 1 + random.normal(0.0, WIDTH_ERROR, (2, n))
    return centre, gaussian.shape_from_widths(bx * wrong[0], by * wrong[1], np.degrees(w))


def measure(image, middle, noise, centre, shape):
    """What extraction does with the boxes of one image: (fits, rows that were held)."""
    boxes = cut(image, middle, HALF)
    boxes = boxes.without(spikes(boxes, noise))
    held = fit_held(boxes, noise, centre, shape)
    clear = np.flatnonzero(held.fits.significance >= CLEAR)
    free = fit_free(boxes[clear], noise, held.fits[clear], box_size=BOX_SIZE)
    good = free.flag & REPLACED == 0
    rows = clear[good]
    fits = held.fits.replaced(rows, free.fits[good])
    fits = with_smooth_errors(boxes, noise, fits, shape, SCATTER * held.fits.significance)
    return fits, np.setdiff1d(np.arange(len(boxes)), rows)


def bare(image, middle):
    """Plain least squares of every box as curve_fit does it: no weights, from the brightest pixel."""
    boxes = cut(image, middle, HALF)
    top = np.where(boxes.usable, boxes.values, -np.inf).argmax(axis=1)
    start = np.column_stack([top % SIDE, top // SIDE]) - float(HALF)
    shape = gaussian.shape_from_covariance(rival.START_WIDTH**2, 0.0, rival.START_WIDTH**2)
    return gaussfit.fit(boxes, boxes.usable.astype(float), start, np.tile(shape, (len(boxes), 1)))


def noise_of(camera):
    return Noise(gain=camera.gain, read_variance=camera.read_noise**2, offset=camera.offset)


def per_second(count, work, *arguments):
    """How many of `count` are done in a CPU-second."""
    start = time.process_time()
    work(*arguments)
    return count / (time.process_time() - start)


def speed(peaks, *, runs, boxes, rivals):
    """Medians of interleaved repetitions: rates of the rival, bare fits and whole measurement; ratios; shares in %."""
    population = draw(boxes, peaks=peaks, seed=1, **rival.DEFECTS)
    image, middle = mosaic(population)
    job = (image, middle, noise_of(population.camera), *neighbourhood(population))
    held = len(measure(*job)[1]) / boxes
    figures = []
    for _ in range(runs):
        scipy, failed, runaway = rival.rate(population[:rivals])
        simple, whole = per_second(boxes, bare, image, middle), per_second(boxes, measure, *job)
        figures.append((scipy, simple, simple / scipy, whole, whole / scipy))
    return [median(column) for column in zip(*figures, strict=True)], 100 * failed, 100 * runaway, 100 * held


def binned(each, seed, **kind):
    """Boxes with `each` of them in every bin of true I/sigma, and their bounds."""
    drawn = draw(40 * each, peaks=(FAINTEST, BRIGHTEST), seed=seed, **kind)
    centre, volume = bound(drawn)
    clarity = drawn.volume / volume
    rows = [np.flatnonzero((clarity >= low) & (clarity < high))[:each] for low, high in BINS]
    return drawn[np.concatenate(rows)], [centre[r] for r in rows], [volume[r] for r in rows]


def errors(population, centre_bound, volume_bound):
    """One row of numbers for every bin."""
    image, middle = mosaic(population)
    fits, held = measure(image, middle, noise_of(population.camera), *neighbourhood(population))
    is_held = np.zeros(len(population), bool)
    is_held[held] = True
    rows, last = [], 0
    for centre, volume in zip(centre_bound, volume_bound, strict=True):
        part, last = slice(last, last + len(volume)), last + len(volume)
        rows.append(_row(fits[part], population[part], is_held[part], centre, volume))
    return rows


def _row(fits, truth, held, centre_bound, volume_bound):
    """% held, not fitted, off by over FAR; rms of centre and volume over the bound; bias, its error; two of pulls."""
    off = fits.volume - truth.volume
    fitted = np.isfinite(off)
    ratio, pull = (off / volume_bound)[fitted], (off / np.sqrt(fits.volume_variance))[fitted]
    free = fitted & ~held
    moved = (fits.centre - truth.truth[:, 1:3])[free] / centre_bound[free]
    centre = rms(moved) if free.mean() > 0.5 else np.nan
    bias = (ratio.mean(), ratio.std() / np.sqrt(len(ratio)))
    shares = (100 * np.mean(rows) for rows in (held, ~fitted, np.abs(pull) > FAR))
    return [*shares, centre, rms(ratio), *bias, pull.mean(), pull.std()]


def rms(values):
    return np.sqrt(np.mean(np.square(values)))


def print_speed(arguments):
    boxes, rivals = (60, 20) if arguments.quick else (6000, 1000)
    print(SPEED)
    for label, peaks in (("strong", rival.STRONG), ("mixed", rival.MIXED)):
        (scipy, simple, simpler, whole, ratio), failed, runaway, held = speed(
            peaks, runs=arguments.runs, boxes=boxes, rivals=rivals
        )
        rates = f"{scipy:.0f} | {failed:.1f}, {runaway:.1f} | {simple:.0f} | {simpler:.1f} | {whole:.0f} | {ratio:.1f}"
        print(f"| {label} | {rates} | {held:.0f} |", flush=True)


def print_errors(arguments):
    each = 20 if arguments.quick else 2500
    cases = [{"camera": camera, "background": b} for camera in (COUNTS, CAMERA) for b in (0.5, 5.0, 50.0)]
    print(f"\n{ERRORS}")
    for seed, case in enumerate([*cases, cases[4] | {"zingers": 1.0}], start=10):
        population, *bounds = binned(each, seed, **case)
        label = f"{case['camera'].gain:g}, {case['camera'].read_noise:g} | {case['background']:g}"
        label += ", zinger" if "zingers" in case else ""
        for (low, high), row in zip(BINS, errors(population, *bounds), strict=True):
            clarity = f"{low}-{high}" if high < BINS[-1][1] else f">{low}"
            print(f"| {label} | {clarity} " + error_cells(row), flush=True)


def error_cells(row):
    held, none, far, centre, volume, bias, error, mean, width = row
    ratios = f"{centre:.2f} | {volume:.2f} | {bias:+.2f} ± {error:.2f} | {mean:+.2f} | {width:.2f} |"
    return f"| {held:.0f}, {none:.1f}, {far:.1f} | {ratios}".replace("nan", "-")


def main():
    arguments = machine.arguments(__doc__, runs="repetitions of the timing", quick="a few boxes, to see that it runs")
    print_speed(arguments)
    print_errors(arguments)


if __name__ == "__main__":
    main()
