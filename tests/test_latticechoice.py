"""Which lattice is measured, of those that an info.xml has."""

from dataclasses import replace

import pytest

from ed2d.emdatainfo import Document
from ed2d.latticechoice import chosen_lattice
from emdatafiles import LATTICE, lattice_xml

OTHER = replace(LATTICE, origin=(511.0, 556.4))
ACCEPT, PROPOSE = {"search": "accept"}, {"search": "propose"}


def searched(sure="true", inputs="now", lattice=LATTICE, reason=""):
    """XML of a search result."""
    found = lattice_xml(lattice, "SearchedLattice") if lattice else ""
    reason = f'<Reason value="{reason}"/>' if reason else ""
    items = (
        f'<Inputs value="{inputs}"/><Confidence value="0.62" type="float"/><Sure value="{sure}" type="bool"/>{reason}'
    )
    return f"<DiffSearch>{items}{found}</DiffSearch>"


def choice(*results, config=ACCEPT):
    text = f"<EMDataInfo><DiffProcessingResults>{''.join(results)}</DiffProcessingResults></EMDataInfo>"
    return chosen_lattice(Document.parse(text.encode(), "info.xml"), config, "now")


def rejected(x=LATTICE.origin[0]):
    return lattice_xml(replace(LATTICE, origin=(x, LATTICE.origin[1])), "RejectedLattice")


def test_the_lattice_of_the_user_wins():
    """Over a sure one, and over the rejection of itself."""
    found = choice(lattice_xml(OTHER), searched(), rejected(511.0))
    assert found.lattice == OTHER and found.verified and not found.reason and found.name == "VerifiedLattice"


def test_a_sure_one_is_accepted():
    """With its very digits; also where another one was rejected."""
    for results in ((searched(),), (searched(), rejected(LATTICE.origin[0] + 1.01))):
        found = choice(*results)
        assert found.lattice == LATTICE and found.lattice.digest() == LATTICE.digest()
        assert not found.verified and not found.reason and found.name == "SearchedLattice"


@pytest.mark.parametrize(
    ("results", "config", "reason"),
    [
        ((), ACCEPT, "is not searched yet; run again"),
        ((searched(inputs="before"),), ACCEPT, "was searched with other values; run again"),
        (
            (searched(sure="false", reason="one vector off"),),
            ACCEPT,
            "confidence 0.62: one vector off; `snakemake verify`",
        ),
        (
            (searched(sure="false", lattice=None, reason="too few peaks"),),
            ACCEPT,
            "no lattice was found: too few peaks;",
        ),
        ((searched(), rejected(LATTICE.origin[0] + 0.99)), ACCEPT, "is rejected; give a VerifiedLattice"),
        ((searched(),), PROPOSE, "confidence 0.62: a lattice was found and nobody has verified it; `snakemake verify`"),
        ((searched(),), {"search": "never"}, "nobody has verified it"),
        ((searched(),), {}, "nobody has verified it"),
    ],
)
def test_without_one_there_is_a_reason(results, config, reason):
    found = choice(*results, config=config)
    assert found.lattice is None and not found.verified and reason in found.reason
