"""Two lists are the same up to permutations, or it is said what differs."""

from __future__ import annotations

import numpy as np
import pytest

from cicy_utils import data
from cicy_utils.comparison import compare
from cicy_utils.data import Cicy4
from cicy_utils.published import write_text
from cicy_utils.steps import permute_matrices


@pytest.fixture
def save(tmp_path):
    """Save a list as a text and give its path."""

    def write(name, matrices, hodge):
        path = tmp_path / f"{name}.txt"
        write_text(path, Cicy4(matrices, hodge, name, "stored", ""))
        return path

    return write


def test_permutations_do_not_matter(save, cicy4_few):
    order = np.random.default_rng(3).permutation(30)
    turned = permute_matrices(cicy4_few.matrices, seed=1)[order]
    assert (turned != cicy4_few.matrices[order]).any()
    first = save("first", cicy4_few.matrices, cicy4_few.hodge)
    found = compare(first, save("second", turned, cicy4_few.hodge[order]))
    assert found.same
    assert found.common == 30
    assert found.text().splitlines()[1:] == [
        f"{first.with_name('second.txt')}: 30 configurations",
        "30 are in both, up to permutations of rows and of columns",
        "their Hodge numbers agree",
        "the lists are the same",
    ]


def test_missing_and_doubled_entries(save, cicy4_few):
    few = cicy4_few
    first = save("first", few.matrices, few.hodge)
    kept = [*range(5), *range(7, 30)]
    smaller = compare(first, save("second", few.matrices[kept], few.hodge[kept]))
    assert not smaller.same
    assert [entries.tolist() for entries in smaller.missing] == [[5, 6], []]
    assert "2 only in " in smaller.text()
    doubled = [*range(30), 4]
    larger = compare(first, save("third", few.matrices[doubled], few.hodge[doubled]))
    assert not larger.same
    assert (larger.common, larger.distinct) == (30, (30, 30))
    assert "1 of them permutations of others" in larger.text()
    assert "their Hodge numbers agree, of each the first" in larger.text()
    assert "their Hodge numbers agree\n" in smaller.text()
    assert larger.text().endswith("the lists are not the same")


def test_other_labels(save, cicy4_few):
    """A label that obeys both relations, so that only the comparison tells."""
    hodge = cicy4_few.hodge.copy()
    hodge[8] += [1, 0, -1, 0]
    first = save("first", cicy4_few.matrices, cicy4_few.hodge)
    found = compare(first, save("second", cicy4_few.matrices[::-1].copy(), hodge[::-1].copy()))
    assert found.same_configurations
    assert not found.same
    assert found.unlike.tolist() == [[8, 21]]
    assert found.labels[0].tolist() == [cicy4_few.hodge[8].tolist(), hodge[8].tolist()]
    assert found.text().endswith("the same configurations with different labels")


def test_positions_are_those_in_the_sources(save, tmp_path, cicy4_few):
    """An entry that was dropped counts."""
    hodge = cicy4_few.hodge.copy()
    hodge[0, 3] += 1
    first = save("first", cicy4_few.matrices, hodge)
    second = save("second", cicy4_few.matrices[1:29], cicy4_few.hodge[1:29])
    with pytest.raises(ValueError, match="1 of 30 entries break a rule"):
        compare(first, second)
    with pytest.warns(UserWarning, match="left out"):
        found = compare(first, second, drop=True)
    assert [entries.tolist() for entries in found.missing] == [[29], []]


def test_command(save, cicy4_few, capsys):
    first = save("first", cicy4_few.matrices, cicy4_few.hodge)
    second = save("second", cicy4_few.matrices[:9], cicy4_few.hodge[:9])
    assert data.main(["compare", str(first), str(first)]) == 0
    assert "the lists are the same" in capsys.readouterr().out
    assert data.main(["compare", str(first), str(second)]) == 1
    assert "the lists are not the same" in capsys.readouterr().out
    assert data.main(["compare", str(first), "nowhere.txt"]) == 1
    assert "FAILED: there is no file nowhere.txt" in capsys.readouterr().err


@pytest.mark.long
def test_complete_list_turned_around(tmp_path, cicy4, capsys):
    order = np.random.default_rng(0).permutation(len(cicy4))
    turned = permute_matrices(cicy4.matrices, seed=2)[order]
    path = tmp_path / "cicy4list.zip"
    write_text(path, Cicy4(turned, cicy4.hodge[order], "turned", "stored", ""))
    assert data.main(["compare", "bundled", str(path)]) == 0
    assert "905,684 are in both" in capsys.readouterr().out
