"""Work in chunks: the same results whoever does it, threads, processes or a Dask cluster."""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from small_cluster import kill, processes
from small_project import wait_for

from cicy_utils import chunks, cluster, data, enumeration
from cicy_utils.enumeration import breaks_rules, enumerate_configurations
from cicy_utils.topology import euler_numbers_batch, hodge_numbers_batch


class Lazy(Executor):
    """Does the first chunk and leaves the others lying."""

    def __init__(self):
        self.taken: list[Future] = []

    def submit(self, function, chunk):
        self.taken.append(Future())
        if len(self.taken) == 1:
            self.taken[0].set_result(function(chunk))
        return self.taken[-1]


@pytest.fixture
def short(monkeypatch) -> None:
    """Chunks so short that a small list has many."""
    monkeypatch.setattr(chunks, "LENGTH", 100)


@pytest.fixture(scope="module")
def threefolds() -> np.ndarray:
    return enumerate_configurations(3)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Iterator[str]:
    """The address of a scheduler with two workers."""
    with processes(tmp_path_factory.mktemp("two")) as found:
        found.start_scheduler()
        for _ in range(2):
            found.start_worker()
        yield found.address


@pytest.fixture
def on_two(two) -> Iterator[Executor]:
    with cluster.connect(two) as found:
        yield found.executor()


def test_results_come_in_the_order_of_the_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "LENGTH", 4)
    last_is_done = threading.Event()

    def work(chunk: np.ndarray) -> int:
        if chunk[0] == 8:
            last_is_done.set()
        else:
            assert last_is_done.wait()
        return chunk.tolist()

    with ThreadPoolExecutor(3) as threads:
        found = list(chunks.each(work, np.arange(10), threads))
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_few_chunks_are_under_way_at_once(monkeypatch):
    monkeypatch.setattr(chunks, "LENGTH", 1)
    monkeypatch.setattr(chunks, "UNDER_WAY", 3)
    lazy = Lazy()
    results = chunks.each(len, np.arange(10), lazy)
    assert next(results) == 1
    assert len(lazy.taken) == 3
    results.close()
    assert [future.cancelled() for future in lazy.taken] == [False, True, True]


def test_an_error_in_a_chunk_is_raised_and_nothing_else_begins(short):
    done, all_submitted = [], threading.Event()

    class Threads(ThreadPoolExecutor):
        submitted = 0

        def submit(self, *arguments):
            self.submitted += 1
            if self.submitted == chunks.UNDER_WAY:
                all_submitted.set()
            return super().submit(*arguments)

    def work(chunk: np.ndarray) -> None:
        done.append(int(chunk[0]))
        all_submitted.wait()
        if len(done) > 1:
            time.sleep(0.05)
        raise ValueError(f"wrong in {chunk[0]}")

    with Threads(1) as threads, pytest.raises(ValueError, match="wrong in 0"):
        list(chunks.each(work, np.arange(100_000), threads))
    assert len(done) < chunks.UNDER_WAY // 2


def test_nothing_to_do_gives_nothing(on_two):
    none = np.zeros((0, 16, 20), np.uint8)
    assert list(chunks.each(len, none)) == []
    assert hodge_numbers_batch(none, executor=on_two).shape == (0, 4)
    assert euler_numbers_batch(none, executor=on_two).shape == (0,)
    assert breaks_rules(none, executor=on_two).shape == (0,)


@pytest.mark.parametrize("kind", ["threads", "processes", "cluster"])
def test_arrays_do_not_depend_on_who_computes(kind, short, threefolds, cicy4_sample, request):
    if kind == "threads":
        executor = ThreadPoolExecutor(3)
    elif kind == "processes":
        executor = ProcessPoolExecutor(2, get_context("spawn"))
    else:
        executor = request.getfixturevalue("on_two")
    matrices = cicy4_sample.matrices
    with executor:
        assert (enumerate_configurations(3, executor=executor) == threefolds).all()
        for function in (hodge_numbers_batch, euler_numbers_batch, breaks_rules):
            here, there = function(matrices), function(matrices, executor=executor)
            assert here.dtype == there.dtype
            assert (here == there).all()
        assert hodge_numbers_batch(threefolds[:300], executor=executor).shape == (300, 2)


def test_progress_is_the_same_on_a_cluster(on_two):
    here, there = [], []
    enumerate_configurations(3, progress=here.append)
    enumerate_configurations(3, progress=there.append, executor=on_two)
    assert [line.split(",")[0] for line in here] == [line.split(",")[0] for line in there]


@pytest.mark.parametrize("function", [hodge_numbers_batch, euler_numbers_batch])
def test_refusals_name_the_configuration_among_all(function, short, on_two):
    matrices = np.zeros((300, 2, 2), np.int64)
    matrices[:, 0, 0] = 6
    matrices[250, 0, 1] = -1
    with pytest.raises(ValueError, match="configuration 250: row 0 has a negative degree"):
        function(matrices, executor=on_two)
    matrices[200:] = [[5, 0], [0, 0]]
    with pytest.raises(ValueError, match="configuration 200: it has dimension 3"):
        function(matrices, executor=on_two)


def test_a_killed_worker_has_its_chunk_done_again(short, tmp_path, monkeypatch, threefolds):
    mark = str(tmp_path / "first")

    def splits(parents: np.ndarray) -> np.ndarray:
        """The first worker to come here waits to be killed."""
        import time

        from cicy_utils import enumeration

        try:
            with open(mark, "x") as file:
                file.write(f"{os.getpid()}\n")
        except FileExistsError:
            return enumeration._splits(parents)
        time.sleep(600)

    def kill_first() -> None:
        pid = wait_for(lambda: Path(mark).exists() and Path(mark).read_text().strip())
        os.kill(int(pid), signal.SIGKILL)

    monkeypatch.setattr(enumeration, "_splits", splits)
    killer = threading.Thread(target=kill_first)
    with processes(tmp_path / "processes") as found:
        found.start_scheduler()
        for _ in range(2):
            found.start_worker()
        with cluster.connect(found.address) as connected:
            killer.start()
            assert (enumerate_configurations(3, executor=connected.executor()) == threefolds).all()
        killer.join()
    assert Path(mark).exists()


def test_a_killed_scheduler_is_told(short, tmp_path, monkeypatch, capfd):
    def wait_to_die(parents: np.ndarray) -> None:
        import time

        (tmp_path / "begun").touch()
        time.sleep(600)

    monkeypatch.setattr(enumeration, "_splits", wait_to_die)
    with processes(tmp_path / "processes") as found:
        scheduler = found.start_scheduler()
        found.start_worker()

        def kill_scheduler() -> None:
            wait_for((tmp_path / "begun").exists)
            kill(scheduler)

        killer = threading.Thread(target=kill_scheduler)
        killer.start()
        target = tmp_path / "cicy3.npz"
        with pytest.raises(SystemExit, match="1"):
            command(["--output", str(target), "--scheduler", found.address])
        killer.join()
    assert "FAILED: the connection to the scheduler was lost" in capfd.readouterr().err
    assert not target.exists()


def test_the_command_writes_the_same_file_on_a_cluster(short, tmp_path, two, threefolds, capsys):
    target = tmp_path / "cicy3.npz"
    command(["--output", str(target), "--scheduler", two])
    with np.load(target) as archive:
        assert (archive["matrix"] == threefolds).all()
        assert (archive["hodge"] == hodge_numbers_batch(threefolds)).all()
    assert "7,868 matrices" in capsys.readouterr().out


def test_commands_without_a_scheduler_end_with_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    nowhere = ["--scheduler", "tcp://127.0.0.1:9"]
    assert data.main(["verify", *nowhere]) == 1
    assert "FAILED: no scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="1"):
        command(["--output", str(tmp_path / "cicy3.npz"), *nowhere])
    assert "FAILED: no scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err


def test_verification_is_given_the_cluster(two, monkeypatch, capsys):
    """What workers say goes into the verdict: here the process that computes."""

    def verify(say, executor) -> bool:
        (pid,) = set(chunks.each(lambda _: os.getpid(), np.arange(1), executor))
        return pid != os.getpid()

    monkeypatch.setattr("cicy_utils.verification.verify", verify)
    assert data.main(["verify", "--scheduler", two]) == 0
    assert data.main(["verify"]) == 1


@pytest.mark.long
def test_everything_on_a_cluster(tmp_path, two, capsys):
    """The list rebuilt and verified by two workers."""
    target = tmp_path / "cicy4.npz"
    enumeration.main(["--output", str(target), "--scheduler", two])
    with np.load(target) as archive:
        for name in ("matrix", "hodge"):
            assert data.checksum(archive[name]) == data.CHECKSUMS[name]
    assert data.main(["verify", "--scheduler", two]) == 0
    assert "everything agrees" in capsys.readouterr().out


def test_no_scheduler_asked_for_means_threads():
    parser = argparse.ArgumentParser()
    cluster.add_options(parser)
    with chunks.asked_for(parser.parse_args([]), 3) as executor:
        assert isinstance(executor, ThreadPoolExecutor)
        assert executor._max_workers == 3


def test_threads_and_a_scheduler_together_are_refused(tmp_path, capsys):
    arguments = ["--output", str(tmp_path / "cicy3.npz"), "--workers", "3"]
    with pytest.raises(SystemExit, match="1"):
        command([*arguments, "--scheduler", "tcp://127.0.0.1:9"])
    assert "--workers are threads of this process; leave it out" in capsys.readouterr().err


def command(arguments: list[str]) -> None:
    enumeration.main(["--dimension", "3", *arguments])
