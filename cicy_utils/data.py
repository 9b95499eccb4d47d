"""The list of complete intersection Calabi-Yau four-folds, in memory.

``load_cicy4()`` finds ``cicy4.npz`` in a clone (``data/``), in an installed wheel, among the inputs
of a Kaggle notebook, or where the environment variable ``CICY4_DATA`` points, and verifies its
checksums. How the list was made is told in :mod:`cicy_utils.enumeration`;
``python -m cicy_utils.data verify`` recomputes every number in it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np

from cicy_utils import chunks, cluster, places, records
from cicy_utils.archives import Refused, ZipArchive, open_zip, read_npy
from cicy_utils.files import write_atomically

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


@dataclass(frozen=True, eq=False)  # arrays have no truth value
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
    subset: int | np.ndarray | None = None,
    subset_seed: int = 0,
    drop: bool = False,
) -> Cicy4:
    """Load the list of four-folds.

    Every entry of a source other than the bundled one is validated (:mod:`cicy_utils.validation`);
    entries that the source marks as products are left out. The first time this takes a minute or
    two for a complete list; after that it comes from a cache (:mod:`cicy_utils.sources`). Warnings
    count entries that are others with rows and columns permuted, and those whose Hodge numbers are
    not the exact ones, though the Euler number is.

    Args:
        source: ``"bundled"`` for the list that comes with this package, or the path, from here or
            else from the top folder of the project, of one of

            - an npz file with arrays ``matrix`` uint8 (N, 16, 20) and ``hodge`` int16 (N, 4);
            - the published text ``cicy4list.txt`` or a zip file with it;
            - a folder or zip file with the Kaggle arrays ``conf.npy``, ``hodge.npy``,
              ``direct.npy``;
            - a folder with one of these files.
        layout: the order in which a network sees the rows, one of ``LAYOUTS``; see
            :func:`arrange`.
        subset: number of configurations to draw without replacement (they keep the order of the
            list), or the indices of those to take, int (n,); None for all. A source other than the
            bundled one may have fewer than that number: then it is taken whole.
        subset_seed: seed of that draw.
        drop: leave out entries that break a rule, with a warning; otherwise they are an error.

    Raises:
        FileNotFoundError: no file at the source.
        ValueError: the file is damaged or holds something else, an entry breaks a rule, or an
            argument is out of range.
    """
    _require_layout(layout)
    if source == "bundled":
        path = find_bundled()
        matrices, hodge = read_npz(path)
        _verify_checksums(path, matrices, hodge)
    else:
        # These need this module.
        from cicy_utils.sources import describe_copies, read_list
        from cicy_utils.validation import describe_unlike

        source = records.find(source).absolute()
        found = read_list(source, drop=drop)
        matrices, hodge = found.matrices, found.hodge
        if len(found.copies):
            warnings.warn(
                f"{source}: {describe_copies(found.copies)}; a test set drawn from them will have "
                "copies in the training set",
                stacklevel=2,
            )
        if len(found.unlike):
            warnings.warn(f"{source}: {describe_unlike(found.unlike)}", stacklevel=2)
    if subset is not None:
        if isinstance(subset, np.ndarray):
            _require_indices(subset, len(matrices))
        else:
            if source != "bundled" and isinstance(subset, Integral):
                subset = min(subset, len(matrices))  # nobody knew how many it has
            subset = _draw(len(matrices), subset, subset_seed)
        matrices, hodge = matrices[subset], hodge[subset]
    return Cicy4(
        matrices=arrange(matrices, layout),
        hodge=hodge,
        source=str(source),
        layout=layout,
        fingerprint=fingerprint(matrices, hodge),
    )


def _require_indices(subset: np.ndarray, n: int) -> None:
    fits = subset.ndim == 1 and subset.dtype.kind in "iu"
    if not fits or (subset.size and not 0 <= subset.min() <= subset.max() < n):
        raise ValueError(
            f"subset: indices are integers (n,) from 0 to {n - 1:,}, not {subset.dtype} "
            f"{subset.shape} {subset.ravel()[:3].tolist()}"
        )
    if len(np.unique(subset)) < len(subset):
        raise ValueError("subset: an index is there twice; a split would put copies on both sides")


def _draw(n: int, number: int, seed: int) -> np.ndarray:
    """Indices of so many of n configurations, in ascending order."""
    if not isinstance(number, Integral) or isinstance(number, bool) or not 0 < number <= n:
        raise ValueError(
            f"subset must be a whole number from 1 to {n:,}, not {number!r}, or an array of indices"
        )
    return np.sort(np.random.default_rng(seed).choice(n, number, replace=False))


def crop(matrix: np.ndarray) -> np.ndarray:
    """A matrix, (rows, columns), without its rows and columns of zeros."""
    return matrix[matrix.any(axis=1)][:, matrix.any(axis=0)]


def as_keys(matrices: np.ndarray) -> np.ndarray:
    """Each matrix, uint8 (N, rows, columns), as one value to sort and compare by: void (N,)."""
    size = matrices.shape[1] * matrices.shape[2]
    return np.ascontiguousarray(matrices).reshape(-1, size).view(f"V{size}").ravel()


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

    On Kaggle a list that is attached as input comes before the one in the wheel.

    Raises:
        FileNotFoundError: it is in none of the places looked at, which the message names.
    """
    if not (named := os.environ.get(ENVIRONMENT_VARIABLE)):
        return places.find_attached(FILE_NAME) or find_data_file(FILE_NAME)
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
    paths = [package / "_data" / name, package.parent / "data" / name]
    if found := next(filter(Path.is_file, paths), None):
        return found
    own = f", or set {ENVIRONMENT_VARIABLE} to a copy of it" if name == FILE_NAME else ""
    raise FileNotFoundError(
        f"{name} is neither at {paths[0]} nor at {paths[1]}; fetch the repository's data folder "
        f"again{own}"
    )


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The arrays ``matrix`` uint8 (N, 16, 20) and ``hodge`` int16 (N, 4) of an npz file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or its arrays have other names, shapes or types.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with open_zip(path) as archive:
        matrices = _read_member(archive, "matrix", np.uint8, SHAPE)
        hodge = _read_member(archive, "hodge", np.int16, (len(HODGE_NAMES),))
    if len(hodge) != len(matrices):
        described = f"{hodge.dtype} {hodge.shape}"
        raise Refused(f"{path}: 'hodge' must be int16 ({len(matrices)}, 4), not {described}")
    return matrices, hodge


def write_npz(path: Path, matrices: np.ndarray, hodge: np.ndarray) -> None:
    """Write a file that ``read_npz`` reads; OSError when it cannot be written."""
    write_atomically(path, lambda file: np.savez_compressed(file, matrix=matrices, hodge=hodge))


def _read_member(archive: ZipArchive, name: str, dtype: type, entry: tuple[int, ...]) -> np.ndarray:
    """One array of an npz file, if it has the type expected, and the shape but for its length."""
    member = archive.find(f"{name}.npy")
    if not member:
        raise Refused(
            f"{archive.path} has no array '{name}'; give an npz file with 'matrix' and 'hodge'"
        )
    with read_npy(archive, member) as (header, parts):
        if header.dtype != dtype or header.shape[1:] != entry:
            raise Refused(
                f"{archive.path}: '{name}' must be {np.dtype(dtype)} "
                f"(N, {', '.join(map(str, entry))}), not {header.dtype} {header.shape}"
            )
        array = np.empty(header.shape, dtype)
        for start, part in parts:
            array[start : start + len(part)] = part
    return array


def checksum(array: np.ndarray) -> str:
    """sha256 of the bytes of an array in C order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def fingerprint(matrices: np.ndarray, hodge: np.ndarray) -> str:
    """One sha256 for a list: of its configuration matrices followed by its Hodge numbers."""
    return hashlib.sha256((checksum(matrices) + checksum(hodge)).encode()).hexdigest()


def is_complete_list(matrices: np.ndarray, hodge: np.ndarray) -> bool:
    """Whether these are, byte for byte, the arrays of the bundled list."""
    return checksum(matrices) == CHECKSUMS["matrix"] and checksum(hodge) == CHECKSUMS["hodge"]


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


# ---------------------------------------------------------------------------------------------
# Command line
# ---------------------------------------------------------------------------------------------
# What the commands call needs this module, and is imported when a command runs.


def main(arguments: list[str] | None = None) -> int:
    """The command ``python -m cicy_utils.data``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cicy_utils.data")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], bool], text: str):
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    verify = command("verify", _verify, "recompute every number in the bundled list (minutes)")
    cluster.add_options(verify)

    fetch = command("fetch", _fetch, "download the published list and record its checksum")
    fetch.add_argument("--url", help="default: the page of the authors of the list")
    fetch.add_argument("--folder", type=Path, help="where to put it; default: the cache folder")
    fetch.add_argument("--sha256", help="the checksum it must have, if you know it")

    check = command("check", _check, "say which entries of a list break which rule")
    check.add_argument("source", help="'bundled', a file or a folder; see load_cicy4")
    check.add_argument("--report", type=Path, help="a CSV file for all of them")

    compare = command("compare", _compare, "say whether two lists are the same up to permutations")
    compare.add_argument("first", help="'bundled', a file or a folder; see load_cicy4")
    compare.add_argument("second")
    compare.add_argument("--drop", action="store_true", help="leave out entries that break a rule")

    convert = command("convert", _convert, "write the sound entries of a list to an npz file")
    convert.add_argument("source", help="'bundled', a file or a folder; see load_cicy4")
    convert.add_argument("output", type=Path, help="*.npz, or *.txt or *.zip for the Oxford format")
    convert.add_argument("--drop", action="store_true", help="leave out entries that break a rule")

    options = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _say_warning
            return 0 if options.run(options) else 1
    except (OSError, ValueError, cluster.Lost) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1


def _say_warning(message, *_, **__) -> None:
    print(f"note: {message}", file=sys.stderr)


def _say(line: str) -> None:
    print(line, flush=True)


def _verify(options: argparse.Namespace) -> bool:
    from cicy_utils.verification import verify

    with chunks.asked_for(options) as executor:
        sound = verify(say=_say, executor=executor)
    _say("everything agrees" if sound else "FAILED: see above")
    return sound


def _fetch(options: argparse.Namespace) -> bool:
    from cicy_utils.fetching import URL, fetch

    path = fetch(options.url or URL, folder=options.folder, sha256=options.sha256)
    _say(f"{path}\nload it with load_cicy4({str(path)!r}), or set SOURCE in a notebook")
    return True


def _check(options: argparse.Namespace) -> bool:
    from cicy_utils.sources import check

    if options.report:
        _require_folder(options.report)
    report = check(options.source)
    _say(report.text())
    if options.report:
        report.write_csv(options.report)
    return not len(report.faults)


def _compare(options: argparse.Namespace) -> bool:
    from cicy_utils.comparison import compare

    comparison = compare(options.first, options.second, drop=options.drop)
    _say(comparison.text())
    return comparison.same


def _convert(options: argparse.Namespace) -> bool:
    from cicy_utils.published import write_text

    output = options.output
    if output.suffix not in (".npz", ".txt", ".zip"):
        raise ValueError(f"{output} must end in .npz, .txt or .zip")
    _require_folder(output)
    data = load_cicy4(options.source, drop=options.drop)
    if output.suffix == ".npz":
        write_npz(output, data.matrices, data.hodge)
    else:
        write_text(output, data)
    _say(f"{output}: {len(data):,} configurations, fingerprint {data.fingerprint}")
    return True


def _require_folder(output: Path) -> None:
    """Minutes of validation should not end there."""
    if not output.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {output.parent}")


if __name__ == "__main__":
    sys.exit(main())
