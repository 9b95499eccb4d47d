"""The published numbers, and ours beside them.

Sources: arXiv 2405.17406 (networks; data/paper_results.csv, from the text and the public
notebooks) and arXiv 1405.2073 (statistics of the list, quoted in 2405.17406, eq. 16).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cicy_utils import recipes
from cicy_utils.config import recipe_of
from cicy_utils.data import HODGE_NAMES, find_data_file
from cicy_utils.files import read_json
from cicy_utils.metrics import EVERY_ACCURACY
from cicy_utils.records import METRICS_FILE, settings_fingerprint, trained
from cicy_utils.splits import training_share

FILE_NAME = "paper_results.csv"
MEASURES = ("accuracy", "mse", "mae", "r2")
CONSTANT = "constant prediction"
# What our own networks are set beside on each split, which the paper does not have: the best of its
# single networks there.
COUNTERPARTS = {
    ("Graph-64", 72): "CNN-LSTM-400",
    ("Graph-64", 80): "LSTM-448-d80",
    ("Graph-64-d80", 80): "LSTM-448-d80",
}
ENSEMBLES_FILE = "ensembles.json"
BASELINES_FILE = "baselines.json"

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


def beside_ours(model: str, metrics: dict[str, Any], split: int = 72) -> pd.DataFrame:
    """Published and ours, in the raw decoding of the test part.

    metrics: the section of that name in metrics.json. Rows: accuracy (percent), MSE, MAE and R2
    of every Hodge number, the last three also as a mean. Published is NaN for what is not.
    """
    theirs, ours = _counterpart(model, split), metrics["test"]["raw"]
    rows = [f"{measure}_{name}" for measure in MEASURES for name in (*HODGE_NAMES, "mean")]
    rows.remove("accuracy_mean")
    return pd.DataFrame(
        {"published": theirs.reindex(rows), "ours": [ours[row] for row in rows]},
        index=rows,
        dtype=float,
    )


def headline(model: str, metrics: dict[str, Any], split: int = 72) -> pd.DataFrame:
    """Test accuracies in percent: published, this run, their difference, the constant prediction.

    Columns accuracy_h11 ... accuracy_h22 and accuracy_all (all four right, not published).
    """
    rows = {
        "published": _counterpart(model, split).reindex(EVERY_ACCURACY),
        "this run": pd.Series(metrics["test"]["raw"])[EVERY_ACCURACY],
        CONSTANT: pd.Series(metrics["constant"]["raw"])[EVERY_ACCURACY],
    }
    table = pd.DataFrame(rows).T.astype(float)
    table.loc["difference"] = table.loc["this run"] - table.loc["published"]
    return table.loc[["published", "this run", "difference", CONSTANT]]


def collect(run_dir: Path | str) -> list[dict[str, Any]]:
    """Every result in a run folder, finished or not, as records in the shape of metrics.json.

    Added to each: folder (where it was read), kind and file (its name in the folder). Kinds:
    "model" from metrics.json; "ensemble" from ensembles.json, with members, member_weights and
    chosen_by; "baseline" from baselines.json, of those that have raw answers, and the constant
    prediction of the models' own test sets where that is missing. Files that cannot be read are
    left out.
    """
    run_dir = Path(run_dir)
    records = [
        record | {"folder": folder, "kind": "model", "file": METRICS_FILE}
        for folder, record in trained(run_dir)
    ]
    for path in sorted(run_dir.glob(f"*/*/{ENSEMBLES_FILE}")):
        records += [_ensemble(entry, path) for entry in read_json(path) or ()]
    for path in sorted(run_dir.glob(f"*/*/{BASELINES_FILE}")):
        known = {"folder": path.parent, "kind": "baseline", "file": path.name}
        entries = read_json(path) or ()
        records += [entry | known for entry in entries if "raw" in entry["metrics"]["test"]]
    return records + _constants(records)


def key(record: dict[str, Any]) -> tuple[str, int]:
    """Name and training share, the index of `published`; folds belong to the 72 % split."""
    return record["model"], training_share(record["split"].get("name", ""))


def comparable(records: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Sort records into groups, inside which they may stand in one table; the main one first.

    In a group all have the same configurations (data fingerprint), all of one training share the
    same test set (fingerprint), and runs of one name differ in nothing but the seed. What does not
    tell its fingerprints stands alone.
    """
    solid = [record for record in records if record["kind"] != "baseline"]
    data, tests = Counter(map(_data, solid)), Counter(map(_test, solid))
    made = Counter(map(_recipe, solid))
    commonest = sorted(
        records, key=lambda r: (-data[_data(r)], -tests[_test(r)], -made[_recipe(r)])
    )
    groups: list[list[dict[str, Any]]] = []
    for record in commonest:
        for group in groups:
            if not conflict([*group, record]):
                group.append(record)
                break
        else:
            groups.append([record])
    order = {id(record): number for number, record in enumerate(records)}
    return [sorted(group, key=lambda record: order[id(record)]) for group in groups]


def require_comparable(records: Sequence[dict[str, Any]]) -> None:
    """ValueError when records must not stand in one table, with the reason."""
    if reason := conflict(records):
        raise ValueError(f"{reason}; sort the records with paper.comparable first")


def require_same_test(records: Sequence[dict[str, Any]]) -> None:
    """ValueError when records must not even be set side by side: another list or test set."""
    if reason := _conflict_of_tests(records):
        raise ValueError(f"{reason}: show each by itself")


def results_table(run_dir: Path | str) -> pd.DataFrame:
    """One row for every finished result in a run folder, in the order of the notebooks.

    Columns: model, kind, split (training share, percent), group (rows of the same split and group
    may be compared, see `comparable`; 0 is the main one), notebook, variant, label, weights,
    epochs, minutes, the raw test accuracies accuracy_h11 ... accuracy_all and published_h11 ...
    published_h22 (percent, of the same network), mse_mean, mae_mean, r2_mean. Baselines are the
    last rows of their group. Empty when nothing has finished.
    """
    rows = [
        {"group": number, **_result(record)}
        for number, group in enumerate(comparable(collect(run_dir)))
        for record in group
    ]
    columns = ["model", "kind", "split", "group", "notebook", "variant", "label", "weights"]
    columns += ["epochs", "minutes", *_measures({})]
    columns += [f"published_{name}" for name in HODGE_NAMES]
    return pd.DataFrame(rows, columns=columns)


def _result(record: dict[str, Any]) -> dict[str, Any]:
    theirs = _published_or_nothing(*key(record))
    training = record.get("training", {})
    return {
        "model": record["model"],
        "kind": record["kind"],
        "split": key(record)[1],
        "notebook": record["folder"].parent.name,
        "variant": record["folder"].name,
        "label": record["label"],
        "weights": record.get("weights"),
        "epochs": training.get("epochs"),
        "minutes": training["seconds"] / 60 if training else None,
        **_measures(record["metrics"]["test"]["raw"]),
        **{f"published_{name}": theirs.get(f"accuracy_{name}") for name in HODGE_NAMES},
    }


def _measures(metrics: dict[str, float]) -> dict[str, float | None]:
    names = [*EVERY_ACCURACY, "mse_mean", "mae_mean", "r2_mean"]
    return {name: metrics.get(name) for name in names}


def _published_or_nothing(model: str, split: int) -> pd.Series:
    """Of the same network, whatever the recipe; NaN where the paper has none of that name."""
    row, table = (recipes.network(model), split), published()
    return table.loc[row] if row in table.index else pd.Series(np.nan, index=table.columns)


def _counterpart(model: str, split: int) -> pd.Series:
    """The same; of one of our own networks what it is set beside."""
    network = recipes.network(model)
    return _published_or_nothing(COUNTERPARTS.get((network, split), network), split)


def _ensemble(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    """An entry of ensembles.json in the shape of metrics.json."""
    return {
        "model": entry["name"],
        "kind": "ensemble",
        "label": entry["label"],
        "data": {"fingerprint": entry["data_fingerprint"]},
        "split": {"name": entry["split"], "fingerprints": {"test": entry["test_fingerprint"]}},
        "metrics": entry["metrics"],
        "members": entry["members"],
        "member_weights": entry["weights"],
        "chosen_by": entry["chosen_by"],
        "folder": path.parent,
        "file": path.name,
    }


def _constants(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The constant prediction on every test set that has no baseline of that name."""
    known = {_test(record) for record in records if record["model"] == CONSTANT}
    found = []
    for record in records:
        if _test(record) not in known and "constant" in record["metrics"]:
            known.add(_test(record))
            shared = {name: record[name] for name in ("label", "data", "split", "folder", "file")}
            metrics = {"test": record["metrics"]["constant"]}
            found.append({"model": CONSTANT, "kind": "baseline", "metrics": metrics} | shared)
    return found


def _data(record: dict[str, Any]) -> str:
    """Fingerprint of the list; of a result that has none, something that no other result has."""
    return record["data"].get("fingerprint") or f"unknown: {record.get('folder')}"


def _test(record: dict[str, Any]) -> tuple[str, int, str]:
    """List, training share and fingerprint of the test set, likewise."""
    fingerprint = record["split"].get("fingerprints", {}).get("test")
    return _data(record), key(record)[1], fingerprint or f"unknown: {record.get('folder')}"


def _recipe(record: dict[str, Any]) -> str:
    """What runs of one name must share to be repetitions of each other, as a fingerprint."""
    told = ("label", "weights", "architecture", "members", "member_weights", "chosen_by")
    return settings_fingerprint(
        {name: record.get(name) for name in told}
        | {
            "name": key(record),
            "settings": recipe_of(record.get("settings", {})),
            "layout": record["data"].get("layout"),
            "trained on": record["split"].get("fingerprints", {}).get("train"),
        }
    )


def conflict(records: Sequence[dict[str, Any]]) -> str:
    """Why records must not stand in one table; empty when they may."""
    if reason := _conflict_of_tests(records):
        return reason
    made = {(key(record), _recipe(record)) for record in records}
    if len(made) > len({name for name, _ in made}):
        return "runs of one name were made with different settings"
    return ""


def _conflict_of_tests(records: Sequence[dict[str, Any]]) -> str:
    if len({_data(record) for record in records}) > 1:
        return "the results rest on different configurations"
    tests = {_test(record) for record in records}
    if len(tests) > len({split for _, split, _ in tests}):
        return "the results rest on different test sets"
    return ""
