"""The notebooks: made by build.py, short, without outputs, and running from top to bottom."""

import ast
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

from cicy_utils import recipes, records
from cicy_utils.batch import profiles
from cicy_utils.data import load_cicy4
from cicy_utils.evaluation import evaluate_run
from cicy_utils.models import build_model
from cicy_utils.splits import split_72
from cicy_utils.training import TrainConfig, fit

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
RECIPE = {
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
LIST = {"SOURCE": "bundled", "LAYOUT": "stored", "SUBSET": None}
NETWORK = {"HIDDEN_SIZE": None, "NUM_LAYERS": 2, "BIDIRECTIONAL": False}
OWN_RECIPE = ("LAYOUT", "LEARNING_RATE", "BATCH_SIZE", "MAX_EPOCHS", "PATIENCE")
TRAINING_PARAMETERS = (
    LIST | RECIPE | dict.fromkeys(OWN_RECIPE) | {"RECIPE": "paper", "SETTINGS": {}}
)
MODEL_PARAMETERS = TRAINING_PARAMETERS | NETWORK | {"SEEDS": [42], "CHECKPOINT": None}
DATA_PARAMETERS = {
    "SOURCE": "bundled",
    "SUBSET": None,
    "SPLIT_SEED": 42,
    "BASELINES": True,
    "BASELINE_SUBSET": None,
    "BASELINE_TRAIN": 20_000,
    "RUN_DIR": None,
}
PARAMETERS = dict.fromkeys(profiles.MODEL_NOTEBOOKS, MODEL_PARAMETERS) | {
    "00_data": DATA_PARAMETERS,
    "13_cross_validation": TRAINING_PARAMETERS
    | NETWORK
    | {"NUM_LAYERS": None, "MODEL": "LSTM-448", "FOLD": 0, "SEED": 42},
    "14_retraining": TRAINING_PARAMETERS
    | {"MODEL": "LSTM-448", "RETRAIN": True, "CHECKPOINT": None, "SEED": 42}
    | {"MIN_LEARNING_RATE": 1e-7},
    "15_ensembles": {
        "SOURCE": "bundled",
        "SUBSET": None,
        "SPLIT_SEED": 42,
        "ROUNDS": 20,
        "RESULTS": None,
        "RUN_DIR": None,
    },
    "16_hidden_size_scan": LIST
    | {name: value for name, value in RECIPE.items() if name != "LEARNING_RATE"}
    | {"MODEL": "LSTM-448", "LOWEST_HIDDEN": 256, "HIGHEST_HIDDEN": 512, "HIDDEN_STEP": 8}
    | {"LAYERS": [2], "LEARNING_RATES": [0.01], "TRIALS": 30, "SEED": 42},
    "17_reference": {"PART": None, "PART_SEED": 0, "DEVICE": "auto", "RUN_DIR": None},
    "18_graph_64": {
        name: value for name, value in MODEL_PARAMETERS.items() if name != "BIDIRECTIONAL"
    }
    | {"RECIPE": "fast", "NUM_LAYERS": 12},
}
# Tables and figures that a notebook shows, and the files of its figures.
SHOWN = dict.fromkeys(profiles.MODEL_NOTEBOOKS, (13, {"training_curve", "errors"})) | {
    "00_data": (10, {"examples", "figure_1", "figure_2"}),
    "13_cross_validation": (7, {"training_curve", "folds"}),
    "14_retraining": (7, {"training_curve"}),
    "15_ensembles": (9, {"climb_72", "climb_80"}),
    "16_hidden_size_scan": (4, {"sizes", "best_trials"}),
    "17_reference": (3, set()),
    "18_graph_64": (13, {"training_curve", "errors"}),
}
TRAINING = {*profiles.MODEL_NOTEBOOKS, "18_graph_64", "13_cross_validation", "14_retraining"}


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def test_every_notebook_is_in_the_catalogue_and_numbered():
    assert list(profiles.NOTEBOOKS) == NAMES
    numbers = [name.split("_")[0] for name in NAMES]
    assert numbers == [f"{number:02d}" for number in range(len(NAMES))]
    assert len(NAMES) >= 16


def test_other_settings_have_no_parameter_of_their_own():
    for parameters in (PARAMETERS[name] for name in TRAINING):
        assert not {name.upper() for name in recipes.OTHER_SETTINGS} & parameters.keys()
        own = {field.name.upper() for field in dataclasses.fields(TrainConfig)} & parameters.keys()
        assert {"LEARNING_RATE", "BATCH_SIZE", "MAX_EPOCHS"} <= own


def test_build_makes_what_is_committed_and_notices_what_is_not(tmp_path):
    for path in (*NOTEBOOKS.glob("*.py"), *NOTEBOOKS.glob("*.ipynb")):
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
    assert len(lines) <= 47
    assert read(name).cells[0].source.startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_one_commented_cell_of_parameters(name):
    tagged = [cell for cell in code_cells(name) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    values = {}
    exec(tagged[0].source, {}, values)
    assert values == PARAMETERS[name]
    assert all("#" in line for line in tagged[0].source.splitlines())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder in which a tiny LSTM-448 was trained as the profile would have it."""
    folder = tmp_path_factory.mktemp("results")
    given = profiles.PROFILES["smoke"]["model"]
    data = load_cicy4(subset=given["SUBSET"])
    split = split_72(len(data))
    config = TrainConfig(max_epochs=1, batch_size=64, learning_rate=0.001, device="cpu")
    model = build_model("LSTM-448", hidden_size=8, seed=42)
    run_dir = folder / "11_lstm_448" / "seed-42"
    result = fit(model, data, split, config, run_dir)
    evaluate_run(model, data, split, config, result, run_dir, notebook="11_lstm_448")
    return folder


def smoke_parameters(name: str) -> dict[str, Any]:
    """Of the first task of a notebook."""
    variant = next(iter(profiles.NOTEBOOKS[name].tasks.values()))
    kind = variant.kind or profiles.NOTEBOOKS[name].kind
    return {**profiles.PROFILES["smoke"][kind], **variant.parameters}


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """A function that runs a notebook in a kernel of its own, in the folder of the test."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("CICY_BATCH", "1")

    def run(name: str, parameters: dict[str, Any]) -> nbformat.NotebookNode:
        return papermill.execute_notebook(
            NOTEBOOKS / f"{name}.ipynb",
            None,
            parameters=parameters,
            kernel_name="python3",
            cwd=NOTEBOOKS if name == "17_reference" else tmp_path,  # the weights are beside it
            progress_bar=False,
        )

    return run


@pytest.mark.notebooks
@pytest.mark.parametrize("name", NAMES)
def test_runs_from_top_to_bottom(name, execute, finished, tmp_path):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    run_dir, parameters = tmp_path / name / "smoke", smoke_parameters(name)
    executed = execute(name, parameters | {"RUN_DIR": str(run_dir)})
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    shown = [output["data"]["text/html"] for output in outputs if "data" in output]
    label = f"quick run: {parameters.get('SUBSET')} of 905,684 configurations"
    if name == "17_reference":
        label = f"quick run: {parameters['PART']} of 181,137 test configurations"
    assert all(label in page.replace("\n", " ") for page in shown)
    count, figures = SHOWN[name]
    assert len(shown) == count
    assert {path.stem for path in run_dir.glob("figures/*")} == figures
    record = records.read_metrics(run_dir)
    assert record["notebook"] == name
    assert record["data"]["configurations"] == parameters.get("SUBSET", records.LIST_SIZE)
    if name not in TRAINING:
        return
    assert record["training"]["epochs"] == parameters["MAX_EPOCHS"]
    files = {"history.csv", "checkpoint.pt", "weights.safetensors", "metrics.json"}
    files |= {"predictions_test.npz", "predictions_validation.npz", "trained_on.npz"}
    assert files <= {path.name for path in run_dir.iterdir()}


@pytest.mark.notebooks
def test_a_fold_of_our_own_network_keeps_its_recipe_when_it_is_retrained(execute, tmp_path):
    fold, result = "fold-4-Graph-64-fast", "Graph-64-f4-d80-fast"
    given = {"RECIPE": "fast", "SUBSET": 300, "BATCH_SIZE": 64, "MAX_EPOCHS": 1, "DEVICE": "cpu"}
    first, second = tmp_path / "13_cross_validation" / fold, tmp_path / "14_retraining" / result
    network = {"MODEL": "Graph-64", "FOLD": 4, "NUM_LAYERS": 1}
    execute("13_cross_validation", given | network | {"RUN_DIR": str(first)})
    execute("14_retraining", given | {"MODEL": "Graph-64-f4", "RUN_DIR": str(second)})
    record = records.read_metrics(second)
    assert (record["model"], record["checkpoint"]) == (result, f"13_cross_validation/{fold}")
    assert record["settings"]["learning_rate"] == recipes.config("fast", "Graph-64").learning_rate
    assert "learning rate" not in record["label"]


@pytest.mark.notebooks
def test_a_model_with_two_seeds_and_another_shape(execute, tmp_path):
    given = profiles.PROFILES["smoke"]["model"] | {"SEEDS": [3, 4], "MAX_EPOCHS": 1}
    given |= {"SETTINGS": {"huber_delta": 0.5, "loss_weights": [1, 1, 2, 4]}}
    given |= {"HIDDEN_SIZE": 6, "NUM_LAYERS": 1, "BIDIRECTIONAL": True}
    first, second = tmp_path / "09_lstm_400" / "seed-3", tmp_path / "09_lstm_400" / "seed-4"
    executed = execute("09_lstm_400", given | {"RUN_DIR": str(first)})
    found = [records.read_metrics(folder) for folder in (first, second)]
    assert [record["seed"] for record in found] == [3, 4]
    one, other = (records.load_predictions(folder, "test") for folder in (first, second))
    assert (one.predictions != other.predictions).any()
    for record in found:
        assert "hidden size 6 instead of 400" in record["label"]
        assert "num layers 1 instead of 2" in record["label"]
        assert "bidirectional True instead of False" in record["label"]
        assert "huber delta 0.5 instead of 1," in record["label"]
        assert "loss weights 1 1 2 4 instead of 1 1 1 1" in record["label"]
    (cell,) = [cell for cell in executed.cells if cell.get("id") == "seeds"]
    page = cell.outputs[0]["data"]["text/html"]
    for word in ("seed 3", "seed 4", "median", "lowest", "highest"):
        assert word in page
