"""The workers of a Dask cluster as places for notebooks.

They are given tasks that hold the lease of their run folder and leave the truth in files, in a
folder that all machines share. So a worker that dies has its task done again by another one, and
the death of the scheduler or of the client loses nothing: the same command goes on.
"""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cicy_utils.cluster import Cluster, Lost, reason

if TYPE_CHECKING:
    from cicy_utils.batch.attempt import Outcome
    from cicy_utils.batch.execution import Kernels
    from cicy_utils.batch.tasks import Task

STOP_SECONDS = 10  # for workers to write the state of what was stopped
ABSENT_SECONDS = 300  # that all workers may be gone in the middle of a run


@dataclass
class Workers:
    """The workers of a cluster as places for notebooks (see :class:`runner.Places`).

    Attributes:
        cluster: where.
        cell_timeout: seconds that one cell may take; None for any.
        say: is given lines of text.
    """

    cluster: Cluster
    cell_timeout: int | None = None
    say: Callable[[str], None] = print
    batch: str = field(default_factory=lambda: uuid.uuid4().hex)
    word: ClassVar[str] = "given to the workers"
    shared: ClassVar[bool] = True
    _given: list[Future[Outcome]] = field(default_factory=list)
    _absent_since: float | None = None

    def require_folder(self, run_dir: Path) -> None:
        """Make sure that every worker sees the run's folder, and can write into it.

        Raises:
            ValueError: one does not.
        """
        mark = run_dir / f".seen-{self.batch}"
        mark.touch()
        try:
            answers = self.cluster.client.run(
                _look_for, str(mark), workers=list(self.cluster.workers()), on_error="return"
            )
        finally:
            mark.unlink(missing_ok=True)
        for address, answer in answers.items():
            if answer:
                why = reason(answer) if isinstance(answer, Exception) else answer
                raise ValueError(
                    f"the worker {address} cannot use {run_dir} ({why}); all machines need "
                    "this clone in the same folder, shared between them"
                )

    def slots(self) -> int:
        """How many notebooks the workers can run at once; waits for some time if it is none.

        Raises:
            Lost: no worker came back, or the scheduler is gone.
        """
        if slots := self.cluster.slots():
            self._absent_since = None
            return slots
        now = time.monotonic()
        if self._absent_since is None:
            self._absent_since = now
            self.say("All workers are gone; waiting for one.")
        if now - self._absent_since > ABSENT_SECONDS:
            raise Lost("all workers are gone")
        return 0

    def submit(self, task: Task) -> Future[Outcome]:
        neighbours = self.cluster.neighbours()
        key = f"{task.name}-{task.variant}-{uuid.uuid4().hex}"
        future = self.cluster.executor().submit(
            _attempt, self.batch, task, self.cell_timeout, neighbours, key=key
        )
        self._given.append(future)
        return future

    def outcome(self, task: Task, future: Future[Outcome]) -> Outcome:
        """What came of an attempt.

        Raises:
            Lost: the scheduler went away meanwhile.
        """
        from distributed import KilledWorker

        from cicy_utils.batch.attempt import Outcome

        try:
            return future.result()
        except CancelledError:
            raise Lost("the connection to the scheduler was lost") from None
        except KilledWorker:
            return Outcome(task, "failed", ("several workers died while they ran it",))
        except Exception as error:  # of Dask, or of a worker with another version of this package
            return Outcome(task, "failed", (f"{type(error).__name__}: {reason(error)}",))

    def stop(self) -> None:
        """End the kernels of this batch, wherever they are, and let none begin."""
        if self.cluster.client.status == "running":
            self.cluster.client.run(_stop, self.batch, on_error="ignore")
            wait(self._given, STOP_SECONDS)


_kernels: dict[str, Kernels] = {}  # of a worker's process, by batch
_lock = threading.Lock()


def _kernels_of(batch: str) -> Kernels:
    from cicy_utils.batch.execution import Kernels

    with _lock:
        return _kernels.setdefault(batch, Kernels())


def _attempt(
    batch: str, task: Task, cell_timeout: int | None, neighbours: Mapping[str, int]
) -> Outcome:
    """What a worker does."""
    from distributed import get_worker

    from cicy_utils.batch.attempt import attempt
    from cicy_utils.batch.runner import threads

    # Dask lets its workers use one core for numerical work, which is meant for functions, not for
    # kernels.
    share = threads(neighbours.get(get_worker().address, 1))
    return attempt(
        task,
        kernels=_kernels_of(batch),
        environment={"OMP_NUM_THREADS": share, "MKL_NUM_THREADS": share},
        cell_timeout=cell_timeout,
    )


def _stop(batch: str) -> None:
    _kernels_of(batch).stop()


def _look_for(mark: str) -> str:
    """What keeps a worker from using a folder in which there is this file; "" if nothing does."""
    path = Path(mark)
    if not path.exists():
        return "it does not see it"
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return ""
    except OSError as error:
        return error.strerror
