"""From a trained model, or from the list itself, to the record of a run in metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cicy_utils import metrics, records, topology, verification
from cicy_utils.data import Cicy4
from cicy_utils.models import HodgeNetwork, count_weights
from cicy_utils.splits import Split
from cicy_utils.training import FitResult, TrainConfig, predict


def evaluate_run(
    model: HodgeNetwork,
    data: Cicy4,
    split: Split,
    config: TrainConfig,
    result: FitResult,
    run_dir: Path | str,
    *,
    notebook: str,
) -> dict[str, Any]:
    """Predict every part of the split, save predictions and metrics.json, return the latter.

    Parts: train (raw decoding only), validation, test, test_permuted (the test matrices with
    their rows and columns in random order: the same manifolds) and constant (every test
    configuration answered with the most frequent training values). Euler numbers, for the
    decoding relation+chi, are computed from the test matrices, never from the labels.

    model: holding the weights to evaluate; notebook: the one that runs, "11_lstm_448"; the name
    of run_dir is the variant.
    """
    run_dir = Path(run_dir)
    labels = {part: data.hodge[indices] for part, indices in split.parts.items()}
    predictions = {
        part: predict(model, data.matrices[indices], device=config.device)
        for part, indices in split.parts.items()
    }
    for part in ("validation", "test"):
        records.save_predictions(run_dir, part, split.parts[part], predictions[part], labels[part])
    test_matrices = data.matrices[split.test]
    euler = topology.euler_numbers_batch(test_matrices)
    permuted = metrics.permute_matrices(test_matrices, config.seed)
    constant = metrics.constant_prediction(labels["train"], len(split.test))
    tables = {
        "test": metrics.evaluate(predictions["test"], labels["test"], euler),
        "validation": metrics.evaluate(predictions["validation"], labels["validation"]),
        "train": metrics.evaluate(predictions["train"], labels["train"]).loc[["raw"]],
        "test_permuted": metrics.evaluate(
            predict(model, permuted, device=config.device), labels["test"], euler
        ),
        "constant": metrics.evaluate(constant, labels["test"], euler),
    }
    return records.write_metrics(
        run_dir,
        notebook=notebook,
        model=model.name,
        variant=run_dir.name,
        label=records.run_label(len(data), config, result),
        seed=config.seed,
        settings=asdict(config),
        data=data_section(data),
        split={
            "name": split.name,
            "seed": split.seed,
            "sizes": split.sizes,
            "fingerprints": split.fingerprints,
        },
        weights=count_weights(model),
        training={
            "epochs": result.epochs,
            "best_epoch": result.best_epoch,
            "best_validation_loss": result.best_validation_loss,
            "seconds": result.seconds,
            "stop_reason": result.stop_reason,
            "device": result.device,
        },
        metrics={part: table.to_dict(orient="index") for part, table in tables.items()},
        environment=records.environment(),
    )


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
        label=records.run_label(len(data)),
        data=data_section(data),
        statistics=verification.statistics(data),
        faults=verification.label_faults(data),
        splits={
            split.name: {
                "seed": split.seed,
                "sizes": split.sizes,
                "fingerprints": split.fingerprints,
            }
            for split in splits
        },
        environment=records.environment(),
    )
