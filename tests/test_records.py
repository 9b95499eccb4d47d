"""The files of a run: folder, label, metrics, predictions."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cicy_utils import records
from cicy_utils.config import PAPER_RECIPE, RETRAINING, TrainConfig
from cicy_utils.training import FitResult

PAPER = TrainConfig()
COMMON = {"notebook": "00_data", "variant": "list", "label": "", "data": {}, "environment": {}}


def result(stop_reason: str, epochs: int = 7) -> FitResult:
    return FitResult(pd.DataFrame(), 1, 0.5, epochs, 1.0, stop_reason, "cpu")


def test_the_papers_recipe_on_the_whole_list_has_no_label():
    assert records.run_label(905_684, PAPER, result("converged")) == ""
    assert records.run_label(905_684, PAPER, result("max_epochs", 550)) == ""
    assert records.run_label(905_684) == ""


def test_hardware_and_seed_do_not_make_another_recipe():
    config = TrainConfig(seed=7, device="cpu", max_hours=100.0)
    assert records.run_label(905_684, config, result("converged")) == ""


@pytest.mark.parametrize(
    ("configurations", "config", "outcome", "label"),
    [
        (6_000, None, None, "quick run: 6,000 of 905,684 configurations"),
        (905_684, TrainConfig(max_epochs=1), None, "quick run: at most 1 epoch"),
        (
            6_000,
            TrainConfig(max_epochs=3, batch_size=64),
            result("max_epochs", 3),
            "quick run: 6,000 of 905,684 configurations, at most 3 epochs, "
            "batch size 64 instead of 128",
        ),
        (
            905_684,
            TrainConfig(max_epochs=6, schedule="one-cycle"),
            result("max_epochs", 6),
            "changed recipe: at most 6 epochs, schedule one-cycle instead of plateau",
        ),
        (
            905_684,
            TrainConfig(learning_rate=0.001),
            None,
            "changed recipe: learning rate 0.001 instead of 0.01",
        ),
        (
            905_684,
            TrainConfig(max_epochs=900),
            None,
            "changed recipe: max epochs 900 instead of 550",
        ),
        (
            905_684,
            PAPER,
            result("time_limit"),
            "quick run: stopped by the time limit after 7 epochs",
        ),
        (905_684, PAPER, result("interrupted"), "quick run: stopped by hand after 7 epochs"),
    ],
)
def test_anything_else_says_what_it_is(configurations, config, outcome, label):
    assert records.run_label(configurations, config, outcome) == label


def test_retraining_has_a_recipe_of_its_own():
    config = TrainConfig(min_learning_rate=1e-7)
    recipe = PAPER_RECIPE | RETRAINING
    assert records.run_label(905_684, config, recipe=recipe) == ""
    assert "min learning rate" in records.run_label(905_684, config)


def test_the_label_of_several_runs_says_what_each_says():
    whole, short = "", "quick run: 5 of 905,684 configurations, at most 2 epochs"
    other = "changed recipe: batch size 64 instead of 128, at most 2 epochs"
    assert records.joint_label([whole, whole]) == ""
    assert records.joint_label([]) == ""
    assert records.joint_label([whole, other]) == other
    assert records.joint_label([other, short, short]) == (
        "quick run: batch size 64 instead of 128, at most 2 epochs, 5 of 905,684 configurations"
    )


def test_the_label_of_members_says_whose_setting_is_whose():
    first = "changed recipe: at most 26 epochs, the fast recipe"
    second = "changed recipe: batch size 1024 instead of 128, at most 80 epochs, the fast recipe"
    assert records.members_label({"A": first, "B": second}) == (
        "changed recipe: the fast recipe, A (at most 26 epochs), "
        "B (batch size 1024 instead of 128; at most 80 epochs)"
    )
    assert records.members_label({"A": first, "B": first}) == first
    assert records.members_label({"A": first}) == first
    quick = "quick run: 5 of 905,684 configurations"
    assert records.members_label({"A": "", "B": quick}) == (
        "quick run: B (5 of 905,684 configurations)"
    )
    assert records.members_label({"A": "", "B": ""}) == ""


def test_every_seed_has_a_folder(tmp_path):
    assert records.seed_folders(tmp_path / "seed-7", [7]) == {7: tmp_path / "seed-7"}
    several = records.seed_folders(tmp_path / "first", [7, 3])
    assert several == {7: tmp_path / "first", 3: tmp_path / "seed-3"}
    for seeds in ([], [1, 1], [1.5], ["1"], [True], 42):
        with pytest.raises(ValueError, match="different whole numbers"):
            records.seed_folders(tmp_path / "x", seeds)
    with pytest.raises(ValueError, match="the folder of another of the seeds"):
        records.seed_folders(tmp_path / "seed-3", [7, 3])


def test_metrics_come_back_as_plain_numbers(tmp_path):
    written = records.write_metrics(
        tmp_path / "new" / "folder",
        **COMMON,
        statistics={"mean": np.float64(0.5), 3: np.int64(4), "list": np.arange(2), "nan": math.nan},
    )
    assert written == records.read_metrics(tmp_path / "new" / "folder")
    assert written["statistics"] == {"mean": 0.5, "3": 4, "list": [0, 1], "nan": None}
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["metrics.json"]


def test_metrics_must_be_complete(tmp_path):
    with pytest.raises(ValueError, match="lack environment"):
        records.write_metrics(
            tmp_path, **{name: value for name, value in COMMON.items() if name != "environment"}
        )
    with pytest.raises(ValueError, match="lack metrics, seed, settings, split, training, weights"):
        records.write_metrics(tmp_path, **COMMON, model="LSTM-448")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_metrics(tmp_path):
    records.write_metrics(tmp_path, **COMMON)
    with pytest.raises(TypeError):
        records.write_metrics(tmp_path, **COMMON, statistics=object())
    assert records.read_metrics(tmp_path) == COMMON


def test_an_unfinished_run_has_no_metrics(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no metrics\.json"):
        records.read_metrics(tmp_path)
    with pytest.raises(FileNotFoundError, match="no predictions of part 'test'"):
        records.load_predictions(tmp_path, "test")


def test_predictions_come_back(tmp_path):
    indices, labels = np.array([5, 3]), np.arange(8).reshape(2, 4)
    records.save_predictions(tmp_path, "test", indices, labels + 0.25, labels)
    loaded = records.load_predictions(tmp_path, "test")
    assert [array.dtype for array in loaded] == [np.int64, np.float32, np.int16]
    np.testing.assert_array_equal(loaded.indices, indices)
    np.testing.assert_array_equal(loaded.predictions, labels + 0.25)
    np.testing.assert_array_equal(loaded.labels, labels)


def test_predictions_must_belong_together(tmp_path):
    with pytest.raises(ValueError, match="need shapes"):
        records.save_predictions(tmp_path, "test", [1, 2], np.zeros((3, 4)), np.zeros((3, 4)))


def test_run_directories_are_in_results_of_the_project(tmp_path, monkeypatch):
    for folder in ("notebooks", "results"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    folder = records.run_directory("11_lstm_448", "seed-42")
    assert folder.is_dir()
    assert folder == tmp_path / "results" / "interactive" / "11_lstm_448" / "seed-42"
    assert records.run_directory("11_lstm_448", "seed-42", folder="") == folder
    own = records.run_directory("11_lstm_448", "seed-42", folder="results/my own")
    assert own == tmp_path / "results" / "my own"


def test_outside_the_project_the_working_directory_serves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert records.project_root() == tmp_path == Path.cwd()


def test_environment_is_ready_for_json():
    found = json.loads(json.dumps(records.environment()))
    assert set(found["packages"]) == set(records.PACKAGES)
    assert found["cores"] >= 1
    assert found["processor"]


def test_merged_labels_are_one_for_each_kind():
    quick = ["quick run: 300 of 905,684 configurations", "quick run: at most 2 epochs"]
    changed = ["changed recipe: seed 43"]
    assert records.merged_labels([*quick, "", *changed, quick[0]]) == [
        "quick run: 300 of 905,684 configurations, at most 2 epochs",
        "",
        "changed recipe: seed 43",
    ]
    assert records.merged_labels([]) == []


def test_accuracies_on_a_part_of_the_list_claim_nothing():
    part, short = "quick run: 300 of 905,684 configurations", "quick run: at most 2 epochs"
    assert records.claim_nothing(["", "changed recipe: seed 43", part])
    assert not records.claim_nothing(["", "changed recipe: seed 43", short])
    assert not records.claim_nothing([])
    assert not records.claim_nothing(["quick run: 20,000 of 181,137 test configurations"])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.44, "0.4 s"), (52, "52 s"), (170, "3 min"), (7 * 3600 + 300, "7 h 5 min")],
)
def test_duration(seconds, text):
    assert records.duration(seconds) == text


def test_metrics_that_cannot_be_read_are_no_finished_model(tmp_path):
    for name, content in (("one", '{"model": "LSTM-448"}'), ("two", '{"model"'), ("three", "[]")):
        (tmp_path / "11_lstm_448" / name).mkdir(parents=True)
        (tmp_path / "11_lstm_448" / name / "metrics.json").write_text(content)
    found = tmp_path / "11_lstm_448" / "one"
    assert records.trained(tmp_path) == [(found, {"model": "LSTM-448"})]
    assert records.found_metrics(tmp_path) == records.found_metrics(found.with_name("two")) == {}


def test_the_precision_belongs_to_the_recipe():
    config = TrainConfig(precision="bfloat16")
    label = records.run_label(905_684, config)
    assert label == "changed recipe: precision bfloat16 instead of float32"


def test_the_results_of_another_run_are_found_from_a_notebook(tmp_path, monkeypatch):
    mine = tmp_path / "results" / "mine"
    mine.mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    for folder in ("results/mine", "../results/mine", mine):
        assert records.results_folder(folder, tmp_path / "a" / "b").samefile(mine)
    with pytest.raises(FileNotFoundError, match=r"no folder .*yours to read results from"):
        records.results_folder("results/yours", tmp_path / "a" / "b")
