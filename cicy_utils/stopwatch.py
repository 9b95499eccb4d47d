"""Time and memory, measured so that comparing them means something."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

MIB = 2**20
T = TypeVar("T")


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(alternatives: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measure alternatives in alternation, so that whatever else the machine does meets them all.

    Every other round goes through them backwards. Returns what each gave, in the order of rounds.
    """
    found: dict[str, list[T]] = {name: [] for name in alternatives}
    for number in range(rounds):
        order = list(alternatives) if number % 2 == 0 else list(alternatives)[::-1]
        for name in order:
            found[name].append(alternatives[name]())
    return found


def median(values: Iterable[float | None]) -> float | None:
    """The median; None where one of the values is not known."""
    values = list(values)
    return None if None in values else float(np.median(values))


def exponent(sizes: Sequence[float], values: Sequence[float | None]) -> float | None:
    """The power of size that values grow with: the slope of a straight line through logarithms.

    None where a value is not known or not positive.
    """
    if len(set(sizes)) < 2 or any(value is None or not value > 0 for value in values):
        return None
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


class Memory:
    """Memory that was taken at the most since its making, beyond what was in use then, in MiB.

    On a GPU what PyTorch took there. On a CPU what the process took from the system; what it had
    taken before and not given back is not counted, so that only a fresh process tells everything.

    Args:
        device: "cpu", or a GPU.
        aside: bytes that will be taken and are not to be counted.
    """

    def __init__(self, device: str = "cpu", aside: int = 0) -> None:
        gc.collect()
        self.device, self.aside = device, aside
        if device != "cpu":
            import torch  # slow to import, and most measurements do without

            # The workspaces of cuBLAS belong to streams, of which trainings take others each time.
            getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)()
            with contextlib.suppress(RuntimeError):  # of a CUDA graph that could not be recorded
                torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
            return
        try:  # Linux alone can forget a peak
            Path("/proc/self/clear_refs").write_text("5")
            self.before = _status("VmRSS")
        except OSError:
            self.before = None

    def peak(self) -> float | None:
        """Up to now; None where the system does not tell."""
        if self.device != "cpu":
            import torch

            return self._beyond(torch.cuda.max_memory_allocated(self.device))
        now = _status("VmHWM")
        return None if now is None or self.before is None else self._beyond(now)

    def _beyond(self, most: int) -> float:
        return (most - self.before - self.aside) / MIB


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    if (peak := _status("VmHWM")) is not None:
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def in_new_process(module: str, point: Mapping[str, Any], **environment: str) -> dict[str, Any]:
    """What ``python -m <module> --point <JSON>`` prints, as JSON: a measurement without a past."""
    command = [sys.executable, "-m", module, "--point", json.dumps(point)]
    finished = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{finished.stderr.strip()}")
    return json.loads(finished.stdout.splitlines()[-1])


def _status(name: str) -> int | None:
    """A figure of /proc/self/status in bytes; None where there is none (not on Linux)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)
