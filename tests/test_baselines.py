"""Predictions without a neural network."""

import json

import numpy as np
import pytest

from cicy_utils import baselines, paper, splits
from cicy_utils.metrics import DECODINGS
from cicy_utils.paper_tables import BASELINES


@pytest.fixture(scope="module")
def found(cicy4_sample):
    return baselines.evaluate(cicy4_sample, tree_rows=150)


def test_every_baseline_on_both_test_sets(cicy4_sample, found):
    assert [paper.key(record) for record in found] == [
        (name, split) for name in BASELINES for split in (72, 80)
    ]
    for record in found:
        split = splits.split_80 if paper.key(record)[1] == 80 else splits.split_72
        prints = split(len(cicy4_sample)).fingerprints
        assert record["split"]["fingerprints"] == prints
        assert record["data"]["fingerprint"] == cicy4_sample.fingerprint
        assert set(record["metrics"]) == {"validation", "test"}
        assert list(record["metrics"]["test"]) == list(DECODINGS)
        assert "consistent" not in record["metrics"]["validation"]  # it comes from there
        assert record["residuals"]["configurations"] == 24
        assert record["label"] == "quick run: 300 of 905,684 configurations"
    rows = [record["training"]["configurations"] for record in found]
    assert rows == [216, 216, 216, 216, 150, 150]


def test_learning_beats_the_constant(found):
    errors = {record["model"]: record["metrics"]["test"]["raw"]["mse_mean"] for record in found}
    assert errors["ridge regression"] < errors["constant prediction"]
    assert errors["gradient-boosted trees"] < errors["constant prediction"]


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
    assert [record["kind"] for record in collected] == ["baseline"] * 6
    assert [record["metrics"] for record in collected] == [record["metrics"] for record in found]


def test_trees_need_something_to_learn_from(cicy4_sample):
    with pytest.raises(ValueError, match="at least one configuration to learn from, not 0"):
        baselines.evaluate(cicy4_sample, tree_rows=0)
