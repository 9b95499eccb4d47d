"""A small project for the tests of the batch: notebooks of a few cells, a catalogue, a profile."""

from __future__ import annotations

import os
import time
from pathlib import Path

import nbformat

from cicy_utils.batch import runner, tasks
from cicy_utils.batch.profiles import Notebook, Variant

PARAMETERS = """\
SUBSET = None  # number of configurations
SEED = 42  # of the training
LEARNING_RATE = 0.01  # at the start
LAYOUT = "stored"  # order of the rows
SETTINGS = {}  # of the training
MAX_HOURS = None  # for the training
RUN_DIR = None  # where to write
"""
IMPORTS = "import json, os, sys, time\nfrom pathlib import Path"
COUNT = """\
calls = Path(RUN_DIR, "calls")
calls.write_text((calls.read_text() if calls.exists() else "") + "x")"""
RECORD = """\
metrics = {"seed": SEED, "data": {"subset": SUBSET}, "settings": {"max_hours": None}}
metrics["settings_fingerprint"] = os.environ["CICY_SETTINGS"]
Path(RUN_DIR, "metrics.json").write_text(json.dumps(metrics))"""
GOOD = [IMPORTS, COUNT, RECORD]


def write_notebook(folder: Path, name: str, cells: list[str]) -> None:
    parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    cells = [parameters, *(nbformat.v4.new_code_cell(cell) for cell in cells)]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # so that the same notebook is the same file
    notebook = nbformat.v4.new_notebook(
        cells=cells,
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
        self.catalogue = {name: Notebook("k", "seed-{SEED}") for name in notebooks}
        for name, needed in dict(needs).items():
            variants = {"seed-{SEED}": Variant(needs=needed)}
            self.catalogue[name] = Notebook("k", variants=variants)

    def plan(self, values=None, **options) -> list[tasks.Task]:
        table = {"tiny": {"k": {"SUBSET": 7} if values is None else values}}
        return tasks.plan(
            "tiny",
            self.run_dir,
            self.root / "notebooks",
            catalogue=self.catalogue,
            table=table,
            **options,
        )

    def run(self, *arguments, jobs=1, cell_timeout=None, **options) -> dict[str, runner.Outcome]:
        self.said: list[str] = []
        planned = self.plan(*arguments, **options)
        with runner.Local(jobs, cell_timeout) as places:
            outcomes = runner.run(planned, places, say=self.said.append, progress_seconds=0.5)
        return {outcome.task.name: outcome for outcome in outcomes}

    def folder(self, name: str, variant: str = "seed-42") -> Path:
        return self.run_dir / name / variant


def wait_for(condition):
    """Look until something is so, and return what it is; pytest limits the time of a test."""
    while not (found := condition()):
        time.sleep(0.1)
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
