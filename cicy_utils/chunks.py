"""Work on long arrays in chunks, by whatever executor there is: threads here, or a cluster.

A chunk is work of about a second and a few MiB to send, so that a chunk which is done again,
because its worker died, costs little. Results come in the order of the chunks, whichever ends
first: they do not depend on how many workers there are, nor of what kind.
"""

from __future__ import annotations

import argparse
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from cicy_utils.cluster import Lost, from_options
from cicy_utils.places import cores

LENGTH = 10_000
# Chunks that are sent before the first of them has ended. It bounds the memory for what waits,
# and is more than the workers of most clusters.
UNDER_WAY = 64
T = TypeVar("T")


def each(
    function: Callable[[np.ndarray], T], array: np.ndarray, executor: Executor | None = None
) -> Iterator[T]:
    """What a function gives for each chunk of an array, in the order of the chunks.

    Args:
        function: of one chunk. Where workers are other processes, a plain function of a module
            (it is sent by its name; a compiled one would be compiled again by each of them).
        array: cut along its first axis.
        executor: who does the work; None for threads of this process, one per core.

    Raises:
        Lost: the scheduler of the cluster that did the work is gone.
    """
    waiting: deque[Future[T]] = deque()
    with threads_unless(executor) as workers:
        try:
            for start in range(0, len(array), LENGTH):
                waiting.append(workers.submit(function, array[start : start + LENGTH]))
                if len(waiting) == UNDER_WAY:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except CancelledError:
            raise Lost("the connection to the scheduler was lost; start again") from None
        finally:
            for future in waiting:
                future.cancel()


def joined(
    function: Callable[[np.ndarray], np.ndarray],
    array: np.ndarray,
    executor: Executor | None = None,
) -> np.ndarray:
    """The arrays that ``each`` gives, put together."""
    return np.concatenate(list(each(function, array, executor)) or [function(array)])


@contextlib.contextmanager
def threads_unless(executor: Executor | None, workers: int | None = None) -> Iterator[Executor]:
    """The executor where there is one; else so many threads of this process, by default one per
    core, for as long as the block lasts."""
    if executor is not None:
        yield executor
        return
    with ThreadPoolExecutor(workers or cores()) as threads:
        yield threads


@contextlib.contextmanager
def asked_for(options: argparse.Namespace, workers: int | None = None) -> Iterator[Executor]:
    """The executor of a command line: the cluster of ``--scheduler``, or threads.

    Args:
        options: parsed, with those of ``cluster.add_options``.
        workers: threads, where no cluster is asked for.

    Raises:
        ValueError: there is no such cluster, or it has no worker; or workers are given, too.
    """
    connection = from_options(options)
    if connection is not None and workers is not None:
        raise ValueError("--workers are threads of this process; leave it out with --scheduler")
    with (
        connection or contextlib.nullcontext() as connected,
        threads_unless(connected and connected.executor(), workers) as executor,
    ):
        yield executor
