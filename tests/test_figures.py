"""The paper's figures: what is in them, from folders whose contents are known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from cicy_utils import evaluation, figures, paper, splits
from cicy_utils.data import HODGE_NAMES

LABEL = "quick run: 300 of 905,684 configurations"
NUMBERS = {1, 2, *range(16, 48)}
MEASURES = [f"{m}_{name}" for m in paper.MEASURES for name in (*HODGE_NAMES, "mean")]
PUBLISHED = paper.published()


def measures(factor: float) -> dict[str, float]:
    """Errors of this size, and accuracies and R2 as far below the best."""
    best = {"accuracy": 100, "r2": 1}
    return {
        name: best[name.split("_")[0]] - factor if name.split("_")[0] in best else factor
        for name in MEASURES
    }


def add_model(run: Path, name: str, *, split="72", seed=42, factor=0.5, data="list", test="t"):
    """A finished model in a run folder, with a training of three epochs; returns its folder."""
    folder = run / f"notebook_{name}" / f"{split}-seed-{seed}"
    folder.mkdir(parents=True)
    share = "80" if split == "80" else "72"
    metrics = {part: {"raw": measures(factor)} for part in ("train", "validation", "test")}
    record = {
        "notebook": folder.parent.name,
        "model": name,
        "variant": folder.name,
        "label": LABEL,
        "seed": seed,
        "settings": {"seed": seed},
        "data": {"fingerprint": data},
        "split": {"name": split, "seed": 42, "fingerprints": {"test": test + share}},
        "weights": 1,
        "training": {"epochs": 3, "seconds": 1.0},
        "metrics": metrics,
        "environment": {},
    }
    (folder / "metrics.json").write_text(json.dumps(record))
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "train_loss": np.array([3.0, 2.0, 1.0]) * factor,
            "validation_loss": np.array([4.0, 2.5, 3.0]) * factor,
            "learning_rate": 0.01,
            "seconds": 1.0,
        }
    )
    history.to_csv(folder / "history.csv", index=False)
    return folder


def add_ensembles(run: Path, names: dict[str, int], factor=0.2, data="list", test="t"):
    entries = [
        {
            "name": name,
            "split": str(split),
            "members": [],
            "weights": [],
            "chosen_by": "paper",
            "metrics": {"test": {"raw": measures(factor)}},
            "data_fingerprint": data,
            "test_fingerprint": test + str(split),
            "label": LABEL,
        }
        for name, split in names.items()
    ]
    folder = run / "15_ensembles" / "all"
    folder.mkdir(parents=True)
    (folder / "ensembles.json").write_text(json.dumps(entries))


@pytest.fixture(scope="module")
def complete(tmp_path_factory, cicy4_sample):
    """A run folder with everything in it, and its figures."""
    run = tmp_path_factory.mktemp("complete")
    single = PUBLISHED["members"].isna()
    for (name, split), row in PUBLISHED[single].iterrows():
        add_model(run, name, split=str(split), factor=0.1 + (100 - row["accuracy_h22"]) / 10)
    add_ensembles(run, dict(PUBLISHED[~single].index))
    n = len(cicy4_sample)
    parts = [splits.split_72(n), splits.split_80(n), *splits.cv_folds(n)]
    evaluation.record_list(cicy4_sample, parts, run / "00_data" / "list")
    return run, figures.make_figures(run, run / "figures")


def drawn(monkeypatch, function):
    """Record the arguments of a plotting function, without drawing."""
    calls = []
    monkeypatch.setattr(figures.plots, function, lambda *args, **words: calls.append((args, words)))
    return calls


def test_the_table_has_every_figure_with_results():
    assert set(figures.FIGURES) == NUMBERS
    known = set(PUBLISHED.index)
    for figure in figures.FIGURES.values():
        assert figure.kind in figures.KINDS
        assert set(figure.members) <= known
        assert set(figure.measures) <= set(PUBLISHED.columns)


def test_rankings_show_only_what_was_published():
    for number, figure in figures.FIGURES.items():
        if figure.kind != "ranking":
            continue
        rows = PUBLISHED.loc[list(figure.members), list(figure.measures)]
        assert rows.notna().all(axis=None), number


def test_a_complete_folder_gives_every_figure(complete):
    run, made = complete
    assert set(made) == {str(number) for number in NUMBERS}
    assert figures.missing(made) == {}
    for number, file in made.items():
        assert file.path == run / "figures" / f"figure_{int(number):02d}.png"
        assert imread(file.path).std() > 0.01
        assert file.label == LABEL
        assert "No result yet" not in file.caption


def test_an_empty_folder_gives_none(tmp_path):
    made = figures.make_figures(tmp_path, tmp_path / "figures")
    assert made == {}
    waiting = figures.missing(made)
    assert set(waiting) == {str(number) for number in NUMBERS}
    assert waiting["19"] == (
        "Validation loss: LSTM models; "
        "waits for any result of LSTM-400, LSTM-424, LSTM-448, LSTM-456"
    )
    assert waiting["38"] == (
        "The Hodge numbers in fold 0; waits for the notebook 00_data, and the list that it had"
    )


def test_a_partial_folder_gives_what_it_can(tmp_path):
    add_model(tmp_path, "LSTM-448")
    made = figures.make_figures(tmp_path, tmp_path / "figures")
    assert set(made) == {"19", "20", "21", "26", "27", "28", "29", "45"}
    assert "No result yet of LSTM-400, LSTM-424, LSTM-456." in made["19"].caption


def test_distributions_need_the_data_notebook_and_its_list(tmp_path, cicy4_sample):
    n = len(cicy4_sample)
    all_splits = [splits.split_72(n), splits.split_80(n), *splits.cv_folds(n)]
    folder = tmp_path / "00_data" / "list"
    evaluation.record_list(cicy4_sample, all_splits, folder)
    made = figures.make_figures(tmp_path, tmp_path / "figures")
    assert set(made) == {"1", "2", "38", "39", "40", "41", "42"}
    assert made["1"].label == LABEL
    record = json.loads((folder / "metrics.json").read_text())
    record["data"]["fingerprint"] = "another list"
    (folder / "metrics.json").write_text(json.dumps(record))
    assert figures.make_figures(tmp_path, tmp_path / "figures") == {}


def test_folds_show_their_own_parts(cicy4_sample, monkeypatch):
    calls = drawn(monkeypatch, "hodge_distributions")
    figures.distribution(40, cicy4_sample, 42, LABEL)
    (samples,), words = calls[0]
    assert words == {"title": "The Hodge numbers in fold 2 (paper, Fig. 40)", "label": LABEL}
    fold = splits.cv_folds(len(cicy4_sample))[2]
    assert list(samples) == ["all", "training", "validation"]
    np.testing.assert_array_equal(samples["training"], cicy4_sample.hodge[fold.train])
    np.testing.assert_array_equal(samples["validation"], cicy4_sample.hodge[fold.validation])


def test_rankings_get_ours_and_the_published_values(tmp_path, monkeypatch):
    add_model(tmp_path, "CNN-LSTM-400", factor=3)
    add_model(tmp_path, "CNN-LSTM-400", split="80", factor=4)
    add_model(tmp_path, "LSTM-448", seed=1, factor=1)
    add_model(tmp_path, "LSTM-448", seed=2, factor=2)
    calls = drawn(monkeypatch, "rankings")
    monkeypatch.setattr(figures, "FIGURES", {27: figures.FIGURES[27]})
    figures.make_figures(tmp_path, tmp_path)
    (ours, published), words = calls[0]
    assert sorted(zip(ours.index, ours["mse_h21"], strict=True)) == [
        ("CNN-LSTM-400", 3),
        ("LSTM-448", 1),
        ("LSTM-448", 2),
    ]
    assert len(published) == 15
    assert published.loc["LSTM-448", "mse_h21"] == PUBLISHED.loc[("LSTM-448", 72), "mse_h21"]
    assert words["label"] == LABEL


def test_accuracies_take_training_and_test_set_apart(tmp_path, monkeypatch):
    add_model(tmp_path, "LSTM-448")
    add_ensembles(tmp_path, {"Ens-1": 72})
    calls = drawn(monkeypatch, "accuracies")
    monkeypatch.setattr(figures, "FIGURES", {20: figures.FIGURES[20]})
    figures.make_figures(tmp_path, tmp_path)
    (ours, published), _ = calls[0]
    assert list(ours["test set"].index) == ["LSTM-448", "Ens-1"]
    assert ours["training set"].loc["Ens-1"].isna().all()
    row = PUBLISHED.loc[("LSTM-448", 72)]
    assert published["training set"].loc["LSTM-448", "accuracy_h22"] == row["train_accuracy_h22"]
    assert published["test set"].loc["LSTM-448", "accuracy_h22"] == row["accuracy_h22"]


@pytest.mark.parametrize("difference", [{"data": "other"}, {"test": "other"}])
def test_results_that_may_not_be_compared_stay_out(tmp_path, monkeypatch, difference):
    for name in ("LSTM-400", "LSTM-424", "LSTM-448"):
        add_model(tmp_path, name)
    add_model(tmp_path, "LSTM-456", **difference)
    calls = drawn(monkeypatch, "loss_curves")
    monkeypatch.setattr(figures, "FIGURES", {19: figures.FIGURES[19]})
    figures.make_figures(tmp_path, tmp_path)
    (runs,), _ = calls[0]
    assert [name for name, _ in runs] == ["LSTM-400", "LSTM-424", "LSTM-448"]


def test_the_caption_names_what_was_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", {19: figures.FIGURES[19]})
    for name in ("LSTM-400", "LSTM-424"):
        add_model(tmp_path, name)
    add_model(tmp_path, "LSTM-448", data="other")
    caption = figures.make_figures(tmp_path, tmp_path / "figures")["19"].caption
    assert "Left out, as the configurations, test sets or recipes differ: some of LSTM-448." in (
        caption
    )


def test_curves_need_a_history(tmp_path):
    (add_model(tmp_path, "LSTM-448-d80", split="80") / "history.csv").unlink()
    made = figures.make_figures(tmp_path, tmp_path / "figures")
    assert {"25", "34"} <= set(made)
    assert not {"24", "47"} & set(made)
