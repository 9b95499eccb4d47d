"""One representative of all configuration matrices that are permutations of each other.

Rows and columns of a configuration matrix are in no order, and the same manifold is written in many
ways. :func:`canonical_form` is one of them, the same for all: by colour refinement and
individualisation, as programs for graph isomorphism find it (McKay and Piperno, arXiv 1301.1493).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cicy_utils import chunks
from cicy_utils.compilation import njit
from cicy_utils.topology import checked_matrix, trimmed


def canonical_form(matrix: ArrayLike) -> np.ndarray:
    """The representative of all matrices that differ by permutations of rows and of columns.

    Two matrices have the same form exactly when they are permutations of each other. Rows come
    by ascending n and, as far as that leaves a choice, columns with larger degrees come first.

    Args:
        matrix: a configuration matrix (m, K), see :func:`cicy_utils.topology.hodge_numbers`.

    Returns:
        uint8 (m, K) without padding.

    Raises:
        ValueError: not a valid configuration matrix.
    """
    # No degree is above 10: without the columns of degree 1, sum (n_r - 1) <= 2 d.
    return compiled_form(checked_matrix(matrix)).astype(np.uint8)


def canonical_forms(matrices: np.ndarray) -> np.ndarray:
    """The canonical form of many matrices; see :func:`canonical_form`.

    Args:
        matrices: uint8 (N, rows, columns) of valid configurations, padded with zeros around them.

    Returns:
        uint8 (N, rows, columns), padded with zeros at the end.
    """
    return chunks.joined(_canonical_all, matrices)


@njit(cache=True, nogil=True)
def _canonical_all(matrices):
    result = np.zeros_like(matrices)
    for index in range(len(matrices)):
        form = compiled_form(trimmed(matrices[index].astype(np.int64)))
        result[index, : form.shape[0], : form.shape[1]] = form
    return result


@njit(cache=True, nogil=True)
def compiled_form(matrix):
    """The same matrix with rows and columns in an order that permutations do not change.

    A rank for every row and column is refined by the ranks of what it meets until nothing
    changes; equal ranks that are left are told apart by trying each of them in turn. Of all
    orders found so the one with the smallest trace of refinements, then with the smallest matrix,
    wins. Two orders with the same matrix show a symmetry, and what it maps onto the explored
    need not be explored (McKay and Piperno, arXiv 1301.1493).
    """
    rows, columns = matrix.shape
    deepest = rows + columns
    row_rank = np.zeros((deepest + 1, rows), np.int64)
    column_rank = np.zeros((deepest + 1, columns), np.int64)
    trace = np.zeros(deepest + 1, np.int64)
    tried = np.zeros((deepest + 1, max(rows, columns)), np.bool_)
    on_rows = np.zeros(deepest + 1, np.bool_)
    path = np.full(deepest + 1, -1, np.int64)
    ahead = np.ones(deepest + 1, np.bool_)  # the trace is smaller than the best one so far

    best = np.empty_like(matrix)
    best_trace = np.zeros(deepest + 1, np.int64)
    best_path = np.full(deepest + 1, -1, np.int64)
    have_best = False
    leaf = np.empty_like(matrix)

    _initial_ranks(matrix, row_rank[0], column_rank[0])
    trace[0] = _refine(matrix, row_rank[0], column_rank[0])
    depth = 0
    entering = True
    while depth >= 0:
        if entering:
            tried[depth] = False
            cell, on_rows[depth] = _target_cell(matrix, row_rank[depth], column_rank[depth])
            if cell < 0:
                _apply_ranks(matrix, row_rank[depth], column_rank[depth], leaf)
                order = -1 if not have_best or ahead[depth] else _compare(leaf, best)
                diverged = depth
                if order < 0:
                    have_best = True
                    best[:] = leaf
                    best_trace[:] = trace
                    best_path[:] = path
                    ahead[: depth + 1] = False
                elif order == 0:
                    diverged = 0
                    while path[diverged] == best_path[diverged]:
                        diverged += 1
                    diverged += 1
                depth = diverged - 1
                entering = False
                continue
        chosen = _next_choice(
            matrix, row_rank[depth], column_rank[depth], on_rows[depth], tried[depth]
        )
        if chosen < 0:
            depth -= 1
            entering = False
            continue
        path[depth] = chosen if on_rows[depth] else rows + chosen
        child = depth + 1
        path[child] = -1
        row_rank[child] = row_rank[depth]
        column_rank[child] = column_rank[depth]
        rank = row_rank[child] if on_rows[depth] else column_rank[child]
        own = rank[chosen]
        for v in range(len(rank)):
            if v != chosen and rank[v] == own:
                rank[v] += 1
        trace[child] = _refine(matrix, row_rank[child], column_rank[child])
        ahead[child] = ahead[depth] or not have_best or trace[child] < best_trace[child]
        entering = ahead[child] or trace[child] == best_trace[child]
        if entering:
            depth = child
    return best


@njit(cache=True, nogil=True)
def _initial_ranks(matrix, row_rank, column_rank):
    """Rows by ascending n, then descending squares; columns by descending degree and squares."""
    rows, columns = matrix.shape
    key = np.empty(rows, np.int64)
    for r in range(rows):
        key[r] = (matrix[r].sum() << 20) - (matrix[r] * matrix[r]).sum()
    _rank_by(row_rank, key, np.zeros(rows, np.int64))
    key = np.empty(columns, np.int64)
    for a in range(columns):
        key[a] = -(matrix[:, a].sum() << 20) - (matrix[:, a] * matrix[:, a]).sum()
    _rank_by(column_rank, key, np.zeros(columns, np.int64))


@njit(cache=True, nogil=True)
def _refine(matrix, row_rank, column_rank):
    """Refine the ranks until they are stable; return a number that permutations do not change."""
    rows, columns = matrix.shape
    row_key, row_hash = np.empty(rows, np.int64), np.empty(rows, np.int64)
    column_key, column_hash = np.empty(columns, np.int64), np.empty(columns, np.int64)
    cells = 0
    trace = 0
    while True:
        _signatures(matrix, column_rank, row_key, row_hash)
        now = _rank_by(row_rank, row_key, row_hash)
        _signatures(matrix.T, row_rank, column_key, column_hash)
        now += _rank_by(column_rank, column_key, column_hash)
        for r in range(rows):
            trace += _mixed(row_hash[r], row_rank[r])
        for a in range(columns):
            trace += _mixed(column_hash[a], 64 + column_rank[a])
        if now == cells:
            return trace
        cells = now


@njit(cache=True, nogil=True)
def _signatures(matrix, other_rank, key, mixed):
    """What each row meets: a sortable key (large degrees early come first) and a hash."""
    for r in range(matrix.shape[0]):
        key[r] = 0
        mixed[r] = 0
        for a in range(matrix.shape[1]):
            if matrix[r, a] > 0:
                if other_rank[a] < 20:
                    key[r] -= matrix[r, a] << (3 * (19 - other_rank[a]))
                mixed[r] += _mixed(matrix[r, a], other_rank[a])


@njit(cache=True, nogil=True)
def _mixed(value, rank):
    """A 64-bit hash of two integers (the finaliser of splitmix64)."""
    h = value * 0x1E3779B97F4A7C15 + (rank + 1) * 0x3F58476D1CE4E5B9
    h = (h ^ (h >> 30)) * 0x14D049BB133111EB
    h = (h ^ (h >> 27)) * 0x3F58476D1CE4E5B9
    return h ^ (h >> 31)


@njit(cache=True, nogil=True)
def _rank_by(rank, key, mixed):
    """Split equal ranks by key, then by hash; the number of different ranks.

    The rank of an element is the number of elements that come before all of its equals.
    """
    size = len(rank)
    order = np.empty(size, np.int64)
    for v in range(size):
        position = v
        while position > 0:
            w = order[position - 1]
            if rank[w] < rank[v]:
                break
            if rank[w] == rank[v]:
                if key[w] < key[v]:
                    break
                if key[w] == key[v] and mixed[w] <= mixed[v]:
                    break
            order[position] = w
            position -= 1
        order[position] = v
    cells = 0
    previous = -1
    previous_rank = -1
    for position in range(size):
        v = order[position]
        old = rank[v]
        same = (
            position > 0
            and old == previous_rank
            and key[v] == key[previous]
            and mixed[v] == mixed[previous]
        )
        previous_rank = old
        if same:
            rank[v] = rank[previous]
        else:
            rank[v] = position
            cells += 1
        previous = v
    return cells


@njit(cache=True, nogil=True)
def _target_cell(matrix, row_rank, column_rank):
    """The first rank shared by rows (else columns) that are not all equal as vectors, or -1."""
    cell = _cell_with_choice(matrix, row_rank)
    if cell >= 0:
        return cell, True
    return _cell_with_choice(matrix.T, column_rank), False


@njit(cache=True, nogil=True)
def _cell_with_choice(vectors, rank):
    found = -1
    for v in range(len(rank)):
        if found >= 0 and rank[v] >= found:
            continue
        for w in range(v):
            if rank[w] == rank[v] and (vectors[v] != vectors[w]).any():
                found = rank[v]
                break
    return found


@njit(cache=True, nogil=True)
def _next_choice(matrix, row_rank, column_rank, on_rows, tried):
    """The next untried element of the target cell, marked as tried; -1 if there is none left.

    Exchanging two equal vectors is a symmetry, so one of them is enough.
    """
    cell, _ = _target_cell(matrix, row_rank, column_rank)
    if on_rows:
        return _untried(matrix, row_rank, cell, tried)
    return _untried(matrix.T, column_rank, cell, tried)


@njit(cache=True, nogil=True)
def _untried(vectors, rank, cell, tried):
    for v in range(len(rank)):
        if rank[v] != cell or tried[v]:
            continue
        for w in range(len(rank)):
            if tried[w] and (vectors[v] == vectors[w]).all():
                break
        else:
            tried[v] = True
            return v
    return -1


@njit(cache=True, nogil=True)
def _apply_ranks(matrix, row_rank, column_rank, result):
    """The matrix with rows and columns by rank; equal ranks are equal vectors here."""
    row_order = np.argsort(row_rank, kind="mergesort")
    column_order = np.argsort(column_rank, kind="mergesort")
    for r in range(matrix.shape[0]):
        for a in range(matrix.shape[1]):
            result[r, a] = matrix[row_order[r], column_order[a]]


@njit(cache=True, nogil=True)
def _compare(left, right):
    """-1, 0 or 1 as the first matrix comes before, equals or comes after the second."""
    for r in range(left.shape[0]):
        for a in range(left.shape[1]):
            if left[r, a] != right[r, a]:
                return -1 if left[r, a] > right[r, a] else 1
    return 0
