"""Boxes with one simulated spot each, their truth and its Cramer-Rao bound; nothing here is taken from ed2d.

f(x, y) = A exp(-q/2) + C + Px x + Py y,  q = (u/Bx)^2 + (v/By)^2
u = cos(w) dx + sin(w) dy,  v = cos(w) dy - sin(w) dx,  dx = x - x0,  dy = y - y0
The parameters stand in this order: A, x0, y0, Bx, By, w, C, Px, Py.
"""

from dataclasses import dataclass

import numpy as np

HALF = 9  # px, of the boxes
SIDE = 2 * HALF + 1
Y, X = (axis.ravel().astype(float) for axis in np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1])
HIGHEST = 60000.0  # counts of a zinger
CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Counts per electron, counts rms, counts."""

    gain: float = 1.0
    read_noise: float = 0.0
    offset: float = 0.0


@dataclass(frozen=True)
class Population:
    """truth (n, 9) in electrons and px; expected (n, side^2), electrons; counts (n, side^2); usable (n, side^2)."""

    camera: Camera
    truth: np.ndarray
    expected: np.ndarray
    counts: np.ndarray
    usable: np.ndarray

    def __len__(self):
        return len(self.truth)

    def __getitem__(self, rows):
        return Population(self.camera, self.truth[rows], self.expected[rows], self.counts[rows], self.usable[rows])

    @property
    def volume(self):
        """True volumes, counts."""
        a, _, _, bx, by = self.truth[:, :5].T
        return self.camera.gain * 2 * np.pi * a * bx * by


def model(parameters, x=X, y=Y):
    """Expected electrons (n, pixels) of parameters (n, 9)."""
    a, x0, y0, bx, by, w, c, px, py = parameters.T[..., None]
    cos, sin, dx, dy = np.cos(w), np.sin(w), x - x0, y - y0
    u, v = (cos * dx + sin * dy) / bx, (cos * dy - sin * dx) / by
    return a * np.exp(-0.5 * (u * u + v * v)) + c + px * x + py * y


def jacobian(parameters, x=X, y=Y):
    """Derivatives (n, pixels, 9) of the model."""
    a, x0, y0, bx, by, w, _, _, _ = parameters.T[..., None]
    cos, sin, dx, dy = np.cos(w), np.sin(w), x - x0, y - y0
    u, v = (cos * dx + sin * dy) / bx, (cos * dy - sin * dx) / by
    g = np.exp(-0.5 * (u * u + v * v))
    ag, one = a * g, np.ones_like(g)
    by_x0, by_y0 = ag * (u * cos / bx - v * sin / by), ag * (u * sin / bx + v * cos / by)
    by_w = ag * u * v * (bx / by - by / bx)
    return np.stack([g, by_x0, by_y0, ag * u * u / bx, ag * v * v / by, by_w, one, x * one, y * one], axis=-1)


def draw(n, *, peaks, seed, background=5.0, camera=None, masked=0.0, zingers=0.0):
    """n boxes: peaks log-uniform between two values, background electrons a pixel; shares of boxes with defects."""
    random, camera = np.random.default_rng(seed), camera or Camera()
    slope = random.uniform(-0.03, 0.03, (n, 2)) * background
    truth = np.column_stack(
        [
            np.exp(random.uniform(*np.log(peaks), n)),
            random.normal(0.0, 0.3, (n, 2)),
            random.uniform(1.2, 2.6, (n, 2)),
            random.uniform(0.0, np.pi, n),
            np.full(n, background),
            slope,
        ]
    )
    expected = model(truth)
    counts = camera.gain * random.poisson(expected) + random.normal(0.0, camera.read_noise, expected.shape)
    usable = np.ones(counts.shape, bool)
    for row in np.flatnonzero(random.random(n) < masked):
        angle = random.uniform(0, 2 * np.pi)
        usable[row] = X * np.cos(angle) + Y * np.sin(angle) < random.uniform(2.0, 9.0)
    for row in np.flatnonzero(random.random(n) < zingers):
        counts[row, _track(random)] += random.uniform(0.02, 1.0) * HIGHEST
    return Population(camera, truth, expected, np.rint(counts + camera.offset), usable)


def _track(random):
    """Pixels of a straight track of 1 to 4 px."""
    start, angle = random.integers(0, SIDE, 2), random.uniform(0, 2 * np.pi)
    steps = np.arange(random.choice([1, 1, 1, 2, 3, 4]))
    x = np.clip(start[0] + steps * np.sin(angle), 0, SIDE - 1).astype(int)
    y = np.clip(start[1] + steps * np.cos(angle), 0, SIDE - 1).astype(int)
    return y * SIDE + x


def bound(population):
    """Cramer-Rao standard deviations of x0 and y0 (n, 2), px, and of the volume (n,), counts.

    The inverse of J^T W J with W = gain^2 / (gain^2 mu + read_noise^2) in electrons, 0 for pixels that are not usable.
    """
    n, camera = len(population), population.camera
    read_variance = (camera.read_noise / camera.gain) ** 2
    covariance = np.empty((n, 9, 9))
    for rows in (slice(first, first + CHUNK) for first in range(0, n, CHUNK)):
        part = population[rows]
        weight = part.usable / (part.expected + read_variance)
        j = jacobian(part.truth)
        information = j.transpose(0, 2, 1) @ (weight[:, :, None] * j)
        scale = 1 / np.sqrt(np.einsum("nii->ni", information))
        scale = scale[:, :, None] * scale[:, None, :]
        covariance[rows] = np.linalg.inv(information * scale) * scale
    gradient = np.zeros((n, 9))
    for column in (0, 3, 4):
        gradient[:, column] = population.volume / population.truth[:, column]
    centre = np.sqrt(np.einsum("nii->ni", covariance)[:, 1:3])
    return centre, np.sqrt(np.einsum("ni,nij,nj->n", gradient, covariance, gradient))
