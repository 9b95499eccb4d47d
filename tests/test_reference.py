import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from cicy_utils import (
    checkpoint,
    ensembles,
    evaluation,
    metrics,
    prediction,
    records,
    reference,
    retraining,
    seeds,
    tables,
    topology,
    training,
)
from cicy_utils.data import Cicy4, load_cicy4
from cicy_utils.models import build_model
from cicy_utils.splits import split_72
from cicy_utils.training import TrainConfig, fit

CONFIG = TrainConfig(batch_size=64, max_epochs=1, scale_targets=True, device="cpu")


@pytest.fixture(scope="module")
def small_list() -> Cicy4:
    return load_cicy4(subset=400, layout="zeros-first")


@pytest.fixture
def complete_list(small_list, monkeypatch):
    """Let 400 configurations be the complete list."""

    def load(layout):
        assert layout in ("zeros-first", "stored")
        return small_list

    monkeypatch.setattr(reference, "load_cicy4", load)


@pytest.fixture
def run_dir(small_list, complete_list, tmp_path):
    split = split_72(len(small_list))
    folder = tmp_path / "11_lstm_448" / "fast-42"
    model = build_model("LSTM-448", hidden_size=8, seed=1)
    result = fit(model, small_list, split, CONFIG, folder)
    evaluation.evaluate_run(
        model, small_list, split, CONFIG, result, folder, notebook="11_lstm_448"
    )
    return folder


def test_the_published_numbers_are_those_of_the_small_file(run_dir):
    entry = reference.publish(run_dir)
    assert reference.find(run_dir.parents[1]) == [run_dir]
    assert entry["bytes"] == (run_dir / checkpoint.SMALL_WEIGHTS_FILE).stat().st_size
    assert entry["bytes"] < 0.6 * (run_dir / "weights.safetensors").stat().st_size
    (run_dir / "weights.safetensors").unlink()  # the small file is all that is needed
    (again,) = reference.check([run_dir], part=None)
    assert again["part"] == again["test"] == len(split_72(400).test)
    for decoding in ("raw", "relation", "relation+chi", "consistent"):
        assert again["here"][decoding] == pytest.approx(entry["metrics"]["test"][decoding])
    assert entry["metrics"]["validation"]["raw"].keys() == entry["metrics"]["test"]["raw"].keys()


def test_published_weights_join_an_ensemble_once_they_have_predicted(
    run_dir, small_list, monkeypatch, capsys
):
    """As in a clone, where there are no predictions; the mean of one is that one."""
    entry = reference.publish(run_dir)
    for path in run_dir.glob("predictions_*.npz"):
        path.unlink()
    split = split_72(len(small_list))
    results = run_dir.parents[1]
    refused = ensembles.find_members(results, small_list, split)
    assert not refused.members
    assert "python -m cicy_utils.reference predict" in refused.left_out["LSTM-448"]
    monkeypatch.setattr(reference.records, "project_root", lambda: results)
    monkeypatch.setattr(reference, "find", lambda: [run_dir])
    assert reference.main(["predict"]) == 0
    assert "11_lstm_448/fast-42: validation and test set predicted" in capsys.readouterr().out
    found = ensembles.find_members(results, small_list, split)
    reached = ensembles.climb(found, split)
    assert reached.weights == {"LSTM-448": 1.0}
    euler = topology.euler_numbers_batch(small_list.matrices[split.test])
    options = dict(chosen_by="validation", euler=euler)
    mean = ensembles.measure("Climb-72", reached.weights, found, small_list, split, **options)
    for decoding, published in entry["metrics"]["test"].items():
        assert mean["metrics"]["test"][decoding] == pytest.approx(published)


def test_training_goes_on_from_the_small_file(run_dir, small_list):
    """As in a clone, where the folder of published weights has only what is small."""
    reference.publish(run_dir)
    (run_dir / checkpoint.WEIGHTS_FILE).unlink()
    split, target = split_72(len(small_list)), run_dir.parent / "fast-43"
    start = retraining.load_checkpoint(run_dir, small_list, split)
    options = dict(notebook="11_lstm_448", hidden_size=8, start=start)
    still = dataclasses.replace(CONFIG, learning_rate=1e-30)
    seeds.train("LSTM-448", small_list, split, still, [43], target, **options)
    record = records.read_metrics(target)
    assert record["checkpoint"] == "11_lstm_448/fast-42"
    assert "started from 11_lstm_448/fast-42" in record["label"]
    first, second = (prediction.load_model(folder)[0] for folder in (run_dir, target))
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, weight in first.state_dict().items():
        np.testing.assert_allclose(second.state_dict()[name], weight, rtol=1e-6)
    options["hidden_size"] = 9
    with pytest.raises(ValueError, match="start from a run of the same network"):
        seeds.train("LSTM-448", small_list, split, still, [44], target, **options)


def test_the_notebook_does_not_tell_where_it_ran(run_dir, monkeypatch):
    notebook = run_dir / "notebook.ipynb"
    notebook.write_text(f'{{"path": "{run_dir}/.running.ipynb", "é": 1}}')
    monkeypatch.setattr(reference.records, "project_root", lambda: run_dir.parents[1])
    reference.publish(run_dir)
    assert json.loads(notebook.read_text()) == {
        "path": "11_lstm_448/fast-42/.running.ipynb",
        "é": 1,
    }


def test_where_nothing_is_trained_only_the_notebook_is_published(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "15_ensembles" / "all"
    records.write_metrics(
        folder, notebook="15_ensembles", variant="all", label="", data={}, environment={}
    )
    (folder / "notebook.ipynb").write_text(f'{{"path": "{folder}/.running.ipynb"}}')
    before = (folder / "metrics.json").read_bytes()
    monkeypatch.setattr(reference.records, "project_root", lambda: tmp_path)
    assert reference.main(["publish", str(folder)]) == 0
    assert capsys.readouterr().out == "\n"
    notebook = json.loads((folder / "notebook.ipynb").read_text())
    assert notebook == {"path": "15_ensembles/all/.running.ipynb"}
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "notebook.ipynb"}
    assert (folder / "metrics.json").read_bytes() == before


def test_a_part_is_drawn_by_its_seed(run_dir):
    reference.publish(run_dir)
    draws = [reference.check([run_dir], 20, seed)[0]["here"]["raw"] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    with pytest.raises(ValueError, match="between 1 and 80 test configurations, not 81"):
        reference.check([run_dir], 81)


def test_the_record_of_a_check_says_how_much_was_drawn_and_how_it_was_trained(run_dir, tmp_path):
    published = reference.publish(run_dir)
    trained = published["label"].split(": ", 1)[1]
    drawn = "quick run: 20 of 80 test configurations"
    for part, label in ((20, f"{drawn}, {trained}"), (None, published["label"])):
        found = reference.check([run_dir], part)
        record = reference.record_check(found, tmp_path / "weights", notebook="17_reference")
        assert record["label"] == label
    assert reference.record_check([], tmp_path, notebook="17_reference")["label"] == ""


def test_the_notebook_s_tables_set_both_sides_beside_each_other(run_dir):
    entry = reference.publish(run_dir)
    found = reference.check([run_dir], 20)
    shown = tables.published_weights({"published": found, "label": ""}).data
    assert len(shown) == 2 * 4
    published = entry["metrics"]["test"]["consistent"]["accuracy_all"]
    assert shown.loc["LSTM-448 (fast-42), consistent, in its file", "all four"] == published
    here = found[0]["here"]["raw"]["accuracy_h31"]
    assert shown.loc["LSTM-448 (fast-42), raw, measured here", tables.SYMBOLS["h31"]] == here
    files = tables.published_files({"published": found, "label": ""}).data
    assert files.loc["LSTM-448 (fast-42)", "test configurations"] == "20 of 80"


def test_without_published_weights_the_tables_are_empty():
    record = {"published": [], "label": ""}
    for table in (tables.published_weights(record), tables.published_files(record)):
        assert table.data.empty
        assert "<table" in table.to_html()


def test_another_file_or_list_is_refused(run_dir, small_list, monkeypatch):
    reference.publish(run_dir)
    other = dataclasses.replace(small_list, fingerprint="0" * 64)
    with monkeypatch.context() as patch:
        patch.setattr(reference, "load_cicy4", lambda layout: other)
        with pytest.raises(ValueError, match="was trained on another list or split"):
            reference.check([run_dir], 10)
    record = run_dir / reference.RECORD_FILE
    record.write_text(json.dumps(json.loads(record.read_text()) | {"sha256": "0"}))
    with pytest.raises(ValueError, match="is not the file whose numbers are published"):
        reference.check([run_dir], 10)
    record.unlink()
    with pytest.raises(FileNotFoundError, match="no weights are published there"):
        reference.check([run_dir], 10)


def test_what_is_refused_leaves_the_published_files_alone(run_dir, monkeypatch):
    reference.publish(run_dir)
    names = (checkpoint.SMALL_WEIGHTS_FILE, reference.RECORD_FILE)
    before = [(run_dir / name).read_bytes() for name in names]
    weights, metadata = checkpoint.load_weights(run_dir / checkpoint.WEIGHTS_FILE)
    changed = {name: weight + 1 for name, weight in weights.items()}
    other_tests = metadata["split"]["fingerprints"] | {"test": "of another list"}
    for change, why in (
        ({"fingerprints": other_tests}, "another list or split"),
        ({"seed": None}, "the published split: publish weights that"),
        ({"name": "80"}, "the split '80': publish weights that"),
    ):
        told = metadata | {"split": metadata["split"] | change}
        checkpoint.save_weights(run_dir / checkpoint.WEIGHTS_FILE, changed, told)
        with pytest.raises(ValueError, match=f"was trained on {why}"):
            reference.publish(run_dir)
    monkeypatch.setattr(reference, "LARGEST_FILE", 1000)
    with pytest.raises(ValueError, match="in 16 bits, more than"):
        reference.publish(run_dir)
    assert [(run_dir / name).read_bytes() for name in names] == before


def test_a_run_cut_short_or_too_large_is_not_published(run_dir, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(reference, "LARGEST_FILE", 1000)
        with pytest.raises(ValueError, match=r"take 0\.0 MB in 16 bits, more than"):
            reference.publish(run_dir)
    assert not (run_dir / checkpoint.SMALL_WEIGHTS_FILE).exists()
    metrics = run_dir / "metrics.json"
    record = json.loads(metrics.read_text())
    record["training"]["stop_reason"] = "time_limit"
    metrics.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="was cut short: finish it before publishing"):
        reference.publish(run_dir)


def test_the_table_has_every_decoding(run_dir, capsys):
    assert reference.main(["publish", str(run_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[lines.index(next(line for line in lines if line.startswith("| weights"))) :]
    assert len(table) == 2 + 4
    (how,) = [
        line for line in lines if line.startswith(f"- `{run_dir.parent.name}/{run_dir.name}`")
    ]
    assert "1 epochs" in how
    assert np.all([line.count("|") == table[0].count("|") for line in table])


def stage(folder: Path, epochs: int, begun_from: str | None = None) -> Path:
    """A run folder that tells how long it was trained, and from what on."""
    folder.mkdir(parents=True)
    training = {"epochs": epochs, "seconds": 60.0 * epochs, "device": "cpu"}
    begun = {"checkpoint": begun_from} if begun_from else {}
    (folder / "metrics.json").write_text(json.dumps({"training": training} | begun))
    return folder


def test_stages_are_found_in_their_own_run_and_then_among_the_published(tmp_path, monkeypatch):
    """A run may begin from published weights, of its own name too."""
    monkeypatch.setattr(records, "project_root", lambda: tmp_path)
    published, mine = tmp_path / "results" / "reference", tmp_path / "results" / "mine"
    first = stage(published / "11_a" / "fast-1", 5)
    second = stage(published / "11_a" / "fast-2", 7, "11_a/fast-1")
    again = stage(mine / "11_a" / "fast-2", 2, "11_a/fast-2")
    last = stage(mine / "11_a" / "fast-3", 1, "11_a/fast-2")
    lost = stage(mine / "11_a" / "fast-4", 3, "11_a/fast-9")
    assert reference.stages(last) == [first, second, again, last]
    assert reference.stages(lost) == [lost]
    expected = "the last of 4 stages, 1 of 15 epochs, 60 s of 15 min, on a CPU"
    assert reference._trained(last) == expected
    assert reference._trained(lost) == "3 epochs, 3 min on a CPU, and others before"
    stage(mine / "11_b" / "fast-1", 1, "11_b/fast-2")
    circle = stage(mine / "11_b" / "fast-2", 1, "11_b/fast-1")
    assert len(reference.stages(circle)) == 2


def test_the_weights_that_come_with_the_project_are_what_they_say():
    """On 300 configurations: within four standard errors of such a share, and half a point."""
    entries = reference.check(reference.find(), 300, device="cpu")
    for entry in entries:
        for decoding, here in entry["here"].items():
            published = entry["published"][decoding]["accuracy_all"]
            error = np.sqrt(published * (100 - published) / 300)
            assert here["accuracy_all"] == pytest.approx(published, abs=4 * error + 0.5)
    assert len(entries) == 3


@pytest.mark.long
def test_their_numbers_are_those_of_the_whole_test_set():
    for entry in reference.check(reference.find(), None, device="cpu"):
        for decoding, here in entry["here"].items():
            published = entry["published"][decoding]
            for name in metrics.EVERY_ACCURACY:
                assert here[name] == pytest.approx(published[name], abs=0.02), entry["folder"]


def test_what_is_published_was_measured_on_the_small_file(run_dir, small_list):
    entry = reference.publish(run_dir)
    model, _ = prediction.load_model(run_dir / checkpoint.SMALL_WEIGHTS_FILE)
    validation = split_72(len(small_list)).validation
    answers = training.predict(model, small_list.matrices[validation], device="cpu")
    covariance = metrics.residual_covariance(answers, small_list.hodge[validation])
    assert entry["residuals"]["covariance"] == covariance.tolist()
