import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from cicy_utils.batch import __main__ as command
from cicy_utils.batch import page, profiles, runner, status, summary
from cicy_utils.batch.profiles import Notebook
from cicy_utils.batch.status import Status

ROOT = Path(__file__).resolve().parents[1]

PARAMETERS = """\
SUBSET = None  # number of configurations
SEED = 42  # of the training
LEARNING_RATE = 0.01  # at the start
LAYOUT = "stored"  # order of the rows
RUN_DIR = None  # where to write
"""
IMPORTS = "import json, os, sys, time\nfrom pathlib import Path"
COUNT = """\
calls = Path(RUN_DIR, "calls")
calls.write_text((calls.read_text() if calls.exists() else "") + "x")"""
RECORD = "Path(RUN_DIR, 'metrics.json').write_text(json.dumps({'subset': SUBSET, 'seed': SEED}))"
GOOD = [IMPORTS, COUNT, RECORD]


def write_notebook(folder: Path, name: str, cells: list[str]) -> None:
    parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(
        cells=[parameters, *(nbformat.v4.new_code_cell(cell) for cell in cells)],
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
    )
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")


class Project:
    """A folder with notebooks, a catalogue of them and a profile."""

    def __init__(self, root: Path, notebooks: dict[str, list[str]], needs=()):
        self.root = root
        self.run_dir = root / "results" / "try"
        for name, cells in notebooks.items():
            write_notebook(root / "notebooks", name, cells)
        self.catalogue = {
            name: Notebook(kind="k", variant="seed-{SEED}", needs=dict(needs).get(name, ()))
            for name in notebooks
        }

    def plan(self, values=None, **options) -> list[runner.Task]:
        table = {"tiny": {"k": {"SUBSET": 7} if values is None else values}}
        return runner.plan(
            "tiny",
            self.run_dir,
            self.root / "notebooks",
            catalogue=self.catalogue,
            table=table,
            **options,
        )

    def run(self, *arguments, **options) -> dict[str, runner.Outcome]:
        self.said: list[str] = []
        outcomes = runner.run(
            self.plan(*arguments, **options), say=self.said.append, progress_seconds=0.5
        )
        return {outcome.task.name: outcome for outcome in outcomes}

    def folder(self, name: str, variant: str = "seed-42") -> Path:
        return self.run_dir / name / variant


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of notebooks that end in every way, in a folder whose name has special signs."""
    notebooks = {
        "00_good": [*GOOD, "assert os.environ['CICY_BATCH'] == '1'", "time.sleep(1.2)"],
        "01_raises": [IMPORTS, RECORD, "raise RuntimeError('the sky is green')", "print('after')"],
        "02_exits": [IMPORTS, RECORD, "sys.exit(0)", "print('after')"],
        "03_dies": [IMPORTS, RECORD, "os._exit(1)"],
        "04_forgets": [IMPORTS, "print('no metrics')"],
        "05_needs_bad": GOOD,
        "06_needs_good": GOOD,
    }
    needs = {"05_needs_bad": ("01_raises",), "06_needs_good": ("00_good",)}
    project = Project(tmp_path_factory.mktemp("a {b} c & d"), notebooks, needs)
    # What an earlier run left behind must not make a failure look like a success.
    left = project.folder("04_forgets")
    left.mkdir(parents=True)
    (left / "metrics.json").write_text("{}")
    project.outcomes = project.run()
    return project


@pytest.mark.notebooks
@pytest.mark.parametrize(
    ("name", "state", "error"),
    [
        ("00_good", "done", ""),
        ("01_raises", "failed", "RuntimeError: the sky is green"),
        ("02_exits", "failed", "ended before this cell was finished: print('after')"),
        ("03_dies", "failed", "DeadKernelError"),
        ("04_forgets", "failed", "no readable metrics.json"),
        ("05_needs_bad", "blocked", "needs 01_raises"),
        ("06_needs_good", "done", ""),
    ],
)
def test_every_end_is_told_apart(finished, name, state, error):
    outcome = finished.outcomes[name]
    assert outcome.state == state
    assert error in (outcome.error[-1] if outcome.error else "")
    recorded = Status.read(finished.folder(name))
    assert recorded.state == ("pending" if state == "blocked" else state)
    assert tuple(recorded.error) == (outcome.error if state == "failed" else ())


@pytest.mark.notebooks
def test_parameters_reach_the_notebook_and_its_folder(finished):
    folder = finished.folder("00_good")
    assert json.loads((folder / "metrics.json").read_text()) == {"subset": 7, "seed": 42}
    assert Status.read(folder).settings == {
        "SUBSET": 7,
        "SEED": 42,
        "LEARNING_RATE": 0.01,
        "LAYOUT": "stored",
    }
    assert sorted(path.name for path in folder.iterdir()) == [
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
    assert any(line.startswith("[ 1/7] 00_good: running for ") for line in finished.said)
    assert any(line.startswith("[ 2/7] 01_raises: failed after ") for line in finished.said)


@pytest.mark.notebooks
def test_summary_names_what_failed(finished):
    text = summary.summarize("tiny", finished.run_dir, list(finished.outcomes.values()))
    assert "5 of 7 notebooks failed" in text
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

    # Other settings begin a new folder; the old one is kept.
    outcomes = project.run({"SUBSET": 8}, only=["00"])
    assert outcomes["00_good"].state == "done"
    metrics = json.loads((project.folder("00_good") / "metrics.json").read_text())
    assert metrics["subset"] == 8
    kept = list((tmp_path / "results" / "replaced").glob("try-*/00_good/seed-42/metrics.json"))
    assert [json.loads(path.read_text())["subset"] for path in kept] == [7]


@pytest.mark.notebooks
def test_a_training_cut_short_is_not_skipped(tmp_path):
    record = (
        "Path(RUN_DIR, 'metrics.json').write_text("
        "json.dumps({'training': {'stop_reason': 'time_limit'}}))"
    )
    project = Project(tmp_path, {"00_short": [IMPORTS, COUNT, record]})
    for calls in ("x", "xx"):
        assert project.run()["00_short"].state == "done"
        assert (project.folder("00_short") / "calls").read_text() == calls


def long_project(root: Path) -> Project:
    tell = "Path(RUN_DIR, 'kernel').write_text(str(os.getpid()))"
    return Project(root, {"00_long": [IMPORTS, tell, "time.sleep(600)", RECORD], "01_next": GOOD})


def run_long_project(root: str) -> None:
    signal.signal(signal.SIGTERM, command.interrupt)
    try:
        long_project(Path(root)).run()
    except KeyboardInterrupt:
        sys.exit(130)


@pytest.mark.notebooks
def test_a_signal_stops_the_run_and_its_kernel(tmp_path):
    project = long_project(tmp_path)
    code = "import sys, test_batch; test_batch.run_long_project(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=Path(__file__).parent)
    try:
        kernel = project.folder("00_long") / "kernel"
        wait_for(lambda: kernel.exists() and kernel.read_text())
        assert Status.read(project.folder("00_long")).alive
        with pytest.raises(ValueError, match=f"process {process.pid}"):
            project.run()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not is_running(int(kernel.read_text())))
    assert Status.read(project.folder("00_long")).error == ["interrupted (KeyboardInterrupt)"]
    assert Status.read(project.folder("01_next")).state == "pending"


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


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
        ({}, {"EPOCHS": "3"}, "has a parameter EPOCHS"),
        ({}, {"SEED": "many"}, "SEED is a whole number, not 'many'"),
        ({}, {"SEED": "1.5"}, "SEED is a whole number, not 1.5"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_runs(tmp_path, values, overrides, message):
    project = Project(tmp_path, {"00_good": GOOD, "01_good": GOOD})
    with pytest.raises(ValueError, match=message):
        project.plan(values, overrides=overrides)
    assert not project.run_dir.exists()


def test_right_parameters_are_taken(tmp_path):
    project = Project(tmp_path, {"00_good": GOOD})
    overrides = {"LEARNING_RATE": "1", "LAYOUT": "7", "SUBSET": "None", "SEED": "3"}
    (task,) = project.plan({"SUBSET": 9}, overrides=overrides)
    folder = project.folder("00_good", "seed-3").resolve()
    assert task.injected == {
        "SUBSET": None,
        "LEARNING_RATE": 1,
        "LAYOUT": "7",
        "SEED": 3,
        "RUN_DIR": str(folder),
    }
    assert task.run_dir == folder


def test_a_missing_notebook_is_named(tmp_path):
    project = Project(tmp_path, {"00_good": GOOD})
    (tmp_path / "notebooks" / "00_good.ipynb").unlink()
    with pytest.raises(FileNotFoundError, match=r"00_good\.ipynb"):
        project.plan()


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_profiles_fit_the_notebooks(profile, tmp_path):
    tasks = runner.plan(profile, tmp_path / "run", ROOT / "notebooks")
    names = [task.name for task in tasks]
    assert list(dict.fromkeys(names)) == list(profiles.NOTEBOOKS)
    assert len({task.run_dir for task in tasks}) == len(tasks)
    for task in tasks:
        assert task.source.is_file()
        assert profiles.parameters(profile, task.name).items() <= task.settings.items()
        assert {need.split("/")[0] for need in task.needs} <= set(names[: names.index(task.name)])
        assert set(task.reads) <= set(names[: names.index(task.name)])
    variants = {}
    for task in tasks:
        variants.setdefault(task.name, []).append(task.variant)
    assert variants["00_data"] == ["list"]
    assert variants["11_lstm_448"] == ["seed-42"]
    assert variants["13_cross_validation"] == [f"fold-{fold}" for fold in range(5)]
    assert variants["14_retraining"] == [
        "LSTM-448-d80",
        "LSTM-424-d80",
        "CNN-LSTM-400-d80",
        "CNN-LSTM-400",
        "LSTM-448-f1",
    ]
    assert variants["15_ensembles"] == ["all"]


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_all_models_of_a_profile_have_the_same_configurations(profile, tmp_path):
    """Else retraining and ensembles could not use them."""
    tasks = runner.plan(profile, tmp_path / "run", ROOT / "notebooks")
    kinds = ("model", "fold", "retraining", "ensembles")
    chosen = [task for task in tasks if profiles.NOTEBOOKS[task.name].kind in kinds]
    assert len(chosen) == 12 + 5 + 5 + 1
    assert len({task.settings["SUBSET"] for task in chosen}) == 1


def test_a_variant_can_be_chosen_by_its_parameter(tmp_path):
    def plan(only, **overrides):
        return runner.plan(
            "smoke", tmp_path / "run", ROOT / "notebooks", only=only, overrides=overrides
        )

    assert [task.variant for task in plan(["13"], FOLD="3")] == ["fold-3"]
    retraining = plan(["14"], MODEL="CNN-LSTM-400")
    assert [task.variant for task in retraining] == ["CNN-LSTM-400-d80", "CNN-LSTM-400"]
    assert [task.model for task in retraining] == ["CNN-LSTM-400", None]
    assert [task.model for task in plan(["13"], MODEL="LSTM-400")] == ["LSTM-400"] * 5
    with pytest.raises(ValueError, match="14_retraining has no variant with MODEL 'LSTM-456'"):
        plan(["14"], MODEL="LSTM-456")


def test_several_seeds_have_folders_beside_the_first(tmp_path):
    def plan(seeds):
        (task,) = runner.plan(
            "smoke",
            tmp_path / "run",
            ROOT / "notebooks",
            only=["11"],
            overrides={"SEEDS": seeds},
        )
        return task

    task = plan("[7, 8]")
    assert [folder.name for folder in task.folders] == ["seed-7", "seed-8"]
    assert task.run_dir.name == "seed-7"
    # The folder of seed 7 holds the same as if it were the only one.
    assert task.identity == plan("[7]").identity
    for wrong, message in (
        ("7", "SEEDS is a list such as"),
        ("[]", "must not be empty"),
        ("[7, 7]", "different whole numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            plan(wrong)


def finish(task: runner.Task, at: float, **metrics) -> None:
    """Leave what a finished task leaves."""
    done = Status(task.name, task.variant, "done", runner._plain(task.identity), task.source_hash)
    done.write(task.run_dir)
    for folder in task.folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        os.utime(folder / "metrics.json", (at, at))


def test_a_task_is_done_when_all_its_seeds_are(tmp_path):
    plan = {"only": ["11"], "overrides": {"SEEDS": "[7, 8]"}}
    (task,) = runner.plan("smoke", tmp_path / "run", ROOT / "notebooks", **plan)
    finish(task, 1.0)
    assert runner.is_done(task)
    second = task.folders[1] / "metrics.json"
    second.write_text('{"training": {"stop_reason": "time_limit"}}')
    assert not runner.is_done(task)
    second.unlink()
    assert not runner.is_done(task)


def test_newer_results_make_what_read_them_due_again(tmp_path):
    tasks = runner.plan("smoke", tmp_path / "run", ROOT / "notebooks", only=["11", "14", "15"])
    by_title = {task.title: task for task in tasks}
    for at, task in enumerate(tasks):
        finish(task, float(at))
    assert all(map(runner.is_done, tasks))
    finish(by_title["14_retraining/CNN-LSTM-400"], 100.0)
    assert not runner.is_done(by_title["15_ensembles"])
    assert runner.is_done(by_title["14_retraining/LSTM-448-d80"])
    finish(by_title["11_lstm_448"], 100.0)
    assert not runner.is_done(by_title["14_retraining/LSTM-448-d80"])
    assert runner.is_done(by_title["14_retraining/LSTM-424-d80"])


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
        outcomes = runner.run(project.plan(), say=lambda _: None)
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
    assert all(not profiles.parameters("paper", name) for name in profiles.NOTEBOOKS)


def test_notebooks_are_found_by_number_and_ordered_by_need():
    catalogue = {
        "00_a": Notebook("k", "v", needs=("02_c",)),
        "01_b": Notebook("k", "v"),
        "02_c": Notebook("k", "v", needs=("01_b",)),
    }
    assert profiles.find("11") == profiles.find("notebooks/11_lstm_448.ipynb") == "11_lstm_448"
    assert profiles.in_order(["00", "02", "02_c"], catalogue) == ["02_c", "00_a"]
    assert profiles.in_order(catalogue, catalogue) == ["01_b", "02_c", "00_a"]
    with pytest.raises(ValueError, match="there is no notebook '17'"):
        profiles.find("17")


def test_status_of_a_killed_process(tmp_path):
    folder = tmp_path / "run" / "00_data" / "list"
    Status("00_data", "list", "running", started=1.0, heartbeat=time.time()).write(folder)
    assert Status.read(folder).alive
    assert "running" in status.report(tmp_path)

    Status("00_data", "list", "running", started=1.0, heartbeat=time.time() - 3600).write(folder)
    assert not Status.read(folder).alive
    assert "stopped" in status.report(tmp_path, "run")
    assert "Nothing" in status.report(tmp_path, "other")

    (folder / "status.json").write_text("{")
    assert Status.read(folder) is None


def test_last_epoch(tmp_path):
    assert status.last_epoch(tmp_path) == ""
    (tmp_path / "history.csv").write_text(
        "epoch,train_loss,validation_loss\n1,9.5,8.25\n2,7.123456,6.0\n"
    )
    assert status.last_epoch(tmp_path) == "epoch 2, training loss 7.123, validation loss 6"


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
        ["run", "--only", "17"],
        ["run", "--only"],
        ["run", "--run", "../elsewhere"],
        ["run", "--run", "replaced"],
        ["run", "--prof", "quick"],
        ["run", "-p", "SEED"],
        ["status", "--profile", "quick"],
    ],
)
def test_wrong_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(arguments)
    assert stop.value.code == 2
    assert "usage: bash run_all.sh" in capsys.readouterr().err


def test_wrong_parameters_exit_with_2(capsys, tmp_path):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    arguments = ["run", "--profile", "smoke", "-p", "EPOCHS", "3"]
    assert command.main(arguments, tmp_path) == 2
    assert "parameter EPOCHS" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


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


def test_run_all_tells_what_it_can_do():
    done = subprocess.run(["bash", ROOT / "run_all.sh", "help"], capture_output=True, text=True)
    assert done.returncode == 0
    for word in ("--profile", "--only", "--run", "status", "report", "test"):
        assert word in done.stdout
