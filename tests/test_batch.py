import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import torch
from small_project import COUNT, GOOD, IMPORTS, RECORD, Project, write_notebook

from cicy_utils import cluster, lease
from cicy_utils.batch import __main__ as command
from cicy_utils.batch import (
    attempt,
    doctor,
    estimate,
    execution,
    folders,
    page,
    profiles,
    runner,
    status,
    summary,
    tasks,
)
from cicy_utils.batch.execution import Kernels
from cicy_utils.batch.profiles import Notebook
from cicy_utils.batch.status import Status

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of notebooks that end in every way, in a folder whose name has special signs."""
    notebooks = {
        "00_good": [*GOOD, "assert os.environ['CICY_BATCH'] == '1'", "time.sleep(1.2)"],
        "01_raises": [
            IMPORTS,
            RECORD,
            "raise RuntimeError('the sky\\nis green')",
            "print('after')",
        ],
        "02_exits": [IMPORTS, RECORD, "sys.exit(0)", "print('after')"],
        "03_exits_last": [IMPORTS, RECORD, "print(1)\nsys.exit(0)"],
        "04_dies": [IMPORTS, RECORD, "os._exit(1)"],
        "05_dies_well": [IMPORTS, RECORD, "os._exit(0)"],
        "06_is_killed": [IMPORTS, RECORD, "os.kill(os.getpid(), 9)", "print('after')"],
        "07_forgets": [IMPORTS, "print('no metrics')"],
        "08_half": [IMPORTS, RECORD, "Path(RUN_DIR, 'metrics.json').write_text('{\"seed\": 42')"],
        "09_other": [IMPORTS, "os.environ['CICY_SETTINGS'] = 'else'", RECORD],
        "10_ignores": [IMPORTS, "SUBSET = 8", RECORD],
        "11_needs_bad": GOOD,
        "12_needs_good": GOOD,
    }
    needs = {"11_needs_bad": ("01_raises",), "12_needs_good": ("00_good",)}
    project = Project(tmp_path_factory.mktemp("a {b} c & d"), notebooks, needs)
    # What an earlier run left behind must not make a failure look like a success.
    forgets = next(task for task in project.plan() if task.name == "07_forgets")
    finish(forgets, 1.0)
    (forgets.run_dir / "status.json").unlink()
    project.outcomes = project.run(jobs=2)
    return project


@pytest.mark.notebooks
@pytest.mark.parametrize(
    ("name", "state", "error"),
    [
        ("00_good", "done", ""),
        ("01_raises", "failed", "RuntimeError: the sky is green"),
        ("02_exits", "failed", "ended in this cell: sys.exit(0)"),
        ("03_exits_last", "failed", "ended in this cell: print(1)"),
        ("04_dies", "failed", "DeadKernelError"),
        ("05_dies_well", "failed", "DeadKernelError"),
        ("06_is_killed", "failed", "DeadKernelError"),
        ("07_forgets", "failed", "metrics.json is that of an earlier run"),
        ("08_half", "failed", "no readable metrics.json"),
        ("09_other", "failed", "metrics.json is of other settings"),
        ("10_ignores", "failed", "metrics.json has SUBSET 8, and 7 was asked for"),
        ("11_needs_bad", "blocked", "needs a finished 01_raises in try; 01_raises: failed"),
        ("12_needs_good", "done", ""),
    ],
)
def test_every_end_is_told_apart(finished, name, state, error):
    outcome = finished.outcomes[name]
    assert outcome.state == state
    assert error in (outcome.error[-1] if outcome.error else "")
    recorded = Status.read(finished.folder(name))
    assert recorded.state == ("pending" if state == "blocked" else state)
    assert tuple(recorded.error) == outcome.error


@pytest.mark.notebooks
def test_parameters_reach_the_notebook_and_its_folder(finished):
    folder = finished.folder("00_good")
    recorded = json.loads((folder / "metrics.json").read_text())
    assert (recorded["data"], recorded["seed"]) == ({"subset": 7}, 42)
    assert Status.read(folder).fingerprint == recorded["settings_fingerprint"]
    assert Status.read(folder).settings == {
        "SUBSET": 7,
        "SEED": 42,
        "LEARNING_RATE": 0.01,
        "LAYOUT": "stored",
        "SETTINGS": {},
    }
    assert sorted(path.name for path in folder.iterdir()) == [
        ".begun",
        "calls",
        "metrics.json",
        "notebook.html",
        "notebook.ipynb",
        "status.json",
    ]


@pytest.mark.notebooks
def test_failed_notebooks_have_pages_that_say_so(finished):
    failed = (finished.folder("01_raises") / "notebook.html").read_text()
    assert "This notebook failed." in failed
    assert "the sky is green" in failed
    assert "This notebook failed." not in (finished.folder("00_good") / "notebook.html").read_text()


def test_a_page_needs_no_network():
    cells = [nbformat.v4.new_markdown_cell(r"$h^{1,1} < 3$, `code`, $$\sum_r n_r$$")]
    written = page.render(nbformat.v4.new_notebook(cells=cells), "a title", ["1 < 2"])
    assert written.count("<math ") == 2
    assert "$" not in written[written.index("<body") :]
    assert "<title>a title</title>" in written
    assert "1 &lt; 2" in written
    assert not re.search(r"""(src|href)=["']?http|import\(""", written)


@pytest.mark.notebooks
def test_progress_is_told_while_a_notebook_runs(finished):
    assert any(line.startswith("[ 1/13] 00_good: running for ") for line in finished.said)
    assert any(line.startswith("[ 2/13] 01_raises: failed after ") for line in finished.said)


@pytest.mark.notebooks
def test_summary_names_what_failed(finished):
    text = summary.summarize("tiny", finished.run_dir, list(finished.outcomes.values()))
    assert "10 of 13 notebooks failed" in text
    assert "1 of 13 notebooks were not run:\n  11_needs_bad/seed-42: it needs a finished" in text
    assert "01_raises: RuntimeError: the sky is green" in text
    assert str(finished.folder("00_good") / "notebook.html") in text
    assert "No model has finished." in (finished.run_dir / "results.md").read_text()
    assert (finished.run_dir / "results.csv").read_text().startswith("model,")


@pytest.mark.notebooks
def test_again_skips_what_is_done_and_redoes_the_rest(tmp_path):
    notebooks = {"00_good": GOOD, "01_bad": [*GOOD, "assert not SEED"]}
    project = Project(tmp_path, notebooks)
    assert [outcome.state for outcome in project.run().values()] == ["done", "failed"]

    write_notebook(tmp_path / "notebooks", "01_bad", GOOD)  # mended
    assert [outcome.state for outcome in project.run().values()] == ["skipped", "done"]
    assert (project.folder("00_good") / "calls").read_text() == "x"
    assert (project.folder("01_bad") / "calls").read_text() == "xx"  # it went on in its folder

    # Other settings begin a new folder; the old one is kept, and somebody is told where.
    outcomes = project.run({"SUBSET": 8}, only=["00"])
    assert any("00_good: what was there moved to " in line for line in project.said)
    assert outcomes["00_good"].state == "done"
    metrics = json.loads((project.folder("00_good") / "metrics.json").read_text())
    assert metrics["data"]["subset"] == 8
    kept = list((tmp_path / "results" / "replaced").glob("try-*/00_good/seed-42/metrics.json"))
    assert [json.loads(path.read_text())["data"]["subset"] for path in kept] == [7]


def test_results_of_which_nothing_tells_move_away(tmp_path):
    """Such as those that come with the project: nothing is written over them."""
    project = Project(tmp_path, {"00_good": GOOD})
    (task,) = project.plan()
    task.run_dir.mkdir(parents=True)
    (task.run_dir / "metrics.json").write_text("published")
    folders.prepare(task)
    assert list(task.run_dir.iterdir()) == []
    (kept,) = (tmp_path / "results" / "replaced").glob("try-*/00_good/seed-42/metrics.json")
    assert kept.read_text() == "published"
    folders.begin(task)
    (task.run_dir / "metrics.json").write_text("its own")
    folders.prepare(task)
    assert (task.run_dir / "metrics.json").read_text() == "its own"


def plan_seeds(root: Path, seeds: str, **overrides) -> tasks.Task:
    """The first task of a notebook that trains with these seeds."""
    options = {"only": ["12"], "overrides": {"SEEDS": seeds} | overrides}
    return tasks.plan("smoke", root / "results" / "try", ROOT / "notebooks", **options)[0]


def test_a_second_seed_goes_on_when_it_is_asked_for_alone(tmp_path):
    both, second = plan_seeds(tmp_path, "[42, 43]"), plan_seeds(tmp_path, "[43]")
    finish(both, 1.0)
    (second.run_dir / "checkpoint.pt").touch()
    folders.prepare(second)
    kept = [".begun", "checkpoint.pt", "metrics.json"]
    assert sorted(path.name for path in second.run_dir.iterdir()) == kept
    assert not (tmp_path / "results" / "replaced").exists()
    assert folders.is_done(both)

    folders.prepare(plan_seeds(tmp_path, "[43]", MAX_EPOCHS="7"))
    assert list(second.run_dir.iterdir()) == []
    assert not folders.is_done(both)


def test_each_seed_s_folder_moves_away_by_what_is_in_it(tmp_path):
    task = plan_seeds(tmp_path, "[41, 42, 43, 44, 45, 46]")
    finish(task, 1.0)
    for folder in task.folders[:-1]:
        (folder / "checkpoint.pt").touch()
    own = (task.folders[1] / "metrics.json").read_text()
    published = json.dumps({"settings_fingerprint": "else"})
    (task.folders[2] / "metrics.json").write_text(published)
    (task.folders[2] / ".begun").unlink()
    folders.begin(plan_seeds(tmp_path, "[44]", MAX_EPOCHS="7"))
    (task.folders[4] / "metrics.json").unlink()  # its training was killed
    folders.prepare(task)
    kept = [folder for folder in task.folders if (folder / "checkpoint.pt").exists()]
    assert kept == [task.folders[number] for number in (0, 1, 4)]
    assert (kept[1] / "metrics.json").read_text() == own
    place = tmp_path / "results" / "replaced"
    moved = sorted(place.glob("try-*/12_lstm_456/*/metrics.json"))
    # The last one has no state to go on from: it would be trained over what is there.
    assert [path.parent.name for path in moved] == ["seed-43", "seed-44", "seed-46"]
    assert moved[0].read_text() == published


@pytest.mark.parametrize("seeds", ["[42, 43]", "[43]"])
def test_a_training_killed_with_other_settings_moves_away_whatever_its_seed(tmp_path, seeds):
    """Of the second seed nothing but its state tells."""
    folders.begin(plan_seeds(tmp_path, "[42, 43]"))
    task = plan_seeds(tmp_path, seeds, MAX_EPOCHS="7")
    (task.folders[-1] / "checkpoint.pt").touch()
    folders.prepare(task)
    assert list(task.folders[-1].iterdir()) == []


@pytest.mark.parametrize("name", ["checkpoint.pt", "study.journal"])
def test_a_killed_training_of_an_older_list_moves_away_however_often_it_is_prepared(tmp_path, name):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    (tmp_path / "list.npz").touch()
    options = {"only": ["16"], "overrides": {"SOURCE": "../list.npz"}}
    run_dir = tmp_path / "results" / "try"
    (task,) = tasks.plan("smoke", run_dir, tmp_path / "notebooks", **options)
    folders.begin(task)
    (task.run_dir / name).touch()
    folders.begin(task)  # it goes on, and began before
    for _ in range(2):
        folders.prepare(task)
        runner.new_status(task, "pending").write(task.run_dir)
    assert (task.run_dir / name).exists()
    newer = (task.run_dir / ".begun").stat().st_mtime + 1
    os.utime(tmp_path / "list.npz", (newer, newer))
    folders.prepare(task)
    assert (task.run_dir / name).exists()  # it is the same list
    (tmp_path / "list.npz").write_text("another list")
    os.utime(tmp_path / "list.npz", (1.0, 1.0))
    folders.prepare(task)
    assert not (task.run_dir / name).exists()


def test_killed_while_a_folder_moves_the_rest_follows(tmp_path, monkeypatch):
    folders.begin(plan_seeds(tmp_path, "[42]"))
    task = plan_seeds(tmp_path, "[42]", MAX_EPOCHS="7")
    for name in ("checkpoint.pt", "history.csv", "weights.safetensors"):
        (task.run_dir / name).touch()
    move = shutil.move
    left = [1, 1]

    def killed(*arguments):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return move(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "move", killed)
        with pytest.raises(KeyboardInterrupt):
            folders.prepare(task)
    folders.prepare(task)
    assert list(task.run_dir.iterdir()) == []
    moved = (tmp_path / "results" / "replaced").glob("*/12_lstm_456/seed-42/*")
    assert len({path.parent for path in moved}) == 2  # nothing is written over the first


def test_a_seed_at_which_another_process_works_is_left_alone(tmp_path):
    task = plan_seeds(tmp_path, "[42, 43]")
    with lease.hold(task.folders[1], status.LEASE):
        assert "is in use by process" in folders.in_use(task)
        with pytest.raises(ValueError, match="is in use by process"):
            runner.run([task], runner.Local(), say=lambda _: None)
    assert folders.in_use(task) == ""


@pytest.mark.parametrize(
    ("name", "recipe", "found"),
    [
        ("12", None, ["seed-42"]),
        ("12", "fast", ["fast-42"]),
        ("18", None, ["fast-42"]),
        ("18", "paper", ["seed-42"]),
        ("11", None, ["seed-42", "fast-42"]),
        ("11", "fast", ["fast-42"]),
    ],
)
def test_each_recipe_has_a_folder_of_its_own(name, recipe, found, tmp_path):
    overrides = {"RECIPE": recipe} if recipe else {}
    planned = tasks.plan("paper", tmp_path, ROOT / "notebooks", only=[name], overrides=overrides)
    assert [task.variant for task in planned] == found


def test_a_recipe_that_does_not_exist_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="no recipe 'slow'; choose one of paper, fast"):
        tasks.plan("paper", tmp_path, ROOT / "notebooks", only=["12"], overrides={"RECIPE": "slow"})


@pytest.mark.notebooks
def test_a_training_cut_short_is_partial_and_goes_on(tmp_path):
    stops = """\
metrics = json.loads(Path(RUN_DIR, "metrics.json").read_text())
metrics["training"] = {"stop_reason": "time_limit" if calls.read_text() == "x" else "max_epochs"}
Path(RUN_DIR, "metrics.json").write_text(json.dumps(metrics))"""
    needs = {"01_needs": ("00_short",)}
    project = Project(tmp_path, {"00_short": [*GOOD, stops], "01_needs": GOOD}, needs)
    outcomes = project.run()
    assert [outcome.state for outcome in outcomes.values()] == ["partial", "blocked"]
    assert outcomes["00_short"].error == ("stopped by the time limit; run again to go on",)
    assert "partial" in status.report(tmp_path / "results")
    text = summary.summarize("tiny", project.run_dir, list(outcomes.values()))
    assert "1 of 2 notebooks were stopped before their end" in text
    assert [outcome.state for outcome in project.run().values()] == ["done", "done"]
    assert (project.folder("00_short") / "calls").read_text() == "xx"
    assert [outcome.state for outcome in project.run().values()] == ["skipped", "skipped"]


@pytest.mark.notebooks
def test_a_time_limit_before_anything_can_be_used_is_no_failure(tmp_path):
    raises = """\
class OutOfTime(RuntimeError): ...
if calls.read_text() == "x":
    raise OutOfTime("late; or not")"""
    project = Project(tmp_path, {"00_short": [IMPORTS, COUNT, raises, RECORD]})
    outcome = project.run()["00_short"]
    assert (outcome.state, outcome.error) == ("partial", ("late; run again to go on",))
    assert project.run()["00_short"].state == "done"


@pytest.mark.parametrize(
    ("values", "overrides", "message"),
    [
        ({"SUBSETS": 7}, {}, "no parameter SUBSETS; it has SUBSET, SEED"),
        ({"SUBSET": 7.5}, {}, "SUBSET is a whole number, not 7.5"),
        ({"SUBSET": "7"}, {}, "SUBSET is a whole number, not '7'"),
        ({"SEED": True}, {}, "SEED is a whole number, not True"),
        ({"SEED": None}, {}, "SEED is a whole number, not None"),
        ({"LEARNING_RATE": "fast"}, {}, "LEARNING_RATE is a number, not 'fast'"),
        ({"LAYOUT": 3}, {}, "LAYOUT is text, not 3"),
        (
            {"SETTINGS": 0.5},
            {},
            r"SETTINGS is a dictionary such as \{'huber_delta': 0.01\}, not 0.5",
        ),
        ({}, {"EPOCHS": "3"}, "has a parameter EPOCHS; they have SUBSET, SEED"),
        ({}, {"SEED": "many"}, "SEED is a whole number, not 'many'"),
        ({}, {"SEED": "1.5"}, "SEED is a whole number, not 1.5"),
        ({}, {"RUN_DIR": "/data/mine"}, "RUN_DIR follows from the name .* with --run"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(tmp_path, values, overrides, message):
    project = Project(tmp_path, {"00_good": GOOD, "01_good": GOOD})
    with pytest.raises(ValueError, match=message):
        project.plan(values, overrides=overrides)
    assert not project.run_dir.exists()


def test_right_parameters_are_taken(tmp_path):
    project = Project(tmp_path, {"00_good": GOOD})
    overrides = {"LEARNING_RATE": "1", "LAYOUT": "descending", "SUBSET": "None", "SEED": "3"}
    overrides["SETTINGS"] = "{'huber_delta': 0.01}"
    (task,) = project.plan({"SUBSET": 9}, overrides=overrides)
    folder = project.folder("00_good", "seed-3").resolve()
    assert task.injected == {
        "SUBSET": None,
        "LEARNING_RATE": 1,
        "LAYOUT": "descending",
        "SEED": 3,
        "SETTINGS": {"huber_delta": 0.01},
        "RUN_DIR": str(folder),
    }
    assert task.run_dir == folder
    assert tasks.from_text("00_good", "LAYOUT", "7", "stored") == "7"  # text stays text


@pytest.mark.parametrize(
    ("only", "name", "value", "message"),
    [
        ("11", "SUBSET", "1000000", "SUBSET must be a whole number from 10 to 905,684, not 1,000,"),
        ("00", "SUBSET", "3", "SUBSET must be a whole number from 10 to 905,684, not 3"),
        ("00", "BASELINE_SUBSET", "0", "BASELINE_SUBSET must be a whole number from 10 to .*not 0"),
        ("00", "BASELINE_TRAIN", "0", "BASELINE_TRAIN must be a whole number, at least 1, not 0"),
        ("12", "SPLIT_SEED", "None", "the bundled list has no split of its own: give a seed of "),
        ("12", "SPLIT_SEED", "-1", "SPLIT_SEED must be .* from 0 to 4,294,967,295, not -1"),
        ("12", "HIDDEN_SIZE", "-3", "hidden_size must be a positive integer, not -3"),
        ("13", "MODEL", "LSTM-3", "unknown model 'LSTM-3'; choose one of CNN-GRU-384, "),
        ("13", "NUM_LAYERS", "0", "num_layers must be a positive integer, not 0"),
        ("18", "NUM_LAYERS", "0", "num_layers must be a positive integer, not 0"),
        ("15", "ROUNDS", "0", "ROUNDS must be a whole number, at least 1, not 0"),
        (
            "16",
            "LOWEST_HIDDEN",
            "0",
            r"sizes and .* must be positive integers, not \(0, 32, 8, 2\)",
        ),
        ("16", "HIDDEN_STEP", "7", "from hidden size 8 no steps of 7 lead up to 32"),
        ("16", "LAYERS", "[0]", r"sizes and .* positive integers, not \(8, 32, 8, 0\)"),
        ("16", "LEARNING_RATES", "[-1]", "learning_rate must be a number between 0 and inf, not "),
        ("16", "TRIALS", "0", "TRIALS must be a whole number, at least 1, not 0"),
        ("17", "PART", "0", "PART must be a whole number from 1 to 181,137, not 0"),
        ("17", "PART_SEED", "-1", "PART_SEED must be a whole number, at least 0, not -1"),
    ],
)
def test_numbers_that_mean_nothing_are_refused_before_anything_moves(
    tmp_path, only, name, value, message
):
    options = {"only": [only], "overrides": {name: value}}
    with pytest.raises(ValueError, match=f"{profiles.find(only)}: {message}"):
        tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", **options)
    assert not list(tmp_path.iterdir())


def test_numbers_at_the_ends_of_their_ranges_are_taken(tmp_path):
    def plan(only, **overrides):
        options = {"only": [only], "overrides": overrides}
        (task, *_) = tasks.plan("paper", tmp_path / "run", ROOT / "notebooks", **options)
        return task.settings

    for subset in (10, 905_684):
        assert plan("12", SUBSET=str(subset))["SUBSET"] == subset
    # Of another list nobody knows here how long it is.
    assert plan("12", SUBSET="905685", SOURCE=str(tmp_path))["SUBSET"] == 905_685
    # It may come with a split of its own.
    assert plan("12", SPLIT_SEED="None", SOURCE=str(tmp_path))["SPLIT_SEED"] is None
    assert plan("12", SPLIT_SEED="0", HIDDEN_SIZE="1", BIDIRECTIONAL="True")["HIDDEN_SIZE"] == 1
    assert plan("00", BASELINE_SUBSET="None", SPLIT_SEED=str(2**32 - 1))["BASELINE_SUBSET"] is None
    assert plan("16", TRIALS="1", LOWEST_HIDDEN="512", LAYERS="[1, 3]")["LAYERS"] == [1, 3]
    for part in (1, 181_137):
        assert plan("17", PART=str(part))["PART"] == part


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LAYOUT", "foo", "12_lstm_456: LAYOUT is one of stored, zeros-first, .*, not 'foo'"),
        ("SOURCE", "nowhere.zip", "12_lstm_456: SOURCE is 'nowhere.zip', and nothing is there"),
        ("CHECKPOINT", "results/nowhere", "CHECKPOINT is 'results/nowhere', and nothing is there"),
        ("MAX_HOURS", "-1", "12_lstm_456: max_hours must be a number between 0 and inf, not -1"),
        ("SEEDS", "[42, -1]", "12_lstm_456: seed must be an integer, at least 0, not -1"),
        ("DEVICE", "gpu", "device must be auto, cpu, cuda or cuda:N, not 'gpu'"),
        ("PRECISION", "fp16", "precision must be one of .*, not 'fp16'"),
        ("SETTINGS", "{'loss_weights': [1, 1]}", "loss_weights must be four numbers"),
        ("MAX_EPOCHS", "0", "max_epochs must be an integer, at least 1, not 0"),
    ],
)
def test_values_that_mean_nothing_are_refused_before_anything_moves(tmp_path, name, value, message):
    options = {"only": ["12"], "overrides": {name: value}}
    with pytest.raises(ValueError, match=message):
        tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", **options)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_the_same_run_may_be_made_in_it(tmp_path):
    run_dir = tmp_path / "results" / "run"
    there = {"CHECKPOINT": str(run_dir / "11_lstm_448" / "fast-42")}
    options = {"only": ["11"], "overrides": there | {"RECIPE": "fast", "SEEDS": "[43]"}}
    (task,) = tasks.plan("smoke", run_dir, ROOT / "notebooks", **options)
    assert task.settings["CHECKPOINT"] == there["CHECKPOINT"]


@pytest.mark.parametrize(("word", "code"), [("--help", 0), ("runn", 2)])
def test_no_other_word_starts_a_batch(tmp_path, capsys, word, code):
    with pytest.raises(SystemExit) as ended:
        command.main([word], tmp_path)
    assert ended.value.code == code
    assert "{run,status,report,doctor,scheduler}" in "".join(capsys.readouterr())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["results/mine", "../results/mine"])
def test_the_results_of_another_run_can_be_read(tmp_path, place):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    options = {"only": ["15"], "overrides": {"RESULTS": place}}
    (tmp_path / "results" / "mine").mkdir(parents=True)
    run_dir = tmp_path / "results" / "try"
    (task,) = tasks.plan("smoke", run_dir, tmp_path / "notebooks", **options)
    assert task.injected["RESULTS"] == place
    finish(task, 2.0)
    write_metrics(run_dir / "10_lstm_424" / "seed-42", 3.0)
    assert folders.is_done(task)  # it does not read that one
    write_metrics(tmp_path / "results" / "mine" / "10_lstm_424" / "seed-42", 3.0)
    assert not folders.is_done(task)


def test_the_results_of_a_run_to_come_can_be_named(tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    run_dir, own = tmp_path / "results" / "new", {"overrides": {"RESULTS": "results/new"}}
    (task,) = tasks.plan("smoke", run_dir, tmp_path / "notebooks", only=["15"], **own)
    assert task.settings["RESULTS"] == "results/new"


def test_a_missing_notebook_is_named(tmp_path):
    project = Project(tmp_path, {"00_good": GOOD})
    (tmp_path / "notebooks" / "00_good.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match=r"00_good\.ipynb"):
        project.plan()


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_profiles_fit_the_notebooks(profile, tmp_path):
    planned = tasks.plan(profile, tmp_path / "run", ROOT / "notebooks")
    names = [task.name for task in planned]
    assert sorted(set(names)) == list(profiles.NOTEBOOKS)
    assert len({task.run_dir for task in planned}) == len(planned)
    for task in planned:
        assert task.source.is_file()
        kind = (
            "fast" if task.settings.get("RECIPE") == "fast" else profiles.NOTEBOOKS[task.name].kind
        )
        assert profiles.PROFILES[profile][kind].items() <= task.settings.items()
        earlier = planned[: names.index(task.name)]
        for pattern in (*map(profiles.pattern, task.needs), *task.reads):
            assert any(other.is_one_of([pattern]) for other in earlier)
    variants = {}
    for task in planned:
        variants.setdefault(task.name, []).append(task.variant)
    assert variants["00_data"] == ["list"]
    assert variants["11_lstm_448"] == ["seed-42", "fast-42"]
    assert variants["13_cross_validation"] == [f"fold-{fold}" for fold in range(5)]
    assert variants["14_retraining"] == [
        "LSTM-448-d80",
        "LSTM-424-d80",
        "CNN-LSTM-400-d80",
        "CNN-LSTM-400",
        "LSTM-448-f1",
        "Graph-64-d80-fast",
    ]
    assert variants["15_ensembles"] == ["all"]


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_all_models_of_a_profile_have_the_same_configurations(profile, tmp_path):
    """Else retraining and ensembles could not use them."""
    planned = tasks.plan(profile, tmp_path / "run", ROOT / "notebooks")
    kinds = ("model", "fold", "retraining", "ensembles")
    chosen = [task for task in planned if profiles.NOTEBOOKS[task.name].kind in kinds]
    assert len(chosen) == 12 + 1 + 5 + 6 + 1  # LSTM-448 by both recipes
    assert len({task.settings["SUBSET"] for task in chosen}) == 1


def test_a_variant_can_be_chosen_by_its_parameter(tmp_path):
    def plan(only, **overrides):
        return tasks.plan(
            "smoke", tmp_path / "run", ROOT / "notebooks", only=only, overrides=overrides
        )

    assert [task.variant for task in plan(["13"], FOLD="3")] == ["fold-3"]
    retraining = plan(["14"], MODEL="CNN-LSTM-400")
    assert [task.variant for task in retraining] == ["CNN-LSTM-400-d80", "CNN-LSTM-400"]
    assert [task.model for task in retraining] == ["CNN-LSTM-400", None]
    assert [task.variant for task in plan(["14"], RECIPE="fast")] == ["Graph-64-d80-fast"]
    assert [task.model for task in plan(["13"], MODEL="LSTM-400")] == ["LSTM-400"] * 5
    # What is not the paper's has folders of its own, and puts nothing aside.
    assert [task.variant for task in plan(["13"], FOLD="1", RECIPE="fast")] == ["fold-1-fast"]
    ours = plan(["13"], FOLD="1", RECIPE="fast", MODEL="Graph-64")
    assert [task.variant for task in ours] == ["fold-1-Graph-64-fast"]
    assert [task.variant for task in plan(["13"], FOLD="1", MODEL="LSTM-424")] == [
        "fold-1-LSTM-424"
    ]
    for wrong, message in (
        ({"RECIPE": "fats"}, "there is no recipe 'fats'"),
        ({"SETTINGS": "{'delta': 0.1}"}, "SETTINGS has no setting delta"),
        ({"SETTINGS": "{'huber_delta': 'x'}"}, "huber_delta"),
    ):
        with pytest.raises(ValueError, match=message):
            plan(["13"], **wrong)
    with pytest.raises(ValueError, match="14_retraining has no variant with MODEL 'LSTM-456'"):
        plan(["14"], MODEL="LSTM-456")


def test_several_seeds_have_folders_beside_the_first(tmp_path):
    def plan(seeds, recipe="paper"):
        (task,) = tasks.plan(
            "smoke",
            tmp_path / "run",
            ROOT / "notebooks",
            only=["11"],
            overrides={"SEEDS": seeds, "RECIPE": recipe},
        )
        return task

    task = plan("[7, 8]")
    assert [folder.name for folder in task.folders] == ["seed-7", "seed-8"]
    assert task.run_dir.name == "seed-7"
    fast = plan("[7, 8]", recipe="fast")
    assert [folder.name for folder in fast.folders] == ["fast-7", "fast-8"]
    # The folder of seed 7 holds the same as if it were the only one.
    assert task.identity == plan("[7]").identity
    for wrong, message in (
        ("7", "SEEDS is a list such as"),
        ("[]", "must not be empty"),
        ("[7, 7]", "different whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            plan(wrong)


def finish(task: tasks.Task, at: float, **metrics) -> None:
    """Leave what a finished task leaves."""
    folders.begin(task)
    runner.new_status(task, "done").write(task.run_dir)
    for folder, seed in task.seeds.items():
        record = {"settings_fingerprint": task.fingerprint, "seed": seed} | metrics
        write_metrics(folder, at, **record)


def write_metrics(folder: Path, at: float, **metrics) -> None:
    """Leave a metrics.json that was written at that time."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    os.utime(folder / "metrics.json", (at, at))


def test_a_seed_for_which_no_time_was_left_is_no_failure(tmp_path):
    plan = {"only": ["10"], "overrides": {"SEEDS": "[7, 8]", "LAYOUT": "stored"}}
    (task,) = tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", **plan)
    before = dict.fromkeys(task.folders)
    finish(task, 1.0)
    assert execution._missing_results(task, before) == []
    for folder, state in zip(task.folders[::-1], ("partial", "failed"), strict=True):
        (folder / "metrics.json").unlink()
        error = execution._missing_results(task, before)
        assert attempt._verdict(task, error, Kernels())[0] == state
        assert ("no time was left for " + folder.name in error[0]) == (state == "partial")


def test_a_task_is_done_when_all_its_seeds_are(tmp_path):
    plan = {"only": ["10"], "overrides": {"SEEDS": "[7, 8]", "LAYOUT": "stored"}}
    (task,) = tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", **plan)
    finish(task, 1.0)
    assert folders.is_done(task)
    second = task.folders[1] / "metrics.json"
    good = json.loads(second.read_text())
    for wrong in (
        {"training": {"stop_reason": "time_limit"}},
        {"seed": 7},
        {"settings_fingerprint": "else"},
        {"settings": {"learning_rate": 0.5}},
        {"data": {"layout": "descending"}},
        {"split": {"seed": 41}},
        {"split": {"seed": None}},
    ):
        second.write_text(json.dumps(good | wrong))
        assert not folders.is_done(task)
    second.write_text(json.dumps(good))
    assert folders.is_done(task)
    second.unlink()
    assert not folders.is_done(task)


@pytest.mark.parametrize("name", ["SUBSET", "LAYOUT", "LEARNING_RATE", "SPLIT_SEED", "MAX_EPOCHS"])
def test_every_setting_changes_the_fingerprint(tmp_path, name):
    def plan(**overrides):
        options = {"only": ["11"], "overrides": overrides}
        return tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", **options)[0]

    task, other = plan(), plan(**{name: "zeros-first" if name == "LAYOUT" else "77"})
    assert task.fingerprint != other.fingerprint
    finish(task, 1.0, settings={"device": "auto", "max_hours": None})
    assert folders.is_done(task)
    assert not folders.is_done(other)
    # Where and how long changes nothing; each seed has a folder of its own.
    for same in ({"DEVICE": "cpu"}, {"MAX_HOURS": "1"}, {"SEEDS": "[7]"}):
        assert plan(**same).fingerprint == task.fingerprint
        assert folders.is_done(plan(**same)) == ("SEEDS" not in same)


def test_no_other_setting_is_taken_for_the_same(tmp_path):
    def plan(**overrides):
        options = {"only": ["12"], "overrides": overrides}
        return tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", **options)[0]

    others = {
        "LAYOUT": "zeros-first",
        "PRECISION": "tf32",
        "RECIPE": "fast",
        "SETTINGS": "{'huber_delta': 0.5}",
        "BIDIRECTIONAL": "True",
        "CHECKPOINT": str(tmp_path),
        "SOURCE": str(tmp_path),
    }
    first = plan()
    for name in first.settings.keys() - {"RUN_DIR", "DEVICE", "MAX_HOURS", "SEEDS"}:
        assert plan(**{name: others.get(name, "77")}).fingerprint != first.fingerprint, name


@pytest.mark.notebooks
def test_a_time_limit_is_no_other_setting(tmp_path):
    """Of a notebook whose record has none, whatever it was given."""
    project = Project(tmp_path, {"00_good": GOOD})
    assert project.run(overrides={"MAX_HOURS": "2"})["00_good"].state == "done"
    assert project.run()["00_good"].state == "skipped"
    assert project.run(overrides={"MAX_HOURS": "3"})["00_good"].state == "skipped"


def test_what_reads_results_that_are_made_now_is_due_too(tmp_path):
    planned = tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", only=["11", "15", "18"])
    assert [task.name for task in planned] == ["11_lstm_448"] * 2 + ["18_graph_64", "15_ensembles"]
    for at, task in enumerate(planned):
        finish(task, float(at))
    assert runner.due(planned) == []
    (planned[2].run_dir / "metrics.json").unlink()
    assert runner.due(planned) == planned[2:]


def test_newer_results_make_what_read_them_due_again(tmp_path):
    planned = tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", only=["11", "14", "15"])
    by_title = {task.title: task for task in planned}
    for at, task in enumerate(planned):
        finish(task, float(at))
    assert all(map(folders.is_done, planned))
    finish(by_title["14_retraining/CNN-LSTM-400"], 100.0)
    assert not folders.is_done(by_title["15_ensembles"])
    assert folders.is_done(by_title["14_retraining/LSTM-448-d80"])
    finish(by_title["11_lstm_448/fast-42"], 100.0)  # which retraining does not start from
    assert folders.is_done(by_title["14_retraining/LSTM-448-d80"])
    finish(by_title["11_lstm_448/seed-42"], 100.0)
    assert not folders.is_done(by_title["14_retraining/LSTM-448-d80"])
    assert folders.is_done(by_title["14_retraining/LSTM-424-d80"])


@pytest.mark.parametrize("only", ["00", "12", "16"])
def test_another_list_makes_what_read_it_due_again_however_old_it_is(tmp_path, only):
    """Files that are moved or unpacked keep their time."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    path = tmp_path / "list.npz"
    path.write_text("one")
    os.utime(path, (1.0, 1.0))
    options = {"only": [only], "overrides": {"SOURCE": str(path)}}
    (task,) = tasks.plan("smoke", tmp_path / "results" / "try", tmp_path / "notebooks", **options)
    finish(task, 2.0, scan={"trials": task.settings.get("TRIALS", 0)})
    assert folders.is_done(task)
    path.write_text("another")
    os.utime(path, (1.0, 1.0))
    assert not folders.is_done(task)


def test_predictions_of_published_weights_make_the_ensembles_due_again(tmp_path):
    name = "15_ensembles.ipynb"
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / name, tmp_path / "notebooks")
    run_dir = tmp_path / "results" / "reference"
    (task,) = tasks.plan("smoke", run_dir, tmp_path / "notebooks", only=["15"])
    finish(task, 1.0)
    assert folders.is_done(task)
    predictions = run_dir / "18_graph_64" / "fast-57" / "predictions_test.npz"
    predictions.parent.mkdir(parents=True)
    predictions.touch()
    assert not folders.is_done(task)


@pytest.mark.parametrize(
    ("name", "value", "file"),
    [
        ("SOURCE", "../lists/list.npz", "lists/list.npz"),
        ("SOURCE", "{root}/lists/list.npz", "lists/list.npz"),
        ("CHECKPOINT", "results/old/12_lstm_456/seed-1", "{value}/metrics.json"),
        ("CHECKPOINT", "{root}/12_lstm_456/seed-1", "12_lstm_456/seed-1/metrics.json"),
    ],
)
def test_a_newer_list_or_checkpoint_makes_what_read_it_due_again(tmp_path, name, value, file):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    options = {"only": ["12"], "overrides": {name: value.format(root=tmp_path)}}
    run_dir = tmp_path / "results" / "try"
    path = tmp_path / file.format(value=value)
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (1.0, 1.0))
    (task,) = tasks.plan("smoke", run_dir, tmp_path / "notebooks", **options)
    finish(task, 2.0)
    assert folders.is_done(task)
    state = task.run_dir / "checkpoint.pt"
    state.touch()
    assert folders.prepare(task) is None
    assert state.exists()
    os.utime(path, (3.0, 3.0))
    assert not folders.is_done(task)
    assert folders.prepare(task) is None  # its training goes on: nothing else has changed
    path.write_text("another")
    place = folders.prepare(task)  # a training begun with the older one does not go on
    assert not state.exists()
    (moved,) = (tmp_path / "results" / "replaced").glob("*/12_lstm_456/seed-42/checkpoint.pt")
    assert place == moved.parents[1]
    assert (moved.parent / "metrics.json").exists()


class Scripted:
    """A place where attempts end at once, each as its title says, or well."""

    word, shared = "started", False

    def __init__(self, states: dict[str, str]):
        self.states = states

    def slots(self) -> int:
        return 1

    def submit(self, task: tasks.Task) -> Future:
        future = Future()
        future.set_result(runner.Outcome(task, self.states.get(task.title, "done")))
        return future

    def outcome(self, task: tasks.Task, future: Future) -> runner.Outcome:
        return future.result()


class Crowded(Scripted):
    """The same for real attempts, where others work on the same folders: first there is no room."""

    shared = True

    def __init__(self, others: Callable[[], None] = lambda: None):
        super().__init__({})
        self.others, self.looks = others, 0

    def slots(self) -> int:
        self.looks += 1
        if self.looks == 2:
            self.others()
        return int(self.looks > 1)

    def submit(self, task: tasks.Task) -> Future:
        future = Future()
        future.set_result(attempt.attempt(task, kernels=Kernels()))
        return future


@pytest.fixture
def executed(monkeypatch):
    """What was in the folders of tasks when their notebooks began, which are over at once."""
    found: list[list[str]] = []

    def execute(task: tasks.Task, **options) -> tuple[str, ...]:
        found.append(sorted(path.name for path in task.run_dir.iterdir()))
        finish(task, time.time())
        return ()

    monkeypatch.setattr(attempt, "execute", execute)
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.01)
    return found


@pytest.mark.parametrize("values", [{"SUBSET": 9}, {"SUBSET": 7}], ids=["other", "same"])
def test_what_others_finish_while_there_is_no_room_is_not_run_over(tmp_path, executed, values):
    """Another client of the cluster runs the same notebook, with these settings."""
    project = Project(tmp_path, {"00_good": GOOD})
    (ours,), (other,) = project.plan(), project.plan(values)
    held = contextlib.ExitStack()
    held.enter_context(lease.hold(other.run_dir, status.LEASE))

    def finish_theirs() -> None:
        held.close()
        finish(other, time.time())

    (outcome,) = runner.run([ours], Crowded(finish_theirs), say=[].append)
    assert outcome.state == "done"
    moved = (tmp_path / "results" / "replaced").glob("*/00_good/seed-42/metrics.json")
    if values == {"SUBSET": 7}:
        assert executed == [] == list(moved)
    else:
        assert executed == [[".batch.lease", ".begun", "status.json"]]
        (theirs,) = moved
        assert json.loads(theirs.read_text())["settings_fingerprint"] == other.fingerprint


@pytest.mark.parametrize("shared", [False, True], ids=["here", "cluster"])
@pytest.mark.parametrize("looks", [1, 2])
def test_a_folder_that_another_client_takes_at_that_moment_is_waited_for(
    looks, shared, tmp_path, executed, monkeypatch
):
    """It looked free, and when it is made ready it is not."""
    monkeypatch.setattr(Crowded, "shared", shared)
    project = Project(tmp_path, {"00_good": GOOD})
    prepare, taken = folders.prepare, iter([False] * (looks - 1) + [True])

    def late(task: tasks.Task) -> None:
        if next(taken, False):
            raise lease.Held(f"{task.run_dir} is in use")
        prepare(task)

    monkeypatch.setattr(folders, "prepare", late)
    (outcome,) = runner.run(project.plan(), Crowded(), say=[].append)
    assert (outcome.state, len(executed)) == ("done", 1)


def test_a_run_with_other_settings_moves_only_what_it_comes_to(tmp_path):
    """Whoever has forgotten a setting, and stops it at once, finds the rest as it was."""

    class Stopping(Scripted):
        def submit(self, task: tasks.Task) -> Future:
            if task.name == "01_good":
                raise KeyboardInterrupt
            return super().submit(task)

    names = ("00_good", "01_good", "02_good")
    project = Project(tmp_path, {name: GOOD for name in names}, {"02_good": ("01_good",)})
    before = project.plan()
    for at, task in enumerate(before):
        finish(task, float(at))
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        runner.run(project.plan({"SUBSET": 8}), Stopping({}), say=said.append)
    moved = [line.split(":")[0] for line in said if "moved to" in line]
    assert moved == ["[ 1/3] 00_good", "[ 2/3] 01_good"]
    assert [folders.is_done(task) for task in before] == [False, False, True]
    assert Status.read(before[1].run_dir).state == "pending"


def test_what_was_done_is_done_until_its_turn_comes(tmp_path):
    """A batch with another seed, too, is stopped at once: without it all is as it was."""

    class Stopping(Scripted):
        def submit(self, task: tasks.Task) -> Future:
            raise KeyboardInterrupt

    def plan(seeds: str) -> list[tasks.Task]:
        options = {"only": ["11", "12"], "overrides": {"SEEDS": seeds, "RECIPE": "paper"}}
        return tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", **options)

    for task in (before := plan("[42]")):
        finish(task, 1.0)
        (task.run_dir / "checkpoint.pt").touch()
    with pytest.raises(KeyboardInterrupt):
        runner.run(plan("[42, 43]"), Stopping({}), say=[].append)
    assert all(map(folders.is_done, before))


def test_what_cannot_be_moved_fails_alone(tmp_path, monkeypatch):
    project = Project(tmp_path, {"00_good": GOOD, "01_good": GOOD})
    before = project.plan()
    for task in before:
        finish(task, 1.0)
    prepare = folders.prepare

    def full(task: tasks.Task) -> Path | None:
        if task.name == "00_good":
            raise OSError("the disk is full")
        return prepare(task)

    monkeypatch.setattr(folders, "prepare", full)
    outcomes = runner.run(project.plan({"SUBSET": 8}), Scripted({}), say=[].append)
    assert [outcome.state for outcome in outcomes] == ["failed", "done"]
    assert outcomes[0].error == ("the disk is full",)
    assert folders.is_done(before[0])


def test_who_lost_its_folder_meanwhile_writes_nothing_more(tmp_path, executed, monkeypatch):
    """It was suspended for so long that another took it for dead."""
    (task,) = Project(tmp_path, {"00_good": GOOD}).plan()

    def taken(task: tasks.Task, **options) -> tuple[str, ...]:
        lease.lease_file(task.run_dir, status.LEASE).write_text("another's")
        (task.run_dir / "status.json").write_text("another's")
        return ("its own failure",)

    monkeypatch.setattr(attempt, "execute", taken)
    assert attempt.attempt(task, kernels=Kernels()).state == attempt.HELD
    assert (task.run_dir / "status.json").read_text() == "another's"


def test_a_retraining_begins_anew_when_this_batch_makes_what_it_starts_from(tmp_path):
    class Finishing(Scripted):
        def submit(self, task: tasks.Task) -> Future:
            folders.prepare(task)  # as an attempt does
            begun.append((task.title, (task.run_dir / "checkpoint.pt").exists()))
            finish(task, float(len(begun)))
            return super().submit(task)

    def planned(seeds):
        given = {"MODEL": "LSTM-424", "SEEDS": seeds}
        run_dir = tmp_path / "results" / "try"
        return tasks.plan("smoke", run_dir, ROOT / "notebooks", only=["10", "14"], overrides=given)

    begun: list[tuple[str, bool]] = []
    for at, task in enumerate(planned("[42]"), start=-9):
        finish(task, float(at))
        (task.run_dir / "checkpoint.pt").touch()
    runner.run(planned("[42]"), Finishing({}))
    assert begun == []
    said: list[str] = []
    runner.run(planned("[42, 43]"), Finishing({}), say=said.append)
    assert begun == [("10_lstm_424", True), ("14_retraining/LSTM-424-d80", False)]
    assert [line for line in said if "moved to" in line] == [said[2]]
    assert said[2].startswith("[ 2/2] 14_retraining/LSTM-424-d80: what was there moved to ")
    moved = (tmp_path / "results" / "replaced").glob("*/14_retraining/LSTM-424-d80/*")
    assert {path.name for path in moved} >= {"checkpoint.pt", "metrics.json"}


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.float16.safetensors"])
@pytest.mark.parametrize("state", ["finished", "killed", "noted by an older version"])
def test_a_retraining_goes_on_when_its_weights_were_only_judged_again(tmp_path, state, file):
    """Whoever runs the model's notebook again writes its files again, with the same weights."""
    given = {"only": ["10", "14"], "overrides": {"MODEL": "LSTM-424"}}
    run_dir = tmp_path / "results" / "try"
    model, task = tasks.plan("smoke", run_dir, ROOT / "notebooks", **given)[:2]
    assert task.title == "14_retraining/LSTM-424-d80"

    def train(weights: str, at: float) -> None:
        finish(model, at)
        (model.run_dir / file).write_text(weights)

    train("weights", 1.0)
    finish(task, 2.0)
    (task.run_dir / "checkpoint.pt").touch()
    if state == "killed":
        (task.run_dir / "metrics.json").unlink()
    if state == "noted by an older version":  # of which only the time stamp tells
        (task.run_dir / ".begun").write_text(task.fingerprint)
    newer = time.time() + 10
    train("weights", newer)
    assert not folders.is_done(task)
    kept = state != "noted by an older version"
    assert (folders.prepare(task) is None) == (task.run_dir / "checkpoint.pt").exists() == kept
    if kept:
        folders.begin(task)  # it goes on, and began before
        train("other weights", newer)
        assert folders.prepare(task) is not None
        assert not (task.run_dir / "checkpoint.pt").exists()


def test_retraining_needs_a_model_by_its_own_recipe(tmp_path):
    def states(only, ends=None, **overrides):
        overrides = {"MODEL": "LSTM-448", "RETRAIN": "True"} | overrides
        options = {"only": only, "overrides": overrides}
        planned = tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", **options)
        outcomes = runner.run(planned, Scripted(ends or {}), say=lambda _: None)
        return {outcome.task.title: outcome.state for outcome in outcomes}

    paper, fast, retrained = (
        "11_lstm_448/seed-42",
        "11_lstm_448/fast-42",
        "14_retraining/LSTM-448-d80",
    )
    both = ["11", "14"]
    assert states(both, {fast: "failed"}) == {paper: "done", fast: "failed", retrained: "done"}
    assert states(both, {paper: "failed"})[retrained] == "blocked"
    with pytest.raises(ValueError, match="no variant with MODEL 'LSTM-448', RECIPE 'fast'"):
        states(both, RECIPE="fast")
    graph, own = "18_graph_64", "14_retraining/Graph-64-d80-fast"
    ours = {"MODEL": "Graph-64", "RECIPE": "fast"}
    assert states(["18", "14"], **ours) == {graph: "done", own: "done"}
    assert states(["18", "14"], {graph: "failed"}, **ours)[own] == "blocked"
    # One that is named is enough, and so is one of an earlier call.
    named = {"CHECKPOINT": str(tmp_path / "run" / "11_lstm_448" / "fast-42")}
    assert states(["14"], **named) == {retrained: "done"}
    options = {"only": ["11"], "overrides": {"SEEDS": "[43]"}}
    for task in tasks.plan("smoke", tmp_path / "run", ROOT / "notebooks", **options):
        finish(task, 1.0)
        assert states(["14"])[retrained] == ("done" if task.variant == "seed-43" else "blocked")
        (task.run_dir / "metrics.json").unlink()
        assert states(["14"])[retrained] == "blocked"


@pytest.mark.notebooks
def test_variants_are_run_blocked_and_skipped_one_by_one(tmp_path):
    fails = [*GOOD, "assert SEED != 2"]
    project = Project(tmp_path, {"00_some": fails, "01_each": GOOD, "02_all": GOOD})
    variants = {f"v-{seed}": profiles.Variant({"SEED": seed}) for seed in (1, 2)}
    each = {
        f"after-{seed}": profiles.Variant({"SEED": seed}, needs=(f"00_some/v-{seed}",))
        for seed in (1, 2)
    }
    project.catalogue = {
        "00_some": Notebook("k", variants=variants),
        "01_each": Notebook("k", variants=each),
        "02_all": Notebook("k", "all", after=("00_some", "01_each")),
    }

    def states():
        outcomes = runner.run(project.plan(), runner.Local(), say=lambda _: None)
        return {outcome.task.title: outcome.state for outcome in outcomes}

    assert states() == {
        "00_some/v-1": "done",
        "00_some/v-2": "failed",
        "01_each/after-1": "done",
        "01_each/after-2": "blocked",
        "02_all": "done",  # it takes what is there
    }
    write_notebook(tmp_path / "notebooks", "00_some", GOOD)  # mended
    assert set(states().values()) == {"done"}
    assert set(states().values()) == {"skipped"}


def test_the_paper_profile_is_the_recipe_of_the_notebooks():
    assert profiles.PROFILES["paper"].keys() == set(profiles.KINDS)
    assert not any(profiles.PROFILES["paper"].values())


def test_notebooks_are_found_by_number_and_ordered_by_need():
    catalogue = {
        "00_a": Notebook("k", variants={"v": profiles.Variant(needs=("02_c",))}),
        "01_b": Notebook("k", "v"),
        "02_c": Notebook("k", variants={"v": profiles.Variant(needs=("01_b",))}),
    }
    assert profiles.find("11") == profiles.find("notebooks/11_lstm_448.ipynb") == "11_lstm_448"
    assert profiles.in_order(["00", "02", "02_c"], catalogue) == ["02_c", "00_a"]
    assert profiles.in_order(catalogue, catalogue) == ["01_b", "02_c", "00_a"]
    with pytest.raises(ValueError, match="there is no notebook '99'"):
        profiles.find("99")


def test_status_believes_no_file_without_what_belongs_to_it(tmp_path):
    folder = tmp_path / "run" / "00_data" / "list"
    Status("00_data", "list", "running", started=1.0).write(folder)
    with lease.hold(folder, status.LEASE):
        assert status.told(folder, Status.read(folder)) == ("running", "")
        assert "running" in status.report(tmp_path)
    assert status.told(folder, Status.read(folder))[0] == "stopped"
    assert "stopped" in status.report(tmp_path, "run")
    (tmp_path / "empty").mkdir()
    assert status.report(tmp_path, "empty") == "Nothing has been run yet."
    with pytest.raises(FileNotFoundError, match=r"there is no run folder .*other"):
        status.report(tmp_path, "other")

    Status("00_data", "list", "done", fingerprint="f").write(folder)
    for text, told in (
        (None, ("failed", "there is no readable metrics.json")),
        ('{"settings_fingerprint": "f"', ("failed", "there is no readable metrics.json")),
        ('{"settings_fingerprint": "g"}', ("failed", "metrics.json is of other settings")),
        ('{"settings_fingerprint": "f"}', ("done", "")),
    ):
        if text:
            (folder / "metrics.json").write_text(text)
        assert status.told(folder, Status.read(folder)) == told
        assert f" {told[0]} " in status.report(tmp_path)

    for text in ("{", "[]", '{"notebook": "a", "variant": "b", "state": "fine"}'):
        (folder / "status.json").write_text(text)
        assert Status.read(folder) is None


def test_last_epoch(tmp_path):
    assert status.last_epoch([tmp_path]) == ""
    (tmp_path / "history.csv").write_text(
        "epoch,train_loss,validation_loss\n1,9.5,8.25\n2,7.123456,6.0\n"
    )
    assert status.last_epoch([tmp_path]) == "epoch 2, training loss 7.123, validation loss 6"


def test_of_several_seeds_the_one_at_work_is_told(tmp_path):
    given = {"only": ["11"], "overrides": {"SEEDS": "[42, 43, 44]", "RECIPE": "paper"}}
    (task,) = tasks.plan("smoke", tmp_path / "try", ROOT / "notebooks", **given)
    first = task.run_dir
    for at, seed in enumerate((42, 43)):
        folder = first.with_name(f"seed-{seed}")
        folder.mkdir(parents=True)
        path = folder / "history.csv"
        path.write_text(f"epoch,train_loss,validation_loss\n{9 - at},1,2\n")
        os.utime(path, (at, at))
    told = "seed-43: epoch 8, training loss 1, validation loss 2"
    runner.new_status(task, "pending").write(first)
    assert Status.read(first).folders(first) == task.folders
    assert status.last_epoch(task.folders) == told
    assert told in status.report(tmp_path)


def test_results_page_says_quick():
    same = {"group": 0, "split": 72, "kind": "model"}
    rows = [
        {"model": "LSTM-448", "label": "quick run: 60 of 905,684 configurations", "epochs": 3},
        {"model": "constant prediction", "label": "quick run: 60 of 905,684 configurations"},
    ]
    rows = [row | same for row in rows]
    table = pd.DataFrame(rows, columns=[*summary.COLUMNS, "label", *same])
    written = summary.markdown("Results of run x", table)
    assert "**Quick run: 60 of 905,684 configurations.**" in written
    assert "claim nothing" in written
    lines = [line for line in written.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--profile", "fast"],
        ["run", "--only", "99"],
        ["run", "--only"],
        ["run", "--run", "../elsewhere"],
        ["run", "--run", "replaced"],
        ["run", "--run", "recipes"],
        ["run", "--prof", "quick"],
        ["run", "-p", "SEED"],
        ["run", "--jobs", "0"],
        ["run", "--cell-timeout", "soon"],
        ["status", "--profile", "quick"],
    ],
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    assert "usage: bash run_all.sh" in capsys.readouterr().err


def test_the_status_of_a_run_that_does_not_exist_exits_with_2(capsys, tmp_path):
    assert command.main(["status"], tmp_path) == 0
    assert capsys.readouterr().out == "Nothing has been run yet.\n"
    Status("00_data", "list").write(tmp_path / "results" / "quick" / "00_data" / "list")
    assert command.main(["status", "--run", "qiuck"], tmp_path) == 2
    told = capsys.readouterr()
    assert "run_all.sh status: there is no run folder" in told.err
    assert told.out == ""
    assert command.main(["status", "--run", "quick"], tmp_path) == 0
    assert "00_data/list" in capsys.readouterr().out


def test_wrong_parameters_exit_with_2(capsys, tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    arguments = ["run", "--profile", "smoke", "-p", "EPOCHS", "3"]
    assert command.main(arguments, tmp_path) == 2
    assert "parameter EPOCHS" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_disk_with_less_room_than_the_estimate_exits_with_2(capsys, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    expected = estimate.Estimate(seconds=60, bytes=3.2e9, device="")
    monkeypatch.setattr(estimate, "estimate", lambda tasks, here: expected)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=3.1e9))
    arguments = ["run", "--profile", "smoke", "--only", "00"]
    assert command.main(arguments, tmp_path) == 2
    assert "may take 3,200 MB, and the disk of" in (told := capsys.readouterr().err)
    assert "has 3,100 MB left; make room" in told
    assert not list((tmp_path / "results" / "smoke").iterdir())


@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_twice_to_stop_is_not_shown_a_traceback(again, tmp_path, capsys, monkeypatch):
    """Slurm's scancel does: the second one comes while connections are closed."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")

    def begin(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)

    def ask_again():
        if signal.getsignal(again) is signal.default_int_handler:  # pytest itself would stop
            pytest.fail("the second signal would interrupt")
        signal.raise_signal(again)

    def place(options, stack):
        stack.callback(ask_again)
        return runner.Local()

    before = [signal.getsignal(number) for number in command.STOPPING]
    monkeypatch.setattr(runner, "run", begin)
    monkeypatch.setattr(command, "choose_places", place)
    assert command.main(["run", "--profile", "smoke", "--only", "00"], tmp_path) == 130
    assert "Stopped. Run the same command again" in capsys.readouterr().err
    assert [signal.getsignal(number) for number in command.STOPPING] == before


@pytest.mark.parametrize(
    ("when", "error", "code"),
    [
        ((estimate, "estimate"), KeyboardInterrupt(), 130),
        ((doctor, "warn"), KeyboardInterrupt(), 130),
        ((doctor, "warn"), cluster.Lost("all are gone"), 3),
        ((summary, "summarize"), KeyboardInterrupt(), 130),
    ],
)
def test_stopped_before_or_after_the_notebooks_it_says_so(
    when, error, code, tmp_path, capsys, monkeypatch
):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")

    def stop(*arguments, **options):
        raise error

    monkeypatch.setattr(doctor, "warn", lambda root: None)
    monkeypatch.setattr(runner, "run", lambda *arguments, **options: [])
    monkeypatch.setattr(*when, stop)
    assert command.main(["run", "--profile", "smoke", "--only", "00"], tmp_path) == code
    assert "Run the same command again to go on." in capsys.readouterr().err


def test_without_an_estimate_the_notebooks_run_all_the_same(tmp_path, capsys, monkeypatch):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")

    def fail(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    begun = []
    monkeypatch.setattr(doctor, "warn", lambda root: begun.append("doctor"))
    monkeypatch.setattr(runner, "run", lambda *arguments, **options: begun.append("run") or [])
    monkeypatch.setattr(estimate, "estimate", fail)
    assert command.main(["run", "--profile", "smoke", "--only", "00"], tmp_path) == 0
    assert begun == ["doctor", "run"]
    assert "No estimate: CUDA out of memory.\n" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["tset"], ["test", "--fast"], ["--profile", "fast"], ["-x"]])
def test_run_all_refuses_before_it_installs(arguments, tmp_path):
    # From another directory, and in a clone with a space in its path and nothing installed.
    clone = tmp_path / "a clone"
    clone.mkdir()
    shutil.copy(ROOT / "run_all.sh", clone)
    shutil.copytree(ROOT / "cicy_utils", clone / "cicy_utils")
    done = subprocess.run(
        ["bash", clone / "run_all.sh", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "usage: bash run_all.sh" in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize("place", ["{here}/.venv", "--prompt x {here}/.venv", "/elsewhere/.venv"])
def test_an_environment_that_has_been_moved_is_made_again(place, tmp_path):
    shutil.copy(ROOT / "run_all.sh", tmp_path)
    shutil.copytree(ROOT / "cicy_utils", tmp_path / "cicy_utils")
    venv, told = tmp_path / ".venv", place.format(here=tmp_path.resolve())
    venv.mkdir()
    (venv / "pyvenv.cfg").write_text(
        f"version = 3.11.7\ncommand = /usr/bin/python3 -m venv {told}\n"
    )
    (venv / ".cicy4-setup").touch()
    python = venv / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f"#!/bin/sh\ntouch '{tmp_path}/used'\n")
    python.chmod(0o755)
    command = ["bash", tmp_path / "run_all.sh", "--profile", "fast"]
    done = subprocess.run(command, capture_output=True, text=True)
    is_here = "{here}" in place
    assert (tmp_path / "used").exists() == is_here
    assert done.returncode == (0 if is_here else 2), done.stderr  # the system's Python has looked


@pytest.mark.parametrize("word", command.PARSERS)
def test_arguments_are_checked_without_a_single_package(word):
    checked = "from cicy_utils.batch.__main__ import check; check()"
    subprocess.run([sys.executable, "-S", "-c", checked, word], cwd=ROOT, check=True)


def test_run_all_tells_what_it_can_do():
    done = subprocess.run(["bash", ROOT / "run_all.sh", "help"], capture_output=True, text=True)
    assert done.returncode == 0
    for word in ("--profile", "--only", "--run", "status", "report", "test"):
        assert word in done.stdout


def test_with_a_gpu_the_command_itself_leaves_nothing_there(monkeypatch):
    """What uses it is computed in another process, which has ended."""
    assert command.without_a_trace(os.getpid) == os.getpid()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert command.without_a_trace(os.getpid) != os.getpid()
