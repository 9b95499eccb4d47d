"""Every claim about speed, measured beside its alternative in one run.

``python -m cicy_utils.benchmark`` times training and prediction beside the usual way of writing
them (see `cicy_utils.benchmark_training`), on the CPU and on a GPU where there is one; loading the
list; its exact topology beside the same functions in plain Python, and by workers of a Dask cluster
on this machine (see `cicy_utils.benchmark_cluster`); the search that rebuilds it; the parser of the
published file beside ``ast.literal_eval``; and how the cost grows. Alternatives are
measured in alternation and medians are reported: ratios of one run mean something, while single
times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cicy_utils import benchmark_training
from cicy_utils.benchmark_training import Sizes
from cicy_utils.data import load_cicy4
from cicy_utils.durations import duration
from cicy_utils.files import write_text
from cicy_utils.markdown import markdown_table
from cicy_utils.provenance import environment
from cicy_utils.stopwatch import Memory, exponent, in_new_process, interleaved, median, seconds

# Exact parts are imported where they are measured: networks can be on a machine without numba.
MODULE = "cicy_utils.benchmark"
SAMPLE_SEED = 0
QUICK = "quick, with sizes too small to claim anything"
DASH = "–"


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        rounds: of whatever is compared; medians are reported.
        subset: configurations for the compiled topology; None for the complete list.
        plain_sample: configurations for the topology in plain Python.
        dimensions: of the enumerations.
        labels: configurations whose numbers are computed by workers of a cluster.
        entries: of the list written as the published file, for the parsers.
        growth: numbers of configurations for the Hodge numbers.
        training: sizes by kind of device.
    """

    rounds: int
    subset: int | None
    plain_sample: int
    labels: int
    dimensions: tuple[int, ...]
    entries: int
    growth: tuple[int, ...]
    training: dict[str, Sizes]


FULL = Plan(
    rounds=3,
    subset=200_000,
    plain_sample=300,
    labels=100_000,
    dimensions=(3,),
    entries=30_000,
    growth=benchmark_training.EVERY_SIZE,
    training=benchmark_training.FULL,
)
SMALL = Plan(
    rounds=1,
    subset=1000,
    plain_sample=10,
    labels=1000,
    dimensions=(3,),
    entries=300,
    growth=(1000, 4000),
    training=benchmark_training.QUICK,
)


def benchmark_loading(rounds: int) -> list[dict[str, Any]]:
    """Loading the complete list in a new process, in seconds and MiB."""
    found = [in_new_process(MODULE, {"what": "loading"}) for _ in range(rounds)]
    return [
        {
            "quantity": "load_cicy4()",
            "configurations": found[0]["configurations"],
            "seconds": median(one["seconds"] for one in found),
            "mib": median(one["mib"] for one in found),
        }
    ]


def benchmark_topology(rounds: int, plain_sample: int, subset: int | None) -> list[dict[str, Any]]:
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
    _time_topology(matrices[:10])  # compile, or load what was compiled before
    plain = {"what": "topology", "configurations": plain_sample}
    found = interleaved(
        {
            "plain": lambda: in_new_process(MODULE, plain, NUMBA_DISABLE_JIT="1"),
            "compiled": lambda: _time_topology(matrices),
        },
        rounds,
    )
    rows = []
    for name in found["compiled"][0]:
        compiled = [one[name] for one in found["compiled"]]
        each = median(compiled) / len(matrices)
        plain_each = median(one[name] for one in found["plain"]) / plain_sample
        rows.append(
            {
                "quantity": name,
                "configurations": len(matrices),
                "seconds": median(compiled),
                "least": min(compiled),
                "most": max(compiled),
                "us_each": 1e6 * each,
                "plain_us_each": 1e6 * plain_each,
                "ratio": plain_each / each,
            }
        )
    return rows


def benchmark_enumeration(dimensions: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Rebuild lists of configurations from nothing; that of dimension 4 once, as it takes long.

    Its memory, too: what a list of dimension 3 takes, the one before has left.
    """
    from cicy_utils.enumeration import enumerate_configurations

    enumerate_configurations(3)  # compile, or load what was compiled before
    rows = []
    for dimension in dimensions:
        memory, times, found = Memory(), [], np.empty(0)
        for _ in range(rounds if dimension == 3 else 1):
            start = time.perf_counter()
            found = enumerate_configurations(dimension)
            times.append(time.perf_counter() - start)
        rows.append(
            {
                "dimension": dimension,
                "configurations": len(found),
                "seconds": median(times),
                "mib": memory.peak() if dimension > 3 else None,
            }
        )
    return rows


def benchmark_growth(plan: Plan, rounds: int, notes: list[str]) -> Iterator[dict[str, Any]]:
    """How the cost grows, see ``benchmark_training.benchmark_growth``; that of topology too."""
    yield from benchmark_training.benchmark_growth(plan.training, rounds, notes)
    points = [{"what": "Hodge numbers", "configurations": n} for n in plan.growth]
    yield benchmark_training.growth("cpu", "Hodge numbers", "configurations", points, rounds, notes)


def benchmark_cluster(labels: int, rounds: int, notes: list[str]) -> list[dict[str, Any]]:
    """See ``benchmark_cluster.benchmark_cluster``."""
    from cicy_utils import benchmark_cluster

    return benchmark_cluster.benchmark_cluster(labels, rounds, notes)


def benchmark_parsers(entries: int, rounds: int) -> list[dict[str, Any]]:
    """See ``benchmark_parsers.benchmark_parsers``."""
    from cicy_utils import benchmark_parsers

    return benchmark_parsers.benchmark_parsers(entries, rounds)


def _time_topology(matrices: np.ndarray) -> dict[str, float]:
    """Seconds that one thread takes for all matrices, by function."""
    from cicy_utils.topology import euler_numbers_batch, hodge_numbers_batch

    functions = {"Hodge numbers": hodge_numbers_batch, "Euler numbers": euler_numbers_batch}
    with ThreadPoolExecutor(1) as one:
        return {
            name: seconds(lambda f=f: f(matrices, executor=one)) for name, f in functions.items()
        }


def _loading_point(_point: dict[str, Any]) -> dict[str, Any]:
    memory, start = Memory(), time.perf_counter()
    data = load_cicy4()
    took = time.perf_counter() - start
    return {"configurations": len(data), "seconds": took, "mib": memory.peak()}


def _topology_point(point: dict[str, Any]) -> dict[str, float]:
    # Machine integers that wrap around are meant to: they are hashes.
    warnings.filterwarnings("ignore", message="overflow encountered", category=RuntimeWarning)
    sample = load_cicy4(subset=point["configurations"], subset_seed=SAMPLE_SEED)
    return _time_topology(sample.matrices)


def _hodge_point(point: dict[str, Any]) -> dict[str, Any]:
    from cicy_utils.topology import hodge_numbers_batch

    matrices = load_cicy4(subset=point["configurations"], subset_seed=SAMPLE_SEED).matrices
    hodge_numbers_batch(matrices[:10])  # load what was compiled before
    memory = Memory()
    with ThreadPoolExecutor(1) as one:
        took = seconds(lambda: hodge_numbers_batch(matrices, executor=one))
    return {"seconds": took, "mib": memory.peak(), "notes": []}


# What is measured in processes of their own.
POINTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "loading": _loading_point,
    "topology": _topology_point,
    "Hodge numbers": _hodge_point,
    "epoch": benchmark_training.epoch_point,
}


def run(
    plan: Plan,
    parts: Sequence[str],
    *,
    quick: bool = False,
    keep: Callable[[dict[str, Any]], object] = lambda _: None,
) -> dict[str, Any]:
    """Measure these of ``PARTS``; the result is what ``markdown`` shows and ``--output`` writes.

    keep: called with what there is after each row, so that a machine that is taken away takes the
    row at work only.
    """
    notes: list[str] = []
    sizes, rounds = plan.training, plan.rounds
    measures = {
        "training": lambda: benchmark_training.benchmark_training(sizes, rounds, notes),
        "steps": lambda: benchmark_training.benchmark_steps(sizes, rounds, notes),
        "graph": lambda: benchmark_training.benchmark_graph(sizes, rounds, notes),
        "optimizers": lambda: benchmark_training.benchmark_optimizers(sizes, rounds, notes),
        "inference": lambda: benchmark_training.benchmark_inference(sizes, rounds),
        "loading": lambda: benchmark_loading(rounds),
        "topology": lambda: benchmark_topology(rounds, plan.plain_sample, plan.subset),
        "cluster": lambda: benchmark_cluster(plan.labels, rounds, notes),
        "enumeration": lambda: benchmark_enumeration(plan.dimensions, rounds),
        "parser": lambda: benchmark_parsers(plan.entries, rounds),
        "growth": lambda: benchmark_growth(plan, rounds, notes),
    }
    here = environment()
    machine = {
        "processor": here["processor"],
        "cores": here["cores"],
        "GPU": here["gpu"] or "none",
        "Python": here["python"],
        "PyTorch": here["packages"]["torch"],
        "numba": here["packages"]["numba"],
        "rounds": rounds,
    }
    if quick:
        machine = {"sizes": QUICK} | machine
    content: dict[str, Any] = {"machine": machine}
    start = time.perf_counter()
    for part in parts:
        print(f"{time.perf_counter() - start:5.0f} s  {part}", file=sys.stderr, flush=True)
        content[part] = []
        for row in measures[part]():
            content[part].append(row)
            keep(content | {"notes": notes})
    return content | {"notes": notes}


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark, print its tables, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m cicy_utils.benchmark", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="a minute, to see that it works")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
                        help=f"some parts only: {', '.join(PARTS)}")  # fmt: skip
    parser.add_argument("--device", choices=("cpu", "cuda"),
                        help="train and predict there only; else on all there are")  # fmt: skip
    parser.add_argument("--dimension-4", action="store_true",
                        help="also rebuild the list of four-folds: minutes more")  # fmt: skip
    parser.add_argument("--output", type=Path, help="a JSON file for tables and machine")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.point:
        point = json.loads(options.point)
        print(json.dumps(POINTS[point["what"]](point)))
        return

    plan = SMALL if options.quick else FULL
    if options.device:
        if options.device not in benchmark_training.available_devices():
            parser.error("PyTorch sees no GPU here; `bash run_all.sh doctor` tells why")
        plan = replace(plan, training={options.device: plan.training[options.device]})
    if options.dimension_4:
        plan = replace(plan, dimensions=(3, 4))

    def write(content: dict[str, Any]) -> None:
        if options.output:
            write_text(options.output, json.dumps(content, indent=1) + "\n")

    content = run(plan, options.only, quick=options.quick, keep=write)
    write(content)
    print(markdown(content))


def markdown(content: dict[str, Any]) -> str:
    """The tables of a benchmark as Markdown, from what ``--output`` wrote."""
    machine = ", ".join(f"{key}: {value}" for key, value in content["machine"].items())
    lines = [f"Medians; {machine}.", *(f"Note: {note}." for note in content.get("notes", []))]
    for part, columns in PARTS.items():
        if content.get(part):
            lines += ["", _table(columns, content[part])]
    return "\n".join(lines)


def _joined(values: list[float | None], form: str) -> str:
    return " / ".join(DASH if value is None else format(value, form) for value in values)


@dataclass(frozen=True)
class Column:
    """One column of a table: its head, and what a row (of all rows) shows in it."""

    head: str
    show: Callable[[dict[str, Any], list[dict[str, Any]]], str]
    is_word: bool = False


def _word(head: str, key: str, form: str = "{}") -> Column:
    return Column(head, lambda row, _: form.format(row[key]), is_word=True)


def _number(head: str, key: str, form: str) -> Column:
    return Column(head, lambda row, _: _joined([row[key]], form))


def _numbers(head: str, key: str, form: str) -> Column:
    return Column(head, lambda row, _: _joined(row[key], form))


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.0f} %"


def _over_slowest(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    rates = [one["entries_per_second"] for one in rows]
    return f"{row['entries_per_second'] / min(rates):.1f}"


def _powers(key: str, row: dict[str, Any], _rows: list[dict[str, Any]]) -> str:
    """The exponent of all points, and of the last two, where what does not grow matters less."""
    sizes, values = row["sizes"], row[key]
    fits = exponent(sizes, values), exponent(sizes[-2:], values[-2:])
    return f"{_joined(fits[:1], '.2f')} ({_joined(fits[1:], '.2f')})"


_DEVICE, _PRECISION = _word("device", "device"), _word("precision", "precision")
_BATCH = _number("batch", "batch_size", ",")
_CONFIGURATIONS = _number("configurations", "configurations", ",")
_SECONDS = _number("seconds", "seconds", ".1f")
_MIB = _number("MiB", "mib", ",.0f")
_BESIDE = (
    _number("usual, per second", "usual", ",.0f"),
    _number("ours, per second", "ours", ",.0f"),
    _number("ratio", "ratio", ".2f"),
    Column("share of peak", lambda row, _: _percent(row["share_of_peak"])),
)
_STEPS = f"steps of {benchmark_training.MAIN_MODEL}, batch {benchmark_training.PAPER_BATCH}"
_GRAPH = f"steps of {benchmark_training.GRAPH_MODEL}, batch {benchmark_training.PAPER_BATCH}"
_RATE = _number("per second", "rate", ",.0f")
_GAIN = (_RATE, _number("gain", "gain", ".2f"))
_RATIO = (_RATE, _number("ratio to the row above", "gain", ".2f"))

# What can be measured, and the columns of its table.
PARTS = {
    "training": (
        _word("training", "model"),
        _DEVICE,
        _PRECISION,
        _BATCH,
        *_BESIDE,
        Column("epoch of the full list", lambda row, _: duration(row["epoch_seconds"])),
        _number("usual, MiB", "usual_mib", ",.0f"),
        _number("ours, MiB", "ours_mib", ",.0f"),
    ),
    "steps": (
        _word(f"{_STEPS}, each row with one thing more", "variant"),
        _DEVICE,
        _PRECISION,
        *_GAIN,
    ),
    "graph": (_word(f"{_GRAPH}, with", "variant"), _DEVICE, _PRECISION, *_GAIN),
    "optimizers": (
        _word(f"steps, batch {benchmark_training.PAPER_BATCH}", "model"),
        _word("optimizer", "variant"),
        _DEVICE,
        _PRECISION,
        *_RATIO,
    ),
    "inference": (_word("prediction", "model"), _DEVICE, _BATCH, *_BESIDE),
    "loading": (_word("loading", "quantity"), _CONFIGURATIONS, _SECONDS, _MIB),
    "topology": (
        _word("exact, compiled, one core", "quantity"),
        _CONFIGURATIONS,
        _SECONDS,
        _number("µs each", "us_each", ".1f"),
        _number("plain Python, µs each", "plain_us_each", ",.0f"),
        _number("ratio", "ratio", ".0f"),
    ),
    "cluster": (
        _word("Hodge and Euler numbers by", "workers"),
        _number("workers", "count", ","),
        _CONFIGURATIONS,
        _SECONDS,
        _number("per second", "rate", ",.0f"),
        _number("ratio to one worker", "ratio", ".2f"),
    ),
    "enumeration": (
        _word("list rebuilt from nothing", "dimension", "dimension {}"),
        _CONFIGURATIONS,
        _SECONDS,
        _MIB,
    ),
    "parser": (
        _word("parser of the published file", "parser"),
        _number("entries", "entries", ","),
        _number("seconds", "seconds", ".2f"),
        _number("entries per second", "entries_per_second", ",.0f"),
        Column("ratio", _over_slowest),
        _number("MB of the process", "peak_mb", ",.0f"),
    ),
    "growth": (
        _word("cost of", "what"),
        _DEVICE,
        _word("grows", "grows"),
        _numbers("sizes", "sizes", ","),
        _numbers("seconds", "seconds", ".3g"),
        Column("time grows with the power (last two)", partial(_powers, "seconds")),
        _numbers("MiB", "mib", ",.0f"),
        Column("memory grows with the power (last two)", partial(_powers, "mib")),
    ),
}


def _table(columns: Sequence[Column], rows: list[dict[str, Any]]) -> str:
    return markdown_table(
        [column.head for column in columns],
        [[column.show(row, rows) for column in columns] for row in rows],
        words=[column.head for column in columns if column.is_word],
    )


if __name__ == "__main__":
    main()
