"""Files that are whole or absent.

A file is written under a temporary name beside the final one, flushed to the disk and renamed, so
a crash at any moment leaves either the old file or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path | str, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write(file)`` fill a file that appears at ``path`` only when complete.

    Its folder is made if missing. Several writers take turns, and the last one stays. OSError when
    it cannot be written; what was there then stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")  # one name: a killed write leaves no litter
    with _alone(temporary) as file:
        try:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    # The rename itself reaches the disk with its folder, which not every system lets one open.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def checksum(path: Path | str) -> str:
    """sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """An empty file that no other writer has open; the lock of a killed one is none."""
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
            with contextlib.suppress(OSError):  # a file system without locks: a moment's risk
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is(file, path):
                file.truncate()
                yield file
                return
        # Meanwhile another has put it in its place: that is no temporary file any more.


def _is(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_text(path: Path | str, text: str) -> None:
    """The same for a text, in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))


def read_json(path: Path | str) -> Any:
    """What a JSON file holds; None where there is none or it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def require_writable(folder: Path) -> None:
    """Make a folder, and make sure that files can be written there.

    Raises:
        ValueError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise ValueError(
            f"nothing can be written into {folder} ({error.strerror}); make it writable and see "
            "that its disk has room, or use another clone"
        ) from error


def require_room(folder: Path, size: float) -> None:
    """Make sure that as many bytes can be written into a folder.

    Raises:
        ValueError: they cannot.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ValueError(
            f"results may take {size / 1e6:,.0f} MB, and the disk of {folder} has "
            f"{free / 1e6:,.0f} MB left; make room, or use a clone on another disk"
        )
