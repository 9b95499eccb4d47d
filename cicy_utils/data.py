"""The list of complete intersection Calabi-Yau four-folds, in memory.

``load_cicy4()`` finds ``cicy4.npz`` in a clone (``data/``), in an installed wheel, or where the
environment variable ``CICY4_DATA`` points, and verifies its checksums. How the list was made is
told in :mod:`cicy_utils.enumeration`; ``python -m cicy_utils.data verify`` recomputes every
number in it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HODGE_NAMES = ("h11", "h21", "h31", "h22")
SHAPE = (16, 20)
MAX_ENTRY = 6
FILE_NAME = "cicy4.npz"
ENVIRONMENT_VARIABLE = "CICY4_DATA"

# sha256 of the bytes of the two arrays of the complete list, in C order.
CHECKSUMS = {
    "matrix": "f926cfd69afe5406afecb0d969e286b233677edaa19a54a46ce63b0349b2e348",
    "hodge": "cc836d286ac727bf01a80a19f20c9714ef497a10a9002f172fde894f90c74f02",
}

LAYOUTS = ("stored", "zeros-first", "descending", "descending-zeros-first")


@dataclass(frozen=True)
class Cicy4:
    """Configuration matrices and their Hodge numbers.

    Attributes:
        matrices: uint8 (N, 16, 20), zero rows and columns as the layout puts them.
        hodge: int16 (N, 4), in the order of ``HODGE_NAMES``.
        source: where the list came from.
        layout: how the rows are arranged, one of ``LAYOUTS``.
        fingerprint: sha256 of both arrays before the layout was applied, so that one list has
            one fingerprint in every layout.
    """

    matrices: np.ndarray
    hodge: np.ndarray
    source: str
    layout: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.matrices)


def load_cicy4(
    source: str | Path = "bundled",
    *,
    layout: str = "stored",
    subset: int | None = None,
    subset_seed: int = 0,
) -> Cicy4:
    """Load the list of four-folds.

    Args:
        source: ``"bundled"`` for the list that comes with this package, or the path of an npz
            file with arrays ``matrix`` uint8 (N, 16, 20) and ``hodge`` int16 (N, 4).
        layout: the order in which a network sees the rows, one of ``LAYOUTS``; see
            :func:`arrange`.
        subset: number of configurations to draw without replacement (they keep the order of the
            list); None for all.
        subset_seed: seed of that draw.

    Raises:
        FileNotFoundError: no file at the source.
        ValueError: the file is damaged or holds something else, or an argument is out of range.
    """
    _require_layout(layout)
    path = find_bundled() if source == "bundled" else Path(source)
    matrices, hodge = read_npz(path)
    if source == "bundled":
        _verify_checksums(path, matrices, hodge)
    if subset is not None:
        if not 0 < subset <= len(matrices):
            raise ValueError(f"subset must be between 1 and {len(matrices):,}, not {subset}")
        drawn = np.random.default_rng(subset_seed).choice(len(matrices), subset, replace=False)
        drawn.sort()
        matrices, hodge = matrices[drawn], hodge[drawn]
    return Cicy4(
        matrices=arrange(matrices, layout),
        hodge=hodge,
        source=str(source),
        layout=layout,
        fingerprint=fingerprint(matrices, hodge),
    )


def arrange(matrices: np.ndarray, layout: str) -> np.ndarray:
    """The same matrices with their rows in another order.

    ``"stored"`` leaves them as they are (in the bundled list: rows by ascending n, zero rows
    last); ``"zeros-first"`` sorts rows by ascending n after the zero rows, so that a recurrent
    network ends on a row with content; ``"descending"`` and ``"descending-zeros-first"`` sort by
    descending n with the zero rows last or first. Rows of equal n keep their order.

    Args:
        matrices: uint8 (N, 16, 20).
        layout: one of ``LAYOUTS``.

    Returns:
        uint8 (N, 16, 20); the very same array for ``"stored"``.

    Raises:
        ValueError: unknown layout.
    """
    _require_layout(layout)
    if layout == "stored":
        return matrices
    key = matrices.sum(axis=2, dtype=np.int16)  # n + 1, or 0 for a row of zeros
    if layout.startswith("descending"):
        key = -key
        if layout == "descending-zeros-first":
            key[key == 0] = np.iinfo(np.int16).min
    order = np.argsort(key, axis=1, kind="stable")
    return np.take_along_axis(matrices, order[:, :, None], axis=1)


def find_bundled() -> Path:
    """Path of the bundled list, or of the file that ``CICY4_DATA`` names.

    Raises:
        FileNotFoundError: it is in none of the places looked at, which the message names.
    """
    if not (named := os.environ.get(ENVIRONMENT_VARIABLE)):
        return find_data_file(FILE_NAME)
    path = Path(named) / FILE_NAME if Path(named).is_dir() else Path(named)
    if not path.is_file():
        raise FileNotFoundError(f"{ENVIRONMENT_VARIABLE} is set to {named}, but no file is there")
    return path


def find_data_file(name: str) -> Path:
    """Path of a file of the folder ``data``, in an installed wheel or in a clone.

    Raises:
        FileNotFoundError: it is in neither.
    """
    package = Path(__file__).resolve().parent
    places = [package / "_data" / name, package.parent / "data" / name]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"{name} is neither at {places[0]} nor at {places[1]}; fetch the repository's data folder "
        f"again, or set {ENVIRONMENT_VARIABLE} to a copy of {FILE_NAME}"
    )


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays ``matrix`` uint8 (N, 16, 20) and ``hodge`` int16 (N, 4) of an npz file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or its arrays have other names, shapes or types.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            matrices, hodge = archive["matrix"], archive["hodge"]
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is not an npz file with the arrays 'matrix' and 'hodge', or it is damaged "
            f"({error}); fetch or rebuild it"
        ) from error
    if matrices.dtype != np.uint8 or matrices.ndim != 3 or matrices.shape[1:] != SHAPE:
        raise ValueError(f"{path}: 'matrix' must be uint8 (N, 16, 20), not {_describe(matrices)}")
    if hodge.dtype != np.int16 or hodge.shape != (len(matrices), len(HODGE_NAMES)):
        raise ValueError(
            f"{path}: 'hodge' must be int16 ({len(matrices)}, 4), not {_describe(hodge)}"
        )
    return matrices, hodge


def checksum(array: np.ndarray) -> str:
    """sha256 of the bytes of an array in C order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def fingerprint(matrices: np.ndarray, hodge: np.ndarray) -> str:
    """One sha256 for a list: of its configuration matrices followed by its Hodge numbers."""
    return hashlib.sha256((checksum(matrices) + checksum(hodge)).encode()).hexdigest()


def _verify_checksums(path: Path, matrices: np.ndarray, hodge: np.ndarray) -> None:
    for name, array in (("matrix", matrices), ("hodge", hodge)):
        if checksum(array) != CHECKSUMS[name]:
            raise ValueError(
                f"{path}: the sha256 of '{name}' is not that of the complete list; the file was "
                "changed or damaged, fetch it again or rebuild it"
            )


def _require_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}")


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


def main(arguments: list[str] | None = None) -> int:
    """The command ``python -m cicy_utils.data verify``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cicy_utils.data")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", help="recompute every number in the list (a few minutes)")
    parser.parse_args(arguments)

    from cicy_utils.verification import verify  # it needs this module

    try:
        sound = verify(say=lambda line: print(line, flush=True))
    except (FileNotFoundError, ValueError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print("everything agrees" if sound else "FAILED: see above", flush=True)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
