"""What the batch says and does when something dies, with real kernels and processes."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from platforms import on_linux
from small_project import GOOD, IMPORTS, RECORD, Project, is_running, wait_for, write_notebook

from cicy_utils import lease
from cicy_utils.batch import __main__ as command
from cicy_utils.batch import estimate, execution, report, runner, status, summary  # noqa: F401
from cicy_utils.batch.status import Status

ROOT = Path(__file__).resolve().parents[1]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

TELL = "Path(RUN_DIR, 'kernel').write_text(str(os.getpid()))"
SLEEP = "while not Path(RUN_DIR, 'go').exists(): time.sleep(0.1)"
SAVES = f"""try:
    {TELL}
    {SLEEP}
except KeyboardInterrupt:
    Path(RUN_DIR, "saved").touch()
    raise"""


def long_project(root: Path) -> Project:
    """The first notebook takes until there is a file called go."""
    return Project(root, {"00_long": [IMPORTS, SAVES, *GOOD[1:]], "01_next": GOOD})


def run_long_project(root: str) -> None:
    """What a process of its own does."""
    signal.signal(signal.SIGTERM, command.interrupt)
    execution.SAVE_SECONDS = 60  # however slow the machine is
    try:
        long_project(Path(root)).run()
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def running(root: Path):
    """That process, with a kernel in the middle of a notebook; yields both process numbers."""
    code = "import sys, test_crashes; test_crashes.run_long_project(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", code, root], cwd=Path(__file__).parent)
    try:
        kernel = long_project(root).folder("00_long") / "kernel"
        wait_for(lambda: kernel.exists() and kernel.read_text())
        yield process, int(kernel.read_text())
    finally:
        process.kill()
        process.wait()


@pytest.mark.notebooks
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_is_told_and_goes_on(tmp_path, how):
    project = long_project(tmp_path)
    first, second = project.folder("00_long"), project.folder("01_next")
    with running(tmp_path) as (process, kernel):
        assert status.told(first, Status.read(first)) == ("running", "")
        with pytest.raises(ValueError, match=f"in use by process {process.pid}.* with --run"):
            project.run()
        process.send_signal(how)
        assert process.wait() == (-how if how == signal.SIGKILL else 130)
    # The truth at once, from a process that was killed as from one that could tidy up.
    state, why = status.told(first, Status.read(first))
    if how == signal.SIGKILL:
        assert (state, why) == ("stopped", "its process is gone")
    else:
        assert (state, why) == ("partial", "interrupted; run again to go on")
        assert not lease.lease_file(first, status.LEASE).exists()
    assert (first / "saved").exists() == (how != signal.SIGKILL)  # as a training saves its state
    assert Status.read(second).state == "pending"
    assert not (first / "metrics.json").exists()
    wait_for(lambda: not is_running(kernel))

    (first / "go").touch()
    assert [outcome.state for outcome in project.run().values()] == ["done", "done"]
    assert (first / "calls").read_text() == "x"
    assert [outcome.state for outcome in project.run().values()] == ["skipped", "skipped"]


@pytest.mark.notebooks
def test_a_cell_that_takes_too_long_is_stopped(tmp_path):
    cells = [*GOOD, TELL, "print('begins')\ntime.sleep(600)", "print('after')"]
    project = Project(tmp_path, {"00_slow": cells})
    outcome = project.run(cell_timeout=10)["00_slow"]
    assert outcome.state == "failed"
    assert outcome.error == (
        "the notebook ended in this cell: print('begins')",
        "a cell was stopped after 10 seconds, which is its limit",
    )
    kernel = int((project.folder("00_slow") / "kernel").read_text())
    wait_for(lambda: not is_running(kernel))
    assert "begins" in (project.folder("00_slow") / "notebook.html").read_text()


@pytest.mark.notebooks
def test_several_at_once_wait_for_what_they_read(tmp_path):
    note = """\
begun = time.time()
time.sleep(0.5)
Path(RUN_DIR, "times").write_text(json.dumps([begun, time.time()]))"""
    names = ("00_a", "01_b", "02_both", "03_c")
    needs = {"02_both": ("00_a", "01_b")}
    project = Project(tmp_path, {name: [*GOOD, note] for name in names}, needs)
    outcomes = project.run(jobs=3)
    assert list(outcomes) == list(names)
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    begun, ended = zip(
        *(json.loads((project.folder(name) / "times").read_text()) for name in names), strict=True
    )
    assert begun[2] > max(ended[:2])
    assert begun[3] < ended[2]  # it had not to wait


@pytest.mark.parametrize(
    ("jobs", "allowed", "devices"),
    [
        (1, "0,1", [None]),
        (2, "0,1", ["0", "1"]),
        (3, " GPU-a, GPU-b", ["GPU-a", "GPU-b", "GPU-a"]),
        (2, "", [None, None]),
    ],
)
def test_each_kernel_has_a_gpu_of_its_own(monkeypatch, jobs, allowed, devices):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    found = [place.get("CUDA_VISIBLE_DEVICES") for place in runner.environments(jobs)]
    assert found == devices


def fill(path: Path) -> None:
    """Let whoever writes to a path find a full disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/full")


@on_linux
@pytest.mark.notebooks
def test_a_full_disk_is_named_and_leaves_what_was_there(tmp_path, monkeypatch):
    notebooks = {
        "00_metrics": [IMPORTS, "Path(RUN_DIR, 'metrics.json').symlink_to('/dev/full')", RECORD],
        "01_notebook": GOOD,
        "02_page": GOOD,
        "03_status": GOOD,
    }
    project = Project(tmp_path, notebooks)
    kept = project.folder("01_notebook") / "notebook.ipynb"
    kept.parent.mkdir(parents=True)
    kept.write_text("an earlier one")
    fill(kept.with_name(execution.DRAFT_FILE))
    written = []

    def write_text(path: Path, text: str) -> None:
        if path.parent == project.folder("02_page") and path.name == execution.HTML_FILE:
            raise FULL
        if path == project.folder("03_status") / status.FILE_NAME:
            written.append(json.loads(text)["state"])
            if written[-1] == "done":
                raise FULL
        real(path, text)

    real = status.write_text
    monkeypatch.setattr(status, "write_text", write_text)
    monkeypatch.setattr(execution, "write_text", write_text)
    outcomes = project.run()
    for outcome in outcomes.values():
        assert outcome.state == "failed"
        assert "No space left on device" in outcome.error[-1]
    assert kept.read_text() == "an earlier one"
    # It was done, but that could not be written: it will be done again.
    folder = project.folder("03_status")
    assert list(dict.fromkeys(written)) == ["pending", "running", "done"]
    assert status.told(folder, Status.read(folder))[0] == "stopped"

    monkeypatch.undo()
    (project.folder("00_metrics") / "metrics.json").unlink()
    write_notebook(tmp_path / "notebooks", "00_metrics", GOOD)
    assert {outcome.state for outcome in project.run().values()} == {"done"}


@pytest.mark.notebooks
def test_a_full_disk_at_the_start_stops_one_notebook_only(tmp_path, monkeypatch):
    project = Project(tmp_path, {"00_good": GOOD, "01_good": GOOD})

    def write_text(path: Path, text: str) -> None:
        if path.parent == project.folder("00_good"):
            raise FULL
        real(path, text)

    real = status.write_text
    monkeypatch.setattr(status, "write_text", write_text)
    first, second = project.run().values()
    assert first.state == "failed"
    assert "No space left on device" in first.error[-1]
    assert second.state == "done"


@contextmanager
def nobody():
    """As a user whom the permissions of files bind; root, as which tests may run, is not bound."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def readable():
    """A folder that everybody may read, and none but its owner write."""
    folder = Path(tempfile.mkdtemp(prefix="cicy-test-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_results_folder_that_cannot_be_written_is_refused(readable, capsys):
    shutil.copytree(ROOT / "notebooks", readable / "notebooks")
    results = readable / "results"
    results.mkdir()
    results.chmod(0o555)
    with nobody():
        code = command.main(["run", "--profile", "smoke", "--only", "00"], readable)
    assert code == 2
    told = capsys.readouterr().err
    assert f"nothing can be written into {results / 'smoke'} (Permission denied)" in told
    assert list(results.iterdir()) == []


def test_a_run_folder_that_cannot_be_written_is_told(readable):
    project = Project(readable, {"00_good": GOOD, "01_next": GOOD}, {"01_next": ("00_good",)})
    folder = project.folder("00_good")
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text("epoch\n1\n")
    for path in (folder, *folder.parents[:3]):
        path.chmod(0o555)
    with nobody():
        outcomes = project.run()
    assert [outcome.state for outcome in outcomes.values()] == ["failed", "blocked"]
    assert "Permission denied" in outcomes["00_good"].error[-1]
    assert [path.name for path in folder.iterdir()] == ["history.csv"]
