"""Profile fits: volumes of spots with known centre and shape, as linear forms of the pixels of their boxes."""

from dataclasses import dataclass, replace

import numpy as np

from . import gaussian
from .boxes import Boxes, grid
from .normalequations import inverse
from .pointspread import undone, widened
from .spots import cleaned, model_variance

BACKGROUND = slice(1, 4)  # of the unknowns: constant, slope along x, slope along y
OWN_PLANE = 4  # unknowns before those of the neighbours


@dataclass(frozen=True)
class ProfileFits:
    """Fits to n boxes of k profiles: the spot's own of volume 1, a plane of three terms, and the neighbours'.

    boxes: freed of zingers; profiles (n, k, side^2); forms (n, k, side^2): coefficients of the pixels in each unknown;
    unknowns (n, k): volume, constant, slopes, volumes of the neighbours; variance (n, side^2): of pixels in large sums,
    by the model; correlation: of the noise; broadening (n, side^2): change of the own profile with the logarithm of its
    width.
    """

    boxes: Boxes
    profiles: np.ndarray
    forms: np.ndarray
    unknowns: np.ndarray
    variance: np.ndarray
    correlation: float
    broadening: np.ndarray

    @property
    def volume(self):
        """Profile-fitted intensities (n,), counts."""
        return self.unknowns[:, 0]

    @property
    def model(self):
        """Expected counts (n, side^2)."""
        return np.einsum("nk,nkp->np", self.unknowns, self.profiles)

    @property
    def residual(self):
        """Counts less model over their standard deviation (n, side^2), 0 where not usable."""
        return np.where(self.boxes.usable, self.boxes.values - self.model, 0.0) / np.sqrt(self.variance)

    @property
    def reduced_chi2(self):
        """Mean square (n,) of the residual over its degrees of freedom, 1 where the model is right.

        Where noise is correlated, single pixels vary less than `variance` says.
        """
        unknowns = np.count_nonzero(np.any(self.profiles, axis=2), axis=1)
        dof = np.maximum(np.count_nonzero(self.boxes.usable, axis=1) - unknowns, 1)
        return self.correlation * np.sum(self.residual**2, axis=1) / dof

    @property
    def slope(self):
        """Counts (n, side^2) that the slope of the background adds."""
        return np.einsum("nk,nkp->np", self.unknowns[:, 2:4], self.profiles[:, 2:4])

    @property
    def surroundings(self):
        """Expected counts (n, side^2) of all but the spot itself and the constant of the background."""
        return np.einsum("nk,nkp->np", self.unknowns[:, self.others], self.profiles[:, self.others])

    @property
    def others(self):
        """The unknowns beside the spot itself and the constant of the background."""
        return [2, 3, *range(OWN_PLANE, self.unknowns.shape[1])]

    def variances(self, forms):
        """Variances (..., n) of linear forms (..., n, side^2) of the pixels, from the noise of these alone."""
        return np.sum(self._independent(forms) ** 2, axis=-1)

    def covariances(self, forms):
        """Covariances (s, s, n) of s linear forms (s, n, side^2) of the pixels, from the noise of these alone."""
        independent = self._independent(forms)
        return np.einsum("snp,tnp->stn", independent, independent, optimize=True)

    def _independent(self, forms):
        """Coefficients of independent variables of variance 1 that make what the forms make of the noise."""
        if self.correlation <= 1:
            return forms * np.sqrt(self.variance)
        return undone(forms, self.correlation) * np.sqrt(widened(self.variance))


def fit_profiles(boxes, noise, centre, shape, neighbours):
    """ProfileFits of flat boxes with centres (n, 2) relative to (x0, y0), px, and shapes (n, 3).

    Weighted linear least squares, u = (P W P^T)^-1 P W y, first with even weights, freed of zingers; then with weights
    1/variance of the model that came out, never of the data.
    """
    own = gaussian.unit_volume(boxes.half, centre, shape)
    plane = np.stack([np.ones(len(own[0])), *grid(boxes.half)])
    profiles = np.concatenate(
        [own[:, None], np.broadcast_to(plane, (len(own), *plane.shape)), neighbours.profiles], axis=1
    )
    boxes = boxes.restricted(neighbours.apart)
    rows = np.arange(len(boxes))
    even, boxes = cleaned(boxes, rows, noise, lambda some, which: _Even.of(some, profiles[which]), _parts)
    variance = model_variance(boxes, noise, *_parts(boxes.half, even))
    forms = _forms(profiles, boxes.usable / variance)
    unknowns = np.einsum("nkp,np->nk", forms, boxes.values)
    return ProfileFits(boxes, profiles, forms, unknowns, variance, noise.correlation, _broadening(own, shape))


def _forms(profiles, weights):
    """Coefficients (n, k, side^2) of the pixels in the unknowns of weighted least squares."""
    weighted = profiles * weights[:, None]
    return inverse(weighted @ profiles.transpose(0, 2, 1)) @ weighted


@dataclass(frozen=True)
class _Even:
    """Unknowns (n, k) of profiles (n, k, side^2), from least squares with even weights."""

    profiles: np.ndarray
    unknowns: np.ndarray

    @staticmethod
    def of(boxes, profiles):
        forms = _forms(profiles, boxes.usable.astype(float))
        return _Even(profiles, np.einsum("nkp,np->nk", forms, boxes.values))

    def __getitem__(self, rows):
        return _Even(self.profiles[rows], self.unknowns[rows])

    def replaced(self, rows, other):
        unknowns = self.unknowns.copy()
        unknowns[rows] = other.unknowns
        return replace(self, unknowns=unknowns)


def _parts(_, fits):
    """Counts (n, side^2) of the background and of all spots; volumes below zero, which no count can have, left out."""
    unknowns, profiles = fits.unknowns, fits.profiles
    volumes = np.maximum(np.delete(unknowns, BACKGROUND, axis=1), 0)
    spots = np.einsum("nk,nkp->np", volumes, np.delete(profiles, BACKGROUND, axis=1))
    return np.einsum("nk,nkp->np", unknowns[:, BACKGROUND], profiles[:, BACKGROUND]), spots


def _broadening(own, shape):
    """Derivatives (n, side^2) of Gaussians of volume 1, exp(-q/2)/area, by the logarithm of their width: (q - 2)."""
    exponent = np.log(np.maximum(own * gaussian.area(shape)[:, None], 1e-300))
    return own * (-2 * exponent - 2)
