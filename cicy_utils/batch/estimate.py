"""How long a run may take and what it may leave on the disk, from a few timed training steps."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cicy_utils import devices, models, optimizers, recipes, splits, steps
from cicy_utils.batch.tasks import Task
from cicy_utils.config import TrainConfig
from cicy_utils.data import SHAPE, Cicy4
from cicy_utils.durations import duration
from cicy_utils.records import LIST_SIZE

NOTEBOOK_SECONDS = 20  # kernel, imports, the list, figures and HTML of one notebook
NOTEBOOK_BYTES = 4e6
FORWARD_SHARE = 1 / 4  # of the time of a training step
FILLED = 0.07  # share of the entries of the list's matrices that are not zero
TIMED_STEPS = 10
BYTES_PER_WEIGHT = 4  # in weights.safetensors
# Of the weights in checkpoint.pt: these, the best ones, and two moments, though Muon has one only.
COPIES = 4
BYTES_PER_PREDICTION = 8 + 4 * 4 + 4 * 2


@dataclass(frozen=True)
class Estimate:
    """An upper bound, since a training may converge before its last epoch.

    Attributes:
        seconds: of all notebooks together; None where they run elsewhere.
        bytes: on the disk.
        device: where the timed steps ran; "" when there is nothing to train here.
    """

    seconds: float | None
    bytes: float
    device: str

    def __str__(self) -> str:
        if self.seconds is None:
            return (
                f"at most about {self.bytes / 1e6:,.0f} MB of disk; the time is up to the workers"
            )
        text = f"at most about {duration(self.seconds)} and {self.bytes / 1e6:,.0f} MB of disk"
        return (
            f"{text}, from {TIMED_STEPS} training steps on {self.device}" if self.device else text
        )


def estimate(tasks: Sequence[Task], *, here: bool = True) -> Estimate:
    """Time and disk of tasks that have yet to run.

    The largest network is timed, of graph networks and of all others; the time of the rest of its
    kind goes by their number of weights, each of which is used equally often. Where the tasks do
    not run here, nothing is timed: this machine may have no such device. Another list is taken to
    be as long as the complete one, if a task takes all of it.

    Raises:
        ValueError: a task asks for a network that cannot be built.
    """
    seconds = NOTEBOOK_SECONDS * len(tasks)
    size = NOTEBOOK_BYTES * len(tasks)
    trained = [task for task in tasks if task.model]
    if not trained:
        return Estimate(seconds if here else None, size, "")
    weights = {task.run_dir: models.count_weights(_network(task)) for task in trained}
    per_second = {}  # how many weights a kind uses
    for kind in {_is_graph(task) for task in trained} if here else ():
        alike = (task for task in trained if _is_graph(task) == kind)
        timed = max(alike, key=lambda task: weights[task.run_dir])
        rate, device = samples_per_second(timed)
        per_second[kind] = rate * weights[timed.run_dir]
    for task in trained:
        subset = task.settings["SUBSET"]
        n = LIST_SIZE if subset is None else subset
        split = splits.split_80 if task.settings.get("RETRAIN") else splits.split_72
        parts = split(n).sizes  # whatever the seed
        passes = (parts["train"] + parts["validation"] * FORWARD_SHARE) * _recipe(task).max_epochs
        if trials := task.settings.get("TRIALS"):  # of a scan, which keeps one checkpoint at a time
            trainings, checkpoints, predicted = trials, 1, 0
        else:  # each seed's model predicts every part once, and the test set permuted, too
            trainings = checkpoints = len(task.folders)
            passes += (n + parts["test"]) * FORWARD_SHARE
            predicted = trainings * n
        if here:
            needed = trainings * passes * weights[task.run_dir] / per_second[_is_graph(task)]
            hours = task.settings.get("MAX_HOURS") or math.inf  # of each training
            seconds += min(needed, 3600 * hours * trainings)
        copies = trainings + checkpoints * COPIES
        size += copies * weights[task.run_dir] * BYTES_PER_WEIGHT
        size += predicted * BYTES_PER_PREDICTION
    return Estimate(seconds, size, device) if here else Estimate(None, size, "")


def samples_per_second(task: Task) -> tuple[float, str]:
    """Configurations that a few training steps of a task's model take in per second, and where."""
    settings, batch_size = task.settings, _recipe(task).batch_size
    device = devices.resolve_device(settings["DEVICE"], settings["PRECISION"])
    random = np.random.default_rng(0)
    matrices = (random.random((batch_size, *SHAPE)) < FILLED).astype(np.uint8)
    hodge = np.zeros((batch_size, 4), dtype=np.int16)
    source = steps.to_device(Cicy4(matrices, hodge, "timing", "stored", ""), device)
    batch = torch.arange(batch_size, device=device)
    with devices.matrix_precision(settings["PRECISION"]):
        model = _network(task).to(device)
        optimizer = optimizers.build(_recipe(task).optimizer, model, weight_decay=0.0)
        loss = steps.HodgeLoss().to(device)
        step = steps.TrainStep(model, source, loss, optimizer, precision=settings["PRECISION"])
        take = steps.fastest_step(step, batch_size)
        take(batch)  # the first one also sets up
        seconds = []
        for _ in range(TIMED_STEPS):
            started = time.perf_counter()
            take(batch)
            step.total.item()  # a GPU is done when this is here
            seconds.append(time.perf_counter() - started)
    # The median: a step during which another program had the processor says nothing.
    return batch_size / float(np.median(seconds)), devices.device_name(device)


def _network(task: Task) -> models.HodgeNetwork:
    """Of a task; the largest that a scan may try."""
    settings = task.settings
    layers = max(settings["LAYERS"]) if "LAYERS" in settings else settings.get("NUM_LAYERS")
    return models.build_model(
        task.model,
        hidden_size=settings.get("HIGHEST_HIDDEN", settings.get("HIDDEN_SIZE")),
        num_layers=layers,
        bidirectional=settings.get("BIDIRECTIONAL"),
    )


def _is_graph(task: Task) -> bool:
    return models.MODELS[task.model].block == "graph"


def _recipe(task: Task) -> TrainConfig:
    """How a task trains, with what its recipe says where its parameters are None."""
    settings = task.settings
    return recipes.config(
        settings.get("RECIPE", "paper"),
        task.model,
        batch_size=settings["BATCH_SIZE"],
        max_epochs=settings["MAX_EPOCHS"],
        others=settings.get("SETTINGS"),
    )
