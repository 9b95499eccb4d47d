"""Trainings of one model that differ in their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cicy_utils import evaluation, models, recipes, records
from cicy_utils.config import TrainConfig
from cicy_utils.data import Cicy4
from cicy_utils.devices import resolve_device
from cicy_utils.retraining import Checkpoint
from cicy_utils.splits import Split
from cicy_utils.training import (
    MOST_SIDE_BY_SIDE,
    FitResult,
    NoResult,
    Run,
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
    limit that came too early keep one seed from having weights, but not the others.

    name, shape: as of ``models.build_model``; config: with any seed; run_dir: of the first seed,
    see ``records.seed_folders``, whose result is returned, without what Ctrl-C has kept from
    having any weights; recipe: the one in ``recipes.RECIPES`` that config follows; start: weights
    to go on from, the same for every seed, instead of fresh ones.

    Raises:
        ValueError, lease.Held: as of ``training.fit``, before anything is trained; or start holds
            another network than the one asked for.
        FloatingPointError, OutOfTime: as of ``training.fit``, when all others are evaluated.
        KeyboardInterrupt: there are no weights of the first seed.
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
        expected["changes"].append(f"started from {start.name}")
    done, failures = {}, []
    for first in range(0, len(runs), at_once):
        group = runs[first : first + at_once]
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
                run.config,
                result,
                run.run_dir,
                notebook=notebook,
                name=recipes.result_name(name, recipe),
                **expected,
                **({"checkpoint": start.name} if start else {}),
            )
        if any(map(_by_hand, outcomes)):
            break
    for failure in failures:
        if seeds[0] not in done or not isinstance(failure, KeyboardInterrupt):
            raise failure
    return done


def _by_hand(outcome: FitResult | NoResult) -> bool:
    """Whether Ctrl-C came during a training."""
    if isinstance(outcome, FitResult):
        return outcome.interrupted
    return isinstance(outcome, KeyboardInterrupt)
