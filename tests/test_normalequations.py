"""Small normal equations: right solutions, whatever their units, and harmless ones where nothing is determined."""

import numpy as np
import pytest

from ed2d.normalequations import RIDGE, inverse, solve

CLOSE = 1e3 * RIDGE  # of the solution: for condition numbers up to a few hundred


def systems(n, m, random, *, pixels=60):
    """Normal matrices (n, m, m) of random designs."""
    design = random.normal(size=(n, pixels, m))
    return design.transpose(0, 2, 1) @ design


@pytest.mark.parametrize("m", [1, 4, 9])
def test_as_a_solver_of_one_system_says(m):
    """Vectors, several columns and inverses equal those of LAPACK, system by system."""
    random = np.random.default_rng(m)
    matrix, vector, columns = systems(30, m, random), random.normal(size=(30, m)), random.normal(size=(30, m, 5))
    one, several, back = solve(matrix, vector), solve(matrix, columns), inverse(matrix)
    for n in range(30):
        np.testing.assert_allclose(one[n], np.linalg.solve(matrix[n], vector[n]), rtol=CLOSE, atol=CLOSE)
        np.testing.assert_allclose(several[n], np.linalg.solve(matrix[n], columns[n]), rtol=CLOSE, atol=CLOSE)
        np.testing.assert_allclose(back[n], np.linalg.inv(matrix[n]), rtol=CLOSE, atol=CLOSE)


def test_units_do_not_matter():
    """Unknowns in units from 1e-12 to 1e12: the same solution in these units."""
    random = np.random.default_rng(2)
    matrix, right, unit = systems(50, 6, random), random.normal(size=(50, 6)), 10.0 ** random.uniform(-12, 12, (50, 6))
    scaled = matrix * unit[:, :, None] * unit[:, None, :]
    np.testing.assert_allclose(solve(scaled, right * unit) * unit, solve(matrix, right), rtol=1e-9, atol=1e-12)
    in_units = inverse(scaled) * unit[:, :, None] * unit[:, None, :]
    np.testing.assert_allclose(in_units, inverse(matrix), rtol=1e-9, atol=1e-12)


def test_what_nothing_determines_is_zero():
    """Rows of zeros give 0 and leave the others as they are without them; nothing at all gives 0."""
    random = np.random.default_rng(3)
    matrix, right = systems(20, 4, random), random.normal(size=(20, 4))
    wider, more = np.zeros((20, 6, 6)), np.zeros((20, 6))
    kept = np.array([0, 2, 3, 5])
    wider[:, kept[:, None], kept], more[:, kept] = matrix, right
    found = solve(wider, more)
    np.testing.assert_allclose(found[:, kept], solve(matrix, right), rtol=1e-12)
    assert not found[:, [1, 4]].any() and not inverse(wider)[:, [1, 4]].any() and not inverse(wider)[:, :, [1, 4]].any()
    assert not solve(np.zeros((3, 4, 4)), np.ones((3, 4))).any()


def test_two_unknowns_that_no_data_tell_apart():
    """Equal profiles share what there is: finite, their sum right."""
    random = np.random.default_rng(4)
    design = random.normal(size=(20, 60, 3))
    design = np.concatenate([design, design[:, :, :1]], axis=2)
    truth = random.normal(size=(20, 3))
    values = np.einsum("npk,nk->np", design[:, :, :3], truth)
    found = solve(design.transpose(0, 2, 1) @ design, np.einsum("npk,np->nk", design, values))
    np.testing.assert_allclose(found[:, 0] + found[:, 3], truth[:, 0], atol=1e-6)
    np.testing.assert_allclose(found[:, 0], found[:, 3], atol=1e-5)
    np.testing.assert_allclose(found[:, 1:3], truth[:, 1:], atol=1e-6)
