"""The rebuilt list: published counts, rules."""

from __future__ import annotations

import numpy as np
import pytest

from cicy_utils import chunks, enumeration
from cicy_utils.canonical import canonical_form
from cicy_utils.data import CHECKSUMS, checksum
from cicy_utils.enumeration import breaks_rules, enumerate_configurations, in_order
from cicy_utils.topology import euler_number, hodge_numbers, hodge_numbers_batch, trimmed

ROWS_OF_THREEFOLDS = [5, 41, 186, 545, 1184, 1803, 1917, 1363, 629, 166, 26, 3]


@pytest.fixture(scope="module")
def threefolds() -> np.ndarray:
    return enumerate_configurations(3)


def test_threefolds_have_the_published_counts(threefolds):
    """7,890 configurations less 22 products (Candelas et al. 1988), with 265 pairs."""
    assert threefolds.shape == (7868, 12, 15)
    assert threefolds.dtype == np.uint8
    rows = threefolds.any(axis=2).sum(axis=1)
    assert np.bincount(rows)[1:].tolist() == ROWS_OF_THREEFOLDS
    assert len(np.unique(hodge_numbers_batch(threefolds), axis=0)) == 265


def test_threefolds_hold_the_published_list(threefolds, published_threefolds):
    """Every published matrix is a permutation of one of ours, or is a product."""
    ours = {trimmed(matrix).tobytes() for matrix in threefolds}
    found = products = 0
    for matrix, _, _ in published_threefolds:
        try:
            found += canonical_form(matrix).tobytes() in ours
        except ValueError:
            products += 1
    assert (found, products) == (3934, 11)


@pytest.mark.parametrize(("dimension", "counts"), [(3, [5, 24, 20, 5]), (4, [7, 82, 178, 99, 15])])
def test_number_of_irreducible_matrices(dimension, counts):
    assert [len(level) for level in enumeration._irreducible(dimension).values()] == counts


def test_result_does_not_depend_on_workers(threefolds, monkeypatch):
    monkeypatch.setattr(chunks, "LENGTH", 100)  # so that there are several chunks
    for workers in (1, 3):
        with chunks.threads_unless(None, workers) as executor:
            assert (enumerate_configurations(3, executor=executor) == threefolds).all()


@pytest.mark.long
def test_fourfolds_are_the_bundled_list():
    matrices = enumerate_configurations(4)
    assert matrices.shape == (905684, 16, 20)
    assert checksum(matrices) == CHECKSUMS["matrix"]


def test_progress_names_every_level():
    lines = []
    enumerate_configurations(3, progress=lines.append)
    assert len(lines) == len(ROWS_OF_THREEFOLDS)
    assert all(
        f"{count:,} matrices" in line for count, line in zip(ROWS_OF_THREEFOLDS, lines, strict=True)
    )


@pytest.mark.parametrize("dimension", [2, 5, "4"])
def test_other_dimensions_are_refused(dimension):
    with pytest.raises(ValueError, match="dimension must be 3 or 4"):
        enumerate_configurations(dimension)


def test_vector_partitions_are_complete():
    """Against multiset partitions counted otherwise: Bell numbers, and partitions of an integer."""
    for total, count in (([1, 1, 1], 5), ([1, 1, 1, 1], 15), ([6], 11), ([2, 2], 9)):
        ways, sizes = enumeration._vector_partitions(np.array(total), 0, 1)
        assert len(ways) == count - 1  # less the one with a single summand
        assert (ways.sum(axis=1) == total).all()
        assert ((ways.any(axis=2)).sum(axis=1) == sizes).all()
        assert len(np.unique(ways.reshape(count - 1, -1), axis=0)) == count - 1
    ways, sizes = enumeration._vector_partitions(np.array([6]), 3, 1)
    assert sorted(way.ravel().tolist() for way in ways) == [[2, 2, 2], [3, 2, 1], [4, 1, 1]]
    assert (sizes == 3).all()
    ways, _ = enumeration._vector_partitions(np.array([6]), 3, 2)
    assert ways.ravel().tolist() == [2, 2, 2]


def test_rows_ascend_in_n(cicy4):
    sums = cicy4.matrices.sum(axis=2, dtype=np.int64)
    sums[sums == 0] = 99
    assert (np.diff(sums, axis=1) >= 0).all()


def test_order_of_the_list(cicy4_sample):
    matrices = cicy4_sample.matrices
    assert in_order(matrices).all()
    assert in_order(matrices[::-1]).tolist() == [True] + [False] * (len(matrices) - 1)
    assert in_order(np.repeat(matrices[:1], 2, axis=0)).tolist() == [True, False]
    assert in_order(matrices[:0]).tolist() == []


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        ([[1, 6]], "a hyperplane"),
        ([[2, 1], [0, 5]], "a quadric on P^2 alone"),
        ([[1, 1], [1, 1], [0, 5]], "(1, 1) on P^1 x P^1"),
        ([[2, 0], [1, 2], [0, 4]], "(2, 1) on P^1 x P^2"),
        ([[1, 1, 1], [1, 2, 0], [0, 0, 4]], "(1, 1) and (1, 2) on P^2 x P^2"),
        ([[1, 1], [2, 0], [0, 5]], "an ineffective split of [[2], [5]]"),
    ],
)
def test_broken_rules_are_seen(matrix, why):
    assert breaks_rules(canonical_form(matrix)[None]).tolist() == [True], why


def test_other_order_of_rows_or_columns_is_seen():
    matrix = canonical_form([[1, 1], [1, 5]])
    assert breaks_rules(np.array([matrix, matrix[::-1], matrix[:, ::-1]])).tolist() == [
        False,
        True,
        True,
    ]


def test_list_obeys_the_rules(cicy4_sample):
    assert not breaks_rules(cicy4_sample.matrices).any()


def test_ineffective_split_has_the_same_topology():
    split, contracted = [[1, 1], [2, 0], [0, 5]], [[2], [5]]
    assert enumeration._ineffective(np.array(split), 0)
    assert not enumeration._ineffective(np.array([[1, 1], [1, 5]]), 0)  # contracts to a sextic
    assert hodge_numbers(split) == hodge_numbers(contracted)
    assert euler_number(split) == euler_number(contracted)


def test_command_writes_the_list(tmp_path, threefolds, capsys):
    target = tmp_path / "cicy3.npz"
    enumeration.main(["--dimension", "3", "--output", str(target), "--workers", "2"])
    with np.load(target) as archive:
        assert (archive["matrix"] == threefolds).all()
        assert (archive["hodge"] == hodge_numbers_batch(threefolds)).all()
    assert checksum(threefolds) in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["cicy3.npz"]


def test_command_refuses_a_missing_folder(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        enumeration.main(["--dimension", "3", "--output", str(tmp_path / "no" / "list.npz")])
    with pytest.raises(SystemExit, match="2"):
        enumeration.main(["--dimension", "3", "--output", str(tmp_path)])
    assert "there is no folder" in capsys.readouterr().err
