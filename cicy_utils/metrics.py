"""How good predictions are, in the paper's measures and in the light of two exact relations.

Every measure is taken on rounded predictions, as in arXiv 2405.17406. A prediction is rounded in
one of three ways, its decoding:

- "raw": each of the four numbers by itself; comparable with the paper.
- "relation": h22 from the others, h22 = 2 (22 + 2 h11 + 2 h31 - h21), which holds for every
  Calabi-Yau four-fold (paper, eq. (12)).
- "relation+chi": besides, h31 from h11, h21 and the Euler number chi, which is a function of the
  configuration matrix alone: chi = 6 (8 + h11 + h31 - h21).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cicy_utils.data import HODGE_NAMES

DECODINGS = ("raw", "relation", "relation+chi")


def decode(
    predictions: np.ndarray, decoding: str = "raw", euler: np.ndarray | None = None
) -> np.ndarray:
    """Turn outputs of a network into integers.

    Args:
        predictions: (N, 4), in the order h11, h21, h31, h22.
        decoding: one of ``DECODINGS``.
        euler: int (N,), Euler numbers; needed for "relation+chi".

    Returns:
        int64 (N, 4).

    Raises:
        ValueError: unknown decoding, wrong shape, a prediction that is not finite, or Euler
            numbers that are missing or no multiples of 6.
    """
    predictions = _require_table(predictions, "predictions")
    if decoding not in DECODINGS:
        raise ValueError(f"unknown decoding {decoding!r}; choose one of {', '.join(DECODINGS)}")
    decoded = np.rint(predictions).astype(np.int64)
    if decoding == "raw":
        return decoded
    if decoding == "relation+chi":
        decoded[:, 2] = _require_euler(euler, len(decoded)) // 6 - 8 - decoded[:, 0] + decoded[:, 1]
    h11, h21, h31, _ = decoded.T
    decoded[:, 3] = 2 * (22 + 2 * h11 + 2 * h31 - h21)
    return decoded


def evaluate(
    predictions: np.ndarray, labels: np.ndarray, euler: np.ndarray | None = None
) -> pd.DataFrame:
    """The measures of a set of predictions, one row per decoding.

    Args:
        predictions: (N, 4), in the order h11, h21, h31, h22.
        labels: int (N, 4), exact Hodge numbers.
        euler: int (N,), Euler numbers; without them there is no row "relation+chi".

    Returns:
        Index: decodings. Columns, each but accuracy_all for h11, h21, h31, h22:
        accuracy_h11, ... (percent exactly right) and accuracy_all (percent with all four right);
        mse_h11, ..., mse_mean (mean squared error); mae_h11, ..., mae_mean (mean absolute error);
        r2_h11, ..., r2_mean (coefficient of determination, see :func:`r2`).

    Raises:
        ValueError: shapes do not agree, there is nothing to evaluate, or as for :func:`decode`.
    """
    labels = _require_table(labels, "labels").astype(np.int64)
    if len(labels) == 0 or len(predictions) != len(labels):
        raise ValueError(
            f"there must be as many predictions as labels, and at least one; there are "
            f"{len(predictions)} and {len(labels)}"
        )
    rows = {}
    for decoding in DECODINGS:
        if decoding == "relation+chi" and euler is None:
            continue
        decoded = decode(predictions, decoding, euler)
        errors = decoded - labels
        right = errors == 0
        row = _by_name("accuracy", 100 * right.mean(axis=0))
        row["accuracy_all"] = 100 * right.all(axis=1).mean()
        for measure, values in (
            ("mse", (errors**2).mean(axis=0)),
            ("mae", np.abs(errors).mean(axis=0)),
            ("r2", r2(decoded, labels)),
        ):
            row |= _by_name(measure, values) | {f"{measure}_mean": values.mean()}
        rows[decoding] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("decoding")


def r2(decoded: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Coefficient of determination per column, 1 - (sum of squared errors) / (spread of labels).

    Where all labels are equal there is no spread: the value is then 1 if every prediction is
    right and 0 otherwise, as in scikit-learn's ``r2_score``.

    Args:
        decoded, labels: int (N, 4).

    Returns:
        float64 (4,).
    """
    squared_errors = ((decoded - labels) ** 2).sum(axis=0).astype(float)
    spread = ((labels - labels.mean(axis=0)) ** 2).sum(axis=0)
    constant = labels.min(axis=0) == labels.max(axis=0)
    return np.where(
        constant,
        (squared_errors == 0).astype(float),
        1 - squared_errors / np.where(constant, 1.0, spread),
    )


def constant_prediction(train_labels: np.ndarray, n: int) -> np.ndarray:
    """The most frequent value of each Hodge number, n times: what knowing nothing achieves.

    Args:
        train_labels: int (M, 4), labels of the training set; of equally frequent values the
            smallest is taken.
        n: number of rows wanted.

    Returns:
        int64 (n, 4).

    Raises:
        ValueError: no labels.
    """
    train_labels = _require_table(train_labels, "train_labels").astype(np.int64)
    if len(train_labels) == 0:
        raise ValueError("train_labels is empty, so there is no most frequent value")
    modes = []
    for column in train_labels.T:
        values, counts = np.unique(column, return_counts=True)
        modes.append(values[counts.argmax()])
    return np.tile(np.array(modes), (n, 1))


def permute_matrices(matrices: np.ndarray, seed: int) -> np.ndarray:
    """Describe the same manifolds by other matrices: shuffle rows and columns of each at random.

    Rows and columns of zeros stay where they are. The Hodge numbers do not change, so a model
    whose predictions do leans on the order of the list.

    Args:
        matrices: uint8 (N, 16, 20).
        seed: of the permutations.

    Returns:
        uint8 (N, 16, 20), a new array.
    """
    random = np.random.default_rng(seed)
    rows_moved = np.take_along_axis(matrices, _shuffle(matrices.any(axis=2), random)[:, :, None], 1)
    return np.take_along_axis(rows_moved, _shuffle(matrices.any(axis=1), random)[:, None, :], 2)


def misses(predictions: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """How many predictions are off, and by how much.

    Args:
        predictions: (N, 4), rounded here if they are not integers.
        labels: int (N, 4).

    Returns:
        Index "error": the sizes |prediction - label| that occur, ascending, 0 for right. Columns
        h11, h21, h31, h22: the number of configurations; each column sums to N.
    """
    errors = np.abs(decode(predictions, "raw") - _require_table(labels, "labels").astype(np.int64))
    counts = {
        name: pd.Series(column).value_counts()
        for name, column in zip(HODGE_NAMES, errors.T, strict=True)
    }
    return pd.DataFrame(counts).fillna(0).astype(np.int64).sort_index().rename_axis("error")


def _shuffle(occupied: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Bool (N, L) to indices (N, L) that permute the True places of each row among themselves."""
    places = np.argsort(~occupied, axis=1, kind="stable")  # the True places come first
    keys = np.where(occupied, random.random(occupied.shape), 2.0)
    drawn = np.argsort(keys, axis=1, kind="stable")  # they come first here too, shuffled
    permutation = np.empty_like(places)
    np.put_along_axis(permutation, places, drawn, axis=1)
    return permutation


def _require_table(values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] != len(HODGE_NAMES):
        raise ValueError(f"{what} must have shape (N, 4), not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{what} must be finite, and some are infinite or not numbers")
    return values


def _require_euler(euler: np.ndarray | None, n: int) -> np.ndarray:
    if euler is None:
        raise ValueError("the decoding 'relation+chi' needs the Euler numbers: pass euler=")
    euler = np.asarray(euler)
    if euler.shape != (n,) or not np.issubdtype(euler.dtype, np.integer) or (euler % 6).any():
        raise ValueError(f"euler must be {n} integers, multiples of 6, one for each prediction")
    return euler.astype(np.int64)


def _by_name(measure: str, values: np.ndarray) -> dict[str, float]:
    return {
        f"{measure}_{name}": float(value) for name, value in zip(HODGE_NAMES, values, strict=True)
    }
