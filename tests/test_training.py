import dataclasses
import gc
import shutil
import signal
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from cicy_utils import checkpoint, lease, progress, records, steps, training
from cicy_utils.data import Cicy4
from cicy_utils.models import build_model
from cicy_utils.splits import split_72
from cicy_utils.training import (
    Diverged,
    FitResult,
    OutOfTime,
    Run,
    TrainConfig,
    fit,
    fit_many,
    predict,
)


@pytest.fixture(scope="module")
def data():
    """Random small matrices, with labels that can be learnt: linear in their entries."""
    random = np.random.default_rng(0)
    matrices = random.integers(0, 3, (120, 16, 20)).astype(np.uint8)
    sums = matrices.sum(axis=(1, 2))
    hodge = np.stack([sums % 3, sums % 2, sums, 4 * sums], axis=1).astype(np.int16)
    matrices.setflags(write=False)  # as an array mapped from a file may be
    return Cicy4(matrices, hodge, source="random", layout="stored", fingerprint="f" * 64)


@pytest.fixture
def split(data):
    return split_72(len(data))


def small_model(seed=1, **overrides):
    return build_model("LSTM-448", **{"hidden_size": 6, "seed": seed} | overrides)


def config(**changes) -> TrainConfig:
    return TrainConfig(**{"batch_size": 32, "max_epochs": 4, "device": "cpu"} | changes)


def weights_of(model):
    return {name: weight.clone() for name, weight in model.state_dict().items()}


class Recorder(nn.Module):
    """Keeps the batches that it is trained on."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4))
        self.seen: list[torch.Tensor] = []

    def forward(self, inputs):
        if self.training:
            self.seen.append(inputs)
        return self.bias.expand(len(inputs), 4)


def mean_huber(outputs, labels) -> float:
    """The loss of the paper."""
    errors = np.abs(outputs.astype(float) - labels)
    return np.where(errors < 1, errors**2 / 2, errors - 0.5).mean()


def same_weights(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def same_result(a: FitResult, b: FitResult):
    pd.testing.assert_frame_equal(
        a.history.drop(columns="seconds"), b.history.drop(columns="seconds"), check_exact=True
    )
    assert (a.best_epoch, a.best_validation_loss, a.epochs) == (
        b.best_epoch,
        b.best_validation_loss,
        b.epochs,
    )


@pytest.fixture
def interrupt(monkeypatch):
    """Make Ctrl-C arrive in the middle of an epoch, or any other error."""

    def at(epoch, error=KeyboardInterrupt):
        original = training.Progress.step

        def step(progress):
            if progress.epoch == epoch and progress.done == 1:
                raise error
            return original(progress)

        monkeypatch.setattr(training.Progress, "step", step)
        return lambda: monkeypatch.setattr(training.Progress, "step", original)

    return at


def test_the_loss_falls_and_the_files_say_the_same(data, split, tmp_path):
    model = small_model(num_layers=1)
    result = fit(model, data, split, config(max_epochs=15), tmp_path)
    history = result.history
    assert result.stop_reason == "max_epochs"
    assert result.device == "cpu"
    assert result.epochs == len(history) == 15
    assert history["epoch"].tolist() == list(range(1, 16))
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 4
    assert result.best_validation_loss == history["validation_loss"].min()
    assert result.best_epoch == history["validation_loss"].idxmin() + 1
    assert result.seconds == pytest.approx(history["seconds"].sum())
    written = records.read_history(tmp_path)
    pd.testing.assert_frame_equal(
        written, history, rtol=1e-14
    )  # pandas 2 reads the last bit anyhow
    saved, metadata = checkpoint.load_weights(tmp_path / "weights.safetensors")
    assert same_weights(saved, model.state_dict())
    assert metadata["model"] == model.settings
    assert metadata["data"] == {"fingerprint": "f" * 64, "layout": "stored"}
    assert metadata["split"]["fingerprints"] == split.fingerprints
    assert metadata["settings"]["learning_rate"] == 0.01
    assert metadata["training"]["best_epoch"] == result.best_epoch


def test_losses_are_means_over_configurations(data, split, tmp_path):
    """With a learning rate near zero both losses are those of the initial weights."""
    model = small_model()
    output = predict(model, data.matrices, device="cpu")
    result = fit(model, data, split, config(learning_rate=1e-30, max_epochs=1), tmp_path)
    for part, column in (("train", "train_loss"), ("validation", "validation_loss")):
        indices = split.parts[part]
        expected = mean_huber(output[indices], data.hodge[indices])
        assert result.history[column].item() == pytest.approx(expected, rel=1e-5)


def test_every_epoch_sees_every_training_configuration_once(data, split, tmp_path):
    """In another order each epoch."""
    recorder = Recorder()
    fit(recorder, data, split, config(max_epochs=2), tmp_path)
    assert [len(batch) for batch in recorder.seen] == [32, 32, 22] * 2
    epochs = torch.stack([torch.cat(recorder.seen[:3]), torch.cat(recorder.seen[3:])])
    entries = (epochs * 6).round().numpy().astype(np.uint8)
    expected = {matrix.tobytes() for matrix in data.matrices[split.train]}
    first, second = ([matrix.tobytes() for matrix in epoch] for epoch in entries)
    assert len(first) == len(split.train)
    assert set(first) == set(second) == expected
    assert first != second
    assert epochs.max() == pytest.approx(2 / 6)


def test_the_same_seed_gives_the_same_run(data, split, tmp_path):
    results, weights = [], []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        model = small_model()
        results.append(fit(model, data, split, config(seed=seed), tmp_path / name))
        weights.append(weights_of(model))
    same_result(results[0], results[1])
    assert same_weights(weights[0], weights[1])
    assert not same_weights(weights[0], weights[2])


@pytest.mark.parametrize("epoch", [2, 3, 6])
def test_an_interrupted_run_goes_on_exactly(data, split, tmp_path, interrupt, epoch):
    """Through a drop of the learning rate, so that the scheduler's memory matters too."""
    recipe = config(max_epochs=7, plateau_patience=0, patience=30, learning_rate=0.05)
    whole_model, model = small_model(), small_model()
    whole = fit(whole_model, data, split, recipe, tmp_path / "whole")
    assert whole.history["learning_rate"].nunique() > 1

    undo = interrupt(epoch)
    part = fit(model, data, split, recipe, tmp_path / "parts")
    assert part.stop_reason == "interrupted"
    assert part.epochs == epoch - 1
    saved, _ = checkpoint.load_weights(tmp_path / "parts" / "weights.safetensors")
    assert same_weights(saved, model.state_dict())

    undo()
    fresh = small_model(seed=99)  # its weights do not matter: the state's do
    resumed = fit(fresh, data, split, recipe, tmp_path / "parts")
    same_result(whole, resumed)
    assert same_weights(whole_model.state_dict(), fresh.state_dict())
    states = [
        checkpoint.load_state(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts")
    ]
    assert same_weights(states[0]["weights"], states[1]["weights"])
    files = [tmp_path / name / "weights.safetensors" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


EVERYTHING = {
    "optimizer": "muon",
    "schedule": "one-cycle",
    "scale_targets": True,
    "averaging": 0.5,
    "shuffle": True,
    "clip_norm": 1.0,
    "huber_delta": 0.3,
    "loss_weights": (1, 1, 2, 4),
    "weight_decay": 0.1,
}


@pytest.fixture
def press(monkeypatch):
    """Press Ctrl-C at given steps of the process, those of validation among them."""

    def at(*numbers):
        original, taken = training.Progress.step, []

        def step(progress):
            taken.append(progress)
            if len(taken) in numbers:
                signal.raise_signal(signal.SIGINT)
            return original(progress)

        monkeypatch.setattr(training.Progress, "step", step)

    return at


EPOCH = 3 + 1  # steps: three batches and one of the validation set


@pytest.mark.parametrize("after", [*range(1, 2 * EPOCH + 1)])
@pytest.mark.parametrize("recipe", [{"plateau_patience": 0, "learning_rate": 0.05}, EVERYTHING])
def test_ctrl_c_loses_not_a_single_step(data, split, tmp_path, press, capsys, after, recipe):
    """Wherever in the first two epochs it comes, in a validation too; and no step is done twice."""
    recipe = config(max_epochs=3, **recipe)
    whole = small_model()
    expected = fit(whole, data, split, recipe, tmp_path / "whole")
    state = tmp_path / "parts" / "checkpoint.pt"
    press(after)
    capsys.readouterr()
    if after < EPOCH:
        with pytest.raises(KeyboardInterrupt, match="there are no weights to use; call again"):
            fit(small_model(), data, split, recipe, tmp_path / "parts")
    else:
        part = fit(small_model(), data, split, recipe, tmp_path / "parts")
        assert part.stop_reason == "interrupted"
    epochs, position = divmod(after, EPOCH)
    found = checkpoint.load_state(state)
    assert (len(found["history"]), found["position"]) == (epochs, position)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("stopped (interrupted) after ")
    assert last.endswith("; run this again to go on")
    model = small_model(seed=99)
    same_result(expected, fit(model, data, split, recipe, tmp_path / "parts"))
    assert same_weights(whole.state_dict(), model.state_dict())


def test_a_second_ctrl_c_stops_at_once_with_what_is_saved(data, split, tmp_path):
    recipe = config(max_epochs=3)
    step = training.Progress.step

    def twice(progress):
        if progress.epoch == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return step(progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Progress, "step", twice)
        part = fit(small_model(), data, split, recipe, tmp_path / "parts")
    assert (part.stop_reason, part.epochs) == ("interrupted", 2)
    assert checkpoint.load_state(tmp_path / "parts" / "checkpoint.pt")["position"] == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_that_comes_too_late_is_told(data, split, tmp_path, monkeypatch):
    assert not fit(small_model(), data, split, config(), tmp_path / "undisturbed").interrupted
    finish = training.Progress.finish

    def press(progress, history, stop_reason, **options):
        if stop_reason:
            signal.raise_signal(signal.SIGINT)
        return finish(progress, history, stop_reason, **options)

    monkeypatch.setattr(training.Progress, "finish", press)
    result = fit(small_model(), data, split, config(), tmp_path / "late")
    assert (result.stop_reason, result.interrupted) == ("max_epochs", True)


def test_ctrl_c_stops_all_that_are_trained_side_by_side(data, split, tmp_path, press):
    recipe = config(max_epochs=3)
    press(2 * EPOCH + 3)  # of the two together
    runs = [Run(small_model(seed=s), data, split, recipe, tmp_path / str(s)) for s in (1, 2)]
    parts = fit_many(runs)
    assert [part.stop_reason for part in parts] == ["interrupted"] * 2
    for run, again in zip(runs, fit_many(runs), strict=True):
        alone = fit(small_model(seed=int(run.run_dir.name)), data, split, recipe, tmp_path / "one")
        same_result(alone, again)
        shutil.rmtree(tmp_path / "one")


def test_whoever_handles_ctrl_c_already_keeps_it(data, split, tmp_path, monkeypatch):
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    try:
        step = training.Progress.step
        monkeypatch.setattr(
            training.Progress,
            "step",
            lambda progress: signal.raise_signal(signal.SIGINT) or step(progress),
        )
        assert fit(small_model(), data, split, config(), tmp_path).stop_reason == "max_epochs"
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(heard) == 4 * EPOCH


def test_a_crash_in_an_epoch_loses_that_epoch_only(data, split, tmp_path, interrupt):
    undo = interrupt(3, error=MemoryError)
    with pytest.raises(MemoryError):
        fit(small_model(), data, split, config(), tmp_path / "parts")
    undo()
    resumed = fit(small_model(), data, split, config(), tmp_path / "parts")
    same_result(fit(small_model(), data, split, config(), tmp_path / "whole"), resumed)


def test_an_interrupt_before_the_first_epoch_ends_is_passed_on(data, split, tmp_path, interrupt):
    interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        fit(small_model(), data, split, config(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_returns_its_result_without_training(data, split, tmp_path, monkeypatch):
    model = small_model()
    result = fit(model, data, split, config(), tmp_path)
    (tmp_path / "history.csv").unlink()  # as if the power had failed between two files
    monkeypatch.setattr(training, "Training", lambda *_: pytest.fail("trained again"))
    fresh = small_model(seed=99)
    again = fit(fresh, data, split, config(max_hours=3), tmp_path)
    same_result(result, again)
    assert again.stop_reason == "max_epochs"
    assert again.seconds == result.seconds
    assert same_weights(model.state_dict(), fresh.state_dict())
    assert (tmp_path / "history.csv").is_file()


def test_the_time_limit_stops_inside_an_epoch_and_the_next_call_goes_on(
    data, split, tmp_path, clock
):
    """Epochs of three steps; a call stops after the first step beyond its four seconds."""
    recipe = config(max_epochs=4, max_hours=4 / 3600)
    seen = []
    while not seen or seen[-1][1] == "time_limit":
        model = small_model()
        result = fit(model, data, split, recipe, tmp_path / "parts")
        state = checkpoint.load_state(tmp_path / "parts" / "checkpoint.pt")
        seen.append((result.epochs, result.stop_reason, state["position"]))
    assert seen == [(1, "time_limit", 2), (3, "time_limit", 1), (4, "max_epochs", 0)]
    whole = small_model()
    same_result(fit(whole, data, split, config(max_epochs=4), tmp_path / "whole"), result)
    assert same_weights(whole.state_dict(), model.state_dict())
    assert result.history["seconds"].tolist() == [3.0] * 4


def test_a_time_limit_in_the_first_epoch_says_so_and_loses_nothing(data, split, tmp_path, clock):
    short = config(max_epochs=1, max_hours=1 / 3600)
    with pytest.raises(OutOfTime, match=r"before the first epoch in .* was finished; call again"):
        fit(small_model(), data, split, short, tmp_path / "parts")
    assert not (tmp_path / "parts" / "weights.safetensors").exists()
    resumed = fit(small_model(seed=99), data, split, short, tmp_path / "parts")
    same_result(fit(small_model(), data, split, config(max_epochs=1), tmp_path / "w"), resumed)


@pytest.mark.parametrize("recipe", [{"plateau_patience": 0, "learning_rate": 0.05}, EVERYTHING])
def test_a_crash_goes_on_from_the_last_save_inside_an_epoch(
    data, split, tmp_path, interrupt, clock, recipe
):
    recipe = config(max_epochs=5, save_minutes=0.5 / 60, patience=30, **recipe)
    whole_model = small_model()
    whole = fit(whole_model, data, split, recipe, tmp_path / "whole")
    undo = interrupt(3, error=MemoryError)
    with pytest.raises(MemoryError):
        fit(small_model(), data, split, recipe, tmp_path / "parts")
    undo()
    state = checkpoint.load_state(tmp_path / "parts" / "checkpoint.pt")
    assert (len(state["history"]), state["position"]) == (2, 1)
    before = clock[0]
    model = small_model(seed=99)
    same_result(whole, fit(model, data, split, recipe, tmp_path / "parts"))
    assert clock[0] - before == 3 * 3 - 1  # steps: three epochs less what had been saved
    assert same_weights(whole_model.state_dict(), model.state_dict())


def test_a_folder_in_use_is_refused(data, split, tmp_path):
    with lease.hold(tmp_path), pytest.raises(lease.Held, match="is in use by process"):
        fit(small_model(), data, split, config(), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fit(small_model(), data, split, config(), tmp_path).epochs == 4


def test_a_run_whose_folder_was_taken_over_writes_nothing_more(data, split, tmp_path):
    def lose(row):
        if row["epoch"] == 2:
            lease.lease_file(tmp_path).write_text("another's")

    with pytest.raises(lease.Held, match="it took this process for dead"):
        fit(small_model(), data, split, config(), tmp_path, on_epoch=lose)
    assert len(checkpoint.load_state(tmp_path / "checkpoint.pt")["history"]) == 2


def test_side_by_side_equals_alone(data, split, tmp_path):
    """Seeds, widths, recipes and splits of different lengths; one of them goes on from a file."""
    others = [
        ({}, config(), split),
        ({"hidden_size": 8}, config(seed=7, max_epochs=2, shuffle=True), split),
        ({"seed": 5}, config(batch_size=16, schedule="one-cycle"), split_72(len(data), seed=3)),
    ]
    alone, together = [], []
    for number, (shape, recipe, own) in enumerate(others):
        model = small_model(**shape)
        alone.append((fit(model, data, own, recipe, tmp_path / f"alone{number}"), model))
        run = Run(small_model(**shape), data, own, recipe, tmp_path / f"together{number}")
        together.append(run)
    started = dataclasses.replace(together[0].config, max_hours=1e-12)
    with pytest.raises(OutOfTime):
        fit_many([dataclasses.replace(together[0], config=started)])
    results = fit_many(together)
    for (expected, model), result, run in zip(alone, results, together, strict=True):
        same_result(expected, result)
        assert same_weights(model.state_dict(), run.model.state_dict())


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def nearly_same(a: FitResult, b: FitResult):
    """Losses and learning rates up to rounding, which differs by device."""
    pd.testing.assert_frame_equal(
        a.history.drop(columns="seconds"), b.history.drop(columns="seconds"), rtol=2e-3
    )


@on_a_gpu
@pytest.mark.parametrize("recipe", [{}, EVERYTHING, EVERYTHING | {"shuffle": "ties"}])
def test_on_a_gpu_a_run_is_that_of_a_cpu(data, split, tmp_path, press, capsys, recipe):
    """Stopped in its second epoch, too."""
    recipe = config(learning_rate=0.003, **recipe)
    expected = fit(small_model(), data, split, recipe, tmp_path / "cpu")
    there = dataclasses.replace(recipe, device="cuda")
    whole = small_model()
    result = fit(whole, data, split, there, tmp_path / "gpu")
    nearly_same(expected, result)
    press(EPOCH + 2)
    assert fit(small_model(), data, split, there, tmp_path / "parts").epochs == 1
    nearly_same(result, fit(small_model(seed=99), data, split, there, tmp_path / "parts"))
    assert result.device == torch.cuda.get_device_name()
    assert "no CUDA graph" not in capsys.readouterr().out
    np.testing.assert_allclose(
        predict(whole, data.matrices, device="cuda"),
        predict(whole, data.matrices, device="cpu"),
        rtol=1e-4,
        atol=1e-4,
    )


OTHER_SETTINGS = {
    "optimizer": "muon",
    "learning_rate": 0.02,
    "batch_size": 16,
    "schedule": "one-cycle",
    "weight_decay": 3.0,
    "clip_norm": 1e-3,
    "scale_targets": True,
    "huber_delta": 0.3,
    "loss_weights": (1, 1, 2, 4),
    "averaging": 0.9,
    "shuffle": True,
    "seed": 7,
}


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_every_setting_changes_what_is_learned(data, split, tmp_path, name):
    learned = []
    for number, changes in enumerate(({}, {name: OTHER_SETTINGS[name]})):
        model = small_model()
        fit(model, data, split, config(max_epochs=2, **changes), tmp_path / str(number))
        learned.append(torch.cat([weight.ravel() for weight in model.parameters()]))
    assert not torch.allclose(*learned, rtol=1e-5)


@pytest.fixture
def taken(monkeypatch) -> list[tuple[float, dict]]:
    """The learning rate of every step, and the weights after it."""
    found, take = [], steps.TrainStep.__call__

    def step(self, batch):
        rate = float(self.optimizer.param_groups[0]["lr"])
        take(self, batch)
        found.append((rate, weights_of(self.model)))

    monkeypatch.setattr(steps.TrainStep, "__call__", step)
    return found


def test_every_step_has_the_rate_of_its_place_in_the_cycle(data, split, tmp_path, taken):
    recipe = config(schedule="one-cycle", max_epochs=4, patience=30)
    fit(small_model(), data, split, recipe, tmp_path)
    of_cycle = [0.01 * training.one_cycle((number + 1) / 12) for number in range(12)]
    assert [rate for rate, _ in taken] == pytest.approx(of_cycle)


def test_the_rate_falls_when_the_loss_has_not_fallen_by_a_ten_thousandth(
    data, split, tmp_path, monkeypatch
):
    scripted_validation(monkeypatch, [1.0, 0.99995, 0.9999, 0.9998, 0.9])
    recipe = config(max_epochs=5, plateau_patience=0, plateau_factor=0.5)
    rates = fit(small_model(), data, split, recipe, tmp_path).history["learning_rate"]
    assert rates.tolist() == pytest.approx([0.01, 0.01, 0.005, 0.0025, 0.0025])


def test_the_average_is_what_is_validated_and_kept(data, split, tmp_path, taken):
    model = small_model()
    result = fit(model, data, split, config(averaging=0.9, max_epochs=2), tmp_path)
    mean = taken[2][1]  # in the first of two epochs it follows at once
    for _, later in taken[3 : 3 * result.best_epoch]:
        mean = {name: 0.9 * mean[name] + 0.1 * later[name] for name in mean}
    for name, weight in weights_of(model).items():
        torch.testing.assert_close(weight, mean[name])
    outputs = predict(model, data.matrices[split.validation], device="cpu")
    expected = mean_huber(outputs, data.hodge[split.validation])
    assert result.best_validation_loss == pytest.approx(expected, rel=1e-5)


def test_rows_and_columns_are_permuted_anew_in_each_epoch(data, split, tmp_path):
    recorder = Recorder()
    fit(recorder, data, split, config(max_epochs=2, shuffle=True), tmp_path)
    seen = [(inputs * 6).round().numpy().astype(np.uint8) for inputs in recorder.seen]
    stored = data.matrices[split.train]
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])

    def column_sums(matrices: np.ndarray) -> list[list[int]]:
        return sorted(sorted(matrix.sum(axis=0).tolist()) for matrix in matrices)

    assert column_sums(first) == column_sums(second) == column_sums(stored)
    first, second, stored = ({m.tobytes() for m in some} for some in (first, second, stored))
    assert not first & second and not first & stored


def test_ties_alone_are_permuted_where_that_is_asked_for(data, split, tmp_path):
    recorder = Recorder()
    fit(recorder, data, split, config(max_epochs=2, shuffle="ties"), tmp_path)
    seen = [(inputs * 6).round().numpy().astype(np.uint8) for inputs in recorder.seen]
    stored = data.matrices[split.train]
    first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])

    def sums(matrices: np.ndarray) -> list[list[int]]:
        return sorted([*m.sum(axis=0).tolist(), *m.sum(axis=1).tolist()] for m in matrices)

    assert sums(first) == sums(second) == sums(stored)
    first, second, stored = ({m.tobytes() for m in some} for some in (first, second, stored))
    assert len(first & second) < len(first) / 2 and len(first & stored) < len(first) / 2


def test_validation_takes_all_of_its_batches(data, split, tmp_path, monkeypatch):
    monkeypatch.setitem(training.EVALUATION_BATCH, "cpu", 7)
    test_losses_are_means_over_configurations(data, split, tmp_path)


def test_the_precision_reaches_the_feature_blocks(data, split, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "resolve_device", lambda *_: torch.device("cpu"))
    model, found = small_model(), []
    model.recurrent.register_forward_hook(lambda *told: found.append(told[2].dtype))
    fit(model, data, split, config(max_epochs=1, precision="bfloat16"), tmp_path)
    assert found[0] == torch.bfloat16  # of the first step


def test_predicting_is_done_in_evaluation_mode(data):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(320, 4)).train()
    few, all_at_once = (
        predict(model, data.matrices, batch_size=size, device="cpu") for size in (7, len(data))
    )
    np.testing.assert_allclose(few, all_at_once, rtol=1e-5, atol=1e-6)


@on_a_gpu
@pytest.mark.parametrize("batch_size", [16, 128])
@pytest.mark.parametrize(
    ("precision", "chosen"), [("float32", "adamw"), ("tf32", "adamw"), ("tf32", "muon")]
)
def test_on_a_gpu_side_by_side_equals_alone(
    cicy4_sample, tmp_path, capsys, precision, chosen, batch_size
):
    """Networks of full size, whose products need the workspaces that none must share.

    The graph network's targets are scaled: otherwise a millionth is enough to lead it elsewhere.
    """
    split = split_72(len(cicy4_sample))
    here = {"device": "cuda", "precision": precision, "optimizer": chosen}
    recipe = config(**here, batch_size=batch_size, learning_rate=1e-3, max_epochs=3)
    if batch_size == 16:
        names = ("LSTM-448", "CNN-LSTM-400", "ResNet-GRU-400", "Graph-64", "LSTM-448")
    else:
        names = ("LSTM-448",) * 4
    recipes = [dataclasses.replace(recipe, scale_targets=name == "Graph-64") for name in names]
    runs = [
        Run(build_model(name, seed=n), cicy4_sample, split, recipes[n], tmp_path / f"{n}")
        for n, name in enumerate(names)
    ]
    for number, (name, result) in enumerate(zip(names, fit_many(runs), strict=True)):
        model = build_model(name, seed=number)
        alone = fit(model, cicy4_sample, split, recipes[number], tmp_path / f"alone-{number}")
        nearly_same(alone, result)
    assert "no CUDA graph" not in capsys.readouterr().out


def test_one_that_diverges_does_not_stop_those_beside_it(data, split, tmp_path):
    bad = small_model()
    with torch.no_grad():
        bad.head[1].bias.fill_(torch.nan)
    runs = [
        Run(bad, data, split, config(), tmp_path / "bad"),
        Run(small_model(), data, split, config(), tmp_path / "good"),
    ]
    with pytest.raises(FloatingPointError, match="training loss became nan in epoch 1"):
        fit_many(runs)
    assert len(pd.read_csv(tmp_path / "good" / "history.csv")) == 4


def test_an_error_that_is_kept_keeps_no_training_in_memory(data, split, tmp_path, monkeypatch):
    made, fastest_step = [], steps.fastest_step

    def noted(step: steps.TrainStep, *arguments):
        made.append(weakref.ref(step))
        return fastest_step(step, *arguments)

    monkeypatch.setattr(steps, "fastest_step", noted)
    bad = small_model()
    with torch.no_grad():
        bad.head[1].bias.fill_(torch.nan)
    runs = [
        Run(model, data, split, config(), tmp_path / name)
        for name, model in (("bad", bad), ("good", small_model()))
    ]
    failure, result = training.try_many(runs)
    gc.collect()
    assert isinstance(failure, FloatingPointError) and result.epochs == 4
    assert [step() for step in made] == [None, None]


def test_runs_side_by_side_need_their_own_folders(data, split, tmp_path):
    runs = [Run(small_model(), data, split, config(seed=s), tmp_path) for s in (1, 2)]
    with pytest.raises(ValueError, match="two runs share a folder"):
        fit_many(runs)


def test_a_gpu_is_shared_by_so_many_only(data, split, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "resolve_device", lambda *_: torch.device("cuda"))
    runs = [Run(small_model(), data, split, config(), tmp_path / str(n)) for n in range(17)]
    with pytest.raises(ValueError, match="on a GPU 16 runs can train side by side, not 17"):
        fit_many(runs)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_must_not_train_one_model(data, split, tmp_path):
    model = small_model()
    runs = [Run(model, data, split, config(), tmp_path / str(n)) for n in range(2)]
    with pytest.raises(ValueError, match="two runs share a model"):
        fit_many(runs)
    assert list(tmp_path.iterdir()) == []


def test_runs_of_one_list_share_one_copy_of_it(data, split, tmp_path, monkeypatch):
    copies, to_device = [], steps.to_device
    monkeypatch.setattr(steps, "to_device", lambda *a: copies.append(1) or to_device(*a))
    recipe = config(max_epochs=1)
    fit_many([Run(small_model(), data, split, recipe, tmp_path / str(n)) for n in range(3)])
    assert len(copies) == 1


def test_batches_are_said_to_be_of_the_training_set(data, split, tmp_path, monkeypatch):
    """So that a recorded step has room for them."""
    told, fastest_step = [], steps.fastest_step
    monkeypatch.setattr(steps, "fastest_step", lambda *a: told.append(a[1:]) or fastest_step(*a))
    recipe = config(max_epochs=1)
    fit(small_model(), data, split, recipe, tmp_path)
    [(batch_size, drawn_from)] = told
    assert batch_size == recipe.batch_size
    assert sorted(drawn_from.tolist()) == sorted(split.train)


def test_predicting_moves_no_weight_of_a_model_that_is_in_place(data, monkeypatch):
    model = small_model()
    monkeypatch.setattr(model, "to", lambda *_: pytest.fail("moved"))
    predict(model, data.matrices[:3], device="cpu")


def test_scaled_targets_live_in_the_model(data, split, tmp_path):
    """Before training the outputs scatter around the mean of the training labels."""
    model = small_model()
    recipe = config(scale_targets=True, learning_rate=1e-30, max_epochs=1)
    result = fit(model, data, split, recipe, tmp_path)
    labels = data.hodge[split.train].astype(float)
    np.testing.assert_allclose(model.target_mean, labels.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(model.target_scale, labels.std(axis=0), rtol=1e-6)
    output = predict(model, data.matrices[split.validation], device="cpu")
    error = np.abs(output - data.hodge[split.validation]) / labels.std(axis=0)
    huber = np.where(error < 1, error**2 / 2, error - 0.5).mean()
    assert result.best_validation_loss == pytest.approx(huber, rel=1e-5)
    saved, _ = checkpoint.load_weights(tmp_path / "weights.safetensors")
    assert torch.equal(saved["target_scale"], model.target_scale)


@pytest.mark.parametrize("before", [{}, {"scale_targets": True}])
def test_weights_that_are_not_fresh_keep_their_answers_when_targets_are_scaled(
    data, split, tmp_path, before
):
    model = small_model()
    fit(model, data, split, config(**before), tmp_path / "before")
    answers, weights = predict(model, data.matrices, device="cpu"), weights_of(model)
    still = config(scale_targets=True, learning_rate=1e-30, max_epochs=1)
    trained_on = records.load_trained_on(tmp_path / "before")
    fit(model, data, split, still, tmp_path / "after", trained_before=trained_on)
    labels = data.hodge[split.train].astype(float)
    np.testing.assert_allclose(model.target_scale, labels.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(predict(model, data.matrices, device="cpu"), answers, rtol=1e-4)
    assert same_weights(weights, weights_of(model)) == bool(before)


def test_targets_of_other_networks_are_not_scaled(data, split, tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(320, 4))
    with pytest.raises(ValueError, match="not for a Sequential; use scale_targets=False"):
        fit(network, data, split, config(scale_targets=True), tmp_path)


def test_one_cycle_rises_then_falls_to_zero(data, split, tmp_path):
    recipe = config(schedule="one-cycle", max_epochs=10, patience=30)
    rates = fit(small_model(), data, split, recipe, tmp_path).history["learning_rate"]
    # 30 steps: the first epoch is the rise, 3 steps of a third each, of which the first is shown
    assert rates[0] == pytest.approx(0.01 / 3)
    assert rates[1:].is_monotonic_decreasing
    assert [training.one_cycle(x) for x in (0, 0.05, 0.1, 0.55, 1)] == pytest.approx(
        [0, 0.5, 1, 0.5, 0]
    )


def scripted_validation(monkeypatch, losses):
    values = iter(losses)
    monkeypatch.setattr(training.Training, "_validate", lambda _: next(values))


@pytest.mark.parametrize("patience", [0, 2])
def test_patience_and_best_weights(data, split, tmp_path, monkeypatch, patience):
    """Stops after MORE than `patience` epochs without a better loss; an equal one is no better."""
    scripted_validation(monkeypatch, [3.0, 2.0, 2.0, 2.5, 2.5, 2.5])
    model = small_model()
    result = fit(model, data, split, config(max_epochs=50, patience=patience), tmp_path / "run")
    assert result.stop_reason == "converged"
    assert result.best_epoch == 2
    assert result.epochs == 2 + patience + 1
    scripted_validation(monkeypatch, [3.0, 2.0])
    two_epochs = small_model()
    fit(two_epochs, data, split, config(max_epochs=2), tmp_path / "two")
    assert same_weights(model.state_dict(), two_epochs.state_dict())


def test_learning_rate_falls_on_a_plateau_down_to_the_lowest(data, split, tmp_path, monkeypatch):
    scripted_validation(monkeypatch, [1.0] * 8)
    recipe = config(max_epochs=8, plateau_patience=1, min_learning_rate=5e-4)
    rates = fit(small_model(), data, split, recipe, tmp_path).history["learning_rate"]
    assert rates.tolist() == pytest.approx([0.01] * 3 + [0.001] * 2 + [5e-4] * 3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_keeps_the_last_good_files(
    data, split, tmp_path, monkeypatch, bad
):
    scripted_validation(monkeypatch, [3.0, 2.0, bad])
    with pytest.raises(FloatingPointError, match=rf"validation loss became {bad} in epoch 3"):
        fit(small_model(), data, split, config(), tmp_path)
    _, metadata = checkpoint.load_weights(tmp_path / "weights.safetensors")
    assert metadata["training"] == {"best_epoch": 2, "validation_loss": 2.0}
    assert len(checkpoint.load_state(tmp_path / "checkpoint.pt")["history"]) == 2


@pytest.mark.parametrize("stops", ["at the end of the epoch", "when it is saved", "with Ctrl-C"])
def test_a_diverging_model_is_stopped_and_never_saved(data, split, tmp_path, press, stops):
    model = small_model()
    with torch.no_grad():
        model.head[1].bias.fill_(torch.nan)
    recipe = config(save_minutes=1e-9 if stops == "when it is saved" else 10.0)
    if stops == "with Ctrl-C":
        press(1)
    with pytest.raises(Diverged, match="training loss became nan in epoch 1") as raised:
        fit(model, data, split, recipe, tmp_path / "bad")
    assert list((tmp_path / "bad").iterdir()) == []
    assert raised.value.interrupted == (stops == "with Ctrl-C")


def test_another_recipe_model_data_or_split_is_refused(data, split, tmp_path):
    fit(small_model(), data, split, config(max_epochs=1), tmp_path)
    other_data = dataclasses.replace(data, fingerprint="e" * 64)
    for arguments, difference in (
        ((small_model(), data, split, config(max_epochs=1, seed=7)), r"settings.seed 42 \(now 7\)"),
        ((small_model(hidden_size=7), data, split, config(max_epochs=1)), "model.hidden_size 6"),
        ((small_model(), other_data, split, config(max_epochs=1)), "data.fingerprint 'ffff"),
        ((small_model(), data, split_72(120, 9), config(max_epochs=1)), r"split.seed 42 \(now 9\)"),
    ):
        with pytest.raises(ValueError, match=rf"belongs to another run, with .*{difference}"):
            fit(*arguments, tmp_path)


def test_a_run_with_numbers_of_numpy_goes_on(data, tmp_path):
    split, rate = split_72(len(data), np.int64(7)), np.logspace(-3, -2, 2)[0]
    for _ in range(2):
        result = fit(small_model(), data, split, config(learning_rate=rate), tmp_path)
    assert result.stop_reason == "max_epochs"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"width": np.float64(3)}, r"model\.width must be a plain value.* np\.float64\(3\.0\)"),
        ({"layers": [1, (np.int64(2),)]}, r"model\.layers\[1\]\[0\] must .* of the type int64"),
        ({"head": {1: "linear"}}, r"model\.head must .* of the type dict"),
        ({"kind": nn.ReLU}, r"model\.kind must .* of the type type"),
    ],
)
def test_settings_that_are_no_plain_values_are_refused_before_the_training(
    data, split, tmp_path, settings, why
):
    network = Recorder()
    network.settings = {"name": "mine"} | settings
    with pytest.raises(ValueError, match=why):
        fit(network, data, split, config(), tmp_path / "run")
    assert not network.seen
    assert not (tmp_path / "run").exists()
    network.settings = {"name": "mine", "sizes": (1, 2.0), "more": {"bias": True, "last": None}}
    for _ in range(2):
        fit(network, data, split, config(), tmp_path / "run")


def test_a_run_from_before_there_was_a_choice_of_optimizers_goes_on(data, split, tmp_path):
    fit(small_model(), data, split, config(max_epochs=1), tmp_path)
    state = checkpoint.load_state(tmp_path / "checkpoint.pt")
    del state["identity"]["settings"]["optimizer"]
    checkpoint.save_state(tmp_path / "checkpoint.pt", state)
    fit(small_model(), data, split, config(max_epochs=1), tmp_path, on_epoch=pytest.fail)
    with pytest.raises(ValueError, match=r"settings.optimizer 'adamw' \(now 'muon'\)"):
        fit(small_model(), data, split, config(max_epochs=1, optimizer="muon"), tmp_path)


def test_muon_needs_to_know_the_hidden_matrices(data, split, tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(320, 4))
    with pytest.raises(ValueError, match="a Sequential does not tell which of its weights are"):
        fit(network, data, split, config(optimizer="muon"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_split_of_another_list_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="but the list has 120 configurations"):
        fit(small_model(), data, split_72(500), config(), tmp_path)
    empty = dataclasses.replace(split_72(120), validation=np.arange(0))
    with pytest.raises(ValueError, match="the validation set of split '72' is empty"):
        fit(small_model(), data, empty, config(), tmp_path)


@pytest.mark.parametrize("outputs", [1, 5])
def test_a_network_that_does_not_return_four_numbers_is_refused(data, tmp_path, outputs):
    network = nn.Sequential(nn.Flatten(), nn.Linear(320, outputs))
    message = rf"must return float32 \(B, 4\); for \d+ matrices this one returned \(\d+, {outputs}"
    with pytest.raises(ValueError, match=message):
        fit(network, data, split_72(len(data)), TrainConfig(max_epochs=1, device="cpu"), tmp_path)
    with pytest.raises(ValueError, match=message):
        predict(network, data.matrices[:3], device="cpu")


def test_networks_of_one_s_own_are_told_apart(data, tmp_path):
    def network(*more):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(320, 4), *more)

    split, config = split_72(len(data)), TrainConfig(max_epochs=1, device="cpu")
    fit(network(), data, split, config, tmp_path)
    fit(network(), data, split, config, tmp_path, on_epoch=pytest.fail)  # it is done already
    with pytest.raises(ValueError, match=r"belongs to another run, with model.layers 'Sequential"):
        fit(network(nn.ReLU()), data, split, config, tmp_path)


@pytest.mark.parametrize("batch_size", [0, -5, 2.5])
def test_predict_refuses_batches_of_no_size(data, batch_size):
    with pytest.raises(ValueError, match="batch_size must be a positive integer or None, not"):
        predict(nn.Flatten(), data.matrices[:3], batch_size=batch_size, device="cpu")


def test_predict_is_the_model_on_scaled_matrices_in_any_batches(data):
    model = small_model().train()
    with torch.no_grad():
        expected = model(torch.tensor(data.matrices).float() / 6).numpy()
    for batch_size in (7, 120, 4096):
        output = predict(model, data.matrices, batch_size=batch_size, device="cpu")
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)
    assert predict(model, data.matrices[:0], device="cpu").shape == (0, 4)


@pytest.mark.parametrize(
    "matrices", [np.zeros((2, 16, 20), np.float32), np.zeros((16, 20), np.uint8)]
)
def test_predict_refuses_scaled_or_single_matrices(matrices):
    with pytest.raises(ValueError, match=r"matrices must be uint8 \(N, 16, 20\), not scaled"):
        predict(small_model(), matrices, device="cpu")


def test_a_log_gets_lines_and_no_bar(data, split, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CICY_BATCH", "1")
    fit(small_model(), data, split, config(), tmp_path)
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("epoch 1/4: losses ")
    assert "learning rate 0.01" in lines[0]
    assert lines[-1].startswith("stopped (max_epochs) after 4 epochs; best validation loss ")


def test_a_terminal_gets_a_bar_with_losses(data, split, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "someone_watches", lambda: True)
    monkeypatch.setattr(training.Progress, "BAR_SECONDS", 0.0)
    fit(small_model(), data, split, config(max_epochs=2), tmp_path)
    out, err = capsys.readouterr()
    assert err == ""  # Jupyter shows it in red
    assert "epoch 2/2" in out
    assert "training loss" in out
    *_, blank, last = out.split("\r")
    assert blank.isspace()  # the bar is taken away
    assert last.startswith("stopped (max_epochs) after 2 epochs; best validation loss ")
    assert last.count("\n") == 1
