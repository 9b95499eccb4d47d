"""A Dask cluster of real processes on this machine, for tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from small_project import wait_for

ROOT = Path(__file__).resolve().parents[1]
# Dask's own commands do not say where this package is; a worker finds it as installed, or here.
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "info",
}


class Processes:
    """A scheduler and workers, each with a log in a folder; all end with the context."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.address = ""
        self.started: list[subprocess.Popen] = []

    def start_scheduler(self, *options: str, port: int = 0) -> subprocess.Popen:
        """`run_all.sh scheduler`, less the shell; notes the address."""
        command = ["-m", "cicy_utils.batch", "scheduler", "--port", str(port), *options]
        process, log = self._start("scheduler", command)
        found = wait_for(lambda: re.search(r"Scheduler at: +(\S+)", log.read_text()))
        self.address = found[1]
        return process

    def start_worker(self, *options: str, resources: str | None = "GPU=1") -> subprocess.Popen:
        """The command of cicy_utils/batch/README.md for one worker."""
        command = ["-m", "dask", "worker", self.address, "--host", "127.0.0.1", "--nthreads", "1"]
        command += ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        command += ["--death-timeout", "30"]  # also of one that is started again meanwhile
        command += ["--local-directory", str(self.folder / "dask")]
        command += ["--resources", resources] if resources else []
        process, log = self._start("worker", [*command, *options])
        wait_for(lambda: "Registered to" in log.read_text())
        return process

    def _start(self, name: str, arguments: list[str]) -> tuple[subprocess.Popen, Path]:
        log = self.folder / f"{name}-{len(self.started)}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, *arguments], stdout=file, stderr=file, env=ENVIRONMENT, cwd=ROOT
            )
        self.started.append(process)
        return process, log


@contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    """Everything that was started ends, with whatever it started itself."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Processes(folder)
    try:
        yield found
    finally:
        for process in found.started:
            kill(process)


def kill(process: subprocess.Popen, how: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process and to all that it started, but for kernels: they must notice."""
    try:
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(True))]
    except psutil.NoSuchProcess:
        family = []
    for pid in family:
        try:
            if "ipykernel" not in " ".join(psutil.Process(pid).cmdline()):
                os.kill(pid, how)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    process.wait()


def worker_process(process: subprocess.Popen) -> int:
    """The process that does the work: the child of `dask worker`, which starts it again."""
    found = [
        child.pid
        for child in psutil.Process(process.pid).children()
        if "--multiprocessing-fork" in child.cmdline()
    ]
    (pid,) = found
    return pid
