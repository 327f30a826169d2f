"""The columns of the two reflection tables: names, MTZ types, meanings, and the arrays that hold them in memory."""

import re
from typing import NamedTuple

import numpy as np


class Column(NamedTuple):
    """One column of a file: its label, MTZ type (J intensity, Q its sigma, R real, I integer) and what it says."""

    name: str
    mtz_type: str
    meaning: str

    @property
    def is_integer(self):
        """Whether the column holds integers: never missing."""
        return self.mtz_type == "I"

    @property
    def is_sigma(self):
        """Whether the column is a standard deviation: a variance in memory."""
        return self.name.startswith("SIG")

    @property
    def field(self):
        """Name in the table in memory: SIGI of the file is VARI there."""
        return "VAR" + self.name.removeprefix("SIG") if self.is_sigma else self.name


FIT = (
    Column("I", "J", "volume of the fitted Gaussian, counts"),
    Column("SIGI", "Q", "standard deviation of I, counts"),
)
BOX = (
    Column("I", "J", "the intensity: box sum of the chosen N, counts"),
    Column("SIGI", "Q", "standard deviation of I, counts"),
    Column("GVOL", "J", "volume of the fitted Gaussian (I of extract), counts"),
    Column("SIGGVOL", "Q", "standard deviation of GVOL, counts"),
    Column("NGROW", "I", "the chosen N"),
)
PROFILE = (
    Column("IPR", "J", "profile-fitted intensity, counts"),
    Column("SIGIPR", "Q", "standard deviation of IPR, counts"),
    Column("BGINT", "R", "intercalated background, counts per pixel"),
    Column("SIGBGINT", "R", "standard deviation of BGINT, counts per pixel"),
    Column("NBGINT", "I", "how many of the four points half-way to the neighbours BGINT has"),
)
SPOT = (
    Column("XDET", "R", "calculated position on the refined lattice, px"),
    Column("YDET", "R", "calculated position on the refined lattice, px"),
    Column("XOBS", "R", "fitted centre, px"),
    Column("YOBS", "R", "fitted centre, px"),
    Column("SIGXOBS", "R", "standard deviation of XOBS, px"),
    Column("SIGYOBS", "R", "standard deviation of YOBS, px"),
    Column("A", "R", "height of the fitted Gaussian, counts"),
    Column("BX", "R", "larger width (sigma) of the fitted Gaussian, px"),
    Column("BY", "R", "smaller width (sigma) of the fitted Gaussian, px"),
    Column("W", "R", "angle from the x axis to the larger width, degrees"),
    Column("C", "R", "constant of the fitted background, counts"),
    Column("PX", "R", "slope of the fitted background along x, counts/px"),
    Column("PY", "R", "slope of the fitted background along y, counts/px"),
    Column("RCHI2", "R", "reduced chi-square of the fit"),
    Column("FLAG", "I", "status bits; 0 = nothing to report"),
)


def growth_columns(grow_steps):
    """Columns of the growth series, N = 0..grow_steps."""
    return tuple(
        column
        for n in range(grow_steps + 1)
        for column in (
            Column(f"I{n}", "J", f"box sum of N = {n}, counts"),
            Column(f"SIGI{n}", "Q", f"standard deviation of I{n}, counts"),
            Column(f"BG{n}", "R", f"rim background of N = {n} at the centre, counts per pixel"),
        )
    )


def extract_columns():
    """Columns of `_ext` after H, K, L, M/ISYM and BATCH, in the order of the file."""
    return FIT + SPOT


def integrate_columns(grow_steps):
    """Columns of `_int` after H, K, L, M/ISYM and BATCH, in the order of the file."""
    return BOX + growth_columns(grow_steps) + PROFILE + SPOT


def grow_steps(names):
    """The largest N of the growth series among column or field names; -1 where there is none."""
    return max((int(name[1:]) for name in names if re.fullmatch("I[0-9]+", name)), default=-1)


def extract_dtype():
    """Numpy dtype of the rows of `_ext`."""
    return _dtype(extract_columns())


def integrate_dtype(grow_steps):
    """Numpy dtype of the rows of `_int` with a growth series N = 0..grow_steps."""
    return _dtype(integrate_columns(grow_steps))


def _dtype(columns):
    """H, K as int32; integer columns int32, all others float64, standard deviations as variances (VARI for SIGI)."""
    fields = [(column.field, np.int32 if column.is_integer else np.float64) for column in columns]
    return np.dtype([("H", np.int32), ("K", np.int32), *fields])


def empty_table(dtype, n):
    """A table of n rows in which all floats are NaN and all integers 0."""
    table = np.zeros(n, dtype)
    for name in dtype.names:
        if dtype[name].kind == "f":
            table[name] = np.nan
    return table
