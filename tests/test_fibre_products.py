"""Hodge numbers that rest on ranks, checked by those of a three-fold, which hardly ever do.

Where a row (1, 1) of a P1 is all that holds two pieces of a matrix together, X is the fibre product
of two manifolds over this P1. One piece describes fibres that are elliptic curves, and belongs to a
rational elliptic surface; the other describes K3 fibres, and belongs to a three-fold Y. Generically
(C. Schoen, Math. Z. 197 (1988) 177, for two surfaces)

    h11(X) = 9 + h11(Y),    h21(X) = h21(Y) + s,

where s fibres of Y fall into two pieces: over the point of the P1 where one does, X contains the
product of either piece with an elliptic curve. That happens where Y is fibred over a surface with a
pencil of conics: s of these are singular, and the Euler number of the surface is 4 + s.

A double cover of the P1, branched at two points, turns Y into a Calabi-Yau three-fold Z. It has
twice as many fibres in two pieces, generically no other new divisors, and Y has no holomorphic
forms:

    h11(Z) = h11(Y) + s,    chi(Z) = 2 chi(Y) - 2 * 24,    chi(Y) = 2 + 2 h11(Y) - 2 h21(Y).

Hence h11(X) = 9 + h11(Z) - s and 2 h21(X) = h11(Z) + h21(Z) - 22. The other two Hodge numbers of X
follow from these by the relations, as chi(X) = 12 * 24 rests on no rank.
"""

from functools import cache, reduce
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pytest

from cicy_utils import ranks
from cicy_utils.canonical import canonical_forms
from cicy_utils.relations import euler_from_hodge
from cicy_utils.splits import split_72
from cicy_utils.topology import hodge_numbers_batch, rests_on_rank, trimmed

README = Path(__file__).resolve().parents[1] / "results" / "reference" / "README.md"


def euler_number(n, degrees):
    """That of generic polynomials of these degrees (m, K) in projective spaces P^n, whatever it is.

    The last coefficient of prod_r (1 + J_r)^(n_r + 1) prod_a xi_a / (1 + xi_a).
    """
    chern = reduce(np.multiply.outer, [[comb(k + 1, i) for i in range(k + 1)] for k in n])
    for column in degrees.T:
        power, chern = times(chern, column), np.zeros_like(chern)
        while power.any():
            chern, power = chern + power, -times(power, column)
    return int(chern.flat[-1])


def times(polynomial, column):
    """A polynomial in the J_r, an array with an axis for each, times sum_r column_r J_r."""
    product = np.zeros_like(polynomial)
    for axis in np.flatnonzero(column):
        of_row = np.moveaxis(product, axis, 0)
        of_row[1:] += column[axis] * np.moveaxis(polynomial, axis, 0)[:-1]
    return product


def three_fold(matrix):
    """The degrees of Y with the P1 as the first row, or None if X is no such fibre product."""
    n = matrix.sum(axis=1) - 1
    for row in np.flatnonzero((n == 1) & (matrix.max(axis=1) == 1)):
        first, second = np.flatnonzero(matrix[row])
        others = np.delete(matrix, row, axis=0)
        columns = connected(others, first)
        if not columns[second]:
            rows = others[:, columns].any(axis=1)
            if np.delete(n, row)[rows].sum() - columns.sum() == 1:  # it is the elliptic piece
                rows, columns = ~rows, ~columns
            return np.vstack([matrix[row, columns], others[rows][:, columns]])
    return None


def connected(matrix, column):
    """Which columns hang together with this one."""
    found = np.arange(matrix.shape[1]) == column
    while (more := matrix[matrix[:, found].any(axis=1)].any(axis=0) & ~found).any():
        found |= more
    return found


def double_cover(degrees):
    """Z: its map to the P1 is through another P1, by a polynomial of degrees (1, 2)."""
    bottom = np.pad(degrees, ((0, 1), (0, 1)))
    bottom[[0, -1], -1] = 1, 2
    return bottom


@cache
def split_fibres(shape, content):
    """s of the three-fold Y with these degrees.

    The surface is cut out by the polynomials within some rows, as many as possible, among them
    the rows of the pencil. Where there is none, no fibre falls into pieces.
    """
    degrees = np.array(content).reshape(shape)
    n = degrees.sum(axis=1) - 1
    n[0] = 1
    pencil = degrees[0].argmax()
    fixed = {0, *np.flatnonzero(degrees[:, pencil])}
    rest = set(range(len(n))) - fixed
    for size in range(len(rest), -1, -1):
        for chosen in combinations(sorted(rest), size):
            rows = sorted({*fixed, *chosen})
            within = ~np.delete(degrees, rows, axis=0).any(axis=0)
            if n[rows].sum() - within.sum() == 2:
                return euler_number(n[rows], degrees[rows][:, within]) - 4
    return 0


def test_euler_numbers_of_what_is_known():
    elliptic_surface = np.array([[1], [3]])
    assert euler_number([5], np.array([[6]])) == 2610  # the sextic
    assert euler_number([4], np.array([[5]])) == -200  # the quintic
    assert euler_number([1, 2], elliptic_surface) == 12


@pytest.fixture(scope="module")
def products(cicy4):
    """Their places in the list, the matrices of their Z, padded with zeros, and their s."""
    places, covers, s = [], [], []
    euler = euler_from_hodge(cicy4.hodge.astype(np.int64))  # it rests on no rank
    for place in np.flatnonzero(euler == 12 * 24):
        matrix = trimmed(cicy4.matrices[place].astype(np.int64))
        if rests_on_rank(matrix) and (y := three_fold(matrix)) is not None:
            z = double_cover(y)
            places.append(place)
            covers.append(np.pad(z, [(0, 18 - z.shape[0]), (0, 20 - z.shape[1])]))
            s.append(split_fibres(y.shape, tuple(y.flat)))
    return np.array(places), np.array(covers), np.array(s)


def test_they_have_the_hodge_numbers_of_their_factors(cicy4, products):
    places, covers, s = products
    assert len(places) == 10_255  # a third of all that rest on ranks
    hodge = cicy4.hodge[places].astype(np.int64)
    h11, h21 = hodge_numbers_batch(covers).T
    np.testing.assert_array_equal(hodge[:, 0], 9 + h11 - s)
    np.testing.assert_array_equal(2 * hodge[:, 1], h11 + h21 - 22)
    resting = list(filter(rests_on_rank, covers))
    assert len(resting) == 160
    assert all(map(ranks.shown_maximal, resting))


def test_the_same_manifold_is_in_training_and_test_set(cicy4, products):
    """By several matrices: all rational elliptic surfaces are deformations of each other."""
    places, covers, _ = products
    split = split_72(len(cicy4))
    forms = canonical_forms(covers.astype(np.uint8)).reshape(len(covers), -1)
    _, manifold = np.unique(forms, axis=0, return_inverse=True)
    manifold = manifold.ravel()
    of_test = manifold[np.isin(places, split.test)]
    again = np.isin(of_test, manifold[np.isin(places, split.train)]).sum()
    words = " ".join(README.read_text(encoding="utf-8").split())
    assert f"For {again:,} of the {len(split.test):,} that is [shown]" in words
