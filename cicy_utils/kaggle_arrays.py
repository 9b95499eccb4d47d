"""The list as NumPy arrays of the Kaggle data set ``lorresprz/calabi-yau-cicy-4-folds``.

It is by the author of arXiv 2405.17406: ``conf.npy`` (N, 16, 20) divided by 6, ``hodge.npy``
(N, 4) and ``direct.npy`` (N,), which marks products, in a folder or in a zip file; and splits of
their own, which :func:`kaggle_split` finds again in the list.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cicy_utils.archives import Container, Folder, NpyHeader, Refused, open_zip, read_npy
from cicy_utils.data import MAX_ENTRY, SHAPE, Cicy4, arrange, as_keys
from cicy_utils.splits import Split
from cicy_utils.validation import DEGREE, LABEL, LARGEST_LABEL, MARK, Entries

CONFIGURATIONS, HODGE, DIRECT = "conf.npy", "hodge.npy", "direct.npy"


def read_arrays(container: Container) -> Entries:
    """The entries of ``conf.npy``, ``hodge.npy`` and ``direct.npy``.

    Args:
        container: a folder or zip file with them; without ``direct.npy`` nothing is marked as a
            product.

    Raises:
        Refused: an array is missing, damaged, or has another shape.
    """
    matrices, bad = _read_matrices(container, CONFIGURATIONS)
    count = len(matrices)
    hodge, bad_label = _read_hodge(container, HODGE, count)
    product, bad_mark = _read_marks(container, count)
    faults = np.zeros((count, 4), np.int64)
    for entry, label in bad_label:
        if not product[entry]:
            faults[entry] = LABEL, label, 0, 0
    for entry in bad_mark:
        faults[entry] = MARK, 0, 0, 0
    for entry, row, column in bad:
        faults[entry] = DEGREE, row, column, 0
    return Entries(matrices, hodge, product, faults)


def kaggle_split(source: str | Path, data: Cicy4, name: str = "72", *, drop: bool = False) -> Split:
    """One of the splits that come with the Kaggle arrays, as indices into a list.

    Args:
        source: folder or zip file with ``conf_Xtrain.npy`` and the others.
        data: the same list, as ``load_cicy4(source)`` gives it, in any layout.
        name: "72" (``conf_Xtrain``, ``conf_Xvalid``, ``conf_Xtest``) or "80" (``conf_Xtrain_80``,
            ``conf_Xvalid``, ``conf_Xtest_80``).
        drop: leave out entries of the split that are not in the list (a subset, say) or cannot
            be read; otherwise they are an error.

    Returns:
        The split without a seed, as it was not drawn here, in the order of the arrays.

    Raises:
        Refused: an array is missing or damaged, an entry is not in the list, its labels are not
            those of the list, or the parts overlap.
        ValueError: another name.
    """
    name = str(name)
    if name not in ("72", "80"):
        raise ValueError(f"the Kaggle arrays have the splits 72 and 80, not {name!r}")
    suffix = "_80" if name == "80" else ""
    files = {
        "train": (f"conf_Xtrain{suffix}.npy", f"hodge_ytrain{suffix}.npy"),
        "validation": ("conf_Xvalid.npy", "hodge_yvalid.npy"),
        "test": (f"conf_Xtest{suffix}.npy", f"hodge_ytest{suffix}.npy"),
    }
    keys = as_keys(data.matrices)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    parts = {}
    with open_container(source) as container:
        for part, (conf, labels) in files.items():
            matrices, bad = _read_matrices(container, conf)
            hodge, bad_label = _read_hodge(container, labels, len(matrices))
            where = f"{container.path}, {conf}"
            unreadable = [entry for entry, *_ in (*bad, *bad_label)]
            if unreadable and not drop:
                entry = unreadable[0]
                raise Refused(
                    f"{where}: entry {entry} has a degree or label that is no integer; get the "
                    "arrays again"
                )
            found = _look_up(keys, order, arrange(matrices, data.layout))
            found[unreadable] = -1
            missing = found < 0
            if missing.any() and not drop:
                raise Refused(
                    f"{where}: {missing.sum():,} of {len(found):,} entries, the first of them "
                    f"{np.argmax(missing)}, are not in the list {data.source}; load the whole list "
                    "from the same place, or leave them out with drop=True"
                )
            found, hodge = found[~missing], hodge[~missing]
            unlike = (data.hodge[found] != hodge).any(axis=1)
            if unlike.any():
                raise Refused(
                    f"{container.path}, {labels}: the labels of {unlike.sum():,} entries are not "
                    f"those of the list {data.source}; take both from the same place"
                )
            parts[part] = found
    everything = np.concatenate(list(parts.values()))
    if len(np.unique(everything)) != len(everything):
        raise Refused(f"{source}: the split {name} has an entry twice; get the arrays again")
    return Split(name, None, parts["train"], parts["validation"], parts["test"])


@contextmanager
def open_container(source: str | Path) -> Iterator[Container]:
    """A folder or a zip file.

    Raises:
        FileNotFoundError: there is neither.
        Refused: the zip file is damaged.
    """
    path = Path(source)
    if path.is_dir():
        yield Folder(path)
    elif path.is_file():
        with open_zip(path) as archive:
            yield archive
    else:
        raise FileNotFoundError(f"there is no file or folder {path}")


def _member(container: Container, name: str) -> str:
    if found := container.find(name):
        return found
    raise Refused(f"{container.path} has no {name}; get the complete data set")


def _read_matrices(
    container: Container, name: str
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """uint8 (N, 16, 20), and (entry, row, column) of the first degree of an entry that is none.

    Numbers with a point are taken to be divided by 6, others to be degrees.
    """
    bad = []
    with read_npy(container, _member(container, name)) as (header, chunks):
        if tuple(axis for axis in header.shape[1:] if axis != 1) != SHAPE:
            raise _wrong_shape(header, "(N, 16, 20)")
        matrices = np.zeros((header.shape[0], *SHAPE), np.uint8)
        scale = MAX_ENTRY if header.dtype.kind == "f" else 1
        for start, chunk in chunks:
            degrees, wrong = _whole(chunk.reshape(-1, *SHAPE), scale, 255)
            matrices[start : start + len(chunk)] = degrees
            for entry in np.flatnonzero(wrong.any(axis=(1, 2))):
                row, column = np.argwhere(wrong[entry])[0]
                bad.append((start + int(entry), int(row), int(column)))
    return matrices, bad


def _read_hodge(
    container: Container, name: str, count: int
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """int16 (N, 4), and (entry, label) where the first wrong label of an entry is."""
    hodge = np.full((count, 4), -1, np.int16)
    bad = []
    with read_npy(container, _member(container, name)) as (header, chunks):
        if header.shape != (count, 4):
            raise _wrong_shape(header, f"({count}, 4)")
        for start, values in chunks:
            numbers, wrong = _whole(values, 1, LARGEST_LABEL)
            hodge[start : start + len(values)] = np.where(wrong, -1, numbers)
            bad += [
                (start + int(entry), int(np.argmax(wrong[entry])))
                for entry in np.flatnonzero(wrong.any(axis=1))
            ]
    return hodge, bad


def _read_marks(container: Container, count: int) -> tuple[np.ndarray, list[int]]:
    """bool (N,), and the entries whose mark is neither 0 nor 1."""
    product = np.zeros(count, np.bool_)
    bad: list[int] = []
    if not (name := container.find(DIRECT)):
        return product, bad
    with read_npy(container, name) as (header, chunks):
        if header.shape not in ((count,), (count, 1)):
            raise _wrong_shape(header, f"({count},)")
        for start, chunk in chunks:
            marks, wrong = _whole(chunk.reshape(-1), 1, 1)
            product[start : start + len(marks)] = marks == 1
            bad += (start + np.flatnonzero(wrong)).tolist()
    return product, bad


def _whole(values: np.ndarray, scale: int, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """The integers 0 to ``largest`` that ``scale`` times the values are, and where they are not.

    Where they are not, the integer is 0. A half-precision sixth is off by less than 0.002.
    """
    values = values.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = values * scale
        nearest = np.rint(numbers)
        wrong = ~((np.abs(numbers - nearest) < 5e-3) & (nearest >= 0) & (nearest <= largest))
    nearest[wrong] = 0
    return nearest.astype(np.int64), wrong


def _wrong_shape(header: NpyHeader, expected: str) -> Refused:
    return Refused(
        f"{header.where} has the shape {header.shape}, not {expected}; get the complete data set"
    )


def _look_up(keys: np.ndarray, order: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """int64 (n,): where each matrix stands in the list with these sorted keys, or -1."""
    wanted = as_keys(matrices)
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, order[place], -1)
