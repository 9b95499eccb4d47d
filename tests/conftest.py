"""What several test modules share."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from cicy_utils import steps, topology
from cicy_utils.data import Cicy4, load_cicy4

FOURFOLDS = ([[6]], [[2], [5]], [[1, 1], [1, 5]], [[2, 5]], [[4], [3]])
SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests have an hour before they count as hanging."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> None:
    """Tests leave the user's cache alone; processes that they start inherit this."""
    os.environ["CICY4_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> None:
    """Ctrl-C works as in a terminal; a job in the background is started without it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cicy4() -> Cicy4:
    """The complete list."""
    return load_cicy4()


@pytest.fixture(scope="session")
def cicy4_sample() -> Cicy4:
    """A few hundred configurations of the list, small ones and large ones."""
    return load_cicy4(subset=300)


@pytest.fixture(scope="session")
def cicy4_few(cicy4_sample) -> Cicy4:
    """Thirty configurations, for tests that validate them again and again."""
    return Cicy4(
        cicy4_sample.matrices[::10], cicy4_sample.hodge[::10], "few", "stored", "not computed"
    )


@pytest.fixture(scope="session")
def small_list() -> Cicy4:
    """Five four-folds, ten times each."""
    matrices = np.zeros((len(FOURFOLDS), 16, 20), np.uint8)
    for padded, matrix in zip(matrices, FOURFOLDS, strict=True):
        rows, columns = np.shape(matrix)
        padded[:rows, :columns] = matrix
    hodge = topology.hodge_numbers_batch(matrices).astype(np.int16)
    return Cicy4(np.tile(matrices, (10, 1, 1)), np.tile(hodge, (10, 1)), "test", "stored", "f" * 64)


@pytest.fixture(scope="session")
def published_threefolds() -> list[tuple[np.ndarray, tuple[int, int], int]]:
    """Half of the published three-fold list, where it is at hand: (matrix, (h11, h21), chi)."""
    path = SHARED / "facts" / "cicy3_half.json"
    if not path.is_file():
        pytest.skip(f"the published three-fold list is not at {path}")
    entries = json.loads(path.read_text())["entries"]
    return [
        (np.array(entry["configuration"])[:, 1:], (entry["h11"], entry["h21"]), entry["euler"])
        for entry in entries
    ]


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """A clock that only trainings move: a second for every step."""
    seconds, take = [0.0], steps.TrainStep.__call__

    def step(self, batch):
        seconds[0] += 1.0
        take(self, batch)

    monkeypatch.setattr(steps.TrainStep, "__call__", step)
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds
