"""From a trained model to metrics.json, and the tables read from it."""

import numpy as np
import pytest

from cicy_utils import cross_validation, evaluation, records, tables, topology
from cicy_utils.data import Cicy4
from cicy_utils.metrics import DECODINGS, evaluate, residual_covariance
from cicy_utils.models import build_model, count_weights
from cicy_utils.splits import Split, cv_folds, split_72, split_80
from cicy_utils.training import TrainConfig, fit

CONFIG = TrainConfig(max_epochs=1, batch_size=16, device="cpu")


@pytest.fixture(scope="module")
def run(small_list, tmp_path_factory):
    """A tiny network trained for one epoch: its folder and its record."""
    run_dir = tmp_path_factory.mktemp("11_lstm_448") / "seed-42"
    split = split_72(len(small_list))
    model = build_model("LSTM-448", hidden_size=3, seed=42)
    result = fit(model, small_list, split, CONFIG, run_dir)
    record = evaluation.evaluate_run(
        model, small_list, split, CONFIG, result, run_dir, notebook="11_lstm_448"
    )
    return run_dir, record, count_weights(model)


def test_answers_for_the_same_configurations_are_measured_together(small_list):
    indices = np.array([3, 0, 7])
    right = small_list.hodge[indices].astype(float)
    wrong = right + np.array([0, 0, 0, 8])  # which an exact relation mends
    measured = evaluation.measure(
        small_list, indices, {"right": (right, np.eye(4)), "wrong": (wrong, None)}
    )
    assert list(measured["right"]) == list(DECODINGS)
    assert {row["accuracy_all"] for row in measured["right"].values()} == {100.0}
    assert list(measured["wrong"]) == ["raw", "relation", "relation+chi"]
    shares = [row["accuracy_all"] for row in measured["wrong"].values()]
    assert shares == [0.0, 100.0, 100.0]


def test_the_record_is_the_file(run):
    run_dir, record, weights = run
    assert record == records.read_metrics(run_dir)
    assert (record["notebook"], record["model"], record["variant"]) == (
        "11_lstm_448",
        "LSTM-448",
        "seed-42",
    )
    assert record["label"].startswith("quick run: 50 of 905,684 configurations, at most 1 epoch")
    assert record["weights"] == weights
    assert record["split"]["sizes"] == {"train": 36, "validation": 4, "test": 10}
    assert record["data"] == {
        "source": "test",
        "layout": "stored",
        "subset": 50,
        "fingerprint": "f" * 64,
        "configurations": 50,
    }


def test_every_part_has_its_decodings(run):
    decodings = {part: list(metrics) for part, metrics in run[1]["metrics"].items()}
    assert decodings == {
        "test": list(DECODINGS),
        "validation": ["raw", "relation"],
        "train": ["raw"],
        "test_permuted": list(DECODINGS),
        "constant": list(DECODINGS),
    }


def test_the_last_decoding_can_be_done_again_from_the_files(run, small_list):
    run_dir, record, _ = run
    validation, test = (records.load_predictions(run_dir, part) for part in ("validation", "test"))
    assert (record["residuals"]["part"], record["residuals"]["configurations"]) == ("validation", 4)
    kept = records.residual_covariance(record)
    np.testing.assert_array_equal(
        kept, residual_covariance(validation.predictions, validation.labels)
    )
    euler = topology.euler_numbers_batch(small_list.matrices[test.indices])
    table = evaluate(test.predictions, test.labels, euler, kept)
    assert table.loc["consistent"].to_dict() == pytest.approx(
        record["metrics"]["test"]["consistent"]
    )


def test_the_decoding_never_sees_test_labels(run, small_list, tmp_path):
    """Other labels in the test set leave the covariance as it is."""
    split = split_72(len(small_list))
    hodge = small_list.hodge.copy()
    hodge[split.test] += 7
    changed = Cicy4(small_list.matrices, hodge, "test", "stored", "f" * 64)
    model = build_model("LSTM-448", hidden_size=3, seed=42)
    result = fit(model, changed, split, CONFIG, tmp_path)
    names = {"notebook": "11_lstm_448"}
    record = evaluation.evaluate_run(model, changed, split, CONFIG, result, tmp_path, **names)
    assert record["residuals"] == run[1]["residuals"]


def test_a_fold_measures_its_residuals_on_what_it_has_not_seen(small_list, tmp_path):
    for number, part in ((1, "out_of_fold"), (4, "validation")):
        fold = f"fold-{number}"
        config = {"notebook": "13_cross_validation"}
        record = cross_validation.train_fold(
            "LSTM-448", number, small_list, CONFIG, tmp_path / fold, hidden_size=3, **config
        )
        assert record["residuals"]["part"] == part
        assert "consistent" in record["metrics"]["test"]


def test_tables_show_the_gain_of_each_decoding(run):
    table = tables.decodings(run[1]).data
    assert len(table) == 2 * len(DECODINGS)
    test = run[1]["metrics"]["test"]
    gain = test["consistent"]["accuracy_all"] - test["raw"]["accuracy_all"]
    assert table.loc["consistent", "gain"] == pytest.approx(gain)
    assert table.loc["raw", "gain"] == 0


def test_saved_predictions_give_the_metrics(run, small_list):
    run_dir, record, _ = run
    split = split_72(len(small_list))
    for part in ("validation", "test"):
        saved = records.load_predictions(run_dir, part)
        np.testing.assert_array_equal(saved.indices, split.parts[part])
        np.testing.assert_array_equal(saved.labels, small_list.hodge[split.parts[part]])
        raw = evaluate(saved.predictions, saved.labels).loc["raw"].to_dict()
        assert raw == pytest.approx(record["metrics"][part]["raw"])


def test_an_evaluation_that_is_killed_leaves_no_record_of_the_one_before(
    small_list, tmp_path, monkeypatch
):
    """Old numbers would stand beside new predictions."""
    split, config = split_72(50), TrainConfig(max_epochs=1, device="cpu")
    work = (build_model("LSTM-448", hidden_size=4), small_list, split, config)
    result = fit(*work, tmp_path)
    evaluation.evaluate_run(*work, result, tmp_path, notebook="11_lstm_448")
    save = records.save_predictions

    def killed(run_dir, part, *arrays):
        if part == "test":
            raise SystemExit
        save(run_dir, part, *arrays)

    monkeypatch.setattr(records, "save_predictions", killed)
    with pytest.raises(SystemExit):
        evaluation.evaluate_run(*work, result, tmp_path, notebook="11_lstm_448")
    assert records.found_metrics(tmp_path) == {}


def test_a_perfect_network_is_perfect_in_every_decoding(small_list, tmp_path, monkeypatch):
    exact = {
        matrix.tobytes(): row
        for matrix, row in zip(small_list.matrices, small_list.hodge, strict=True)
    }

    def oracle(model, matrices, *, device):
        return np.array([exact.get(matrix.tobytes(), [0, 0, 0, 0]) for matrix in matrices], "f4")

    monkeypatch.setattr(evaluation, "predict", oracle)
    split = split_72(len(small_list))
    model = build_model("LSTM-448", hidden_size=3, seed=42)
    result = fit(model, small_list, split, CONFIG, tmp_path)
    record = evaluation.evaluate_run(
        model, small_list, split, CONFIG, result, tmp_path, notebook="11_lstm_448"
    )
    assert {m["accuracy_all"] for m in record["metrics"]["test"].values()} == {100.0}
    assert record["metrics"]["constant"]["raw"]["accuracy_all"] < 100
    # It knows matrices by heart, in one order only.
    assert record["metrics"]["test_permuted"]["raw"]["accuracy_all"] < 100


TABLES = {
    "headline": tables.headline,
    "beside_paper": tables.beside_paper,
    "parts": tables.parts,
    "decodings": tables.decodings,
    "permuted": tables.permuted,
    "run_facts": tables.run_facts,
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_carry_the_label_and_symbols(run, name):
    page = TABLES[name](run[1]).to_html()
    assert run[1]["label"] in page.replace("<br>", " ")
    assert "h11" not in page
    if name != "run_facts":
        assert "<i>h</i><sup>2,2</sup>" in page
        assert "constant" in page  # so that a weak run cannot look like a result


def test_misses_count_the_test_set(run):
    table = tables.misses(records.load_predictions(run[0], "test"), "quick").data
    assert table.sum().tolist() == [10, 10, 10, 10]
    assert table.index[-1] == "more than 50"  # an untrained network is far from 426


def test_architecture_adds_up():
    model = build_model("CNN-LSTM-400")
    page = tables.architecture(model, "quick").to_html()
    assert "128 × 13 × 17" in page
    assert "2,842,308" in page  # the published number


def test_exact_table_shows_the_sextic():
    table = tables.exact({"sextic": [[6]]}).data
    assert table.loc["sextic"].tolist() == [1, 0, 426, 1752, 2610]


def test_splits_table_finds_shared_configurations():
    n = 905_684
    table = tables.splits([split_72(n), split_80(n), *cv_folds(1_000)]).data
    for split in ("72", "80"):
        sizes = table.loc[[split, f"{split}, published"], ["train", "validation", "test"]]
        assert sizes.iloc[0].tolist() == sizes.iloc[1].tolist()
    assert table["in two parts"].dropna().tolist() == [0] * 7
    leaking = Split("leaking", 42, np.arange(6), np.arange(5, 8), np.arange(7, 10))
    assert tables.splits([leaking]).data["in two parts"].tolist() == [2]


def test_the_record_of_the_list(small_list, tmp_path):
    record = evaluation.record_list(small_list, [split_72(50)], tmp_path / "list")
    assert record["statistics"]["maximum"]["euler"] == 2610
    assert set(record["faults"].values()) == {0}
    assert record["splits"]["72"]["sizes"]["test"] == 10
    for table in (tables.list_statistics, tables.list_sizes, tables.list_faults):
        assert "quick run: 50 of 905,684 configurations" in table(record).to_html()
    assert tables.list_sizes(record).data.loc["1"].tolist() == [20, 30]


def test_wrong_labels_are_counted(small_list, tmp_path):
    hodge = small_list.hodge.copy()
    hodge[3, 0] += 1
    wrong = Cicy4(small_list.matrices, hodge, "test", "stored", "")
    faults = evaluation.record_list(wrong, [], tmp_path)["faults"]
    assert list(faults.values()) == [1, 1, 1]
