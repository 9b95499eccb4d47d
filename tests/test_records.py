"""The files of a run: folder, metrics, predictions, what it has seen."""

import math
from pathlib import Path

import numpy as np
import pytest

from cicy_utils import records
from cicy_utils.metrics import ACCURACIES

COMMON = {"notebook": "00_data", "variant": "list", "label": "", "data": {}, "environment": {}}


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


def test_metrics_that_cannot_be_read_are_no_finished_model(tmp_path):
    for name, content in (("one", '{"model": "LSTM-448"}'), ("two", '{"model"'), ("three", "[]")):
        (tmp_path / "11_lstm_448" / name).mkdir(parents=True)
        (tmp_path / "11_lstm_448" / name / "metrics.json").write_text(content)
    found = tmp_path / "11_lstm_448" / "one"
    assert records.trained(tmp_path) == [(found, {"model": "LSTM-448"})]
    assert records.found_metrics(tmp_path) == records.found_metrics(found.with_name("two")) == {}


def test_a_result_without_accuracies_comes_last():
    """Nothing is known of it on configurations that it was not trained on; its loss may be low."""

    def result(loss, **parts):
        accuracies = {part: {"raw": dict.fromkeys(ACCURACIES, a)} for part, a in parts.items()}
        return {"metrics": accuracies, "training": {"best_validation_loss": loss}}

    best, worse = result(3.0, validation=60.0), result(1.0, out_of_fold=50.0)
    unknown, also = result(0.1, test=99.0), result(0.2)
    given = [also, worse, unknown, best]
    assert sorted(given, key=records.preference) == [best, worse, unknown, also]


def test_the_results_of_another_run_are_found_from_a_notebook(tmp_path, monkeypatch):
    mine = tmp_path / "results" / "mine"
    mine.mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    for folder in ("results/mine", "../results/mine", mine):
        assert records.results_folder(folder, tmp_path / "a" / "b").samefile(mine)
    with pytest.raises(FileNotFoundError, match=r"no folder .*yours to read results from"):
        records.results_folder("results/yours", tmp_path / "a" / "b")
