"""Where and with how much the program runs."""

import os

import pytest

from cicy_utils import places


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        ("max 100000", 8),
        ("250000 100000", 3),
        ("20000 100000", 1),
        ("3200000 100000", 8),
        (None, 8),
    ],
)
def test_a_container_may_have_a_share_of_the_cores(limit, found, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(places, "CPU_MAX", tmp_path / "cpu.max")
    if limit:
        places.CPU_MAX.write_text(f"{limit}\n")
    assert places.cores() == found
