"""Lattices in info.xml: read, written, verified and refined ones, and what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from ed2d.emdatainfo import (
    Document,
    group_element,
    lattice_element,
    read_lattice,
    refined_lattice,
    replace_group,
    verified_lattice,
)
from ed2d.errors import InputError
from ed2d.lattice import Lattice
from emdatafiles import EXTRACT, LATTICE, lattice_xml, refusal, wrap, write

coordinates = st.floats(-1e6, 1e6)
distortions = st.floats(-1, 1)


@given(st.tuples(*[coordinates] * 6), distortions, distortions)
@example((0.0, -0.0, 10.0, -0.0, 0.0, 10.0), -0.0, -0.0)
def test_lattice_round_trip(numbers, barrel, spiral):
    """A lattice read back from its element is the same to the last bit, its digest included."""
    ox, oy, ax, ay, bx, by = numbers
    lattice = Lattice(origin=(ox, oy), a=(ax, ay), b=(bx, by), barrel=barrel, spiral=spiral)
    text = etree.tostring(lattice_element("L", lattice))
    document = Document(Path("info.xml"), etree.fromstring(text))
    try:
        assert read_lattice(document.root, document).digest() == lattice.digest()
    except InputError as error:
        assert "shorter than 1 px" in str(error) or "parallel" in str(error)
        sine = abs(ax * by - ay * bx) / max(np.hypot(ax, ay) * np.hypot(bx, by), 1e-300)
        assert min(np.hypot(ax, ay), np.hypot(bx, by)) < 1 or sine < 1.001e-3


def test_distortions_are_optional(document):
    """A lattice without distortions has none."""
    plain = Lattice(origin=(1.0, 2.0), a=(10.0, 0.0), b=(0.0, 12.0))
    text = re.sub("<(Barrel|Spiral)Distortion[^>]*>", "", lattice_xml(plain))
    assert "Distortion" not in text
    assert verified_lattice(document(wrap(text))) == plain


@pytest.mark.parametrize(
    ("a", "b", "part"),
    [
        ((10.0, 5.0), (20.0, 10.0), "First and Second are parallel"),
        ((10.0, 5.0), (-20.0, -10.01), "First and Second are parallel"),
        ((0.0, 0.0), (0.0, 10.0), "First"),
        ((10.0, 0.0), (0.0, 0.9), "Second (0.0, 0.9) is shorter than 1 px"),
        ((10.0, 0.0), (0.0, 1e7), "Second/y"),
    ],
)
def test_singular_lattice(document, a, b, part):
    """Basis vectors that span no lattice are refused with file, group and values."""
    info = document(wrap(lattice_xml(Lattice(origin=(0.0, 0.0), a=a, b=b))))
    message = refusal(lambda: verified_lattice(info), info.path, "DiffProcessing/VerifiedLattice")
    assert part.split()[0] in message and part.split()[-1] in message


def test_incomplete_lattice(document):
    """A lattice without one of its numbers is refused with the path of that number."""
    info = document(wrap(lattice_xml(LATTICE).replace('<y value="17.4" type="float"/>', "")))
    refusal(lambda: verified_lattice(info), info.path, "DiffProcessing/VerifiedLattice/Second/y", "missing")


def test_verified_lattice_places(document):
    """The verified lattice is found in both groups; two that differ are refused, two that agree are one."""
    other = Lattice(origin=(1.0, 2.0), a=LATTICE.a, b=LATTICE.b)

    def both(first, second):
        results = f"<DiffProcessingResults>{second}</DiffProcessingResults>"
        return document(wrap(first).replace("</EMDataInfo>", f"{results}</EMDataInfo>"))

    assert verified_lattice(both("", "")) is None
    assert verified_lattice(both(lattice_xml(LATTICE), "")) == LATTICE
    assert verified_lattice(both("", lattice_xml(LATTICE))) == LATTICE
    assert verified_lattice(both(lattice_xml(LATTICE), lattice_xml(LATTICE))) == LATTICE
    info = both(lattice_xml(LATTICE), lattice_xml(other))
    refusal(
        lambda: verified_lattice(info),
        info.path,
        "DiffProcessing/Verif",
        "DiffProcessingResults/Verif",
        "505.6",
        "differ",
    )


def test_refined_lattice_descends(tmp_path):
    """The refined lattice is used only with the verified lattice that it was refined from."""
    path = write(tmp_path, wrap(""))
    refined = Lattice(origin=(505.7, 556.3), a=LATTICE.a, b=LATTICE.b)
    assert refined_lattice(Document.read(path), LATTICE) is None
    element = group_element("DiffExtract", {"Spots": 1})
    element.append(lattice_element("RefinedLattice", refined, VerifiedDigest=LATTICE.digest(), SigmaOffsetX=0.01))
    replace_group(path, EXTRACT, element)
    info = Document.read(path)
    assert refined_lattice(info, LATTICE) == refined
    assert refined_lattice(info, refined) is None
    assert info.required(f"{EXTRACT}/RefinedLattice/SigmaOffsetX", "float") == 0.01


def test_lattice_element_refuses_nan():
    """A lattice that is not finite cannot be written as if a value were missing."""
    with pytest.raises(ValueError, match="not a finite lattice"):
        lattice_element("L", Lattice(origin=(np.nan, 0.0), a=(1.0, 0.0), b=(0.0, 1.0)))
