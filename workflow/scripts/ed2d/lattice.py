"""The two-dimensional lattice of a still image and its bending by the lenses."""

import hashlib
from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Lattice:
    """Origin, two basis vectors (px; x = column, y = row, 0-based) and distortions (px^-2).

    position(h, k) = o + [[1 + Kb|s|^2, Ks|s|^2], [-Ks|s|^2, 1 + Kb|s|^2]] s,  s = h a + k b,
    with |s| the undistorted radius (barrel Kb, spiral Ks; IPLT's Lattice class).
    """

    origin: tuple[float, float]
    a: tuple[float, float]
    b: tuple[float, float]
    barrel: float = 0.0
    spiral: float = 0.0

    @property
    def basis(self):
        """Basis vectors as rows, (2, 2), px."""
        return np.array([self.a, self.b], float)

    @property
    def spacing(self):
        """Length of the shortest non-zero lattice vector, px (Gauss reduction)."""
        return float(np.linalg.norm(self.reduced_basis()[0]))

    @property
    def gamma(self):
        """Angle between the basis vectors, degrees, 0..180."""
        (ax, ay), (bx, by) = self.a, self.b
        return float(np.degrees(np.arctan2(abs(ax * by - ay * bx), ax * bx + ay * by)))

    def reduced_basis(self):
        """Shortest two independent lattice vectors as rows, (2, 2), px."""
        return reduced(self.basis)

    def reduced_index(self, miller):
        """Miller indices (n, 2) as integers in the reduced basis, in which neighbours are the nearest points."""
        return np.rint(miller @ self.basis @ np.linalg.inv(self.reduced_basis())).astype(int)

    def around(self, miller, distance):
        """Miller indices (n, 2) of all lattice points within `distance`, px, of points (n, 2), a set of n at a time.

        The points themselves, if they are lattice points, and some that are farther are among them.
        """
        basis = self.reduced_basis()
        to_miller = basis @ np.linalg.inv(self.basis)
        nearest = np.round(miller @ np.linalg.inv(to_miller))
        within = 1.2 * (distance + np.linalg.norm(basis, axis=1).sum() / 2)  # distortions move neighbours
        steps = int(np.ceil(1.2 * within / np.linalg.norm(basis[0])))
        for step in np.ndindex(2 * steps + 1, 2 * steps + 1):
            step = np.array(step) - steps
            if np.linalg.norm(step @ basis) < within:
                yield np.round((nearest + step) @ to_miller)

    @property
    def square_spacing(self):
        """Half the side of the largest square round a lattice point with no other point inside it, px."""
        u, v = self.reduced_basis()
        return float(min(np.abs(vector).max() for vector in (u, v, u + v, u - v)))

    @property
    def fold(self):
        """The |s|, px, at which the distortion folds the plane over; infinite where it never does.

        The radius |s| |1 + K |s|^2|, K = Kb - i Ks, grows while 1 + 4 Kb |s|^2 + 3 (Kb^2 + Ks^2) |s|^4 > 0.
        """
        discriminant = self.barrel**2 - 3 * self.spiral**2
        if self.barrel >= 0 or discriminant < 0:
            return np.inf
        return float((discriminant**0.5 - 2 * self.barrel) ** -0.5)

    def position(self, miller):
        """Calculated positions (n, 2), px, of (fractional) Miller indices (n, 2)."""
        s = np.asarray(miller, float) @ self.basis
        r2 = np.sum(s * s, axis=-1, keepdims=True)
        turned = s[..., ::-1] * np.array([1.0, -1.0])
        return np.asarray(self.origin) + (1 + self.barrel * r2) * s + self.spiral * r2 * turned

    def index(self, positions, iterations=30):
        """Fractional Miller indices (n, 2) of positions (n, 2), px: inverse of `position` by fixed-point iteration."""
        target = np.asarray(positions, float) - np.asarray(self.origin)
        s = target.copy()
        for _ in range(iterations):
            r2 = np.sum(s * s, axis=-1, keepdims=True)
            radial, turn = 1 + self.barrel * r2, self.spiral * r2
            turned = target[..., ::-1] * np.array([1.0, -1.0])
            s = (radial * target - turn * turned) / (radial**2 + turn**2)
        return s @ np.linalg.inv(self.basis)

    def digest(self):
        """Sixteen hexadecimal digits that change when any parameter changes."""
        text = ",".join(float(v).hex() for v in np.hstack(astuple(self)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def reduced(basis):
    """Shortest two independent vectors of the lattice with a basis (2, 2), as rows (Lagrange-Gauss reduction)."""
    u, v = sorted(basis, key=np.linalg.norm)
    while True:
        v = v - np.round(u @ v / (u @ u)) * u
        if v @ v >= u @ u:
            return np.array([u, v])
        u, v = v, u


def predict(lattice, *, shape, min_radius=0.0, max_radius=0.0):
    """Miller indices (n, 2) whose calculated positions lie inside an image of shape (rows, columns), except (0, 0).

    `min_radius`, `max_radius`: distance from the origin, px; max_radius 0 means to the image edge.
    Points where the distortion folds the plane over (the radius no longer grows with |s|) are not predicted.
    """
    rows, columns = shape
    origin = np.asarray(lattice.origin)
    corners = np.array([[x, y] for x in (-0.5, columns - 0.5) for y in (-0.5, rows - 0.5)]) - origin
    reach = np.linalg.norm(corners, axis=1).max()
    if max_radius > 0:
        reach = min(reach, max_radius)
    if lattice.barrel < 0:  # the radius is nowhere before the fold less than half of |s|
        reach = min(reach / max(0.5, 1 + 4 * lattice.barrel * reach**2), lattice.fold)
    limit = np.ceil(reach * np.linalg.norm(np.linalg.inv(lattice.basis), axis=0)).astype(int)
    h, k = np.mgrid[-limit[0] : limit[0] + 1, -limit[1] : limit[1] + 1]
    miller = np.column_stack([h.ravel(), k.ravel()])
    miller = miller[np.any(miller != 0, axis=1)]
    s = np.linalg.norm(miller @ lattice.basis, axis=1)
    xy = lattice.position(miller)
    radius = np.linalg.norm(xy - origin, axis=1)
    inside = np.all((xy >= -0.5) & (xy < np.array([columns, rows]) - 0.5), axis=1)
    inside &= radius >= min_radius
    if max_radius > 0:
        inside &= radius <= max_radius
    return miller[inside & (s < lattice.fold)]
