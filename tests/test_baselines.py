"""Predictions without a neural network."""

import json
from collections import Counter

import numpy as np
import pytest

from cicy_utils import baselines, metrics, paper, splits
from cicy_utils.metrics import DECODINGS
from cicy_utils.paper_tables import BASELINES
from cicy_utils.relations import euler_from_hodge


@pytest.fixture(scope="module")
def found(cicy4_sample):
    return baselines.evaluate(cicy4_sample, tree_rows=150)


def test_every_baseline_on_both_test_sets(cicy4_sample, found):
    assert [paper.key(record) for record in found] == [
        (name, split) for name in (*BASELINES, baselines.LOOK_UP) for split in (72, 80)
    ]
    for record in found:
        split = splits.split_80 if paper.key(record)[1] == 80 else splits.split_72
        prints = split(len(cicy4_sample)).fingerprints
        assert record["split"]["fingerprints"] == prints
        assert record["data"]["fingerprint"] == cicy4_sample.fingerprint
        assert set(record["metrics"]) == {"validation", "test"}
        of_euler = record["model"] == baselines.LOOK_UP
        assert list(record["metrics"]["test"]) == list(DECODINGS[2:] if of_euler else DECODINGS)
        assert "consistent" not in record["metrics"]["validation"]  # it comes from there
        assert record["residuals"]["configurations"] == 24
        assert record["label"] == "quick run: 300 of 905,684 configurations"
    rows = [record["training"]["configurations"] for record in found]
    assert rows == [216, 216, 216, 216, 150, 150, 216, 216]


def test_learning_beats_the_constant(found):
    measured = {record["model"]: record["metrics"]["test"] for record in found}
    errors = {name: measured[name]["raw"]["mse_mean"] for name in BASELINES}
    assert errors["ridge regression"] < errors["constant prediction"]
    assert errors["gradient-boosted trees"] < errors["constant prediction"]
    right = {name: rows["relation+chi"]["accuracy_all"] for name, rows in measured.items()}
    assert right[baselines.LOOK_UP] > right["constant prediction"]


@pytest.mark.parametrize("fit", [baselines.ridge, baselines.trees])
def test_a_rule_is_learned(fit):
    random = np.random.default_rng(0)
    matrices = random.integers(0, 7, (600, 16, 20), dtype=np.uint8)
    hodge = np.stack([matrices[:, 0, 0], 3 * matrices[:, 0, 0], matrices[:, 2, 5] + 1,
                      7 + 0 * matrices[:, 1, 1]], axis=1)  # fmt: skip
    predict = fit(matrices[:500], hodge[:500])
    predictions = predict(matrices[500:])
    assert predictions.shape == (100, 4)
    assert np.abs(predictions - hodge[500:]).mean() < 0.2


def test_the_most_frequent_of_the_same_shape_and_euler_number(cicy4):
    split = splits.split_72(len(cicy4))
    train, test = split.train[::50], split.test[::50]
    predict = baselines.look_up(cicy4.matrices[train], cicy4.hodge[train])
    answers = predict(cicy4.matrices[test])
    rows, columns = (cicy4.matrices.any(axis=axis).sum(axis=1) for axis in (2, 1))
    euler = euler_from_hodge(cicy4.hodge.astype(np.int64))
    seen = Counter((rows[i], columns[i], euler[i], *cicy4.hodge[i]) for i in train)
    for i, answer in zip(test[:200], answers, strict=False):
        alike = {key[3:]: seen[key] for key in seen if key[:3] == (rows[i], columns[i], euler[i])}
        if alike:
            assert alike[tuple(answer)] == max(alike.values())
        else:
            assert (answer == metrics.constant_prediction(cicy4.hodge[train], 1)).all()
    known = euler_from_hodge(answers) == euler[test]
    assert 0.9 < known.mean() < 1  # a few have an Euler number that was not seen
    assert np.array_equal(predict(cicy4.matrices[test[:1]]), answers[:1])


def test_pieces_make_no_difference(monkeypatch, cicy4_sample):
    predict = baselines.ridge(cicy4_sample.matrices, cicy4_sample.hodge)
    whole = predict(cicy4_sample.matrices)
    monkeypatch.setattr(baselines, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(predict(cicy4_sample.matrices), whole, rtol=1e-4)


def test_what_is_written_is_what_tables_read(cicy4_sample, tmp_path, found):
    folder = tmp_path / "00_data" / "list"
    written = baselines.record(cicy4_sample, folder, 42, 150)
    assert [r["metrics"] for r in written] == [r["metrics"] for r in found]
    assert json.loads((folder / "baselines.json").read_text())[0]["model"] == BASELINES[0]
    collected = paper.collect(tmp_path)
    raw = found[:6]  # the look-up knows the Euler number, and stands in no table of raw answers
    assert [record["kind"] for record in collected] == ["baseline"] * 6
    assert [record["metrics"] for record in collected] == [record["metrics"] for record in raw]


def test_trees_need_something_to_learn_from(cicy4_sample):
    with pytest.raises(ValueError, match="at least one configuration to learn from, not 0"):
        baselines.evaluate(cicy4_sample, tree_rows=0)


def test_baselines_learn_from_the_training_set_only(cicy4_sample, monkeypatch):
    split = splits.split_72(len(cicy4_sample))
    known = {matrix.tobytes() for matrix in cicy4_sample.matrices[split.train]}
    learned = {}

    def spying(name, fit):
        def spy(matrices, hodge):
            learned[name] = {matrix.tobytes() for matrix in matrices} <= known
            return fit(matrices, hodge)

        return spy

    for name, fit in baselines.FITS.items():
        monkeypatch.setitem(baselines.FITS, name, spying(name, fit))
    baselines.evaluate(cicy4_sample, tree_rows=150)
    assert set(learned) == set(baselines.FITS) and all(learned.values())
