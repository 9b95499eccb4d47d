"""Euler and Hodge numbers: known values, two independent methods, symmetries, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from cicy_utils.topology import (
    HodgeNumbers,
    ThreefoldHodgeNumbers,
    _numbers,
    euler_number,
    euler_numbers_batch,
    hodge_numbers,
    hodge_numbers_batch,
    rests_on_rank,
    tangent_and_normal,
    trimmed,
)

SEXTIC = [[6]]
KNOWN = [
    (SEXTIC, (1, 0, 426, 1752), 2610),
    ([[2], [5]], (2, 0, 350, 1452), 2160),
    ([[1, 1], [1, 5]], (2, 0, 350, 1452), 2160),
    ([[2, 5]], None, 2190),
    ([[4], [3]], None, 2016),
    ([[2], [2], [2], [2], [2]], None, 1440),
]


@pytest.mark.parametrize(("matrix", "hodge", "chi"), KNOWN)
def test_known_fourfolds(matrix, hodge, chi):
    numbers = hodge_numbers(matrix)
    assert isinstance(numbers, HodgeNumbers)
    assert hodge is None or numbers == hodge
    assert euler_number(matrix) == chi == euler_of(numbers)


@pytest.mark.parametrize(
    ("matrix", "hodge", "chi"),
    [
        ([[5]], (1, 101), -200),
        ([[3, 3]], (1, 73), -144),
        ([[3], [3]], (2, 83), -162),
        ([[1, 3, 0], [1, 0, 3]], (14, 23), -18),  # the Tian-Yau manifold before its quotient
        ([[2], [2], [2], [2]], (4, 68), -128),
    ],
)
def test_known_threefolds(matrix, hodge, chi):
    numbers = hodge_numbers(matrix)
    assert isinstance(numbers, ThreefoldHodgeNumbers)
    assert numbers == hodge
    assert euler_number(matrix) == chi


def test_few_numbers_rest_on_maximal_rank(cicy4_sample):
    assert not any(rests_on_rank(matrix) for matrix, _, _ in KNOWN)
    assert rests_on_rank([[1, 3, 0], [1, 0, 3]])  # the Tian-Yau manifold, whose numbers are known
    with pytest.raises(ValueError, match="sums to 1"):
        rests_on_rank([[1]])
    share = np.mean([rests_on_rank(matrix) for matrix in cicy4_sample.matrices])
    assert 0 < share < 0.1


def test_published_threefold_list(published_threefolds):
    products = 0
    for matrix, hodge, chi in published_threefolds:
        if is_block_diagonal(matrix):
            products += 1
            with pytest.raises(ValueError, match="product"):
                hodge_numbers(matrix)
        else:
            assert hodge_numbers(matrix) == hodge
            assert euler_number(matrix) == chi
    assert products == 11  # of the 22 in the full list
    assert len(published_threefolds) == 3945


def test_cohomology_agrees_with_the_chern_class(cicy4):
    drawn = np.random.default_rng(0).choice(len(cicy4), 5000, replace=False)
    matrices = cicy4.matrices[drawn]
    numbers = hodge_numbers_batch(matrices)
    assert (numbers == cicy4.hodge[drawn]).all()
    assert (euler_of(HodgeNumbers(*numbers.T)) == euler_numbers_batch(matrices)).all()


def test_batch_is_the_same_as_one_by_one(cicy4_sample):
    matrices = cicy4_sample.matrices[:50]
    numbers, chi = hodge_numbers_batch(matrices), euler_numbers_batch(matrices)
    assert numbers.shape == (50, 4)
    for index, matrix in enumerate(matrices):
        assert tuple(numbers[index]) == hodge_numbers(matrix)
        assert chi[index] == euler_number(matrix)


def test_batch_of_threefolds_and_empty_batch():
    quintic = np.zeros((2, 3, 4), np.uint8)
    quintic[:, 0, 0] = 5
    assert hodge_numbers_batch(quintic).tolist() == [[1, 101], [1, 101]]
    assert hodge_numbers_batch(np.zeros((0, 16, 20), np.uint8)).shape == (0, 4)
    assert euler_numbers_batch(np.zeros((0, 16, 20), np.uint8)).shape == (0,)


@settings(max_examples=100, deadline=None)
@given(index=st.integers(0, 299), seed=st.integers(0, 2**32 - 1))
def test_invariant_under_permutations(cicy4_sample, index, seed):
    rng = np.random.default_rng(seed)
    matrix = trimmed(cicy4_sample.matrices[index])
    rows, columns = matrix.shape
    permuted = matrix[rng.permutation(rows)][:, rng.permutation(columns)]
    assert hodge_numbers(permuted) == hodge_numbers(matrix)
    assert euler_number(permuted) == euler_number(matrix)


@settings(max_examples=200, deadline=None)
@given(index=st.integers(0, 299), seed=st.integers(0, 2**32 - 1))
def test_invariant_under_ineffective_splits(cicy4_sample, index, seed):
    matrix = trimmed(cicy4_sample.matrices[index]).astype(np.int64)
    split = ineffective_split(matrix, np.random.default_rng(seed))
    assume(split is not None)
    assert hodge_numbers(split) == hodge_numbers(matrix)
    assert euler_number(split) == euler_number(matrix)


@pytest.mark.parametrize(
    ("matrix", "numbers"), [([[2]] * 5, (5, 0, 227, 972)), (SEXTIC, (1, 0, 426, 1752))]
)
def test_linear_polynomials_make_a_space_smaller(matrix, numbers):
    """Two by the Koszul resolution; a hundred for each space, whose sets nobody could count."""
    few, many = (with_linear(matrix, number) for number in (2, 100 // len(matrix)))
    assert tuple(_numbers(*tangent_and_normal(few))[: len(numbers)]) == numbers
    assert hodge_numbers(many) == hodge_numbers(few) == numbers
    assert euler_number(many) == euler_number(few) == euler_of(HodgeNumbers(*numbers))
    assert rests_on_rank(many) == rests_on_rank(matrix)


def with_linear(matrix, number) -> np.ndarray:
    """The matrix with so many more linear polynomials in each space, whose dimension they add."""
    rows = np.repeat(np.eye(len(matrix), dtype=np.int64), number, axis=1)
    return np.hstack([matrix, rows])


def test_matrices_larger_than_the_list(cicy4):
    """Ineffective splits again and again: the same manifold with 30 rows and more columns."""
    matrix = trimmed(cicy4.matrices[-1]).astype(np.int64)
    numbers, chi = hodge_numbers(matrix), euler_number(matrix)
    rng = np.random.default_rng(0)
    while len(matrix) < 30:
        larger = ineffective_split(matrix, rng)
        assert larger is not None
        matrix = larger
    assert matrix.shape == (30, 34)
    assert hodge_numbers(matrix) == numbers
    assert euler_number(matrix) == chi


@pytest.mark.parametrize("padding", [((0, 3), (0, 2)), ((2, 0), (1, 0)), ((1, 1), (1, 1))])
def test_padding_changes_nothing(padding):
    padded = np.pad([[1, 1], [1, 5]], padding)
    assert hodge_numbers(padded) == (2, 0, 350, 1452)
    assert hodge_numbers_batch(padded[None]).tolist() == [[2, 0, 350, 1452]]
    assert euler_number(padded) == 2160


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[7, -1]], "row 0 has a negative degree"),
        ([[2.5, 3.5]], "row 0, column 0 is .*2.5.*integers"),
        ([["2", "5"]], "row 0, column 0 is .*integers"),
        ([[float("nan")]], "row 0, column 0 is .*nan.*integers"),
        ([[1, 0], [1, 5]], "row 0 sums to 1"),
        ([[7]], "dimension .* = 5; only dimensions 3 and 4"),
        ([[3]], "dimension .* = 1; only dimensions 3 and 4 are supported$"),
        ([[5, 6]], "dimension .* = 8; .* the first column seems to be the dimensions n_r"),
        ([[1, 1, 1], [5, 1, 5]], "dimension .* = 9; .* the first column seems to be"),
        ([[2, 0, 0], [0, 0, 0], [0, 0, 5]], "row 1 is empty"),
        ([[2, 0, 0], [5, 0, 1]], "column 1 is empty"),
        ([[3, 0], [0, 4]], "row 1 shares no chain of columns with the first row"),
        ([[1, 1, 1], [0, 0, 6]], "column [01] is one of a set of columns"),
        ([], "dimensions"),
        ([[]], "no nonzero entry"),
        ([[0, 0]], "no nonzero entry"),
        ([6], "1 dimensions"),
        ([[1, 2], [3]], "different lengths"),
        ([[2**40]], "above 2,147,483,647"),
    ],
)
@pytest.mark.parametrize("function", [hodge_numbers, euler_number])
def test_refusals_name_the_place_and_the_rule(function, matrix, message):
    with pytest.raises(ValueError, match=message):
        function(matrix)


@pytest.mark.parametrize("function", [hodge_numbers_batch, euler_numbers_batch])
def test_batch_refusals_name_the_configuration(function):
    matrices = np.zeros((3, 2, 2), np.int64)
    matrices[:, 0, 0] = 6
    matrices[1, 0, 1] = -1
    with pytest.raises(ValueError, match="configuration 1: row 0 has a negative degree"):
        function(matrices)
    matrices[1] = [[5, 0], [0, 0]]
    with pytest.raises(ValueError, match="configuration 1: it has dimension 3"):
        function(matrices)
    with pytest.raises(ValueError, match="integer array"):
        function(matrices.astype(float))
    with pytest.raises(ValueError, match="integer array"):
        function(matrices[0])
    with pytest.raises(ValueError, match="bytes are in another order"):
        function(matrices.astype(np.dtype(np.int64).newbyteorder()))
    matrices[2] = [[2**40, 0], [0, 0]]  # sums of such would not fit into 64 bits
    with pytest.raises(ValueError, match="configuration 2: it has a degree above 2,147,483,647"):
        function(matrices)


def euler_of(numbers: HodgeNumbers):
    """chi = 4 + 2 h11 - 4 h21 + 2 h31 + h22 (arXiv 2405.17406, eq. 11)."""
    return 4 + 2 * numbers.h11 - 4 * numbers.h21 + 2 * numbers.h31 + numbers.h22


def ineffective_split(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A random split c -> c1 + c2 with a new row P^1 that describes the same manifold, if found.

    Contracting the new row gives the determinant of a 2 x 2 matrix of forms of degrees c1 and c2,
    singular where all four vanish together with the other columns: nowhere, if the product of
    their classes vanishes.
    """
    for _ in range(100):
        column = rng.integers(matrix.shape[1])
        first = rng.integers(0, matrix[:, column] + 1)
        second = matrix[:, column] - first
        if not first.any() or not second.any():
            continue
        others = np.delete(matrix, column, axis=1)
        if top_class_vanishes([first, first, second, second, *others.T], matrix.sum(axis=1) - 1):
            split = np.zeros(np.add(matrix.shape, 1), np.int64)
            split[:-1] = np.column_stack([others, first, second])
            split[-1, -2:] = 1
            return split
    return None


def top_class_vanishes(forms: list[np.ndarray], n: np.ndarray) -> bool:
    """Whether prod_a (sum_r q_ra J_r) is zero with J_r^{n_r + 1} = 0: no term can be matched."""
    capacity = np.repeat(np.arange(len(n)), n)
    allowed = np.array(forms)[:, capacity] > 0
    matching = maximum_bipartite_matching(csr_array(allowed), perm_type="column")
    return bool((matching < 0).any())


def is_block_diagonal(matrix: np.ndarray) -> bool:
    linked = np.eye(len(matrix), dtype=bool) | ((matrix > 0).astype(int) @ (matrix > 0).T > 0)
    return not np.linalg.matrix_power(linked.astype(int), len(matrix))[0].all()
