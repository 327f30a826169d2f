"""What a human needs to index a still: clear spots, enough of them in every direction, and a way to find the origin.

I/sigma by the noise of the ellipse of 3 widths; a spot is visible where it is on the image and in no shadow:

- CLEAR_SPOTS visible spots of the lattice have I/sigma > CLEAR;
- at least OUTSIDE of them, and OUTSIDE_SHARE, are in no class of any sublattice of index 2, 3 and 5;
- CLEAR_PAIRS Friedel pairs of clear spots, or a direct beam that is visible.
"""

import numpy as np

from ed2d.nuisance import Beam

CLEAR, CLEAR_SPOTS, CLEAR_PAIRS, OUTSIDE, OUTSIDE_SHARE = 6.0, 25, 8, 8, 0.05
STRONGEST = 3e6  # electrons, mean volume at the origin


def limits(simulation, truth):
    """Numbers of spots, of visible, of clear ones, of clear pairs, and the least number outside of a sublattice."""
    visible = _visible(simulation, truth)
    clear = truth[visible & (clarity(simulation, truth) > CLEAR)]
    miller = np.column_stack([clear["h"], clear["k"]])
    return {
        "spots": len(truth),
        "visible": int(visible.sum()),
        "clear": len(clear),
        "pairs": _pairs(miller),
        "outside": min(outside_of(miller, index) for index in (2, 3, 5)),
    }


def clarity(simulation, truth, dose=1.0):
    """True I/sigma (n,) at `dose` times the volumes: sigma^2 = g V + 9 pi s1 s2 (g background + read noise^2)."""
    volume, background = dose * truth["vol_counts"], simulation.gain * np.maximum(truth["bg_counts"], 0)
    pixels = 9 * np.pi * truth["s1"] * truth["s2"]
    return volume / np.sqrt(simulation.gain * volume + pixels * (background + simulation.read_noise**2) + 1e-9)


def _visible(simulation, truth):
    """Spots (n,) of which 2 widths are on the image and in no shadow."""
    x, y, reach = truth["x"], truth["y"], 2 * truth["s1"]
    rows, columns = simulation.shape
    free = np.minimum(np.minimum(x, columns - 1 - x), np.minimum(y, rows - 1 - y)) > reach
    for shadow in simulation.shadows:
        free &= shadow.outside(x, y) > reach + shadow.soft
    return free


def _pairs(miller):
    indices = set(map(tuple, miller.tolist()))
    return sum((-h, -k) in indices for h, k in indices) // 2


def outside_of(miller, prime):
    """The least number of points outside of the fullest class of a sublattice of prime index."""
    forms = [(1, k) for k in range(prime)] + [(0, 1)]
    classes = [np.bincount(miller @ form % prime, minlength=prime) for form in np.array(forms)]
    return min(len(miller) - int(members.max()) for members in classes)


def suffices(simulation, truth, visible, dose=1.0):
    """Whether a human can index the still at `dose` times the volumes."""
    clear = truth[visible & (clarity(simulation, truth, dose) > CLEAR)]
    miller = np.column_stack([clear["h"], clear["k"]])
    if len(clear) < CLEAR_SPOTS or not (_sees_beam(simulation) or _pairs(miller) >= CLEAR_PAIRS):
        return False
    return min(outside_of(miller, index) for index in (2, 3, 5)) >= max(OUTSIDE, OUTSIDE_SHARE * len(clear))


def _sees_beam(simulation):
    beams = [glow for glow in simulation.glows if isinstance(glow, Beam)]
    return any(all(shade.outside(*beam.center) > 3 * beam.sigma for shade in simulation.shadows) for beam in beams)


def least_dose(simulation, truth):
    """The least factor of the volumes that suffices; infinite where none does."""
    visible, doses = _visible(simulation, truth), STRONGEST / simulation.peak_volume * 0.9 ** np.arange(140)[::-1]
    low, high = 0, len(doses)
    while low < high:
        middle = (low + high) // 2
        if suffices(simulation, truth, visible, doses[middle]):
            high = middle
        else:
            low = middle + 1
    return doses[low] if low < len(doses) else np.inf
