"""Which lattice of an image is measured: the user's, else one of an up-to-date search that is sure and accepted."""

from typing import NamedTuple

import numpy as np

from .emdatainfo import SEARCHED, rejected_lattice, searched_lattice, verified_lattice
from .lattice import Lattice

SAME = 1.0  # px, of origins and vectors of a lattice that is found again after it was rejected
LOOK = "`snakemake verify`"


class Choice(NamedTuple):
    """The lattice to measure, or None.

    verified: whether it is the user's; reason: why there is none, with the cure, else "".
    """

    lattice: Lattice | None
    verified: bool
    reason: str

    @property
    def name(self):
        """Its group in info.xml."""
        return "VerifiedLattice" if self.verified else "SearchedLattice"


def chosen_lattice(info, config, searched):
    """The Choice among the lattices of the Document info.xml.

    searched: the digest of the values that a search would be made with now. `config` says whether lattices are measured
    that nobody has verified. InputError for a bad value.
    """
    verified = verified_lattice(info)
    if verified:
        return Choice(verified, True, "")
    if info.group(SEARCHED) is None:
        return Choice(None, False, "its lattice is not searched yet; run again")
    if info.item(f"{SEARCHED}/Inputs", "string") != searched:
        return Choice(None, False, "its lattice was searched with other values; run again")
    found = searched_lattice(info)
    reason = _reason_to_wait(info, found, config)
    return Choice(None if reason else found, False, reason)


def _reason_to_wait(info, found, config):
    """Why the lattice that was found is not measured, with the cure, or ""."""
    confidence = info.item(f"{SEARCHED}/Confidence", "float") or 0.0
    said = info.item(f"{SEARCHED}/Reason", "string") or "it is not sure"
    rejected = rejected_lattice(info)
    if found is None:
        return f"no lattice was found: {said}; {LOOK}, or give a VerifiedLattice"
    if rejected and same_lattice(found, rejected):
        return "the lattice that was found is rejected; give a VerifiedLattice, or change LatticeSearch"
    if not info.item(f"{SEARCHED}/Sure", "bool"):
        return f"confidence {confidence:.3g}: {said}; {LOOK}"
    if config.get("search") != "accept":
        return f"confidence {confidence:.3g}: a lattice was found and nobody has verified it; {LOOK}"
    return ""


def same_lattice(one, other):
    """Whether two lattices have the same origin and vectors, but for SAME."""
    pairs = ((one.origin, other.origin), (one.a, other.a), (one.b, other.b))
    return all(np.hypot(*np.subtract(*pair)) <= SAME for pair in pairs)
