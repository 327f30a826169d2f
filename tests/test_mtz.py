import importlib.util
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from ed2d.errors import InputError
from ed2d.lattice import Lattice
from ed2d.mtz import Header, batch_number, from_gemmi, read_mtz, to_gemmi, write_mtz
from ed2d.noise import Noise
from ed2d.profile import Profile
from ed2d.table import empty_table, extract_columns, extract_dtype, integrate_columns, integrate_dtype

GROW = 2
COLUMNS = {"extract": extract_columns(), "integrate": integrate_columns(GROW)}
LATTICES = {
    "oblique": Lattice((505.6, 556.4), (19.1, 0.3), (-9.7, 17.2), 1e-9, -3e-10),
    "left-handed": Lattice((100.25, 90.5), (0.0, 21.0), (20.0, 3.0)),
}
CELLS = {None: None, "hexagonal": (62.45, 62.45, 120.0, 100.0), "oblique": (51.0, 87.3, 97.35, 250.0)}


def make_table(step, rng):
    dtype = extract_dtype() if step == "extract" else integrate_dtype(GROW)
    h, k = np.mgrid[-6:7, -5:6]
    keep = rng.permutation(np.flatnonzero((h.ravel() != 0) | (k.ravel() != 0)))[:110]
    table = empty_table(dtype, len(keep))
    for name in dtype.names:
        integers = dtype[name].kind == "i"
        table[name] = rng.integers(0, 1 << 12, len(table)) if integers else rng.lognormal(2, 3, len(table))
    table["I"] -= 50
    table["H"], table["K"] = h.ravel()[keep], k.ravel()[keep]
    missing = ("XOBS", "VARXOBS", "RCHI2", "A") + (("I", "VARI") if step == "extract" else ("I1", "VARI1", "BGINT"))
    for name in missing:
        table[name][:7] = np.nan
    return table


def make_header(kind, **changes):
    header = Header(
        program="ed2d 0.1.0",
        step=kind,
        image="ABC0000042",
        batch=42,
        lattice=LATTICES["oblique"],
        unit_cell=CELLS["hexagonal"],
        wavelength=0.02508,
        noise=Noise(gain=5.1, read_variance=100.0, offset=0.0, gain_error=0.1 + 0.2, estimated=True),
        profile=Profile((5.1, 6.2), 512.0, (2.5, 0.1, 1.8), 0.9, 0.4, 6.0, 0.05, (0.01, 0.02), 31, 0.07),
        parameters={"BoxSize": 6, "MaxRadius": 412.7, "Mask": "polygon " * 20},
    )
    return replace(header, **changes)


@pytest.fixture(params=["extract", "integrate"])
def step(request):
    return request.param


@pytest.fixture
def table(step):
    return make_table(step, np.random.default_rng(3))


@pytest.fixture
def written(tmp_path, table, step):
    path = tmp_path / f"ABC0000042_{step[:3]}.mtz"
    write_mtz(path, table, make_header(step))
    return path


def expected_columns(table, step):
    """(h, k) -> values of the file's columns, float32, computed here from the table."""
    values = [np.sqrt(table[c.field]) if c.name.startswith("SIG") else table[c.field] for c in COLUMNS[step]]
    rows = np.stack(values, axis=1).astype(np.float32)
    return dict(zip(zip(table["H"].tolist(), table["K"].tolist(), strict=True), rows, strict=True))


def assert_rows(h, k, rows, table, step):
    """Original indices and all values of an independent reader are those of the table, NaN where it has NaN."""
    expected = expected_columns(table, step)
    found = dict(zip(zip(map(int, h), map(int, k), strict=True), np.asarray(rows), strict=True))
    assert len(h) == len(table) and found.keys() == expected.keys()
    for index, values in found.items():
        np.testing.assert_array_equal(values.astype(np.float32), expected[index])


@pytest.mark.parametrize("lattice", LATTICES)
@pytest.mark.parametrize("cell", CELLS)
def test_round_trip(tmp_path, table, step, lattice, cell):
    """Header and indices come back exactly, values to float32, and a second round changes nothing at all."""
    header = make_header(step, lattice=LATTICES[lattice], unit_cell=CELLS[cell], wavelength=0.0251 if cell else None)
    write_mtz(tmp_path / "a.mtz", table, header)
    back, header_back = read_mtz(tmp_path / "a.mtz")
    assert header_back == header
    assert back.dtype == table.dtype
    order = np.lexsort([table["K"], table["H"]])
    for name in table.dtype.names:
        np.testing.assert_allclose(back[name], table[name][order], rtol=3e-7)
    write_mtz(tmp_path / "b.mtz", back, header_back)
    assert (tmp_path / "a.mtz").read_bytes() == (tmp_path / "b.mtz").read_bytes()


def test_pair_without_a_file(table, step):
    """from_gemmi undoes to_gemmi in memory, and leaves its argument as it was."""
    mtz = to_gemmi(table, make_header(step))
    before = mtz.write_to_bytes()
    back, header = from_gemmi(mtz)
    assert header == make_header(step) and len(back) == len(table)
    assert mtz.write_to_bytes() == before


def test_equal_bytes(tmp_path, table, step):
    """Equal input gives equal bytes, under any name and in any order of the rows; no path stands in them."""
    for name, rows in (("a", table), ("b", table[::-1])):
        write_mtz(tmp_path / name, rows, make_header(step))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "a").read_bytes()


def test_raw_gemmi(written, table, step):
    """gemmi finds an unmerged P1 file of the agreed columns and types, sorted, and the original indices."""
    mtz = gemmi.read_mtz_file(str(written))
    assert len(mtz.batches) == 1
    assert mtz.spacegroup.hm == "P 1" and mtz.sort_order == [1, 2, 3, 4, 5]
    assert "".join(column.type for column in mtz.columns[:5]) == "HHHYB"
    assert [(c.label, c.type) for c in mtz.columns[5:]] == [(c.name, c.mtz_type) for c in COLUMNS[step]]
    np.testing.assert_array_equal(mtz.array[:, 4], 42)
    assert mtz.array[:, :4].tolist() == sorted(mtz.array[:, :4].tolist())
    assert mtz.title == f"ed2d 0.1.0 {step}: ABC0000042"
    assert mtz.switch_to_original_hkl()
    np.testing.assert_array_equal(mtz.array[:, 2], 0)
    assert_rows(mtz.array[:, 0], mtz.array[:, 1], mtz.array[:, 5:], table, step)


@pytest.mark.parametrize("cell", CELLS)
def test_cell_and_wavelength_everywhere(table, step, cell):
    """Cell and wavelength stand in the file, both datasets and the batch; a placeholder has the lattice's angle."""
    header = make_header(step, unit_cell=CELLS[cell])
    a, b, gamma, c = CELLS[cell] or (100, 100, header.lattice.gamma, 100)
    mtz = to_gemmi(table, header)
    assert [dataset.id for dataset in mtz.datasets] == [0, 1]
    for cell_found in (mtz.cell, *(dataset.cell for dataset in mtz.datasets), mtz.batches[0].cell):
        assert cell_found.parameters == pytest.approx((a, b, c, 90, 90, gamma), rel=1e-6)
    wavelengths = [*(dataset.wavelength for dataset in mtz.datasets), mtz.batches[0].wavelength]
    assert wavelengths == pytest.approx([0.02508] * 3, rel=1e-6)
    assert mtz.batches[0].number == 42 and mtz.batches[0].dataset_id == 1
    assert any("placeholder" in line for line in mtz.history) == (cell is None)


def test_gemmi_program(written):
    """The command `gemmi mtz` finds all reflections inside the CCP4 asymmetric unit."""
    program = shutil.which("gemmi") or shutil.which("gemmi", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("the command gemmi (package gemmi-program) is not installed")
    result = subprocess.run([program, "mtz", "--check-asu=ccp4", written], capture_output=True, text=True, check=True)
    assert "inside / outside of ASU: 110 / 0" in result.stdout


def test_reciprocalspaceship(written, table, step):
    """reciprocalspaceship finds unmerged data with the original indices and all values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages do when they are imported is not tested here
        rs = pytest.importorskip("reciprocalspaceship", reason="reciprocalspaceship is not installed")
    data = rs.read_mtz(str(written))
    assert not data.merged and data.spacegroup.hm == "P 1"
    index = data.reset_index()
    rows = np.stack([data[c.name].to_numpy(dtype=np.float64, na_value=np.nan) for c in COLUMNS[step]], axis=1)
    assert (index["L"] == 0).all() and (index["BATCH"] == 42).all()
    assert_rows(index["H"], index["K"], rows, table, step)


IOTBX = """
import sys
import numpy as np
import iotbx.mtz
mtz = iotbx.mtz.object(sys.argv[1])
intensity = [a for a in mtz.as_miller_arrays(merge_equivalents=False) if a.info().labels[0] == "I"][0]
np.savez(
    sys.argv[2],
    batches=[batch.num() for batch in mtz.batches()],
    cells=[crystal.unit_cell().parameters() for crystal in mtz.crystals()],
    wavelengths=[dataset.wavelength() for crystal in mtz.crystals() for dataset in crystal.datasets()],
    hkl=list(mtz.extract_original_index_miller_indices()),
    rows=[list(mtz.get_column(name).extract_values(not_a_number_substitute=np.nan)) for name in sys.argv[3:]],
    labels=intensity.info().labels,
    intensities=len(intensity.indices()),
)
"""


def test_iotbx(written, table, step):
    """iotbx finds one batch, the original indices, cell and wavelength, and missing values where there is NaN."""
    if importlib.util.find_spec("iotbx") is None:
        pytest.skip("iotbx (package cctbx-base) is not installed")
    found = written.with_suffix(".npz")  # in a process of its own: cctbx crashes beside other compiled packages
    names = [column.name for column in COLUMNS[step]]
    subprocess.run([sys.executable, "-c", IOTBX, written, found, *names], check=True)
    with np.load(found) as data:
        assert data["batches"].tolist() == [42]
        for cell in data["cells"]:
            assert cell == pytest.approx((62.45, 62.45, 100, 90, 90, 120))
        assert data["wavelengths"] == pytest.approx([0.02508] * 2)
        assert data["labels"].tolist()[:2] == ["I", "SIGI"]
        assert data["intensities"] == np.isfinite(table["I"]).sum()
        h, k, layer = data["hkl"].T
        assert not layer.any()
        assert_rows(h, k, data["rows"].T, table, step)


def test_a_name_in_another_script(tmp_path, table, step):
    """Image names that are not ASCII come back; the file itself is ASCII in its headers."""
    header = make_header(step, image="Kristall Ü\n7" + "ß" * 60, batch=7)
    write_mtz(tmp_path / "x.mtz", table, header)
    assert read_mtz(tmp_path / "x.mtz")[1] == header
    mtz = gemmi.read_mtz_file(str(tmp_path / "x.mtz"))
    for text in (mtz.title, mtz.batches[0].title, mtz.datasets[1].dataset_name, *mtz.history):
        assert text.isascii() and text.isprintable()


def test_infinities_become_missing(table, step):
    """An auxiliary value without a bound in float32 is a missing one."""
    table["XOBS"][20], table["VARXOBS"][20], table["RCHI2"][20] = -np.inf, np.inf, 1e39
    back, _ = from_gemmi(to_gemmi(table, make_header(step)))
    row = back[(back["H"] == table["H"][20]) & (back["K"] == table["K"][20])]
    assert np.isnan([row["XOBS"], row["VARXOBS"], row["RCHI2"]]).all()


def test_intensity_and_sigma_are_missing_together():
    """Where a growth or profile intensity or its variance is missing, the file has neither: iotbx wants them so."""
    table = make_table("integrate", np.random.default_rng(3))
    table["VARIPR"][20], table["GVOL"][20] = np.nan, np.nan
    back, _ = from_gemmi(to_gemmi(table, make_header("integrate")))
    row = back[(back["H"] == table["H"][20]) & (back["K"] == table["K"][20])][0]
    assert np.isnan([row["IPR"], row["VARIPR"], row["GVOL"], row["VARGVOL"]]).all()
    assert np.isfinite([row["I"], row["VARI"], row["XOBS"], row["VARXOBS"]]).all()


@pytest.mark.parametrize("field", ["I", "VARI"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_intensity_is_never_missing(field, value):
    """I and SIGI of `_int` that are missing are a mistake of the program; in `_ext` they are allowed."""
    table = make_table("integrate", np.random.default_rng(3))
    table[field][5] = value
    with pytest.raises(ValueError, match="missing"):
        to_gemmi(table, make_header("integrate"))
    table = make_table("extract", np.random.default_rng(3))
    table[field][5] = value
    to_gemmi(table, make_header("extract"))


def broken_tables(table):
    flags, twice, negative = table.copy(), table.copy(), table.copy()
    flags["FLAG"][3] = 1 << 24
    twice["H"][4], twice["K"][4] = twice["H"][3], twice["K"][3]
    negative["VARYOBS"][9] = -1.0
    return {"24 bits": flags, "several rows": twice, "negative": negative, "no rows": table[:0]}


@pytest.mark.parametrize("problem", ["24 bits", "several rows", "negative", "no rows"])
def test_tables_that_must_not_be_written(table, step, problem):
    """Flags beyond float32, doubled reflections, negative variances and empty tables are refused."""
    with pytest.raises(ValueError, match=problem):
        to_gemmi(broken_tables(table)[problem], make_header(step))


def test_the_wrong_step_is_refused(table, step):
    """A table is not written under the name of the other step, nor of none, nor with a batch of 0."""
    other = "integrate" if step == "extract" else "extract"
    for changes, problem in (({"step": other}, "fields"), ({"step": "x"}, "no step"), ({"batch": 0}, "batch 0")):
        with pytest.raises(ValueError, match=problem):
            to_gemmi(table, make_header(step, **changes))


def test_no_reflections_is_said_to_the_user(tmp_path, table, step):
    """Nothing to write is an InputError that names the image, and no file appears."""
    with pytest.raises(InputError, match="ABC0000042: no reflection"):
        write_mtz(tmp_path / "x.mtz", table[:0], make_header(step))
    assert os.listdir(tmp_path) == []


def test_unwritable_and_refused_tables_leave_the_old_file(written, table, step):
    """A table that is refused does not touch the file that is there."""
    before = written.read_bytes()
    with pytest.raises(ValueError, match="negative"):
        write_mtz(written, broken_tables(table)["negative"], make_header(step))
    with pytest.raises(InputError, match="cannot be written"):
        write_mtz(written.parent / "none" / "x.mtz", table, make_header(step))
    assert written.read_bytes() == before and os.listdir(written.parent) == [written.name]


def test_other_files_are_not_read(tmp_path, written):
    """A missing file, a directory, another kind of file, and an MTZ file of another program are InputErrors."""
    (tmp_path / "text.mtz").write_text("not an MTZ file\n" * 100)
    foreign = gemmi.read_mtz_file(str(written))
    foreign.history = ["From SORTMTZ"]
    foreign.write_to_file(str(tmp_path / "foreign.mtz"))
    renamed = gemmi.read_mtz_file(str(written))
    renamed.columns[7].label = "IMEAN"
    renamed.write_to_file(str(tmp_path / "renamed.mtz"))
    for name in ("none.mtz", ".", "text.mtz", "foreign.mtz", "renamed.mtz"):
        with pytest.raises(InputError, match="ed2d wrote") as caught:
            read_mtz(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(caught.value)


def test_truncated_files_are_not_read(tmp_path, written):
    """A file that ends early, anywhere, is an InputError."""
    content = written.read_bytes()
    for end in [0, 3, 20, 79, *np.linspace(80, len(content) - 800, 25).astype(int)]:
        (tmp_path / "cut.mtz").write_bytes(content[:end])
        with pytest.raises(InputError):
            read_mtz(tmp_path / "cut.mtz")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("ABC0000001", 1),
        ("ABC0001207", 1207),
        ("ABC9999999", 9999999),
        ("ABC10000000", 1),
        ("ABC0000000", 1),
        ("ABC", 1),
        ("12x", 1),
        ("x12\n", 1),
        ("7", 7),
        ("x٣", 1),
        ("9" * 200, 1),
    ],
)
def test_batch_number(name, number):
    """The number at the end of the name, else 1."""
    assert batch_number(name) == number


def test_a_single_reflection(tmp_path, table, step):
    """One row, on either side of the asymmetric unit, is a sorted file like any other."""
    for row in (table[10:11], table[11:12]):
        for sign in (1, -1):
            row = row.copy()
            row["H"], row["K"] = sign * 3, sign * -2
            write_mtz(tmp_path / "one.mtz", row, make_header(step))
            back, _ = read_mtz(tmp_path / "one.mtz")
            assert back[["H", "K"]].tolist() == [(sign * 3, sign * -2)]
            assert gemmi.read_mtz_file(str(tmp_path / "one.mtz")).sort_order == [1, 2, 3, 4, 5]
