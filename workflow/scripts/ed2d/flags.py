"""The one registry of FLAG bits: constants, decoder, documentation and the rule which fits refine the lattice."""

from typing import NamedTuple


class Flag(NamedTuple):
    """One bit of FLAG: its value, whether it keeps the fit out of the refinement, and what it says."""

    bit: int
    excludes: bool
    meaning: str


REGISTRY = {
    "EDGE": Flag(1 << 0, False, "the box is cut by the edge of the image; fitted on the pixels that exist"),
    "MASKED": Flag(1 << 1, False, "the box holds masked or non-finite pixels; they have no weight"),
    "SATURATED": Flag(1 << 2, False, "the box holds saturated pixels; they have no weight"),
    "ZINGER": Flag(1 << 3, False, "isolated outlying pixels of the box were given no weight"),
    "NOT_FITTED": Flag(1 << 4, True, "too few usable pixels under the spot; no fit, NaN"),
    "NOT_CONVERGED": Flag(1 << 5, True, "the free fit did not converge"),
    "WEAK": Flag(1 << 6, True, "too weak for a free fit; centre and shape come from the neighbourhood"),
    "WIDTH": Flag(1 << 7, True, "a fitted width is implausible for this image"),
    "CENTRE": Flag(1 << 8, True, "the fitted centre is too far from the calculated position, or on unusable pixels"),
    "POOR_FIT": Flag(1 << 9, True, "what noise does not explain of the box is large against the peak"),
    "OUTLIER": Flag(1 << 10, True, "the position disagrees with the refined lattice"),
    "OVERLAP": Flag(1 << 11, False, "a neighbour lies in the box or close to it; both were fitted together"),
}

EDGE, MASKED, SATURATED, ZINGER, NOT_FITTED, NOT_CONVERGED, WEAK, WIDTH, CENTRE, POOR_FIT, OUTLIER, OVERLAP = (
    flag.bit for flag in REGISTRY.values()
)
EXCLUDING = sum(flag.bit for flag in REGISTRY.values() if flag.excludes)


def decode(value):
    """Names of the bits set in one FLAG value."""
    return [name for name, flag in REGISTRY.items() if int(value) & flag.bit]
