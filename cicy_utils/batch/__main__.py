"""The command line behind ``run_all.sh``."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cicy_utils import cluster, files, lease
from cicy_utils.batch import profiles, workers

if TYPE_CHECKING:
    from cicy_utils.batch import runner

ROOT = Path(__file__).resolve().parents[2]
REPORT_SECONDS = 120  # for which one waits for another that writes tables and report
STOPPING = (signal.SIGINT, signal.SIGTERM)
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
Result = TypeVar("Result")
RESERVED = ("replaced", "interactive", "recipes")  # what others keep in results/


def parser(word: str) -> argparse.ArgumentParser:
    """The options of "run" and of the other words, as ``run_all.sh`` hands them on.

    Another word ends the program, as another option does.
    """
    if word not in PARSERS:
        words = argparse.ArgumentParser(prog="python -m cicy_utils.batch", allow_abbrev=False)
        words.add_argument("word", choices=PARSERS)
        words.parse_args([word])
    return PARSERS[word]()


def _run_parser() -> argparse.ArgumentParser:
    run = _parser("", "Run the notebooks into results/<run>/. Run it again to go on.")
    run.add_argument(
        "--profile",
        choices=list(profiles.PROFILES),
        help="quick: subsets and few steps, shows that it works; paper: the whole list and the "
        "paper's recipe; smoke: for tests (default: paper with a GPU, else quick)",
    )
    run.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        type=_notebook,
        help="these notebooks only, by name or number: " + ", ".join(profiles.NOTEBOOKS),
    )
    run.add_argument(
        "--run", type=_run_name, metavar="NAME", help="folder in results/ (default: the profile)"
    )
    run.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("PARAMETER", "VALUE"),
        help="another value for a parameter of the notebooks, as in: -p MAX_EPOCHS 10",
    )
    run.add_argument(
        "--jobs",
        type=_positive,
        metavar="N",
        help="notebooks to run at once, each on a GPU of its own where there are as many "
        "(default: 1)",
    )
    run.add_argument(
        "--cell-timeout",
        type=_positive,
        metavar="SECONDS",
        help="that one cell may take; a notebook that exceeds it has failed (default: no limit)",
    )
    cluster.add_options(run)
    return run


def _status_parser() -> argparse.ArgumentParser:
    status = _parser("status", "Show the state of every notebook of every run.")
    status.add_argument("--run", type=_run_name, metavar="NAME", help="of this run only")
    return status


def _report_parser() -> argparse.ArgumentParser:
    report = _parser(
        "report",
        "Make results/<run>/index.html from what is there: a page for a browser with every table "
        "and figure, beside the paper's.",
    )
    report.add_argument(
        "--run", type=_report_name, metavar="NAME", help="of this run (default: the newest one)"
    )
    return report


def _doctor_parser() -> argparse.ArgumentParser:
    return _parser("doctor", "Tell line by line whether this machine can do the work.")


def _parser(word: str, description: str) -> argparse.ArgumentParser:
    name = f"bash run_all.sh {word}".rstrip()
    return argparse.ArgumentParser(prog=name, allow_abbrev=False, description=description)


PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "run": _run_parser,
    "status": _status_parser,
    "report": _report_parser,
    "doctor": _doctor_parser,
    "scheduler": cluster.scheduler_parser,
}


def check() -> None:
    """Only look for mistakes in the arguments, and exit with 2 if there are any."""
    word, *arguments = sys.argv[1:]
    parser(word).parse_args(arguments)


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """Do what a word such as "run" or "status" and its options say; returns the exit code.

    0: all is done; 1: a notebook failed; 2: something is wrong with the arguments, or there is no
    such cluster; 3: none failed, and some were stopped before their end by a time limit or because
    the cluster went away; 130: stopped by hand.
    """
    word, *arguments = arguments
    options = parser(word).parse_args(arguments)
    if word == "status":
        return status(options.run, root / "results")
    if word == "report":
        return report(options.run, root / "results")
    if word == "doctor":
        from cicy_utils.batch import doctor

        return doctor.main(root)
    if word == "scheduler":
        try:
            cluster.start_scheduler(options)
        except ValueError as error:
            print(f"bash run_all.sh scheduler: {error}", file=sys.stderr)
        return 2
    with ExitStack() as stack:
        for number in STOPPING:
            stack.callback(signal.signal, number, signal.getsignal(number))
        signal.signal(signal.SIGTERM, interrupt)
        try:
            return run(options, root, stack)
        except cluster.Lost as lost:
            print(f"Stopped: {lost}. Run the same command again to go on.", file=sys.stderr)
            return 3
        except KeyboardInterrupt:
            for number in STOPPING:  # what is left is to close connections, which takes seconds
                signal.signal(number, signal.SIG_IGN)
            print("\nStopped. Run the same command again to go on.", file=sys.stderr)
            return 130


def run(options: argparse.Namespace, root: Path, stack: ExitStack) -> int:
    """The main job; the stack takes what is to be closed after it."""
    # Slow to import, and not installed yet when only the command line is checked.
    from cicy_utils.batch import doctor, estimate, runner, summary, tasks
    from cicy_utils.batch.report import build

    try:
        places = choose_places(options, stack)
        profile = options.profile or default_profile(places)
        run_dir = root / "results" / (options.run or profile)
        planned = tasks.plan(
            profile,
            run_dir,
            root / "notebooks",
            only=options.only,
            overrides=dict(options.parameters),
        )
        waiting = runner.due(planned)
        print(f"Profile {profile}: {len(planned)} notebooks into {run_dir}", flush=True)
        if len(waiting) < len(planned):
            print(f"{len(planned) - len(waiting)} of them are done already.")
        if waiting:
            files.require_writable(run_dir)
            if isinstance(places, workers.Workers):
                places.require_folder(run_dir)
            without_a_trace(doctor.warn, root)
            here = not isinstance(places, workers.Workers)
            try:
                expected = without_a_trace(partial(estimate.estimate, here=here), waiting)
            except RuntimeError as error:  # a GPU without room for it, say
                print(f"No estimate: {str(error).strip().splitlines()[0]}", flush=True)
            else:
                print(f"Estimate: {expected}.", flush=True)
                files.require_room(run_dir, expected.bytes)
        outcomes = runner.run(planned, places, say=say)
    except (ValueError, FileNotFoundError) as error:
        print(f"bash run_all.sh: {error}", file=sys.stderr)
        return 2
    try:
        with lease.hold(run_dir, "report", wait=REPORT_SECONDS):  # others may end at this moment
            print(summary.summarize(profile, run_dir, outcomes), flush=True)
            print(f"Report:    {build(run_dir)}", flush=True)
    except (OSError, lease.Held) as error:  # the results are in their folders all the same
        print(f"bash run_all.sh: no table and report could be written: {error}", file=sys.stderr)
        return 1
    states = {outcome.state for outcome in outcomes} - {*runner.DONE}
    if "partial" in states and "failed" not in states:
        return 3
    return 1 if states else 0


def choose_places(options: argparse.Namespace, stack: ExitStack) -> runner.Places:
    """Where notebooks are to run: in kernels of this process, or by the workers of a cluster.

    Raises:
        ValueError: there is no such cluster, or --jobs is asked for there.
    """
    from cicy_utils.batch import runner

    connection = cluster.from_options(options)
    if connection is None:
        return stack.enter_context(runner.Local(options.jobs or 1, options.cell_timeout))
    if options.jobs:
        raise ValueError("--jobs is for this machine; with --scheduler, start more workers")
    return workers.Workers(stack.enter_context(connection), options.cell_timeout, say)


def say(line: str) -> None:
    """Print a line in one piece: several notebooks may have something to say."""
    print(f"{line}\n", end="", flush=True)


def status(run: str | None, results: Path) -> int:
    """Print how far every run is, or one; 2 where there is none of that name."""
    from cicy_utils.batch.status import report

    try:
        print(report(results, run))
    except FileNotFoundError as error:
        print(f"bash run_all.sh status: {error}", file=sys.stderr)
        return 2
    return 0


def report(run: str | None, results: Path) -> int:
    """Make the report of a run, of the newest if there is no name; 2 where that is not possible."""
    from cicy_utils.batch.report import build, newest_run, require_run

    try:
        run_dir = results / (run or newest_run(results))
        require_run(run_dir)
        with lease.hold(run_dir, "report", wait=REPORT_SECONDS):  # a batch may end at this moment
            page = build(run_dir)
    except (OSError, lease.Held) as error:
        print(f"bash run_all.sh report: {error}", file=sys.stderr)
        return 2
    print(f"Report:    {page}", flush=True)
    return 0


def default_profile(places: runner.Places) -> str:
    """paper where PyTorch sees a GPU, or workers offer one, else quick."""
    import torch

    if isinstance(places, workers.Workers):
        return "paper" if places.cluster.resource == cluster.GPU else "quick"
    return "paper" if torch.cuda.is_available() else "quick"


def without_a_trace(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function, where there is a GPU in a process of its own.

    A process that has used a GPU keeps some of its memory until it ends, and some GPUs, on
    clusters, take one process at a time: the notebooks' kernels need them more.
    """
    import torch

    if not torch.cuda.is_available():  # which by itself leaves nothing there
        return function(*arguments)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def interrupt(_signal: int, _frame: object) -> None:
    """Let a polite request to end work like Ctrl-C."""
    raise KeyboardInterrupt


def _notebook(text: str) -> str:
    try:
        return profiles.find(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"this is a whole number, at least 1, not {text!r}")
    return int(text)


def _report_name(text: str) -> str:
    return text if text == "interactive" else _run_name(text)


def _run_name(text: str) -> str:
    if not re.fullmatch(NAME, text) or text in RESERVED:
        raise argparse.ArgumentTypeError(
            f"a run's name has letters, digits, dots, dashes and underscores, begins with a letter "
            f"or digit, and is none of {', '.join(RESERVED)}; {text!r} will not do"
        )
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["run"]))
