"""Every number in the list of four-folds, recomputed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from cicy_utils import chunks
from cicy_utils.data import (
    CHECKSUMS,
    HODGE_NAMES,
    Cicy4,
    checksum,
    find_bundled,
    find_data_file,
    fingerprint,
    read_npz,
)
from cicy_utils.enumeration import breaks_rules, in_order
from cicy_utils.relations import euler_from_hodge, h22_from_others
from cicy_utils.topology import euler_numbers_batch, hodge_numbers_batch

STATISTICS_FILE = "statistics.json"


def statistics(data: Cicy4) -> dict[str, Any]:
    """What the list looks like, in plain numbers.

    Returns:
        configurations; rows and columns (how many matrices have so many); largest_entry;
        favourable (the share with h11 = number of rows); distinct_quadruples; mean, minimum,
        maximum and distinct of every Hodge number and of the Euler number ("euler").
    """
    rows = data.matrices.any(axis=2).sum(axis=1)
    columns = data.matrices.any(axis=1).sum(axis=1)
    hodge = data.hodge.astype(np.int64)
    values = dict(zip(HODGE_NAMES, hodge.T, strict=True)) | {"euler": euler_from_hodge(hodge)}
    return {
        "configurations": len(data),
        "rows": _counts(rows),
        "columns": _counts(columns),
        "largest_entry": int(data.matrices.max()),
        "favourable": float((hodge[:, 0] == rows).mean()),
        "distinct_quadruples": len(np.unique(hodge, axis=0)),
        "mean": {name: float(value.mean()) for name, value in values.items()},
        "minimum": {name: int(value.min()) for name, value in values.items()},
        "maximum": {name: int(value.max()) for name, value in values.items()},
        "distinct": {name: len(np.unique(value)) for name, value in values.items()},
    }


def label_faults(data: Cicy4, *, executor: Executor | None = None) -> dict[str, int]:
    """For each rule that labels obey, the number of configurations that break it.

    The Hodge numbers are computed again from the matrices; h22 is compared with
    2 (22 + 2 h11 + 2 h31 - h21) (arXiv 2405.17406, eq. 12); and the Euler number that follows from
    them with the one of the top Chern class, which is computed without them. A minute or two for
    the whole list on one core. The executor does it, chunk by chunk; None for threads of this
    process, one per core.

    Raises:
        ValueError: a matrix is not that of a connected, non-empty Calabi-Yau four-fold.
    """
    hodge = data.hodge.astype(np.int64)
    return {
        "Hodge numbers differ from those of the matrix": int(
            (hodge_numbers_batch(data.matrices, executor=executor) != hodge).any(axis=1).sum()
        ),
        "h22 differs from 2 (22 + 2 h11 + 2 h31 - h21)": int(
            (hodge[:, 3] != h22_from_others(*hodge[:, :3].T)).sum()
        ),
        "χ differs from that of the Chern class": int(
            (euler_numbers_batch(data.matrices, executor=executor) != euler_from_hodge(hodge)).sum()
        ),
    }


def verify(say: Callable[[str], None] = print, *, executor: Executor | None = None) -> bool:
    """Check the bundled list against everything that is known of it; takes a few minutes.

    Args:
        say: called with one line for every check.
        executor: who computes; None for threads of this process, one per core.

    Returns:
        Whether all of these hold: the checksums; every matrix is a connected, non-empty
        Calabi-Yau four-fold without redundant piece or ineffective split; every matrix is in
        canonical form and the list in its order, so that no two are permutations of each other;
        the Hodge numbers are those of the matrices; the Euler number of the Chern class is the one
        of the Hodge numbers; the statistics are the recorded ones.

    Raises:
        FileNotFoundError, ValueError: the list is missing, or its file cannot be read.
    """
    start = time.perf_counter()
    sound = True

    def check(text: str, number: int) -> None:
        nonlocal sound
        sound = sound and number == 0
        verdict = "ok" if number == 0 else f"FAILED for {number:,}"
        say(f"{time.perf_counter() - start:6.1f} s  {text}: {verdict}")

    path = find_bundled()
    matrices, hodge = read_npz(path)  # whatever their checksums, so that more faults are told
    data = Cicy4(matrices, hodge, str(path), "stored", fingerprint(matrices, hodge))
    for name, array in (("matrix", data.matrices), ("hodge", data.hodge)):
        check(f"sha256 of {name} is {CHECKSUMS[name]}", int(checksum(array) != CHECKSUMS[name]))
    with chunks.threads_unless(executor) as workers:
        try:
            faults = label_faults(data, executor=workers)
        except ValueError as error:  # a matrix is none, and the rest cannot be computed
            check(str(error), 1)
            return False
        for fault, number in faults.items():
            check(f"no configuration whose {fault}", number)
        check(
            "no redundant piece, no ineffective split, canonical form",
            int(breaks_rules(data.matrices, executor=workers).sum()),
        )
    check("no matrix twice, in order", int((~in_order(data.matrices)).sum()))
    recorded, found = recorded_statistics(), statistics(data)
    for key, value in found.items():
        check(f"{key} {json.dumps(value)}", int(recorded.get(key) != json.loads(json.dumps(value))))
    check("no other statistics recorded", len(recorded.keys() - found.keys()))
    return sound


def recorded_statistics() -> dict[str, Any]:
    """The statistics of the complete list, from the file beside it.

    Raises:
        FileNotFoundError: the file is missing.
    """
    return json.loads(Path(find_data_file(STATISTICS_FILE)).read_text())


def _counts(values: np.ndarray) -> dict[str, int]:
    numbers, counts = np.unique(values, return_counts=True)
    return dict(zip(map(str, numbers.tolist()), counts.tolist(), strict=True))
