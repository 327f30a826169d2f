"""HISTORY of reflection files: what was written comes back, within the lines that the format holds."""

from dataclasses import replace

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ed2d.history import LINE, LINES, Header, read_history, write_history
from ed2d.lattice import Lattice
from ed2d.noise import Noise
from ed2d.parameters import UnitCell, describe
from ed2d.profile import Profile
from stills import parameters

LATTICE = Lattice((505.6, 556.4), (19.1, 0.3), (-9.7, 17.2), 1e-9, -3e-10)
NOISE = Noise(gain=5.1, read_variance=100.0, offset=0.0, gain_error=0.1 + 0.2, estimated=True)
ERRORS = (0.012, 0.01, 0.02, 0.051, 0.1)
PROFILE = Profile((505.6, 556.4), 512.0, (2.5, 0.1, 1.8, 0.3, 1e-7, 0.2), 0.9, 0.4, 6.0, 0.05, ERRORS, 31, 0.07)
NUMBERS = st.floats(allow_nan=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_./]{0,20}", fullmatch=True)
PAIRS = st.tuples(NUMBERS, NUMBERS)

headers = st.builds(
    Header,
    program=st.just("ed2d 0.1.0"),
    step=st.sampled_from(["extract", "integrate"]),
    image=TEXT,
    batch=st.integers(1, 9_999_999),
    lattice=st.builds(Lattice, PAIRS, PAIRS, PAIRS, NUMBERS, NUMBERS),
    unit_cell=st.none() | st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    wavelength=st.none() | NUMBERS,
    noise=st.builds(
        Noise, gain=NUMBERS, read_variance=NUMBERS, offset=NUMBERS, gain_error=NUMBERS, estimated=st.booleans()
    ),
    profile=st.builds(
        Profile,
        origin=PAIRS,
        scale=NUMBERS,
        coefficients=st.lists(NUMBERS, min_size=3, max_size=20).map(tuple),
        reach=NUMBERS,
        narrowest=NUMBERS,
        widest=NUMBERS,
        scatter=NUMBERS,
        errors=st.lists(NUMBERS, max_size=6).map(tuple),
        straying=NUMBERS,
        spots=st.integers(0, 100_000),
    ),
    parameters=st.dictionaries(NAMES, TEXT | NUMBERS | st.integers(), max_size=4),
)


def header(**changes):
    usual = {"program": "ed2d 0.1.0", "step": "extract", "image": "A1", "batch": 1, "lattice": LATTICE}
    usual |= {"noise": NOISE, "profile": PROFILE}
    return Header(**usual | changes)


@given(headers)
def test_round_trip(header):
    """Every header comes back equal, of the same types, from lines that the format can hold."""
    lines = write_history(header)
    assert all(0 < len(line) <= LINE and line.isascii() and line.isprintable() for line in lines if "\x7f" not in line)
    assert all(line == line.strip() for line in lines)
    back = read_history(lines)
    assert back == header
    assert repr(back) == repr(header)


def test_notes():
    """The file says that L is not measured, and that cell and wavelength are not known where they are not."""
    bare = "\n".join(write_history(header()))
    assert "L is not measured" in bare and "placeholder" in bare and "wavelength is not known" in bare
    full = "\n".join(write_history(header(unit_cell=(62.45, 62.45, 120.0, 100.0), wavelength=0.0251)))
    assert "L is not measured" in full and "placeholder" not in full and "not known" not in full


def test_lines_of_other_programs_are_passed_over():
    """History that other programs added does not matter."""
    lines = ["From SORTMTZ 1/1/2030", *write_history(header()), "note: processed: again"]
    assert read_history(lines) == header()


@pytest.mark.parametrize("missing", range(9))
def test_an_incomplete_history_is_an_error(missing):
    """Without any one of its lines, except the notes, a history is refused."""
    lines = write_history(header(parameters={"LatticeExtract/BoxSize": 6, "mask": "none"}))
    left = lines[:missing] + lines[missing + 1 :]
    if lines[missing].startswith("note"):
        assert read_history(left).parameters["LatticeExtract/BoxSize"] == 6
    else:
        with pytest.raises(ValueError, match="HISTORY is not complete"):
            read_history(left)


def test_what_the_format_cannot_hold_is_an_error():
    """More than thirty lines are refused, not cut off: readers would take none of them."""
    with pytest.raises(ValueError, match="lines of HISTORY"):
        write_history(header(parameters={"mask": "x" * 10_000}))


@pytest.mark.parametrize("step", ["extract", "integrate"])
def test_the_longest_numbers_fit(step):
    """A learned profile, every parameter given and all numbers as long as they come: within thirty lines."""
    third = 1000 / 3
    fine = Noise(gain=third, read_variance=third, offset=third, gain_error=third, estimated=True, correlation=4 / 3)
    lattice = Lattice((third, third), (-third, third), (third, -third), -1e-7 / 3, 1e-7 / 3)
    shape = replace(PROFILE, origin=(third, third), coefficients=51 * (-0.123456,), errors=5 * (0.123456,))
    shape = replace(shape, reach=1.234567, scatter=0.1 / 3, straying=0.1 / 3)
    changes = {"min_radius": 1.25, "max_radius": 1234.5, "gain": 12.345, "read_noise": 12.34, "offset": 123.45}
    given = parameters(saturation=65535.0, mask=("any",), wavelength=0.025079, **changes)
    given = replace(given, unit_cell=UnitCell(a=62.451, b=62.452, gamma=119.95, c=100.25))
    values = describe(given, step) | {"mask file": "ABC0000001_mask.tif"}
    cell = {"unit_cell": (62.451, 62.452, 119.95, 100.25), "wavelength": 0.025079}
    whole = header(lattice=lattice, noise=fine, profile=shape, image="ABC0000001", parameters=values, **cell)
    assert read_history(write_history(whole)) == whole


def test_an_independent_reader_takes_thirty_lines(tmp_path):
    """gemmi reads back a history of the full length."""
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup("P 1")
    mtz.set_cell_for_all(gemmi.UnitCell(10, 10, 10, 90, 90, 90))
    mtz.set_data(np.zeros((1, 3), np.float32))
    mtz.history = [f"line {n}" for n in range(LINES)]
    mtz.write_to_file(str(tmp_path / "full.mtz"))
    assert gemmi.read_mtz_file(str(tmp_path / "full.mtz")).history == [f"line {n}" for n in range(LINES)]
