"""Retraining, and the rule that no weights are judged by what they were trained on."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch

from cicy_utils import (
    evaluation,
    metrics,
    paper,
    recipes,
    records,
    retraining,
    seeds,
    tables,
    training,
)
from cicy_utils.config import RETRAINING, TrainConfig
from cicy_utils.data import HODGE_NAMES, Cicy4, load_cicy4
from cicy_utils.models import build_model
from cicy_utils.prediction import load_model
from cicy_utils.splits import cv_folds, split_72, split_80
from cicy_utils.training import fit

CONFIG = TrainConfig(max_epochs=1, batch_size=16, learning_rate=0.001, device="cpu")
RETRAIN = dataclasses.replace(CONFIG, min_learning_rate=1e-7)


@pytest.fixture(scope="module")
def data() -> Cicy4:
    return load_cicy4(subset=100)


def train(data, split, run_dir, name="LSTM-448", config=CONFIG):
    model = build_model("LSTM-448", hidden_size=4, seed=1)
    result = fit(model, data, split, config, run_dir)
    names = {"notebook": run_dir.parent.name, "name": name}
    parts = {**split.parts, "validation": split_72(len(data)).validation}
    evaluation.evaluate_run(model, data, split, config, result, run_dir, **names, parts=parts)
    return run_dir


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    train(data, split_72(len(data)), folder / "11_lstm_448" / "seed-42")
    fold = cv_folds(len(data))[1]
    train(data, fold, folder / "13_cross_validation" / "fold-1", "LSTM-448-f1")
    return folder


def run(results, data, run_dir, model="LSTM-448", *, retrain=True, config=RETRAIN):
    split = split_80(len(data))
    checkpoint = retraining.load_checkpoint(
        retraining.find_checkpoint(results, model, data), data, split
    )
    return retraining.run(
        checkpoint, data, split, config, run_dir, retrain=retrain, notebook="14_retraining"
    )


def test_training_keeps_what_it_was_trained_on(results, data):
    mask = records.load_trained_on(results / "11_lstm_448" / "seed-42")
    assert mask.fingerprint == data.fingerprint
    np.testing.assert_array_equal(np.flatnonzero(mask.indices), np.sort(split_72(100).train))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.float16.safetensors"])
def test_weights_without_their_state_are_not_trained_over(results, data, tmp_path, name):
    folder = tmp_path / "seed-42"
    shutil.copytree(results / "11_lstm_448" / "seed-42", folder)
    (folder / "checkpoint.pt").unlink()
    (folder / "weights.safetensors").rename(folder / name)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="holds weights without the state of their training"):
        fit(build_model("LSTM-448", hidden_size=4), data, split_72(100), CONFIG, folder)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_a_retrained_model_has_seen_both_training_sets(results, data, tmp_path):
    record = run(results, data, tmp_path / "d80")
    split = split_80(len(data))
    mask = records.load_trained_on(tmp_path / "d80")
    both = np.union1d(split_72(100).train, split.train)
    np.testing.assert_array_equal(np.flatnonzero(mask.indices), both)
    assert (record["model"], record["architecture"]) == ("LSTM-448-d80", "LSTM-448")
    assert (record["split"]["name"], record["training"]["retrained"]) == ("80", True)
    assert record["checkpoint"] == "11_lstm_448/seed-42"
    assert record["seen"] == {"train": len(split.train), "validation": 0, "test": 0}
    assert record["label"].startswith("quick run: 100 of 905,684 configurations")
    assert "started from 11_lstm_448/seed-42 (quick run)" in record["label"]
    assert "min learning rate" not in record["label"]  # 1e-7 is what the paper did
    assert record == records.read_metrics(tmp_path / "d80")
    before = records.read_metrics(results / "11_lstm_448" / "seed-42")
    assert record["residuals"] != before["residuals"]  # its own, the other's for test_before
    assert "consistent" in record["metrics"]["test_before"]
    page = tables.headline(record).to_html()
    for word in ("published", "before retraining", "constant", record["label"]):
        assert word in page.replace("<br>", " ")


def test_our_own_network_is_retrained_by_the_fast_recipe(tmp_path):
    arranged = load_cicy4(subset=100, layout="zeros-first")
    short = dict(max_epochs=1, batch_size=32, device="cpu")
    config = recipes.config("fast", "Graph-64", **short)
    first, split = tmp_path / "18_graph_64" / "fast-42", split_80(100)
    options = dict(notebook="18_graph_64", recipe="fast", num_layers=1)
    seeds.train("Graph-64", arranged, split_72(100), config, [42], first, **options)

    assert retraining.result_name("Graph-64", True, "fast") == "Graph-64-d80-fast"
    assert retraining.result_name("Graph-64", False, "fast") == "Graph-64-fast"
    folder = retraining.find_checkpoint(tmp_path, "Graph-64-fast", arranged)
    checkpoint = retraining.load_checkpoint(folder, arranged, split, model="Graph-64-fast")
    config = recipes.config("fast", "Graph-64", **short, **RETRAINING)
    options = dict(retrain=True, notebook="14_retraining", recipe="fast")
    run_dir = tmp_path / "14_retraining" / "Graph-64-d80-fast"
    record = retraining.run(checkpoint, arranged, split, config, run_dir, **options)
    assert (record["model"], record["architecture"]) == ("Graph-64-d80-fast", "Graph-64")
    assert record["checkpoint"] == "18_graph_64/fast-42"
    start = "started from 18_graph_64/fast-42 (quick run)"
    assert f"the fast recipe, {start}" in record["label"]
    for same in ("layout", "learning rate", "huber delta"):
        assert same not in record["label"]
    published = paper.published().loc[("LSTM-448-d80", 80)]
    for name in (record["model"], "Graph-64-fast"):  # retrained, or judged only
        theirs = paper.headline(name, record["metrics"], split=80).loc["published"]
        assert theirs["accuracy_h22"] == published["accuracy_h22"]  # the best of the paper's there


def test_retraining_starts_from_the_weights_of_the_checkpoint(results, data, tmp_path):
    still = dataclasses.replace(RETRAIN, learning_rate=1e-30)
    record = run(results, data, tmp_path / "d80", config=still)
    before, _ = load_model(results / "11_lstm_448" / "seed-42")
    after, _ = load_model(tmp_path / "d80")
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weight)
    before, after = (record["metrics"][part]["raw"] for part in ("test_before", "test"))
    assert before == pytest.approx(after)


def test_a_second_call_goes_on_from_the_same_checkpoint_only(results, data, tmp_path):
    first = run(results, data, tmp_path / "d80")
    assert run(results, data, tmp_path / "d80") == first
    other = train(data, split_72(100), tmp_path / "11_lstm_448" / "seed-7",
                  config=dataclasses.replace(CONFIG, seed=7))  # fmt: skip
    with pytest.raises(ValueError, match=r"another run, with started_from\.weights"):
        run(other.parents[1], data, tmp_path / "d80")


@pytest.mark.parametrize("model", ["LSTM-448", "LSTM-448-f1"])
def test_a_model_can_be_judged_without_retraining(results, data, tmp_path, model):
    folder = retraining.find_checkpoint(results, model, data)
    record = run(results, data, tmp_path / model, model, retrain=False)
    before = records.read_metrics(folder)
    assert record["model"] == model
    assert record["training"] == before["training"] | {"retrained": False}
    assert (record["label"], record["split"]["name"]) == (before["label"], "80")
    new = records.load_predictions(tmp_path / model, "test")
    old = records.load_predictions(folder, "test")
    assert set(new.indices) < set(old.indices)
    rows = [old.indices.tolist().index(index) for index in new.indices]
    np.testing.assert_allclose(new.predictions, old.predictions[rows], rtol=1e-4, atol=1e-4)
    # Fold 1 was trained on the validation set: there are no metrics that could mislead.
    assert ("validation" in record["metrics"]) == (model == "LSTM-448")
    assert record["seen"]["validation"] == (0 if model == "LSTM-448" else 8)


def test_weights_not_retrained_keep_the_residuals_of_their_fold(results, data, tmp_path):
    folder = retraining.find_checkpoint(results, "LSTM-448-f1", data)
    before = records.read_metrics(folder)
    residuals = before["residuals"] = {"part": "out_of_fold", "covariance": np.eye(4).tolist()}
    split = split_80(len(data))
    known = retraining.load_checkpoint(folder, data, split)
    names = {"retrain": False, "notebook": "14_retraining"}
    for record, section in ((before, residuals), (before | {"residuals": None}, None)):
        found = retraining.run(dataclasses.replace(known, record=record), data, split, RETRAIN,
                               tmp_path / str(section is None), **names)  # fmt: skip
        assert found["residuals"] == section
        assert ("consistent" in found["metrics"]["test"]) == (section is not None)
        assert "consistent" in found["metrics"]["constant"]


def test_a_fold_that_has_seen_the_validation_set_is_not_retrained(results, data, tmp_path):
    with pytest.raises(ValueError, match="trained on 8 of the 8 configurations of this validation"):
        run(results, data, tmp_path, "LSTM-448-f1")
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_checkpoint_that_knows_the_test_set_is_refused(results, data, tmp_path):
    folder = train(data, split_72(100), tmp_path / "11_lstm_448" / "seed-42")
    split = split_80(len(data))
    mask = records.load_trained_on(folder).indices
    mask[split.test[0]] = True  # one configuration is enough
    records.save_trained_on(folder, mask, len(data), data.fingerprint)
    refusal = "was trained on 1 of the 12 configurations of this test set"
    with pytest.raises(ValueError, match=refusal):
        retraining.load_checkpoint(folder, data, split)
    # nor does training itself take it, or evaluation
    seen = records.load_trained_on(folder)
    with pytest.raises(ValueError, match=refusal):
        fit(build_model("LSTM-448", hidden_size=4), data, split, CONFIG, tmp_path / "x",
            trained_before=seen)  # fmt: skip
    model, _ = load_model(folder)
    result = fit(model, data, split_72(100), CONFIG, folder)
    records.save_trained_on(folder, split_72(100).test[:2], len(data), data.fingerprint)
    with pytest.raises(ValueError, match="LSTM-448 was trained on 2 of the 20"):
        evaluation.evaluate_run(
            model, data, split_72(100), CONFIG, result, folder, notebook="11_lstm_448"
        )


def test_a_checkpoint_of_which_nobody_knows_is_refused(results, data, tmp_path):
    folder = train(data, split_72(100), tmp_path / "11_lstm_448" / "seed-42")
    (folder / "trained_on.npz").unlink()
    with pytest.raises(FileNotFoundError, match="nobody knows what these weights were trained on"):
        retraining.load_checkpoint(folder, data, split_80(len(data)))


def test_a_checkpoint_that_was_never_measured_is_refused(data, tmp_path):
    folder = train(data, split_72(100), tmp_path / "11_lstm_448" / "seed-42")
    (folder / "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no metrics\.json in .*seed-42: run its notebook"):
        retraining.load_checkpoint(folder, data, split_80(len(data)))


def test_a_checkpoint_of_other_data_is_refused(results, data):
    folder = retraining.find_checkpoint(results, "LSTM-448", data)
    other = load_cicy4(subset=100, subset_seed=1)
    with pytest.raises(ValueError, match="trained on another list of 100 configurations"):
        retraining.load_checkpoint(folder, other, split_80(100))
    turned = load_cicy4(subset=100, layout="descending")
    with pytest.raises(ValueError, match="trained on the layout 'stored'"):
        retraining.load_checkpoint(folder, turned, split_80(100))


def test_a_checkpoint_of_another_model_is_refused(results, data):
    folder = retraining.find_checkpoint(results, "LSTM-448-f1", data)
    split = split_80(len(data))
    assert retraining.load_checkpoint(folder, data, split, model="LSTM-448-f1").folder == folder
    with pytest.raises(ValueError, match=r"is of LSTM-448-f1 and not of LSTM-448: .*set MODEL to"):
        retraining.load_checkpoint(folder, data, split, model="LSTM-448")


def test_a_checkpoint_of_the_fast_recipe_asks_for_that_recipe(data, tmp_path):
    """And first of all: its layout, which differs, too, follows from it."""
    arranged, split = load_cicy4(subset=100, layout="zeros-first"), split_72(100)
    folder = tmp_path / "11_lstm_448" / "fast-42"
    options = dict(notebook="11_lstm_448", recipe="fast", hidden_size=4)
    seeds.train("LSTM-448", arranged, split, CONFIG, [42], folder, **options)
    advice = "is of LSTM-448-fast and not of LSTM-448: .* MODEL to 'LSTM-448' and RECIPE to 'fast'"
    with pytest.raises(ValueError, match=advice):
        retraining.load_checkpoint(folder, data, split_80(100), model="LSTM-448")
    for recipe in recipes.RECIPES:
        with pytest.raises(ValueError, match="set MODEL to 'LSTM-448' and RECIPE to 'fast'"):
            recipes.result_name("LSTM-448-fast", recipe)


def test_a_checkpoint_that_is_not_there_is_told_with_those_near_by(results, data):
    for wrong in (results / "11_lstm_448", results / "11_lstm_448" / "seed-4"):
        message = rf"there are no weights in {wrong}; in .*11_lstm_448 there are some of seed-42"
        with pytest.raises(FileNotFoundError, match=message):
            retraining.load_checkpoint(wrong, data, split_80(len(data)))
    advice = r"name the folder of a finished run \(in a notebook as CHECKPOINT\)"
    with pytest.raises(FileNotFoundError, match=advice):
        retraining.load_checkpoint(results / "a" / "b", data, split_80(len(data)))


def test_the_row_of_the_training_set_tells_how_much_of_it_was_trained_on(results, data, tmp_path):
    """Weights of the 72 % split, judged on the 80 % split, have not seen what joins."""
    record = run(results, data, tmp_path / "judged", retrain=False)
    assert tables.parts(record).data.index[0] == "training (72 of 80 trained on)"
    record = run(results, data, tmp_path / "retrained")
    assert tables.parts(record).data.index[0] == "training"


def test_a_training_cut_short_is_no_checkpoint(data, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Training, "out_of_time", lambda run: len(run.history) == 1)
    short = dataclasses.replace(CONFIG, max_epochs=5, max_hours=1.0)
    folder = train(data, split_72(100), tmp_path / "11_lstm_448" / "seed-42", config=short)
    with pytest.raises(ValueError, match="was cut short and can go on"):
        retraining.load_checkpoint(folder, data, split_80(100))


@pytest.mark.parametrize(
    ("accuracies", "losses", "best"),
    [
        # Each may have been trained with a loss of its own, in units of its own.
        ((40.0, 60.0, 50.0), (1e-3, 3.0, 2.0), 2),
        ((50.0, 50.0, 50.0), (3.0, 2.0, 1.0), 3),
    ],
)
def test_the_best_of_several_seeds_is_the_checkpoint(
    results, data, tmp_path, accuracies, losses, best
):
    for seed, accuracy, loss in zip((1, 2, 3), accuracies, losses, strict=True):
        record = records.read_metrics(results / "11_lstm_448" / "seed-42")
        record["training"]["best_validation_loss"] = loss
        for name in HODGE_NAMES:
            record["metrics"]["validation"]["raw"][f"accuracy_{name}"] = accuracy
        records.write_metrics(tmp_path / "11_lstm_448" / f"seed-{seed}", **record)
    found = retraining.find_checkpoint(tmp_path, "LSTM-448", data)
    assert found == tmp_path / "11_lstm_448" / f"seed-{best}"


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("training", {"stop_reason": "time_limit"}),
        ("data", {"fingerprint": "of another subset"}),
        ("data", {"layout": "zeros-first"}),
        (None, None),  # without weights
    ],
)
def test_what_cannot_be_started_from_is_not_found(results, data, tmp_path, section, change):
    """However well it validates; alone, it is named with the reason."""
    good, bad = (tmp_path / "11_lstm_448" / f"seed-{seed}" for seed in (42, 43))
    for folder in (good, bad):
        shutil.copytree(results / "11_lstm_448" / "seed-42", folder)
    record = records.read_metrics(bad)
    if section:
        record[section] |= change
    else:
        (bad / "weights.safetensors").unlink()
    for name in HODGE_NAMES:
        record["metrics"]["validation"]["raw"][f"accuracy_{name}"] = 100.0
    records.write_metrics(bad, **record)
    assert retraining.find_checkpoint(tmp_path, "LSTM-448", data) == good
    shutil.rmtree(good)
    assert retraining.find_checkpoint(tmp_path, "LSTM-448", data) == bad


def test_weights_keep_the_mask_of_what_they_have_seen(results, data, tmp_path):
    """A checkpoint that is only evaluated has seen less than what was trained on from it."""
    run(results, data, tmp_path / "d80")
    mask = records.load_trained_on(tmp_path / "d80")
    with pytest.raises(ValueError, match=r"d80 holds a training, and .* is only to be evaluated"):
        run(results, data, tmp_path / "d80", retrain=False)
    assert (records.load_trained_on(tmp_path / "d80").indices == mask.indices).all()


def test_a_relative_folder_is_looked_up_from_the_top(results, data, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    shutil.copytree(results, tmp_path / "results" / "main")
    monkeypatch.chdir(tmp_path / "notebooks")
    folder = "results/main/11_lstm_448/seed-42"
    found = retraining.load_checkpoint(folder, data, split_80(len(data)))
    assert found.folder == tmp_path / folder
    assert retraining.start(folder, data, split_80(len(data))).folder == found.folder
    assert retraining.start(None, data, split_80(len(data))) is None


def test_a_missing_checkpoint_is_named(results, data, tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run of LSTM-424"):
        retraining.find_checkpoint(results, "LSTM-424", data)
    run(results, data, tmp_path / "14_retraining" / "d80")
    with pytest.raises(FileNotFoundError, match="no finished run of LSTM-448-d80"):
        retraining.find_checkpoint(tmp_path, "LSTM-448-d80", data)  # of the 80 % split itself


def test_masks_come_back(tmp_path):
    records.save_trained_on(tmp_path, [0, 9, 10], 11, "list")
    mask = records.load_trained_on(tmp_path)
    assert mask.fingerprint == "list"
    assert np.flatnonzero(mask.indices).tolist() == [0, 9, 10]
    assert len(mask.indices) == 11
    assert mask.count(np.array([0, 1, 9])) == 2


def test_the_mask_is_there_before_the_first_weights(data, tmp_path, monkeypatch):
    def check(path, state):
        assert records.load_trained_on(path.parent).count(split_72(100).train) == 72
        raise MemoryError

    monkeypatch.setattr(training.checkpoint, "save_state", check)
    model = build_model("LSTM-448", hidden_size=4, seed=1)
    with pytest.raises(MemoryError):
        fit(model, data, split_72(100), CONFIG, tmp_path)


def test_a_training_from_a_checkpoint_knows_what_that_has_seen(data, tmp_path):
    fold = train(data, cv_folds(100)[1], tmp_path / "13" / "fold-1", "LSTM-448-f1")
    split = split_72(100)
    start = retraining.load_checkpoint(fold, data, split)
    options = {"notebook": "11_lstm_448", "hidden_size": 4, "start": start}
    folder = tmp_path / "11_lstm_448" / "seed-1"
    with pytest.raises(ValueError, match="trained on 8 of the 8 configurations of this validation"):
        seeds.train("LSTM-448", data, split, CONFIG, [1], folder, **options)


def test_what_a_checkpoint_knew_is_measured_before_it_is_trained_on(results, data, tmp_path):
    large_steps = dataclasses.replace(RETRAIN, learning_rate=0.05)
    measured = run(results, data, tmp_path / "d80", config=large_steps)["metrics"]
    model, _ = load_model(results / "11_lstm_448" / "seed-42")
    test = split_80(100).test
    outputs = training.predict(model, data.matrices[test], device="cpu")
    expected = metrics.evaluate(outputs, data.hodge[test]).loc["raw"].to_dict()
    assert measured["test_before"]["raw"] == pytest.approx(expected)
    assert measured["test_before"]["raw"] != measured["test"]["raw"]


def test_the_constant_prediction_is_that_of_the_training_set(results, data):
    split = split_72(100)
    of_train, of_test = (
        metrics.constant_prediction(data.hodge[part], len(split.test))
        for part in (split.train, split.test)
    )
    assert (of_train != of_test).any()
    measured = records.read_metrics(results / "11_lstm_448" / "seed-42")["metrics"]["constant"]
    expected = metrics.evaluate(of_train, data.hodge[split.test]).loc["raw"].to_dict()
    assert measured["raw"] == pytest.approx(expected)
