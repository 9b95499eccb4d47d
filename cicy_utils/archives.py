"""Files that come from elsewhere, opened with limits and without trust.

A folder and a zip file look the same from here: named members, each a stream of bytes with a known
size. Nothing is unpacked to disk, nothing is unpickled, and nothing is allocated because a file
says so: sizes are compared with limits first. NumPy arrays are read as a stream too, and only
arrays of plain numbers.
"""

from __future__ import annotations

import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

MAX_MEMBER_BYTES = 4 << 30  # of one member, unpacked: conf.npy as float64 has 2.4 GB
MAX_MEMBERS = 1000
MAX_ENTRIES = 2_000_000  # of a list; the published one has 921,497
CHUNK = 4096  # entries of an array that are read at once
_MAX_DIRECTORY = 4 << 20  # bytes that describe the members of a zip file
_MAX_HEADER = 10_000  # bytes before the numbers of an npy file
_MAX_AXES = 5
_CHUNK_BYTES = 1 << 20

# What zipfile and the decompressors raise for damaged input.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,  # an unknown way of compression
    RuntimeError,  # an encrypted member
    UnicodeDecodeError,
    ValueError,
    OverflowError,
    IndexError,
)


class Refused(ValueError):
    """A file was refused; the message is one sentence that says what, where and what to do."""


class Container:
    """A folder or a zip file with named members.

    Attributes:
        path: where it is.
    """

    path: Path

    def names(self) -> list[str]:
        """The names of all members, with folders inside a zip file in front."""
        raise NotImplementedError

    def size(self, name: str) -> int:
        """Number of bytes of a member, as the container states it."""
        raise NotImplementedError

    def open(self, name: str) -> BinaryIO:
        """The bytes of a member."""
        raise NotImplementedError

    def find(self, base: str) -> str | None:
        """The one member whose name is ``base`` in whatever folder, or None.

        Raises:
            Refused: there are several.
        """
        found = [name for name in self.names() if PurePosixPath(name).name == base]
        if len(found) > 1:
            raise Refused(
                f"{self.path} has several members called {base} ({', '.join(sorted(found)[:3])}); "
                "leave one"
            )
        return found[0] if found else None


class Folder(Container):
    """The files of a folder, without those of its subfolders."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return sorted(child.name for child in self.path.iterdir() if child.is_file())

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def open(self, name: str) -> BinaryIO:
        return open(self.path / name, "rb")


class ZipArchive(Container):
    """The members of a zip file; see :func:`open_zip`."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path = path
        self._archive = archive
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise Refused(
                f"{path} has {len(members):,} members and may have {MAX_MEMBERS:,}; it is no list"
            )
        for member in members:
            _require_harmless(path, member)
        # macOS adds a folder with a shadow of every member
        members = [
            member
            for member in members
            if not member.is_dir() and not member.filename.startswith("__MACOSX/")
        ]
        self._members = {member.filename: member for member in members}
        if len(self._members) < len(members):
            raise Refused(f"{path} has two members of one name; keep the one that is meant")

    def names(self) -> list[str]:
        return list(self._members)

    def size(self, name: str) -> int:
        return self._members[name].file_size

    def open(self, name: str) -> BinaryIO:
        with _damage_is_refused(self.path):
            return _Member(self._archive.open(self._members[name]), self.path)


class _Member(io.RawIOBase):
    """The stream of a member, which refuses damaged content when it comes to it."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        with _damage_is_refused(self._path):
            return self._stream.readinto(buffer)

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Bounded(io.BufferedReader):
    """A file that refuses to be read in one piece larger than a directory of members may be.

    zipfile reads that directory, whose size the file itself states, at once.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        limit = _MAX_DIRECTORY + 1
        content = super().read(limit if size is None or size < 0 else min(size, limit))
        if len(content) == limit:
            raise zipfile.BadZipFile("its directory of members is too large")
        return content


@contextmanager
def open_zip(path: Path) -> Iterator[ZipArchive]:
    """A zip file whose members have harmless names and sizes.

    Raises:
        Refused: the file is damaged, or has a member with an absolute name, with ``..`` in its
            name, encrypted, compressed in another way than deflate, or larger than 4 GiB; while
            members are read, too.
    """
    with _Bounded(io.FileIO(path)) as file:
        with _damage_is_refused(path):
            archive = zipfile.ZipFile(file)
        with archive:
            yield ZipArchive(path, archive)


@contextmanager
def _damage_is_refused(path: Path) -> Iterator[None]:
    try:
        yield
    except _ZIP_ERRORS as error:
        raise Refused(
            f"{path} is a damaged or truncated zip file ({_one_line(error)}); fetch it again"
        ) from error


def is_zip(path: Path) -> bool:
    """Whether a file begins like a zip file."""
    with open(path, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _require_harmless(path: Path, member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    shown = ascii(name[:80])
    parts = re.split(r"[/\\]", name)
    if ".." in parts or name.startswith(("/", "\\")) or ":" in name or "\0" in name:
        raise Refused(
            f"{path}: the name of its member {shown} points outside the archive; "
            "get the file from a source you trust"
        )
    if member.flag_bits & 0x1:
        raise Refused(f"{path}: its member {shown} is encrypted; unpack it and give the file")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(
            f"{path}: its member {shown} is not compressed by deflate; unpack it and give the file"
        )
    if member.file_size > MAX_MEMBER_BYTES:
        raise Refused(
            f"{path}: its member {shown} unpacks to {member.file_size:,} bytes, more than the "
            f"{MAX_MEMBER_BYTES:,} allowed; it is no list of four-folds"
        )


# ---------------------------------------------------------------------------------------------
# NumPy arrays
# ---------------------------------------------------------------------------------------------

_NPY_HEADER = re.compile(
    rb"\{'descr': '([^']{1,20})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\),? ?\} *\n"
)
_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


@dataclass(frozen=True)
class NpyHeader:
    """What an npy file says of itself.

    Attributes:
        dtype: of plain numbers.
        shape: of the array, in C order.
        where: file and member, for messages.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    where: str


@contextmanager
def read_npy(
    container: Container, name: str
) -> Iterator[tuple[NpyHeader, Iterator[tuple[int, np.ndarray]]]]:
    """An array of plain numbers from an npy file, as a stream.

    The header is matched, not evaluated, and an array of Python objects is refused before anything
    of it is read.

    Args:
        container: the folder or zip file.
        name: the member.

    Returns:
        In a ``with`` statement: the header, and one after the other the arrays of up to ``CHUNK``
        entries of the first axis, each after the number of its first; they share their memory.

    Raises:
        Refused: the file is damaged, truncated, too large, or holds something else; by the
            iterator, too.
    """
    where = f"{container.path}, {name}"
    with container.open(name) as stream:
        header, used = _read_header(stream, where)
        _check_size(header, container.size(name) - used)
        yield header, _read_chunks(stream, header)


def _read_header(stream: BinaryIO, where: str) -> tuple[NpyHeader, int]:
    start = stream.read(12)
    if start[:6] != b"\x93NUMPY" or len(start) < 12 or start[6] not in (1, 2, 3):
        raise Refused(f"{where} is not an npy file; save the array with numpy.save")
    before = 10 if start[6] == 1 else 12
    length = int.from_bytes(start[8:before], "little")
    if length > _MAX_HEADER:
        raise Refused(f"{where} has a header of {length:,} bytes; save it with numpy.save")
    text = start[before:] + stream.read(max(length - (12 - before), 0))
    found = _NPY_HEADER.fullmatch(text)
    if len(text) != length or not found:
        raise Refused(f"{where} has a damaged header; fetch it again or save it with numpy.save")
    kind = found[1].decode("ascii", "replace")
    if "O" in kind:
        raise Refused(
            f"{where} holds Python objects (a pickle, which can run code) and was not read; "
            "save an array of plain numbers"
        )
    if not _NUMBERS.fullmatch(kind):
        raise Refused(f"{where} has the type {kind!a}; save an array of plain numbers")
    if found[2] == b"True":
        raise Refused(f"{where} is in Fortran order; save it after numpy.ascontiguousarray")
    shape = tuple(int(number) for number in found[3].replace(b" ", b"").split(b",") if number)
    return NpyHeader(np.dtype(kind), shape, where), before + length


def _check_size(header: NpyHeader, size: int) -> None:
    entries = header.shape[0] if header.shape else 0
    if not 1 <= len(header.shape) <= _MAX_AXES or entries > MAX_ENTRIES:
        raise Refused(
            f"{header.where} has the shape {header.shape}; it needs one axis for its entries, of "
            f"which it may have {MAX_ENTRIES:,}"
        )
    expected = header.dtype.itemsize
    for axis in header.shape:
        expected *= axis
    if size != expected:
        raise Refused(
            f"{header.where} holds {size:,} bytes of numbers where {header.dtype} {header.shape} "
            f"needs {expected:,}; the file is damaged or truncated, fetch it again"
        )


def _read_chunks(stream: BinaryIO, header: NpyHeader) -> Iterator[tuple[int, np.ndarray]]:
    entries, *rest = header.shape
    buffer = np.empty((min(CHUNK, entries), *rest), header.dtype)
    for start in range(0, entries, CHUNK):
        part = buffer[: entries - start]
        fill(stream, part, header.where)
        yield start, part
    # a zip file compares its own checksum only when it has been read to the end
    if stream.read(1):
        raise Refused(f"{header.where} goes on after its last number; fetch it again")


def fill(stream: BinaryIO, array: np.ndarray, where: str) -> None:
    """Read the bytes of a contiguous array, all of it.

    Raises:
        Refused: the stream ends before.
    """
    if not array.size:
        return
    view = memoryview(array.reshape(-1).view(np.uint8))
    done = 0
    while done < len(view):
        count = stream.readinto(view[done : done + _CHUNK_BYTES])
        if not count:
            raise Refused(f"{where} ends too early; the file is damaged, fetch it again")
        done += count


def _one_line(error: BaseException) -> str:
    text = " ".join(ascii(str(error))[1:-1].split())
    return text[:200] or type(error).__name__
