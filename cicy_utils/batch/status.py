"""status.json: how far a notebook of a run has come.

One file in each results/<run>/<notebook>/<variant>/, replaced in one step. While a notebook runs,
its run folder is held by a lease (see :mod:`cicy_utils.lease`); a file that says "running" without
one tells of a process that was killed. One that says "done" is believed only while metrics.json is
there and of the same settings.
"""

from __future__ import annotations

import csv
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cicy_utils import lease
from cicy_utils.durations import duration
from cicy_utils.files import write_text
from cicy_utils.provenance import stopped
from cicy_utils.records import HISTORY_FILE, METRICS_FILE, found_metrics, seed_folders

FILE_NAME = "status.json"
STATES = ("pending", "running", "done", "failed", "partial")
STOPPED = "stopped"  # what "running" is called when nothing runs
LEASE = "batch"  # name of the lease of a notebook that is being run


@dataclass
class Status:
    """What status.json holds.

    Attributes:
        notebook, variant: whose state it is.
        state: one of ``STATES``; "partial" is what was stopped before its end, by a time limit or
            by hand, and goes on when it is run again.
        settings: the value of every parameter that decides what is computed.
        fingerprint: of them, as metrics.json has it.
        source: sha256 of the notebook's source file.
        seeds: that it trains with, in a folder for each; empty for a notebook without.
        started, finished: seconds since the epoch, None before that.
        error: last lines of what went wrong.
        host, pid: the process that wrote the file.
    """

    notebook: str
    variant: str
    state: str = "pending"
    settings: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    source: str = ""
    seeds: list[int] = field(default_factory=list)
    started: float | None = None
    finished: float | None = None
    error: list[str] = field(default_factory=list)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def write(self, folder: Path) -> None:
        """Replace status.json in a run folder, which is made if missing."""
        write_text(folder / FILE_NAME, json.dumps(asdict(self), indent=2) + "\n")

    def folders(self, folder: Path) -> list[Path]:
        """The run folder, and those of further seeds beside it."""
        return list(seed_folders(folder, self.seeds).values()) if self.seeds else [folder]

    @classmethod
    def read(cls, folder: Path) -> Status | None:
        """The status of a run folder; None where there is none or it cannot be read."""
        try:
            values = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
            known = {item.name for item in fields(cls)}
            status = cls(**{key: value for key, value in values.items() if key in known})
        except (OSError, ValueError, TypeError, AttributeError):
            return None
        return status if status.state in STATES else None

    def seconds(self, folder: Path) -> float:
        """How long it ran, or has been running until its lease was last renewed."""
        if self.started is None:
            return 0.0
        seen = lease.look(lease.lease_file(folder, LEASE))
        end = self.finished or (seen.renewed / 1e9 if seen else self.started)
        return max(0.0, end - self.started)


def told(folder: Path, status: Status) -> tuple[str, str]:
    """The state that a status file and the files beside it come to, and why it is not its own."""
    if status.state == "running" and not is_running(folder):
        return STOPPED, "its process is gone"
    if status.state == "done":
        for one in status.folders(folder):
            if fault := fault_of_results(one, status.fingerprint, {}):
                return "failed", fault if one == folder else f"{one.name}: {fault}"
    return status.state, status.error[-1] if status.error else ""


def is_running(folder: Path) -> bool:
    """Whether a process is at work on a run folder, see ``lease.Seen.is_held``."""
    found = lease.look(lease.lease_file(folder, LEASE))
    return found is not None and found.is_held


def fault_of_results(folder: Path, fingerprint: str, settings: Mapping[str, Any]) -> str:
    """Why metrics.json is not what a notebook with these settings leaves; "" if it is.

    fingerprint: of the settings, "" for any; settings: upper-case parameters and their values, of
    which those are compared that metrics.json tells of; None stands for whatever was taken, but
    for SPLIT_SEED, where it is the published split.
    """
    metrics = found_metrics(folder)
    if not metrics:
        return f"there is no readable {METRICS_FILE}"
    if fingerprint and metrics.get("settings_fingerprint") != fingerprint:
        return f"{METRICS_FILE} is of other settings"
    given = parameters_in(metrics)
    for name in sorted(given.keys() & settings.keys()):
        taken = settings[name] is None and name != "SPLIT_SEED"  # whose None is a split, too
        if not taken and given[name] != settings[name]:
            asked = settings[name]
            return f"{METRICS_FILE} has {name} {given[name]!r}, and {asked!r} was asked for"
    return ""


def parameters_in(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a notebook that its metrics.json tells of, whatever it was given."""
    settings, data, split = (_section(metrics, name) for name in ("settings", "data", "split"))
    found = {name.upper(): value for name, value in settings.items()}
    if "seed" in metrics:
        found["SEED"] = metrics["seed"]
    if _section(metrics, "training").get("retrained") is False:
        found = {}  # of the training that is judged once more
    if "layout" in data:
        found["LAYOUT"] = data["layout"]
    if data.get("subset") is not None and data.get("source", "bundled") == "bundled":
        found["SUBSET"] = data["subset"]  # another list may have fewer than were asked for
    if "seed" in split:
        found["SPLIT_SEED"] = split["seed"]
    return found


def cut_short(folder: Path) -> str:
    """What stopped the training in a folder before its end, in words; "" if nothing did."""
    training = _section(found_metrics(folder), "training")
    return stopped(training.get("stop_reason"), training.get("epochs"))


def statuses(results: Path, run: str | None = None) -> Iterator[tuple[str, Path, Status]]:
    """Run name, folder and status of every notebook under results/, or of one run."""
    for path in sorted(results.glob(f"{run or '*'}/*/*/{FILE_NAME}")):
        if status := Status.read(path.parent):
            yield path.parts[-4], path.parent, status


def last_epoch(folders: Sequence[Path]) -> str:
    """What the history.csv that was written last tells last, in words; empty when there is none.

    folders: of one training, or of several, of which the name is told.
    """
    try:
        paths = [folder / HISTORY_FILE for folder in folders]
        path = max(filter(Path.is_file, paths), key=lambda path: path.stat().st_mtime)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        row = rows[-1]
        name = f"{path.parent.name}: " if len(paths) > 1 else ""
        return (
            f"{name}epoch {row['epoch']}, training loss {float(row['train_loss']):.4g}, "
            f"validation loss {float(row['validation_loss']):.4g}"
        )
    except (OSError, IndexError, KeyError, TypeError, ValueError):
        return ""


def require_run(folder: Path | str) -> None:
    """Make sure that there is a run folder.

    Raises:
        FileNotFoundError: there is none.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no run folder {folder}; bash run_all.sh makes one")


def report(results: Path, run: str | None = None) -> str:
    """A table of every notebook of every run, or of one, for people.

    Raises:
        FileNotFoundError: there is no run of that name.
    """
    if run:
        require_run(results / run)
    lines = []
    for name, folder, status in statuses(results, run):
        state, why = told(folder, status)
        detail = "; ".join(part for part in (why, last_epoch(status.folders(folder))) if part)
        if state == "failed":
            detail = why
        title = f"{status.notebook}/{status.variant}"
        time = duration(status.seconds(folder))
        lines.append(f"{name:12} {title:30} {state:8} {time:>14}  {detail}")
    return "\n".join(line.rstrip() for line in lines) or "Nothing has been run yet."


def _section(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = metrics.get(name)
    return section if isinstance(section, Mapping) else {}
