"""Canonical forms: the same for all permutations of a matrix, different for all else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cicy_utils import canonical, chunks
from cicy_utils.canonical import canonical_form, canonical_forms
from cicy_utils.topology import trimmed


@settings(max_examples=200, deadline=None)
@given(index=st.integers(0, 299), seed=st.integers(0, 2**32 - 1))
def test_canonical_form_forgets_permutations(cicy4_sample, index, seed):
    rng = np.random.default_rng(seed)
    matrix = trimmed(cicy4_sample.matrices[index])
    permuted = matrix[rng.permutation(len(matrix))][:, rng.permutation(matrix.shape[1])]
    assert (canonical_form(permuted) == matrix).all()


def test_canonical_forms_of_many(cicy4_sample, monkeypatch):
    monkeypatch.setattr(chunks, "LENGTH", 100)  # so that there are three
    turned = cicy4_sample.matrices[:, ::-1, ::-1]
    assert (canonical_forms(turned) == cicy4_sample.matrices).all()
    assert canonical_forms(turned[:0]).shape == (0, 16, 20)


def test_what_is_no_entry_of_the_list_has_no_canonical_form():
    with pytest.raises(ValueError, match="block-diagonal"):
        canonical_form([[3, 0], [0, 4]])


def test_canonical_form_agrees_with_nauty(cicy4):
    """Equal forms exactly where an independent program finds isomorphic graphs."""
    largest = cicy4.matrices[cicy4.matrices.any(axis=2).sum(axis=1) == 13][:600]
    rng = np.random.default_rng(1)
    forms, certificates = [], []
    for matrix in largest:
        matrix = trimmed(matrix)
        for _ in range(2):
            shuffled = matrix[rng.permutation(len(matrix))][:, rng.permutation(matrix.shape[1])]
            forms.append((matrix.shape, canonical_form(shuffled).tobytes()))
            certificates.append(nauty_key(shuffled))
    assert len(set(forms)) == len(set(certificates)) == len(largest)
    assert len(set(zip(forms, certificates, strict=True))) == len(largest)


def test_canonical_form_of_symmetric_matrices():
    """A cycle of six rows and columns and two cycles of three look alike to colour refinement."""
    shift = np.roll(np.eye(3, dtype=np.int64), 1, axis=1)
    two = np.kron(np.eye(2, dtype=np.int64), np.eye(3, dtype=np.int64) + shift)
    one = np.eye(6, dtype=np.int64) + np.roll(np.eye(6, dtype=np.int64), 1, axis=1)
    rng = np.random.default_rng(0)
    forms = []
    for matrix in (one, two):
        shuffles = [matrix[rng.permutation(6)][:, rng.permutation(6)] for _ in range(50)]
        forms.append({canonical.compiled_form(shuffled).tobytes() for shuffled in shuffles})
    assert [len(found) for found in forms] == [1, 1]
    assert forms[0] != forms[1]


def nauty_key(matrix: np.ndarray) -> tuple:
    """Rows, columns and a vertex for every entry above 1, coloured; nauty forgets the colours."""
    pynauty = pytest.importorskip("pynauty", reason="it is built by a C compiler")
    rows, columns = matrix.shape
    colours: dict[tuple, set[int]] = {}
    neighbours: dict[int, list[int]] = {}
    for r in range(rows):
        colours.setdefault(("row", int(matrix[r].sum())), set()).add(r)
    colours[("column",)] = set(range(rows, rows + columns))
    size = rows + columns
    for r, a in zip(*matrix.nonzero(), strict=True):
        target = rows + int(a)
        if matrix[r, a] > 1:
            neighbours[size] = [target]
            colours.setdefault(("entry", int(matrix[r, a])), set()).add(size)
            target, size = size, size + 1
        neighbours.setdefault(int(r), []).append(target)
    ordered = sorted(colours)
    graph = pynauty.Graph(
        size, adjacency_dict=neighbours, vertex_coloring=[colours[key] for key in ordered]
    )
    sizes = tuple((key, len(colours[key])) for key in ordered)
    return (rows, columns, sizes, pynauty.certificate(graph))
