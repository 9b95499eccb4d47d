"""Runs notebooks one after the other, and leaves for each a folder that tells what happened.

papermill runs in this process, and is not believed: it reports success after the death of a
kernel or ``sys.exit(0)`` in a cell. A notebook is done when papermill returned, every code cell
was executed and metrics.json can be read.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import papermill
from traitlets.config import Config

from cicy_utils.batch import profiles
from cicy_utils.batch.page import render
from cicy_utils.batch.status import Status, last_epoch, write_text
from cicy_utils.records import METRICS_FILE, duration, seed_folders

NOTEBOOK_FILE = "notebook.ipynb"
HTML_FILE = "notebook.html"
REPLACED = "replaced"  # results/replaced/ takes the folders of runs made again otherwise
PROGRESS_SECONDS = 20
KERNEL_START_SECONDS = 120

# Types of the parameters that are None by default, where the notebook itself does not tell.
OPTIONAL = {
    "SUBSET": int,
    "BASELINE_SUBSET": int,
    "HIDDEN_SIZE": int,
    "MAX_HOURS": float,
    "CHECKPOINT": str,
    "RUN_DIR": str,
}
# Where and how long, not what, is computed: a run may go on with other values.
MAY_DIFFER = ("RUN_DIR", "DEVICE", "MAX_HOURS", "TRIALS")
TYPE_NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "True or False",
    list: "a list such as [42, 43]",
}

KERNEL_ENVIRONMENT = {
    "CICY_BATCH": "1",  # plain lines of progress instead of bars
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the user's own
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # no remark about frozen modules from the debugger
}


@dataclass(frozen=True)
class Task:
    """A notebook to run: its source, its folder, what papermill injects, and all settings.

    title: the notebook, with the variant where it has several; needs: notebooks, or variants of
    them, without which it cannot run; reads: notebooks whose results it uses.
    """

    name: str
    source: Path
    run_dir: Path
    injected: dict[str, Any]
    settings: dict[str, Any]
    title: str
    model: str | None = None
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    @property
    def variant(self) -> str:
        return self.run_dir.name

    @property
    def folders(self) -> list[Path]:
        """Its run folder and, where it trains with more than one seed, those of the others."""
        return list(seed_folders(self.run_dir, self.settings.get("SEEDS", [0])).values())

    @property
    def identity(self) -> dict[str, Any]:
        """The settings that decide what is computed in its own folder."""
        settings = {key: value for key, value in self.settings.items() if key not in MAY_DIFFER}
        if "SEEDS" in settings:
            settings["SEEDS"] = settings["SEEDS"][:1]  # the other ones have folders of their own
        return settings

    @property
    def source_hash(self) -> str:
        return hashlib.sha256(self.source.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Outcome:
    """How a task ended: "done", "skipped" (was done before), "failed" or "blocked"."""

    task: Task
    state: str
    error: tuple[str, ...] = ()


def plan(
    profile: str,
    run_dir: Path,
    notebooks: Path,
    *,
    only: Sequence[str] = (),
    overrides: Mapping[str, str] | None = None,
    catalogue: Mapping[str, profiles.Notebook] = profiles.NOTEBOOKS,
    table: Mapping[str, Mapping[str, Mapping[str, Any]]] = profiles.PROFILES,
) -> list[Task]:
    """Decide what to run, and check every parameter of every notebook before anything runs.

    Args:
        profile: one of the profiles in the table.
        run_dir: results/<run>.
        notebooks: folder of the notebooks' sources.
        only: names or numbers of notebooks; none for all.
        overrides: parameters from the command line, as text; each applies to every chosen
            notebook that has it.

    Raises:
        ValueError: an unknown profile, notebook or parameter, or a parameter of a wrong type.
        FileNotFoundError: a notebook of the catalogue is missing.
    """
    if profile not in table:
        raise ValueError(f"there is no profile {profile!r}; choose one of {', '.join(table)}")
    names = profiles.in_order(only or catalogue, catalogue)
    notebooks = Path(notebooks).resolve()
    overrides = dict(overrides or {})
    unused = set(overrides)
    tasks = []
    for name in names:
        entry, source = catalogue[name], notebooks / f"{name}.ipynb"
        defaults = default_parameters(source)
        chosen = {
            key: from_text(name, key, overrides[key], defaults[key])
            for key in overrides.keys() & defaults.keys()
        }
        unused -= chosen.keys()
        for pattern, variant in _variants(name, entry, chosen).items():
            injected = {**table[profile][entry.kind], **variant.parameters, **chosen}
            check_parameters(name, injected, defaults)
            settings = defaults | injected
            folder = Path(run_dir).resolve() / name / pattern.format_map(settings)
            if "SEEDS" in settings:
                seed_folders(folder, settings["SEEDS"])  # refuses what are no seeds
            injected["RUN_DIR"] = str(folder)
            check_parameters(name, injected, defaults)
            needs = (*entry.needs, *variant.needs)
            task = Task(
                name,
                source,
                folder,
                injected,
                settings,
                title=f"{name}/{folder.name}" if entry.variants else name,
                model=variant.model and settings.get("MODEL", variant.model),
                needs=needs,
                reads=tuple(need.split("/")[0] for need in (*needs, *entry.after)),
            )
            tasks.append(task)
    if unused:
        raise ValueError(
            f"none of the chosen notebooks has a parameter {' or '.join(sorted(unused))}; "
            f"{names[-1]} has {', '.join(default_parameters(tasks[-1].source))}"
        )
    return tasks


def _variants(
    name: str, entry: profiles.Notebook, chosen: Mapping[str, Any]
) -> dict[str, profiles.Variant]:
    """The variants of a notebook whose own parameters agree with those of the command line.

    Raises:
        ValueError: none does.
    """
    found = {
        pattern: variant
        for pattern, variant in entry.tasks.items()
        if all(chosen.get(key, value) == value for key, value in variant.parameters.items())
    }
    if not found:
        given = ", ".join(f"{key} {value!r}" for key, value in chosen.items())
        raise ValueError(
            f"{name} has no variant with {given}; it has {', '.join(entry.tasks)} (choose other "
            "notebooks with --only)"
        )
    return found


def default_parameters(source: Path) -> dict[str, Any]:
    """The parameters of a notebook with their defaults.

    Raises:
        FileNotFoundError: there is no such notebook.
        ValueError: a default is not a literal.
    """
    if not source.is_file():
        raise FileNotFoundError(f"there is no notebook {source}; restore it from the repository")
    defaults = {}
    for name, parameter in papermill.inspect_notebook(_verbatim(source)).items():
        try:
            defaults[name] = ast.literal_eval(parameter["default"])
        except (ValueError, SyntaxError) as error:
            raise ValueError(
                f"{source.name}: the default of {name} is {parameter['default']}; write a literal"
            ) from error
    return defaults


def check_parameters(notebook: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse parameters that a notebook does not have, or values of another type.

    Raises:
        ValueError: with the notebook, the parameter and what is expected.
    """
    for name, value in values.items():
        if name not in defaults:
            raise ValueError(
                f"{notebook} has no parameter {name}; it has {', '.join(defaults) or 'none'}"
            )
        wanted = _type(name, defaults[name])
        fits = wanted is None or type(value) in {wanted, int if wanted is float else wanted}
        if not fits and not (value is None and defaults[name] is None):
            raise ValueError(f"{notebook}: {name} is {TYPE_NAMES[wanted]}, not {value!r}")
        if value == []:
            raise ValueError(f"{notebook}: {name} must not be empty")


def from_text(notebook: str, name: str, text: str, default: Any) -> Any:
    """A parameter's value from the command line: text as it is, everything else as a literal."""
    wanted = _type(name, default)
    if wanted is str and not (default is None and text == "None"):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        expected = TYPE_NAMES.get(wanted, "a literal")
        raise ValueError(f"{notebook}: {name} is {expected}, not {text!r}") from None


def _type(name: str, default: Any) -> type | None:
    """The type that a parameter's values have; None if any will do."""
    wanted = OPTIONAL.get(name) if default is None else type(default)
    return wanted if wanted in TYPE_NAMES else None


def run(
    tasks: Sequence[Task],
    *,
    say: Callable[[str], None] = print,
    progress_seconds: float = PROGRESS_SECONDS,
) -> list[Outcome]:
    """Run tasks in order; a failed one stops only those that need it.

    What is done with the same settings and the same source is skipped. A folder made with other
    settings is moved to results/replaced/, so that nothing is lost.

    Raises:
        KeyboardInterrupt: after what runs has been stopped and its state written.
        ValueError: another process is at work on one of the folders.
    """
    for task in tasks:
        status = Status.read(task.run_dir)
        if status and status.alive:
            raise ValueError(
                f"{task.title} is being run in {task.run_dir} by process {status.pid} on "
                f"{status.host}; wait for it, or choose another name with --run"
            )
    redone: set[str] = set()  # notebooks that run now, so that what reads them runs again
    skipped: set[Path] = set()
    for task in tasks:
        if is_done(task) and redone.isdisjoint(task.reads):
            skipped.add(task.run_dir)
        else:
            redone.add(task.name)
            _prepare(task)

    outcomes: list[Outcome] = []
    for number, task in enumerate(tasks, start=1):
        head = f"[{number:2}/{len(tasks)}] {task.title}"
        missing = [need for need in task.needs if not _have(need, task, outcomes)]
        if task.run_dir in skipped:
            outcome = Outcome(task, "skipped")
            say(f"{head}: done before with the same settings")
        elif missing:
            outcome = Outcome(task, "blocked", (f"it needs {', '.join(missing)}",))
            say(f"{head}: not run, it needs {', '.join(missing)}")
        else:
            say(f"{head}: started")
            with ticking(task, progress_seconds, lambda text, head=head: say(f"{head}: {text}")):
                error = execute(task)
            status = _status(task, "failed" if error else "done")
            status.error = list(error)
            status.write(task.run_dir)
            outcome = Outcome(task, status.state, error)
            say(f"{head}: {status.state} after {duration(status.seconds)}")
            for line in error:
                say(f"    {line}")
        outcomes.append(outcome)
    return outcomes


def is_done(task: Task) -> bool:
    """Whether a folder holds this very task, finished.

    A training that was cut short by its time limit or by hand is not: it can go on. Nor is
    something that read the results of other notebooks, if there are newer ones.
    """
    status = Status.read(task.run_dir)
    if status is None or status.state != "done":
        return False
    if (status.settings, status.source) != (_plain(task.identity), task.source_hash):
        return False
    for folder in task.folders:
        metrics = _metrics(folder)
        if metrics is None:
            return False
        if metrics.get("training", {}).get("stop_reason") in ("time_limit", "interrupted"):
            return False
        if metrics.get("scan", {}).get("trials", 0) < task.settings.get("TRIALS", 0):
            return False
    written = (task.run_dir / METRICS_FILE).stat().st_mtime
    read = (
        p for name in task.reads for p in task.run_dir.parents[1].glob(f"{name}/*/{METRICS_FILE}")
    )
    return all(path.stat().st_mtime <= written for path in read)


def execute(task: Task) -> tuple[str, ...]:
    """Run a notebook into its folder; returns the last lines of what went wrong, or nothing."""
    (task.run_dir / METRICS_FILE).unlink(missing_ok=True)
    error: list[str] = []
    with ExitStack() as stack:
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cicy-")))
        output = task.run_dir / ".running.ipynb"
        stack.callback(output.unlink, missing_ok=True)
        stack.enter_context(_environment(KERNEL_ENVIRONMENT | {"IPYTHONDIR": str(private)}))
        # Sockets in a folder of its own instead of TCP ports: several kernels that start at the
        # same time cannot take each other's.
        connection = {"transport": "ipc", "connection_file": str(private / "kernel.json")}
        try:
            papermill.execute_notebook(
                _verbatim(task.source),
                _verbatim(output),
                parameters=task.injected,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                log_output=False,
                start_timeout=KERNEL_START_SECONDS,
                cwd=task.source.parent,
                config=Config(KernelManager=connection),
            )
        except papermill.PapermillExecutionError as failure:
            error = _tail([*failure.traceback, f"{failure.ename}: {failure.evalue}"])
        except Exception as failure:  # a dead kernel, a full disk: whatever it is, name it
            error = _tail([f"{type(failure).__name__}: {failure}"])
        if output.is_file():
            os.replace(output, task.run_dir / NOTEBOOK_FILE)
    if not error:
        error = _unfinished(task)
    try:
        write_html(task, error)
    except Exception as failure:
        error = error or _tail([f"no HTML page: {type(failure).__name__}: {failure}"])
    return tuple(error)


def _unfinished(task: Task) -> list[str]:
    """What papermill did not notice."""
    path = task.run_dir / NOTEBOOK_FILE
    if not path.is_file():
        return ["papermill left no notebook"]
    for cell in nbformat.read(path, as_version=4).cells:
        code = cell.source.strip() if cell.cell_type == "code" else ""
        if code and cell.get("execution_count") is None:
            return [f"the notebook ended before this cell was finished: {code.splitlines()[0]}"]
    if _metrics(task.run_dir) is None:
        return [f"the notebook ran to its end and left no readable {METRICS_FILE}"]
    return []


def write_html(task: Task, error: Sequence[str] = ()) -> None:
    """Turn the executed notebook into one HTML file that needs no other for its figures."""
    path = task.run_dir / NOTEBOOK_FILE
    if not path.is_file():
        return
    title = f"{task.title} ({task.run_dir.parts[-3]})"
    page = render(nbformat.read(path, as_version=4), title, error)
    write_text(task.run_dir / HTML_FILE, page)


@contextmanager
def ticking(task: Task, seconds: float, say: Callable[[str], None]) -> Iterator[None]:
    """Renew status.json and print a line every few seconds while a notebook runs."""
    started = time.time()
    status = _status(task, "running", started)
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(seconds):
            status.heartbeat = time.time()
            status.write(task.run_dir)
            parts = [f"running for {duration(time.time() - started)}", last_epoch(task.run_dir)]
            say(", ".join(part for part in parts if part))

    status.heartbeat = started
    status.write(task.run_dir)
    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    except BaseException as failure:
        stop.set()
        thread.join()
        broken = _status(task, "failed")
        broken.error = [f"interrupted ({type(failure).__name__})"]
        broken.write(task.run_dir)
        raise
    finally:
        stop.set()
        thread.join()


def _prepare(task: Task) -> None:
    """Make a folder ready for a run: its own unfinished one goes on, a different one moves away."""
    status = Status.read(task.run_dir)
    if status and status.settings != _plain(task.identity) and any(task.run_dir.iterdir()):
        run_dir = task.run_dir.parents[1]
        stamp = time.strftime("%Y%m%d-%H%M%S")
        place = run_dir.parent / REPLACED / f"{run_dir.name}-{stamp}" / task.name
        place.mkdir(parents=True, exist_ok=True)
        for folder in task.folders:
            if folder.exists():
                shutil.move(folder, place / folder.name)
    task.run_dir.mkdir(parents=True, exist_ok=True)
    _status(task, "pending").write(task.run_dir)


def _status(task: Task, state: str, started: float | None = None) -> Status:
    before = Status.read(task.run_dir)
    return Status(
        notebook=task.name,
        variant=task.variant,
        state=state,
        settings=_plain(task.identity),
        source=task.source_hash,
        started=started or (before.started if before and state in ("done", "failed") else None),
        finished=time.time() if state in ("done", "failed") else None,
    )


def _have(need: str, task: Task, outcomes: Iterable[Outcome]) -> bool:
    """Whether a needed notebook, or variant, is done, in this call or before it in the same run."""
    states = [
        outcome.state
        for outcome in outcomes
        if need in (outcome.task.name, f"{outcome.task.name}/{outcome.task.variant}")
    ]
    if states:
        return all(state in ("done", "skipped") for state in states)
    folders = task.run_dir.parents[1].glob(need if "/" in need else f"{need}/*")
    found = [status for folder in folders if (status := Status.read(folder))]
    return any(status.state == "done" for status in found)


def _metrics(folder: Path) -> dict[str, Any] | None:
    try:
        metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) else None


def _tail(lines: Iterable[str], count: int = 6) -> list[str]:
    """The last lines of some text, without the colours of a terminal."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))
    kept = [line.rstrip() for line in text.splitlines() if line.strip(" -")]
    if len(kept) > 1 and kept[-1] == kept[-2]:
        kept.pop()
    return kept[-count:]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from a JSON file."""
    return json.loads(json.dumps(values))


def _verbatim(path: Path) -> str:
    """A path that papermill's formatting of paths leaves alone."""
    return str(path).replace("{", "{{").replace("}", "}}")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the kernels started inside."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
