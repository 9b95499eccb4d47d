"""Files that are whole or absent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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


def test_of_several_writers_none_fails_and_one_stays_whole(tmp_path):
    path = tmp_path / "index.html"
    texts = [str(number) * 50_000 for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda text: [files.write_text(path, text) for _ in range(20)], texts))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_write_left_goes_with_a_later_one(tmp_path):
    path = tmp_path / "status.json"
    (tmp_path / ".status.json.tmp").write_text("half of something that was longer")
    files.write_text(path, "{}")
    assert path.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_writer_does_not_find_is_its_own_error(tmp_path):
    def read_another(file):
        (tmp_path / "missing").read_text()

    with pytest.raises(FileNotFoundError, match="missing"):
        files.write_atomically(tmp_path / "status.json", read_another)
    assert list(tmp_path.iterdir()) == []


def test_json_that_cannot_be_read_is_none(tmp_path):
    path = tmp_path / "metrics.json"
    assert files.read_json(path) is None
    for content, found in (("{", None), ("{}", {}), ('{"seed": 42}', {"seed": 42})):
        path.write_text(content)
        assert files.read_json(path) == found
