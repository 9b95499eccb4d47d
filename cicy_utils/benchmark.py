"""Every claim about speed, measured beside its alternative in one run.

``python -m cicy_utils.benchmark`` times the Euler and Hodge numbers of the complete list, compiled
and on one core, interleaved with the same functions in plain Python (numba switched off, on a
sample), and prints one table. Ratios of one run mean something; single times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cicy_utils.data import load_cicy4
from cicy_utils.records import environment
from cicy_utils.topology import euler_numbers_batch, hodge_numbers_batch

FUNCTIONS = {"Hodge numbers": hodge_numbers_batch, "Euler numbers": euler_numbers_batch}
SAMPLE_SEED = 0


def benchmark_topology(rounds: int, plain_sample: int, subset: int | None) -> pd.DataFrame:
    """Time the exact topology, compiled and in plain Python, in alternation.

    Args:
        rounds: how often; medians are reported.
        plain_sample: configurations that plain Python computes in each round.
        subset: configurations that the compiled functions compute; None for the complete list.

    Returns:
        One row per quantity: configurations, seconds (compiled, median), least and most
        (over the rounds), us_each (compiled), plain_us_each, ratio (plain over compiled, each).
    """
    matrices = load_cicy4(subset=subset, subset_seed=SAMPLE_SEED).matrices
    for function in FUNCTIONS.values():
        function(matrices[:10])  # compile, or load what was compiled before
    compiled = {name: [] for name in FUNCTIONS}
    plain = {name: [] for name in FUNCTIONS}
    for _ in range(rounds):
        for name, seconds in _time_in_plain_python(plain_sample).items():
            plain[name].append(seconds / plain_sample)
        for name, seconds in _time(matrices).items():
            compiled[name].append(seconds)
    rows = []
    for name in FUNCTIONS:
        seconds = float(np.median(compiled[name]))
        each, plain_each = seconds / len(matrices), float(np.median(plain[name]))
        rows.append(
            {
                "quantity": name,
                "configurations": len(matrices),
                "seconds": seconds,
                "least": min(compiled[name]),
                "most": max(compiled[name]),
                "us_each": 1e6 * each,
                "plain_us_each": 1e6 * plain_each,
                "ratio": plain_each / each,
            }
        )
    return pd.DataFrame(rows)


def _time(matrices: np.ndarray) -> dict[str, float]:
    """Seconds that each function takes for all matrices."""
    seconds = {}
    for name, function in FUNCTIONS.items():
        start = time.perf_counter()
        function(matrices)
        seconds[name] = time.perf_counter() - start
    return seconds


def _time_in_plain_python(sample: int) -> dict[str, float]:
    """The same in a new process with numba switched off, on a random sample of the list."""
    finished = subprocess.run(
        [sys.executable, "-m", "cicy_utils.benchmark", "--plain", str(sample)],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(finished.stdout)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark, print its table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m cicy_utils.benchmark", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain-sample", type=int, default=300)
    parser.add_argument("--subset", type=int, help="configurations; default: the complete list")
    parser.add_argument("--output", type=Path, help="a JSON file for table and machine")
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)

    if options.plain:
        # Machine integers that wrap around are meant to: they are hashes.
        warnings.filterwarnings("ignore", message="overflow encountered", category=RuntimeWarning)
        sample = load_cicy4(subset=options.plain, subset_seed=SAMPLE_SEED)
        print(json.dumps(_time(sample.matrices)))
        return

    table = benchmark_topology(options.rounds, options.plain_sample, options.subset)
    here = environment()
    machine = {
        "processor": here["processor"],
        "Python": here["python"],
        "numba": here["packages"]["numba"],
        "rounds": options.rounds,
    }
    content = {"machine": machine, "topology": table.to_dict(orient="records")}
    print(markdown(content))
    if options.output:
        options.output.write_text(json.dumps(content, indent=1) + "\n")


def markdown(content: dict[str, Any]) -> str:
    """The table of a benchmark as Markdown, from what ``--output`` wrote."""
    machine = ", ".join(f"{key}: {value}" for key, value in content["machine"].items())
    lines = [
        f"Medians; {machine}.",
        "",
        "| exact, compiled, one core | configurations | seconds | µs each | plain Python, µs each "
        "| ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in content["topology"]:
        lines.append(
            f"| {row['quantity']} | {row['configurations']:,} | {row['seconds']:.1f} | "
            f"{row['us_each']:.1f} | {row['plain_us_each']:,.0f} | {row['ratio']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
