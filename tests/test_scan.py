"""The scan: it finds, prunes, goes on where it was cut short, and never sees the test set."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from cicy_utils import checkpoint, models, records, scan, training
from cicy_utils.batch import folders, runner, tasks
from cicy_utils.splits import split_72
from cicy_utils.training import TrainConfig

CONFIG = TrainConfig(max_epochs=2, batch_size=64, device="cpu", seed=5)
SPACE = scan.Space("LSTM-448", 4, 12, 4, learning_rates=(0.001,))


@pytest.fixture(scope="module")
def data(cicy4_sample):
    return cicy4_sample


@pytest.fixture(scope="module")
def split(data):
    return split_72(len(data))


def losses_are(monkeypatch, losses):
    """Replace training: the losses of an epoch are ``losses(hidden size, epoch)``."""

    def fit(model, data, split, config, run_dir, *, on_epoch):
        run_dir.mkdir(parents=True)
        rows = []
        for epoch in range(1, config.max_epochs + 1):
            loss = losses(model.spec.hidden_size, epoch)
            training.require_finite(loss, "training", epoch)
            row = {"epoch": epoch, "train_loss": loss, "validation_loss": loss}
            rows.append(row | {"learning_rate": config.learning_rate, "seconds": 1.0})
            pd.DataFrame(rows).to_csv(run_dir / "history.csv", index=False)
            on_epoch(rows[-1])
        best = min(rows, key=lambda row: row["validation_loss"])
        return training.FitResult(
            pd.DataFrame(rows), best["epoch"], best["validation_loss"], len(rows), 1.0,
            "max_epochs", "cpu",
        )  # fmt: skip

    monkeypatch.setattr(scan.training, "fit", fit)


def test_trials_are_trainings_with_other_sizes(data, split, tmp_path):
    result = scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=2)
    assert result.stop_reason == "done"
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "trials.csv"), result.trials)
    assert list(result.trials["trial"]) == [0, 1]
    for row in result.trials.itertuples():
        folder = tmp_path / "trials" / f"{row.trial:03d}"
        history = pd.read_csv(folder / "history.csv")
        assert row.state == "finished"
        assert row.hidden_size in (4, 8, 12)
        assert row.epochs == len(history) == 2
        assert row.best_validation_loss == history["validation_loss"].min()
        model = models.build_model("LSTM-448", hidden_size=row.hidden_size)
        assert row.weights == models.count_weights(model)
        assert row.seed == 5 + row.trial
        assert not (folder / checkpoint.STATE_FILE).exists()
        _, metadata = checkpoint.load_weights(folder / checkpoint.WEIGHTS_FILE)
        assert metadata["model"]["hidden_size"] == row.hidden_size


def test_the_test_set_changes_nothing(data, split, tmp_path):
    hodge = data.hodge.copy()
    hodge[split.test] = 7
    blind = dataclasses.replace(data, hodge=hodge)
    tables = [
        scan.run_scan(some, split, CONFIG, SPACE, tmp_path / name, trials=2).trials
        for name, some in (("all", data), ("blind", blind))
    ]
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in tables))


def test_it_finds_the_best_size(data, split, tmp_path, monkeypatch):
    losses_are(monkeypatch, lambda hidden, epoch: 1 + abs(hidden - 40) / epoch)
    space = scan.Space("LSTM-448", 8, 64, 8)
    table = scan.run_scan(data, split, CONFIG, space, tmp_path, trials=30).trials
    assert scan.best_trial(table)["hidden_size"] == 40
    assert table.set_index("state").loc["finished", "best_validation_loss"].min() == 1


def test_bad_trials_are_pruned(data, split, tmp_path, monkeypatch):
    losses_are(monkeypatch, lambda hidden, epoch: hidden / epoch)
    config = dataclasses.replace(CONFIG, max_epochs=20)
    space = scan.Space("LSTM-448", 1, 64)
    table = scan.run_scan(data, split, config, space, tmp_path, trials=20).trials
    pruned = table[table["state"] == "pruned"]
    finished = table[table["state"] == "finished"]
    assert len(pruned) and len(finished)
    assert set(table["state"][:4]) == {"finished"}
    assert (finished["epochs"] == 20).all()
    assert (pruned["epochs"] == 2).all()  # the first two epochs are spared
    assert pruned["hidden_size"].min() > finished["hidden_size"].min()


def test_a_diverged_trial_counts_and_the_scan_goes_on(data, split, tmp_path, monkeypatch):
    losses_are(monkeypatch, lambda hidden, epoch: np.inf if hidden > 30 else float(hidden))
    space = scan.Space("LSTM-448", 1, 64)
    table = scan.run_scan(data, split, CONFIG, space, tmp_path, trials=8).trials
    assert len(table) == 8
    assert set(table.loc[table["hidden_size"] > 30, "state"]) == {"diverged"}
    assert scan.best_trial(table)["hidden_size"] <= 30


def test_ctrl_c_while_a_trial_diverges_ends_the_scan(data, split, tmp_path, monkeypatch):
    def diverge(*_arguments, **_options):
        error = training.Diverged("the training loss became nan")
        error.interrupted = True
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", diverge)
        result = scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=3)
    assert (result.stop_reason, list(result.trials["state"])) == ("interrupted", ["diverged"])
    assert len(scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=2).trials) == 2


def test_it_goes_on_up_to_the_number_of_trials(data, split, tmp_path, monkeypatch):
    losses_are(monkeypatch, lambda hidden, epoch: float(hidden))
    first = scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=2).trials
    assert len(scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=2).trials) == 2
    more = scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=5).trials
    assert len(more) == 5
    pd.testing.assert_frame_equal(more[:2], first)


def test_a_killed_trial_goes_on_from_its_last_epoch(data, split, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, max_epochs=3)
    whole = scan.run_scan(data, split, config, SPACE, tmp_path / "whole", trials=1).trials

    begin_epoch, calls = training.Training._begin_epoch, []

    def killed_in_the_third(self):
        calls.append(1)
        if len(calls) == 3:
            raise SystemExit
        begin_epoch(self)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(training.Training, "_begin_epoch", killed_in_the_third)
        scan.run_scan(data, split, config, SPACE, tmp_path / "cut", trials=1)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):  # and again, taking it up

        def killed(*_arguments, **_options):
            raise SystemExit

        patch.setattr(optuna.Study, "tell", killed)
        scan.run_scan(data, split, config, SPACE, tmp_path / "cut", trials=1)
    with monkeypatch.context() as patch:
        calls.clear()
        patch.setattr(
            training.Training, "_begin_epoch", lambda t: calls.append(1) or begin_epoch(t)
        )
        result = scan.run_scan(data, split, config, SPACE, tmp_path / "cut", trials=1)
    assert len(calls) == 1
    pd.testing.assert_frame_equal(
        result.trials.drop(columns="seconds"), whole.drop(columns="seconds")
    )


def test_the_time_budget_ends_it_and_the_next_call_goes_on(data, split, tmp_path):
    config = dataclasses.replace(CONFIG, max_epochs=3)
    cut = scan.run_scan(data, split, config, SPACE, tmp_path, trials=2, max_hours=1e-9)
    assert cut.stop_reason == "time_limit"
    assert cut.trials.empty
    record = scan.record_scan(cut, data, split, config, SPACE, tmp_path, notebook="scan")
    assert record["scan"]["best"] is None
    assert record["scan"]["trials"] == 0
    assert scan.ranked(cut.trials).empty
    assert scan.best_curves(cut.trials, tmp_path) == []
    rest = scan.run_scan(data, split, config, SPACE, tmp_path, trials=2)
    assert rest.stop_reason == "done"
    assert list(rest.trials["state"]) == ["finished", "finished"]


def test_time_that_runs_out_in_a_trial_leaves_it_unfinished(data, split, tmp_path):
    config = dataclasses.replace(CONFIG, max_epochs=10_000, patience=10_000)
    cut = scan.run_scan(data, split, config, SPACE, tmp_path, trials=2, max_hours=0.5 / 3600)
    assert cut.stop_reason == "time_limit"
    assert list(cut.trials["state"]) == ["unfinished"]
    assert (tmp_path / "trials" / "000" / checkpoint.STATE_FILE).exists()


def test_ctrl_c_ends_the_scan_which_then_goes_on(data, split, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, max_epochs=3)
    fit, calls = training.fit, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) in (1, 3):  # before there are any weights, of the first and of another trial
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(scan.training, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):  # there is nothing to show
        scan.run_scan(data, split, config, SPACE, tmp_path, trials=3)
    cut = scan.run_scan(data, split, config, SPACE, tmp_path, trials=3)
    assert cut.stop_reason == "interrupted"
    assert list(cut.trials["state"]) == ["finished", "unfinished"]
    rest = scan.run_scan(data, split, config, SPACE, tmp_path, trials=3)
    assert rest.stop_reason == "done"
    assert list(rest.trials["state"]) == ["finished"] * 3


def test_after_a_ctrl_c_that_came_too_late_for_one_trial_no_other_begins(
    data, split, tmp_path, monkeypatch
):
    losses_are(monkeypatch, lambda size, epoch: 1.0)
    fit = training.fit
    late = lambda *a, **o: dataclasses.replace(fit(*a, **o), interrupted=True)  # noqa: E731
    monkeypatch.setattr(scan.training, "fit", late)
    for finished, stop_reason in ((1, "interrupted"), (2, "done")):
        cut = scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=2)
        assert list(cut.trials["state"]) == ["finished"] * finished
        assert cut.stop_reason == stop_reason


def test_by_command_more_trials_go_on_in_the_same_folder(tmp_path):
    notebooks = Path(__file__).resolve().parents[1] / "notebooks"

    def task(trials: int) -> tasks.Task:
        wanted = {"TRIALS": str(trials)}
        return tasks.plan("smoke", tmp_path, notebooks, only=["16"], overrides=wanted)[0]

    done = task(2)
    runner.new_status(done, "done").write(done.run_dir)
    record = {"scan": {"trials": 2}, "settings_fingerprint": done.fingerprint}
    (done.run_dir / "metrics.json").write_text(json.dumps(record))
    assert folders.is_done(done)
    assert not folders.is_done(task(3))
    assert task(3).identity == done.identity  # so that the folder is not put away


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": dataclasses.replace(CONFIG, batch_size=32)}, "settings.batch_size 64"),
        ({"space": dataclasses.replace(SPACE, highest_hidden=16)}, "space.highest_hidden 12"),
    ],
)
def test_another_scan_is_refused(data, split, tmp_path, monkeypatch, change, named):
    losses_are(monkeypatch, lambda hidden, epoch: float(hidden))
    scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=1)
    settings = {"config": CONFIG, "space": SPACE} | change
    with pytest.raises(ValueError, match=named):
        scan.run_scan(data, split, **settings, study_dir=tmp_path, trials=1)


def test_the_record_tells_what_was_found(data, split, tmp_path, monkeypatch):
    losses_are(monkeypatch, lambda hidden, epoch: hidden / epoch)
    result = scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=3)
    scan.record_scan(result, data, split, CONFIG, SPACE, tmp_path, notebook="16_scan")
    record = records.read_metrics(tmp_path)
    other = dataclasses.replace(data, layout="descending")
    labelled = scan.record_scan(
        result, other, split, CONFIG, SPACE, tmp_path / "other", notebook="16_scan"
    )["label"]
    assert labelled == f"{record['label']}, layout descending instead of stored"
    assert record["label"] == (
        "quick run: 300 of 905,684 configurations, at most 2 epochs, "
        "batch size 64 instead of 128, learning rate 0.001 instead of 0.01"
    )
    best = scan.best_trial(result.trials)
    assert record["scan"]["best"]["hidden_size"] == best["hidden_size"]
    assert record["scan"]["trials"] == 3
    assert record["training"]["stop_reason"] == "done"


def test_a_scan_is_the_paper_s_only_with_its_settings_and_all_trials():
    space = dataclasses.replace(SPACE, learning_rates=(0.1, 0.001), num_layers=(1, 3))
    assert scan._differences(space, "time_limit") == [
        "learning rate 0.001 0.1 instead of 0.01",
        "num layers 1 3 instead of 2",
        "stopped by the time limit before all trials were done",
    ]
    assert scan._differences(dataclasses.replace(SPACE, learning_rates=(0.01,)), "done") == []


def test_readers_see_the_best_first(data, split, tmp_path, monkeypatch):
    losses_are(monkeypatch, lambda hidden, epoch: hidden / epoch)
    table = scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=6).trials
    shown = scan.ranked(table)
    assert shown["best validation loss"].is_monotonic_increasing
    assert (shown["minutes"] == 2 / 60).all()
    monkeypatch.setattr(scan, "MOST_CURVES", 3)
    curves = scan.best_curves(table, tmp_path)
    best = scan.best_trial(table)
    assert len(curves) == 3
    assert curves[0][0] == f"{best['hidden_size']} (trial {best['trial']})"
    assert curves[0][1]["validation_loss"].min() == best["best_validation_loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("LSTM-1", 4, 8, 4), "unknown model 'LSTM-1'"),
        (("LSTM-448", 0, 8, 4), "positive integers"),
        (("LSTM-448", 4, 9, 4), "no steps of 4 lead up to 9"),
        (("LSTM-448", 8, 4, 4), "no steps of 4 lead up to 4"),
        (("LSTM-448", 4, 8, 4, ()), "at least one value"),
        (("LSTM-448", 4, 8, 4, (2,), [0.01, -1.0]), "learning_rate must be a number"),
        (("LSTM-448", 4, 8, 4, (2,), ["a"]), "learning_rate must be a number"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        scan.Space(*arguments)


def test_no_trials_are_refused(data, split, tmp_path):
    with pytest.raises(ValueError, match="at least one trial"):
        scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=0)


def test_without_optuna_it_says_what_to_install(data, split, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match="pip install optuna"):
        scan.run_scan(data, split, CONFIG, SPACE, tmp_path, trials=1)
