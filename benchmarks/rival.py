"""The program to compare with: scipy's `curve_fit`, one box after the other, with an analytic Jacobian.

Its best case: plain least squares (no weights), the brightest pixel as the start, all steps of Python kept short.
"""

import sys
import time
import warnings

import numpy as np
from population import HALF, X, Y, draw

try:
    from scipy.optimize import OptimizeWarning, curve_fit
except ModuleNotFoundError:
    sys.exit("the benchmarks compare with scipy: pip install -e '.[test]'")

MIXED, STRONG = (3.0, 3000.0), (100.0, 3000.0)  # peaks, electrons
DEFECTS = {"masked": 0.05, "zingers": 0.03}
START_WIDTH = 2.0  # px


def _model(pixels, a, x0, y0, bx, by, w, c, px, py):
    x, y = pixels
    cos, sin, dx, dy = np.cos(w), np.sin(w), x - x0, y - y0
    u, v = (cos * dx + sin * dy) / bx, (cos * dy - sin * dx) / by
    return a * np.exp(-0.5 * (u * u + v * v)) + c + px * x + py * y


def _jacobian(pixels, a, x0, y0, bx, by, w, c, px, py):
    x, y = pixels
    cos, sin, dx, dy = np.cos(w), np.sin(w), x - x0, y - y0
    u, v = (cos * dx + sin * dy) / bx, (cos * dy - sin * dx) / by
    columns = np.empty((9, len(x)))
    columns[0] = g = np.exp(-0.5 * (u * u + v * v))
    gu, gv = a * g * u, a * g * v
    columns[1], columns[2] = gu * (cos / bx) - gv * (sin / by), gu * (sin / bx) + gv * (cos / by)
    columns[3], columns[4], columns[5] = gu * u / bx, gv * v / by, gu * v * (bx / by - by / bx)
    columns[6], columns[7], columns[8] = 1.0, x, y
    return columns.T


def fit_one(counts, usable):
    """Best parameters (9,) of one box, masked pixels left out; None where curve_fit gives up."""
    pixels, values = (X[usable], Y[usable]), counts[usable]
    top, level = values.argmax(), np.median(values)
    start = (values[top] - level, pixels[0][top], pixels[1][top], START_WIDTH, START_WIDTH, 0.0, level, 0.0, 0.0)
    try:
        return curve_fit(_model, pixels, values, start, jac=_jacobian)[0]
    except RuntimeError:
        return None


def rate(population):
    """Fits per CPU-second, the share that gave up, and the share that ran away: out of the box or wider than it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        start = time.process_time()
        found = [fit_one(*box) for box in zip(population.counts, population.usable, strict=True)]
        spent = time.process_time() - start
    best = np.array([parameters for parameters in found if parameters is not None]).reshape(-1, 9)
    runaway = np.any(~(np.abs(best[:, 1:5]) < HALF), axis=1)
    return len(population) / spent, 1 - len(best) / len(population), runaway.sum() / len(population)


def mixed(n, seed=1):
    """The boxes by which machines are compared."""
    return draw(n, peaks=MIXED, seed=seed, **DEFECTS)
