"""What the tests of info.xml share: contents, a lattice, and how refusals are judged."""

from pathlib import Path

import pytest
from lxml import etree

from ed2d.emdatainfo import lattice_element
from ed2d.errors import InputError
from ed2d.lattice import Lattice

LATTICE = Lattice(origin=(505.6, 556.4), a=(20.1, 0.3), b=(-9.7, 17.4), barrel=1e-9, spiral=-2.5e-10)
EXTRACT = "DiffProcessingResults/DiffExtract"


def write(directory, content):
    path = Path(directory) / "info.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def wrap(content):
    return f"<EMDataInfo>\n <DiffProcessing>\n  {content}\n </DiffProcessing>\n</EMDataInfo>\n"


def refusal(action, *parts):
    """Text of the InputError that `action` raises: one line, with a cure, that holds all `parts`."""
    with pytest.raises(InputError) as caught:
        action()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert caught.value.cure and caught.value.problem
    for part in parts:
        assert str(part) in message
    return message


def lattice_xml(lattice, tag="VerifiedLattice", **extra):
    return etree.tostring(lattice_element(tag, lattice, **extra), encoding="unicode")
