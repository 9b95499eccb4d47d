"""Trainings of one model that differ in their seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cicy_utils import checkpoint, evaluation, models, places, recipes, records
from cicy_utils.config import TrainConfig
from cicy_utils.data import Cicy4
from cicy_utils.devices import resolve_device
from cicy_utils.retraining import Checkpoint
from cicy_utils.splits import Split
from cicy_utils.training import (
    MOST_SIDE_BY_SIDE,
    Diverged,
    FitResult,
    Run,
    by_hand,
    require_startable,
    try_many,
)


def train(
    name: str,
    data: Cicy4,
    split: Split,
    config: TrainConfig,
    seeds: Sequence[int],
    run_dir: Path | str,
    *,
    notebook: str,
    recipe: str = "paper",
    start: Checkpoint | None = None,
    **shape: Any,
) -> dict[int, Path]:
    """Train a model and evaluate it, once for each seed and in a folder for each.

    On a GPU the trainings run side by side, elsewhere one after the other. Ctrl-C ends those at
    work and lets no other begin; called again, all go on. A loss that is no number and a time
    limit that came too early keep one seed from having weights, but not the others. ``max_hours``
    is the time of all together: when it is up no other begins.

    name, shape: as of ``models.build_model``; config: with any seed; run_dir: of the first seed,
    see ``records.seed_folders``, whose result is returned, without what Ctrl-C or the time limit
    has kept from having any weights; recipe: the one in ``recipes.RECIPES`` that config follows;
    start: weights to go on from, the same for every seed, instead of fresh ones.

    Raises:
        ValueError, lease.Held: as of ``training.fit``, before anything is trained; or start holds
            another network than the one asked for.
        Diverged: as of ``training.fit``, when all others are evaluated.
        OutOfTime, KeyboardInterrupt: there are no weights of the first seed.
    """
    folders = records.seed_folders(run_dir, seeds)
    runs = []
    for seed, folder in folders.items():
        model = models.build_model(name, seed=seed, **shape)
        if start is not None:
            start.copy_to(model)
        before = start and start.trained_on
        runs.append(Run(model, data, split, replace(config, seed=seed), folder, before))
    on_gpu = resolve_device(config.device, config.precision).type == "cuda"
    at_once = MOST_SIDE_BY_SIDE if on_gpu else 1
    require_startable(runs)
    expected = recipes.expected(recipe, name)
    if start is not None:
        expected["changes"].append(start.change)
    allowed = places.training_hours(config.max_hours)
    deadline = math.inf if allowed is None else time.monotonic() + allowed * 3600
    done, failures = {}, []
    for first in range(0, len(runs), at_once):
        group = runs[first : first + at_once]
        if first and deadline < math.inf:
            group = _within(deadline - time.monotonic(), group)
        outcomes = try_many(group)
        for run, result in zip(group, outcomes, strict=True):
            if not isinstance(result, FitResult):
                failures.append(result)
                continue
            done[run.config.seed] = run.run_dir
            evaluation.evaluate_run(
                run.model,
                data,
                split,
                replace(run.config, max_hours=config.max_hours),  # not what was left of it
                result,
                run.run_dir,
                notebook=notebook,
                name=recipes.result_name(name, recipe),
                **expected,
                **({"checkpoint": start.name} if start else {}),
            )
        if any(map(by_hand, outcomes)):
            break
    for failure in failures:
        if seeds[0] not in done or isinstance(failure, Diverged):
            raise failure
    return done


def _within(seconds: float, runs: Sequence[Run]) -> list[Run]:
    """The runs with what is left of the time as their limit.

    Without any, what has begun may have a result, and takes a step at most; no other begins.
    """
    waiting = []
    if seconds <= 0:
        waiting = [r.run_dir for r in runs if not (r.run_dir / checkpoint.STATE_FILE).exists()]
    if waiting:
        names = ", ".join(folder.name for folder in waiting)
        how = places.how_to_go_on() or "run this again to go on"
        print(f"there is no time left to begin {names}; {how}", flush=True)
    hours = max(seconds, 0.001) / 3600  # a limit is not 0
    return [
        replace(run, config=replace(run.config, max_hours=hours))
        for run in runs
        if run.run_dir not in waiting
    ]
