"""Damaged input by the thousand: readers and validator may refuse it, and nothing else.

``.venv/bin/python tests/fuzzing.py --inputs 100000`` writes a few genuine configurations in every
format that ``load_cicy4`` reads, damages one of these files at random in every round, and reads it.
A round is passed if the file is read and validated, or refused with the documented errors. Any
other error, a round of more than ten seconds, or memory beyond a limit fails, with the number of
the round: ``--only NUMBER`` repeats it, and leaves its file.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import random
import shutil
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cicy_utils import published, sources
from cicy_utils.data import MAX_ENTRY, Cicy4, load_cicy4
from cicy_utils.kaggle_arrays import CONFIGURATIONS, DIRECT, HODGE
from cicy_utils.published import TEXT_NAME
from cicy_utils.stopwatch import MIB, Memory, peak_memory
from cicy_utils.validation import validate

ENTRIES = 6
SLOWEST = 10.0  # seconds for one input
_HANGS = 120.0  # seconds for a hundred inputs; after that the process ends itself
MEMORY = 512 << 20  # bytes by which the process may grow in the course of it

_TOKENS = (
    b"{", b"}", b",", b"{}", b"{{", b"}}", b"[", b"]", b'"', b"\\", b" ", b"\n", b"\r\n", b"\t",
    b"0", b"-1", b"7", b"256", b"32768", b"999999999999999999999999999", b"1.5", b"1*^9", b"NaN",
    b"Infinity", b"Null", b"True", b"False", b"None", b"__import__('os')", b"f[1, {2}]", b"(*",
    b"*)", b"\x00", b"\xff\xfe", b"\xc3\xa9", b"\xef\xbb\xbf", b"00000000000000000000001",
)  # fmt: skip
_NUMBERS = (np.nan, np.inf, -np.inf, -1.0, 0.3, 1e300, 1.0, 43.0, 300.0, 70000.0)

_NAMES = {"npz": "input.npz"}  # what is told by its name, and not by its content alone
_TYPES = ("f2", "f8", "i1", "u8", "?", "c8", "S3", ">f4", ">i2")


@dataclass(frozen=True)
class Failure:
    """A round that was not passed.

    Attributes:
        number: of the round.
        kind: of the input.
        reason: the error with its traceback, or what was exceeded.
    """

    number: int
    kind: str
    reason: str


def fuzz(
    inputs: int,
    folder: Path,
    *,
    seed: int = 0,
    only: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Counter, list[Failure]]:
    """Read damaged inputs; stops at the tenth failure.

    Args:
        inputs: how many.
        folder: an empty folder for the input of the moment.
        seed: of the damage; round i depends on the seed and on i alone.
        only: do this round and no other.
        say: called with a line of progress now and then.

    Returns:
        How many inputs were "sound", "broken" (some entry breaks a rule) and "refused", and what
        failed.
    """
    kinds = _seeds()
    for content in kinds.values():  # compile, and see that all seeds are sound
        if _read(content, folder / "seed") != "sound":
            raise AssertionError("a genuine input was not accepted")
    outcomes: Counter = Counter()
    failures: list[Failure] = []
    memory = Memory()  # where the system tells: what was taken before does not hide anything
    try:
        for number in range(inputs) if only is None else (only,):
            rng = random.Random(f"{seed}-{number}")
            kind = rng.choice(list(kinds))
            damaged = _damaged(kinds[kind], rng)
            if number % 100 == 0 or only is not None:
                faulthandler.dump_traceback_later(_HANGS, exit=True, file=sys.__stderr__)
            start = time.perf_counter()
            try:
                outcomes[_read(damaged, folder / _NAMES.get(kind, "input"))] += 1
            except Exception:
                failures.append(Failure(number, kind, traceback.format_exc()))
            if (seconds := time.perf_counter() - start) > SLOWEST:
                failures.append(Failure(number, kind, f"it took {seconds:.0f} s"))
            if (grown := memory.peak()) is not None and grown * MIB > MEMORY:
                failures.append(Failure(number, kind, f"memory grew by more than {MEMORY:,} bytes"))
                memory = Memory()
            if len(failures) >= 10:
                break
            if number % 10_000 == 9_999:
                say(f"{number + 1:,} inputs: {dict(outcomes)}, {len(failures)} failures")
    finally:
        faulthandler.cancel_dump_traceback_later()
    return outcomes, failures


def _read(content: bytes | dict[str, bytes], path: Path) -> str:
    """Write an input, read and validate it without and with its broken entries."""
    for stale in path.parent.glob(f"{path.stem}*"):
        if stale.is_dir():
            shutil.rmtree(stale)
        else:
            stale.unlink()
    if isinstance(content, dict):
        path = path.with_suffix(".d")
        path.mkdir()
        for name, data in content.items():
            (path / name).write_bytes(data)
    else:
        path.write_bytes(content)
    try:
        report = validate(sources.read_entries(sources.locate(path)), path)
    except (ValueError, FileNotFoundError) as error:
        _require_sentence(error)
        return "refused"
    if not len(report.faults):
        return "sound"
    try:
        report.require_sound()
    except ValueError as error:
        _require_sentence(error)
    report.text()
    return "broken"


def _require_sentence(error: Exception) -> None:
    """A documented error: made by us, one line, not too long."""
    text = str(error)
    if not isinstance(error, sources.Refused | FileNotFoundError) or error.args != (text,):
        raise error
    if "\n" in text or len(text) > 1000:
        raise AssertionError(f"the message is no sentence: {text!r}")


# ---------------------------------------------------------------------------------------------
# Inputs
# ---------------------------------------------------------------------------------------------


def _seeds() -> dict[str, bytes | dict[str, bytes]]:
    """The same few configurations in every format."""
    small = load_cicy4(subset=2000)
    rows = small.matrices.any(axis=2).sum(axis=1)
    chosen = np.argsort(rows, kind="stable")[np.linspace(0, 1999, ENTRIES).astype(int)]
    data = Cicy4(small.matrices[chosen], small.hodge[chosen], "fuzzing", "stored", "")
    text = io.BytesIO()
    published.write_entries(text, data)
    npz = io.BytesIO()
    np.savez_compressed(npz, matrix=data.matrices, hodge=data.hodge)
    arrays = {
        CONFIGURATIONS: _npy((data.matrices / MAX_ENTRY).astype(np.float32)),
        HODGE: _npy(data.hodge.astype(np.float64)),
        DIRECT: _npy(np.zeros(len(data), bool)),
    }
    return {
        "text": text.getvalue(),
        "zipped text": _zip({TEXT_NAME: text.getvalue()}),
        "npz": npz.getvalue(),
        "arrays": arrays,
        "zipped arrays": _zip(arrays),
    }


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _damaged(content: bytes | dict[str, bytes], rng: random.Random) -> bytes | dict[str, bytes]:
    """Content with a few random changes."""
    if isinstance(content, dict):
        content = dict(content)
        name = rng.choice(list(content))
        if rng.random() < 0.05:
            del content[name]
        elif rng.random() < 0.5:
            content[name] = _other_numbers(content[name], rng)
        else:
            content[name] = _damaged(content[name], rng)
        return content
    if content[:2] == b"PK" and rng.random() < 0.5:
        return _rezipped(content, rng)
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        _change(data, rng)
    return bytes(data)


def _rezipped(content: bytes, rng: random.Random) -> bytes:
    """A sound zip file with damaged members, or with other names."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    data = members.pop(name)
    if rng.random() < 0.2:
        name = rng.choice(("../" + name, "/" + name, "a/" + name, "__MACOSX/" + name, "b.txt", "x"))
    elif name.endswith(".npy") and rng.random() < 0.5:
        data = _other_numbers(data, rng)
    else:
        data = _damaged(data, rng)
    return _zip(members | {name: data})


def _other_numbers(content: bytes, rng: random.Random) -> bytes:
    """An npy file with a few other numbers, another type or another shape."""
    array = np.load(io.BytesIO(content))
    if rng.random() < 0.2:
        array = array[: rng.randrange(len(array) + 1)]
    if rng.random() < 0.2:
        with np.errstate(all="ignore"):
            array = array.astype(rng.choice(_TYPES))
    flat = array.reshape(-1)
    for _ in range(rng.choice((0, 1, 2, 5))):
        if len(flat) and array.dtype.kind in "f":
            with np.errstate(over="ignore"):
                flat[rng.randrange(len(flat))] = rng.choice(_NUMBERS)
        elif len(flat) and array.dtype.kind in "iub":
            flat[rng.randrange(len(flat))] = rng.randrange(128)
    return _npy(array)


def _change(data: bytearray, rng: random.Random) -> None:
    """One change in place: of a byte, of a piece, of an order of things."""
    at = rng.randrange(len(data) + 1)
    until = min(len(data), at + rng.choice((1, 2, 4, 20, 200)))
    change = rng.randrange(8)
    if change == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif change == 1 and at < len(data):
        data[at] = rng.randrange(256)
    elif change == 2:
        del data[at:until]
    elif change == 3:
        data[at:at] = rng.choice(_TOKENS)
    elif change == 4:
        data[at:until] = rng.choice(_TOKENS)
    elif change == 5:
        piece = data[at:until]
        to = rng.randrange(len(data) + 1)
        data[to:to] = piece * rng.choice((1, 1, 1, 50))
    elif change == 6:
        del data[at:]
    elif change == 7:
        data[at:at] = rng.choice((b" ", b"{", b"9", b"\n", b'"')) * rng.choice((10, 1000, 100_000))


def main(arguments: list[str] | None = None) -> int:
    """Fuzz readers and validator; the exit code is 1 if a round failed."""
    parser = argparse.ArgumentParser(prog="python tests/fuzzing.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one round, by its number; its input stays")
    options = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(line, flush=True)

    start = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="cicy4-fuzzing-"))
    rounds = dict(seed=options.seed, only=options.only, say=say)
    try:
        outcomes, failures = fuzz(options.inputs, folder, **rounds)
    finally:
        if options.only is None:
            shutil.rmtree(folder)
    for failure in failures:
        say(f"FAILED in round {failure.number} ({failure.kind}):\n{failure.reason}")
    say(
        f"{sum(outcomes.values()):,} inputs in {time.perf_counter() - start:.0f} s: "
        f"{dict(outcomes)}, {len(failures)} failures, peak memory {peak_memory() / 1e6:.0f} MB"
    )
    if options.only is not None:
        say(f"the input is in {folder}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
