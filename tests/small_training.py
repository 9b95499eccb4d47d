"""A training of a second or two, for processes that are killed in the middle of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # which an optimizer would import in every process anew

from cicy_utils import files
from cicy_utils.data import Cicy4, fingerprint
from cicy_utils.models import build_model
from cicy_utils.splits import split_72
from cicy_utils.training import TrainConfig, fit

N = 160
COMMON = {"batch_size": 32, "device": "cpu", "max_epochs": 6, "learning_rate": 0.003}
EVERY_STEP = 1e-9  # minutes between two saves
RECIPES = {
    "plateau": {"patience": 2, "plateau_patience": 0},
    "one-cycle": {
        "optimizer": "muon",
        "schedule": "one-cycle",
        "averaging": 0.9,
        "shuffle": True,
        "scale_targets": True,
        "clip_norm": 1.0,
    },
}


def small_list() -> Cicy4:
    """Matrices and numbers that mean nothing."""
    random = np.random.default_rng(0)
    matrices = random.integers(0, 2, (N, 16, 20), dtype=np.uint8)
    hodge = random.integers(0, 9, (N, 4)).astype(np.int16)
    return Cicy4(matrices, hodge, "small", "stored", fingerprint(matrices, hodge))


def train(folder: Path, recipe: str, save_minutes: float = EVERY_STEP, die_at: int = 0) -> None:
    """Train, or go on, in this process.

    die_at: which of the moments in which files change is the last one; 0 for none.
    """
    torch.set_num_threads(1)
    if die_at:
        _die_at(die_at)
    data = small_list()
    config = TrainConfig(**COMMON, **RECIPES[recipe], save_minutes=save_minutes)
    model = build_model("LSTM-448", hidden_size=4, seed=1)
    fit(model, data, split_72(len(data)), config, folder)


def _die_at(moment: int) -> None:
    """Kill this process at its n-th flush or renaming of a file: half of them just before it."""
    left = moment

    def deadly(real):
        def call(*args, **options):
            nonlocal left
            left -= 1
            if left == 0 and moment % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*args, **options)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return call

    files.os = _Os(fsync=deadly(os.fsync), replace=deadly(os.replace))


class _Os:
    """The module os with other functions, for one module only."""

    def __init__(self, **functions):
        self.__dict__.update(functions)

    def __getattr__(self, name):
        return getattr(os, name)
