"""Several trainings of one model: what ends one of them, and what that means for the others."""

import signal
from dataclasses import replace

import pytest
import torch

from cicy_utils import lease, places, recipes, records, seeds, tables
from cicy_utils.models import build_model
from cicy_utils.progress import Progress
from cicy_utils.splits import split_72
from cicy_utils.training import Diverged, OutOfTime, TrainConfig

CONFIG = TrainConfig(max_epochs=1, batch_size=16, device="cpu")


@pytest.mark.parametrize(
    ("last", "done"), [((1, 2), [1]), ((2, 1), [1]), ((2, 2), [1, 2])], ids=str
)
def test_ctrl_c_leaves_the_seeds_that_have_weights(small_list, tmp_path, monkeypatch, last, done):
    """last: the seed and the epoch in which it comes; a seed without an epoch is not told of."""
    step, begun = Progress.step, []

    def press(progress):
        if progress.epoch == 1 and progress.done == 0:
            begun.append(progress)
        if (len(begun), progress.epoch) == last:
            signal.raise_signal(signal.SIGINT)
        return step(progress)

    def train_two():
        split, config = split_72(len(small_list)), replace(CONFIG, max_epochs=2)
        folder = tmp_path / "11_lstm_448" / "seed-1"
        options = dict(notebook="11_lstm_448", hidden_size=3)
        return seeds.train("LSTM-448", small_list, split, config, [1, 2], folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "step", press)
        folders = train_two()
    assert list(folders) == done
    shown = tables.seeds(list(folders.values())).to_html()
    assert ("stopped by hand after 1 epoch" in shown) == (last != (2, 1))
    rest = train_two()
    assert list(rest) == [1, 2]
    reasons = {records.read_metrics(path)["training"]["stop_reason"] for path in rest.values()}
    assert reasons == {"max_epochs"}
    with pytest.raises(ValueError, match=r"seeds must be different .*not \[2, 2\]"):
        tables.seeds([rest[2], rest[2]])


def train(data, folder, numbers, config=CONFIG, **options):
    options = dict(notebook="11_lstm_448", hidden_size=3) | options
    first = folder / f"seed-{numbers[0]}"
    return seeds.train("LSTM-448", data, split_72(len(data)), config, numbers, first, **options)


def test_after_a_ctrl_c_that_came_too_late_for_one_seed_no_other_begins(
    small_list, tmp_path, monkeypatch
):
    finish = Progress.finish

    def press(progress, history, stop_reason, **options):
        signal.raise_signal(signal.SIGINT)
        return finish(progress, history, stop_reason, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "finish", press)
        assert list(train(small_list, tmp_path, [1, 2])) == [1]
    assert list(train(small_list, tmp_path, [1, 2])) == [1, 2]


@pytest.mark.parametrize("why", ["another network", "in use"])
def test_what_one_seed_is_refused_for_is_told_before_any_is_trained(small_list, tmp_path, why):
    train(small_list, tmp_path, [2], hidden_size=4)
    if why == "another network":
        with pytest.raises(ValueError, match=r"another run, with model\.hidden_size 4"):
            train(small_list, tmp_path, [1, 2])
    else:
        with lease.hold(tmp_path / "seed-2"), pytest.raises(lease.Held):
            train(small_list, tmp_path, [1, 2], hidden_size=4)
    assert not (tmp_path / "seed-1").exists()


def test_ctrl_c_in_the_first_epoch_leaves_what_is_finished_side_by_side(
    small_list, tmp_path, monkeypatch
):
    def press(progress):
        if presses:
            presses.pop()
            signal.raise_signal(signal.SIGINT)
        return False

    train(small_list, tmp_path, [1])
    monkeypatch.setattr(seeds, "resolve_device", lambda *_: torch.device("cuda"))
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "step", press)
        presses = [1]
        assert list(train(small_list, tmp_path, [1, 2, 3])) == [1]
        presses = [1]
        with pytest.raises(KeyboardInterrupt, match=r"before the first epoch in .*seed-3"):
            train(small_list, tmp_path, [3, 1])
    assert list(train(small_list, tmp_path, [1, 2])) == [1, 2]


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_seed_that_diverges_leaves_the_others_evaluated(small_list, tmp_path, monkeypatch, kind):
    def build(name, *, seed, **shape):
        model = build_model(name, seed=seed, **shape)
        if seed == 1:
            torch.nn.init.constant_(model.head[1].bias, torch.nan)
        return model

    monkeypatch.setattr(seeds, "resolve_device", lambda *_: torch.device(kind))
    monkeypatch.setattr(seeds.models, "build_model", build)
    with pytest.raises(FloatingPointError, match="training loss became nan in epoch 1"):
        train(small_list, tmp_path, [1, 2])
    assert records.read_metrics(tmp_path / "seed-2")["seed"] == 2
    assert not (tmp_path / "seed-1" / "metrics.json").exists()


def test_ctrl_c_while_a_seed_diverges_lets_no_other_begin(small_list, tmp_path, monkeypatch):
    def diverge(runs):
        begun.extend(run.config.seed for run in runs)
        error = Diverged("the training loss became nan")
        error.interrupted = True
        return [error]

    begun = []
    monkeypatch.setattr(seeds, "try_many", diverge)
    with pytest.raises(Diverged):
        train(small_list, tmp_path, [1, 2, 3])
    assert begun == [1]


@pytest.mark.parametrize(
    ("recipe", "layout", "words"),
    [
        ("paper", "stored", ""),
        ("paper", "zeros-first", ", layout zeros-first instead of stored"),
        ("fast", "zeros-first", ", the fast recipe"),
        ("fast", "stored", ", the fast recipe, layout stored instead of zeros-first"),
    ],
)
def test_a_label_names_the_layout_that_a_recipe_does_not_have(
    small_list, tmp_path, recipe, layout, words
):
    data = replace(small_list, layout=layout)
    config = recipes.config(recipe, max_epochs=1, device="cpu")
    train(data, tmp_path, [1], config, recipe=recipe)
    label = records.read_metrics(tmp_path / "seed-1")["label"]
    words += ", hidden size 3 instead of 448"
    assert label == f"quick run: 50 of 905,684 configurations, at most 1 epoch{words}"


def test_the_time_limit_is_that_of_all_seeds_together(
    small_list, tmp_path, monkeypatch, clock, capsys
):
    """Three steps an epoch, two epochs a seed; a call ends with the first step beyond 7 seconds."""
    recipe = replace(CONFIG, max_epochs=2, max_hours=7 / 3600)
    seen, told = [], []
    for _ in range(3):
        found = train(small_list, tmp_path, [1, 2, 3], recipe)
        done = {seed: records.read_metrics(folder) for seed, folder in found.items()}
        seen.append((clock[0], {s: record["training"]["epochs"] for s, record in done.items()}))
        told.append("no time left to begin seed-3; run this again" in capsys.readouterr().out)
    assert seen == [(8.0, {1: 2}), (16.0, {1: 2, 2: 2, 3: 1}), (18.0, {1: 2, 2: 2, 3: 2})]
    assert told == [True, False, False]
    assert {record["settings"]["max_hours"] for record in done.values()} == {7 / 3600}
    monkeypatch.setattr(places, "training_hours", lambda _: 0.0)
    assert train(small_list, tmp_path, [1, 2, 3, 4], recipe) == found
    assert not (tmp_path / "seed-4").exists()


def test_a_time_limit_before_the_first_seed_has_weights_says_so(small_list, tmp_path, clock):
    recipe = replace(CONFIG, max_hours=1 / 3600)
    with pytest.raises(OutOfTime, match=r"before the first epoch in .*seed-1 was finished"):
        train(small_list, tmp_path, [1, 2], recipe)
    assert not (tmp_path / "seed-2").exists()
