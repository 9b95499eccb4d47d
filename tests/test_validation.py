"""Every rule is noticed when it is broken, and nothing else is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cicy_utils import chunks, validation
from cicy_utils.archives import Refused
from cicy_utils.validation import CHI, RELATION, Entries, rule_of, validate


def entries(matrices, hodge, product=None, euler=None, lines=None) -> Entries:
    count = len(matrices)
    padded = np.zeros((count, 16, 20), np.uint8)
    for place, matrix in zip(padded, matrices, strict=True):
        matrix = np.asarray(matrix)
        place[: matrix.shape[0], : matrix.shape[1]] = matrix
    marks = np.zeros(count, bool) if product is None else np.array(product)
    return Entries(
        padded,
        np.array(hodge, np.int16).reshape(count, 4),
        marks,
        np.zeros((count, 4), np.int64),
        None if euler is None else np.array(euler, np.int64),
        None if lines is None else np.array(lines, np.int64),
    )


SEXTIC, LABELS = [[6]], (1, 0, 426, 1752)


def test_genuine_entries_are_sound(cicy4_few):
    found = validate(
        entries(cicy4_few.matrices, cicy4_few.hodge, lines=range(1, len(cicy4_few) + 1)), "few"
    )
    assert not len(found.faults)
    assert found.notes == ()
    assert found.kept.tolist() == list(range(len(cicy4_few)))
    assert found.text() == "few: 30 entries, 0 products, 30 sound, 0 broken (entries count from 0)"
    found.require_sound()


def test_padding_may_come_first_and_rows_in_any_order(cicy4_few):
    turned = cicy4_few.matrices[:, ::-1, ::-1]
    assert not len(validate(entries(turned, cicy4_few.hodge), "turned").faults)


@pytest.mark.parametrize(
    ("matrix", "hodge", "product", "what"),
    [
        ([[7]], LABELS, False, "of dimension (sum of all n) - (columns) = 5"),
        ([[5]], (1, 101, 0, 0), False, "the manifold has dimension 3, not 4"),
        ([[1, 1], [0, 1]], LABELS, False, "row 1 sums to 1"),
        ([[3, 0], [0, 5]], LABELS, False, "block-diagonal"),
        ([[0]], LABELS, False, "no nonzero entry"),
        ([[6], [0], [2]], LABELS, False, "row 1 is empty"),
        ([[2, 0, 2], [2, 0, 2]], LABELS, False, "column 1 is empty"),
        ([[1, 1, 1, 1], [0, 0, 0, 5]], LABELS, False, "empty or several copies"),
        ([[2, 2, 0], [1, 1, 3]], LABELS, False, "the matrix 576"),
        (SEXTIC, LABELS, True, "marked as a product, but its matrix is connected"),
        ([[3, 0], [0, 4]], LABELS, True, "has dimension 3, not 4"),
        (SEXTIC, (1, 0, 426, 1753), False, "h22 should be 1752"),
        (SEXTIC, (1, 0, 425, 1748), False, "the Hodge numbers give chi 2604, the matrix 2610"),
        (SEXTIC, (1, -1, 426, 1752), False, "h21 is no integer"),
    ],
)
def test_each_rule(matrix, hodge, product, what):
    found = validate(entries([SEXTIC, matrix], [LABELS, hodge], [False, product]), "list")
    assert found.kept.tolist() == [0]
    assert found.broken.tolist() == [1]
    assert any(what in found.sentence(row) for _, row in found.faults.iterrows())
    with pytest.raises(Refused, match="1 of 2 entries break a rule, the first is entry 1"):
        found.require_sound()


def test_one_changed_number_is_noticed(cicy4_few):
    """Whatever label or degree is changed, the entry it belongs to is named, and no other."""
    rng = np.random.default_rng(1)
    for entry in range(0, len(cicy4_few), 3):
        hodge = cicy4_few.hodge.copy()
        hodge[entry, rng.integers(4)] += rng.choice([-2, -1, 1, 2])
        assert validate(entries(cicy4_few.matrices, hodge), "x").broken.tolist() == [entry]
        matrices = cicy4_few.matrices.copy()
        row, column = np.argwhere(matrices[entry])[0]
        matrices[entry, row, column] += 1
        assert validate(entries(matrices, cicy4_few.hodge), "x").broken.tolist() == [entry]


def test_products_are_counted_not_kept():
    k3_squared = [[4, 0], [0, 4]]
    found = validate(entries([k3_squared, SEXTIC], [(0, 0, 0, 0), LABELS], [True, False]), "x")
    assert (found.products, found.kept.tolist(), len(found.faults)) == (1, [1], 0)


def test_several_rules_of_one_entry():
    found = validate(entries([SEXTIC], [(2, 0, 426, 1752)]), "x")
    assert found.faults["code"].tolist() == [RELATION, CHI]
    assert found.broken.tolist() == [0]


def test_field_4_counts_if_it_mostly_is_the_euler_number():
    matrices, hodge = [SEXTIC] * 4, [LABELS] * 4
    mostly = validate(entries(matrices, hodge, euler=[2610, 2610, 1, 2610]), "x")
    assert mostly.broken.tolist() == [2]
    assert "field 4 says 1, the matrix 2610" in mostly.text()
    other = validate(entries(matrices, hodge, euler=[1, 2, 3, 2610]), "x")
    assert not len(other.faults)
    assert "field 4 is not the Euler number here" in other.text()
    absent = validate(entries(matrices, hodge, euler=[validation.NO_EULER] * 4), "x")
    assert (len(absent.faults), absent.notes) == (0, ())


def test_other_labels_with_the_same_euler_number_are_a_note():
    """Both relations hold, and only cohomology tells."""
    found = validate(entries([SEXTIC] * 2, [LABELS, (2, 0, 425, 1752)]), "x")
    assert not len(found.faults)
    assert "1 entries have other Hodge numbers" in found.notes[0]
    assert found.notes[0].endswith("entry 1")


def test_text_shows_the_first_of_many():
    found = validate(entries([SEXTIC] * 9, [(1, 0, 426, 1753)] * 9, lines=range(5, 14)), "x")
    text = found.text()
    assert f"9 break the rule: {rule_of(RELATION)}" in text
    assert "entry 2 (line 7): h22 should be 1752" in text
    assert "entry 3" not in text
    assert "and 6 more" in text


def test_report_as_a_table(tmp_path):
    found = validate(entries([SEXTIC, [[7]]], [(1, 0, 425, 1752), LABELS], lines=[1, 4]), "x")
    found.write_csv(tmp_path / "report.csv")
    table = pd.read_csv(tmp_path / "report.csv")
    assert table.columns.tolist() == ["entry", "line", "rule", "fault"]
    assert table["entry"].tolist() == [0, 0, 1]
    assert table["line"].tolist() == [1, 1, 4]
    assert table["fault"][0] == "h22 should be 1748"


def test_nothing_to_validate():
    found = validate(entries([], []), "x")
    assert (found.entries, len(found.kept), len(found.faults)) == (0, 0, 0)


def test_many_entries_in_threads(monkeypatch):
    """More than one piece: entries keep their numbers."""
    monkeypatch.setattr(chunks, "LENGTH", 1000)
    count = 5000
    hodge = np.tile(LABELS, (count, 1))
    hodge[[17, 4321], 3] += 1
    found = validate(entries([SEXTIC] * count, hodge), "x")
    assert found.broken.tolist() == [17, 4321]
