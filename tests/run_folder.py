"""A small run folder, made by hand: what notebooks would have left behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from cicy_utils import metrics, plots
from cicy_utils.batch.status import Status
from cicy_utils.scan import COLUMNS

LABEL = "quick run: 40 of 905,684 configurations"
TEST = {"72": "72aa", "80": "80aa"}
LABELS = np.random.default_rng(0).integers(1, 60, (40, 4))


def measures(miss: int, seed: int = 0) -> dict:
    """Of predictions that miss in `miss` of 40 configurations, in every Hodge number."""
    predictions = LABELS.astype(float)
    wrong = np.random.default_rng(seed).choice(len(LABELS), miss, replace=False)
    predictions[wrong] += 1
    return metrics.evaluate(predictions, LABELS).to_dict(orient="index")


def record(model: str, *, miss: int = 10, split: str = "72", seed: int = 42, **changes) -> dict:
    """A metrics.json; `changes` replace whole sections."""
    test = TEST["80" if split == "80" else "72"]
    return {
        "notebook": "a_notebook",
        "variant": f"seed-{seed}",
        "label": LABEL,
        "model": model,
        "seed": seed,
        "settings": {"learning_rate": 0.01, "seed": seed, "device": "cpu", "max_hours": None},
        "data": {
            "source": "bundled",
            "layout": "stored",
            "subset": 40,
            "fingerprint": "dada",
            "configurations": 40,
        },
        "split": {"name": split, "seed": 42, "sizes": {}, "fingerprints": {"test": test}},
        "weights": 2_915_332,
        "training": {"epochs": 3, "best_epoch": 2, "seconds": 7200.0, "stop_reason": "max_epochs"},
        "metrics": {
            "test": measures(miss),
            "validation": measures(miss),
            "train": measures(0),
            "constant": measures(38),
        },
        "environment": {
            "python": "3.11.2",
            "packages": {"torch": "2.13.0"},
            "platform": "Linux",
            "processor": "a processor",
            "cores": 2,
            "gpu": None,
        },
    } | changes


def ensemble(name: str, *, miss: int = 5, split: str = "72", **changes) -> dict:
    """An entry of ensembles.json."""
    return {
        "name": name,
        "split": split,
        "members": ["LSTM-448", "LSTM-424"],
        "weights": [0.5, 0.5],
        "chosen_by": "paper",
        "metrics": {"test": measures(miss), "validation": measures(miss)},
        "data_fingerprint": "dada",
        "test_fingerprint": TEST[split],
        "label": LABEL,
    } | changes


def write(run_dir: Path, place: str, value: dict | list, file: str = "metrics.json") -> Path:
    """Put a JSON file into results/<run>/<place>, with the page of a notebook that is done."""
    folder = run_dir / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(value))
    (folder / "notebook.html").write_text("<!DOCTYPE html><title>a notebook</title><p>executed")
    notebook, variant = place.split("/")
    Status(notebook, variant, "done", started=10.0, finished=75.0).write(folder)
    return folder


def history(folder: Path) -> None:
    """The losses of three epochs."""
    (folder / "history.csv").write_text(
        "epoch,train_loss,validation_loss,learning_rate,seconds\n"
        "1,9.0,8.0,0.01,1.0\n2,5.0,6.0,0.01,1.0\n3,4.0,7.0,0.001,1.0\n"
    )


def scan(run_dir: Path, shared: dict) -> None:
    """Three trials of a scan over hidden sizes, one of them pruned and one without an epoch."""
    record = shared | {"notebook": "16_hidden_size_scan", "variant": "LSTM-448"}
    folder = write(
        run_dir, "16_hidden_size_scan/LSTM-448", record | {"scan": {"model": "LSTM-448"}}
    )
    rows = [
        (0, "pruned", 64, 2, 0.001, 42, 125956, 9.5, 1, 1, 30.0),
        (1, "finished", 128, 2, 0.001, 43, 345092, 8.6445, 3, 3, 90.0),
        (2, "unfinished", 32, 2, 0.001, 44, 86532, np.nan, 0, 0, 0.0),
    ]
    trials = pd.DataFrame(rows, columns=COLUMNS)
    trials.to_csv(folder / "trials.csv", index=False)
    (folder / "trials" / "001").mkdir(parents=True)
    history(folder / "trials" / "001")
    plots.save(plots.scan(trials, title="sizes", label=LABEL), folder, "sizes")


def make(run_dir: Path) -> Path:
    """Some of everything: seeds, other data, a fold, retraining, ensembles, a failure."""
    for name, model, miss in (("10_lstm_424", "LSTM-424", 12), ("11_lstm_448", "LSTM-448", 8)):
        history(write(run_dir, f"{name}/seed-42", record(model, miss=miss)))
    write(run_dir, "11_lstm_448/seed-43", record("LSTM-448", miss=4, seed=43))
    other = {"fingerprint": "else", "configurations": 50, "source": "bundled", "subset": 50}
    write(run_dir, "09_lstm_400/seed-42", record("LSTM-400", data=other))
    fold = record("LSTM-448-f1", split="fold-1", miss=6)
    history(write(run_dir, "13_cross_validation/fold-1", fold))
    write(run_dir, "14_retraining/lstm_448", record("LSTM-448-d80", split="80", miss=2))
    write(run_dir, "14_retraining/lstm_448_f1", record("LSTM-448-f1", split="80", miss=7))
    entries = [
        ensemble("Ens-4"),
        ensemble("hill climb", miss=1, chosen_by="validation", weights=[0.75, 0.25]),
    ]
    shared = {name: record("x")[name] for name in ("data", "environment", "label")}
    plain = {"notebook": "15_ensembles", "variant": "all", **shared}
    write(run_dir, "15_ensembles/all", plain)
    write(run_dir, "15_ensembles/all", entries, "ensembles.json")
    baseline = record("ridge regression", miss=30, training={"configurations": 28, "seconds": 0.1})
    write(run_dir, "00_data/list", plain | {"notebook": "00_data", "variant": "list"})
    write(run_dir, "00_data/list", [baseline], "baselines.json")
    scan(run_dir, plain)
    weights = {
        "name": "LSTM-448-fast",
        "folder": "11_lstm_448/fast-42",
        "part": 20,
        "test": 40,
        "published": measures(4),
        "here": measures(5),
    }
    checked = plain | {"notebook": "17_reference", "variant": "weights", "published": [weights]}
    write(run_dir, "17_reference/weights", checked)
    failed = run_dir / "12_lstm_456" / "seed-42"
    Status("12_lstm_456", "seed-42", "failed", error=["RuntimeError: <no> memory"]).write(failed)
    Status("01_cnn_gru_384", "seed-42", "pending").write(run_dir / "01_cnn_gru_384" / "seed-42")
    return run_dir
