"""How good predictions are, in the paper's measures and in the light of two exact relations.

Every measure is taken on rounded predictions, as in arXiv 2405.17406. A prediction is rounded in
one of four ways, its decoding:

- "raw": each of the four numbers by itself; comparable with the paper.
- "relation": h22 from the others, h22 = 2 (22 + 2 h11 + 2 h31 - h21), which holds for every
  Calabi-Yau four-fold with h10 = h20 = h30 = 0, as all of the list are (paper, eq. (12)).
- "relation+chi": besides, h31 from h11, h21 and the Euler number chi, which is a function of the
  configuration matrix alone: chi = 6 (8 + h11 + h31 - h21).
- "consistent": of all quadruples that obey both relations with that Euler number and can be Hodge
  numbers (integers, h11 at least 1, the others at least 0), the one nearest to the prediction. All
  four outputs have a say, each according to how far off it usually is: distance is measured with
  the inverse of a robust covariance of the residuals, taken on configurations that the model was
  not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cicy_utils.data import HODGE_NAMES
from cicy_utils.relations import h22_from_others, h31_from_euler

# Columns of `evaluate`: percent exactly right, of each Hodge number and with all four right.
ACCURACIES = [f"accuracy_{name}" for name in HODGE_NAMES]
EVERY_ACCURACY = [*ACCURACIES, "accuracy_all"]

DECODINGS = ("raw", "relation", "relation+chi", "consistent")

# What may be added to a quadruple without leaving the relations and the Euler number: h11 up by 1
# and h31 down by 1, or h21 and h31 up by 1 and h22 by 2.
STEPS = np.array([[1, 0, -1, 0], [0, 1, 1, 2]])
LARGEST_PREDICTION = 2**31
FLOOR = 1e-6  # added to every variance, relative and absolute: singular covariances become regular
FREEDOM = 1  # degrees of freedom of the t distribution that residuals are described by


def mean_accuracy(measures: Mapping[str, float]) -> float:
    """Mean of the four accuracies in a row of :func:`evaluate`, percent."""
    return sum(measures[name] for name in ACCURACIES) / len(ACCURACIES)


def decode(
    predictions: np.ndarray,
    decoding: str = "raw",
    euler: np.ndarray | None = None,
    covariance: np.ndarray | None = None,
) -> np.ndarray:
    """Turn outputs of a network into integers.

    Args:
        predictions: (N, 4), in the order h11, h21, h31, h22.
        decoding: one of ``DECODINGS``.
        euler: int (N,), Euler numbers; needed for "relation+chi" and "consistent".
        covariance: (4, 4), see :func:`residual_covariance`; needed for "consistent".

    Returns:
        int64 (N, 4).

    Raises:
        ValueError: unknown decoding, wrong shape, a prediction that is not finite or beyond
            ``LARGEST_PREDICTION``, Euler numbers that are missing or no multiples of 6, or a
            covariance that is missing or none.
    """
    predictions = _require_table(predictions, "predictions")
    if np.abs(predictions).max(initial=0) > LARGEST_PREDICTION:
        raise ValueError(
            f"predictions go up to {np.abs(predictions).max():.3g}, which are no Hodge numbers: "
            "the training has diverged; choose a lower learning rate"
        )
    if decoding not in DECODINGS:
        raise ValueError(f"unknown decoding {decoding!r}; choose one of {', '.join(DECODINGS)}")
    if decoding in ("relation+chi", "consistent"):
        euler = _require_euler(euler, len(predictions), decoding)
    if decoding == "consistent":
        return _nearest_consistent(predictions, euler, _require_covariance(covariance))
    decoded = np.rint(predictions).astype(np.int64)
    if decoding == "raw":
        return decoded
    if decoding == "relation+chi":
        decoded[:, 2] = h31_from_euler(euler, decoded[:, 0], decoded[:, 1])
    decoded[:, 3] = h22_from_others(*decoded[:, :3].T)
    return decoded


def possible_decodings(euler: object, covariance: object) -> list[str]:
    """The decodings that can be done with what is known; None stands for what is not."""
    needed = {"relation+chi": [euler], "consistent": [euler, covariance]}
    return [name for name in DECODINGS if all(n is not None for n in needed.get(name, []))]


def residual_covariance(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How the errors of the four outputs vary, and vary together; robust, and up to a factor.

    Errors of networks have long tails: most are far below one, a few are dozens. The plain
    covariance tells of these few alone, and decoding by it loses more than it gains. So this is the
    scatter matrix of a multivariate t distribution with one degree of freedom about zero, by
    maximum likelihood (Lange, Little and Taylor, Robust statistical modeling using the t
    distribution, J. Am. Stat. Assoc. 84 (1989) 881): C = mean of w r r^T with r = prediction -
    label and the weights w = 5 / (1 + r^T C^-1 r), iterated until it stands. For residuals from any
    distribution whose contours are ellipsoids it has the covariance's shape. No mean is taken off,
    as predictions are not shifted before they are decoded.

    Args:
        predictions: (N, 4), of configurations that were not trained on, in the order h11, h21,
            h31, h22.
        labels: int (N, 4).

    Returns:
        float64 (4, 4).

    Raises:
        ValueError: wrong shapes, no predictions, or some that are not finite.
    """
    predictions, labels = _require_pairs(predictions, labels)
    residuals = predictions.astype(float) - labels
    covariance = residuals.T @ residuals / len(residuals)
    for _ in range(200):  # a few dozen are enough, unless it is close to singular
        before = covariance
        distances = np.einsum("ni,ij,nj->n", residuals, _metric(covariance), residuals)
        weights = (FREEDOM + len(HODGE_NAMES)) / (FREEDOM + distances)
        covariance = (residuals.T * weights) @ residuals / len(residuals)
        if np.abs(covariance - before).max() <= 1e-6 * np.abs(before).max():
            break
    return (covariance + covariance.T) / 2


def evaluate(
    predictions: np.ndarray,
    labels: np.ndarray,
    euler: np.ndarray | None = None,
    covariance: np.ndarray | None = None,
) -> pd.DataFrame:
    """The measures of a set of predictions, one row per decoding.

    Args:
        predictions: (N, 4), in the order h11, h21, h31, h22.
        labels: int (N, 4), exact Hodge numbers.
        euler: int (N,), Euler numbers; without them there are no rows "relation+chi" and
            "consistent".
        covariance: (4, 4), see :func:`residual_covariance`; without it there is no row
            "consistent".

    Returns:
        Index: decodings. Columns, each but accuracy_all for h11, h21, h31, h22:
        accuracy_h11, ... (percent exactly right) and accuracy_all (percent with all four right);
        mse_h11, ..., mse_mean (mean squared error); mae_h11, ..., mae_mean (mean absolute error);
        r2_h11, ..., r2_mean (coefficient of determination, see :func:`r2`).

    Raises:
        ValueError: shapes do not agree, there is nothing to evaluate, or as for :func:`decode`.
    """
    predictions, labels = _require_pairs(predictions, labels)
    rows = {}
    for decoding in possible_decodings(euler, covariance):
        decoded = decode(predictions, decoding, euler, covariance)
        errors = (decoded - labels).astype(float)  # the squares of some are no 64-bit integers
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
    squared_errors = ((decoded - labels).astype(float) ** 2).sum(axis=0)
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
    modes = pd.DataFrame(train_labels).mode().iloc[0].to_numpy(np.int64)
    return np.tile(modes, (n, 1))


def misses(predictions: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """How many predictions are off, and by how much.

    Args:
        predictions: (N, 4), rounded here if they are not integers.
        labels: int (N, 4).

    Returns:
        Index "error": the sizes |prediction - label| that occur, ascending, 0 for right. Columns
        h11, h21, h31, h22: the number of configurations; each column sums to N.
    """
    errors = np.abs(decode(predictions, "raw") - _require_labels(labels))
    counts = pd.DataFrame(errors, columns=HODGE_NAMES).apply(pd.Series.value_counts)
    return counts.fillna(0).astype(np.int64).sort_index().rename_axis("error")


def _nearest_consistent(
    predictions: np.ndarray, euler: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """The Hodge numbers (N, 4) that obey both relations and are nearest in covariance^-1.

    h11 and h21 determine the others, and the squared distance is a quadratic form of the two,
    f = a x^2 + 2 b x y + c y^2, with x and y counted from the real pair that is nearest. The best
    h11 for a given h21 is a rounded and clipped number. Let (h11*, h21*) be the nearest real pair
    within the bounds. The integer pair beside it costs at most (2 a + 2 |b| + c) / 4 more, as f
    has no slope along the bounds there, and another h21 costs at least (c - b^2 / a) (h21 - h21*)^2
    more, so that only few have to be tried, and the answer is exact.
    """
    metric = _metric(covariance)
    (a, b), (_, c) = gram = STEPS @ metric @ STEPS.T
    rest = h31_from_euler(euler, 0, 0)  # h11 + h31 - h21
    origin = np.stack([0 * rest, 0 * rest, rest, h22_from_others(0, 0, rest)], axis=1)
    x, y = ((predictions - origin) @ metric @ STEPS.T @ np.linalg.inv(gram)).T

    steepness = c - b * b / a
    reach = np.ceil(np.sqrt((2 * a + 2 * abs(b) + c) / (4 * steepness)) + 0.5)
    middle = np.rint(_nearest_h21(x, y, rest, gram))
    least = np.maximum(0, 1 - rest)  # of h21, where h11 >= 1 and h31 >= 0
    nearest = np.full(len(x), np.inf)
    h11, h21 = np.zeros((2, len(x)))
    for step in np.arange(-reach, reach + 1):
        other = np.maximum(middle + step, least)
        best = np.clip(np.rint(x - b / a * (other - y)), 1, rest + other)
        distance = _form(gram, best - x, other - y)
        nearer = distance < nearest
        for kept, new in ((nearest, distance), (h11, best), (h21, other)):
            np.copyto(kept, new, where=nearer)
    return origin + np.stack([h11, h21], axis=1).astype(np.int64) @ STEPS


def _nearest_h21(x: np.ndarray, y: np.ndarray, rest: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """The real h21 of the nearest real pair with h11 >= 1, h21 >= 0 and h31 >= 0.

    That is (x, y) itself or, where it breaks a bound, the nearest of the nearest points on the
    three edges h11 = 1, h31 = 0 (so that h11 = rest + h21) and least h21.
    """
    (a, b), (_, c) = gram
    least = np.maximum(0, 1 - rest)
    on_h11 = np.maximum(least, y + b / c * (x - 1))
    # along the edge h31 = 0 both grow by 1 alike
    on_h31 = np.maximum(least, ((a + b) * (x - rest) + (b + c) * y) / (a + 2 * b + c))
    on_h21 = np.clip(x - b / a * (least - y), 1, rest + least)
    edges = [(1, on_h11), (rest + on_h31, on_h31), (on_h21, least)]
    distances = [_form(gram, h11 - x, h21 - y) for h11, h21 in edges]
    nearest = np.choose(np.argmin(distances, axis=0), [h21 for _, h21 in edges])
    inside = (x >= 1) & (y >= 0) & (x - y <= rest)
    return np.where(inside, y, nearest)


def _form(gram: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return gram[0, 0] * x * x + 2 * gram[0, 1] * x * y + gram[1, 1] * y * y


def _metric(covariance: np.ndarray) -> np.ndarray:
    """The inverse of a covariance, made regular."""
    return np.linalg.inv(covariance + np.diag(FLOOR * (1 + np.diag(covariance))))


def _require_table(values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] != len(HODGE_NAMES):
        raise ValueError(f"{what} must have shape (N, 4), not {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{what} must be finite, and some are infinite or not numbers")
    return values


def _require_labels(labels: np.ndarray) -> np.ndarray:
    given = _require_table(labels, "labels")
    labels = given.astype(np.int64)
    if (labels != given).any():
        raise ValueError("labels must be whole numbers; the predictions come first")
    return labels


def _require_pairs(predictions: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = _require_labels(labels)
    if len(labels) == 0 or len(predictions) != len(labels):
        raise ValueError(
            f"there must be as many predictions as labels, and at least one; there are "
            f"{len(predictions)} and {len(labels)}"
        )
    return _require_table(predictions, "predictions"), labels


def _require_euler(euler: np.ndarray | None, n: int, decoding: str) -> np.ndarray:
    if euler is None:
        raise ValueError(f"the decoding {decoding!r} needs the Euler numbers: pass euler=")
    euler = np.asarray(euler)
    if euler.shape != (n,) or not np.issubdtype(euler.dtype, np.integer) or (euler % 6).any():
        raise ValueError(f"euler must be {n} integers, multiples of 6, one for each prediction")
    return euler.astype(np.int64)


def _require_covariance(covariance: np.ndarray | None) -> np.ndarray:
    if covariance is None:
        raise ValueError(
            "the decoding 'consistent' needs the covariance of the residuals: pass covariance="
        )
    matrix = np.asarray(covariance, dtype=float)
    size = len(HODGE_NAMES)
    if matrix.shape != (size, size) or not np.isfinite(matrix).all():
        raise ValueError(f"covariance must be {size} x {size} finite numbers, not {covariance!r}")
    lowest, *_, highest = np.linalg.eigvalsh(matrix)
    if not np.allclose(matrix, matrix.T) or lowest < -1e-9 * abs(highest):
        raise ValueError("covariance must be symmetric, with no variance below 0")
    return matrix


def _by_name(measure: str, values: np.ndarray) -> dict[str, float]:
    return {
        f"{measure}_{name}": float(value) for name, value in zip(HODGE_NAMES, values, strict=True)
    }
