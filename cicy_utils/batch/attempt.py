"""One attempt to run a task: its folder held, its state written, its outcome told from files.

It runs where the kernel runs: in the process that was started by hand, or in a worker on another
machine. Either may die at any moment, so whoever asked for it believes the folder.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cicy_utils import lease
from cicy_utils.batch.execution import Kernels, execute, own_event_loop
from cicy_utils.batch.status import LEASE, Status, cut_short, fault_of_results
from cicy_utils.batch.tasks import Task
from cicy_utils.records import METRICS_FILE, found_metrics

HEARTBEAT_SECONDS = 20
ORPHAN_SECONDS = 30  # in which a kernel whose runner was killed notices that and ends
OUT_OF_TIME = "OutOfTime: "  # a training whose time limit came before there was anything to use
HELD = "held"


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    state: "done", "skipped" (was done before), "partial", "failed" or "blocked"; of an attempt
    also "held", if another process was at work on the folder. seconds: that it ran.
    """

    task: Task
    state: str
    error: tuple[str, ...] = ()
    seconds: float = 0.0


def attempt(
    task: Task,
    *,
    kernels: Kernels,
    environment: Mapping[str, str] | None = None,
    cell_timeout: int | None = None,
) -> Outcome:
    """Run a task, unless another attempt has finished it; whatever happens becomes the outcome.

    The arguments are those of :func:`cicy_utils.batch.execution.execute`.
    """
    try:
        with own_event_loop(), lease.hold(task.run_dir, LEASE):
            if is_done(task):  # by an attempt that was taken for lost
                return Outcome(task, "done")
            return _run(task, kernels, environment, cell_timeout)
    except lease.Held as held:
        return Outcome(task, HELD, (str(held),))
    except (OSError, ValueError) as error:  # a full disk, say
        return Outcome(task, "failed", (str(error),))


def is_done(task: Task) -> bool:
    """Whether a folder holds this very task, finished.

    A training that was cut short by its time limit or by hand is not: it can go on. Nor is
    something that has read a file, if there is a newer one now.
    """
    status = Status.read(task.run_dir)
    if status is None or status.state != "done":
        return False
    if (status.settings, status.source) != (task.identity, task.source_hash):
        return False
    for folder, settings in task.expected.items():
        if fault_of_results(folder, task.fingerprint, settings) or cut_short(folder):
            return False
        metrics = found_metrics(folder)
        if metrics.get("scan", {}).get("trials", 0) < task.settings.get("TRIALS", 0):
            return False
    return not outdated(task, task.run_dir)


def outdated(task: Task, folder: Path) -> bool:
    """Whether something that a task reads is newer than what it left in a folder.

    That is its results, or where there are none the last attempt to make them.
    """
    results, status = folder / METRICS_FILE, Status.read(task.run_dir)
    if results.is_file():
        made = results.stat().st_mtime
    elif status is None or (made := status.started) is None:
        return False
    return any(path.stat().st_mtime > made for path in _read(task) if path.is_file())


def _read(task: Task) -> Iterator[Path]:
    """Where a task reads what others made: results, another copy of the list, a checkpoint."""
    notebooks = task.source.parent  # where its kernel runs
    project = notebooks.parent
    results = project / (task.settings.get("RESULTS") or task.run_dir.parents[1])
    for pattern in task.reads:
        yield from results.glob(f"{pattern}/{METRICS_FILE}")
    if source := task.settings.get("SOURCE"):
        yield from (notebooks / source, project / source)
    if checkpoint := task.settings.get("CHECKPOINT"):
        yield project / checkpoint / METRICS_FILE


def new_status(task: Task, state: str) -> Status:
    """The status of a task, without any times."""
    return Status(
        notebook=task.name,
        variant=task.variant,
        state=state,
        settings=task.identity,
        fingerprint=task.fingerprint,
        source=task.source_hash,
        seeds=task.settings.get("SEEDS", []),
    )


def _run(
    task: Task, kernels: Kernels, environment: Mapping[str, str] | None, cell_timeout: int | None
) -> Outcome:
    for folder in task.folders:
        lease.require_free(folder, wait=ORPHAN_SECONDS)
    status = new_status(task, "running")
    status.started = status.heartbeat = time.time()
    status.write(task.run_dir)
    with _heartbeat(status, task):
        try:
            error = execute(
                task, kernels=kernels, environment=environment, cell_timeout=cell_timeout
            )
        except OSError as failure:
            error = (str(failure),)
    status.finished = time.time()
    status.state, status.error = _verdict(task, error, kernels)
    try:
        status.write(task.run_dir)
    except OSError as failure:  # then the file says "running", and nobody holds the lease
        status.state = "failed"
        status.error = [*status.error, f"its state could not be written: {failure}"]
    return Outcome(task, status.state, tuple(status.error), status.seconds)


def _verdict(task: Task, error: Sequence[str], kernels: Kernels) -> tuple[str, list[str]]:
    if kernels.stopped:
        return "partial", ["interrupted; run again to go on"]
    if error and error[-1].startswith(OUT_OF_TIME):
        why = error[-1].removeprefix(OUT_OF_TIME).split(";")[0]
        return "partial", [f"{why}; run again to go on"]
    if error:
        return "failed", list(error)
    stopped = [why for folder in task.folders if (why := cut_short(folder))]
    return ("partial", [f"{stopped[0]}; run again to go on"]) if stopped else ("done", [])


@contextmanager
def _heartbeat(status: Status, task: Task) -> Iterator[None]:
    """Renew the heartbeat in status.json every few seconds."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            status.heartbeat = time.time()
            with suppress(OSError):  # a disk that is full now may have room later
                status.write(task.run_dir)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
