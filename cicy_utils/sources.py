"""From any file of four-folds to a list that can be trusted: read, validated, cached.

Reading the published file takes seconds and validating it a minute or two, so the result is kept
in a cache folder: ``CICY4_CACHE``, or ``cicy4-hodge`` where the system keeps caches. An entry of
the cache is named after the sha256 of what it was made from and after its own sha256; it is used
only if both agree, and made again if not.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from cicy_utils import files, kaggle_arrays, published, records
from cicy_utils.archives import Folder, Refused, is_zip, open_zip
from cicy_utils.canonical import canonical_forms
from cicy_utils.data import FILE_NAME, find_bundled, is_complete_list, read_npz
from cicy_utils.validation import Entries, Report, validate

CACHE_VARIABLE = "CICY4_CACHE"
_CACHE_VERSION = "3"  # another number when the same source would give another list
_CACHED = ("matrix", "hodge", "positions", "broken", "copies", "unlike")
_FORMS_AT_ONCE = 100_000  # matrices in canonical form, which take 32 MB


@dataclass(frozen=True)
class SourceList:
    """The sound connected configurations of a source.

    Attributes:
        matrices: uint8 (N, 16, 20).
        hodge: int16 (N, 4).
        positions: int64 (N,), which entries of the source they are, counted from 0.
        broken: int64, the entries left out because they break a rule.
        copies: int64, the entries that are an earlier one with rows and columns permuted.
        unlike: int64, the entries with other Hodge numbers than ``cicy_utils.topology`` computes,
            though with the same Euler number.
    """

    matrices: np.ndarray
    hodge: np.ndarray
    positions: np.ndarray
    broken: np.ndarray
    copies: np.ndarray
    unlike: np.ndarray


def read_list(source: str | Path, *, drop: bool = False) -> SourceList:
    """The list in a file or folder, every entry of it validated; kept in the cache.

    Args:
        source: what :func:`read_entries` takes, or ``"bundled"``.
        drop: leave out entries that break a rule, with a warning; otherwise they are an error.

    Raises:
        FileNotFoundError: there is nothing at the source.
        Refused: the source is damaged or no list of four-folds, an entry breaks a rule, or no
            sound entry is left; or the source changed meanwhile.
    """
    path = locate(source)
    with _readable(path):
        if path.suffix == ".npz" and is_complete_list(*(arrays := read_npz(path))):
            # `python -m cicy_utils.data verify` has checked every number of this one
            none = np.zeros(0, np.int64)
            every = np.arange(len(arrays[0]))
            return SourceList(*arrays, every, broken=none, copies=none, unlike=none)
        key = _key(path, drop)
    found = _from_cache(key)
    if not found:
        found, report = _validated(path)
        if not drop:
            report.require_sound()
        with _readable(path):
            if _key(path, drop) != key:
                raise Refused(f"{path} changed while it was read; load it again")
        _into_cache(key, found)
    if not len(found.matrices):
        raise Refused(f"{path} has no sound entry; give a list of four-folds")
    if len(found.broken):
        warnings.warn(
            f"{path}: {len(found.broken):,} entries that break a rule were left out; `python -m "
            "cicy_utils.data check` lists them",
            stacklevel=2,
        )
    return found


def check(source: str | Path) -> Report:
    """The report on every entry of a source, copies among its notes, nothing cached.

    Raises:
        FileNotFoundError, Refused: as :func:`read_entries`.
    """
    found, report = _validated(locate(source))
    notes = (describe_copies(found.copies),) if len(found.copies) else ()
    return replace(report, notes=(*report.notes, *notes))


def describe_copies(copies: np.ndarray) -> str:
    """What to tell of ``SourceList.copies``, int64, where there are some."""
    return (
        f"{len(copies):,} entries, the first of them {copies[0]}, are earlier ones with rows and "
        "columns in the same or another order"
    )


def locate(source: str | Path) -> Path:
    """The file, or the folder with the Kaggle arrays, that a source stands for.

    A path is looked up as by ``records.find``.

    Raises:
        FileNotFoundError: there is nothing, or a folder without any list.
    """
    if source == "bundled":
        return find_bundled()
    path = records.find(source)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"there is no file {source}")
    names = (kaggle_arrays.CONFIGURATIONS, "cicy4list.zip", published.TEXT_NAME, FILE_NAME)
    for name in names:
        if (path / name).is_file():
            return path if name == kaggle_arrays.CONFIGURATIONS else path / name
    raise FileNotFoundError(f"the folder {path} has none of {', '.join(names)}; give another one")


def read_entries(path: Path) -> Entries:
    """All entries of a source, as they are there.

    Args:
        path: an npz file with ``matrix`` and ``hodge``; an Oxford text, or a zip file with it;
            the Kaggle arrays in a folder or zip file. Which of them it is, its content tells.

    Raises:
        FileNotFoundError: there is nothing.
        Refused: it is damaged or none of these.
    """
    with _readable(path):
        if path.is_dir():
            return kaggle_arrays.read_arrays(Folder(path))
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        if path.suffix == ".npz":
            return _from_npz(path)
        if not is_zip(path):
            return published.read_text(path)
        with open_zip(path) as archive:
            if archive.find("matrix.npy"):
                return _from_npz(path)
            if archive.find(kaggle_arrays.CONFIGURATIONS):
                return kaggle_arrays.read_arrays(archive)
        return published.read_text(path)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say what to do about a file that may not be read."""
    try:
        yield
    except (PermissionError, IsADirectoryError) as error:
        raise Refused(f"{path} cannot be read ({error.strerror}); change that") from error


def _from_npz(path: Path) -> Entries:
    matrices, hodge = read_npz(path)
    count = len(matrices)
    return Entries(matrices, hodge, np.zeros(count, np.bool_), np.zeros((count, 4), np.int64))


def _validated(path: Path) -> tuple[SourceList, Report]:
    entries = read_entries(path)
    report = validate(entries, path)
    matrices, hodge = entries.matrices[report.kept], entries.hodge[report.kept]
    del entries  # a quarter of a GiB for the complete list
    copies = report.kept[_are_copies(matrices)]
    found = SourceList(matrices, hodge, report.kept, report.broken, copies, report.unlike)
    return found, report


def _are_copies(matrices: np.ndarray) -> np.ndarray:
    """Which matrices are earlier ones with rows and columns permuted."""
    seen: set[bytes] = set()
    copies = np.zeros(len(matrices), dtype=bool)
    for start in range(0, len(matrices), _FORMS_AT_ONCE):
        for number, form in enumerate(canonical_forms(matrices[start : start + _FORMS_AT_ONCE])):
            digest = hashlib.blake2b(form, digest_size=16).digest()
            copies[start + number] = digest in seen
            seen.add(digest)
    return copies


# ---------------------------------------------------------------------------------------------
# Cache
# ---------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where parsed lists and fetched files are kept; it need not exist."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "cicy4-hodge"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cicy4-hodge"


def _key(path: Path, drop: bool) -> str:
    """A sha256 of everything that decides what the list will be."""
    paths = [path]
    if path.is_dir():
        names = (kaggle_arrays.CONFIGURATIONS, kaggle_arrays.HODGE, kaggle_arrays.DIRECT)
        paths = [path / name for name in names if (path / name).is_file()]
    parts = [_CACHE_VERSION, str(drop)]
    for file in paths:
        parts += [file.suffix, files.checksum(file)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _from_cache(key: str) -> SourceList | None:
    for path in sorted(cache_folder().glob(f"{key}-*.npz")):
        try:
            content = path.read_bytes()
        except OSError:
            continue  # of another user, or gone; it is made again
        if path.stem.removeprefix(f"{key}-") != hashlib.sha256(content).hexdigest():
            continue  # damaged; it is made again
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return SourceList(*(archive[name] for name in _CACHED))
    return None


def _into_cache(key: str, found: SourceList) -> None:
    content = io.BytesIO()
    arrays = (getattr(found, field.name) for field in fields(found))
    np.savez_compressed(content, **dict(zip(_CACHED, arrays, strict=True)))
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    folder = cache_folder()
    try:
        path = folder / f"{key}-{digest}.npz"
        files.write_atomically(path, lambda file: file.write(content.getbuffer()))
        for other in folder.glob(f"{key}-*.npz"):
            if other != path:
                other.unlink(missing_ok=True)  # damaged ones
    except OSError as error:
        warnings.warn(
            f"the list was not cached in {folder} ({error.strerror}); set {CACHE_VARIABLE} to a "
            "folder that can be written, or it will be parsed every time",
            stacklevel=3,
        )
