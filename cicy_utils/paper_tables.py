"""The tables of arXiv 2405.17406, each built from the results of a run beside the published values.

One literal table says what each of them holds; one function builds any of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cicy_utils import paper, recipes
from cicy_utils.data import HODGE_NAMES
from cicy_utils.metrics import EVERY_ACCURACY, mean_accuracy
from cicy_utils.records import validation_accuracy

# Index of a row: name and training share, as in `paper.published`.
Key = tuple[str, int]
A_FOLD = re.compile(r"-f\d(-d80)?$")  # in the name of a network

BASELINES = (paper.CONSTANT, "ridge regression", "gradient-boosted trees")


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper.

    Attributes:
        title: what it shows.
        rows: keys of its rows, in the paper's order.
        measures: names of its columns, as in `paper.published`.
        best: for the tables of best results, how many of each training share; else 0.
        pool: kind of the results among which the best are sought.
        folds: whether the folds of cross-validation are among them.
    """

    title: str
    rows: tuple[Key, ...]
    measures: tuple[str, ...]
    best: int = 0
    pool: str = "model"
    folds: bool = True


def _keys(split: int, names: str) -> tuple[Key, ...]:
    return tuple((name, split) for name in names.split())


def _of(measure: str) -> tuple[str, ...]:
    return tuple(f"{measure}_{name}" for name in HODGE_NAMES)


WEIGHTS_AND_TIME = ("parameters_millions", "train_hours_p100")
ACCURACY, MSE, MAE, R2 = (_of(measure) for measure in paper.MEASURES)
MEANS = ("mse_mean", "mae_mean", "r2_mean")

GRU = _keys(72, "CNN-GRU-384 CNN-GRU-416 ResNet-GRU-256 ResNet-GRU-400")
CNN_LSTM = _keys(72, "CNN-LSTM-256 CNN-LSTM-384 CNN-LSTM-400 CNN-LSTM-416")
LSTM = _keys(72, "LSTM-400 LSTM-424 LSTM-448 LSTM-456")
MODELS = GRU + CNN_LSTM + LSTM
# The training of CNN-LSTM-416 did not converge; the paper leaves it out of the tables of errors.
UNCONVERGED = ("CNN-LSTM-416", 72)
CONVERGED = tuple(key for key in MODELS if key != UNCONVERGED)
ENSEMBLES = _keys(72, "Ens-1 Ens-2 Ens-3 Ens-4")
FOLDS = _keys(72, "LSTM-448-f0 LSTM-448-f1 LSTM-448-f2 LSTM-448-f3 LSTM-448-f4")
FOLD_ENSEMBLES = _keys(
    72, "LSTM-448-5f LSTM-448-f0f1f4 LSTM-448-f1f4 Ens-f1f4-CL400 Ens-0f1f4-CL400"
)
AT_80 = _keys(80, "CNN-LSTM-400 LSTM-424-d80 LSTM-448-d80 LSTM-448-f1")
ENSEMBLES_80 = _keys(80, "Ens-80-1 Ens-80-2 Ens-80-3 Ens-80-4 Ens-80-5")

TABLES: dict[int, PaperTable] = {
    1: PaperTable("Weights and training time", MODELS, WEIGHTS_AND_TIME),
    2: PaperTable("Test accuracy of the CNN-GRU and ResNet-GRU models", GRU, ACCURACY),
    3: PaperTable("Test accuracy of the CNN-LSTM models", CNN_LSTM, ACCURACY),
    4: PaperTable("Test accuracy of the LSTM models", LSTM, ACCURACY),
    5: PaperTable("Test accuracy of ensembles", ENSEMBLES, ACCURACY),
    6: PaperTable("Test accuracy of the five folds", FOLDS, ACCURACY),
    7: PaperTable("Test accuracy of ensembles with folds", FOLD_ENSEMBLES, ACCURACY),
    8: PaperTable(
        "Test accuracy at 80 % training share",
        _keys(80, "CNN-LSTM-400-d80 CNN-LSTM-400 LSTM-424-d80 LSTM-448-d80 LSTM-448-f1"),
        ACCURACY,
    ),
    9: PaperTable("Test accuracy of ensembles at 80 % training share", ENSEMBLES_80, ACCURACY),
    10: PaperTable(
        "The three best models, folds left out",
        _keys(72, "CNN-LSTM-400 LSTM-448 LSTM-424")
        + _keys(80, "LSTM-448-d80 LSTM-424-d80 CNN-LSTM-400"),
        ACCURACY,
        best=3,
        folds=False,
    ),
    11: PaperTable(
        "The three best models, folds included",
        _keys(72, "LSTM-448-f1 CNN-LSTM-400 LSTM-448")
        + _keys(80, "LSTM-448-d80 LSTM-448-f1 LSTM-424-d80"),
        ACCURACY,
        best=3,
    ),
    12: PaperTable(
        "The best ensembles",
        _keys(72, "Ens-0f1f4-CL400") + _keys(80, "Ens-80-4"),
        ACCURACY,
        best=1,
        pool="ensemble",
    ),
    13: PaperTable("Mean MSE, MAE and R² at 72 %", CONVERGED + ENSEMBLES, MEANS),
    14: PaperTable("MSE at 72 %", CONVERGED + ENSEMBLES, MSE),
    15: PaperTable("MAE at 72 %", CONVERGED + ENSEMBLES, MAE),
    16: PaperTable("R² at 72 %", CONVERGED + ENSEMBLES, R2),
    17: PaperTable("MSE in cross-validation", FOLDS + FOLD_ENSEMBLES, MSE),
    18: PaperTable("MAE in cross-validation", FOLDS + FOLD_ENSEMBLES, MAE),
    19: PaperTable("R² in cross-validation", FOLDS + FOLD_ENSEMBLES, R2),
    20: PaperTable("Mean MSE, MAE and R² in cross-validation", FOLDS + FOLD_ENSEMBLES, MEANS),
    21: PaperTable("MSE at 80 %", AT_80 + ENSEMBLES_80, MSE),
    22: PaperTable("MAE at 80 %", AT_80 + ENSEMBLES_80, MAE),
    23: PaperTable("R² at 80 %", AT_80 + ENSEMBLES_80, R2),
    24: PaperTable("Mean MSE, MAE and R² at 80 %", AT_80 + ENSEMBLES_80, MEANS),
}


def left_out(rows: Sequence[Key]) -> str:
    """Of rows with all networks but one, which the paper leaves out, in words; else ""."""
    if UNCONVERGED in rows or not set(CONVERGED) <= set(rows):
        return ""
    return f"As in the paper without {UNCONVERGED[0]}, whose training did not converge there."


def build(number: int, records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A table of the paper, with the baselines as its last rows (but in Table 1).

    records: from `paper.collect`, comparable with each other (`paper.comparable`); else a
    ValueError. Returns the frame of `beside_published`; rows that have no result yet are there
    with zero runs.
    """
    if number not in TABLES:
        raise ValueError(f"the paper has no Table {number}; it has 1 to {len(TABLES)}")
    table = TABLES[number]
    rows = list(table.rows)
    if number != 1:
        rows += [(name, split) for split in _splits(rows) for name in BASELINES]
        known = {paper.key(record) for record in records}
        rows = [row for row in rows if row in known or row[0] not in BASELINES]
    return beside_published(rows, table.measures, records)


def beside_published(
    rows: Iterable[Key], measures: Sequence[str], records: Sequence[dict[str, Any]]
) -> pd.DataFrame:
    """Published, ours and the difference, for every row and measure.

    Index: name, split (training share, percent), measure. Columns: published; ours, the median of
    our runs; lowest and highest of them; difference, ours less published; runs, how many. NaN
    where nothing is known. Measures are taken on the test set, raw decoding.

    Raises:
        ValueError: the records must not stand in one table.
    """
    paper.require_comparable(records)
    theirs = paper.published()
    found = {}
    for name, split in rows:
        runs = [record for record in records if paper.key(record) == (name, split)]
        for measure in measures:
            values = pd.Series([value(record, measure) for record in runs], dtype=float).dropna()
            known = (name, split) in theirs.index and measure in theirs
            found[name, split, measure] = {
                "published": theirs.at[(name, split), measure] if known else math.nan,
                "ours": values.median(),
                "lowest": values.min(),
                "highest": values.max(),
                "runs": len(values),
            }
    columns = ["published", "ours", "lowest", "highest", "runs"]
    index = pd.MultiIndex.from_tuples(found, names=["name", "split", "measure"])
    frame = pd.DataFrame(list(found.values()), index=index, columns=columns)
    frame.insert(4, "difference", frame["ours"] - frame["published"])
    return frame


def value(record: dict[str, Any], measure: str) -> float | None:
    """A measure of one result; None where it has none."""
    if measure == "parameters_millions":
        weights = record.get("weights")
        return weights / 1e6 if weights else None
    if measure == "train_hours_p100":
        training = record.get("training")
        return training["seconds"] / 3600 if training else None
    return record["metrics"]["test"]["raw"].get(measure)


def ranking(split: int, records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Everything evaluated on the test set of one training share, best mean accuracy first.

    The frame of `beside_published` in every accuracy of `metrics.evaluate`.
    """
    keys = sorted({paper.key(record) for record in records if paper.key(record)[1] == split})
    frame = beside_published(keys, EVERY_ACCURACY, records)
    means = {key: mean_accuracy(frame.loc[key, "ours"]) for key in keys}
    keys.sort(key=lambda key: -means[key])
    return frame.reindex([(*key, name) for key in keys for name in EVERY_ACCURACY])


def best(number: int, records: Sequence[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Our own choice for a table of best results, made without a look at the test set.

    Returns (rank, record), ranked by the mean accuracy on validation configurations (those that
    were left out of training, for a fold), for each training share. What was measured on none
    cannot be chosen: an ensemble with a model that was trained on the validation set, for one.
    Of several seeds the one that validates best stands for its name.
    """
    table = TABLES[number]
    if not table.best:
        raise ValueError(f"Table {number} is not one of best results; 10, 11 and 12 are")
    chosen = []
    for split in _splits(table.rows):
        pool = [
            record
            for record in records
            if record["kind"] == table.pool
            and paper.key(record)[1] == split
            and (table.folds or not _is_fold(record))
            and validation_accuracy(record) is not None
        ]
        pool.sort(key=validation_accuracy)
        by_name = {record["model"]: record for record in pool}  # the best of several seeds
        pool = sorted(by_name.values(), key=validation_accuracy, reverse=True)
        chosen += list(enumerate(pool[: table.best], start=1))
    return chosen


def missing(records: Sequence[dict[str, Any]]) -> list[Key]:
    """What the paper has a result of and we do not."""
    known = {paper.key(record) for record in records}
    return [key for key in paper.published().index if key not in known]


def _is_fold(record: dict[str, Any]) -> bool:
    """Whether a result is that of a fold, also one that is judged on, or retrained for, 80 %."""
    return bool(A_FOLD.search(recipes.network(record["model"])))


def _splits(rows: Iterable[Key]) -> list[int]:
    return sorted({split for _, split in rows})
