"""Runs notebooks, here or by the workers of a cluster, and leaves for each a folder that tells.

The truth about a notebook is in its files (see :mod:`cicy_utils.batch.status`), so that whatever
dies, this process too, running again goes on from what is really there.
"""

from __future__ import annotations

import os
import queue
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cicy_utils import lease
from cicy_utils.batch import folders
from cicy_utils.batch.attempt import HELD, Outcome, attempt, new_status
from cicy_utils.batch.execution import Kernels
from cicy_utils.batch.profiles import pattern
from cicy_utils.batch.status import LEASE, Status, fault_of_results, last_epoch
from cicy_utils.batch.tasks import Task
from cicy_utils.durations import duration
from cicy_utils.places import cores

PROGRESS_SECONDS = 20
LOOK_SECONDS = 1.0  # between two looks at workers and at folders that others have in use
DONE = ("done", "skipped")


class Places(Protocol):
    """Where attempts are made: in this process, or by the workers of a cluster.

    Attributes:
        word: what is said of a task that was given to one of them.
        shared: whether others may be at work on the same folders when a batch begins.
    """

    word: str
    shared: bool

    def slots(self) -> int:
        """How many attempts can be made at once, as things are."""

    def submit(self, task: Task) -> Future[Outcome]:
        """Begin an attempt as soon as there is room."""

    def outcome(self, task: Task, future: Future[Outcome]) -> Outcome:
        """What came of one that is over."""

    def stop(self) -> None:
        """End every attempt, with its kernel."""


class Local(AbstractContextManager):
    """Kernels of this process; to be used as a context manager.

    Several share the processor's cores, and each gets a GPU of its own where there are as many.
    """

    word = "started"
    shared = False

    def __init__(self, jobs: int = 1, cell_timeout: int | None = None):
        """jobs: kernels at once; cell_timeout: seconds that one cell may take, None for any."""
        self._jobs, self._cell_timeout = jobs, cell_timeout
        self._kernels = Kernels()
        self._threads = ThreadPoolExecutor(jobs)
        self._environments: queue.SimpleQueue = queue.SimpleQueue()
        for environment in environments(jobs):
            self._environments.put(environment)

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def slots(self) -> int:
        return self._jobs

    def submit(self, task: Task) -> Future[Outcome]:
        return self._threads.submit(self._attempt, task)

    def outcome(self, task: Task, future: Future[Outcome]) -> Outcome:
        return future.result()

    def stop(self) -> None:
        self._kernels.stop()

    def _attempt(self, task: Task) -> Outcome:
        environment = self._environments.get()
        try:
            return attempt(
                task,
                kernels=self._kernels,
                environment=environment,
                cell_timeout=self._cell_timeout,
            )
        finally:
            self._environments.put(environment)


def run(
    tasks: Sequence[Task],
    places: Places,
    *,
    say: Callable[[str], None] = print,
    progress_seconds: float = PROGRESS_SECONDS,
) -> list[Outcome]:
    """Run tasks, each after those whose results it reads; a failed one stops only what needs it.

    What is done with the same settings and the same source is skipped. A folder made with other
    settings is moved to results/replaced/ when its task begins, so that nothing is lost, and a run
    that is stopped leaves what it has not come to as it was. A folder that another process has
    taken in the meantime is waited for.

    Args:
        tasks: in an order in which they can be run.
        places: where.
        say: is given lines of text.
        progress_seconds: between two lines about the notebooks that run.

    Raises:
        KeyboardInterrupt: after what runs has been stopped and its state written.
        ValueError: another process is at work on one of the folders when the batch begins, and
            places are not shared.
    """
    for folder in () if places.shared else [folder for task in tasks for folder in task.folders]:
        try:
            lease.require_free(folder, LEASE)
        except lease.Held as held:
            raise ValueError(f"{held}; wait for it, or choose another name with --run") from None
    return Batch(tasks, places, say, progress_seconds).run()


@dataclass
class Batch:
    """Tasks on their way; the arguments are those of ``run``."""

    tasks: Sequence[Task]
    places: Places
    say: Callable[[str], None]
    progress_seconds: float
    outcomes: dict[Path, Outcome] = field(default_factory=dict)
    waiting: list[Task] = field(default_factory=list)
    broken: dict[Path, str] = field(default_factory=dict)  # folders of no use, and why
    running: dict[Future[Outcome], Task] = field(default_factory=dict)
    awaited: set[Path] = field(default_factory=set)  # folders in use of which was told
    begun: dict[Path, float] = field(default_factory=dict)

    def run(self) -> list[Outcome]:
        """Run them all."""
        self._prepare()
        line = time.monotonic() + self.progress_seconds
        try:
            while self.waiting or self.running:
                self._begin()
                self._gather(max(0.0, min(LOOK_SECONDS, line - time.monotonic())))
                if time.monotonic() >= line:
                    self._tell()
                    line = time.monotonic() + self.progress_seconds
        except BaseException:
            with suppress(Exception):  # what is told is why
                self.places.stop()
            raise
        return [self.outcomes[task.run_dir] for task in self.tasks]

    def _prepare(self) -> None:
        """Settle what is done, and what cannot be; what is in the way of a task stays for now."""
        self.waiting = due(self.tasks)
        for task in self.tasks:
            if task not in self.waiting:
                self.say(f"{self._head(task)}: done before with the same settings")
                self.outcomes[task.run_dir] = Outcome(task, "skipped")
                continue
            try:
                with folders.held(task):
                    # What was done, with another seed say, is so until its turn comes.
                    status = Status.read(task.run_dir)
                    if not (status and status.state == "done") and not folders.foreign(task):
                        new_status(task, "pending").write(task.run_dir)
            except (OSError, lease.Held) as error:
                self._note(task, error)

    def _make_room(self, task: Task) -> bool:
        """Move away what is in the way of a task that is to begin; whether it can.

        An attempt does so once more: whoever else works on its folders where they are shared, may
        have changed them.
        """
        try:
            with folders.held(task):
                if not folders.is_done(task) and (place := folders.prepare(task)):
                    self.say(f"{self._head(task)}: what was there moved to {place}")
                    new_status(task, "pending").write(task.run_dir)
        except (OSError, lease.Held) as error:
            self._note(task, error)
            return False
        return True

    def _note(self, task: Task, error: OSError | lease.Held) -> None:
        """Remember why a task cannot be run, unless one waits for whoever has its folders."""
        if not isinstance(error, lease.Held):
            self.broken[task.run_dir] = str(error)

    def _begin(self) -> None:
        """Give away what can be run now, and settle what cannot be run."""
        room = self.places.slots() - len(self.running)
        for task in list(self.waiting):
            unfinished = (*self.waiting, *self.running.values())
            if any(other.is_one_of(task.reads) for other in unfinished):
                continue
            if outcome := self._without_running(task):
                self.waiting.remove(task)
                self.outcomes[task.run_dir] = outcome
            elif room > 0 and self._is_free(task) and self._make_room(task):
                self.waiting.remove(task)
                self.say(f"{self._head(task)}: {self.places.word}")
                self.begun[task.run_dir] = time.monotonic()
                self.running[self.places.submit(task)] = task
                room -= 1

    def _gather(self, seconds: float) -> None:
        """Wait that long for attempts to end, and take what came of them."""
        if not self.running:
            time.sleep(seconds if self.waiting else 0)
            return
        for future in wait(self.running, seconds, FIRST_COMPLETED).done:
            task = self.running.pop(future)
            outcome = self.places.outcome(task, future)
            if outcome.state == HELD:  # by another batch, or by an attempt that was taken for lost
                self.waiting.insert(0, task)
                continue
            self.outcomes[task.run_dir] = outcome
            after = f" after {duration(outcome.seconds)}" if outcome.seconds else ""
            self.say(f"{self._head(task)}: {outcome.state}{after}")
            for text in outcome.error:
                self.say(f"    {text}")

    def _tell(self) -> None:
        """A line about every notebook that runs."""
        for task in self.running.values():
            status = Status.read(task.run_dir)
            if status is None or status.state != "running":
                continue
            where = "" if status.host == socket.gethostname() else f" on {status.host}"
            running = duration(time.monotonic() - self.begun[task.run_dir])
            parts = (f"running{where} for {running}", last_epoch(task.folders))
            self.say(f"{self._head(task)}: {', '.join(part for part in parts if part)}")

    def _head(self, task: Task) -> str:
        return f"[{self.tasks.index(task) + 1:2}/{len(self.tasks)}] {task.title}"

    def _is_free(self, task: Task) -> bool:
        """Whether nobody else is at work on a task; else it waits."""
        if not (why := folders.in_use(task)):
            return True
        if task.run_dir not in self.awaited:
            self.awaited.add(task.run_dir)
            self.say(f"{self._head(task)}: waits, {why}")
        return False

    def _without_running(self, task: Task) -> Outcome | None:
        """How a task ends that cannot be run; None for one that can."""
        head = self._head(task)
        if missing := [need for need in task.needs if not self._have(need, task)]:
            why = f"it needs a finished {' and '.join(missing)} in {task.run_dir.parents[1].name}"
            ended = [o for need in missing for o in self._outcomes_of(need)]
            if ended:
                why += "; " + ", ".join(f"{o.task.title}: {o.state}" for o in ended)
            else:
                why += ": add it to --only, or name a folder with -p CHECKPOINT"
            self.say(f"{head}: not run, {why}")
            self._record(task, why)
            return Outcome(task, "blocked", (why,))
        if why := self.broken.get(task.run_dir):
            self.say(f"{head}: failed, {why}")
            return Outcome(task, "failed", (why,))
        return None

    def _record(self, task: Task, why: str) -> None:
        """Write into the status of a task that is not run what it waits for."""
        with suppress(OSError, lease.Held), folders.held(task):  # else it was told only
            if not folders.foreign(task):
                waiting = new_status(task, "pending")
                waiting.error = [why]
                waiting.write(task.run_dir)

    def _outcomes_of(self, need: str) -> list[Outcome]:
        """How a needed notebook, or its variants, ended in this call."""
        return [o for o in self.outcomes.values() if o.task.is_one_of([pattern(need)])]

    def _have(self, need: str, task: Task) -> bool:
        """Whether a needed notebook, or variant, is done, in this call or before it."""
        if ended := self._outcomes_of(need):
            return all(outcome.state in DONE for outcome in ended)
        found = ((path, Status.read(path)) for path in task.run_dir.parents[1].glob(pattern(need)))
        return any(
            status and status.state == "done" and not fault_of_results(path, status.fingerprint, {})
            for path, status in found
        )


def due(tasks: Sequence[Task]) -> list[Task]:
    """Those that are not done, or that read what is to run now."""
    found: list[Task] = []
    for task in tasks:
        if not folders.is_done(task) or any(other.is_one_of(task.reads) for other in found):
            found.append(task)
    return found


def environments(jobs: int) -> list[dict[str, str]]:
    """Variables for the kernels that run at once: which GPU, and how many cores, each may use."""
    if jobs == 1:
        return [{}]
    shares = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads(jobs))}
    devices = gpus()
    if not devices:
        return [shares] * jobs
    return [shares | {"CUDA_VISIBLE_DEVICES": devices[job % len(devices)]} for job in range(jobs)]


def threads(jobs: int) -> str:
    """How many threads each of the kernels has that share the cores of this process."""
    return str(max(1, cores() // jobs))


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch  # slow to import, needed only where several notebooks run at once

    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]
