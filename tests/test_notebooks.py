"""The notebooks: made by build.py, short, without outputs, and running from top to bottom."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from cicy_utils import records
from cicy_utils.batch import profiles

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
MODEL_PARAMETERS = {
    "SOURCE": "bundled",
    "LAYOUT": "stored",
    "SUBSET": None,
    "SEED": 42,
    "SPLIT_SEED": 42,
    "LEARNING_RATE": 0.01,
    "BATCH_SIZE": 128,
    "MAX_EPOCHS": 550,
    "PATIENCE": 20,
    "PRECISION": "float32",
    "DEVICE": "auto",
    "MAX_HOURS": None,
    "RUN_DIR": None,
}
DATA_PARAMETERS = {"SOURCE": "bundled", "SUBSET": None, "SPLIT_SEED": 42, "RUN_DIR": None}


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def test_there_are_thirteen():
    assert len(NAMES) == 13
    assert [name.split("_")[0] for name in NAMES] == [f"{number:02d}" for number in range(13)]


def test_build_makes_what_is_committed_and_notices_what_is_not(tmp_path):
    for path in (NOTEBOOKS / "build.py", *NOTEBOOKS.glob("*.ipynb")):
        shutil.copy(path, tmp_path)
    command = [sys.executable, tmp_path / "build.py", "--check"]
    same = subprocess.run(command, capture_output=True, text=True)
    assert same.returncode == 0, same.stdout + same.stderr
    edited = tmp_path / "11_lstm_448.ipynb"
    edited.write_text(edited.read_text(encoding="utf-8").replace("LSTM-448", "LSTM-449"))
    other = subprocess.run(command, capture_output=True, text=True)
    assert other.returncode == 1
    assert other.stdout.startswith("11_lstm_448.ipynb is not what build.py makes")


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_clean_and_short(name):
    nbformat.validate(read(name))
    lines = []
    for cell in code_cells(name):
        assert not cell.outputs
        assert cell.execution_count is None
        statements = ast.walk(ast.parse(cell.source))
        assert not any(isinstance(s, ast.FunctionDef | ast.ClassDef) for s in statements)
        lines += [
            line
            for line in cell.source.splitlines()
            if line.strip() and not line.lstrip().startswith("#")
        ]
    assert len(lines) <= 45
    assert read(name).cells[0].source.startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_one_commented_cell_of_parameters(name):
    tagged = [cell for cell in code_cells(name) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    values = {}
    exec(tagged[0].source, {}, values)
    assert values == (DATA_PARAMETERS if name == "00_data" else MODEL_PARAMETERS)
    assert all("#" in line for line in tagged[0].source.splitlines())


@pytest.mark.notebooks
@pytest.mark.parametrize("name", NAMES)
def test_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("CICY_BATCH", "1")
    run_dir = tmp_path / name / "smoke"
    run_dir.mkdir(parents=True)
    parameters = profiles.parameters("smoke", name)
    executed = papermill.execute_notebook(
        NOTEBOOKS / f"{name}.ipynb",
        run_dir / "notebook.ipynb",
        parameters=parameters | {"RUN_DIR": str(run_dir)},
        kernel_name="python3",
        cwd=tmp_path,
        progress_bar=False,
    )
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = [output["data"]["text/html"] for output in outputs if "data" in output]
    label = f"quick run: {parameters['SUBSET']} of 905,684 configurations"
    assert all(label in page.replace("\n", " ") for page in shown)
    assert len(shown) == (9 if name == "00_data" else 11)
    record = records.read_metrics(run_dir)
    assert record["notebook"] == name
    assert record["data"]["configurations"] == parameters["SUBSET"]
    figures = {path.stem for path in (run_dir / "figures").iterdir()}
    if name == "00_data":
        assert figures == {"examples", "figure_1", "figure_2"}
        return
    assert figures == {"training_curve", "errors"}
    assert record["training"]["epochs"] == parameters["MAX_EPOCHS"]
    files = {"history.csv", "checkpoint.pt", "weights.safetensors", "metrics.json"}
    files |= {"predictions_test.npz", "predictions_validation.npz"}
    assert files <= {path.name for path in run_dir.iterdir()}
