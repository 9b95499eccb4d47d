"""Saved weights at work: Hodge numbers of one's own configuration matrices, beside the exact."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cicy_utils import checkpoint, records, topology, training
from cicy_utils.canonical import canonical_form
from cicy_utils.data import HODGE_NAMES, LAYOUTS, SHAPE, arrange
from cicy_utils.metrics import decode, possible_decodings
from cicy_utils.models import HodgeNetwork, build_model


def load_model(run_dir: str | Path) -> tuple[HodgeNetwork, dict]:
    """Build the model of a run again, with its best weights.

    Args:
        run_dir: a folder in which ``training.fit`` has run, or one of results/reference, of which a
            clone has the small copy of the weights only; or the file of the weights. Where it is
            not found from here, from the top folder of the project.

    Returns:
        The model, on the CPU and in evaluation mode, and the metadata of its weights: model, data
        (fingerprint and layout), split, settings, training (best epoch and validation loss). What
        it predicts from must be in that layout: ``load_cicy4(layout=metadata["data"]["layout"])``.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: the file is damaged, or its metadata does not say, or says wrongly, what model
            the weights are for and what layout it was trained on.
    """
    path = records.find(run_dir)
    if path.suffix != ".safetensors":
        path = checkpoint.weights_file(path)
    weights, metadata = checkpoint.load_weights(path)
    try:
        settings = metadata["model"]
        layout = metadata["data"]["layout"]
        model = build_model(
            settings["name"],
            hidden_size=settings["hidden_size"],
            num_layers=settings["num_layers"],
            bidirectional=settings["bidirectional"],
            seed=0,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not say in its metadata what model and layout it belongs to ({error}); "
            "train the model again, or, where it is a network of your own, build it, and let its "
            "load_state_dict take checkpoint.load_weights(path)[0]"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} names a model that cannot be built: {error}") from error
    if model.settings != settings:
        raise ValueError(
            f"{path} describes {settings['name']} as {settings}, but here it is {model.settings}; "
            "use the version of this package that wrote it, or train the model again"
        )
    if layout not in LAYOUTS:
        raise ValueError(
            f"{path} was trained on the unknown layout {layout!r}; known are {', '.join(LAYOUTS)}"
        )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"{path} says it belongs to {settings['name']}, but its weights have other names or "
            "shapes; train the model again"
        ) from error
    return model.eval(), metadata


def predict(matrix: ArrayLike, run_dir: str | Path) -> pd.DataFrame:
    """What a trained model says of one four-fold, beside its exact Hodge numbers.

    Args:
        matrix: configuration matrix (m, K) of a connected Calabi-Yau four-fold, at most 16 rows
            and 20 columns, both in any order: it is brought into the form of the list and then
            into the layout that the model was trained on. (A matrix with a redundant piece stays
            as it is, though the list has another for the same manifold.) A model that was trained
            on another copy of the list may know another order: a warning says so.
        run_dir: as for :func:`load_model`.

    Returns:
        Columns h11, h21, h31, h22. Rows: "output" (of the network, floating-point numbers), its
        decodings "raw", "relation", "relation+chi" and, where metrics.json beside the weights
        tells how far off they usually are, "consistent" (see :mod:`cicy_utils.metrics`), "exact".

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: the matrix breaks a rule (see ``topology.hodge_numbers``), is no four-fold or
            is too large; or the weights are refused (see :func:`load_model`).
    """
    return _answers(_as_stored(matrix)[np.newaxis], run_dir).loc[0]


def predict_many(matrices: Sequence[ArrayLike], run_dir: str | Path) -> pd.DataFrame:
    """The same of many four-folds at once.

    Args:
        matrices: as for :func:`predict`, of any sizes; or one array (N, m, K), each matrix padded
            with zeros.
        run_dir: as for :func:`load_model`.

    Returns:
        As of :func:`predict`, indexed by the place of the matrix among these and the row.

    Raises:
        FileNotFoundError, ValueError: as of :func:`predict`; the message names the matrix.
    """
    stored = np.zeros((len(matrices), *SHAPE), dtype=np.uint8)
    for number, matrix in enumerate(matrices):
        try:
            stored[number] = _as_stored(matrix)
        except ValueError as error:
            raise ValueError(f"matrix {number}: {error}") from error
    return _answers(stored, run_dir)


def _answers(stored: np.ndarray, run_dir: str | Path) -> pd.DataFrame:
    """What a model says of matrices in the form of the list, by number and kind of answer."""
    model, metadata = load_model(run_dir)
    _warn_of_another_order(model, records.find(run_dir))
    inputs = arrange(stored, metadata["data"]["layout"])
    output = training.predict(model, inputs, device="cpu")
    euler = topology.euler_numbers_batch(stored)
    covariance = _residual_covariance(records.find(run_dir))
    answers = {"output": output}
    for name in possible_decodings(euler, covariance):
        answers[name] = decode(output, name, euler, covariance)
    answers["exact"] = topology.hodge_numbers_batch(stored)
    # object: the network's output keeps its fraction, the others stay integers
    values = np.stack([answer.astype(object) for answer in answers.values()], axis=1)
    index = pd.MultiIndex.from_product([range(len(stored)), answers])
    return pd.DataFrame(values.reshape(-1, len(HODGE_NAMES)), index=index, columns=HODGE_NAMES)


def _warn_of_another_order(model: HodgeNetwork, run_dir: Path) -> None:
    """Warn where a network that sees an order of rows and columns may know another than ours."""
    source = records.found_metrics(_folder(run_dir)).get("data", {}).get("source", "bundled")
    if source != "bundled" and model.graph is None:
        warnings.warn(
            f"{model.name} was trained on {source}, whose rows and columns may come in another "
            "order than in the list that is bundled, in which it is asked here: it may know better",
            stacklevel=4,
        )


def _residual_covariance(run_dir: Path) -> np.ndarray | None:
    try:
        return records.residual_covariance(records.read_metrics(_folder(run_dir)))
    except FileNotFoundError:  # trained, and not evaluated yet
        return None


def _folder(run_dir: Path) -> Path:
    return run_dir.parent if run_dir.suffix == ".safetensors" else run_dir


def _as_stored(matrix: ArrayLike) -> np.ndarray:
    """A valid matrix as in the list: in canonical form, padded to uint8 (16, 20)."""
    matrix = topology.checked_matrix(matrix)
    if topology.dimension_of(matrix) != 4:
        raise ValueError("the matrix is that of a three-fold; the models know four-folds only")
    rows, columns = matrix.shape
    if rows > SHAPE[0] or columns > SHAPE[1]:
        raise ValueError(
            f"the matrix has {rows} rows and {columns} columns; the models take at most "
            f"{SHAPE[0]} and {SHAPE[1]}"
        )
    stored = np.zeros(SHAPE, dtype=np.uint8)
    stored[:rows, :columns] = canonical_form(matrix)
    return stored
