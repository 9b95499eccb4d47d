"""What a run leaves behind: its folder, its label, its metrics and its predictions.

Notebooks show, the library does, files remember: whatever a table or a figure states is
read back from the files written here.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from cicy_utils.training import FitResult, TrainConfig

LIST_SIZE = 905_684  # configurations in the complete list, products excluded
METRICS_FILE = "metrics.json"
PACKAGES = ("torch", "numpy", "pandas", "scikit-learn", "numba", "matplotlib")

# The recipe of arXiv 2405.17406, section 5; whatever differs is named in the label of a run.
PAPER_RECIPE = {
    "learning_rate": 0.01,
    "batch_size": 128,
    "max_epochs": 550,
    "patience": 20,
    "plateau_factor": 0.1,
    "plateau_patience": 10,
    "min_learning_rate": 1e-8,
}

SECTIONS = {"notebook", "variant", "label", "data", "environment"}
MODEL_SECTIONS = SECTIONS | {"model", "seed", "settings", "split", "weights", "training", "metrics"}


class Predictions(NamedTuple):
    """Raw predictions of one part of a split.

    indices: int64 (n,) positions in the list; predictions: float32 (n, 4) before rounding;
    labels: int16 (n, 4). Columns in the order h11, h21, h31, h22.
    """

    indices: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray


def project_root() -> Path:
    """The nearest folder upwards with notebooks/ and results/ in it, else the working directory."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "results").is_dir():
            return folder
    return here


def run_directory(notebook: str, variant: str, run: str = "interactive") -> Path:
    """Create and return results/<run>/<notebook>/<variant>."""
    folder = project_root() / "results" / run / notebook / variant
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def environment() -> dict[str, Any]:
    """Versions and hardware of this process, ready for JSON; memory in GiB."""
    import torch  # slow to import, needed here only for the name of the GPU

    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "packages": packages,
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "gpu": gpu,
        "cuda": torch.version.cuda if gpu else None,
    }


def run_label(
    configurations: int, config: TrainConfig | None = None, result: FitResult | None = None
) -> str:
    """What keeps a run from being the paper's: "" for the whole list with the paper's recipe.

    The label is computed from what was done, never chosen, and stands on every table and
    figure. `configurations` is the number the run drew from the list; `result`, once there,
    adds a training that was cut short.
    """
    quick, changed = [], []
    if configurations < LIST_SIZE:
        quick.append(f"{configurations:,} of {LIST_SIZE:,} configurations")
    for name, published in PAPER_RECIPE.items() if config else ():
        value = getattr(config, name)
        if value == published:
            continue
        if name == "max_epochs" and value < published:
            quick.append(f"at most {value:,} epoch{'' if value == 1 else 's'}")
        else:
            words = name.replace("_", " ")
            changed.append(f"{words} {value:g} instead of {published:g}")
    if result and result.stop_reason in ("time_limit", "interrupted"):
        why = "by the time limit" if result.stop_reason == "time_limit" else "by hand"
        quick.append(f"stopped {why} after {result.epochs:,} epochs")
    if not quick and not changed:
        return ""
    return f"{'quick run' if quick else 'changed recipe'}: {', '.join(quick + changed)}"


def write_metrics(run_dir: Path | str, **sections: Any) -> dict[str, Any]:
    """Write metrics.json into a run folder in one step and return it as a reader will see it.

    Every run names notebook, variant, label, data and environment; a run of a model also
    model, seed, settings, split, weights, training and metrics. Numbers that are not finite
    become null. A missing section is a ValueError.
    """
    required = MODEL_SECTIONS if "model" in sections else SECTIONS
    if missing := sorted(required - sections.keys()):
        raise ValueError(
            f"metrics of {run_dir} lack {', '.join(missing)}: pass every section to write_metrics"
        )
    text = json.dumps(_plain(sections), indent=2, allow_nan=False) + "\n"
    _write(Path(run_dir) / METRICS_FILE, lambda file: file.write(text.encode()))
    return read_metrics(run_dir)


def read_metrics(run_dir: Path | str) -> dict[str, Any]:
    """The metrics.json of a run folder; FileNotFoundError when the run has not finished."""
    path = Path(run_dir) / METRICS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"no {METRICS_FILE} in {run_dir}: run its notebook to the end first"
        )
    return json.loads(path.read_text(encoding="utf-8"))


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
    path = Path(run_dir) / f"predictions_{part}.npz"
    arrays = {
        "indices": indices.astype(np.int64),
        "predictions": predictions.astype(np.float32),
        "labels": labels.astype(np.int16),
    }
    _write(path, lambda file: np.savez_compressed(file, **arrays))
    return path


def load_predictions(run_dir: Path | str, part: str) -> Predictions:
    """The predictions that `save_predictions` wrote; FileNotFoundError when there are none."""
    path = Path(run_dir) / f"predictions_{part}.npz"
    if not path.is_file():
        raise FileNotFoundError(
            f"no predictions of part {part!r} at {path}: run the notebook first"
        )
    with np.load(path) as arrays:
        return Predictions(arrays["indices"], arrays["predictions"], arrays["labels"])


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    from cicy_utils.checkpoint import write_atomically  # brings torch, which reading does not need

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)


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


def _cores() -> int:
    """Cores this process may use, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """The processor's name; Linux tells it in /proc/cpuinfo only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
