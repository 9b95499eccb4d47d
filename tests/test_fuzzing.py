"""A few thousand damaged inputs; `tests/fuzzing.py` reads a hundred thousand."""

from __future__ import annotations

import fuzzing
import pytest
from fuzzing import fuzz

from cicy_utils import sources


def test_damaged_inputs_are_read_or_refused(tmp_path):
    outcomes, failures = fuzz(2000, tmp_path, seed=1)
    assert failures == []
    assert sum(outcomes.values()) == 2000
    assert min(outcomes[kind] for kind in ("sound", "broken", "refused")) > 100


@pytest.mark.parametrize("error", [IndexError("oops"), ValueError("numpy's own words"), OSError(2)])
def test_any_other_error_is_a_failure(tmp_path, monkeypatch, error):
    """The fuzzing itself would notice."""
    genuine = sources.read_entries

    def read(path):
        if path.name != "input":
            return genuine(path)
        raise error

    monkeypatch.setattr(sources, "read_entries", read)
    outcomes, failures = fuzz(30, tmp_path)
    assert len(failures) == 10
    assert type(error).__name__ in failures[0].reason
    again = fuzz(30, tmp_path, only=failures[0].number)[1]
    assert [(failure.number, failure.kind) for failure in again] == [
        (failures[0].number, failures[0].kind)
    ]
    assert outcomes["sound"] + outcomes["broken"] + outcomes["refused"] < 30


def test_an_interrupt_leaves_no_watchdog_and_no_folder(tmp_path, monkeypatch):
    def interrupted(content, path):
        if path.name == "seed":
            return "sound"
        raise KeyboardInterrupt

    waiting = []
    monkeypatch.setattr(fuzzing, "_read", interrupted)
    watchdog = fuzzing.faulthandler
    monkeypatch.setattr(watchdog, "dump_traceback_later", lambda *_, **__: waiting.append(1))
    monkeypatch.setattr(watchdog, "cancel_dump_traceback_later", waiting.clear)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        fuzzing.main(["--inputs", "30"])
    assert waiting == []
    assert list(tmp_path.iterdir()) == []


def test_slow_and_large_rounds_are_failures(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzzing, "SLOWEST", 0.0)
    assert "it took" in fuzz(1, tmp_path)[1][0].reason
    monkeypatch.setattr(fuzzing, "MEMORY", -1)
    assert "memory grew" in fuzz(1, tmp_path)[1][1].reason


def test_command(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert fuzzing.main(["--inputs", "30", "--seed", "2"]) == 0
    assert "30 inputs in" in capsys.readouterr().out
    assert fuzzing.main(["--only", "7"]) == 0
    assert "the input is in" in capsys.readouterr().out


@pytest.mark.long
def test_a_hundred_thousand(tmp_path):
    outcomes, failures = fuzz(100_000, tmp_path)
    assert failures == []
    assert sum(outcomes.values()) == 100_000
