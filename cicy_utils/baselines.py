"""What can be had without a neural network, measured on the same test sets.

- constant prediction: always the most frequent training value of each Hodge number;
- ridge regression: linear in the 320 entries of the configuration matrix;
- gradient-boosted trees: one ensemble of trees for each Hodge number, on the same 320 entries;
- look-up of shape and chi: the most frequent Hodge numbers of matrices with the same numbers of
  rows and columns and the same Euler number. It is what the decodings with the Euler number have
  to beat, so it has these only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cicy_utils import evaluation, metrics, paper, provenance, records, topology
from cicy_utils.data import HODGE_NAMES, MAX_ENTRY, Cicy4
from cicy_utils.paper_tables import BASELINES
from cicy_utils.relations import euler_from_hodge
from cicy_utils.splits import Split, split_of

# Predicts (n, 4) from matrices uint8 (n, 16, 20).
Predictor = Callable[[np.ndarray], np.ndarray]

SEED = 42  # of the trees
ROWS_AT_ONCE = 50_000  # scikit-learn turns the matrices into float64, 8 bytes an entry


def constant(matrices: np.ndarray, hodge: np.ndarray) -> Predictor:
    """The most frequent value of each Hodge number, whatever the matrix."""
    answer = metrics.constant_prediction(hodge, 1)
    return lambda others: np.repeat(answer, len(others), axis=0)


def ridge(matrices: np.ndarray, hodge: np.ndarray) -> Predictor:
    """Ridge regression of the four Hodge numbers on the entries as they are.

    The entries share one scale, so they are not standardised.

    Args:
        matrices: uint8 (n, 16, 20), training set.
        hodge: int (n, 4).
    """
    from sklearn.linear_model import Ridge  # slow to import

    model = Ridge().fit(_flat(matrices), hodge.astype(np.float32))
    return lambda others: _in_pieces(model.predict, others)


def trees(matrices: np.ndarray, hodge: np.ndarray) -> Predictor:
    """Gradient-boosted trees for each Hodge number: scikit-learn's histogram kind, as it comes.

    Args:
        matrices: uint8 (n, 16, 20), training set.
        hodge: int (n, 4).
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # slow to import
    from threadpoolctl import threadpool_limits

    entries = _flat(matrices)
    # A bin for every value that an entry can have: as good as the default of 255, and faster.
    bins = MAX_ENTRY + 1
    # One thread: with so few rows several mostly wait for each other, on a busy machine for long.
    with threadpool_limits(1, user_api="openmp"):
        models = [
            HistGradientBoostingRegressor(
                early_stopping=False, max_bins=bins, random_state=SEED
            ).fit(entries, column)
            for column in hodge.T
        ]

    def predict(piece: np.ndarray) -> np.ndarray:
        with threadpool_limits(1, user_api="openmp"):
            return np.stack([model.predict(piece) for model in models], axis=1)

    return lambda others: _in_pieces(predict, others)


def look_up(matrices: np.ndarray, hodge: np.ndarray) -> Predictor:
    """The most frequent Hodge numbers of the same shape and Euler number, else the constant.

    Args:
        matrices: uint8 (n, 16, 20), training set; their shape is how many rows and columns are not
            zero.
        hodge: int (n, 4), of which the Euler numbers follow.
    """
    hodge = hodge.astype(np.int64)
    seen = pd.DataFrame(hodge, _keys(matrices, euler_from_hodge(hodge)), HODGE_NAMES)
    counts = seen.groupby([*seen.index.names, *HODGE_NAMES]).size()
    counts = counts.sort_values(ascending=False, kind="stable").reset_index(HODGE_NAMES)
    best = counts.groupby(seen.index.names)[list(HODGE_NAMES)].first()
    otherwise = metrics.constant_prediction(hodge, 1)

    def predict(others: np.ndarray) -> np.ndarray:
        found = best.reindex(_keys(others, topology.euler_numbers_batch(others))).to_numpy()
        return np.where(np.isnan(found), otherwise, found)

    return predict


def _keys(matrices: np.ndarray, euler: np.ndarray) -> pd.MultiIndex:
    rows, columns = (matrices.any(axis=axis).sum(axis=1) for axis in (2, 1))
    return pd.MultiIndex.from_arrays([rows, columns, euler], names=["rows", "columns", "chi"])


LOOK_UP = "look-up of shape and chi"
_, _, TREES = BASELINES
FITS = dict(zip((*BASELINES, LOOK_UP), (constant, ridge, trees, look_up), strict=True))
WITH_EULER = ("relation+chi", "consistent")  # decodings that use the Euler number


def evaluate(
    data: Cicy4, seed: int | None = 42, tree_rows: int | None = 20_000
) -> list[dict[str, Any]]:
    """Fit the baselines on the training set of the 72 % split and measure them on both test sets.

    The test set of the 80 % split is a part of that of the 72 % split, so nothing in it was
    trained on.

    Args:
        data: the configurations that the models are trained on.
        seed: of the split, as of ``splits.split_of``.
        tree_rows: configurations that the trees learn from at most, drawn from the training set;
            None for all of it, which takes hours on the complete list.

    Returns:
        One record for each baseline and split, in the shape of metrics.json: model, label, data,
        split, training (configurations, seconds), residuals on the validation set, metrics of the
        parts validation (without the decoding consistent, as it rests on these residuals) and test.

    Raises:
        ValueError: fewer than one configuration for the trees, or too few for a split.
    """
    if tree_rows is not None and tree_rows < 1:
        raise ValueError(
            f"the trees need at least one configuration to learn from, not {tree_rows}"
        )
    narrow, wide = (split_of(data, name, seed=seed) for name in ("72", "80"))
    few = narrow.train
    if tree_rows is not None and tree_rows < len(few):
        random = np.random.default_rng(SEED if seed is None else seed)
        few = np.sort(random.choice(few, tree_rows, replace=False))
    predictions, training, residuals = {}, {}, {}
    for name, fit in FITS.items():
        rows = few if name == TREES else narrow.train
        started = time.perf_counter()
        predict = fit(data.matrices[rows], data.hodge[rows])
        training[name] = {"configurations": len(rows), "seconds": time.perf_counter() - started}
        found = np.full(data.hodge.shape, np.nan)  # only of those that nothing learned from
        for indices in (narrow.validation, narrow.test):
            found[indices] = predict(data.matrices[indices])
        predictions[name] = found
        residuals[name] = evaluation.residual_section(
            "validation", found[narrow.validation], data.hodge[narrow.validation]
        )

    def measure(split: Split, part: str) -> dict[str, dict]:
        """Of all of them at once, as Euler numbers take the longest."""
        indices = split.parts[part]
        covariances = {
            name: None if part == "validation" else np.array(residuals[name]["covariance"])
            for name in FITS
        }
        answers = {name: (predictions[name][indices], covariances[name]) for name in FITS}
        found = evaluation.measure(data, indices, answers)
        rows = found[LOOK_UP]
        return found | {LOOK_UP: {name: rows[name] for name in WITH_EULER if name in rows}}

    measured = {
        split.name: {part: measure(split, part) for part in ("validation", "test")}
        for split in (narrow, wide)
    }
    return [
        {
            "model": name,
            "label": provenance.run_label(len(data)),
            "data": evaluation.data_section(data),
            "split": evaluation.split_section(split),
            "training": training[name],
            "residuals": residuals[name],
            "metrics": {part: found[name] for part, found in measured[split.name].items()},
        }
        for name in FITS
        for split in (narrow, wide)
    ]


def record(
    data: Cicy4, run_dir: Path | str, seed: int | None = 42, tree_rows: int | None = 20_000
) -> list[dict[str, Any]]:
    """Write baselines.json, the list that `evaluate` returns, and return it."""
    found = evaluate(data, seed, tree_rows)
    records.write_json(Path(run_dir) / paper.BASELINES_FILE, found)
    return found


def _flat(matrices: np.ndarray) -> np.ndarray:
    return matrices.reshape(len(matrices), -1).astype(np.float32)


def _in_pieces(predict: Predictor, matrices: np.ndarray) -> np.ndarray:
    pieces = range(0, len(matrices), ROWS_AT_ONCE)
    return np.concatenate(
        [predict(_flat(matrices[start : start + ROWS_AT_ONCE])) for start in pieces]
    )
