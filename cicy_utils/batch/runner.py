"""Runs notebooks, one after the other or several at once, and leaves for each a folder that tells.

The truth about a notebook is in its files (see :mod:`cicy_utils.batch.status`), so that whatever
dies, this process too, running again goes on from what is really there.
"""

from __future__ import annotations

import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cicy_utils import lease
from cicy_utils.batch.execution import Kernels, execute, own_event_loop
from cicy_utils.batch.status import (
    LEASE,
    Status,
    cut_short,
    fault_of_results,
    last_epoch,
    read_metrics,
)
from cicy_utils.batch.tasks import Task
from cicy_utils.records import METRICS_FILE, duration

REPLACED = "replaced"  # results/replaced/ takes the folders of runs made again otherwise
PROGRESS_SECONDS = 20
ORPHAN_SECONDS = 30  # in which a kernel whose runner was killed notices that and ends
DONE = ("done", "skipped")
OUT_OF_TIME = "OutOfTime: "  # a training whose time limit came before there was anything to use


@dataclass(frozen=True)
class Outcome:
    """How a task ended: "done", "skipped" (was done before), "partial", "failed" or "blocked"."""

    task: Task
    state: str
    error: tuple[str, ...] = ()


def run(
    tasks: Sequence[Task],
    *,
    jobs: int = 1,
    cell_timeout: int | None = None,
    say: Callable[[str], None] = print,
    progress_seconds: float = PROGRESS_SECONDS,
) -> list[Outcome]:
    """Run tasks, each after those whose results it reads; a failed one stops only what needs it.

    What is done with the same settings and the same source is skipped. A folder made with other
    settings is moved to results/replaced/, so that nothing is lost.

    Args:
        tasks: in an order in which they can be run.
        jobs: how many may run at once. Several share the processor's cores, and each gets a GPU
            of its own where there are as many.
        cell_timeout: seconds that one cell may take; None for any.
        say: is given lines of text.
        progress_seconds: between two lines about a notebook that runs.

    Raises:
        KeyboardInterrupt: after what runs has been stopped and its state written.
        ValueError: another process is at work on one of the folders.
    """
    for task in tasks:
        try:
            lease.require_free(task.run_dir, LEASE)
        except lease.Held as held:
            raise ValueError(f"{held}; wait for it, or choose another name with --run") from None
    return Batch(tasks, jobs, cell_timeout, say, progress_seconds).run()


def is_done(task: Task) -> bool:
    """Whether a folder holds this very task, finished.

    A training that was cut short by its time limit or by hand is not: it can go on. Nor is
    something that read the results of other notebooks, if there are newer ones.
    """
    status = Status.read(task.run_dir)
    if status is None or status.state != "done":
        return False
    if (status.settings, status.source) != (task.identity, task.source_hash):
        return False
    for folder, seed in task.seeds.items():
        settings = task.settings if seed is None else task.settings | {"SEED": seed}
        if fault_of_results(folder, task.fingerprint, settings) or cut_short(folder):
            return False
        metrics = read_metrics(folder) or {}
        if metrics.get("scan", {}).get("trials", 0) < task.settings.get("TRIALS", 0):
            return False
    written = (task.run_dir / METRICS_FILE).stat().st_mtime
    read = (
        p for name in task.reads for p in task.run_dir.parents[1].glob(f"{name}/*/{METRICS_FILE}")
    )
    return all(path.stat().st_mtime <= written for path in read)


@dataclass
class Batch:
    """Tasks on their way; the arguments are those of ``run``."""

    tasks: Sequence[Task]
    jobs: int
    cell_timeout: int | None
    say: Callable[[str], None]
    progress_seconds: float
    kernels: Kernels = field(default_factory=Kernels)
    outcomes: dict[Path, Outcome] = field(default_factory=dict)

    def run(self) -> list[Outcome]:
        """Run them all, in threads that wait for kernels."""
        skipped, broken = self._prepare()
        waiting = dict(enumerate(self.tasks, start=1))
        places: queue.SimpleQueue = queue.SimpleQueue()
        for environment in environments(self.jobs):
            places.put(environment)
        running: dict[Future, Task] = {}
        with ThreadPoolExecutor(self.jobs) as threads:
            try:
                while waiting or running:
                    for number, task in list(waiting.items()):
                        unfinished = {t.name for t in (*waiting.values(), *running.values())}
                        if len(running) == self.jobs or not unfinished.isdisjoint(task.reads):
                            continue
                        del waiting[number]
                        head = f"[{number:2}/{len(self.tasks)}] {task.title}"
                        if outcome := self._without_running(task, head, skipped, broken):
                            self.outcomes[task.run_dir] = outcome
                        else:
                            running[threads.submit(self._attempt, task, head, places)] = task
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        self.outcomes[running.pop(future).run_dir] = future.result()
            except BaseException:
                self.kernels.stop()
                raise
        return [self.outcomes[task.run_dir] for task in self.tasks]

    def _prepare(self) -> tuple[set[Path], dict[Path, str]]:
        """Find what is done, and make the folders of everything else ready.

        Returns the folders of what is done, and those that cannot be used, with the reason.
        """
        redone: set[str] = set()  # notebooks that run now, so that what reads them runs again
        skipped, broken = set(), {}
        for task in self.tasks:
            if is_done(task) and redone.isdisjoint(task.reads):
                skipped.add(task.run_dir)
                continue
            redone.add(task.name)
            try:
                prepare(task)
            except (OSError, lease.Held) as error:
                broken[task.run_dir] = str(error)
        return skipped, broken

    def _without_running(
        self, task: Task, head: str, skipped: Collection[Path], broken: Mapping[Path, str]
    ) -> Outcome | None:
        """How a task ends that is not to be run; None for one that is."""
        if task.run_dir in skipped:
            self.say(f"{head}: done before with the same settings")
            return Outcome(task, "skipped")
        if missing := [need for need in task.needs if not self._have(need, task)]:
            self.say(f"{head}: not run, it needs {', '.join(missing)}")
            return Outcome(task, "blocked", (f"it needs {', '.join(missing)}",))
        if task.run_dir in broken:
            self.say(f"{head}: failed, {broken[task.run_dir]}")
            return Outcome(task, "failed", (broken[task.run_dir],))
        return None

    def _attempt(self, task: Task, head: str, places: queue.SimpleQueue) -> Outcome:
        """Run a task in one of the places for kernels; whatever happens becomes its outcome."""
        environment = places.get()
        try:
            with own_event_loop(), lease.hold(task.run_dir, LEASE):
                return self._run_one(task, head, environment)
        except (OSError, ValueError) as error:  # a full disk, or another process at work on it
            if not self.kernels.stopped:
                self.say(f"{head}: failed, {error}")
            return Outcome(task, "failed", (str(error),))
        finally:
            places.put(environment)

    def _run_one(self, task: Task, head: str, environment: Mapping[str, str]) -> Outcome:
        for folder in task.folders:
            lease.require_free(folder, wait=ORPHAN_SECONDS)
        self.say(f"{head}: started")
        status = new_status(task, "running")
        status.started = status.heartbeat = time.time()
        status.write(task.run_dir)
        with ticking(status, task, self.progress_seconds, lambda text: self.say(f"{head}: {text}")):
            try:
                error = execute(
                    task,
                    environment=environment,
                    cell_timeout=self.cell_timeout,
                    kernels=self.kernels,
                )
            except OSError as failure:
                error = (str(failure),)
        status.finished = time.time()
        status.state, status.error = self._verdict(task, error)
        try:
            status.write(task.run_dir)
        except OSError as failure:  # then the file says "running", and nobody holds the lease
            status.state = "failed"
            status.error = [*status.error, f"its state could not be written: {failure}"]
        self.say(f"{head}: {status.state} after {duration(status.seconds)}")
        for line in status.error:
            self.say(f"    {line}")
        return Outcome(task, status.state, tuple(status.error))

    def _verdict(self, task: Task, error: Sequence[str]) -> tuple[str, list[str]]:
        if self.kernels.stopped:
            return "partial", ["interrupted; run again to go on"]
        if error and error[-1].startswith(OUT_OF_TIME):
            why = error[-1].removeprefix(OUT_OF_TIME).split(";")[0]
            return "partial", [f"{why}; run again to go on"]
        if error:
            return "failed", list(error)
        stopped = [why for folder in task.folders if (why := cut_short(folder))]
        return ("partial", [f"{stopped[0]}; run again to go on"]) if stopped else ("done", [])

    def _have(self, need: str, task: Task) -> bool:
        """Whether a needed notebook, or variant, is done, in this call or before it."""
        states = [
            outcome.state
            for outcome in self.outcomes.values()
            if need in (outcome.task.name, f"{outcome.task.name}/{outcome.task.variant}")
        ]
        if states:
            return all(state in DONE for state in states)
        folders = task.run_dir.parents[1].glob(need if "/" in need else f"{need}/*")
        found = [(folder, status) for folder in folders if (status := Status.read(folder))]
        return any(
            status.state == "done" and not fault_of_results(folder, status.fingerprint, {})
            for folder, status in found
        )


def prepare(task: Task) -> None:
    """Make a folder ready for a run: its own unfinished one goes on, a different one moves away.

    Raises:
        Held: another process is at work on it.
        OSError: the folder cannot be written.
    """
    with lease.hold(task.run_dir, LEASE):
        status = Status.read(task.run_dir)
        if status and status.settings != task.identity:
            for folder in task.folders:
                lease.require_free(folder, wait=ORPHAN_SECONDS)
            run_dir = task.run_dir.parents[1]
            stamp = time.strftime("%Y%m%d-%H%M%S")
            place = run_dir.parent / REPLACED / f"{run_dir.name}-{stamp}" / task.name
            for folder in task.folders:
                if not folder.exists():
                    continue
                (place / folder.name).mkdir(parents=True, exist_ok=True)
                for entry in folder.iterdir():
                    if entry != lease.lease_file(folder, LEASE):
                        shutil.move(entry, place / folder.name / entry.name)
        new_status(task, "pending").write(task.run_dir)


def new_status(task: Task, state: str) -> Status:
    """The status of a task, without any times."""
    return Status(
        notebook=task.name,
        variant=task.variant,
        state=state,
        settings=task.identity,
        fingerprint=task.fingerprint,
        source=task.source_hash,
    )


@contextmanager
def ticking(
    status: Status, task: Task, seconds: float, say: Callable[[str], None]
) -> Iterator[None]:
    """Renew the heartbeat in status.json and say a line every few seconds."""
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(seconds):
            status.heartbeat = time.time()
            with suppress(OSError):  # a disk that is full now may have room later
                status.write(task.run_dir)
            running = f"running for {duration(status.seconds)}"
            say(", ".join(part for part in (running, last_epoch(task.run_dir)) if part))

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def environments(jobs: int) -> list[dict[str, str]]:
    """Variables for the kernels that run at once: which GPU, and how many cores, each may use."""
    if jobs == 1:
        return [{}]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = str(max(1, (cores or 1) // jobs))
    shares = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    devices = gpus()
    if not devices:
        return [shares] * jobs
    return [shares | {"CUDA_VISIBLE_DEVICES": devices[job % len(devices)]} for job in range(jobs)]


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch  # slow to import, needed only where several notebooks run at once

    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]
