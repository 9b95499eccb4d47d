r"""Exact Euler and Hodge numbers of complete intersection Calabi-Yau manifolds.

A configuration matrix has one row for every projective factor :math:`P^{n_r}`, one column for
every polynomial, and non-negative degrees :math:`q_{ra}`. The manifold X is the common zero
locus of generic polynomials of these degrees. It is Calabi-Yau when every row sums to
:math:`n_r + 1` (arXiv 2405.17406, eq. 10), so :math:`n_r` is never stored; its dimension is
:math:`d = \sum_r n_r - K`, here 3 or 4.

Two code paths share nothing but the reading of the matrix:

* :func:`euler_number` integrates the top Chern class and needs no cohomology.
* :func:`hodge_numbers` counts polynomials (Koszul resolution and Bott-Borel-Weil).

What it counts are :math:`t_q = h^q(TA|_X)`, by the Euler sequence from the :math:`h^q` of the line
bundles :math:`O(e_r)`, and :math:`\nu_q = h^q(N)`, the sum over the columns of those of
:math:`O(q_a)` (:func:`_cohomology` has the closed form). With :math:`\rho_q = \min(t_q, \nu_q)` for
:math:`0 < q < d - 1`, the ranks of the maps between the two, :math:`0 \to TX \to TA|_X \to N \to 0`
gives

* for four-folds :math:`h^{3,1} = \nu_0 - t_0 + t_1 - \rho_1`,
  :math:`h^{2,1} = \nu_1 - \rho_1 + t_2 - \rho_2`, :math:`h^{1,1} = \nu_2 - \rho_2 + t_3 - \nu_3`,
  and :math:`h^{2,2}` by :mod:`cicy_utils.relations` (arXiv 2405.17406, eq. 12);
* for three-folds :math:`h^{2,1} = \nu_0 - t_0 + t_1 - \rho_1` and
  :math:`h^{1,1} = \nu_1 - \rho_1 + t_2 - \nu_2`.

So the Hodge numbers are computed as if the maps between cohomology groups that the polynomials
induce had maximal rank. :func:`rests_on_rank` tells whether it matters: for 30,130 of the 905,684
four-folds (3.3 %) and 48 of the 7,868 three-folds; :mod:`cicy_utils.ranks` proves it for all of
these. (A matrix of one's own may not have the property that the proof needs.) What else speaks for
the numbers: 10,255 of the 30,130 are fibre products, whose Hodge numbers also follow from those of
a three-fold, with the same result (``tests/test_fibre_products.py``); the connected configurations
of one half of the published three-fold list get the published :math:`h^{1,1}` and :math:`h^{2,1}`
(only that half was at hand; it is not in this repository); matrices related by an ineffective
split, which describe the same manifold, get the same Hodge numbers (the tests, too); and extremes
and rounded means over the four-folds are the published ones (arXiv 2405.17406, eq. 16), which a
small error would not change. That the Euler number computed from the Hodge numbers equals the one
from the Chern class tests :math:`h^{1,1} - h^{2,1} + h^{3,1}`, and so neither the ranks nor in
which degree a group sits.

Sources: T. Hübsch, *Calabi-Yau Manifolds* (1992), chapters 1 to 3; J. Gray, A. Haupt and A. Lukas,
arXiv 1303.1832 (Euler numbers, redundancies) and arXiv 1405.2073 (Hodge numbers of four-folds).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cicy_utils import chunks
from cicy_utils.compilation import njit


class HodgeNumbers(NamedTuple):
    """The Hodge numbers of a Calabi-Yau four-fold that are not fixed by symmetry."""

    h11: int
    h21: int
    h31: int
    h22: int


class ThreefoldHodgeNumbers(NamedTuple):
    """The Hodge numbers of a Calabi-Yau three-fold that are not fixed by symmetry."""

    h11: int
    h21: int


def euler_number(matrix: ArrayLike) -> int:
    r"""Euler number of one manifold, from the top Chern class.

    :math:`\chi` is the coefficient of :math:`\prod_r J_r^{n_r}` in
    :math:`c_d \prod_a \xi_a` with :math:`\xi_a = \sum_r q_{ra} J_r`,
    :math:`p_k = \sum_r (n_r + 1) J_r^k - \sum_a \xi_a^k`, :math:`c_4 = (p_2^2 - 2 p_4)/8` and
    :math:`c_3 = p_3 / 3` (arXiv 1303.1832, section 2).

    Args:
        matrix: the configuration matrix (m, K), of integers and without the column of the n_r;
            rows and columns of zeros around it are ignored.

    Raises:
        ValueError: the matrix is not that of a connected, non-empty Calabi-Yau three- or
            four-fold; the message names the row or column and the rule.

    >>> euler_number([[6]])
    2610
    """
    return int(_euler(checked_matrix(matrix)))


def hodge_numbers(matrix: ArrayLike) -> HodgeNumbers | ThreefoldHodgeNumbers:
    """Hodge numbers of one manifold (see the module's docstring for the method).

    Args:
        matrix: the configuration matrix (m, K), of integers and without the column of the n_r;
            rows and columns of zeros around it are ignored.

    Returns:
        ``HodgeNumbers(h11, h21, h31, h22)`` of a four-fold,
        ``ThreefoldHodgeNumbers(h11, h21)`` of a three-fold.

    Raises:
        ValueError: the matrix is not that of a connected, non-empty Calabi-Yau three- or
            four-fold; the message names the row or column and the rule.

    >>> hodge_numbers([[1, 1], [1, 5]])
    HodgeNumbers(h11=2, h21=0, h31=350, h22=1452)
    """
    matrix = checked_matrix(matrix)
    numbers = [int(number) for number in _hodge(matrix)]
    if dimension_of(matrix) == 4:
        return HodgeNumbers(*numbers)
    return ThreefoldHodgeNumbers(*numbers[:2])


def rests_on_rank(matrix: ArrayLike) -> bool:
    """Whether the Hodge numbers of one manifold rest on a rank, and on its being maximal.

    They do where a map that counts, H^q(TA|X) -> H^q(N) with 0 < q < d - 1, joins two groups
    neither of which is zero; :func:`ranks.shown_maximal` tells whether it is known to be.

    Args, Raises:
        As of :func:`hodge_numbers`.

    >>> rests_on_rank([[6]])
    False
    """
    return bool(_ranks(*tangent_and_normal(without_linear(checked_matrix(matrix)))).any())


def euler_numbers_batch(matrices: np.ndarray, *, executor: Executor | None = None) -> np.ndarray:
    """Euler numbers of many manifolds of one dimension; see :func:`euler_number`.

    Args:
        matrices: unsigned or signed integers (N, rows, columns), each padded with zeros.
        executor: who computes, chunk by chunk; None for threads of this process, one per core.

    Returns:
        int64 (N,).

    Raises:
        ValueError: the first configuration that breaks a rule is named with it.
    """
    return _labelled(_euler_chunk, matrices, executor)


def hodge_numbers_batch(matrices: np.ndarray, *, executor: Executor | None = None) -> np.ndarray:
    """Hodge numbers of many manifolds of one dimension; see :func:`hodge_numbers`.

    Args:
        matrices: unsigned or signed integers (N, rows, columns), each padded with zeros.
        executor: who computes, chunk by chunk; None for threads of this process, one per core.

    Returns:
        int64 (N, 4) for four-folds: h11, h21, h31, h22; int64 (N, 2) for three-folds: h11, h21.

    Raises:
        ValueError: the first configuration that breaks a rule is named with it.
    """
    return _labelled(_hodge_chunk, matrices, executor)


def _labelled(
    label: Callable[[np.ndarray], tuple[int, np.ndarray]],
    matrices: np.ndarray,
    executor: Executor | None,
) -> np.ndarray:
    """The labels of all matrices, where each chunk gives its dimension and its labels."""
    if not len(matrices):
        return label(matrices)[1]
    try:
        dimensions, labels = zip(*chunks.each(label, matrices, executor), strict=True)
    except ValueError:
        _check_batch(matrices)  # it names the configuration by its place among all
        raise
    if len(set(dimensions)) > 1:
        _check_batch(matrices)
    return np.concatenate(labels)


def _euler_chunk(matrices: np.ndarray) -> tuple[int, np.ndarray]:
    return _check_batch(matrices), _euler_batch(matrices)


def _hodge_chunk(matrices: np.ndarray) -> tuple[int, np.ndarray]:
    dimension = _check_batch(matrices)
    numbers = _hodge_batch(matrices)
    return dimension, numbers if dimension == 4 else numbers[:, :2]


# ---------------------------------------------------------------------------------------------
# What a configuration matrix must satisfy
# ---------------------------------------------------------------------------------------------

VALID, _NEGATIVE, _EMPTY, _ZERO_ROW, _ZERO_COLUMN, _ROW_SUM, _DIMENSION, PRODUCT, _HALL, _LARGE = (
    range(10)
)
_MESSAGES = {
    _NEGATIVE: "row {row} has a negative degree; degrees are counted from 0",
    _EMPTY: "it has no nonzero entry; a configuration matrix needs at least one row and column",
    _ZERO_ROW: "row {row} is empty but stands between rows that are not; zero padding belongs "
    "at the ends",
    _ZERO_COLUMN: "column {column} is empty but stands between columns that are not; zero padding "
    "belongs at the ends",
    _ROW_SUM: "row {row} sums to 1; a row sums to n + 1 with n >= 1 the dimension of its "
    "projective factor",
    _DIMENSION: "its rows of sum n + 1 give a manifold of dimension (sum of all n) - (columns) = "
    "{value}; only dimensions 3 and 4 are supported",
    PRODUCT: "row {row} shares no chain of columns with the first row; the matrix is "
    "block-diagonal and the manifold a product",
    _HALL: "column {column} is one of a set of columns whose rows have total dimension no larger "
    "than their number; the manifold is empty or several copies of a smaller one",
    _LARGE: "its intersection numbers could exceed 64-bit integers",
}


def rule_message(code: int, row: int, column: int, value: int) -> str:
    """The sentence that goes with what :func:`broken_rule` returned; the code is not VALID."""
    return _MESSAGES[code].format(row=row, column=column, value=value)


def checked_matrix(matrix: ArrayLike) -> np.ndarray:
    """The matrix as int64 (m, K) without its padding, or a ValueError."""
    try:
        array = np.asarray(matrix)
    except ValueError as error:
        raise ValueError("configuration matrix: its rows have different lengths") from error
    if array.ndim != 2:
        raise ValueError(
            f"configuration matrix: it has {array.ndim} dimensions; give rows of degrees, "
            "such as [[1, 1], [1, 5]]"
        )
    if array.dtype.kind not in "iu" and array.size:
        array = _as_integers(array)
    if array.size and (array > np.iinfo(np.int32).max).any():
        row = int(np.argmax((array > np.iinfo(np.int32).max).any(axis=1)))
        raise ValueError(f"configuration matrix: row {row} has a degree above 2,147,483,647")
    array = array.astype(np.int64)
    code, row, column, value = broken_rule(array)
    if code != VALID:
        hint = ""
        degrees = array[:, 1:]
        if degrees.size and (array[:, 0] == degrees.sum(axis=1) - 1).all():
            hint = "; the first column seems to be the dimensions n_r, which are left out here"
        raise ValueError("configuration matrix: " + rule_message(code, row, column, value) + hint)
    return trimmed(array)


def _as_integers(array: np.ndarray) -> np.ndarray:
    """Whole-valued numbers of another type as int64."""
    for (row, column), entry in np.ndenumerate(array):
        try:
            whole = int(entry) == entry
        except (TypeError, ValueError, OverflowError):
            whole = False
        if not whole or isinstance(entry, str | bool | np.bool_):
            raise ValueError(
                f"configuration matrix: row {row}, column {column} is {entry!r}; degrees are "
                "integers"
            )
        if abs(entry) > np.iinfo(np.int32).max:
            raise ValueError(
                f"configuration matrix: row {row} has a degree outside the 32-bit integers"
            )
    return array.astype(np.int64)


def _check_batch(matrices: np.ndarray) -> int:
    """The common dimension (3 or 4) of valid configurations, or a ValueError."""
    if matrices.ndim != 3 or matrices.dtype.kind not in "iu":
        raise ValueError(
            "configuration matrices: give an integer array (N, rows, columns), not "
            f"{matrices.dtype} with {matrices.ndim} dimensions"
        )
    if not matrices.dtype.isnative:
        raise ValueError("configuration matrices: their bytes are in another order than here")
    if matrices.dtype.itemsize >= 4 and (matrices > np.iinfo(np.int32).max).any():
        large = (matrices > np.iinfo(np.int32).max).any(axis=(1, 2))
        raise ValueError(f"configuration {np.argmax(large)}: it has a degree above 2,147,483,647")
    if len(matrices) == 0:
        return 4
    index, code, row, column, value = _first_broken_rule(matrices)
    if code != VALID:
        raise ValueError(f"configuration {index}: " + rule_message(code, row, column, value))
    if index >= 0:
        raise ValueError(
            f"configuration {index}: it has dimension {value}, unlike those before it; "
            "give three-folds and four-folds separately"
        )
    return value


@njit(cache=True, nogil=True)
def _first_broken_rule(matrices):
    """(index, code, row, column, value) of the first fault; index -1 and the dimension if none."""
    common = 0
    for index in range(len(matrices)):
        matrix = matrices[index].astype(np.int64)
        code, row, column, value = broken_rule(matrix)
        if code != VALID:
            return index, code, row, column, value
        dimension = dimension_of(trimmed(matrix))
        if common == 0:
            common = dimension
        elif dimension != common:
            return index, VALID, 0, 0, dimension
    return -1, VALID, 0, 0, common


@njit(cache=True, nogil=True)
def broken_rule(padded):
    """(code, row, column, value) of the first rule that the matrix breaks; code VALID if none."""
    for r in range(padded.shape[0]):
        for a in range(padded.shape[1]):
            if padded[r, a] < 0:
                return _NEGATIVE, r, a, 0
    matrix = trimmed(padded)
    rows, columns = matrix.shape
    if rows == 0:
        return _EMPTY, 0, 0, 0
    top, left = _padding(padded)
    n = ambient_dimensions(matrix)
    for r in range(rows):
        if n[r] == -1:
            return _ZERO_ROW, top + r, 0, 0
    for a in range(columns):
        if not matrix[:, a].any():
            return _ZERO_COLUMN, 0, left + a, 0
    for r in range(rows):
        if n[r] == 0:
            return _ROW_SUM, top + r, 0, 0
    dimension = dimension_of(matrix)
    if dimension != 3 and dimension != 4:
        return _DIMENSION, 0, 0, dimension
    row = _disconnected_row(matrix)
    if row >= 0:
        return PRODUCT, top + row, 0, 0
    column = _hall_violation(matrix > 0, n)
    if column >= 0:
        return _HALL, 0, left + column, 0
    # The coefficients of prod_a xi_a add up to prod_a (sum_r q_ra) at most, and those of 8 c_4
    # are bounded by the second line; the exponents of a monomial are digits of one integer.
    size = 0.0
    for a in range(columns):
        size += np.log2(matrix[:, a].sum())
    largest = float(matrix.max())
    size += np.log2(24.0 * (columns * largest**2 + n.max() + 1) ** 2 + 48.0 * columns * largest**4)
    digits = 0.0
    for r in range(rows):
        digits += np.log2(n[r] + 1.0)
    if size > 62 or digits > 62:
        return _LARGE, 0, 0, 0
    return VALID, 0, 0, 0


@njit(cache=True, nogil=True)
def _padding(padded):
    """Numbers of zero rows above and of zero columns left of the matrix."""
    top = 0
    while top < padded.shape[0] and not padded[top].any():
        top += 1
    left = 0
    while left < padded.shape[1] and not padded[:, left].any():
        left += 1
    return top, left


@njit(cache=True, nogil=True)
def trimmed(padded):
    """The matrix without the zero rows and columns around it."""
    top, left = _padding(padded)
    bottom, right = padded.shape
    while bottom > top and not padded[bottom - 1].any():
        bottom -= 1
    while right > left and not padded[:, right - 1].any():
        right -= 1
    return np.ascontiguousarray(padded[top:bottom, left:right])


@njit(cache=True, nogil=True)
def ambient_dimensions(matrix):
    """The n_r of a Calabi-Yau configuration: row sums less 1."""
    n = np.empty(matrix.shape[0], np.int64)
    for r in range(matrix.shape[0]):
        n[r] = matrix[r].sum() - 1
    return n


@njit(cache=True, nogil=True)
def dimension_of(matrix):
    return ambient_dimensions(matrix).sum() - matrix.shape[1]


@njit(cache=True, nogil=True)
def _disconnected_row(matrix):
    """A row with no chain of shared columns to row 0, or -1 for a connected matrix."""
    rows, columns = matrix.shape
    reached = np.zeros(rows, np.bool_)
    reached[0] = True
    stack = np.empty(rows, np.int64)
    stack[0] = 0
    size = 1
    while size > 0:
        size -= 1
        r = stack[size]
        for a in range(columns):
            if matrix[r, a] > 0:
                for s in range(rows):
                    if matrix[s, a] > 0 and not reached[s]:
                        reached[s] = True
                        stack[size] = s
                        size += 1
    for r in range(rows):
        if not reached[r]:
            return r
    return -1


@njit(cache=True, nogil=True)
def _hall_violation(touches, n):
    """A column of a set S whose rows have sum n_r <= |S| (strict Hall violated), or -1.

    By Hall's theorem there is none exactly when the columns can be matched to rows, row r taking
    at most n_r of them, even after any one column is doubled.
    """
    rows, columns = touches.shape
    forms = np.ascontiguousarray(touches.T)
    matched = np.full(columns, -1, np.int64)
    load = np.zeros(rows, np.int64)
    for a in range(columns):
        if not match_form(forms, n, load, matched, a):
            return a
    doubled = np.empty((columns + 1, rows), np.bool_)
    doubled[:columns] = forms
    trial = np.empty(columns + 1, np.int64)
    trial_load = np.empty(rows, np.int64)
    for a in range(columns):
        doubled[columns] = forms[a]
        trial[:columns] = matched
        trial[columns] = -1
        trial_load[:] = load
        if not match_form(doubled, n, trial_load, trial, columns):
            return a
    return -1


@njit(cache=True, nogil=True)
def match_form(forms, capacity, load, matched, form):
    """Add one form to a matching of forms to rows, along an augmenting path if need be.

    Args:
        forms: bool (F, m), the rows each form may be matched to.
        capacity: int64 (m,), how many forms a row takes.
        load: int64 (m,), how many it has; updated.
        matched: int64 (F,), the row of each form or -1; updated.
        form: the form to add.

    Returns:
        Whether there was a place for it; if not, nothing has changed.
    """
    rows = len(capacity)
    came_from = np.full(rows, -2, np.int64)  # the form through which the search reached a row
    queue = np.empty(rows, np.int64)
    size = 0
    for r in range(rows):
        if forms[form, r]:
            came_from[r] = form
            queue[size] = r
            size += 1
    head = 0
    while head < size:
        row = queue[head]
        head += 1
        if load[row] < capacity[row]:
            load[row] += 1
            while True:
                moved = came_from[row]
                row, matched[moved] = matched[moved], row
                if moved == form:
                    return True
        for other in range(len(matched)):
            if matched[other] == row:
                for r in range(rows):
                    if forms[other, r] and came_from[r] == -2:
                        came_from[r] = other
                        queue[size] = r
                        size += 1
    return False


# ---------------------------------------------------------------------------------------------
# Euler number: intersection theory
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _euler_batch(matrices):
    result = np.empty(len(matrices), np.int64)
    for index in range(len(matrices)):
        result[index] = _euler(trimmed(matrices[index].astype(np.int64)))
    return result


@njit(cache=True, nogil=True)
def _euler(matrix):
    """Sum over monomials J^e of degree d: (coefficient in c_d) times (in prod_a xi_a, at n - e).

    The second factor for all e at once comes from multiplying out prod_a xi_a column by column.
    A monomial is kept only while its rows can still reach n_r up to a total deficit of d, which
    leaves a few hundred of them; its exponents are the digits of one integer in mixed radix.
    """
    rows, columns = matrix.shape
    n = ambient_dimensions(matrix)
    dimension = n.sum() - columns
    stride = np.ones(rows, np.int64)
    for r in range(1, rows):
        stride[r] = stride[r - 1] * (n[r - 1] + 1)

    order = _elimination_order(matrix)
    last = np.zeros(rows, np.int64)  # position in the order after which a row gets no factor
    for position in range(columns):
        for r in range(rows):
            if matrix[r, order[position]] > 0:
                last[r] = position

    keys = np.zeros(1, np.int64)
    values = np.ones(1, np.int64)
    deficits = np.zeros(1, np.int64)
    size = 1
    for position in range(columns):
        a = order[position]
        support = np.flatnonzero(matrix[:, a])
        slots = 4
        while slots < 2 * size * len(support):
            slots *= 2
        table = np.full(slots, -1, np.int64)
        new_keys = np.empty(size * len(support), np.int64)
        new_values = np.empty(size * len(support), np.int64)
        new_deficits = np.empty(size * len(support), np.int64)
        new_size = 0
        for state in range(size):
            for r in support:
                key = keys[state]
                if (key // stride[r]) % (n[r] + 1) == n[r]:
                    continue
                key += stride[r]
                deficit = deficits[state]
                for s in support:
                    if last[s] == position:
                        deficit += n[s] - (key // stride[s]) % (n[s] + 1)
                if deficit > dimension:
                    continue
                slot = (key * 0x9E3779B97F4A7C1 >> 20) & (slots - 1)
                while table[slot] >= 0 and new_keys[table[slot]] != key:
                    slot = (slot + 1) & (slots - 1)
                if table[slot] < 0:
                    table[slot] = new_size
                    new_keys[new_size] = key
                    new_values[new_size] = 0
                    new_deficits[new_size] = deficit
                    new_size += 1
                new_values[table[slot]] += values[state] * matrix[r, a]
        keys, values, deficits, size = new_keys, new_values, new_deficits, new_size

    total = 0
    exponents = np.empty(4, np.int64)  # the rows of J_i J_j J_k J_l, with repetition
    for state in range(size):
        count = 0
        for r in range(rows):
            for _ in range(n[r] - (keys[state] // stride[r]) % (n[r] + 1)):
                exponents[count] = r
                count += 1
        total += values[state] * _chern_coefficient(matrix, n, exponents[:count])
    return total // (8 if dimension == 4 else 3)


@njit(cache=True, nogil=True)
def _elimination_order(matrix):
    """Columns in an order that finishes rows early: always the one opening the fewest rows."""
    rows, columns = matrix.shape
    order = np.empty(columns, np.int64)
    used = np.zeros(columns, np.bool_)
    opened = np.zeros(rows, np.bool_)
    for position in range(columns):
        best, fewest = -1, rows + 1
        for a in range(columns):
            if not used[a]:
                opening = 0
                for r in range(rows):
                    if matrix[r, a] > 0 and not opened[r]:
                        opening += 1
                if opening < fewest:
                    best, fewest = a, opening
        order[position] = best
        used[best] = True
        for r in range(rows):
            opened[r] |= matrix[r, best] > 0
    return order


@njit(cache=True, nogil=True)
def _chern_coefficient(matrix, n, indices):
    """Coefficient of prod J_i (i in sorted indices) in p_2^2 - 2 p_4 = 8 c_4, or in p_3 = 3 c_3."""
    degree = len(indices)
    arrangements, run = 1, 0
    for position in range(degree):
        run = run + 1 if position and indices[position] == indices[position - 1] else 1
        arrangements = arrangements * (position + 1) // run
    power_sum = -arrangements * _column_products(matrix, indices)
    if indices[0] == indices[degree - 1]:
        power_sum += n[indices[0]] + 1
    if degree == 3:
        return power_sum
    pairings = 0
    for first, second, third, fourth in ((0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2)):
        pairings += _quadratic(matrix, n, indices[first], indices[second]) * _quadratic(
            matrix, n, indices[third], indices[fourth]
        )
    return arrangements * pairings // 3 - 2 * power_sum


@njit(cache=True, nogil=True)
def _column_products(matrix, indices):
    """sum_a prod_i q_ia over the rows i in indices."""
    total = 0
    for a in range(matrix.shape[1]):
        product = 1
        for i in indices:
            product *= matrix[i, a]
        total += product
    return total


@njit(cache=True, nogil=True)
def _quadratic(matrix, n, r, s):
    """The symmetric matrix A of p_2 = sum_rs A_rs J_r J_s."""
    value = n[r] + 1 if r == s else 0
    for a in range(matrix.shape[1]):
        value -= matrix[r, a] * matrix[s, a]
    return value


# ---------------------------------------------------------------------------------------------
# Hodge numbers: Koszul resolution and Bott-Borel-Weil
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _hodge_batch(matrices):
    result = np.empty((len(matrices), 4), np.int64)
    for index in range(len(matrices)):
        result[index] = _hodge(trimmed(matrices[index].astype(np.int64)))
    return result


@njit(cache=True, nogil=True)
def _hodge(matrix):
    """h11, h21, h31, h22 of a four-fold; h11, h21, 0, 0 of a three-fold."""
    return _numbers(*tangent_and_normal(without_linear(matrix)))


@njit(cache=True, nogil=True)
def without_linear(matrix):
    """The same manifold without columns of degree one in one space: they make P^n a P^(n-1).

    The work grows with the number of sets of columns, and each of these would double it.
    """
    return np.ascontiguousarray(matrix[:, matrix.sum(axis=0) > 1])


@njit(cache=True, nogil=True)
def _numbers(t, nu):
    """The Hodge numbers from the sequence 0 -> TX -> TA|X -> N -> 0."""
    rank = _ranks(t, nu)
    result = np.zeros(4, np.int64)
    if len(t) == 4:
        result[0] = nu[1] - rank[1] + t[2] - nu[2]
        result[1] = nu[0] - t[0] + t[1] - rank[1]
    else:
        h11 = nu[2] - rank[2] + t[3] - nu[3]
        h21 = nu[1] - rank[1] + t[2] - rank[2]
        h31 = nu[0] - t[0] + t[1] - rank[1]
        result[:] = h11, h21, h31, 2 * (22 + 2 * h11 + 2 * h31 - h21)
    return result


@njit(cache=True, nogil=True)
def _ranks(t, nu):
    """Of the maps H^q(TA|X) -> H^q(N) for 0 < q < d - 1, if it is maximal; else 0."""
    rank = np.minimum(t, nu)
    rank[0] = 0
    rank[-2:] = 0
    return rank


@njit(cache=True, nogil=True)
def tangent_and_normal(matrix):
    """t_q = h^q(TA|X), from the Euler sequence, and nu_q = h^q(N), for q = 0..d."""
    rows, columns = matrix.shape
    n = ambient_dimensions(matrix)
    d = n.sum() - columns
    t = np.zeros(d + 1, np.int64)
    nu = np.zeros(d + 1, np.int64)
    bundle = np.zeros(rows, np.int64)
    for r in range(rows):
        bundle[:] = 0
        bundle[r] = 1
        t += (n[r] + 1) * _cohomology(matrix, n, bundle, -1)
    t[0] -= rows
    t[d - 1] += rows
    for b in range(columns):
        nu += _cohomology(matrix, n, matrix[:, b].copy(), b)
    return t, nu


@njit(cache=True, nogil=True)
def _cohomology(matrix, n, bundle, own):
    """h^q(X, L), q = 0..d, of a nef line bundle L: a unit vector or a column of the matrix.

    By Bott-Borel-Weil a Koszul term of a set of columns contributes only if, on every row
    outside R = {r : L_r > 0}, the set either misses it or contains its whole support. The sets
    are therefore unions of components: columns joined by shared rows outside R. A component C
    with d_C = sum n_r - |C| over the rows it touches outside R shifts the degree q by d_C; one
    with d_C = -1 acts on the rows of R as one equation, with a sign. What remains is the number
    of polynomials of degree L - deg(C) - ... on the rows of R.

    Args:
        matrix: int64 (m, K).
        n: int64 (m,).
        bundle: int64 (m,), L.
        own: the column b if L = q_b, which is then left out of the components and is one more
            equation; else -1.

    Returns:
        int64 (d + 1,).
    """
    rows, columns = matrix.shape
    d = n.sum() - columns
    label = components(matrix, bundle, own)

    shift = np.zeros(columns, np.int64)
    degree = np.zeros((columns, rows), np.int64)
    count = 0
    for root in range(columns):
        if label[root] != root:
            continue
        size = 0
        for a in range(columns):
            if label[a] == root:
                size += 1
                for r in range(rows):
                    degree[count, r] += matrix[r, a]
        dimension = -size
        fits = True
        for r in range(rows):
            if bundle[r] == 0:
                if degree[count, r] > 0:
                    dimension += n[r]
                degree[count, r] = 0
            elif degree[count, r] > bundle[r]:
                fits = False
        shift[count] = dimension
        if fits:
            count += 1
        else:
            degree[count] = 0
    if own >= 0:
        degree[count] = matrix[:, own]
        shift[count] = -1
        count += 1

    # Walk over all sets of components whose degrees fit into L, adding one component at a time.
    result = np.zeros(d + 1, np.int64)
    chosen = np.empty(count + 1, np.int64)
    rest = bundle.copy()
    depth, candidate, sign, q = 0, 0, 1, 0
    result[0] += monomials(n, rest)
    while True:
        if candidate < count:
            fits = True
            for r in range(rows):
                if degree[candidate, r] > rest[r]:
                    fits = False
                    break
            if fits:
                rest -= degree[candidate]
                if shift[candidate] == -1:
                    sign = -sign
                else:
                    q += shift[candidate]
                chosen[depth] = candidate
                depth += 1
                if q <= d:
                    result[q] += sign * monomials(n, rest)
            candidate += 1
        elif depth > 0:
            depth -= 1
            last = chosen[depth]
            rest += degree[last]
            if shift[last] == -1:
                sign = -sign
            else:
                q -= shift[last]
            candidate = last + 1
        else:
            return result


@njit(cache=True, nogil=True)
def components(matrix, bundle, own):
    """For every column the smallest column of its component; -1 for the column ``own``."""
    rows, columns = matrix.shape
    label = np.arange(columns)
    if own >= 0:
        label[own] = -1
    for r in range(rows):
        if bundle[r] > 0:
            continue
        first = -1
        for a in range(columns):
            if matrix[r, a] == 0 or a == own:
                continue
            if first < 0:
                first = label[a]
            elif label[a] != first:
                keep, drop = min(first, label[a]), max(first, label[a])
                for c in range(columns):
                    if label[c] == drop:
                        label[c] = keep
                first = keep
    return label


@njit(cache=True, nogil=True)
def monomials(n, degree):
    """Number of monomials of a multidegree on the product of P^{n_r}: prod_r C(n_r + e_r, e_r)."""
    product = 1
    for r in range(len(n)):
        for k in range(1, degree[r] + 1):
            product = product * (n[r] + k) // k
    return product
