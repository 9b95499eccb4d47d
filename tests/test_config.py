"""Settings of a training."""

import dataclasses
import json

import numpy as np
import pytest

from cicy_utils.config import NOT_NEGATIVE, POSITIVE, TrainConfig, recipe_of


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
        ("save_minutes", 0),
        ("schedule", "cosine"),
        ("optimizer", "sgd"),
        ("weight_decay", -0.1),
        ("clip_norm", 0),
        ("huber_delta", 0),
        ("averaging", 1.0),
        ("scale_targets", 1),
        ("shuffle", None),
        ("shuffle", 1),
        ("shuffle", "tie"),
        ("loss_weights", (1, 1, 1)),
        ("loss_weights", 2.0),
        ("loss_weights", (0, 0, 0, 0)),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"^{setting} must "):
        TrainConfig(**{setting: value})


def test_the_defaults_are_the_papers_and_unknown_settings_are_errors():
    assert dataclasses.asdict(TrainConfig()) == {
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "batch_size": 128,
        "max_epochs": 550,
        "patience": 20,
        "schedule": "plateau",
        "plateau_factor": 0.1,
        "plateau_patience": 10,
        "min_learning_rate": 1e-8,
        "weight_decay": 0.01,
        "clip_norm": None,
        "scale_targets": False,
        "huber_delta": 1.0,
        "loss_weights": (1.0, 1.0, 1.0, 1.0),
        "averaging": 0.0,
        "shuffle": False,
        "seed": 42,
        "device": "auto",
        "precision": "float32",
        "max_hours": None,
        "save_minutes": 10.0,
    }
    with pytest.raises(TypeError, match="learning_rat"):
        TrainConfig(learning_rat=0.1)


def test_integers_of_numpy_become_plain_ones():
    assert type(TrainConfig(max_epochs=np.int64(5)).max_epochs) is int


def test_numbers_become_floats_of_python():
    names = [*POSITIVE, *NOT_NEGATIVE]
    halves, weights = dict.fromkeys(names, np.float64(0.5)), [1, np.float64(1), 2, 8]
    config = TrainConfig(**halves, loss_weights=weights)
    assert {type(getattr(config, name)) for name in names} == {float}
    assert {type(weight) for weight in config.loss_weights} == {float}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"weight_decay": 0}, {"weight_decay": 0.0}),
        ({"loss_weights": [1, 1, 1, 1]}, {}),
        ({"loss_weights": (1, 1, 2, 8)}, {"loss_weights": (1.0, 1.0, 2.0, 8.0)}),
    ],
)
def test_equal_settings_are_told_alike(one, other):
    one, other = (json.dumps(dataclasses.asdict(TrainConfig(**given))) for given in (one, other))
    assert one == other


def test_a_recipe_saved_with_integers_is_that_of_floats():
    saved = {"loss_weights": [1, 1, 2, 8], "weight_decay": 0, "clip_norm": None, "seed": 7}
    config = TrainConfig(loss_weights=(1, 1, 2, 8), weight_decay=0)
    told = recipe_of(dataclasses.asdict(config))
    assert json.dumps(recipe_of(saved)) == json.dumps(told)
    assert told["loss_weights"] == [1, 1, 2, 8]
    assert told["shuffle"] is False
    assert told["clip_norm"] is None
