"""One attempt to run a task: its folder held, its state written, its outcome told from files.

It runs where the kernel runs: in the process that was started by hand, or in a worker on another
machine. Either may die at any moment, so whoever asked for it believes the folder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cicy_utils import lease
from cicy_utils.batch import folders
from cicy_utils.batch.execution import OUT_OF_TIME, Kernels, execute, own_event_loop
from cicy_utils.batch.status import Status, cut_short
from cicy_utils.batch.tasks import Task

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

    A folder made with other settings is moved to results/replaced/ first.

    The arguments are those of :func:`cicy_utils.batch.execution.execute`.
    """
    try:
        with own_event_loop(), folders.held(task) as own:
            if folders.is_done(task):  # by an attempt that was taken for lost, or by another batch
                return Outcome(task, "done")
            folders.prepare(task)
            return _run(task, own, kernels, environment, cell_timeout)
    except lease.Held as held:
        return Outcome(task, HELD, (str(held),))
    except (OSError, ValueError) as error:  # a full disk, say
        return Outcome(task, "failed", (str(error),))


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
    task: Task,
    own: lease.Lease,
    kernels: Kernels,
    environment: Mapping[str, str] | None,
    cell_timeout: int | None,
) -> Outcome:
    for folder in task.folders:
        lease.require_free(folder, wait=folders.ORPHAN_SECONDS)
    status = new_status(task, "running")
    status.started = time.time()
    status.write(task.run_dir)
    folders.begin(task)
    try:
        error = execute(task, kernels=kernels, environment=environment, cell_timeout=cell_timeout)
    except OSError as failure:
        error = (str(failure),)
    own.require()
    status.finished = time.time()
    status.state, status.error = _verdict(task, error, kernels)
    try:
        status.write(task.run_dir)
    except OSError as failure:  # then the file says "running", and nobody holds the lease
        status.state = "failed"
        status.error = [*status.error, f"its state could not be written: {failure}"]
    return Outcome(task, status.state, tuple(status.error), status.finished - status.started)


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
