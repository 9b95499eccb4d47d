"""Files that are whole or absent.

A file is written under a temporary name beside the final one, flushed to the disk and renamed, so
a crash at any moment leaves either the old file or the new one.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

LITTER_SECONDS = 86_400  # after which nobody writes to a temporary file any more


def write_atomically(path: Path | str, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write(file)`` fill a file that appears at ``path`` only when complete.

    Of several writers at once the last one stays. OSError when it cannot be written; what was there
    then stays.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sweep(path)
    # The rename itself reaches the disk with its folder, which not every system lets one open.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _sweep(path: Path) -> None:
    """Remove what writers of a file that were killed have left: it would stay for ever."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > LITTER_SECONDS:
                left.unlink()


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
