"""Five folds of one model, put together again (arXiv 2405.17406, section 6).

Each fold is trained by itself, in a folder of its own, results/<run>/<notebook>/fold-<number>/.
What is out of fold, the piece that a fold was not trained on, differs from fold to fold: together
the five pieces are training and validation set of the 72 % split, each configuration predicted
once, by a model that has not seen it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cicy_utils import recipes, records
from cicy_utils.config import TrainConfig, recipe_of
from cicy_utils.data import Cicy4
from cicy_utils.evaluation import evaluate_run
from cicy_utils.models import build_model
from cicy_utils.records import METRICS_FILE, Predictions
from cicy_utils.splits import Split, split_of
from cicy_utils.training import fit


def result_name(model: str, fold: int, recipe: str = "paper") -> str:
    """The paper's name of a model trained on a fold, "LSTM-448-f1"; "LSTM-448-f1-fast"."""
    return recipes.result_name(f"{model}-f{fold}", recipe)


def parts(fold: Split, old: Split) -> dict[str, np.ndarray]:
    """What a fold is measured on, by name, as indices.

    train; out_of_fold, the piece kept out of it; validation, that of the 72 % split it is cut from,
    all of which every fold but the last was trained on; test, the same as there.
    """
    return {
        "train": fold.train,
        "out_of_fold": fold.validation,
        "validation": old.validation,
        "test": fold.test,
    }


def train_fold(
    name: str,
    number: int,
    data: Cicy4,
    config: TrainConfig,
    run_dir: Path | str,
    *,
    notebook: str,
    split_seed: int | None = 42,
    recipe: str = "paper",
    **shape: Any,
) -> dict[str, Any]:
    """Train a model on one fold, evaluate it and return its record.

    name, shape: as of ``models.build_model``; number: of the fold, 0 to 4; split_seed: as of
    ``splits.split_of``; recipe: the one in ``recipes.RECIPES`` that config follows.

    Raises:
        ValueError: there is no fold of that number.
    """
    split = split_of(data, f"fold-{number}", seed=split_seed)
    model = build_model(name, seed=config.seed, **shape)
    result = fit(model, data, split, config, run_dir)
    return evaluate_run(
        model,
        data,
        split,
        config,
        result,
        run_dir,
        parts=parts(split, split_of(data, "72", seed=split_seed)),
        notebook=notebook,
        name=result_name(name, number, recipe),
        **recipes.expected(recipe, name),
    )


def finished(run_dir: Path | str) -> dict[Path, dict[str, Any]]:
    """The folds beside this one that are done, itself among them: folder to record, in order.

    Folds of another model, list, split or recipe are left out, and so is another run of this fold.
    """
    run_dir = Path(run_dir)
    own = records.read_metrics(run_dir)
    found = {int(own["split"]["name"][-1]): (run_dir, own)}
    for path in sorted(run_dir.parent.glob(f"fold-*/{METRICS_FILE}")):
        record = records.found_metrics(path.parent)
        if "model" in record and _kind(record) == _kind(own):
            found.setdefault(int(record["split"]["name"][-1]), (path.parent, record))
    return dict(found[fold] for fold in sorted(found))


def out_of_fold(folders: list[Path]) -> Predictions:
    """The predictions of several folds, each for the piece that it was not trained on.

    Raises:
        ValueError: a configuration is out of fold twice, or a fold was trained on one.
    """
    pieces = [records.load_predictions(folder, "out_of_fold") for folder in folders]
    for folder, piece in zip(folders, pieces, strict=True):
        if seen := records.load_trained_on(folder).count(piece.indices):
            raise ValueError(f"{folder} was trained on {seen} configurations called out of fold")
    together = Predictions(*map(np.concatenate, zip(*pieces, strict=True)))
    if len(np.unique(together.indices)) < len(together.indices):
        raise ValueError(f"some configurations are out of fold twice in {folders[0].parent}")
    return together


def _kind(record: dict[str, Any]) -> tuple:
    """What the folds of one cross-validation share."""
    data, split = record["data"], record["split"]
    return (
        record.get("architecture"),
        record["weights"],
        data["fingerprint"],
        data["layout"],
        split["seed"],
        split["fingerprints"]["test"],
        records.settings_fingerprint(recipe_of(record["settings"])),
    )
