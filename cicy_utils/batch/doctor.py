"""Whether this machine can do the work: one line for each thing that has to be right.

    bash run_all.sh doctor              or: python -m cicy_utils.batch.doctor

Nothing but Python's own library is imported before a check needs it, so that a missing package is
a line, too. A check that raises is a problem; the table of checks says what then to do.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cicy_utils import files, lease
from cicy_utils.places import cores

ROOT = Path(__file__).resolve().parents[2]
NEEDED_EXTRAS = ("batch", "scan")  # what `bash run_all.sh` calls for
OPTIONAL_EXTRAS = {
    "fetch": "the download of the published list",
    "cluster": "more than one machine",
    "jupyter": "notebooks by hand",
}
SEXTIC = {"h11": 1, "h21": 0, "h31": 426, "h22": 1752, "chi": 2610}
GIB = 2**30
ENOUGH_MEMORY = 4 * GIB  # the list, a training and a kernel or two
ENOUGH_DISK, LEAST_DISK = 3 * GIB, GIB // 10
KERNEL_SECONDS = 60
WIDTH = 100
OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """What a check has found: a state ("ok", "note" or "problem"), and what to do about it."""

    state: str
    text: str
    remedy: str = ""


class Check(NamedTuple):
    """What is looked at, by which function of the clone's folder, and what to do if it raises."""

    name: str
    look: Callable[[Path], Finding]
    remedy: str


def python(root: Path) -> Finding:
    """Python and its version."""
    from packaging.specifiers import SpecifierSet

    version, wanted = platform.python_version(), _project(root)["requires-python"]
    text = f"{version} in {sys.prefix}"
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Finding(OK, text)
    return Finding(
        PROBLEM,
        f"{text}, and {wanted} is needed",
        "install Python 3.11, delete the folder .venv and run this again",
    )


def packages(root: Path) -> Finding:
    """Every package that the notebooks need, against the ranges of pyproject.toml."""
    project = _project(root)
    optional = project.get("optional-dependencies", {})
    wanted = [*project["dependencies"], *(one for name in NEEDED_EXTRAS for one in optional[name])]
    if faults := _faults(wanted):
        return Finding(PROBLEM, "; ".join(faults), _REINSTALL)
    return Finding(OK, f"all {len(wanted)} are there, in the ranges of pyproject.toml")


def extras(root: Path) -> Finding:
    """Packages that only some things need."""
    optional = _project(root).get("optional-dependencies", {})
    known = [name for name in OPTIONAL_EXTRAS if name in optional]
    lacking = {name: faults for name in known if (faults := _faults(optional[name]))}
    if not lacking:
        return Finding(OK, f"all are there: {', '.join(known)}")
    return Finding(
        NOTE,
        "; ".join(
            f"{OPTIONAL_EXTRAS[name]}: {', '.join(faults)}" for name, faults in lacking.items()
        ),
        f"if wanted: {sys.executable} -m pip install -e '.[{','.join(lacking)}]'",
    )


def pytorch(root: Path) -> Finding:
    """PyTorch, what it is built for, and how precisely the processor can compute."""
    import torch

    from cicy_utils.devices import native_precisions

    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU only"
    native = ", ".join(native_precisions(torch.device("cpu")))
    return Finding(OK, f"{torch.__version__}, built for {built}; the processor has {native}")


def gpus(root: Path) -> Finding:
    """Every GPU that PyTorch sees, with a product of matrices on each; or why it sees none."""
    import torch

    from cicy_utils.devices import native_precisions

    if not torch.cuda.is_available():
        return _without_gpu(torch.version.cuda)
    found = []
    for number in range(torch.cuda.device_count()):
        place, facts = torch.device("cuda", number), torch.cuda.get_device_properties(number)
        ones = torch.ones(8, 8, device=place)
        if (ones @ ones).sum().item() != 512:
            return Finding(PROBLEM, f"{facts.name} computes wrongly", "use another GPU or driver")
        free, total = torch.cuda.mem_get_info(place)
        found.append(
            f"{facts.name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free, compute capability "
            f"{facts.major}.{facts.minor}, {', '.join(native_precisions(place))}"
        )
    return Finding(OK, "; ".join(found) + f"; the driver takes CUDA up to {_driver()}")


def _without_gpu(built_for: str | None) -> Finding:
    """Why PyTorch sees no GPU; built_for: the CUDA version of its wheel, None for a CPU."""
    consequence = "so networks train on the processor, and the profile is quick"
    if not gpu_is_there():
        return Finding(NOTE, f"none, {consequence}")
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return Finding(
            NOTE,
            f"there is one, which CUDA_VISIBLE_DEVICES={visible} hides, {consequence}",
            "unset CUDA_VISIBLE_DEVICES to use it",
        )
    driver = _driver()
    if driver is None:
        why, remedy = "its driver cannot be loaded", "install the driver (libcuda.so.1) of NVIDIA"
    elif built_for is None:
        why = "this PyTorch is built for a CPU only"
        remedy = f"install a PyTorch built for CUDA up to {driver} into {sys.prefix}"
    elif driver.major < int(built_for.partition(".")[0]):
        why = f"its driver takes CUDA up to {driver}, and this PyTorch is built for {built_for}"
        remedy = f"install a newer driver, or a PyTorch built for CUDA {driver.major}"
    else:
        why, remedy = "CUDA does not start", "see what nvidia-smi says"
    return Finding(PROBLEM, f"there is one that PyTorch cannot use: {why}, {consequence}", remedy)


def gpu_is_there() -> bool:
    """Whether the system has an NVIDIA GPU, whatever PyTorch says (the second: in WSL)."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


class Cuda(NamedTuple):
    """A version of CUDA."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


def _driver() -> Cuda | None:
    """The newest CUDA that the driver takes, None without a driver.

    A driver takes all that is built for its own major version, and for older ones.
    """
    version = ctypes.c_int()
    try:
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except OSError:
        return None
    return Cuda(version.value // 1000, version.value % 1000 // 10)


def machine(root: Path) -> Finding:
    """Cores and memory that this process may use."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    text = f"{cores()} cores, {memory / GIB:.1f} GiB of memory"
    if memory < ENOUGH_MEMORY:
        return Finding(
            NOTE, text, f"with less than {ENOUGH_MEMORY / GIB:.0f} GiB, run one notebook at a time"
        )
    return Finding(OK, text)


def disk(root: Path) -> Finding:
    """Room for results."""
    free = shutil.disk_usage(root).free
    text = f"{free / GIB:.1f} GiB free at {root / 'results'}"
    if free < LEAST_DISK:
        return Finding(PROBLEM, text, "make room, or use a clone on another disk")
    if free < ENOUGH_DISK:
        return Finding(NOTE, text, "enough for a quick run; make room for a run of all models")
    return Finding(OK, text)


def the_list(root: Path) -> Finding:
    """The complete list, which is loaded and has its checksums."""
    from cicy_utils import data

    path, cicy4 = data.find_bundled(), data.load_cicy4()
    return Finding(
        OK, f"{len(cicy4):,} configurations, fingerprint {cicy4.fingerprint[:16]}..., in {path}"
    )


def arithmetic(root: Path) -> Finding:
    """Exact numbers of the sextic, as numba compiles them here."""
    import numpy as np

    from cicy_utils import topology
    from cicy_utils.data import HODGE_NAMES

    sextic = np.array([[[6]]])
    (hodge,), (euler,) = topology.hodge_numbers_batch(sextic), topology.euler_numbers_batch(sextic)
    found = {**dict(zip(HODGE_NAMES, map(int, hodge), strict=True)), "chi": int(euler)}
    told = ", ".join(f"{name} = {value}" for name, value in found.items())
    if found != SEXTIC:
        return Finding(
            PROBLEM,
            f"the sextic has other numbers here: {told}",
            "delete the folders __pycache__ in cicy_utils, and run this again",
        )
    return Finding(OK, f"the sextic has {told}")


def kernel(root: Path) -> Finding:
    """A Jupyter kernel, which starts, runs in this environment and answers 1 + 1."""
    from jupyter_client import KernelManager

    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # as for the notebooks
    with contextlib.ExitStack() as stack:
        private = stack.enter_context(tempfile.TemporaryDirectory(prefix="cicy-"))
        manager = KernelManager(
            kernel_name="python3", transport="ipc", connection_file=f"{private}/kernel.json"
        )
        manager.start_kernel(
            env=os.environ | {"IPYTHONDIR": private},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(manager.shutdown_kernel, now=True)
        client = manager.blocking_client()
        client.start_channels()
        stack.callback(client.stop_channels)
        client.wait_for_ready(timeout=KERNEL_SECONDS)
        asked = {"sum": "1 + 1", "prefix": "__import__('sys').prefix"}
        reply = client.execute("", user_expressions=asked, reply=True, timeout=KERNEL_SECONDS)
    answers = reply["content"]["user_expressions"]
    told, prefix = (answers[name]["data"]["text/plain"] for name in asked)
    if told != "2":
        return Finding(PROBLEM, f"it answers 1 + 1 with {told}", _REINSTALL)
    if prefix != repr(sys.prefix):
        return Finding(
            PROBLEM,
            f"the kernel python3 runs in {prefix}, not in {sys.prefix}",
            f"run: {sys.executable} -m ipykernel install --sys-prefix",
        )
    return Finding(OK, "it starts and answers")


def results(root: Path) -> Finding:
    """Whether results can be written."""
    folder = root / "results"
    try:
        files.require_writable(folder)
    except ValueError as error:
        return Finding(PROBLEM, *str(error).split("; ", 1))
    return Finding(OK, f"{folder} can be written")


def links_and_locks(root: Path) -> Finding:
    """What keeps two processes out of one folder: link(2) and flock(2) on this file system."""
    lacking = []
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=root / "results") as folder:
        path = Path(folder, "file")
        path.touch()
        try:
            os.link(path, path.with_name("link"))
        except OSError:
            lacking.append("links")
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lacking.append("locks")
    if lacking:
        return Finding(
            NOTE,
            f"the file system of results has no {' and no '.join(lacking)}",
            "on one machine all is well; do not run one folder from several machines at once",
        )
    return Finding(OK, "the file system of results has both")


def leases(root: Path) -> Finding:
    """Run folders in which somebody is at work."""
    held = []
    for path in sorted((root / "results").rglob(".*.lease")):
        found = lease.look(path)
        if found is not None and found.is_held:
            who = found.holder and f"process {found.holder.pid} on {found.holder.host}"
            held.append(f"{path.parent.relative_to(root)} ({who or 'by whom is not told'})")
    if not held:
        return Finding(OK, "nobody is at work in results")
    more = f" and {len(held) - 3} more" if len(held) > 3 else ""
    return Finding(
        NOTE, f"at work: {', '.join(held[:3])}{more}", "another run there waits or is refused"
    )


_REINSTALL = "delete the folder .venv and run this again, which makes it anew"
CHECKS = (
    Check("Python", python, _REINSTALL),
    Check("packages", packages, _REINSTALL),
    Check("extras", extras, _REINSTALL),
    Check("PyTorch", pytorch, _REINSTALL),
    Check("GPU", gpus, "look at nvidia-smi; CUDA_VISIBLE_DEVICES chooses other GPUs, or none"),
    Check("machine", machine, "this system does not tell its memory; see that there is enough"),
    Check("disk", disk, "see that the folder of the clone can be read"),
    Check("list", the_list, "fetch data/cicy4.npz again (git checkout data/cicy4.npz)"),
    Check("arithmetic", arithmetic, "let NUMBA_CACHE_DIR name a folder that can be written"),
    Check("kernel", kernel, _REINSTALL),
    Check("results", results, "make results/ a folder that can be written"),
    Check("links, locks", links_and_locks, "make results/ a folder that can be written"),
    Check("in use", leases, "see that everything in results/ can be read"),
)


def examine(root: Path) -> Iterator[tuple[str, Finding]]:
    """Name and finding of every check, one after the other; root is the folder of the clone."""
    for check in CHECKS:
        try:
            finding = check.look(root)
        except Exception as error:  # whatever it is, it is what is wrong here
            text = " ".join(f"{type(error).__name__}: {error}".split())
            finding = Finding(PROBLEM, text, check.remedy)
        yield check.name, finding


def line(name: str, finding: Finding) -> str:
    """A finding as text: mostly one line, with what to do below it."""
    indent = " " * 22
    lines = textwrap.wrap(
        f"{finding.state:8} {name:12} {finding.text}", WIDTH, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False, drop_whitespace=True,
    )  # fmt: skip
    if finding.remedy:
        arrow = f"{indent}-> "
        lines += textwrap.wrap(
            finding.remedy, WIDTH, initial_indent=arrow, subsequent_indent=f"{indent}   ",
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return "\n".join(lines)


def warn(root: Path) -> None:
    """Print problems, and nothing else, to stderr in a frame."""
    lines = [line(name, found) for name, found in examine(root) if found.state == PROBLEM]
    if lines:
        frame = "!" * WIDTH
        print(frame, *lines, frame, sep="\n", file=sys.stderr, flush=True)


def main(root: Path = ROOT) -> int:
    """Print every finding as soon as it is there; returns 1 if there is a problem, else 0."""
    problems = 0
    for name, finding in examine(root):
        print(line(name, finding), flush=True)
        problems += finding.state == PROBLEM
    print(f"\n{problems} problem{'s' * (problems != 1)}.", flush=True)
    return 1 if problems else 0


def _project(root: Path) -> dict[str, Any]:
    """What pyproject.toml says of this package."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _faults(requirements: Iterable[str]) -> list[str]:
    """What is wrong with the packages that are asked for."""
    from packaging.requirements import Requirement

    faults = []
    for requirement in map(Requirement, requirements):
        name, ranges = requirement.name, requirement.specifier
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            faults.append(f"{name} is missing")
            continue
        if not ranges.contains(version, prereleases=True):
            faults.append(f"{name} is {version}, and {ranges} is needed")
    return faults


if __name__ == "__main__":
    sys.exit(main())
