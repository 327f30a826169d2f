"""Reflection tables as standard unmerged MTZ files, and back."""

import hashlib
import math
import os
import re
import struct
from pathlib import Path

import gemmi
import numpy as np

from .atomic import replacing
from .errors import InputError
from .history import Header, printable, read_history, write_history
from .table import empty_table, extract_columns, extract_dtype, grow_steps, integrate_columns, integrate_dtype

__all__ = ["Header", "batch_number", "file_digest", "from_gemmi", "read_mtz", "to_gemmi", "write_mtz"]

INDEX = ("H", "K", "L", "M/ISYM", "BATCH")
NEVER_MISSING = {"extract": (), "integrate": ("I", "SIGI")}
EXACT_INTEGERS = 1 << 24  # MTZ numbers are float32
LARGEST_BATCH = 9_999_999
MOST_PLACES = 10**7  # of the parallelogram of indices that a table reaches over; arrays of it are made
LITTLE_ENDIAN = b"DA"  # machine stamp
RECORD = 80  # bytes, of a line of the header
PLACEHOLDER = 100.0  # Angstrom


def batch_number(name):
    """The number at the end of a directory's name; 1 where there is none, or it is 0 or more than 9,999,999.

    Batches of an MTZ file count from 1, and the format has seven digits for them.
    """
    digits = re.search(r"[0-9]+\Z", name)
    number = int(digits.group()) if digits else 1
    return number if 1 <= number <= LARGEST_BATCH else 1


def write_mtz(path, table, header):
    """Write a table whole or not at all; InputError where it has no rows or cannot be written."""
    if len(table) == 0:
        cure = "check its lattice, mask and radius limits"
        raise InputError(header.image, "no reflection is left to be written", cure)
    content = to_gemmi(table, header).write_to_bytes()
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def file_digest(path):
    """Sixteen hexadecimal digits that tell a reflection file from others."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def read_mtz(path):
    """The table, sorted by (H, K), and the Header of a file of this program; InputError for any other."""
    try:
        _check_size(Path(path))
        return from_gemmi(gemmi.read_mtz_file(os.fspath(path)))
    except Exception as error:  # gemmi raises nearly everything on damaged files
        reason = " ".join(str(error).split()).removesuffix(f": {path}")[:200] or type(error).__name__
        cure = "give a file that this version of ed2d wrote; extract the image again"
        raise InputError(path, f"cannot be read as an MTZ file of ed2d ({reason})", cure) from error


def _check_size(path):
    """ValueError for a file that is not of the size that its header tells; gemmi would make room for any."""
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    content = path.read_bytes()
    if not content.startswith(b"MTZ ") or content[8:10] != LITTLE_ENDIAN or len(content) < RECORD:
        raise ValueError("it does not begin like one")
    words = struct.unpack("<i", content[4:8])[0] - 1
    lines = [content[at : at + RECORD] for at in range(4 * words, len(content), RECORD)] if words >= 20 else []
    sizes = [line.split()[1:3] for line in lines if line.startswith(b"NCOL")]
    datasets = [line.split()[1:] for line in lines if line.startswith(b"NDIF")]
    if len(sizes) != 1 or math.prod(map(int, sizes[0])) != words - 20 or datasets != [[b"2"]]:
        raise ValueError("its size is not what its header tells")


def to_gemmi(table, header):
    """A gemmi.Mtz, unmerged, one batch, in P1, indices in the ASU, sorted by H K L M/ISYM BATCH.

    Standard deviations are the roots of the table's variances. What is not finite in float32 becomes missing (NaN),
    an intensity and its sigma together; ValueError where that is not allowed, and for all else that a correct table
    does not have.
    """
    columns = _columns(header.step, table.dtype.names)
    _check(table, header, columns)
    mtz = _frame(header, columns)
    mtz.switch_to_original_hkl()  # first: gemmi 0.7.5 takes set_data's indices for ASU ones and would change nothing
    mtz.set_data(_matrix(table, header, columns))
    if not mtz.switch_to_asu_hkl():
        raise RuntimeError("gemmi did not move the indices into the asymmetric unit")
    mtz.sort(len(INDEX))
    mtz.history = write_history(header)
    return mtz


def from_gemmi(mtz):
    """The table, original indices, sorted by (H, K), and the Header; ValueError for a file of another kind."""
    header = read_history(mtz.history)
    _check_header(header)
    labels = tuple(mtz.column_labels())
    columns = _columns(header.step, labels)
    if labels != INDEX + tuple(column.name for column in columns):
        raise ValueError(f"these are not the columns of {header.step}")
    if [batch.number for batch in mtz.batches] != [header.batch]:
        raise ValueError(f"batch {header.batch} is not its only one")
    with np.errstate(invalid="ignore"):
        data = np.asarray(mtz.array, np.float64)
    _check_numbers(data, [0, 1, INDEX.index("M/ISYM"), *(j for j, c in enumerate(columns, len(INDEX)) if c.is_integer)])
    dtype = extract_dtype() if header.step == "extract" else integrate_dtype(grow_steps(labels))
    table = empty_table(dtype, len(data))
    sign = np.where(data[:, INDEX.index("M/ISYM")] % 2 == 0, -1, 1)  # in P1: 1 as it is, 2 its Friedel mate
    table["H"], table["K"] = sign * data[:, 0], sign * data[:, 1]
    _check_reach(np.column_stack([table["H"], table["K"]]), header.lattice)
    for column, values in zip(columns, data[:, len(INDEX) :].T, strict=True):
        table[column.field] = values**2 if column.is_sigma else values
    return table[np.lexsort([table["K"], table["H"]])], header


def _check_header(header):
    """ValueError for a lattice, noise model or profile that nothing can be calculated with."""
    lattice, noise, profile = header.lattice, header.noise, header.profile
    positive = [noise.correlation, profile.scale, profile.narrowest, profile.widest, abs(np.linalg.det(lattice.basis))]
    others = [noise.gain, noise.read_variance, profile.reach, profile.scatter, profile.straying, *profile.errors]
    numbers = [*positive, *others, noise.offset, *np.hstack(list(vars(lattice).values())), *profile.coefficients]
    if not (np.isfinite(numbers).all() and min(positive) > 0 and min(others) >= 0 and profile.errors):
        raise ValueError("numbers of its HISTORY are damaged")
    if len(profile.coefficients) % 3 or not profile.coefficients:
        raise ValueError("its profile is damaged")


def _check_numbers(data, integers):
    """ValueError for numbers (n, columns) that `to_gemmi` does not write; integers: columns of these."""
    if len(data) == 0 or np.isinf(data).any():
        raise ValueError("it has infinite numbers" if len(data) else "it has no rows")
    whole = data[:, integers]
    if not np.isfinite(whole).all() or np.any(whole != np.rint(whole)) or np.abs(whole).max() >= EXACT_INTEGERS:
        raise ValueError("an integer column has missing values or others than integers")


def _check_reach(miller, lattice):
    """ValueError where indices (n, 2), or those of the reduced basis, are too far apart for arrays of all between."""
    with np.errstate(all="ignore"):
        reduced = miller @ lattice.basis @ np.linalg.inv(lattice.reduced_basis())
        if not all(np.prod(np.ptp(indices, axis=0) + 1.0) <= MOST_PLACES for indices in (miller, reduced)):
            raise ValueError("its indices are too far apart for its lattice")


def _columns(step, names):
    """The columns of a step's table, from the names of its fields or of a file's columns."""
    if step == "extract":
        return extract_columns()
    if step == "integrate":
        return integrate_columns(grow_steps(names))
    raise ValueError(f"there is no step {step!r}")


def _check(table, header, columns):
    """ValueError for a table that must not be written."""
    if table.dtype.names != ("H", "K", *(column.field for column in columns)):
        raise ValueError(f"these are not the fields of {header.step}")
    if len(table) == 0:
        raise ValueError("no rows: an MTZ file without reflections cannot be read")
    if not 1 <= header.batch <= LARGEST_BATCH:
        raise ValueError(f"batch {header.batch} is not in 1..{LARGEST_BATCH}")
    if len(np.unique(table[["H", "K"]])) < len(table):
        raise ValueError("a reflection has several rows")
    for name in ["H", "K", *(column.name for column in columns if column.is_integer)]:
        if table.dtype[name].kind != "i" or np.abs(table[name].astype(np.int64)).max() >= EXACT_INTEGERS:
            raise ValueError(f"{name} must be an integer of less than 24 bits")
    for column in columns:
        if column.is_sigma and np.any(table[column.field] < 0):
            raise ValueError(f"{column.field} is negative")


def _matrix(table, header, columns):
    """float32 (n, columns of the file), original indices, M/ISYM still 0."""
    matrix = np.zeros((len(table), len(INDEX) + len(columns)), np.float32)
    matrix[:, 0], matrix[:, 1], matrix[:, INDEX.index("BATCH")] = table["H"], table["K"], header.batch
    for j, column in enumerate(columns, len(INDEX)):
        values = table[column.field]
        with np.errstate(over="ignore"):
            matrix[:, j] = np.sqrt(values) if column.is_sigma else values
        if column.name in NEVER_MISSING[header.step] and not np.isfinite(matrix[:, j]).all():
            raise ValueError(f"{column.name} has missing values")
    matrix[~np.isfinite(matrix)] = np.nan
    for j, column in enumerate(columns, len(INDEX)):
        if column.mtz_type == "Q":  # after its J: iotbx refuses a file in which one of the two is missing alone
            matrix[np.isnan(matrix[:, j - 1 : j + 1]).any(axis=1), j - 1 : j + 1] = np.nan
    return matrix


def _frame(header, columns):
    """A gemmi.Mtz without rows: title, cell, wavelength, datasets 0 and 1, batch header and columns."""
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup("P 1")
    mtz.title = printable(f"{header.program} {header.step}: {header.image}")[:70]
    dataset = mtz.add_dataset(re.sub(r"[^A-Za-z0-9_.-]", "_", header.image)[:64])
    dataset.project_name, dataset.crystal_name = "ed2d", "crystal"
    mtz.set_cell_for_all(_cell(header))
    for each in mtz.datasets:  # with dataset 0, HKL_base: some readers take its wavelength
        each.wavelength = header.wavelength or 0.0
    for name, mtz_type in zip(INDEX[3:], "YB", strict=True):
        mtz.add_column(name, mtz_type, dataset_id=dataset.id)
    for column in columns:
        mtz.add_column(column.name, column.mtz_type, dataset_id=dataset.id)
    mtz.batches.append(_batch(header, mtz.cell, dataset.id))
    return mtz


def _cell(header):
    """The unit cell, or a placeholder with the lattice's angle."""
    a, b, gamma, c = header.unit_cell or (PLACEHOLDER, PLACEHOLDER, header.lattice.gamma, PLACEHOLDER)
    return gemmi.UnitCell(a, b, c, 90, 90, gamma)


def _batch(header, cell, dataset_id):
    """The header of the one batch."""
    batch = gemmi.Mtz.Batch()
    batch.number, batch.dataset_id = header.batch, dataset_id
    batch.title = printable(header.image)[:70]
    batch.cell, batch.wavelength = cell, header.wavelength or 0.0
    return batch
