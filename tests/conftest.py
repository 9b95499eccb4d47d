"""What several test modules share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cicy_utils.data import Cicy4, load_cicy4

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def cicy4() -> Cicy4:
    """The complete list."""
    return load_cicy4()


@pytest.fixture(scope="session")
def cicy4_sample() -> Cicy4:
    """A few hundred configurations of the list, small ones and large ones."""
    return load_cicy4(subset=300)


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
