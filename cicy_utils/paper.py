"""The published numbers, and ours beside them.

Sources: arXiv 2405.17406 (networks; data/paper_results.csv, from the text and the public
notebooks) and arXiv 1405.2073 (statistics of the list, quoted in 2405.17406, eq. 16).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cicy_utils.data import HODGE_NAMES, find_data_file
from cicy_utils.records import METRICS_FILE, read_metrics

FILE_NAME = "paper_results.csv"
MEASURES = ("accuracy", "mse", "mae", "r2")
ACCURACIES = [f"accuracy_{name}" for name in HODGE_NAMES]
CONSTANT = "constant prediction"

# Mean, largest and smallest Hodge numbers of the list as published, arXiv 1405.2073.
LIST_STATISTICS = {
    "mean": dict(zip(HODGE_NAMES, (10.1, 0.8, 39.6, 241.0), strict=True)),
    "minimum": dict(zip(HODGE_NAMES, (1, 0, 20, 204), strict=True)),
    "maximum": dict(zip(HODGE_NAMES, (24, 33, 426, 1752), strict=True)),
}

# Sizes of the parts of the list, arXiv 2405.17406, section 2.2.
SPLIT_SIZES = {
    "72": {"train": 652_092, "validation": 72_455, "test": 181_137},
    "80": {"train": 724_547, "validation": 72_455, "test": 108_682},
}


def published() -> pd.DataFrame:
    """Every published result, one row for a model or ensemble, index (name, split in percent).

    Columns: members, parameters_millions, train_hours_p100, accuracy_<hodge number> (test,
    percent), train_accuracy_..., mse_..., mae_..., r2_... with <measure>_mean; NaN where nothing
    was published.
    """
    table = pd.read_csv(find_data_file(FILE_NAME)).set_index(["name", "split"])
    return table.rename(columns=lambda name: name.removeprefix("test_"))


def published_model(name: str, split: int = 72) -> pd.Series:
    """The published row of one model; ValueError when the paper has none of that name."""
    table = published()
    if (name, split) not in table.index:
        known = ", ".join(sorted(model for model, percent in table.index if percent == split))
        raise ValueError(f"the paper has no {name!r} at the {split} % split; it has {known}")
    return table.loc[(name, split)]


def beside_ours(model: str, metrics: dict[str, Any]) -> pd.DataFrame:
    """Published, ours and the difference (ours less published), raw decoding of the test part.

    metrics: the section of that name in metrics.json. Rows: accuracy (percent), MSE, MAE and R2
    of every Hodge number, the last three also as a mean.
    """
    theirs, ours = published_model(model), metrics["test"]["raw"]
    rows = [f"{measure}_{name}" for measure in MEASURES for name in (*HODGE_NAMES, "mean")]
    rows.remove("accuracy_mean")
    table = pd.DataFrame(
        {"published": theirs[rows], "ours": [ours[row] for row in rows]}, index=rows, dtype=float
    )
    return table.assign(difference=table["ours"] - table["published"])


def headline(model: str, metrics: dict[str, Any]) -> pd.DataFrame:
    """Test accuracies in percent: published, this run, their difference, the training mode.

    Columns accuracy_h11 ... accuracy_h22 and accuracy_all (all four right, not published).
    """
    columns = [*ACCURACIES, "accuracy_all"]
    rows = {
        "published": published_model(model).reindex(columns),
        "this run": pd.Series(metrics["test"]["raw"])[columns],
        CONSTANT: pd.Series(metrics["constant"]["raw"])[columns],
    }
    table = pd.DataFrame(rows).T.astype(float)
    table.loc["difference"] = table.loc["this run"] - table.loc["published"]
    return table.loc[["published", "this run", "difference", CONSTANT]]


def results_table(run_dir: Path | str) -> pd.DataFrame:
    """One row for every finished model in a run folder, in the order of the notebooks.

    Read from the metrics.json files in results/<run>/<notebook>/<variant>/. Columns: model,
    variant, label, weights, epochs, minutes, the raw test accuracies accuracy_h11 ... accuracy_all
    and published_h11 ... published_h22 (percent), mse_mean, mae_mean, r2_mean. The last row
    answers every configuration with the training mode. Empty when nothing has finished.
    """
    records = [
        read_metrics(path.parent) for path in sorted(Path(run_dir).glob(f"*/*/{METRICS_FILE}"))
    ]
    records = [record for record in records if "model" in record]
    rows = [_result(record) for record in records]
    if records:
        constant = records[0]["metrics"]["constant"]["raw"]
        rows.append({"model": CONSTANT, "label": records[0]["label"], **_measures(constant)})
    columns = ["model", "variant", "label", "weights", "epochs", "minutes", *_measures({})]
    columns += [f"published_{name}" for name in HODGE_NAMES]
    return pd.DataFrame(rows, columns=columns)


def _result(record: dict[str, Any]) -> dict[str, Any]:
    theirs = published()
    key = (record["model"], 72)
    names = {f"published_{name}": f"accuracy_{name}" for name in HODGE_NAMES}
    return {
        "model": record["model"],
        "variant": record["variant"],
        "label": record["label"],
        "weights": record["weights"],
        "epochs": record["training"]["epochs"],
        "minutes": record["training"]["seconds"] / 60,
        **_measures(record["metrics"]["test"]["raw"]),
        **{ours: theirs.loc[key, column] for ours, column in names.items() if key in theirs.index},
    }


def _measures(metrics: dict[str, float]) -> dict[str, float | None]:
    names = [*ACCURACIES, "accuracy_all", "mse_mean", "mae_mean", "r2_mean"]
    return {name: metrics.get(name) for name in names}
