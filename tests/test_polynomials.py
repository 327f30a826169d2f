"""Monomials and the normal matrices made of their moments."""

import numpy as np
import pytest

from ed2d.polynomials import collected, exponents, monomials, normal_matrix


def test_exponents_in_order_of_degree():
    """1, x, y, x^2, xy, y^2, ...: every pair up to the degree once, lower degrees first."""
    assert exponents(2) == ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
    pairs = exponents(5)
    assert set(pairs) == {(i, j) for i in range(6) for j in range(6) if i + j <= 5} and len(set(pairs)) == len(pairs)
    assert [i + j for i, j in pairs] == sorted(i + j for i, j in pairs)


@pytest.mark.parametrize("degree", range(5))
def test_monomials_are_the_terms_of_a_polynomial(degree):
    """The columns times coefficients equal numpy's own polynomial of two variables."""
    random = np.random.default_rng(degree)
    x, y = random.normal(size=(2, 40))
    coefficients = np.zeros((degree + 1, degree + 1))
    for i, j in exponents(degree):
        coefficients[i, j] = random.normal()
    flat = np.array([coefficients[powers] for powers in exponents(degree)])
    expected = np.polynomial.polynomial.polyval2d(x, y, coefficients)
    np.testing.assert_allclose(monomials(x, y, degree) @ flat, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 1), (2, 2), (2, 1), (1, 2), (3, 1)])
def test_normal_matrix_is_the_product_of_the_designs(left, right):
    """Matrices from the moments equal D_left^T W D_right of every set of weights."""
    random = np.random.default_rng(7)
    x, y = random.normal(size=(2, 30))
    weights = random.random((4, 30))
    found = normal_matrix(weights @ monomials(x, y, left + right), left, right)
    expected = [monomials(x, y, left).T @ (w[:, None] * monomials(x, y, right)) for w in weights]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 1), (2, 2), (2, 1), (1, 3)])
def test_collected_is_the_product_polynomial(left, right):
    """Coefficients of m_left^T M m_right: the same values at any place, one for every monomial, for every matrix."""
    random = np.random.default_rng(8)
    x, y = random.normal(size=(2, 30))
    terms_left, terms_right = monomials(x, y, left), monomials(x, y, right)
    matrix = random.normal(size=(5, terms_left.shape[1], terms_right.shape[1]))
    found = collected(matrix, left, right)
    assert found.shape == (5, len(exponents(left + right)))
    expected = np.einsum("mi,nij,mj->nm", terms_left, matrix, terms_right)
    np.testing.assert_allclose(found @ monomials(x, y, left + right).T, expected, rtol=1e-10, atol=1e-12)


def test_collected_is_the_transpose_of_normal_matrix():
    """<collected(M), moments> = <M, normal_matrix(moments)> for all M and moments."""
    random = np.random.default_rng(9)
    matrix, moments = random.normal(size=(4, 6, 3)), random.normal(size=(4, 10))
    left = np.sum(collected(matrix, 2, 1) * moments, axis=1)
    np.testing.assert_allclose(left, np.sum(matrix * normal_matrix(moments, 2, 1), axis=(1, 2)), rtol=1e-12)
