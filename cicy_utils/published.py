"""The published list as a text: ``cicy4list.txt``, or ``cicy4list.zip`` with it.

It is one Mathematica list of entries
``{number, rows, columns, {{degrees}, ...}, chi, product, h11, h21, h31, h22, ...}`` (Gray, Haupt
and Lukas, arXiv 1303.1832 and 1405.2073). The stream is scanned a piece at a time by
:mod:`cicy_utils.scanner` and never evaluated. White space may be anywhere, and what the other
fields hold does not matter as long as it is an expression with matching brackets. Where the
structure ends to be that of such a list, reading ends with the position; a wrong size, degree or
label is noted with the entry, and :mod:`cicy_utils.validation` reports it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cicy_utils.archives import MAX_ENTRIES, MAX_MEMBER_BYTES, Container, Refused, is_zip, open_zip
from cicy_utils.data import SHAPE, Cicy4, crop
from cicy_utils.files import write_atomically
from cicy_utils.relations import euler_from_hodge
from cicy_utils.scanner import FULL, LIST, MAX_ENTRY_BYTES, NOTHING, PROBLEMS, WRONG, scan
from cicy_utils.validation import Entries

TEXT_NAME = "cicy4list.txt"

_CHUNK_BYTES = 1 << 20
_BLOCK = 1 << 15  # entries that are scanned into one set of arrays


def read_text(path: str | Path) -> Entries:
    """The entries of an Oxford text, or of a zip file with one such text.

    Args:
        path: a text file or a zip file.

    Raises:
        FileNotFoundError: there is no such file.
        Refused: the file is no such list; the message says where it stops being one.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with _text_stream(path) as (stream, where):
        return parse(stream, where)


def text_member(container: Container) -> str:
    """The member that is the list: ``cicy4list.txt`` or the only text there is.

    Raises:
        Refused: there is none, or there are several.
    """
    if name := container.find(TEXT_NAME):
        return name
    texts = [name for name in container.names() if name.lower().endswith(".txt")]
    if len(texts) != 1:
        raise Refused(
            f"{container.path} has {len(texts)} texts and none called {TEXT_NAME}; give the text "
            "of the list itself"
        )
    return texts[0]


@contextmanager
def _text_stream(path: Path) -> Iterator[tuple[BinaryIO, str]]:
    if not is_zip(path):
        if path.stat().st_size > MAX_MEMBER_BYTES:
            raise Refused(f"{path} has more than {MAX_MEMBER_BYTES:,} bytes; it is no such list")
        with open(path, "rb") as stream:
            yield stream, str(path)
        return
    with open_zip(path) as archive:
        name = text_member(archive)
        with archive.open(name) as stream:
            yield stream, f"{path}, {name}"


def parse(stream: BinaryIO, where: str) -> Entries:
    """The entries of an Oxford text, read from a stream of bytes.

    Args:
        stream: the text; a mark of UTF-8 at its start is skipped.
        where: its name in messages.

    Raises:
        Refused: the structure is wrong, the text ends too early, or is not in ASCII; the message
            gives entry, line and column.
    """
    buffer = np.empty(_CHUNK_BYTES + MAX_ENTRY_BYTES + 1, np.uint8)
    size = _fill(stream, buffer, 0)
    _require_ascii(buffer[:size], where)
    start = 3 if buffer[:3].tobytes() == b"\xef\xbb\xbf" and size >= 3 else 0
    state = np.array([start, LIST, 1, 0, 0], np.int64)
    blocks: list[tuple[np.ndarray, ...]] = []
    block = _new_block()
    total = 0
    column_base = 1 - start  # column of a byte: its position plus this, on the current line
    while True:
        before, line = int(state[0]), int(state[2])
        result = scan(buffer, size, state, *block)
        position = int(state[0])
        if state[2] > line:
            newline = before + int(np.flatnonzero(buffer[before:position] == 10)[-1])
            column_base = -newline
        if result == WRONG:
            entry = total + int(state[3])
            raise Refused(
                f"{where}, line {state[2]}, column {position + column_base}: in entry {entry} "
                f"(counted from 0) {PROBLEMS[int(state[4])]}; get the file again or mend it there"
            )
        if result == FULL:
            total += len(block[0])
            if total > MAX_ENTRIES:
                raise Refused(
                    f"{where} has more than {MAX_ENTRIES:,} entries; it is no list of four-folds"
                )
            blocks.append(block)
            block = _new_block()
            state[3] = 0
            continue
        rest = size - position
        buffer[:rest] = buffer[position:size]
        column_base += position
        state[0] = 0
        size = _fill(stream, buffer, rest)
        if size == rest:
            break
    count = int(state[3])
    if state[1] != NOTHING:
        raise Refused(
            f"{where}, line {state[2]}: the text ends in or after entry {total + count} (counted "
            "from 0) without the last '}'; it is truncated, get the file again"
        )
    blocks.append(tuple(array[:count] for array in block))
    return _joined(blocks)


def _new_block() -> tuple[np.ndarray, ...]:
    return (
        np.empty((_BLOCK, *SHAPE), np.uint8),
        np.empty((_BLOCK, 4), np.int16),
        np.empty(_BLOCK, np.bool_),
        np.empty((_BLOCK, 4), np.int64),
        np.empty(_BLOCK, np.int64),
        np.empty(_BLOCK, np.int64),
    )


def _joined(blocks: list[tuple[np.ndarray, ...]]) -> Entries:
    """All blocks, each freed once it is copied."""
    total = sum(len(block[0]) for block in blocks)
    joined = [np.empty((total, *array.shape[1:]), array.dtype) for array in blocks[0]]
    stop = total
    while blocks:
        block = blocks.pop()
        start = stop - len(block[0])
        for whole, part in zip(joined, block, strict=True):
            whole[start:stop] = part
        stop = start
    matrices, hodge, product, faults, euler, lines = joined
    return Entries(matrices, hodge, product, faults, euler, lines)


def _fill(stream: BinaryIO, buffer: np.ndarray, start: int) -> int:
    """Read up to a chunk into the buffer from a position on; the new size."""
    view = memoryview(buffer)[start : start + _CHUNK_BYTES]
    return start + (stream.readinto(view) or 0)


def _require_ascii(beginning: np.ndarray, where: str) -> None:
    """Tell other encodings from a merely damaged byte."""
    if beginning[:2].tobytes() in (b"\xff\xfe", b"\xfe\xff") or (beginning[:200] == 0).any():
        raise Refused(
            f"{where} is not in ASCII (it looks like UTF-16 or binary data); give the text of the "
            "list, saved in ASCII or UTF-8"
        )


def write_text(path: str | Path, data: Cicy4) -> None:
    """Write a list in the Oxford format, one entry a line.

    Args:
        path: ``*.txt``, or ``*.zip`` for a zip file with ``cicy4list.txt``.
        data: matrices, padded with zeros wherever, and their Hodge numbers.

    The fields after the Hodge numbers, of which nothing is known, are Null and False.
    """
    path = Path(path)

    def write(file: BinaryIO) -> None:
        if path.suffix != ".zip":
            write_entries(file, data)
            return
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open(TEXT_NAME, "w", force_zip64=True) as member,
        ):
            write_entries(member, data)

    write_atomically(path, write)


def write_entries(file: BinaryIO, data: Cicy4) -> None:
    """Write a list in the Oxford format to a stream; see :func:`write_text`."""
    chi = euler_from_hodge(data.hodge.astype(np.int64)).tolist()
    file.write(b"{")
    for start in range(0, len(data), _BLOCK):
        lines = []
        for index in range(start, min(start + _BLOCK, len(data))):
            matrix = crop(data.matrices[index])
            m, k = matrix.shape
            degrees = str(matrix.tolist()).replace("[", "{").replace("]", "}")
            h11, h21, h31, h22 = data.hodge[index].tolist()
            lines.append(
                f"{{{index + 1}, {m}, {k}, {degrees}, {chi[index]}, False, "
                f"{h11}, {h21}, {h31}, {h22}, Null, False}}"
            )
        before = ",\n" if start else ""
        file.write((before + ",\n".join(lines)).encode("ascii"))
    file.write(b"}\n")
