from itertools import pairwise

import numpy as np
import pytest

from ed2d.table import empty_table, extract_columns, extract_dtype, grow_steps, integrate_columns, integrate_dtype

SPOT = "XDET:R YDET:R XOBS:R YOBS:R SIGXOBS:R SIGYOBS:R A:R BX:R BY:R W:R C:R PX:R PY:R RCHI2:R FLAG:I"
GROWTH = "I0:J SIGI0:Q BG0:R I1:J SIGI1:Q BG1:R"
INTEGRATE = f"I:J SIGI:Q GVOL:J SIGGVOL:Q NGROW:I {GROWTH} IPR:J SIGIPR:Q BGINT:R SIGBGINT:R NBGINT:I {SPOT}"


@pytest.mark.parametrize(
    ("columns", "agreed"), [(extract_columns(), f"I:J SIGI:Q {SPOT}"), (integrate_columns(1), INTEGRATE)]
)
def test_columns_are_the_agreed_ones(columns, agreed):
    """Names and MTZ types are those that users of the files were promised, each with a meaning."""
    assert " ".join(f"{column.name}:{column.mtz_type}" for column in columns) == agreed
    assert all(column.meaning for column in columns)


@pytest.mark.parametrize("steps", [0, 1, 12])
def test_growth_series(steps):
    """The number of grow-steps is found again among the columns and among the fields; names stay unique."""
    names = [column.name for column in integrate_columns(steps)]
    assert grow_steps(names) == grow_steps(integrate_dtype(steps).names) == steps
    assert len(set(names)) == len(names)
    assert grow_steps(extract_dtype().names) == -1


def test_a_sigma_directly_follows_its_intensity():
    """Every column of type Q stands after its J: the file's writer relies on it."""
    columns = integrate_columns(3)
    for before, column in pairwise(columns):
        assert (column.mtz_type == "Q") == (before.mtz_type == "J")
        if column.mtz_type == "Q":
            assert column.name == "SIG" + before.name


def test_empty_table():
    """Nothing is known at first: floats are NaN, integers 0, and standard deviations are variances."""
    table = empty_table(integrate_dtype(2), 3)
    assert {"VARI", "VARI2", "VARXOBS", "VARBGINT"} < set(table.dtype.names)
    assert not any(name.startswith("SIG") for name in table.dtype.names)
    for name in table.dtype.names:
        integer = name in ("H", "K", "FLAG", "NGROW", "NBGINT")
        assert table.dtype[name] == (np.int32 if integer else np.float64)
        assert (table[name] == 0).all() if integer else np.isnan(table[name]).all()
