"""The estimate of a batch: which networks are timed, and what follows for the others."""

from pathlib import Path

import pytest

from cicy_utils import optimizers
from cicy_utils.batch import estimate, tasks
from cicy_utils.models import build_model, count_weights

ROOT = Path(__file__).resolve().parents[1]
RATE = 50.0  # configurations a second


@pytest.fixture
def timed(monkeypatch):
    """The tasks whose steps are timed, each of which takes equally long."""
    found = []

    def samples_per_second(task):
        found.append(task)
        return RATE, "some device"

    monkeypatch.setattr(estimate, "samples_per_second", samples_per_second)
    return found


def plan(folder: Path, *only: str, **overrides: object) -> list[tasks.Task]:
    given = {"SUBSET": 1000, "MAX_EPOCHS": 10} | overrides
    overrides = {name: str(value) for name, value in given.items()}  # as on a command line
    return tasks.plan("paper", folder, ROOT / "notebooks", only=only, overrides=overrides)


def test_the_largest_of_each_kind_is_timed(tmp_path, timed):
    planned = plan(tmp_path, "09", "12", "18")
    found = estimate.estimate(planned)
    assert sorted(task.model for task in timed) == ["Graph-64", "LSTM-456"]
    # 720 configurations to train on and 80 to validate; then all, and the test set once more.
    passes = 10 * (720 + 80 / 4) + (1000 + 200) / 4
    small, large = (count_weights(build_model(name)) for name in ("LSTM-400", "LSTM-456"))
    trainings = passes / RATE * (small / large + 1 + 1)
    assert found.seconds == pytest.approx(3 * estimate.NOTEBOOK_SECONDS + trainings)
    assert str(found).endswith("from 10 training steps on some device")


def test_a_training_takes_no_longer_than_its_time_limit(tmp_path, timed):
    one, two = ([42], [42, 43])
    for seeds, trainings in ((one, 1), (two, 2)):
        limited = plan(tmp_path, "12", MAX_EPOCHS=10_000, MAX_HOURS=0.5, SEEDS=seeds)
        found = estimate.estimate(limited)
        assert found.seconds == pytest.approx(estimate.NOTEBOOK_SECONDS + trainings * 1800)
    short = estimate.estimate(plan(tmp_path, "12", MAX_HOURS=0.5)).seconds
    assert short == estimate.estimate(plan(tmp_path, "12")).seconds


@pytest.mark.parametrize("chosen", ["adamw", "muon"])
def test_steps_are_timed_with_the_optimizer_asked_for(tmp_path, monkeypatch, chosen):
    built, build = [], optimizers.build
    monkeypatch.setattr(optimizers, "build", lambda *a, **k: built.append(a[0]) or build(*a, **k))
    settings = {"HIDDEN_SIZE": 8, "SETTINGS": {"optimizer": chosen}}
    (task,) = plan(tmp_path, "18", BATCH_SIZE=4, DEVICE="cpu", **settings)
    estimate.samples_per_second(task)
    assert built == [chosen]


@pytest.mark.parametrize(
    ("number", "shape", "network"),
    [
        ("12", {}, {}),
        ("12", {"HIDDEN_SIZE": 16}, {"hidden_size": 16}),
        ("12", {"NUM_LAYERS": 3, "BIDIRECTIONAL": True}, {"num_layers": 3, "bidirectional": True}),
    ],
)
def test_weights_are_those_of_the_network_asked_for(tmp_path, timed, number, shape, network):
    found = estimate.estimate(plan(tmp_path, number, **shape))
    weights = count_weights(build_model("LSTM-456", **network))
    # In weights.safetensors; in checkpoint.pt with the best ones and two moments of AdamW.
    files = estimate.NOTEBOOK_BYTES + 1000 * estimate.BYTES_PER_PREDICTION
    assert found.bytes == weights * 4 * 5 + files


@pytest.mark.parametrize(
    ("shape", "network"),
    [
        ({}, {"hidden_size": 512}),
        ({"HIGHEST_HIDDEN": 296, "LAYERS": [1, 3]}, {"hidden_size": 296, "num_layers": 3}),
    ],
)
def test_a_scan_keeps_one_checkpoint_and_predicts_nothing(tmp_path, timed, shape, network):
    (task,) = plan(tmp_path, "16", MODEL="LSTM-456", TRIALS=7, **shape)
    found = estimate.estimate([task])
    weights = count_weights(build_model("LSTM-456", **network))
    assert found.bytes == estimate.NOTEBOOK_BYTES + weights * 4 * (7 + 4)
    passes = 10 * (720 + 80 / 4)
    assert found.seconds == pytest.approx(estimate.NOTEBOOK_SECONDS + 7 * passes / RATE)


def test_what_is_not_trained_takes_its_notebook_s_time(tmp_path, timed):
    found = estimate.estimate(tasks.plan("paper", tmp_path, ROOT / "notebooks", only=["17"]))
    assert (found.seconds, found.bytes) == (estimate.NOTEBOOK_SECONDS, estimate.NOTEBOOK_BYTES)
    assert not timed
    assert "steps" not in str(found)


def test_a_network_that_cannot_be_built_is_refused(tmp_path):
    with pytest.raises(ValueError, match="hidden_size"):
        estimate.estimate(plan(tmp_path, "12", HIDDEN_SIZE=0))


def test_what_runs_elsewhere_is_not_timed(tmp_path, timed):
    there = plan(tmp_path, "12", "18", DEVICE="cuda:9", PRECISION="tf32")
    found = estimate.estimate(there, here=False)
    assert not timed
    assert found.bytes == estimate.estimate(plan(tmp_path, "12", "18")).bytes
    assert str(found).endswith("MB of disk; the time is up to the workers")


def test_the_80_percent_split_is_larger(tmp_path, timed):
    (task,) = plan(tmp_path, "14", MODEL="LSTM-424", RETRAIN=True)
    passes = 10 * (800 + 80 / 4) + (1000 + 120) / 4
    found = estimate.estimate([task])
    assert found.seconds == pytest.approx(estimate.NOTEBOOK_SECONDS + passes / RATE)
