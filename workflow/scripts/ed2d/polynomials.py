"""Monomials of two variables and the normal matrices that their moments make."""

from functools import cache

import numpy as np

from .boxes import grid


@cache
def exponents(degree):
    """Exponents (i, j) of x^i y^j up to `degree`, lower degrees first: 1, x, y, x^2, xy, y^2, ..."""
    return tuple((total - j, j) for total in range(degree + 1) for j in range(total + 1))


def monomials(x, y, degree):
    """Monomials of x, y (m,) up to `degree` as columns, (m, (degree + 1)(degree + 2)/2)."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    return np.stack([x**i * y**j for i, j in exponents(degree)], axis=-1)


@cache
def box_monomials(half, degree):
    """Monomials up to `degree` of the places of a box's pixels in units of `half`, (side^2, terms); read-only."""
    dx, dy = grid(half)
    terms = monomials(dx / half, dy / half, degree)
    terms.flags.writeable = False
    return terms


@cache
def _products(degree_left, degree_right):
    place = {powers: n for n, powers in enumerate(exponents(degree_left + degree_right))}
    return np.array(
        [[place[i + k, j + m] for k, m in exponents(degree_right)] for i, j in exponents(degree_left)], dtype=np.intp
    )


def normal_matrix(moments, degree_left, degree_right):
    """Sums of products of monomials (n, left, right) from moments (n, ...) of all monomials up to the summed degree."""
    return moments[:, _products(degree_left, degree_right)]


def collected(matrix, degree_left, degree_right):
    """Coefficients (n, terms) of the polynomials sum_ij matrix_ij m_i m_j of monomials; matrix (n, left, right)."""
    product = np.zeros((len(matrix), len(exponents(degree_left + degree_right))))
    for i, row in enumerate(_products(degree_left, degree_right)):
        product[:, row] += matrix[:, i]
    return product
