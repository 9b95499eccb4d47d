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

import argparse
import ast
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cicy_utils.archives import MAX_ENTRIES, MAX_MEMBER_BYTES, Container, Refused, is_zip, open_zip
from cicy_utils.data import SHAPE, Cicy4
from cicy_utils.scanner import FULL, LIST, MAX_ENTRY_BYTES, NOTHING, PROBLEMS, WRONG, scan
from cicy_utils.validation import Entries
from cicy_utils.verification import euler_from_hodge

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
        data: matrices padded with zeros at the end, and their Hodge numbers.

    The fields after the Hodge numbers, of which nothing is known, are Null and False.
    """
    from cicy_utils.checkpoint import write_atomically  # brings torch

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
    rows = data.matrices.any(axis=2).sum(axis=1).tolist()
    columns = data.matrices.any(axis=1).sum(axis=1).tolist()
    chi = euler_from_hodge(data.hodge.astype(np.int64)).tolist()
    file.write(b"{")
    for start in range(0, len(data), _BLOCK):
        lines = []
        for index in range(start, min(start + _BLOCK, len(data))):
            m, k = rows[index], columns[index]
            matrix = str(data.matrices[index, :m, :k].tolist())
            matrix = matrix.replace("[", "{").replace("]", "}")
            h11, h21, h31, h22 = data.hodge[index].tolist()
            lines.append(
                f"{{{index + 1}, {m}, {k}, {matrix}, {chi[index]}, False, "
                f"{h11}, {h21}, {h31}, {h22}, Null, False}}"
            )
        before = ",\n" if start else ""
        file.write((before + ",\n".join(lines)).encode("ascii"))
    file.write(b"}\n")


# ---------------------------------------------------------------------------------------------
# Speed
# ---------------------------------------------------------------------------------------------


def read_text_with_literal_eval(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The usual way, for comparison: translate braces, then ``ast.literal_eval`` entry by entry.

    Args:
        path: a text that was written by :func:`write_text`, one entry a line.

    Returns:
        uint8 (N, 16, 20) and int16 (N, 4). Nothing is checked.
    """
    text = Path(path).read_text(encoding="ascii").strip()[1:-1]
    lines = text.replace("{", "[").replace("}", "]").replace("Null", "None").splitlines()
    matrices = np.zeros((len(lines), *SHAPE), np.uint8)
    hodge = np.empty((len(lines), 4), np.int16)
    for index, line in enumerate(lines):
        entry = ast.literal_eval(line.rstrip(","))
        matrix = np.array(entry[3])
        matrices[index, : matrix.shape[0], : matrix.shape[1]] = matrix
        hodge[index] = entry[6:10]
    return matrices, hodge


def time_parsers(entries: int | None, rounds: int) -> list[dict]:
    """Time :func:`read_text` beside the usual way, on the bundled list in the Oxford format.

    Each reading has a process of its own, and the two parsers take turns.

    Args:
        entries: how many configurations, drawn at random; None for the complete list.
        rounds: how often; medians are reported.

    Returns:
        One dict for each parser ("ours", "literal_eval"): parser, entries, seconds,
        entries_per_second, peak_mb (the memory of its process, in units of 1e6 bytes).
    """
    from cicy_utils.data import load_cicy4

    data = load_cicy4(subset=entries)
    found: dict[str, list[dict]] = {name: [] for name in _PARSERS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / TEXT_NAME
        write_text(path, data)
        for _ in range(rounds):
            for name, results in found.items():
                finished = subprocess.run(
                    [sys.executable, "-m", "cicy_utils.published", name, str(path)],
                    capture_output=True,
                    text=True,
                    check=True,
                )
                results.append(json.loads(finished.stdout))
    rows = []
    for name, results in found.items():
        seconds = float(np.median([result["seconds"] for result in results]))
        rows.append(
            {
                "parser": name,
                "entries": len(data),
                "seconds": seconds,
                "entries_per_second": len(data) / seconds,
                "peak_mb": float(np.median([result["peak_mb"] for result in results])),
            }
        )
    return rows


_PARSERS = {"ours": read_text, "literal_eval": read_text_with_literal_eval}


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main(arguments: list[str] | None = None) -> None:
    """Read an Oxford text in one of two ways and print seconds and memory as JSON."""
    parser = argparse.ArgumentParser(prog="python -m cicy_utils.published")
    parser.add_argument("parser", choices=_PARSERS)
    parser.add_argument("path", type=Path)
    options = parser.parse_args(arguments)
    read = _PARSERS[options.parser]
    if read is read_text:
        parse(io.BytesIO(b"{}"), "nothing")  # compile, or load what was compiled before
    start = time.perf_counter()
    read(options.path)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mb": peak_memory() / 1e6}))


if __name__ == "__main__":
    main()
