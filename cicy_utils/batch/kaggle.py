"""A kit for Kaggle: everything that runs the notebooks there without network.

    python -m cicy_utils.batch.kaggle build --user NAME

writes, from a clone, into build/kaggle:

    cicy4-hodge/    a data set: this package as a wheel, the list, the published weights
    <notebook>/     a Kaggle notebook each: the committed one after a cell that installs the wheel

and into each of these folders the metadata from which the command ``kaggle`` takes name and
settings. What happens on Kaggle itself is in ``cicy_utils.places``.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nbformat

from cicy_utils import records
from cicy_utils.batch import profiles

ROOT = Path(__file__).resolve().parents[2]
DATASET_TITLE = "CICY4 Hodge"
DATASET_FILE, KERNEL_FILE = "dataset-metadata.json", "kernel-metadata.json"
LIST_FILE = Path("data", "cicy4.npz")
REFERENCE = Path("results", "reference")  # published weights
SOURCES = ("cicy_utils", "data", "pyproject.toml", "README.md", "LICENSE")  # of the wheel

# What Kaggle accepts: letters in a title, and the names of users.
LONGEST, SHORTEST_KERNEL, SHORTEST_DATASET = 50, 5, 6
USER = r"[a-z0-9]([a-z0-9_-]{0,48}[a-z0-9])?"
# Kaggle has retired its other GPU, the P100, for which PyTorch is no longer built.
ACCELERATOR = "NvidiaTeslaT4"

INSTALL = """\
# On Kaggle: install this project's package from the data set {dataset}, without network.
import glob, os, subprocess, sys

root = os.environ.get("CICY_KAGGLE_ROOT", "/kaggle") + "/input"
wheels = [*glob.glob(f"{{root}}/*/*.whl"), *glob.glob(f"{{root}}/datasets/*/*/*.whl")]
wheels = [wheel for wheel in wheels if os.path.basename(wheel).startswith("cicy4_hodge-")]
if not wheels:
    raise FileNotFoundError("attach the data set {dataset} to this notebook (Add Input)")
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
subprocess.run([*pip, wheels[-1]], check=True)
"""


def build(
    user: str,
    output: Path,
    only: Iterable[str] = (),
    *,
    resume: bool = False,
    root: Path = ROOT,
) -> list[Path]:
    """Write the kit and return its folders, the data set first.

    Args:
        user: name of the Kaggle account, as in the address of its page.
        output: folder of the kit; one that an earlier call wrote is written anew.
        only: notebooks by name or number; empty for all.
        resume: whether each notebook gets the output of its own last version as input.
        root: the clone.

    Raises:
        ValueError: there is no such notebook, the user name cannot be one, or the output folder
            holds something else.
        FileNotFoundError: root is no clone of the repository.
        RuntimeError: the wheel could not be built.
    """
    names = profiles.in_order(only or profiles.NOTEBOOKS)
    dataset = dataset_metadata(user)
    kernels = {name: kernel_metadata(name, user, resume=resume) for name in names}
    needed = [*SOURCES, LIST_FILE, *(Path("notebooks", f"{name}.ipynb") for name in names)]
    if missing := [str(path) for path in needed if not (root / path).exists()]:
        raise FileNotFoundError(
            f"{root} is no clone of the repository ({missing[0]} is not there): run this in one"
        )

    folder = output / slug(DATASET_TITLE)
    _clear(output, folder)
    records.write_json(folder / DATASET_FILE, dataset)
    shutil.copy(root / LIST_FILE, folder)
    for published in (root / REFERENCE).glob("*/*/reference.json"):
        target = folder / published.parent.relative_to(root)
        shutil.copytree(published.parent, target, ignore=shutil.ignore_patterns("*.ipynb"))
    build_wheel(root, folder)
    for name, metadata in kernels.items():
        records.write_json(output / name / KERNEL_FILE, metadata)
        notebook = nbformat.read(root / "notebooks" / f"{name}.ipynb", as_version=4)
        source = INSTALL.format(dataset=dataset["id"]).rstrip()
        notebook.cells.insert(0, nbformat.v4.new_code_cell(source, id="install"))
        nbformat.write(notebook, output / name / f"{name}.ipynb")
    return [folder, *(output / name for name in kernels)]


def kernel_metadata(name: str, user: str, *, resume: bool = False) -> dict[str, Any]:
    """kernel-metadata.json of a notebook of the catalogue, as Kaggle's documentation has it.

    Raises:
        ValueError: Kaggle would refuse the user name.
    """
    reads = [*profiles.NOTEBOOKS[name].reads, *([name] if resume else [])]
    return {
        "id": _id(user, _title(name), SHORTEST_KERNEL),
        "title": _title(name),
        "code_file": f"{name}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "machine_shape": ACCELERATOR,
        "enable_internet": False,
        "dataset_sources": [_id(user, DATASET_TITLE, SHORTEST_DATASET)],
        "kernel_sources": [_id(user, _title(other), SHORTEST_KERNEL) for other in reads],
        "competition_sources": [],
        "model_sources": [],
    }


def dataset_metadata(user: str) -> dict[str, Any]:
    """dataset-metadata.json. Kaggle's list of licences has no MIT: the description names it.

    Raises:
        ValueError: Kaggle would refuse the user name.
    """
    return {
        "id": _id(user, DATASET_TITLE, SHORTEST_DATASET),
        "title": DATASET_TITLE,
        "subtitle": "All 905,684 CICY four-folds, and the package cicy4-hodge",
        "description": "Configuration matrices and exact Hodge numbers (cicy4.npz), the Python "
        "package that the notebooks use, and published weights. Licence: MIT.",
        "licenses": [{"name": "other"}],
    }


def slug(title: str) -> str:
    """The name in its address that Kaggle makes of a title: "CICY4 00 data" is cicy4-00-data."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def build_wheel(root: Path, folder: Path) -> Path:
    """Build the wheel of a clone with what is installed, without network, and return its path.

    Raises:
        RuntimeError: pip or setuptools could not do it.
    """
    with tempfile.TemporaryDirectory(prefix="cicy-") as name:
        # Of a copy: what earlier builds left in a clone would end up in the wheel.
        source = Path(name, "source")
        source.mkdir()
        for item in SOURCES:
            if (root / item).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(root / item, source / item, ignore=ignored)
            else:
                shutil.copy(root / item, source)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
        command += ["--no-build-isolation", "--wheel-dir", str(folder), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr.strip() or "no wheel").splitlines()[-1]
        raise RuntimeError(
            f"the wheel could not be built with the pip and setuptools of {sys.executable} "
            f"(setuptools 77 or newer is needed): {said}"
        )
    return wheels[-1]


def _title(name: str) -> str:
    """The title of a notebook on Kaggle, which starts so that all stand together."""
    return f"CICY4 {name.replace('_', ' ')}"


def _id(user: str, title: str, shortest: int) -> str:
    """user/slug, after a look at what Kaggle would refuse."""
    if not re.fullmatch(USER, user):
        raise ValueError(
            f"{user!r} is no Kaggle user name: give the name in the address of your page, "
            "kaggle.com/NAME, in small letters and digits"
        )
    if not shortest <= len(title) <= LONGEST or len(slug(title)) < shortest:
        raise ValueError(f"Kaggle wants titles of {shortest} to {LONGEST} letters, not {title!r}")
    return f"{user}/{slug(title)}"


def _clear(output: Path, dataset: Path) -> None:
    """Make the folder of the kit, without what an earlier call put there."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: give another --output")
    if output.is_dir() and any(output.iterdir()) and not (dataset / DATASET_FILE).is_file():
        raise ValueError(
            f"{output} is not empty and was not made by this command: give another --output"
        )
    for name in (*profiles.NOTEBOOKS, dataset.name):
        shutil.rmtree(output / name, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or 2 for what is refused."""
    parser = argparse.ArgumentParser(
        prog="python -m cicy_utils.batch.kaggle",
        description="Prepare the notebooks for Kaggle.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("build", help="write the data set and the notebooks into a folder")
    made.add_argument("--user", metavar="NAME", help="of the account; default: $KAGGLE_USERNAME")
    made.add_argument(
        "--output",
        type=Path,
        default=ROOT / "build" / "kaggle",
        metavar="FOLDER",
        help="%(default)s",
    )
    made.add_argument("--only", nargs="+", default=[], metavar="NAME", help="notebooks, or numbers")
    made.add_argument(
        "--resume",
        action="store_true",
        help="each notebook goes on from the output of its own last version on Kaggle",
    )
    options = parser.parse_args(arguments)
    user = options.user or os.environ.get("KAGGLE_USERNAME", "")
    try:
        if not user:
            raise ValueError("Kaggle needs the name of your account: give it as --user NAME")
        dataset, *kernels = build(user, options.output, options.only, resume=options.resume)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"python -m cicy_utils.batch.kaggle: {error}", file=sys.stderr)
        return 2
    print(f"kaggle datasets create -p {shlex.quote(str(dataset))} --dir-mode zip")
    for kernel in kernels:
        print(f"kaggle kernels push -p {shlex.quote(str(kernel))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
