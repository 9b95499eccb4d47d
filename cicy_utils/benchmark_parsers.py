"""How fast the published text is read, beside the usual way with ``ast.literal_eval``."""

from __future__ import annotations

import argparse
import ast
import io
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cicy_utils import published
from cicy_utils.data import SHAPE, load_cicy4
from cicy_utils.stopwatch import in_new_process, interleaved, median, peak_memory


def read_text_with_literal_eval(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The usual way: translate braces, then ``ast.literal_eval`` entry by entry.

    Args:
        path: a text that was written by ``published.write_text``, one entry a line.

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


PARSERS = {"ours": published.read_text, "literal_eval": read_text_with_literal_eval}


def benchmark_parsers(entries: int | None, rounds: int) -> list[dict[str, Any]]:
    """Read the bundled list, written as the published text, in both ways.

    Each reading has a process of its own, and the two parsers take turns.

    Args:
        entries: how many configurations, drawn at random; None for the complete list.
        rounds: how often; medians are reported.

    Returns:
        One dict for each parser ("ours", "literal_eval"): parser, entries, seconds,
        entries_per_second, peak_mb (the memory of its process, in units of 1e6 bytes).
    """
    data = load_cicy4(subset=entries)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / published.TEXT_NAME
        published.write_text(path, data)
        points = {name: {"parser": name, "path": str(path)} for name in PARSERS}
        read = {name: partial(in_new_process, __name__, point) for name, point in points.items()}
        measured = interleaved(read, rounds)
    rows = []
    for name, found in measured.items():
        seconds = median(result["seconds"] for result in found)
        rows.append(
            {
                "parser": name,
                "entries": len(data),
                "seconds": seconds,
                "entries_per_second": len(data) / seconds,
                "peak_mb": median(result["peak_mb"] for result in found),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Read a text in one of two ways and print seconds and memory as JSON."""
    parser = argparse.ArgumentParser(prog="python -m cicy_utils.benchmark_parsers")
    parser.add_argument("--point", type=json.loads, required=True, help="parser and path, as JSON")
    point = parser.parse_args(arguments).point
    published.parse(io.BytesIO(b"{}"), "nothing")  # compile, or load what was compiled before
    start = time.perf_counter()
    PARSERS[point["parser"]](point["path"])
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mb": peak_memory() / 1e6}))


if __name__ == "__main__":
    main()
