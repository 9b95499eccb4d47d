"""Kaggle: the kit, where a notebook finds things there, and a notebook run from the kit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import time
import venv
from pathlib import Path

import nbformat
import numpy as np
import pytest
from platforms import on_linux
from small_training import COMMON, small_list

from cicy_utils import data, lease, places, records
from cicy_utils.batch import kaggle, profiles
from cicy_utils.models import build_model
from cicy_utils.records import read_history
from cicy_utils.splits import split_72
from cicy_utils.training import OutOfTime, TrainConfig, fit

NOTEBOOK = "11_lstm_448"
RUN = Path("results", "interactive", NOTEBOOK, "seed-42")
LAYOUTS = {  # of /kaggle/input: data set and outputs of notebooks
    "older": ("cicy4-hodge", "cicy4-11-lstm-448"),
    "newer": ("datasets/someone/cicy4-hodge", "notebooks/someone/cicy4-11-lstm-448"),
}


@pytest.fixture(scope="session")
def kit(tmp_path_factory) -> Path:
    """What the command writes for two notebooks."""
    output = tmp_path_factory.mktemp("kit")
    kaggle.build("someone", output, ["11", "14_retraining"])
    return output


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder as /kaggle is, with nothing attached."""
    folder = tmp_path / "kaggle"
    (folder / "working").mkdir(parents=True)
    (folder / "input").mkdir()
    monkeypatch.setenv(places.ROOT_VARIABLE, str(folder))
    monkeypatch.chdir(folder / "working")
    return folder


def attach(root: Path, place: str, run: str = str(RUN), **files: str) -> Path:
    """A run as the output of another version or notebook; files by name without suffix."""
    folder = root / "input" / place / run
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


# The kit ---------------------------------------------------------------------------------------


def test_the_kit_holds_a_data_set_and_a_folder_for_each_notebook(kit):
    assert {path.name for path in kit.iterdir()} == {"cicy4-hodge", NOTEBOOK, "14_retraining"}
    dataset = kit / "cicy4-hodge"
    assert len(list(dataset.glob("cicy4_hodge-*-py3-none-any.whl"))) == 1
    matrices, hodge = data.read_npz(dataset / "cicy4.npz")
    assert data.is_complete_list(matrices, hodge)
    assert list(dataset.glob("results/reference/*/*/weights.float16.safetensors"))
    content = json.loads((dataset / "dataset-metadata.json").read_text())
    assert content["id"] == "someone/cicy4-hodge"
    assert len(content["licenses"]) == 1
    assert "MIT" in content["description"]


def test_the_kit_s_notebook_is_the_committed_one_after_a_cell_that_installs(kit):
    committed = nbformat.read(kaggle.ROOT / "notebooks" / f"{NOTEBOOK}.ipynb", as_version=4)
    made = nbformat.read(kit / NOTEBOOK / f"{NOTEBOOK}.ipynb", as_version=4)
    nbformat.validate(made)
    assert made.cells[1:] == committed.cells
    assert made.metadata == committed.metadata
    install = made.cells[0].source
    assert "--no-index" in install
    assert "someone/cicy4-hodge" in install
    assert len(install.splitlines()) <= 12


@pytest.mark.parametrize("name", profiles.NOTEBOOKS)
def test_metadata_of_every_notebook_obeys_kaggle_s_rules(name):
    found = kaggle.kernel_metadata(name, "someone")
    user, slug = found["id"].split("/")
    assert user == "someone"
    assert slug == kaggle.slug(found["title"])
    assert 5 <= len(found["title"]) <= 50
    assert (found["language"], found["kernel_type"]) == ("python", "notebook")
    assert (found["is_private"], found["enable_gpu"], found["enable_internet"]) == (
        True,
        True,
        False,
    )
    assert found["dataset_sources"] == [kaggle.dataset_metadata("someone")["id"]]
    assert found["id"] not in found["kernel_sources"]
    again = kaggle.kernel_metadata(name, "someone", resume=True)
    assert again["kernel_sources"] == [*found["kernel_sources"], found["id"]]


def test_metadata_of_the_data_set_obeys_kaggle_s_rules():
    found = kaggle.dataset_metadata("someone")
    assert found["id"] == f"someone/{kaggle.slug(found['title'])}"
    assert 6 <= len(found["title"]) <= 50
    assert 20 <= len(found["subtitle"]) <= 80


def test_notebooks_that_read_results_of_others_name_them():
    assert kaggle.kernel_metadata("14_retraining", "someone")["kernel_sources"] == [
        "someone/cicy4-11-lstm-448",
        "someone/cicy4-10-lstm-424",
        "someone/cicy4-07-cnn-lstm-400",
        "someone/cicy4-13-cross-validation",
        "someone/cicy4-18-graph-64",
    ]
    assert len(kaggle.kernel_metadata("15_ensembles", "someone")["kernel_sources"]) == 15
    assert kaggle.kernel_metadata("00_data", "someone")["kernel_sources"] == []


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("CICY4 00 data", "cicy4-00-data"),
        ("My  Awesome (Data) Set!", "my-awesome-data-set"),
        ("ResNet_GRU-256", "resnet-gru-256"),
    ],
)
def test_slugs(title, slug):
    assert kaggle.slug(title) == slug


@pytest.mark.parametrize("user", ["", "Someone", "some one", "someone/else", "-x", "a" * 51])
def test_user_names_that_kaggle_does_not_have_are_refused(user, tmp_path):
    with pytest.raises(ValueError, match="is no Kaggle user name"):
        kaggle.build(user, tmp_path / "kit")
    assert not (tmp_path / "kit").exists()


@pytest.mark.parametrize("title", ["Kit", "?!?!?!", "a" * 51])
def test_titles_that_kaggle_does_not_take_are_refused(title, monkeypatch):
    monkeypatch.setattr(kaggle, "DATASET_TITLE", title)
    with pytest.raises(ValueError, match="Kaggle wants titles of 6 to 50 letters"):
        kaggle.dataset_metadata("someone")


def test_only_the_kit_s_own_folder_is_written_anew(kit, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and was not made by this command"):
        kaggle.build("someone", tmp_path, ["00"])
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ValueError, match="is a file"):
        kaggle.build("someone", tmp_path / "mine.txt", ["00"])

    again = shutil.copytree(kit, tmp_path / "kit")
    kaggle.build("else", again, ["00"])
    assert {path.name for path in again.iterdir()} == {"cicy4-hodge", "00_data"}


def test_outside_a_clone_nothing_is_built(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no clone of the repository"):
        kaggle.build("someone", tmp_path / "kit", root=tmp_path)
    assert not (tmp_path / "kit").exists()


def test_a_wheel_that_cannot_be_built_is_told_in_a_sentence(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in kaggle.SOURCES:
        (source / name).write_text("no project")
    with pytest.raises(RuntimeError, match="the wheel could not be built with the pip"):
        kaggle.build_wheel(source, tmp_path)


def test_the_command_says_what_is_next_or_what_is_wrong(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("KAGGLE_USERNAME", raising=False)
    assert kaggle.main(["build"]) == 2
    assert "give it as --user NAME" in capsys.readouterr().err
    wrong = ["build", "--user", "someone", "--output", str(tmp_path), "--only", "99"]
    assert kaggle.main(wrong) == 2
    assert "there is no notebook '99'" in capsys.readouterr().err

    monkeypatch.setattr(kaggle, "build_wheel", lambda root, folder: folder / "a.whl")
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    assert kaggle.main(["build", "--output", str(tmp_path), "--only", "17"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"kaggle datasets create -p {tmp_path}/cicy4-hodge --dir-mode zip",
        f"kaggle kernels push -p {tmp_path}/17_reference",
    ]


# Where things are -------------------------------------------------------------------------------


def test_elsewhere_nothing_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(places.ROOT_VARIABLE, str(tmp_path / "kaggle"))
    monkeypatch.chdir(tmp_path)
    assert places.kaggle() is None
    assert places.find_attached(data.FILE_NAME) is None
    assert places.training_hours(None) is None
    assert places.training_hours(3.0) == 3.0
    assert places.how_to_go_on() == ""
    assert records.run_directory(NOTEBOOK, "seed-42") == tmp_path / RUN
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_list_is_found_among_the_inputs(layout, root):
    bundled = data.find_bundled()
    assert root not in bundled.parents
    dataset = root / "input" / LAYOUTS[layout][0]
    dataset.mkdir(parents=True)
    shutil.copy(bundled, dataset)
    assert data.find_bundled() == dataset / data.FILE_NAME
    assert len(data.load_cicy4(subset=10)) == 10


def test_outputs_go_to_working(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert records.project_root() == root / "working"
    assert records.run_directory(NOTEBOOK, "seed-42") == root / "working" / RUN
    own = tmp_path / "own"
    assert records.run_directory(NOTEBOOK, "seed-42", folder=own) == own


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_attached_run_of_the_notebook_is_copied(layout, root, capsys):
    source = attach(root, LAYOUTS[layout][1], history="one")
    (source / "trials" / "1").mkdir(parents=True)
    (source / "trials" / "1" / "history.csv").write_text("trial")
    for left_out in (".training.lease", ".running.ipynb", ".checkpoint.pt.tmp"):
        (source / left_out).write_text("not to be copied")
    for path in (source / "history.csv", source):
        path.chmod(path.stat().st_mode & ~0o222)  # as all input is
    folder = records.run_directory(NOTEBOOK, "seed-42")
    found = {str(path.relative_to(folder)): path.read_text() for path in places._files(folder)}
    assert found == {"history.csv": "one", "trials/1/history.csv": "trial"}
    assert not any(path.name.startswith(".") for path in folder.parent.rglob("*"))
    for path in (folder, folder / "history.csv"):
        assert not path.is_symlink()
        assert path.stat().st_mode & 0o200
    assert (source / "history.csv").read_text() == "one"
    said = capsys.readouterr().out
    assert said == f"going on from attached results: seed-42 ({source})\n"

    (folder / "history.csv").write_text("two")
    assert records.run_directory(NOTEBOOK, "seed-42") == folder
    assert (folder / "history.csv").read_text() == "two"
    assert capsys.readouterr().out == ""


def test_the_newest_of_several_versions_is_taken(root):
    now = time.time()
    for place, hours in (("a-fork", 2), ("b-newest", 1), ("c-oldest", 3)):
        folder = attach(root, place, history=place, metrics=place)
        for path in folder.iterdir():
            os.utime(path, (now, now - 3600 * hours))
    attach(root, "datasets/someone/other", "pictures/2024/x/y", picture="nothing of ours")
    folder = records.run_directory(NOTEBOOK, "seed-42")
    assert (folder / "history.csv").read_text() == "b-newest"


def test_an_empty_folder_counts_as_none_and_a_half_copy_does_not_stay(root):
    attach(root, "an-output", history="whole")
    folder = root / "working" / RUN
    folder.mkdir(parents=True)
    half = folder.with_name(".seed-42.part")
    half.mkdir()
    (half / "checkpoint.pt").write_text("half")
    assert records.run_directory(NOTEBOOK, "seed-42") == folder
    assert [path.name for path in folder.iterdir()] == ["history.csv"]
    assert not half.exists()


def test_results_of_other_notebooks_are_linked_where_they_are_looked_for(root, capsys):
    own = "results/interactive/14_retraining/LSTM-448"
    attach(root, "notebooks/someone/cicy4-14-retraining", own, history="own")
    theirs = attach(root, "notebooks/someone/cicy4-11-lstm-448", history="theirs")
    (theirs / "metrics.json").write_text(json.dumps({"model": "LSTM-448"}))
    published = "results/reference/11_lstm_448/fast-42"
    attach(root, "datasets/someone/cicy4-hodge", published, history="published")

    folder = records.run_directory("14_retraining", "LSTM-448-d80")
    assert list(folder.iterdir()) == []
    results = folder.parents[1]
    assert (folder.parent / "LSTM-448").is_dir()
    assert not (folder.parent / "LSTM-448").is_symlink()
    link = results / NOTEBOOK / "seed-42"
    assert link.readlink() == theirs
    assert records.trained(results) == [(link, {"model": "LSTM-448"})]
    reference = results.with_name("reference") / "11_lstm_448" / "fast-42"
    assert (reference / "history.csv").read_text() == "published"
    assert capsys.readouterr().out.splitlines() == [
        f"going on from attached results: LSTM-448 ({root}/input/notebooks/someone/"
        "cicy4-14-retraining/results/interactive/14_retraining/LSTM-448)",
        "attached results of other notebooks: 11_lstm_448/seed-42, 11_lstm_448/fast-42",
    ]


# How long there is time ------------------------------------------------------------------------


def test_without_a_limit_all_trainings_share_what_is_left_of_eleven_hours(root, monkeypatch):
    assert places.training_hours(3.0) == 3.0
    monkeypatch.setattr(places, "_process_hours", lambda: 4.0)
    assert places.training_hours(None) == 7.0
    monkeypatch.setattr(places, "_process_hours", lambda: 11.5)
    assert places.training_hours(None) == 0.0


@on_linux
def test_hours_count_from_the_start_of_the_process(monkeypatch):
    began = int(lease.Process.this().began)
    ticks = os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(time, "clock_gettime", lambda _: began / ticks + 7200)
    assert places._process_hours() == pytest.approx(2.0)
    # no session lasts that long, so it is another clock
    monkeypatch.setattr(time, "clock_gettime", lambda _: began / ticks + 3600 * 24 * 30)
    monkeypatch.setattr(places, "_imported", time.monotonic() - 3600)
    assert places._process_hours() == pytest.approx(1.0, rel=0.1)


def test_a_training_whose_time_is_up_says_how_to_go_on(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CICY_BATCH", "1")
    monkeypatch.setattr(places, "_process_hours", lambda: 11.5)
    cicy4 = small_list()
    split, config = split_72(len(cicy4)), TrainConfig(**COMMON)

    def train(config):
        model = build_model("LSTM-448", hidden_size=4, seed=1)
        return fit(model, cicy4, split, config, tmp_path / "run")

    with pytest.raises(OutOfTime, match=r"limit of 11 hours came before .*; to go on: save"):
        train(config)
    assert places.GO_ON in capsys.readouterr().out.splitlines()
    monkeypatch.setattr(places, "_process_hours", lambda: 0.0)
    assert train(config).epochs == COMMON["max_epochs"]
    assert places.GO_ON not in capsys.readouterr().out


# A notebook run from the kit --------------------------------------------------------------------

# What Kaggle does with a notebook, with parameters; the kernel's sockets are files.
SESSION = """
import json, sys
import papermill
from traitlets.config import Config

source, target, cwd, connection, parameters = sys.argv[1:]
papermill.execute_notebook(
    source, target, parameters=json.loads(parameters), kernel_name="python3", cwd=cwd,
    progress_bar=False,
    config=Config(KernelManager={"transport": "ipc", "connection_file": connection}),
)
"""
PARAMETERS = profiles.PROFILES["smoke"]["model"] | {
    "HIDDEN_SIZE": 8,
    "DEVICE": "cpu",
    "MAX_EPOCHS": 100_000,
    "PATIENCE": 100_000,
    "MAX_HOURS": 2 / 3600,
}


@pytest.fixture(scope="session")
def image(tmp_path_factory) -> Path:
    """An environment with all packages of this one but ours; returns its Python."""
    folder = tmp_path_factory.mktemp("image")
    venv.create(folder, with_pip=False, symlinks=True)
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.lower().startswith(("cicy", "__editable__", "__pycache__")):
            (site / path.name).symlink_to(path)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "ipykernel", "install", "--sys-prefix"], check=True)
    return python


def session(image: Path, kit: Path, root: Path, home: Path) -> list[str]:
    """Run the notebook of the kit as Kaggle would, without network; the lines that it printed."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "IPYTHONDIR": str(home / "ipython"),
        places.ROOT_VARIABLE: str(root),
        "CICY_BATCH": "1",  # no bars, whose text depends on the time
        "OMP_NUM_THREADS": "1",
        "PIP_NO_INDEX": "1",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # where nobody listens
        "HTTP_PROXY": "http://127.0.0.1:9",
    }
    alone = ["unshare", "--net", "--map-root-user"]  # a process without network, where allowed
    if (
        not shutil.which("unshare")
        or subprocess.run([*alone, "true"], capture_output=True).returncode
    ):
        alone = []
    source = kit / NOTEBOOK / f"{NOTEBOOK}.ipynb"
    target = root / "working" / "__notebook__.ipynb"
    arguments = [source, target, root / "working", home / "kernel.json", json.dumps(PARAMETERS)]
    done = subprocess.run(
        [*alone, image, "-c", SESSION, *map(str, arguments)],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    outputs = [o for cell in nbformat.read(target, 4).cells for o in cell.get("outputs", [])]
    assert not [o.text for o in outputs if o.get("name") == "stderr"]
    return "".join(o.text for o in outputs if o.get("name") == "stdout").splitlines()


@pytest.mark.notebooks
def test_a_notebook_of_the_kit_runs_offline_and_its_next_version_goes_on(kit, image, tmp_path):
    """The first session in the older layout, the second in the newer one."""
    first, second = tmp_path / "first", tmp_path / "second"
    for root, layout in ((first, "older"), (second, "newer")):
        (root / "working").mkdir(parents=True)
        dataset = root / "input" / LAYOUTS[layout][0]
        shutil.copytree(kit / "cicy4-hodge", dataset)
    home = tmp_path / "home"
    home.mkdir()
    where = [image, "-c", "import cicy_utils; print(cicy_utils.__file__)"]
    assert subprocess.run(where, cwd=home, env={}, capture_output=True).returncode == 1

    said = session(image, kit, first, home)
    assert places.GO_ON in said
    assert not any(line.startswith("going on from attached results") for line in said)
    before = read_history(first / "working" / RUN)
    assert records.read_metrics(first / "working" / RUN)["training"]["stop_reason"] == "time_limit"
    found = subprocess.run(where, cwd=home, env={}, capture_output=True, text=True).stdout
    assert image.parents[1] in Path(found).parents

    attached = second / "input" / LAYOUTS["newer"][1]
    shutil.copytree(first / "working", attached)
    said = session(image, kit, second, home)
    assert f"going on from attached results: seed-42 ({attached / RUN})" in said
    after = read_history(second / "working" / RUN)
    assert len(after) > len(before)
    np.testing.assert_array_equal(after[: len(before)], before)
    label = records.read_metrics(second / "working" / RUN)["label"]
    assert f"stopped by the time limit after {len(after):,} epochs" in label
