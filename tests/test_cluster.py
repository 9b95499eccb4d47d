"""Batches on a Dask cluster: real schedulers, workers and kernels, and the death of each."""

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import distributed
import psutil
import pytest
import trustme
from small_cluster import ENVIRONMENT, kill, processes, worker_process
from small_project import GOOD, IMPORTS, Project, is_running, wait_for

from cicy_utils import cluster
from cicy_utils.batch import __main__ as command
from cicy_utils.batch import attempt, runner, status, workers
from cicy_utils.batch.status import Status

TELL = "Path(RUN_DIR, 'kernel').write_text(str(os.getpid()))"
SLEEP = "while not Path(RUN_DIR, 'go').exists(): time.sleep(0.1)"
END = "with Path(RUN_DIR, 'ends').open('a') as file:\n    print(time.time(), file=file)"
NAMES = ("00_long", "01_long", "02_next")


def long_project(root: Path) -> Project:
    """Two notebooks that take until there is a file called go, and one that reads the first."""
    cells = [IMPORTS, TELL, SLEEP, *GOOD[1:]]
    return Project(
        root,
        {"00_long": cells, "01_long": cells, "02_next": GOOD},
        needs={"02_next": ("00_long",)},
    )


def short_project(root: Path) -> Project:
    """Eight notebooks of about two seconds."""
    cells = [IMPORTS, "time.sleep(2)", *GOOD[1:], END]
    return Project(root, {f"{number:02}_short": cells for number in range(8)})


def run_as_client(kind: str, root: str, address: str) -> None:
    """What a client does that is a process of its own."""
    project = {"long": long_project, "short": short_project}[kind](Path(root))
    try:
        print(run_on(project, address), flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except cluster.Lost as lost:
        print(lost)
        sys.exit(3)


def run_on(project: Project, address: str, say: Callable[[str], None] = print) -> list[str]:
    """Run a project on a cluster; the states that its notebooks end with."""
    with cluster.connect(address) as found:
        places = workers.Workers(found, say=say)
        return [outcome.state for outcome in runner.run(project.plan(), places, say=say)]


def start_client(kind: str, root: Path, address: str) -> subprocess.Popen:
    """That process; what it says goes to the file client in its folder."""
    code = "import sys, test_cluster; test_cluster.run_as_client(*sys.argv[1:])"
    with (root / "client").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code, kind, root, address],
            cwd=Path(__file__).parent,
            env=ENVIRONMENT,
            stdout=log,
            stderr=log,
        )


@contextmanager
def client(project: Project, address: str):
    """A client in the middle of both long notebooks; yields its process and their kernels."""
    kernels = [project.folder(name) / "kernel" for name in NAMES[:2]]
    process = start_client("long", project.root, address)
    try:
        yield process, [int(wait_for(lambda k=k: k.exists() and k.read_text())) for k in kernels]
    finally:
        process.kill()
        process.wait()


def let_go(project: Project) -> None:
    for name in NAMES[:2]:
        (project.folder(name) / "go").touch()


def require_done_once(project: Project) -> None:
    """Every notebook is done, and came to its end in one kernel only."""
    for name in project.catalogue:
        folder = project.folder(name)
        assert status.told(folder, Status.read(folder)) == ("done", "")
        assert (folder / "calls").read_text() == "x"


def require_done_by_the_last(project: Project) -> None:
    """Every notebook is done, by the last kernel that came to its end.

    A worker may be killed between that end and telling of it, and another then does it again; but
    no two do it at a time.
    """
    for name in project.catalogue:
        folder = project.folder(name)
        found = Status.read(folder)
        assert status.told(folder, found) == ("done", "")
        *before, last = map(float, (folder / "ends").read_text().split())
        assert all(end < found.started for end in before)
        assert found.started < last < found.finished


def told_done(project: Project) -> set[tuple[str, float]]:
    """The notebooks that are told to be done, and since when: done again they would change."""
    found = {name: Status.read(project.folder(name)) for name in project.catalogue}
    return {
        (name, one.finished)
        for name, one in found.items()
        if one and status.told(project.folder(name), one)[0] == "done"
    }


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A scheduler and two workers with a GPU each, as they say."""
    with processes(tmp_path_factory.mktemp("two")) as found:
        found.start_scheduler()
        found.start_worker()
        found.start_worker()
        yield found


@pytest.mark.notebooks
def test_a_batch_is_spread_over_the_workers(two, tmp_path):
    """Both long notebooks run at once, each in a kernel of its own worker."""
    project, said = long_project(tmp_path), []
    with client(project, two.address) as (process, kernels):
        workers = {Status.read(project.folder(name)).pid for name in NAMES[:2]}
        assert workers == {worker_process(one) for one in two.started[1:]}
        assert {psutil.Process(kernel).ppid() for kernel in kernels} == workers
        let_go(project)
        assert process.wait() == 0
    require_done_once(project)
    assert run_on(project, two.address, said.append) == ["skipped"] * 3
    assert said[0] == "[ 1/3] 00_long: done before with the same settings"


@pytest.mark.notebooks
def test_ctrl_c_ends_the_kernels_wherever_they_are(two, tmp_path):
    project = long_project(tmp_path)
    with client(project, two.address) as (process, kernels):
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    wait_for(lambda: not any(map(is_running, kernels)))
    for name in NAMES[:2]:
        folder = project.folder(name)
        told = status.told(folder, Status.read(folder))
        assert told == ("partial", "interrupted; run again to go on")
    let_go(project)
    assert run_on(project, two.address) == ["done"] * 3
    require_done_once(project)


@pytest.mark.notebooks
def test_what_a_dead_client_began_is_waited_for_and_not_run_again(two, tmp_path):
    project, said = long_project(tmp_path), []
    with client(project, two.address) as (process, kernels):
        process.kill()
    assert all(map(is_running, kernels))

    def say(line: str) -> None:
        said.append(line)
        if "01_long: waits" in line:  # the second of them: it has seen both at work
            let_go(project)

    assert run_on(project, two.address, say) == ["done"] * 3
    require_done_once(project)
    assert re.fullmatch(r"\[ 1/3\] 00_long: waits, .* in use by process \d+ on .*", said[0])
    assert "[ 1/3] 00_long: done" in said


@pytest.mark.notebooks
def test_a_killed_worker_has_its_notebook_run_again(tmp_path):
    project = long_project(tmp_path)
    with processes(tmp_path / "cluster") as found:
        found.start_scheduler()
        found.start_worker()
        found.start_worker()
        with client(project, found.address) as (process, kernels):
            (project.folder("00_long") / "kernel").unlink()
            os.kill(Status.read(project.folder("00_long")).pid, signal.SIGKILL)
            wait_for(lambda: not is_running(kernels[0]))
            assert is_running(kernels[1])
            let_go(project)
            assert process.wait() == 0
    require_done_once(project)


@pytest.mark.notebooks
def test_without_its_scheduler_a_batch_stops_and_goes_on_with_another(tmp_path):
    project = long_project(tmp_path)
    with processes(tmp_path / "cluster") as found:
        scheduler = found.start_scheduler()
        workers = [found.start_worker(), found.start_worker()]
        with client(project, found.address) as (process, kernels):
            kill(scheduler)
            assert process.wait() == 3
        assert "the connection to the scheduler was lost" in (tmp_path / "client").read_text()
        for worker in workers:
            worker.wait()  # a worker ends when its scheduler does
        wait_for(lambda: not any(map(is_running, kernels)))
        found.start_scheduler(port=int(found.address.rsplit(":", 1)[1]))
        found.start_worker()
        let_go(project)
        assert run_on(project, found.address) == ["done"] * 3
    require_done_once(project)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_random_moments(tmp_path, seed):
    """A worker, then the scheduler, then the client; the next client finishes what is left."""
    chance, project = random.Random(seed), short_project(tmp_path)
    with processes(tmp_path / "cluster") as found:
        scheduler = found.start_scheduler()
        port = int(found.address.rsplit(":", 1)[1])
        workers = [found.start_worker(), found.start_worker()]
        process = start_client("short", tmp_path, found.address)
        # Before it is connected it would say, rightly, that there is no scheduler.
        wait_for(lambda: any(Status.read(project.folder(name)) for name in project.catalogue))
        time.sleep(chance.uniform(0, 9))
        os.kill(worker_process(chance.choice(workers)), signal.SIGKILL)
        time.sleep(chance.uniform(0, 4))
        kill(scheduler)
        assert process.wait() in (0, 3)
        for worker in workers:
            worker.wait()  # a worker ends when its scheduler does
        first = told_done(project)
        found.start_scheduler(port=port)
        found.start_worker()
        found.start_worker()
        process = start_client("short", tmp_path, found.address)
        time.sleep(chance.uniform(3, 12))
        process.kill()
        process.wait()
        second = told_done(project)
        states = run_on(project, found.address)
    assert first <= second <= told_done(project)
    assert set(states) <= {"done", "skipped"}
    require_done_by_the_last(project)


@pytest.mark.parametrize(
    "address", ["localhost:8786", "http://localhost:8786", "tcp://localhost", "tcp://a b:1", ""]
)
def test_what_is_no_address(address):
    with pytest.raises(ValueError, match="looks like tcp://HOST:8786"), cluster.connect(address):
        pass


def test_nobody_there_is_told_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(cluster, "WORKER_SECONDS", 1)
    with processes(tmp_path) as found:
        found.start_scheduler()
        with (
            pytest.raises(ValueError, match=r"no worker has come to .* start some with `dask wor"),
            cluster.connect(found.address),
        ):
            pass
        kill(found.started[0])
        with (
            pytest.raises(ValueError, match=r"no scheduler answers at .* `bash run_all.sh sched"),
            cluster.connect(found.address),
        ):
            pass


def test_a_resource_that_nobody_has_is_told(two):
    match = r'none of the 2 workers .* has the resource TPU \(they have GPU\).*"TPU=1"'
    with pytest.raises(ValueError, match=match), cluster.connect(two.address, resource="TPU"):
        pass


def test_all_listen_on_this_machine_only(two):
    family = [psutil.Process(process.pid) for process in two.started]
    family += [child for process in family for child in process.children(recursive=True)]
    listening = {
        found.laddr.ip
        for process in family
        for found in process.net_connections()
        if found.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_slots_are_those_of_workers_with_the_resource(two):
    with cluster.connect(two.address) as found:
        assert (found.resource, found.slots()) == ("GPU", 2)
        assert set(found.neighbours().values()) == {2}
        assert list(found.executor().map(abs, [-1, 2])) == [1, 2]


class Told:
    """A client whose workers say which cores they may use; it counts how often it asks them."""

    status = "running"

    def __init__(self, workers: dict[str, tuple[str, set[int]]]):
        self.told, self.asked = workers, []

    def scheduler_info(self, n_workers: int) -> dict:
        return {"workers": {a: {"host": host, "nthreads": 1} for a, (host, _) in self.told.items()}}

    def run(self, function, workers: list[str], on_error: str) -> dict[str, frozenset[int]]:
        self.asked += workers
        return {address: frozenset(self.told[address][1]) for address in workers}


def test_workers_share_the_cores_that_they_were_given_together():
    bound = {"a": ("one", {0, 1}), "b": ("one", {2, 3})}  # by Slurm, say
    together = {"c": ("one", {4, 5, 6}), "d": ("one", {4, 5, 6})}  # of one shell
    client = Told(bound | together | {"e": ("two", {4, 5, 6})})
    found = cluster.Cluster(client, None)
    for _ in range(2):
        assert found.neighbours() == {"a": 1, "b": 1, "c": 2, "d": 2, "e": 1}
    assert client.asked == ["a", "b", "c", "d", "e"]
    client.told["f"] = ("two", {4, 5, 6})
    assert found.neighbours()["e"] == found.neighbours()["f"] == 2
    client.run = lambda *arguments, **options: {}  # the worker is gone, or is another version's
    client.told["g"] = ("two", {4, 5, 6})
    assert found.neighbours()["g"] == 1


def test_the_kernels_of_workers_that_share_some_cores_have_a_part_of_them(monkeypatch):
    """As of two in a container that may use four of eight cores."""
    given = {}
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(runner, "cores", lambda: 4)
    monkeypatch.setattr(attempt, "attempt", lambda task, **options: given.update(options))
    worker = SimpleNamespace(address="a")
    monkeypatch.setattr(distributed, "get_worker", lambda: worker)
    for neighbours, share in (({"a": 2, "b": 2}, "2"), ({"a": 1}, "4"), ({"b": 2}, "4")):
        workers._attempt("a batch", None, None, neighbours)
        assert given["environment"] == {"OMP_NUM_THREADS": share, "MKL_NUM_THREADS": share}


def test_a_folder_that_a_worker_does_not_see(two, tmp_path, monkeypatch):
    with cluster.connect(two.address) as found:
        places = workers.Workers(found)
        places.require_folder(tmp_path)
        assert list(tmp_path.iterdir()) == []
        monkeypatch.setattr(Path, "touch", lambda path: None)  # then nobody sees it
        with pytest.raises(ValueError, match=r"cannot use .* does not see it.*all machines need"):
            places.require_folder(tmp_path)


def test_waiting_for_workers_has_an_end(monkeypatch):
    said: list[str] = []
    places = workers.Workers(Empty(), say=said.append)
    assert places.slots() == places.slots() == 0
    assert said == ["All workers are gone; waiting for one."]
    monkeypatch.setattr(workers, "ABSENT_SECONDS", -1)
    with pytest.raises(cluster.Lost, match="all workers are gone"):
        places.slots()


class Empty:
    """A cluster whose workers are gone."""

    def slots(self) -> int:
        return 0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Of an authority, and signed by it; and of another one."""
    folder = tmp_path_factory.mktemp("certificates")
    found = []
    for name in ("ours", "foreign"):
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        tls = cluster.Tls(*(folder / f"{name}-{kind}.pem" for kind in ("ca", "cert", "key")))
        authority.cert_pem.write_to_path(tls.ca_file)
        issued.cert_chain_pems[0].write_to_path(tls.cert)
        issued.private_key_pem.write_to_path(tls.key)
        found.append(tls)
    return found


def tls_options(tls: cluster.Tls) -> list[str]:
    return [
        *("--tls-ca-file", str(tls.ca_file)),
        *("--tls-cert", str(tls.cert)),
        *("--tls-key", str(tls.key)),
    ]


def test_certificates_keep_others_out(tmp_path, certificates, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 2)
    ours, foreign = certificates
    with processes(tmp_path) as found:
        found.start_scheduler(*tls_options(ours))
        assert found.address.startswith("tls://127.0.0.1:")
        found.start_worker(*tls_options(ours))
        with cluster.connect(found.address, tls=ours) as connected:
            assert connected.executor().submit(sum, [1, 2]).result() == 3
            listening = {told["nanny"] for told in connected.workers().values()}
            assert all(address.startswith("tls://") for address in listening)
        plain = found.address.replace("tls://", "tcp://")
        for address, tls in ((found.address, foreign), (found.address, None), (plain, None)):
            with (
                pytest.raises(ValueError, match="no scheduler answers"),
                cluster.connect(address, tls=tls),
            ):
                pass
        with (
            pytest.raises(ValueError, match="is not encrypted; use tls://"),
            cluster.connect(plain, tls=ours),
        ):
            pass


def test_tls_files_that_are_missing(tmp_path):
    tls = cluster.Tls(*(tmp_path / name for name in ("ca", "cert", "key")))
    with (
        pytest.raises(ValueError, match=r"there is no file .*ca, which TLS needs"),
        cluster.connect("tls://127.0.0.1:1", tls=tls),
    ):
        pass


def options(*given: str) -> argparse.Namespace:
    return command.parser("run").parse_args(given)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--resource", "GPU"], "need --scheduler"),
        (["--tls-cert", "a"], "TLS needs all of"),
        (["--scheduler", "tcp://127.0.0.1:1", "--jobs", "2"], "start more workers"),
        (["--scheduler", "8786"], "the address of a scheduler looks like"),
    ],
)
def test_options_that_do_not_fit(given, why, tmp_path, capsys):
    assert command.main(["run", *given], tmp_path) == 2
    assert why in capsys.readouterr().err


def test_without_distributed_the_extra_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    for given in (["run", "--scheduler", "tcp://127.0.0.1:1"], ["scheduler"]):
        assert command.main(given, tmp_path) == 2
        assert "pip install distributed" in capsys.readouterr().err


def test_a_scheduler_for_others_is_warned_of(monkeypatch, capsys):
    started = []
    monkeypatch.setattr(os, "execv", lambda path, command: started.append(command))
    cluster.start_scheduler(cluster.scheduler_parser().parse_args(["--host", "0.0.0.0"]))
    assert "can run programs as you" in capsys.readouterr().err
    cluster.start_scheduler(cluster.scheduler_parser().parse_args([]))
    assert capsys.readouterr().err == ""
    assert [one[one.index("--host") + 1] for one in started] == ["0.0.0.0", "127.0.0.1"]
    assert all("127.0.0.1:0" in one for one in started)  # its page
