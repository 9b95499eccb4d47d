"""Who may write into a run folder: one process at a time, on this machine or on any other.

A lease is a small file in the folder that names its holder, made by link(2) and therefore by one
process only, on a network file system too. The holder renews its time stamp while it works, and
removes the file when it is done. A lease whose holder died can be taken over:

- on the holder's machine as soon as its process is gone;
- on another machine when nobody has renewed it for ``EXPIRY_SECONDS``. That is watched and timed
  there, so that clocks that differ do not matter. ``require_free`` and ``Seen.is_held``, which
  only look, compare clocks: of machines that share a folder they must agree to a minute.

A holder that was suspended for longer than that may find its lease taken: ``Lease.require`` tells,
and is to be called before anything is overwritten.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from cicy_utils.durations import duration

RENEW_SECONDS = 15.0
EXPIRY_SECONDS = 120.0  # longer than a network file system remembers old time stamps: 60 by default
LOOK_SECONDS = 0.2  # between two looks at a lease that is waited for


class Held(ValueError):
    """Another process is at work on the folder."""


@dataclass(frozen=True)
class Process:
    """A process that nothing else is mistaken for.

    Attributes:
        host: name of its machine, for people.
        machine: tells machines, containers and times since a machine started apart.
        pid: its number there.
        began: its start on the clock of its kernel, since numbers are used again; "" if unknown.
    """

    host: str
    machine: str
    pid: int
    began: str

    @classmethod
    def this(cls) -> Process:
        """The one that asks."""
        pid = os.getpid()
        return cls(socket.gethostname(), this_machine(), pid, (_state(pid) or ("", ""))[1])

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, on this machine, so that ``is_gone`` can be told."""
        return self.machine == this_machine()

    @property
    def is_gone(self) -> bool:
        """Whether it certainly runs no more: known of processes of this machine only."""
        if not self.is_here:
            return False
        state = _state(self.pid)
        return state is None or bool(self.began and state[1] and state[1] != self.began)


@dataclass(frozen=True)
class Seen:
    """A lease as found: its text, who wrote it (None if that cannot be read), its time stamp.

    renewed: nanoseconds, on the clock of the file system.
    """

    text: str
    holder: Process | None
    renewed: int

    @property
    def is_dead(self) -> bool:
        return self.holder is not None and self.holder.is_gone

    @property
    def is_alive(self) -> bool:
        """Whether its process is certainly there."""
        return self.holder is not None and self.holder.is_here and not self.holder.is_gone

    @property
    def age(self) -> float:
        """Seconds since it was renewed, as far as the clocks agree."""
        return max(0.0, time.time() - self.renewed / 1e9)

    @property
    def is_held(self) -> bool:
        """Whether its process is at work; one of another machine, as long as it renews it."""
        return not self.is_dead and (self.is_alive or self.age < EXPIRY_SECONDS)


class Lease:
    """What ``hold`` yields."""

    def __init__(self, folder: Path, name: str):
        self.folder = folder
        self.path = lease_file(folder, name)
        self.text = json.dumps(asdict(Process.this()) | {"token": uuid.uuid4().hex})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease {folder}", daemon=True)

    def require(self) -> None:
        """Make sure that the folder is still this process's own.

        Raises:
            Held: another process has taken the lease over, or somebody removed it.
        """
        found = look(self.path)
        if found is None:
            raise Held(f"{self.path} was removed while its folder was in use; start again")
        if found.text != self.text:
            raise Held(f"{_words(self.folder, found)}: it took this process for dead")

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            # An error may pass; until then the others see that nothing is renewed.
            with contextlib.suppress(OSError):
                if (found := look(self.path)) and found.text == self.text:
                    os.utime(self.path)

    def _start(self) -> None:
        self._thread.start()

    def _release(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        with contextlib.suppress(OSError), _locked(self.path):
            if (found := look(self.path)) and found.text == self.text:
                self.path.unlink()


@contextlib.contextmanager
def hold(folder: Path | str, name: str = "training", *, wait: float = 0.0) -> Iterator[Lease]:
    """Be the only one who does something in a folder, which is made if missing.

    Args:
        folder: of a run.
        name: of what is done; leases of different names do not exclude each other.
        wait: seconds to wait for a holder that is alive.

    Raises:
        Held: another process does it; the message names it. Whether a process of another machine
            is alive is known when it renews its lease, after ``RENEW_SECONDS``, or does not, after
            ``EXPIRY_SECONDS``.
        OSError: the folder cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lease = Lease(folder, name)
    _acquire(lease, wait)
    try:
        lease._start()
        yield lease
    finally:
        lease._release()


def lease_file(folder: Path | str, name: str = "training") -> Path:
    """Where a lease lies."""
    return Path(folder) / f".{name}.lease"


def require_free(folder: Path | str, name: str = "training", *, wait: float = 0.0) -> None:
    """Wait until nobody holds a lease.

    Raises:
        Held: somebody does, after that many seconds.
    """
    end = time.monotonic() + wait
    while (found := look(lease_file(folder, name))) and found.is_held:
        if time.monotonic() > end:
            raise Held(_words(Path(folder), found))
        time.sleep(LOOK_SECONDS)


def look(path: Path) -> Seen | None:
    """A lease as it is now; None where there is none.

    Opening the file makes a network file system ask its server.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text, renewed = file.read(), os.fstat(file.fileno()).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ESTALE:  # removed on another machine while it was read
            return None
        raise
    try:
        values = json.loads(text)
        holder = Process(*(values[key] for key in ("host", "machine", "pid", "began")))
    except (ValueError, KeyError, TypeError):
        holder = None
    return Seen(text, holder, renewed)


@cache
def this_machine() -> str:
    """Where process numbers mean the same: one start of one machine, and one container of it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _acquire(lease: Lease, wait: float) -> None:
    """Make the file of the lease, or take that of a dead one over."""
    started = time.monotonic()
    seen, since = None, started
    while not _create(lease.path, lease.text):
        found, now = look(lease.path), time.monotonic()
        if found is None:
            continue  # released just now
        if seen is None or found.text != seen.text:
            seen, since, renewed = found, now, False
        elif found.renewed != seen.renewed:
            seen, since, renewed = found, now, True
        if found.is_dead or (not found.is_alive and now - since > EXPIRY_SECONDS):
            if _take_over(lease.path, lease.text, found.text):
                return
            continue
        if (found.is_alive or renewed) and now - started >= wait:
            raise Held(f"{_words(lease.folder, found)}; wait for it, or stop it")
        time.sleep(min(LOOK_SECONDS, RENEW_SECONDS / 4))


def _create(path: Path, text: str) -> bool:
    """Make a file with this text, unless there is one: whole from the first moment."""
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        _write(draft, text)
        try:
            os.link(draft, path)
        except FileExistsError:
            # An answer of a network file system may get lost, and the repeated call then fails.
            return draft.stat().st_nlink == 2
        except OSError:  # a file system without links
            try:
                _write(path, text, exclusive=True)
            except FileExistsError:
                return False
        _remove_litter(path)
        return True
    finally:
        draft.unlink(missing_ok=True)


def _take_over(path: Path, text: str, dead: str) -> bool:
    """Replace a dead lease by one's own; False when another process was faster.

    Whoever does so has locked the dead file, and looks again whether it still is the one there.
    """
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        _write(draft, text)
        with _locked(path):
            found = look(path)
            if found is None or found.text != dead:
                return False
            os.replace(draft, path)
        _remove_litter(path)
        return True
    except FileNotFoundError:
        return False
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a file against others who do the same; the lock of a dead process is none."""
    with path.open("r+b") as file:
        with contextlib.suppress(OSError):  # a file system without locks: a moment's risk
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path, text: str, exclusive: bool = False) -> None:
    with path.open("x" if exclusive else "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _remove_litter(path: Path) -> None:
    """Drafts of processes that are gone, or have not touched them for long; they take moments."""
    for draft in path.parent.glob(f"{path.name}.*"):
        with contextlib.suppress(OSError):
            if (found := look(draft)) and not found.is_held:
                draft.unlink()


def _words(folder: Path, seen: Seen) -> str:
    renewed = f"renewed {duration(seen.age)} ago"
    if seen.holder is None:
        return f"{folder} is in use by a process that does not tell its name ({renewed})"
    return f"{folder} is in use by process {seen.holder.pid} on {seen.holder.host} ({renewed})"


def _state(pid: int) -> tuple[str, str] | None:
    """State and start of a process of this machine, ("", "") if not told; None if it is over.

    A process that was killed and whose parent has not looked yet is over.
    """
    try:
        # After the name in brackets, which may hold anything: state, ..., start (the 20th).
        told = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return _ask(pid)
    return None if told[0] in "ZXx" else (told[0], told[19])


def _ask(pid: int) -> tuple[str, str] | None:
    """The same without /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "", ""
