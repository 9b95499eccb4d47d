"""Executes one notebook in a kernel of its own.

papermill runs in this process, and is not believed: it reports success after the death of a
kernel, after a cell's time-out, and after ``sys.exit(0)`` in a cell, even the last one. A notebook
is finished when papermill returned, every code cell ended by itself, and metrics.json can be read
and is of the settings asked for.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellTimeoutError
from traitlets.config import Config

from cicy_utils.batch.page import render
from cicy_utils.batch.status import fault_of_results
from cicy_utils.batch.tasks import Task, verbatim
from cicy_utils.files import write_text
from cicy_utils.records import METRICS_FILE, SETTINGS_VARIABLE

NOTEBOOK_FILE = "notebook.ipynb"
HTML_FILE = "notebook.html"
DRAFT_FILE = ".running.ipynb"
KERNEL_START_SECONDS = 120
ERROR_LINES = 6  # of a traceback, its last ones
SAVE_SECONDS = 5  # for a training to finish its step and write its state
OUT_OF_TIME = "OutOfTime: "  # a training whose time limit came before there was anything to use

KERNEL_ENVIRONMENT = {
    "CICY_BATCH": "1",  # plain lines of progress instead of bars
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # no remark about frozen modules from the debugger
}


class Stopped(RuntimeError):
    """Everything was asked to end."""


class Kernels:
    """The kernels of this process, so that all can be ended at once."""

    def __init__(self) -> None:
        self.stopped = False
        self._groups: set[int] = set()
        self._lock = threading.Lock()

    @contextmanager
    def noted(self) -> Iterator[Callable[[int], None]]:
        """Yields what is to be called with the process group of a kernel when it starts."""
        own: set[int] = set()

        def note(group: int) -> None:
            with self._lock:
                own.add(group)
                self._groups.add(group)
            if self.stopped:
                self.stop()

        try:
            yield note
        finally:
            with self._lock:
                self._groups -= own

    def stop(self) -> None:
        """End every kernel with whatever it started, and let none begin.

        Trainings are asked first, as by Ctrl-C, and have some seconds to save their state.
        """
        asked, self.stopped = self.stopped, True
        try:
            if not asked:
                self._signal(signal.SIGINT)
                end = time.monotonic() + SAVE_SECONDS
                while self._groups and time.monotonic() < end:
                    time.sleep(0.1)
        finally:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with self._lock:
            for group in self._groups:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, number)


@contextmanager
def own_event_loop() -> Iterator[None]:
    """An event loop for a thread that runs notebooks, closed at its end: nobody else does that."""
    loop = ensure_event_loop()
    try:
        yield
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def execute(
    task: Task,
    *,
    kernels: Kernels,
    environment: Mapping[str, str] | None = None,
    cell_timeout: int | None = None,
) -> tuple[str, ...]:
    """Run a notebook into its folder; returns the last lines of what went wrong, or nothing.

    Args:
        task: what to run; nobody else may be at work on its folder.
        kernels: where the kernel is noted while it runs.
        environment: variables for the kernel, besides those of this process.
        cell_timeout: seconds that one cell may take; None for any.
    """
    # The kernel of this environment, not one of the user's own; it is this process that looks.
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")
    before = {folder: _written(folder / METRICS_FILE) for folder in task.folders}
    error: list[str] = []
    timed_out = False
    with ExitStack() as stack:
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cicy-")))
        draft = task.run_dir / DRAFT_FILE
        stack.callback(draft.unlink, missing_ok=True)
        variables = {
            **os.environ,
            **KERNEL_ENVIRONMENT,
            "IPYTHONDIR": str(private),
            SETTINGS_VARIABLE: task.fingerprint,
            **(environment or {}),
        }
        # Sockets in a folder of its own instead of TCP ports: several kernels that start at the
        # same time cannot take each other's.
        note = stack.enter_context(kernels.noted())
        connection = {"transport": "ipc", "connection_file": str(private / "kernel.json")}
        try:
            papermill.execute_notebook(
                verbatim(task.source),
                verbatim(draft),
                parameters=task.injected,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                log_output=False,
                start_timeout=KERNEL_START_SECONDS,
                execution_timeout=cell_timeout,
                kernel_manager_class=_kernel_class(task.source.parent, variables, kernels, note),
                config=Config(KernelManager=connection),
            )
        except papermill.PapermillExecutionError as failure:
            # In one line, the last, as that is all that a summary of the batch has room for.
            what = " ".join(f"{failure.ename}: {failure.evalue}".split())
            error = tail([*failure.traceback, what])
        except CellTimeoutError:
            timed_out = True
            error = [f"a cell was stopped after {cell_timeout} seconds, which is its limit"]
        except Exception as failure:  # a dead kernel, a full disk: whatever it is, name it
            error = tail([f"{type(failure).__name__}: {failure}"])
        if kernels.stopped:
            return ("interrupted",)
        unsaved = _keep(draft, task.run_dir / NOTEBOOK_FILE)
        if timed_out and not unsaved:
            error = [f"the notebook ended in this cell: {_last_begun_cell(task)}", *error]
        error = error or unsaved or _unfinished_cell(task) or _missing_results(task, before)
    try:
        write_html(task, error)
    except Exception as failure:
        error = error or tail([f"no HTML page: {type(failure).__name__}: {failure}"])
    return tuple(error)


def write_html(task: Task, error: Sequence[str]) -> None:
    """Turn the executed notebook into one HTML file that needs no other for its figures."""
    path = task.run_dir / NOTEBOOK_FILE
    if not path.is_file():
        return
    title = f"{task.title} ({task.run_dir.parts[-3]})"
    page = render(nbformat.read(path, as_version=4), title, error)
    write_text(task.run_dir / HTML_FILE, page)


def tail(lines: Iterable[str]) -> list[str]:
    """The last lines of some text, without the colours of a terminal."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))
    kept = [line.rstrip() for line in text.splitlines() if line.strip(" -")]
    if len(kept) > 1 and kept[-1] == kept[-2]:
        kept.pop()
    return kept[-ERROR_LINES:]


def _kernel_class(
    folder: Path, environment: dict[str, str], kernels: Kernels, note: Callable[[int], None]
) -> type:
    """A kernel manager whose kernel has its own working directory and environment.

    papermill would change those of this process, which other notebooks may be running in.
    """

    class Kernel(AsyncKernelManager):
        async def start_kernel(self, **options: Any) -> None:
            if kernels.stopped:
                raise Stopped("everything was asked to end")
            await super().start_kernel(cwd=str(folder), env=environment, **options)
            note(self.provisioner.pid)  # a kernel leads a process group

    return Kernel


def _keep(draft: Path, path: Path) -> list[str]:
    """Put the executed notebook in its place, unless a full disk has left a part of it only."""
    if not draft.is_file():
        return ["papermill left no notebook"]
    try:
        nbformat.read(draft, as_version=4)
        os.replace(draft, path)
    except Exception as failure:
        return tail([f"the executed notebook could not be saved: {failure}"])
    return []


def _unfinished_cell(task: Task) -> list[str]:
    """The first cell that did not end by itself, which papermill may not have noticed."""
    for cell in _code_cells(task):
        noted = cell.metadata.get("papermill", {})
        # Both are needed: papermill calls cells completed that it never started.
        ended = noted.get("status") == "completed" and not noted.get("exception")
        if not (ended and cell.get("execution_count")):
            return [f"the notebook ended in this cell: {_first_line(cell)}"]
    return []


def _last_begun_cell(task: Task) -> str:
    """The first line of the cell that ran when the notebook was stopped."""
    begun = [cell for cell in _code_cells(task) if cell.get("execution_count")]
    return _first_line(begun[-1]) if begun else "none had begun"


def _code_cells(task: Task) -> list[nbformat.NotebookNode]:
    """The cells of the executed notebook that have code in them."""
    notebook = nbformat.read(task.run_dir / NOTEBOOK_FILE, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def _first_line(cell: nbformat.NotebookNode) -> str:
    return cell.source.strip().splitlines()[0]


def _missing_results(task: Task, before: Mapping[Path, tuple | None]) -> list[str]:
    """What is wrong with metrics.json after the last cell, in any of the folders.

    before: what ``_written`` said of them then.
    """
    for folder, settings in task.expected.items():
        if folder != task.run_dir and not (folder / METRICS_FILE).exists():
            return [f"{OUT_OF_TIME}no time was left for {folder.name}"]  # see ``seeds.train``
        fault = fault_of_results(folder, task.fingerprint, settings)
        if not fault and _written(folder / METRICS_FILE) == before[folder]:
            fault = f"{METRICS_FILE} is that of an earlier run"
        if fault:
            return [f"the notebook ran to its end, but {fault}"]
    return []


def _written(path: Path) -> tuple[int, int] | None:
    """Which file this is, and when it was written; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
