"""Where things lie, how long there is time and how many cores: on Kaggle, or anywhere else.

What is attached to a Kaggle notebook as input lies under /kaggle/input, read-only, in one of two
layouts:

    <name>/                                          the older one
    datasets/<owner>/<name>/, notebooks/<owner>/<name>/

What the notebook writes into /kaggle/working is its output, which can be attached to its next
version, or to other notebooks. A session ends after twelve hours.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from cicy_utils.lease import Process

ROOT_VARIABLE = "CICY_KAGGLE_ROOT"  # instead of /kaggle, for tests
REFERENCE = "reference"  # the run whose numbers come with the project
SESSION_HOURS = 12.0
TRAINING_HOURS = 11.0  # the rest is for what follows a training: predictions and figures
GO_ON = (
    "to go on: save this version, attach its output to this notebook as input (Add Input), and run "
    "it again"
)

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # microseconds of all cores in each so many, or "max"
_imported = time.monotonic()


def kaggle() -> Path | None:
    """The folder with input/ and working/ of a Kaggle notebook, None anywhere else."""
    root = Path(os.environ.get(ROOT_VARIABLE, "/kaggle"))
    return root if (root / "working").is_dir() else None


def allowed_cores() -> frozenset[int]:
    """The numbers of the cores of the machine that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cores() -> int:
    """How many cores this process may use, which can be fewer than the machine has.

    A container may have a share of all cores instead of some of them.
    """
    allowed = len(allowed_cores())
    try:
        quota, period = map(float, CPU_MAX.read_text(encoding="ascii").split())
    except (OSError, ValueError):  # no container, or one without a limit, which says "max"
        return allowed
    return max(1, min(allowed, math.ceil(quota / period)))


def attached(root: Path) -> list[Path]:
    """The data sets and outputs of notebooks that are attached as input, in either layout."""
    found = [path for path in root.glob("input/*") if path.name not in ("datasets", "notebooks")]
    return sorted([*found, *root.glob("input/datasets/*/*"), *root.glob("input/notebooks/*/*")])


def find_attached(name: str) -> Path | None:
    """The file of this name in an attached data set; None if there is none, or no Kaggle."""
    root = kaggle()
    paths = [folder / name for folder in attached(root)] if root else []
    return next((path for path in paths if path.is_file()), None)


def training_hours(max_hours: float | None) -> float | None:
    """How many hours a training may take that begins now; None for as many as it needs.

    max_hours: what was asked for. If that is None, what is left of ``TRAINING_HOURS`` since this
    process began, on Kaggle; all trainings of a notebook share them.
    """
    if max_hours is not None or kaggle() is None:
        return max_hours
    return max(0.0, TRAINING_HOURS - _process_hours())


def how_to_go_on() -> str:
    """What to do on Kaggle when the time was up, in a line; "" anywhere else."""
    return GO_ON if kaggle() else ""


def bring_runs(results: Path, notebook: str) -> None:
    """Put the runs that are attached as input where the notebooks look for them.

    A run that ``results`` has already is left alone. Of several attached ones the newest is taken.
    The notebook's own are copied, since it goes on from them, and its output holds them again, so
    that the last version has all folds and seeds; those of other notebooks are only read, and are
    linked. Published weights come to the folder "reference" beside ``results``.

    Args:
        results: results/<run>; nothing happens but on Kaggle.
        notebook: the one that runs, "11_lstm_448".
    """
    root = kaggle()
    copied, linked = [], []
    for place, folders in sorted(_attached_runs(root, results).items() if root else ()):
        if place.is_symlink() or (place.is_dir() and any(place.iterdir())):
            continue
        newest = max(folders, key=_last_written)
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            place.rmdir()
        if place.parent == results / notebook:
            _copy(newest, place)
            copied.append(f"{place.name} ({newest})")
        else:
            place.symlink_to(newest, target_is_directory=True)
            linked.append("/".join(place.parts[-2:]))
    if copied:
        print(f"going on from attached results: {', '.join(copied)}", flush=True)
    if linked:
        print(f"attached results of other notebooks: {', '.join(linked)}", flush=True)


def _attached_runs(root: Path, results: Path) -> dict[Path, list[Path]]:
    """Every attached results/<run>/<notebook>/<variant>, by the place that it belongs to."""
    found: dict[Path, list[Path]] = {}
    for folder in attached(root):
        for path in folder.glob("results/*/*/*"):
            if path.is_dir() and any(_files(path)):
                run, notebook, variant = path.parts[-3:]
                base = results.with_name(REFERENCE) if run == REFERENCE else results
                found.setdefault(base / notebook / variant, []).append(path)
    return found


def _files(folder: Path) -> Iterator[Path]:
    """The files of a run, less leases, drafts and what was half written: all are hidden."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts):
            yield path


def _last_written(folder: Path) -> float:
    return max(path.stat().st_mtime for path in _files(folder))


def _copy(source: Path, target: Path) -> None:
    """Copy a run in one step; input is read-only, and the copy must not be."""
    half = target.with_name(f".{target.name}.part")
    shutil.rmtree(half, ignore_errors=True)
    for path in _files(source):
        copy = half / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    os.replace(half, target)


def _process_hours() -> float:
    """How long this process has run, where the system tells, else how long this module has."""
    seconds = time.monotonic() - _imported
    if began := Process.this().began:  # in ticks, on a clock that started with the machine
        told = time.clock_gettime(time.CLOCK_BOOTTIME) - int(began) / os.sysconf("SC_CLK_TCK")
        # A sandbox may keep another clock: nothing runs for longer than a session lasts.
        if seconds <= told < SESSION_HOURS * 3600:
            seconds = told
    return seconds / 3600
