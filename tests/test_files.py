"""Files that are whole or absent."""

from __future__ import annotations

import pytest

from cicy_utils import files


def test_a_text_is_utf_8_and_replaces_what_was_there(tmp_path):
    path = tmp_path / "results.md"
    for text in ("old", "h²²: 97.07 % – new\n"):
        files.write_text(path, text)
        assert path.read_bytes() == text.encode("utf-8")
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("old")

    def fail(file):
        file.write(b"half of the n")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        files.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_that_cannot_be_read_is_none(tmp_path):
    path = tmp_path / "metrics.json"
    assert files.read_json(path) is None
    for content, found in (("{", None), ("{}", {}), ('{"seed": 42}', {"seed": 42})):
        path.write_text(content)
        assert files.read_json(path) == found
