"""What a run leaves behind: its folder, its metrics, its predictions and what it has seen.

Notebooks show, the library does, files remember: whatever a table or a figure states is
read back from the files written here.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cicy_utils import files, places

if TYPE_CHECKING:
    import pandas as pd

    from cicy_utils.data import Cicy4

LIST_SIZE = 905_684  # configurations in the complete list, products excluded
METRICS_FILE = "metrics.json"
HISTORY_FILE = "history.csv"
TRAINED_ON_FILE = "trained_on.npz"
SETTINGS_VARIABLE = "CICY_SETTINGS"  # the fingerprint of the settings that a notebook was given

SECTIONS = {"notebook", "variant", "label", "data", "environment"}
MODEL_SECTIONS = SECTIONS | {"model", "seed", "settings", "split", "weights", "training", "metrics"}


class Predictions(NamedTuple):
    """Raw predictions of one part of a split.

    indices: int64 (n,) positions in the list; predictions: float32 (n, 4) before rounding, float64
    if they are a mean; labels: int16 (n, 4). Columns in the order h11, h21, h31, h22.
    """

    indices: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray


class Mask(NamedTuple):
    """Every configuration that some weights were ever trained on.

    indices: bool (N,) over the list; fingerprint: of the list, as in `data.Cicy4`.
    """

    indices: np.ndarray
    fingerprint: str

    def count(self, indices: np.ndarray) -> int:
        """How many of these configurations the weights were trained on."""
        return int(self.indices[indices].sum())


def project_root() -> Path:
    """The nearest folder upwards with notebooks/ and results/ in it.

    Else the folder of outputs in a Kaggle notebook, and the working directory anywhere else.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "results").is_dir():
            return folder
    root = places.kaggle()
    return root / "working" if root else here


def find(path: Path | str) -> Path:
    """A path from here, where there is something, else from the top folder of the project.

    Notebooks run in its folder notebooks/. "~" is the home folder.
    """
    path = Path(path).expanduser()
    return path if path.exists() else project_root() / path


def run_directory(notebook: str, variant: str, folder: Path | str | None = None) -> Path:
    """Create and return results/interactive/<notebook>/<variant>, or the folder if one is given.

    That is a path from the top folder of the project, wherever the notebook runs; "~" is the home
    folder.

    On Kaggle, runs that are attached as input are put beside it first; see ``places.bring_runs``.
    """
    if not folder:
        results = project_root() / "results" / "interactive"
        places.bring_runs(results, notebook)
        folder = results / notebook / variant
    folder = project_root() / Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def results_folder(folder: Path | str | None, run_dir: Path | str = "") -> Path:
    """The results/<run> to read from; without one (None) the run in which run_dir lies.

    It is looked up as by ``find``. FileNotFoundError when there is no such folder.
    """
    found = find(folder) if folder else Path(run_dir).parents[1]
    if not found.is_dir():
        raise FileNotFoundError(f"there is no folder {found} to read results from")
    return found


def write_metrics(run_dir: Path | str, **sections: Any) -> dict[str, Any]:
    """Write metrics.json into a run folder in one step and return it as a reader will see it.

    Every run names notebook, variant, label, data and environment; a run of a model also
    model, seed, settings, split, weights, training and metrics. Numbers that are not finite
    become null. A missing section is a ValueError. A notebook that is run by command adds the
    fingerprint of its settings, by which it is known to be done.
    """
    required = MODEL_SECTIONS if "model" in sections else SECTIONS
    if missing := sorted(required - sections.keys()):
        raise ValueError(
            f"metrics of {run_dir} lack {', '.join(missing)}: pass every section to write_metrics"
        )
    if given := os.environ.get(SETTINGS_VARIABLE):
        sections["settings_fingerprint"] = given
    write_json(Path(run_dir) / METRICS_FILE, sections)
    return read_metrics(run_dir)


def settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """sha256 (hexadecimal) of settings, as JSON with sorted names."""
    text = json.dumps(_plain(settings), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Write a JSON file in one step; numbers that are not finite become null."""
    text = json.dumps(_plain(value), indent=2, allow_nan=False) + "\n"
    files.write_text(path, text)


def read_metrics(run_dir: Path | str) -> dict[str, Any]:
    """The metrics.json of a run folder; FileNotFoundError when the run has not finished."""
    path = Path(run_dir) / METRICS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"no {METRICS_FILE} in {run_dir}: run its notebook to the end first"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def found_metrics(run_dir: Path | str) -> dict[str, Any]:
    """The same; {} when the run has not finished or the file cannot be read."""
    metrics = files.read_json(Path(run_dir) / METRICS_FILE)
    return metrics if isinstance(metrics, dict) else {}


def residual_covariance(record: Mapping[str, Any]) -> np.ndarray | None:
    """What the decoding "consistent" needs to be done again, from metrics.json, as float (4, 4).

    None where the record has none: nothing was known of errors on configurations not trained on.
    """
    residuals = record.get("residuals")
    return np.array(residuals["covariance"]) if residuals else None


def read_history(run_dir: Path | str) -> pd.DataFrame:
    """The history.csv of a run folder, one row an epoch; FileNotFoundError when there is none."""
    import pandas as pd  # slow to import, and most of this module does without

    path = Path(run_dir) / HISTORY_FILE
    if not path.is_file():
        raise FileNotFoundError(f"no {HISTORY_FILE} in {run_dir}: nothing has been trained there")
    return pd.read_csv(path)


def best_epoch(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the lowest validation loss, the first of equals."""
    return min(history, key=lambda row: row["validation_loss"])


def save_predictions(
    run_dir: Path | str, part: str, indices: np.ndarray, predictions: np.ndarray, labels: np.ndarray
) -> Path:
    """Write predictions_<part>.npz: indices int64 (n,), predictions float32 (n, 4), labels int16.

    Raises ValueError when the three do not belong together.
    """
    indices, predictions, labels = map(np.asarray, (indices, predictions, labels))
    if predictions.shape != (len(indices), 4) or labels.shape != predictions.shape:
        raise ValueError(
            f"predictions of part {part!r} need shapes (n,), (n, 4) and (n, 4), "
            f"not {indices.shape}, {predictions.shape} and {labels.shape}"
        )
    path = predictions_file(run_dir, part)
    arrays = {
        "indices": indices.astype(np.int64),
        "predictions": predictions.astype(np.float32),
        "labels": labels.astype(np.int16),
    }
    files.write_atomically(path, lambda file: np.savez_compressed(file, **arrays))
    return path


def predictions_file(run_dir: Path | str, part: str) -> Path:
    """Where the predictions of a part are saved."""
    return Path(run_dir) / f"predictions_{part}.npz"


def load_predictions(run_dir: Path | str, part: str) -> Predictions:
    """The predictions that `save_predictions` wrote; FileNotFoundError when there are none."""
    path = predictions_file(run_dir, part)
    if not path.is_file():
        raise FileNotFoundError(
            f"no predictions of part {part!r} at {path}: run the notebook first"
        )
    with np.load(path) as arrays:
        return Predictions(arrays["indices"], arrays["predictions"], arrays["labels"])


def save_trained_on(run_dir: Path | str, indices: np.ndarray, n: int, fingerprint: str) -> Path:
    """Write trained_on.npz: which of n configurations the weights were ever trained on.

    indices: integers, or bool (n,). They are kept as bits, 113 kB for the complete list.
    """
    mask = np.zeros(n, dtype=bool)
    mask[indices] = True
    path = Path(run_dir) / TRAINED_ON_FILE
    arrays = {"bits": np.packbits(mask), "n": np.int64(n), "fingerprint": np.str_(fingerprint)}
    files.write_atomically(path, lambda file: np.savez(file, **arrays))
    return path


def load_trained_on(run_dir: Path | str) -> Mask:
    """What `save_trained_on` wrote; FileNotFoundError when nothing did."""
    path = Path(run_dir) / TRAINED_ON_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"no {TRAINED_ON_FILE} in {run_dir}, so nobody knows what these weights were trained "
            "on: train the model again"
        )
    with np.load(path) as arrays:
        bits = np.unpackbits(arrays["bits"], count=int(arrays["n"])).astype(bool)
        return Mask(bits, str(arrays["fingerprint"]))


def require_unseen(
    mask: Mask, indices: np.ndarray, data: Cicy4, *, who: object, part: str = "test"
) -> None:
    """Refuse weights that were ever trained on a configuration they are to be judged by.

    who: the weights, part: the set of configurations, both for the message. ValueError when
    any of the indices is in the mask, or when the mask is of other data.
    """
    if mask.fingerprint != data.fingerprint or len(mask.indices) != len(data):
        raise ValueError(
            f"{who} was trained on another list of {len(mask.indices):,} configurations, so it "
            f"cannot be told whether it knows this {part} set: use a checkpoint of this data"
        )
    if seen := mask.count(indices):
        raise ValueError(
            f"{who} was trained on {seen:,} of the {len(indices):,} configurations of this {part} "
            "set, which it would know by heart: use a checkpoint that has seen none of them"
        )


def trained(run_folder: Path | str) -> list[tuple[Path, dict[str, Any]]]:
    """Folder and metrics.json of every finished model in results/<run>/, in order of names.

    Those that cannot be read are left out.
    """
    paths = sorted(Path(run_folder).glob(f"*/*/{METRICS_FILE}"))
    found = [(path.parent, found_metrics(path.parent)) for path in paths]
    return [(folder, record) for folder, record in found if "model" in record]


def validation_accuracy(record: Mapping[str, Any]) -> float | None:
    """Mean of the four accuracies on configurations that nothing was trained on, percent.

    Those of the validation set; of the own fold where a model was trained on that set; else None.
    """
    from cicy_utils.metrics import mean_accuracy  # slow to import

    parts = record["metrics"]
    measured = parts.get("validation") or parts.get("out_of_fold")
    return mean_accuracy(measured["raw"]) if measured else None


def preference(record: Mapping[str, Any]) -> tuple[float, float]:
    """A key that sorts results of one name, the one that validates best first.

    By the accuracy: losses are in units of their own where a run has changed its loss, so they
    only decide between equals.
    """
    accuracy = validation_accuracy(record)
    rank = math.inf if accuracy is None else -accuracy
    return rank, record["training"]["best_validation_loss"]


def place(run_dir: Path | str) -> str:
    """Notebook and variant of a run folder: "11_lstm_448/fast-42"."""
    return "/".join(Path(run_dir).absolute().parts[-2:])


def seed_folders(run_dir: Path | str, seeds: Sequence[int]) -> dict[int, Path]:
    """A folder for each seed: the run folder for the first, others beside it.

    Beside fast-42 they are called fast-43 and so on, beside mine-42 mine-43, and beside a name
    without the first seed at its end seed-43.

    ValueError unless seeds are different whole numbers, at least one, and the folder of the first
    is not named after another of them.
    """
    require_seeds(seeds)
    run_dir = Path(run_dir)
    kind = run_dir.name.removesuffix(f"-{seeds[0]}")
    kind = "seed" if kind == run_dir.name else kind
    folders = [run_dir, *(run_dir.with_name(f"{kind}-{seed}") for seed in seeds[1:])]
    if len(set(folders)) < len(folders):
        raise ValueError(f"{run_dir} is the folder of another of the seeds {seeds}: put it first")
    return dict(zip(seeds, folders, strict=True))


def require_seeds(seeds: Sequence[int]) -> None:
    """Refuse what is no list of seeds: a ValueError unless it is different whole numbers."""
    listed = isinstance(seeds, Sequence) and all(type(seed) is int for seed in seeds)
    if not listed or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different whole numbers such as [42, 43], not {seeds!r}")


def _plain(value: Any) -> Any:
    """Python's own types for JSON: NumPy scalars unwrapped, paths as text, NaN and Inf as None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
