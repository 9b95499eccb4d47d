"""How fast a list is labelled by workers of a Dask cluster, beside threads of one process.

Scheduler and workers are real processes on this machine, started with the commands of the README
and bound to 127.0.0.1; they end with the measurement.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cicy_utils import cluster
from cicy_utils.data import load_cicy4
from cicy_utils.stopwatch import interleaved, median, seconds
from cicy_utils.topology import euler_numbers_batch, hodge_numbers_batch

HERE_ONLY = ("--host", cluster.LOCALHOST, *cluster.PAGE_HERE_ONLY)
TELL = {"DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "info"}  # the addresses, whatever is configured
START_SECONDS, STOP_SECONDS = 60, 10
SEED = 0


def benchmark_cluster(configurations: int, rounds: int, notes: list[str]) -> list[dict[str, Any]]:
    """Hodge and Euler numbers of a sample, by one and two threads and by one and two workers.

    Args:
        configurations: in the sample.
        rounds: how often; medians are reported.
        notes: gets what is to be told besides.

    Returns:
        One row per kind and number of workers: workers ("threads" or "Dask workers"), count,
        configurations, seconds (median), least and most (over the rounds), rate (configurations
        per second), ratio (to the rate of one worker of the kind). No rows where the package
        distributed is not installed.
    """
    if importlib.util.find_spec("distributed") is None:
        notes.append(f"no cluster, because distributed is not installed; {cluster.INSTALL}")
        return []
    matrices = load_cicy4(subset=configurations, subset_seed=SEED).matrices
    with contextlib.ExitStack() as stack:
        # Of two workers the first one alone has the resource ONE.
        address = stack.enter_context(local_cluster(["ONE=1 BOTH=1", "BOTH=1"]))
        executors: dict[tuple[str, int], Executor] = {}
        for count in (1, 2):
            executors["threads", count] = stack.enter_context(ThreadPoolExecutor(count))
        for count, resource in ((1, "ONE"), (2, "BOTH")):
            connected = stack.enter_context(cluster.connect(address, resource=resource))
            connected.client.run(_label, matrices[:10])  # compile, or load what was compiled
            executors["Dask workers", count] = connected.executor()
        _label(matrices[:10])
        found = interleaved(
            {
                key: partial(seconds, partial(_label, matrices, executor))
                for key, executor in executors.items()
            },
            rounds,
        )
    rows = []
    for (workers, count), times in found.items():
        took, alone = median(times), median(found[workers, 1])
        rows.append(
            {
                "workers": workers,
                "count": count,
                "configurations": configurations,
                "seconds": took,
                "least": min(times),
                "most": max(times),
                "rate": configurations / took,
                "ratio": alone / took,
            }
        )
    return rows


@contextlib.contextmanager
def local_cluster(resources: Sequence[str]) -> Iterator[str]:
    """A scheduler and one worker for each of these resources ("GPU=1"), until the block ends.

    Yields:
        The address of the scheduler.

    Raises:
        RuntimeError: one of them does not start; with its last words.
    """
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)

        def start(*command: str, until: str) -> str:
            """The address that a process says after these words."""
            log = folder / f"{len(list(folder.iterdir()))}.log"
            with log.open("w") as file:
                process = subprocess.Popen(
                    [sys.executable, "-m", "dask", *command, *HERE_ONLY],
                    stdout=file,
                    stderr=file,
                    env=os.environ | TELL,
                )
            stack.callback(_end, process)
            end = time.monotonic() + START_SECONDS
            while not (said := re.search(rf"{until}\W+(tcp://\S+)", log.read_text())):
                if process.poll() is not None or time.monotonic() > end:
                    last = log.read_text().strip().rpartition("\n")[2]
                    raise RuntimeError(f"dask {command[0]} does not start: {last}")
                time.sleep(0.1)
            return said[1]

        address = start("scheduler", "--port", "0", until="Scheduler at")
        for number, resource in enumerate(resources):
            worker = ("worker", address, "--nthreads", "1", "--resources", resource)
            space = ("--local-directory", str(folder / f"worker-{number}"))
            start(*worker, *space, until="Registered to")
        yield address


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _label(matrices: np.ndarray, executor: Executor | None = None) -> None:
    hodge_numbers_batch(matrices, executor=executor)
    euler_numbers_batch(matrices, executor=executor)
