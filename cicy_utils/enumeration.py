r"""The list of complete intersection Calabi-Yau manifolds, rebuilt from nothing.

``python -m cicy_utils.enumeration --dimension 4 --output data/cicy4.npz`` makes the 905,684
configuration matrices of four-folds on which arXiv 2405.17406 trains. They are, up to
permutations of rows and of columns, the matrices of dimension 4 that are

* connected and strict Hall (:mod:`cicy_utils.topology`): neither a product nor empty nor several
  copies of a manifold;
* free of redundant pieces (:func:`_redundant`): columns that only rename a simpler space;
* minimal (:func:`_minimal`): no row of ones is an ineffective split, whose contraction is the
  same manifold with a smaller matrix.

The rules are those of the published classification (Gray, Haupt and Lukas, arXiv 1303.1832,
section 3; Candelas, Dale, Lütken and Schimmrigk, Nucl. Phys. B298 (1988) 493). The search starts
from the matrices in which every row has an entry of at least 2. There are finitely many: a
connected graph needs m <= d + 1, and a total degree of at least 2 in every column needs
sum (n_r - 1) <= 2 d. Every other matrix has a row of ones and comes from a matrix with one row
less by a split: a column is written as a sum of n + 1 columns, and a new row P^n has a one in each
of them. The search goes level by level in the number of rows and ends by itself.

It splits matrices of the list only, so that a contraction of one of them has to be in the list,
too. Let row r = P^n have ones in the columns a_k, and let A be their sum without that row. The
contraction is connected. It is strict Hall: take all a_k in place of A, and the number of columns
and the sum of the n both grow by n. It has no redundant piece: if A were part of one, either an
a_k is part of one already, or row r is ineffective, as four forms of the a_k do not fit into
spaces of total dimension 3 at most (4, less the other column, for the two P^2). It is minimal: let
another row s of ones not be ineffective. Either it meets one a_k at most, or it is no row of ones
afterwards; and of the a_k and their copies in the matching that shows it, n at most lie on P^n, so
that one is left on another row for A, and for its copies.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np

from cicy_utils import chunks, cluster
from cicy_utils.canonical import compiled_form
from cicy_utils.compilation import njit
from cicy_utils.data import as_keys, checksum, write_npz
from cicy_utils.topology import (
    VALID,
    ambient_dimensions,
    broken_rule,
    hodge_numbers_batch,
    match_form,
    trimmed,
)

# Columns that candidates of one level may have; more would be an error, not a wrong list.
_MAX_COLUMNS = 32


def enumerate_configurations(
    dimension: int,
    *,
    executor: Executor | None = None,
    progress: Callable[[str], None] | None = None,
) -> np.ndarray:
    """All configuration matrices of one dimension, one for each class of permuted matrices.

    Args:
        dimension: 3 (7,868 matrices) or 4 (905,684).
        executor: who searches; None for threads of this process, one per core. The result does
            not depend on it.
        progress: called with one line of text for each level of the search.

    Returns:
        uint8 (N, rows, columns), padded with zeros, each in its :mod:`~cicy_utils.canonical` form;
        ordered by number of rows, then number of columns, then entries, row by row.

    Raises:
        ValueError: another dimension.
    """
    if dimension not in (3, 4):
        raise ValueError(f"dimension must be 3 or 4, not {dimension!r}")
    report = progress or (lambda line: None)
    start = time.perf_counter()
    seeds = _irreducible(dimension)
    levels: list[np.ndarray] = []
    with chunks.threads_unless(executor) as pool:
        rows, parents = 1, seeds[1]
        while len(parents) or rows <= max(seeds):
            levels.append(parents)
            report(
                f"{rows:3d} rows: {len(parents):9,d} matrices, {time.perf_counter() - start:7.1f} s"
            )
            candidates = _MatrixSet(rows + 1)
            for seed_matrix in seeds.get(rows + 1, ()):
                candidates.add(seed_matrix[None])
            for found in chunks.each(_splits, parents, pool):
                candidates.add(found)
            distinct = candidates.matrices()
            parents = distinct[chunks.joined(_are_minimal, distinct, pool)]
            rows += 1
    return _ordered(levels)


def breaks_rules(matrices: np.ndarray, *, executor: Executor | None = None) -> np.ndarray:
    """Which matrices have a redundant piece or an ineffective split, or are not in canonical form.

    Args:
        matrices: uint8 (N, rows, columns) of valid configurations, padded with zeros at the end.
        executor: who computes; None for threads of this process.

    Returns:
        bool (N,).
    """
    return chunks.joined(_break_rules, matrices, executor)


def in_order(matrices: np.ndarray) -> np.ndarray:
    """Which matrices come after the one before them, strictly, in the order of the list.

    Args:
        matrices: uint8 (N, rows, columns), padded with zeros at the end.

    Returns:
        bool (N,); the first is True.
    """
    rows = matrices.any(axis=2).sum(axis=1).tolist()
    columns = matrices.any(axis=1).sum(axis=1).tolist()
    places = zip(rows, columns, map(np.ndarray.tobytes, matrices), strict=True)
    return np.array([True, *(before < after for before, after in pairwise(places))])[: len(rows)]


# ---------------------------------------------------------------------------------------------
# Chunks of the search, for workers that may be other processes
# ---------------------------------------------------------------------------------------------


def _splits(parents: np.ndarray) -> np.ndarray:
    """:func:`_split_all` without columns that none of the splits has: less to send."""
    found = _split_all(parents)
    return np.ascontiguousarray(found[:, :, : found.any(axis=(0, 1)).sum()])


def _are_minimal(matrices: np.ndarray) -> np.ndarray:
    return _minimal_mask(matrices)


def _break_rules(matrices: np.ndarray) -> np.ndarray:
    return _breaks_rules_mask(matrices)


# ---------------------------------------------------------------------------------------------
# Starting points and splits
# ---------------------------------------------------------------------------------------------


def _irreducible(dimension: int) -> dict[int, np.ndarray]:
    """The valid matrices with an entry >= 2 in every row, by number of rows (canonical forms)."""
    found = {}
    for rows in range(1, dimension + 2):
        distinct = _MatrixSet(rows)
        for n in combinations_with_replacement(range(1, 2 * dimension + 2), rows):
            columns = sum(n) - dimension
            if sum(n) - rows <= 2 * dimension and columns >= 1:
                sums = np.array(n, dtype=np.int64) + 1
                distinct.add(_irreducible_with(sums, columns))
        found[rows] = distinct.matrices()
    return found


@njit(cache=True, nogil=True)
def _irreducible_with(sums, columns):
    """Canonical forms of the valid matrices with these row sums and an entry >= 2 in every row."""
    partitions, _ = _vector_partitions(sums, columns, 2)
    store = np.zeros((len(partitions), len(sums), _MAX_COLUMNS), np.uint8)
    kept = 0
    for index in range(len(partitions)):
        matrix = np.ascontiguousarray(partitions[index].T)
        for r in range(len(sums)):
            if matrix[r].max() < 2:
                break
        else:
            if broken_rule(matrix)[0] == VALID and not _redundant(matrix) and _minimal(matrix):
                store[kept, :, :columns] = compiled_form(matrix)
                kept += 1
    return store[:kept]


@njit(cache=True, nogil=True)
def _split_all(parents):
    """Distinct canonical forms of all splits of the parents that have no redundant piece.

    A split of a valid matrix stays connected and strict Hall; minimality is tested later, once
    for every distinct matrix.
    """
    rows = parents.shape[1]
    store = np.empty((1024, rows + 1, _MAX_COLUMNS), np.uint8)
    slots = np.full(4096, -1, np.int64)
    count = 0
    for parent in parents:
        columns = 0
        while columns < _MAX_COLUMNS and parent[:, columns].any():
            columns += 1
        for a in range(columns):
            if a and (parent[:, a] == parent[:, a - 1]).all():
                continue  # equal columns stand together; splitting one of them is enough
            partitions, sizes = _vector_partitions(parent[:, a].astype(np.int64), 0, 1)
            for index in range(len(partitions)):
                parts = sizes[index]
                if columns - 1 + parts > _MAX_COLUMNS:
                    raise ValueError("a matrix of the search has too many columns")
                matrix = np.zeros((rows + 1, columns - 1 + parts), np.int64)
                matrix[:rows, :a] = parent[:, :a]
                matrix[:rows, a : columns - 1] = parent[:, a + 1 : columns]
                matrix[:rows, columns - 1 :] = partitions[index, :parts].T
                matrix[rows, columns - 1 :] = 1
                if _redundant(matrix):
                    continue
                if count == len(store):
                    store, slots = _grown(store, count)
                store[count] = 0
                store[count, :, : matrix.shape[1]] = compiled_form(matrix)
                count += _insert(store, slots, count)
    return store[:count].copy()


@njit(cache=True, nogil=True)
def _vector_partitions(total, parts, least):
    """All ways to write a vector as an unordered sum of nonzero vectors of non-negative integers.

    The summands of one way stand in lexicographically descending order, so that each way comes
    once (the idea of Knuth, The Art of Computer Programming 4A, 7.2.1.5, algorithm M).

    Args:
        total: int64 (s,), the vector.
        parts: the number of summands, or 0 for any number from 2 on.
        least: the least sum of entries of a summand.

    Returns:
        int64 (ways, most summands, s), padded with zeros, and the numbers of summands (ways,).
    """
    support = np.flatnonzero(total)
    length = len(support)
    deepest = parts if parts else total.sum() // least
    result = np.zeros((16, deepest, len(total)), np.int64)
    sizes = np.empty(16, np.int64)
    count = 0

    rest = np.zeros((deepest + 1, length), np.int64)  # what is left before the summand is chosen
    part = np.zeros((deepest, length), np.int64)
    for i in range(length):
        rest[0, i] = total[support[i]]
    depth = 0
    fresh = True  # the summand at this depth is yet to be set to the largest one allowed
    while depth >= 0:
        lead = 0
        while rest[depth, lead] == 0:
            lead += 1
        if fresh:
            tight = depth > 0
            for i in range(length):
                part[depth, i] = rest[depth, i]
                if tight and part[depth - 1, i] <= rest[depth, i]:
                    part[depth, i] = part[depth - 1, i]
                elif tight:
                    tight = False  # smaller than the summand before it: the rest is free
            valid = part[depth, lead] > 0
        else:
            last = length - 1
            while last > lead and part[depth, last] == 0:
                last -= 1
            part[depth, last] -= 1
            valid = part[depth, lead] > 0
            for i in range(last + 1, length):
                part[depth, i] = rest[depth, i]
        left = parts - depth
        if valid and parts and part[depth, lead] * left < rest[depth, lead]:
            valid = False  # later summands have no larger leading entry: this branch has ended
        if not valid:
            depth -= 1
            fresh = False
            continue
        fresh = False
        degree = part[depth].sum()
        rest[depth + 1] = rest[depth] - part[depth]
        missing = rest[depth + 1].sum()
        if degree < least:
            continue
        if missing == 0:
            if (parts and left != 1) or (depth == 0 and parts == 0):
                continue
            if count == len(result):
                larger = np.zeros((2 * count, deepest, len(total)), np.int64)
                larger[:count] = result
                result = larger
                larger_sizes = np.empty(2 * count, np.int64)
                larger_sizes[:count] = sizes
                sizes = larger_sizes
            for k in range(depth + 1):
                for i in range(length):
                    result[count, k, support[i]] = part[k, i]
            sizes[count] = depth + 1
            count += 1
            continue
        if missing < least or (parts and (left == 1 or missing < least * (left - 1))):
            continue
        depth += 1
        fresh = True
    return result[:count], sizes[:count]


# ---------------------------------------------------------------------------------------------
# Rules
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _redundant(matrix):
    """Whether a piece of the matrix only renames a simpler space.

    These are: a column of total degree 1 (a hyperplane); a quadric on P^1, P^2 or P^3 alone
    (two points, P^1, P^1 x P^1); a column that is exactly (1, 1) on P^1 x P^1 or exactly (2, 1)
    on P^1 x P^2 (P^1, P^1 x P^1); two columns on exactly the same two P^2, one of them (1, 1) and
    the other (1, 2) or (2, 1) (the surface that (2, 2) on P^1 x P^2 gives, too).
    """
    rows, columns = matrix.shape
    n = ambient_dimensions(matrix)
    # The rows (first, second) of the columns that touch exactly two; -1 for the others.
    pairs = np.full((columns, 2), -1, np.int64)
    for a in range(columns):
        touched, degree = 0, 0
        first, second = -1, -1
        for r in range(rows):
            if matrix[r, a] > 0:
                degree += matrix[r, a]
                touched += 1
                if touched == 1:
                    first = r
                else:
                    second = r
        if degree < 2 or (touched == 1 and degree == 2 and n[first] <= 3):
            return True
        if touched != 2:
            continue
        pairs[a] = first, second
        if n[first] > n[second]:
            first, second = second, first
        if degree == 2 and n[first] == 1 and n[second] == 1:
            return True
        if degree == 3 and matrix[first, a] == 2 and n[first] == 1 and n[second] == 2:
            return True
    for a in range(columns):
        first, second = pairs[a]
        if first < 0 or n[first] != 2 or n[second] != 2:
            continue
        if matrix[first, a] + matrix[second, a] != 2:
            continue
        for b in range(columns):
            same = pairs[b, 0] == first and pairs[b, 1] == second
            if same and matrix[first, b] + matrix[second, b] == 3:
                return True
    return False


@njit(cache=True, nogil=True)
def _minimal_mask(matrices):
    mask = np.empty(len(matrices), np.bool_)
    for index in range(len(matrices)):
        mask[index] = _minimal(trimmed(matrices[index].astype(np.int64)))
    return mask


@njit(cache=True, nogil=True)
def _breaks_rules_mask(matrices):
    mask = np.empty(len(matrices), np.bool_)
    for index in range(len(matrices)):
        matrix = trimmed(matrices[index].astype(np.int64))
        mask[index] = (
            _redundant(matrix) or not _minimal(matrix) or (compiled_form(matrix) != matrix).any()
        )
    return mask


@njit(cache=True, nogil=True)
def _minimal(matrix):
    """Whether no row of ones is an ineffective split."""
    for r in range(matrix.shape[0]):
        if matrix[r].max() == 1 and _ineffective(matrix, r):
            return False
    return True


@njit(cache=True, nogil=True)
def _ineffective(matrix, row):
    """Whether contracting a row of ones gives a smooth, and so the same, manifold.

    The row P^n has ones in columns c_1..c_{n+1}; contracting it replaces them by their sum. The
    result is singular where a certain (n+1) x (n+1) matrix of forms drops in rank by two, a locus
    of class s_(2,2)(c_1..c_{n+1}). It is empty when this Schur class, times the product of the
    other columns, vanishes. All coefficients are non-negative, so every monomial must vanish:
    for no c_i c_j c_k c_l, with no form more than twice, can these four and the other columns be
    matched to the remaining rows with capacities n_s.
    """
    rows, columns = matrix.shape
    n = ambient_dimensions(matrix)
    n[row] = 0
    split = np.flatnonzero(matrix[row])
    forms = np.zeros((columns + 4, rows), np.bool_)
    matched = np.full(columns + 4, -1, np.int64)
    load = np.zeros(rows, np.int64)
    count = 0
    for a in range(columns):
        if matrix[row, a] == 0:
            forms[count] = matrix[:, a] > 0
            if not match_form(forms, n, load, matched, count):
                return True
            count += 1
    size = len(split)
    trial_matched = np.empty_like(matched)
    trial_load = np.empty_like(load)
    for i in range(size):
        for j in range(i, size):
            for k in range(max(j, i + 1), size):
                for last in range(max(k, j + 1), size):
                    trial_matched[:] = matched
                    trial_load[:] = load
                    position = count
                    for chosen in (split[i], split[j], split[k], split[last]):
                        forms[position] = matrix[:, chosen] > 0
                        forms[position, row] = False
                        if not match_form(forms, n, trial_load, trial_matched, position):
                            break
                        position += 1
                    if position == count + 4:
                        return False
    return True


# ---------------------------------------------------------------------------------------------
# Sets of matrices
# ---------------------------------------------------------------------------------------------


class _MatrixSet:
    """Distinct matrices of one shape, held in one array; equality is exact."""

    def __init__(self, rows: int) -> None:
        self._store = np.empty((1024, rows, _MAX_COLUMNS), np.uint8)
        self._slots = np.full(4096, -1, np.int64)
        self._count = 0

    def add(self, matrices: np.ndarray) -> None:
        """Add matrices uint8 (n, rows, columns), each padded with zeros."""
        self._store, self._slots, self._count = _insert_all(
            self._store, self._slots, self._count, matrices
        )

    def matrices(self) -> np.ndarray:
        """uint8 (N, rows, columns), in order of first arrival."""
        return self._store[: self._count]


@njit(cache=True, nogil=True)
def _insert_all(store, slots, count, matrices):
    for index in range(len(matrices)):
        if count == len(store):
            store, slots = _grown(store, count)
        store[count] = 0
        store[count, :, : matrices.shape[2]] = matrices[index]
        count += _insert(store, slots, count)
    return store, slots, count


@njit(cache=True, nogil=True)
def _insert(store, slots, count):
    """Enter the matrix at position count of the store into the table; 0 if it is there already."""
    candidate = store[count].ravel()
    mask = len(slots) - 1
    slot = _hash(candidate) & mask
    while slots[slot] >= 0:
        if (store[slots[slot]].ravel() == candidate).all():
            return 0
        slot = (slot + 1) & mask
    slots[slot] = count
    return 1


@njit(cache=True, nogil=True)
def _grown(store, count):
    """A store of twice the length and a table of four slots for each of its places."""
    larger = np.empty((2 * len(store), store.shape[1], store.shape[2]), np.uint8)
    larger[:count] = store[:count]
    slots = np.full(4 * len(larger), -1, np.int64)
    mask = len(slots) - 1
    for index in range(count):
        slot = _hash(larger[index].ravel()) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = index
    return larger, slots


@njit(cache=True, nogil=True)
def _hash(entries):
    h = 0
    for entry in entries:
        h = (h ^ entry) * 0x100000001B3  # FNV-1a
    return h ^ (h >> 29)


def _ordered(levels: list[np.ndarray]) -> np.ndarray:
    """All levels in one padded array, ordered by rows, columns and entries."""
    used = [level.any(axis=1).sum(axis=1) for level in levels]  # columns of each matrix
    rows = max(index + 1 for index, level in enumerate(levels) if len(level))
    columns = max(int(counts.max()) for counts in used if len(counts))
    result = np.zeros((sum(map(len, levels)), rows, columns), np.uint8)
    start = 0
    for level, counts in zip(levels, used, strict=True):
        if not len(level):
            continue
        block = result[start : start + len(level)]
        block[:, : level.shape[1]] = level[:, :, :columns]
        by_entries = np.argsort(as_keys(block), kind="stable")
        order = by_entries[np.argsort(counts[by_entries], kind="stable")]
        block[:] = block[order]
        start += len(level)
    return result


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> None:
    """Rebuild the list of one dimension with its Hodge numbers and write it to a file."""
    parser = argparse.ArgumentParser(prog="python -m cicy_utils.enumeration", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--dimension", type=int, choices=(3, 4), default=4)
    parser.add_argument("--output", type=Path, required=True, help="the npz file to write")
    parser.add_argument("--workers", type=int, help="threads; default: one per core")
    cluster.add_options(parser)
    options = parser.parse_args(arguments)
    if options.workers is not None and options.workers < 1:
        parser.error("--workers must be at least 1")
    folder = options.output.parent
    if not folder.is_dir():
        parser.error(f"there is no folder {folder}")
    if options.output.is_dir() or not os.access(folder, os.W_OK):
        parser.error(f"{options.output} is no file that can be written")

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        with chunks.asked_for(options, options.workers) as workers:
            matrices = enumerate_configurations(options.dimension, executor=workers, progress=say)
            say(f"{len(matrices):,} matrices; Hodge numbers ...")
            hodge = hodge_numbers_batch(matrices, executor=workers).astype(np.int16)
        say(f"writing {options.output}")
        write_npz(options.output, matrices, hodge)
    except (OSError, ValueError, cluster.Lost) as error:
        parser.exit(1, f"FAILED: {error}\n")
    for name, array in (("matrix", matrices), ("hodge", hodge)):
        say(f"sha256 of {name} {array.dtype} {array.shape}: {checksum(array)}")


if __name__ == "__main__":
    main()
