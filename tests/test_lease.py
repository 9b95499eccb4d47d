"""Leases: one writer at a time, and none that outlives its process."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from platforms import on_linux
from small_project import wait_for

from cicy_utils import lease
from cicy_utils.lease import Held, hold, look

HOLDER = """
import sys, time
from cicy_utils import lease
with lease.hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""
# Each round is a process of its own; some die in the middle, with the lease in their hands.
CONTENDERS = """
import os, random, signal, sys, time
from cicy_utils import lease

folder, rounds = sys.argv[1], int(sys.argv[2])
inside = os.path.join(folder, "inside")

def work(number):
    random.seed(number)
    with lease.hold(folder, wait=60):
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
        time.sleep(0.003 * random.random())
        os.unlink(inside)
        with open(os.path.join(folder, "done"), "a") as file:
            file.write(f"{number}\\n")
        if random.random() < 0.4:
            os.kill(os.getpid(), signal.SIGKILL)

lease.LOOK_SECONDS = 0.002
children = []
for number in range(rounds):
    if not (child := os.fork()):
        work(number)
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(sorted(set(codes)))
"""


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 1.0)
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.02)


def write(folder: Path, **changes) -> Path:
    """A lease of a process of another machine, unless told."""
    values = {"host": "elsewhere", "machine": "elsewhere 1", "pid": 7, "began": "1", "token": "t"}
    folder.mkdir(exist_ok=True)
    path = lease.lease_file(folder)
    path.write_text(json.dumps(values | changes))
    return path


def own(**changes) -> dict:
    process = lease.Process.this()
    return {"host": process.host, "machine": process.machine, "began": process.began} | changes


def test_a_second_writer_is_refused_and_told_who_the_first_is(tmp_path):
    folder = tmp_path / "run"
    with hold(folder) as first:
        first.require()
        with pytest.raises(Held, match=rf"{folder} is in use by process {os.getpid()} on .* ago"):
            hold(folder).__enter__()
        with hold(folder, "something else"):
            first.require()
    assert list(folder.iterdir()) == []
    with hold(folder):
        assert len(list(folder.iterdir())) == 1


def test_an_error_inside_ends_the_lease(tmp_path):
    with pytest.raises(RuntimeError), hold(tmp_path):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@on_linux
def test_the_lease_of_a_killed_process_is_free_at_once(tmp_path):
    command = [sys.executable, "-c", HOLDER, tmp_path]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout.readline() == "held\n"
            with pytest.raises(Held, match=f"process {process.pid} on"), hold(tmp_path):
                pass
            with pytest.raises(Held, match=f"process {process.pid} on"):
                lease.require_free(tmp_path)
        finally:
            process.kill()
        # Its parent, this process, has not asked for its end yet.
        wait_for(lambda: look(lease.lease_file(tmp_path)).is_dead)
        lease.require_free(tmp_path)
        with hold(tmp_path) as held:
            held.require()
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_process_still_holds_its_lease(tmp_path, quick):
    command = [sys.executable, "-c", HOLDER, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            process.send_signal(signal.SIGSTOP)
            time.sleep(2 * lease.EXPIRY_SECONDS)
            with pytest.raises(Held), hold(tmp_path):
                pass
        finally:
            process.kill()


@on_linux
def test_a_process_number_that_is_used_again_is_another_process(tmp_path):
    path = write(tmp_path, **own(pid=os.getpid(), began="1"))
    assert look(path).is_dead
    with hold(tmp_path) as held:
        held.require()


@pytest.mark.parametrize("clock", [-1e9, 0, 1e9])
@pytest.mark.parametrize("text", [None, "", '{"host": "elsewh'])
def test_elsewhere_a_lease_that_nobody_renews_expires_by_our_clock(tmp_path, quick, clock, text):
    path = write(tmp_path)
    if text is not None:
        path.write_text(text)
    os.utime(path, (time.time() + clock,) * 2)
    started = time.monotonic()
    with hold(tmp_path) as held:
        held.require()
    assert time.monotonic() - started >= lease.EXPIRY_SECONDS
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("clock", [-1e9, 0, 1e9])
def test_elsewhere_a_lease_that_is_renewed_is_respected(tmp_path, quick, clock):
    path = write(tmp_path)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(lease.RENEW_SECONDS):
            os.utime(path, (time.time() + clock,) * 2)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(Held, match="process 7 on elsewhere"), hold(tmp_path):
            pass
        with pytest.raises(Held), hold(tmp_path, wait=3 * lease.EXPIRY_SECONDS):
            pass
    finally:
        stop.set()
        thread.join()
    assert look(path).holder.host == "elsewhere"


def test_waiting_ends_when_the_other_one_does(tmp_path, quick):
    first = hold(tmp_path)
    first.__enter__()
    timer = threading.Timer(0.3, first.__exit__, (None, None, None))
    timer.start()
    with hold(tmp_path, wait=60) as held:
        held.require()
    timer.join()
    with hold(tmp_path), pytest.raises(Held):
        lease.require_free(tmp_path, wait=0.1)
    lease.require_free(tmp_path)


def test_a_holder_renews_its_lease(tmp_path, quick):
    with hold(tmp_path):
        path = lease.lease_file(tmp_path)
        os.utime(path, (1, 1))
        wait_for(lambda: look(path).renewed > 1e18)


def test_who_lost_the_lease_is_told_and_leaves_the_others_alone(tmp_path, quick):
    with hold(tmp_path) as held:
        path = write(tmp_path)
        os.utime(path, (1, 1))
        with pytest.raises(Held, match=r"in use by process 7 on elsewhere.*took this process for"):
            held.require()
        time.sleep(4 * lease.RENEW_SECONDS)
        assert look(path).renewed == 10**9
    assert path.exists()
    path.unlink()
    with hold(tmp_path) as held:
        path.unlink()
        with pytest.raises(Held, match="was removed"):
            held.require()


def test_many_at_once_are_inside_one_after_the_other(tmp_path):
    rounds = 60
    done = subprocess.run(
        [sys.executable, "-c", CONTENDERS, tmp_path, str(rounds)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"[-{signal.SIGKILL.value}, 0]\n", done.stderr
    numbers = sorted(map(int, (tmp_path / "done").read_text().split()))
    assert numbers == list(range(rounds))


def test_a_file_system_without_links_will_do(tmp_path, monkeypatch):
    def link(*_args):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with hold(tmp_path) as held:
        held.require()
        with pytest.raises(Held), hold(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_link_whose_success_was_not_told_counts(tmp_path, monkeypatch):
    real = os.link

    def link(*args):
        real(*args)
        raise FileExistsError

    monkeypatch.setattr(os, "link", link)
    with hold(tmp_path) as held:
        held.require()


@on_linux
def test_litter_of_the_dead_is_removed(tmp_path):
    path = write(tmp_path, **own(pid=os.getpid(), began="1"))
    litter = path.rename(f"{path}.draft")
    others = write(tmp_path).rename(f"{path}.other")
    with hold(tmp_path):
        assert not litter.exists()
        assert others.exists()


def test_a_draft_that_nobody_has_touched_for_long_is_removed(tmp_path):
    """Its process may have been killed before it had written its name."""
    path = lease.lease_file(tmp_path)
    old, new = Path(f"{path}.old"), Path(f"{path}.new")
    for draft in (old, new):
        draft.touch()
    long_ago = time.time() - lease.EXPIRY_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    with hold(tmp_path):
        assert not old.exists()
        assert new.exists()


@on_linux
def test_litter_is_removed_by_who_takes_over(tmp_path):
    path = write(tmp_path, **own(pid=os.getpid(), began="1"))  # of a process that is over
    litter = Path(shutil.copy(path, f"{path}.draft"))
    with hold(tmp_path):
        assert not litter.exists()
