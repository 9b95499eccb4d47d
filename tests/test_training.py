import dataclasses
import time

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from cicy_utils import checkpoint, training
from cicy_utils.data import Cicy4
from cicy_utils.models import build_model
from cicy_utils.splits import split_72
from cicy_utils.training import FitResult, TrainConfig, fit, predict


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
    written = pd.read_csv(tmp_path / "history.csv")
    pd.testing.assert_frame_equal(written, history, check_exact=True)
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
        error = np.abs(output[indices].astype(float) - data.hodge[indices])
        huber = np.where(error < 1, error**2 / 2, error - 0.5).mean()
        assert result.history[column].item() == pytest.approx(huber, rel=1e-5)


def test_every_epoch_sees_every_training_configuration_once(data, split, tmp_path):
    """Fed to a model that records its inputs, in another order each epoch."""
    seen = []

    class Recorder(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(4))

        def forward(self, inputs):
            if self.training:
                seen.append(inputs)
            return self.bias.expand(len(inputs), 4)

    fit(Recorder(), data, split, config(max_epochs=2), tmp_path)
    assert [len(batch) for batch in seen] == [32, 32, 22] * 2
    epochs = torch.stack([torch.cat(seen[:3]), torch.cat(seen[3:])])
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
    monkeypatch.setattr(training, "train_epoch", lambda *_: pytest.fail("trained again"))
    fresh = small_model(seed=99)
    again = fit(fresh, data, split, config(max_hours=3), tmp_path)
    same_result(result, again)
    assert again.stop_reason == "max_epochs"
    assert again.seconds == result.seconds
    assert same_weights(model.state_dict(), fresh.state_dict())
    assert (tmp_path / "history.csv").is_file()


def test_the_time_limit_stops_after_an_epoch_and_the_next_call_goes_on(data, split, tmp_path):
    model = small_model()
    lengths = []
    for _ in range(3):
        result = fit(model, data, split, config(max_epochs=3, max_hours=1e-12), tmp_path)
        lengths.append((result.epochs, result.stop_reason))
    assert lengths == [(1, "time_limit"), (2, "time_limit"), (3, "max_epochs")]
    same_result(fit(small_model(), data, split, config(max_epochs=3), tmp_path / "w"), result)


def scripted_validation(monkeypatch, losses):
    values = iter(losses)
    monkeypatch.setattr(training, "validate", lambda *_: next(values))


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


def test_a_diverging_model_is_stopped(data, split, tmp_path):
    model = small_model()
    with torch.no_grad():
        model.head[1].bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="training loss became nan in epoch 1"):
        fit(model, data, split, config(), tmp_path)
    assert list(tmp_path.iterdir()) == []


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


def test_a_split_of_another_list_is_refused(data, tmp_path):
    with pytest.raises(ValueError, match="but the list has 120 configurations"):
        fit(small_model(), data, split_72(500), config(), tmp_path)
    empty = dataclasses.replace(split_72(120), validation=np.arange(0))
    with pytest.raises(ValueError, match="the validation set of split '72' is empty"):
        fit(small_model(), data, empty, config(), tmp_path)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", "0.01"),
        ("batch_size", 0),
        ("batch_size", 12.5),
        ("max_epochs", True),
        ("patience", -1),
        ("plateau_factor", 1.0),
        ("plateau_patience", None),
        ("min_learning_rate", -1e-8),
        ("seed", -1),
        ("device", "gpu"),
        ("device", 0),
        ("precision", "bf16"),
        ("max_hours", 0),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"^{setting} must be"):
        TrainConfig(**{setting: value})


def test_the_defaults_are_the_papers_and_unknown_settings_are_errors():
    assert dataclasses.asdict(TrainConfig()) == {
        "learning_rate": 0.01,
        "batch_size": 128,
        "max_epochs": 550,
        "patience": 20,
        "plateau_factor": 0.1,
        "plateau_patience": 10,
        "min_learning_rate": 1e-8,
        "seed": 42,
        "device": "auto",
        "precision": "float32",
        "max_hours": None,
    }
    with pytest.raises(TypeError, match="learning_rat"):
        TrainConfig(learning_rat=0.1)


def test_devices_that_are_not_here_are_refused():
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ValueError, match=rf"device '{missing}' is not to be had here"):
        training.resolve_device(missing)
    with pytest.raises(ValueError, match="precision 'tf32' needs an Ampere GPU"):
        training.resolve_device("cpu", "tf32")
    assert training.resolve_device("cpu").type == "cpu"


def test_precision_is_set_for_every_product_and_set_back():
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    for name, setting in (("float32", "ieee"), ("tf32", "tf32")):
        with training.matrix_precision(name):
            assert [backend.fp32_precision for backend in backends] == [setting] * 3
        assert [backend.fp32_precision for backend in backends] == before


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


def test_a_long_epoch_gives_signs_of_life(capsys, monkeypatch):
    monkeypatch.setenv("CICY_BATCH", "1")
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with training.Progress(config()) as progress:
        progress.start(3, 10)
        due = [progress.step() for _ in range(5)]
        progress.say("training loss 0.5 so far")
        assert not progress.step()
    assert due == [False, False, True, True, True]
    line = capsys.readouterr().out
    assert line.startswith("epoch 3/4, step 5 of 10: training loss 0.5 so far, about ")


def test_a_terminal_gets_a_bar_with_losses(data, split, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "someone_watches", lambda: True)
    monkeypatch.setattr(training.Progress, "BAR_SECONDS", 0.0)
    fit(small_model(), data, split, config(max_epochs=2), tmp_path)
    out, err = capsys.readouterr()
    assert "epoch 2/2" in err
    assert "training loss" in err
    assert out.startswith("stopped (max_epochs)")
