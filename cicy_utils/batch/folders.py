"""Run folders: whether a task is done in its own, whose what is there is, and what moves away."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cicy_utils import files, lease
from cicy_utils.batch.profiles import RESULTS
from cicy_utils.batch.status import LEASE, Status, cut_short, fault_of_results
from cicy_utils.batch.tasks import Task, named
from cicy_utils.records import METRICS_FILE, found_metrics

REPLACED = "replaced"  # results/replaced/ takes the folders of runs made again otherwise
# Names the task that fills a folder, and what it began with. Its time stamp is the moment from
# which on it was filled: one of the file system, as are those of the files that are read.
BEGUN_FILE = ".begun"
ORPHAN_SECONDS = 30  # in which a kernel whose runner was killed notices that and ends


@contextmanager
def held(task: Task) -> Iterator[lease.Lease]:
    """Hold all folders of a task, and nobody else runs it; yields the lease of its run folder.

    Raises:
        Held: another process is at work on one of them.
        OSError: one cannot be written.
    """
    with ExitStack() as stack:
        leases = [stack.enter_context(lease.hold(folder, LEASE)) for folder in task.folders]
        yield leases[0]


def in_use(task: Task) -> str:
    """Who is at work on one of the folders of a task, in words; "" if nobody is."""
    kinds = [(folder, name) for folder in task.folders for name in (LEASE, "training")]
    for folder, name in kinds:
        try:
            lease.require_free(folder, name)
        except lease.Held as other:
            return str(other)
    return ""


def is_done(task: Task) -> bool:
    """Whether a folder holds this very task, finished.

    A training that was cut short by its time limit or by hand is not: it can go on. Nor is
    something that has read a file, if there is another one now, or a newer one.
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
    before = {_begun(folder)[1] for folder in task.folders} - {""}
    return not _outdated(task, task.run_dir) and before <= {_beginning(task)}


def prepare(task: Task) -> Path | None:
    """Make the folders of a task ready: what it left there itself goes on, all else moves away.

    Whoever calls this holds them. Returns the folder to which something has moved, None if nothing
    has.

    Raises:
        Held: a training of another process is at work in one of them.
        OSError: one cannot be written.
    """
    others = foreign(task)
    for folder in others:
        lease.require_free(folder, wait=ORPHAN_SECONDS)
    place = _new_place(task) if others else None
    for folder in others:
        (place / folder.name).mkdir(parents=True)
        # What tells whose the rest is goes last: killed before that, the next call moves the rest.
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name == BEGUN_FILE):
            if entry != lease.lease_file(folder, LEASE):
                shutil.move(entry, place / folder.name / entry.name)
    return place


def foreign(task: Task) -> list[Path]:
    """Those folders of a task from which ``prepare`` would move away what is there."""
    beginning = _beginning(task) if any(map(_state_in, task.folders)) else ""
    return [folder for folder in task.folders if not _is_own(folder, task, beginning)]


def begin(task: Task) -> None:
    """Note in its folders that a task fills them, and from when on; one that goes on began before.

    OSError where one cannot be written.
    """
    noted = f"{task.fingerprint}\n{_beginning(task)}"
    for folder in task.folders:
        if not (_state_in(folder) and _begun_by(folder) == task.fingerprint):
            files.write_text(folder / BEGUN_FILE, noted)


def _new_place(task: Task) -> Path:
    """A folder in results/replaced/ for what moves away, in which nothing of the task is yet."""
    run_dir = task.run_dir.parents[1]
    name = f"{run_dir.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    place, numbers = run_dir.parent / REPLACED / name / task.name, itertools.count(2)
    while any((place / folder.name).exists() for folder in task.folders):
        place = place.parents[1] / f"{name}-{next(numbers)}" / task.name
    return place


def _is_own(folder: Path, task: Task, beginning: str) -> bool:
    """Whether a task goes on from whatever is in one of its folders, or nothing is.

    beginning: what ``_beginning`` says of the task.
    """
    state, results = _state_in(folder), (folder / METRICS_FILE).exists()
    # A training goes on from what it was begun with, or not at all. Weights that were only judged
    # once more are the same: where they are noted, no time stamp is asked.
    before = _begun(folder)[1]
    if state and (before != beginning if before else _outdated(task, folder)):
        return False
    if begun := _begun_by(folder):
        # A model without a state would be trained anew over the one that is there.
        return begun == task.fingerprint and (state or not (results and task.model))
    if results:  # made by hand, or it comes with the project
        return state and not fault_of_results(folder, task.fingerprint, {})
    return not state


def _begun_by(folder: Path) -> str:
    """The fingerprint of the task that fills a folder; "" if none was noted."""
    return _begun(folder)[0]


def _begun(folder: Path) -> tuple[str, str]:
    """What ``begin`` noted in a folder: a fingerprint, and what ``_beginning`` said then."""
    try:
        text = (folder / BEGUN_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return "", ""
    fingerprint, _, beginning = text.partition("\n")
    return fingerprint, beginning


def _beginning(task: Task) -> str:
    """A digest of what a task reads when it begins: its list, and weights to go on from.

    Of weights that could be chosen from, all count. Of a task that trains nothing only the files
    that its parameters name, "" where there are none: results of others may move away meanwhile.
    """
    from cicy_utils.checkpoint import find_weights  # slow to import

    found = []
    for path in _read(task) if task.model else _given(task):
        if path.name == METRICS_FILE:  # which is written anew when the same weights are judged
            path = find_weights(path.parent) or path
        found.append(files.checksum(path))
    if not (found or task.model):
        return ""
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest()


def _state_in(folder: Path) -> bool:
    """Whether there is something that a training, or a scan, goes on from."""
    from cicy_utils.checkpoint import STATE_FILE  # both are slow to import: they bring torch
    from cicy_utils.scan import STUDY_FILE

    return any((folder / name).exists() for name in (STATE_FILE, STUDY_FILE))


def _outdated(task: Task, folder: Path) -> bool:
    """Whether something that a task reads is newer than what it left in a folder.

    That is its results, or where there are none whatever it has begun there.
    """
    for name in (METRICS_FILE, BEGUN_FILE):
        if (folder / name).is_file():
            made = (folder / name).stat().st_mtime
            return any(path.stat().st_mtime > made for path in _read(task))
    return False


def _read(task: Task) -> Iterator[Path]:
    """The files that a task reads and others made: results, another copy of the list, weights."""
    notebooks = task.source.parent  # where its kernel runs
    project = notebooks.parent
    results = task.run_dir.parents[1]
    if other := task.settings.get("RESULTS"):
        results = next(filter(Path.is_dir, named(other, notebooks)), project / other)
    for pattern in task.reads:
        yield from results.glob(f"{pattern}/{METRICS_FILE}")
    for pattern in task.files:
        if pattern.startswith(f"{RESULTS}/"):
            yield from results.glob(pattern.removeprefix(f"{RESULTS}/"))
        else:
            yield from project.glob(pattern)
    yield from _given(task)


def _given(task: Task) -> Iterator[Path]:
    """The files that its parameters name: another copy of the list, and weights to go on from."""
    notebooks = task.source.parent
    paths: list[Path] = []
    if source := task.settings.get("SOURCE"):
        paths += named(source, notebooks)
    if checkpoint := task.settings.get("CHECKPOINT"):
        paths += [folder / METRICS_FILE for folder in named(checkpoint, notebooks)]
    for path in paths:
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from filter(Path.is_file, path.iterdir())
