"""status.json: how far a notebook of a run has come.

One file in each results/<run>/<notebook>/<variant>/, replaced in one step. While a notebook runs,
the file is renewed every few seconds; one that says "running" and is old tells of a process that
was killed.
"""

from __future__ import annotations

import csv
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cicy_utils.records import duration

FILE_NAME = "status.json"
STATES = ("pending", "running", "done", "failed")
STALE_SECONDS = 120


@dataclass
class Status:
    """What status.json holds.

    Attributes:
        notebook, variant: whose state it is.
        state: one of ``STATES``.
        settings: the value of every parameter that decides what is computed.
        source: sha256 of the notebook's source file.
        started, heartbeat, finished: seconds since the epoch, None before that.
        error: last lines of what went wrong.
        host, pid: the process that wrote the file.
    """

    notebook: str
    variant: str
    state: str = "pending"
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    started: float | None = None
    heartbeat: float | None = None
    finished: float | None = None
    error: list[str] = field(default_factory=list)
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)

    def write(self, folder: Path) -> None:
        """Replace status.json in a run folder, which is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / FILE_NAME, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Status | None:
        """The status of a run folder; None where there is none or it cannot be read."""
        try:
            values = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
            known = {item.name for item in fields(cls)}
            return cls(**{key: value for key, value in values.items() if key in known})
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return None

    @property
    def alive(self) -> bool:
        """Whether a process is at work on it: a recent heartbeat, by a process that exists."""
        if self.state != "running" or time.time() - (self.heartbeat or 0) > STALE_SECONDS:
            return False
        return self.host != socket.gethostname() or _exists(self.pid)

    @property
    def seconds(self) -> float:
        """How long it ran, or has been running."""
        return (self.finished or self.heartbeat or 0) - self.started if self.started else 0.0


def statuses(results: Path, run: str | None = None) -> Iterator[tuple[str, Path, Status]]:
    """Run name, folder and status of every notebook under results/, or of one run."""
    for path in sorted(results.glob(f"{run or '*'}/*/*/{FILE_NAME}")):
        if status := Status.read(path.parent):
            yield path.parts[-4], path.parent, status


def last_epoch(folder: Path) -> str:
    """What the last line of history.csv says, in words; empty when there is none."""
    try:
        with (folder / "history.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        row = rows[-1]
        return (
            f"epoch {row['epoch']}, training loss {float(row['train_loss']):.4g}, "
            f"validation loss {float(row['validation_loss']):.4g}"
        )
    except (OSError, IndexError, KeyError, TypeError, ValueError):
        return ""


def report(results: Path, run: str | None = None) -> str:
    """A table of every notebook of every run, or of one, for people."""
    lines = []
    for name, folder, status in statuses(results, run):
        state, detail = status.state, last_epoch(folder)
        if state == "running" and not status.alive:
            state, detail = "stopped", f"its process is gone; {detail}".removesuffix("; ")
        elif state == "failed" and status.error:
            detail = status.error[-1]
        title = f"{status.notebook}/{status.variant}"
        lines.append(f"{name:12} {title:30} {state:8} {duration(status.seconds):>14}  {detail}")
    return "\n".join(line.rstrip() for line in lines) or "Nothing has been run yet."


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears only when complete."""
    from cicy_utils.checkpoint import write_atomically  # brings torch, which reading does not need

    write_atomically(path, lambda file: file.write(text.encode()))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
