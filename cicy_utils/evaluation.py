"""From a trained model, or from the list itself, to the record of a run in metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cicy_utils import (
    metrics,
    models,
    provenance,
    recipes,
    records,
    steps,
    topology,
    verification,
)
from cicy_utils.config import PAPER_RECIPE, TrainConfig
from cicy_utils.data import Cicy4
from cicy_utils.models import HodgeNetwork
from cicy_utils.splits import Split
from cicy_utils.training import FitResult, predict

SAVED = ("train", "validation", "test", "out_of_fold")  # parts whose predictions go to files
UNSEEN = ("validation", "out_of_fold")  # parts that tell how far off a model is, the better first
# Predictions, float32 (n, 4), and the covariance of their residuals, float64 (4, 4), or None.
Answers = tuple[np.ndarray, np.ndarray | None]


def evaluate_run(
    model: HodgeNetwork,
    data: Cicy4,
    split: Split,
    config: TrainConfig,
    result: FitResult,
    run_dir: Path | str,
    *,
    notebook: str,
    name: str | None = None,
    parts: Mapping[str, np.ndarray] | None = None,
    recipe: Mapping[str, Any] = PAPER_RECIPE,
    layout: str = recipes.PAPER.layout,
    changes: Sequence[str] = (),
    retrained: bool = False,
    answers: Mapping[str, Answers] | None = None,
    **sections: Any,
) -> dict[str, Any]:
    """Predict every part of the split, save predictions and metrics.json, return the latter.

    Parts: train (raw decoding only), validation, test, test_permuted (the test matrices with
    their rows and columns in random order: the same manifolds) and constant (every test
    configuration answered with the most frequent training values). Euler numbers, for the
    decodings relation+chi and consistent, are computed from the test matrices, never from the
    labels; the covariance for the latter is that of the residuals on configurations that were not
    trained on (those of the validation set or, of a fold, of its own part, out_of_fold, which then
    is measured, too), and kept in the section "residuals".

    Args:
        model: holding the weights to evaluate.
        data, split, config, result, run_dir: as of ``training.fit``; the name of run_dir is the
            variant.
        notebook: the one that runs, "11_lstm_448".
        name: of the result in the paper, "LSTM-448-f1", where it is not that of the architecture.
        parts: name to indices, where they are not those of the split.
        recipe, changes: as of ``provenance.run_label``.
        layout: of the matrices, by the recipe.
        retrained: whether the training went on from a checkpoint of another split.
        answers: for the test set, that are to be measured besides.
        sections: of metrics.json, that it is to have besides.
    """
    changes = [*changes, *recipes.other_layout(data.layout, layout), *models.changes(model)]
    label = provenance.run_label(len(data), config, result, recipe=recipe, changes=changes)
    training = {
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "best_validation_loss": result.best_validation_loss,
        "seconds": result.seconds,
        "stop_reason": result.stop_reason,
        "device": result.device,
    }
    if retrained:
        training["retrained"] = True
    return record_model(
        model,
        data,
        split,
        run_dir,
        parts=parts or split.parts,
        notebook=notebook,
        name=name or model.name,
        label=label,
        settings=asdict(config),
        training=training,
        answers=answers,
        **sections,
    )


def record_model(
    model: HodgeNetwork,
    data: Cicy4,
    split: Split,
    run_dir: Path | str,
    *,
    parts: Mapping[str, np.ndarray],
    notebook: str,
    name: str,
    label: str,
    settings: dict[str, Any],
    training: dict[str, Any],
    residuals: dict[str, Any] | None = None,
    answers: Mapping[str, Answers] | None = None,
    **sections: Any,
) -> dict[str, Any]:
    """Predict and measure these parts of the list; what ``evaluate_run`` and retraining share.

    A validation set that the weights were trained on validates nothing: its predictions are
    saved, but it has no metrics. The section "seen" counts such configurations in every part.

    residuals: what is known from elsewhere of how far off these weights are, in the form of
    ``residual_section``; it is used where they were trained on the validation set, and on what
    was kept out of their fold. Without it there is then no decoding "consistent".
    answers: for the test set, that are to be measured besides, see ``measure``.

    Raises:
        ValueError: the weights were trained on test configurations.
        FileNotFoundError: run_dir does not tell what they were trained on.
    """
    run_dir, seed, device = Path(run_dir), settings["seed"], settings["device"]
    trained_on = records.load_trained_on(run_dir)
    records.require_unseen(trained_on, parts["test"], data, who=name)
    seen = {part: trained_on.count(indices) for part, indices in parts.items()}
    # Killed from here on, a run has not finished: no record of before stands beside new answers.
    (run_dir / records.METRICS_FILE).unlink(missing_ok=True)

    tables = {}
    labels = {part: data.hodge[indices] for part, indices in parts.items()}
    predictions = {}
    for part, indices in parts.items():
        predictions[part] = predict(model, data.matrices[indices], device=device)
        if part in SAVED:
            records.save_predictions(run_dir, part, indices, predictions[part], labels[part])
        if part == "train":
            tables[part] = _rows(metrics.evaluate(predictions[part], labels[part]).loc[["raw"]])
        elif part != "test" and not seen[part]:
            tables[part] = _rows(metrics.evaluate(predictions[part], labels[part]))

    unseen = next((part for part in UNSEEN if part in parts and not seen[part]), None)
    if unseen:
        residuals = residual_section(unseen, predictions[unseen], labels[unseen])
    covariance = residuals and np.array(residuals["covariance"])
    matrices = steps.permute_matrices(data.matrices[parts["test"]], seed)
    every = {
        "test": (predictions["test"], covariance),
        "test_permuted": (predict(model, matrices, device=device), covariance),
        "constant": _constant(labels, unseen or UNSEEN[0]),
        **(answers or {}),
    }
    tables |= measure(data, parts["test"], every)

    architecture = {} if name == model.name else {"architecture": model.name}
    return records.write_metrics(
        run_dir,
        notebook=notebook,
        model=name,
        **architecture,
        variant=run_dir.name,
        label=label,
        seed=seed,
        settings=settings,
        data=data_section(data),
        split=split_section(split),
        seen=seen,
        weights=models.count_weights(model),
        training=training,
        residuals=residuals,
        metrics=tables,
        environment=provenance.environment(),
        **sections,
    )


def measure(
    data: Cicy4,
    indices: np.ndarray,
    answers: Mapping[str, Answers],
) -> dict[str, dict[str, dict[str, float]]]:
    """Metrics of several answers for the same configurations, in all decodings that are possible.

    Euler numbers are computed from the matrices, once.

    Args:
        data: the list.
        indices: (n,), the configurations.
        answers: by name.

    Returns:
        Name to decoding to measure, as of ``metrics.evaluate``.
    """
    labels, euler = data.hodge[indices], topology.euler_numbers_batch(data.matrices[indices])
    return {
        name: _rows(metrics.evaluate(predictions, labels, euler, covariance))
        for name, (predictions, covariance) in answers.items()
    }


def _rows(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    return table.to_dict(orient="index")


def _constant(labels: Mapping[str, np.ndarray], unseen: str) -> tuple[np.ndarray, np.ndarray]:
    """The constant prediction for the test set, and the covariance of its own residuals."""
    constant = {
        part: metrics.constant_prediction(labels["train"], len(labels[part]))
        for part in (unseen, "test")
    }
    return constant["test"], metrics.residual_covariance(constant[unseen], labels[unseen])


def residual_section(part: str, predictions: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What metrics.json says of how far off a model is on configurations it has not seen.

    part: where that was measured; covariance: as of ``metrics.residual_covariance``, in the order
    h11, h21, h31, h22.
    """
    return {
        "part": part,
        "configurations": len(labels),
        "covariance": metrics.residual_covariance(predictions, labels).tolist(),
    }


def split_section(split: Split) -> dict[str, Any]:
    """What metrics.json says of the split that a run was trained and judged by."""
    return {
        "name": split.name,
        "seed": split.seed,
        "sizes": split.sizes,
        "fingerprints": split.fingerprints,
    }


def data_section(data: Cicy4) -> dict[str, Any]:
    """What metrics.json says of the configurations a run drew from the list."""
    whole = len(data) == records.LIST_SIZE
    return {
        "source": data.source,
        "layout": data.layout,
        "subset": None if whole else len(data),
        "fingerprint": data.fingerprint,
        "configurations": len(data),
    }


def record_list(data: Cicy4, splits: Sequence[Split], run_dir: Path | str) -> dict[str, Any]:
    """Write metrics.json of the data notebook and return it.

    Besides the sections that every run has: statistics, faults (both as in
    `cicy_utils.verification`), and splits with the seed, sizes and fingerprints of each.
    """
    return records.write_metrics(
        run_dir,
        notebook="00_data",
        variant=Path(run_dir).name,
        label=provenance.run_label(len(data)),
        data=data_section(data),
        statistics=verification.statistics(data),
        faults=verification.label_faults(data),
        splits={split.name: split_section(split) for split in splits},
        environment=provenance.environment(),
    )
