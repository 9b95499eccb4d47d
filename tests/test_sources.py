"""From any file to a trusted list: formats are told apart, entries validated, results cached."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cicy_utils import files, sources
from cicy_utils.archives import Refused
from cicy_utils.data import find_bundled, fingerprint, load_cicy4, write_npz
from cicy_utils.published import write_text
from cicy_utils.sources import check, read_list


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CICY4_CACHE", str(folder))
    return folder


@pytest.fixture
def text(tmp_path, cicy4_few) -> Path:
    path = tmp_path / "list.txt"
    write_text(path, cicy4_few)
    return path


@pytest.fixture
def broken_text(tmp_path, text) -> Path:
    """The same with the first label h22 of the fourth entry changed by 2."""
    lines = text.read_text().splitlines(keepends=True)
    head, h22, null, false = lines[3].rsplit(",", 4)[:4]
    lines[3] = f"{head}, {int(h22) + 2},{null},{false},\n"
    path = tmp_path / "broken.txt"
    path.write_text("".join(lines))
    return path


def test_every_format_gives_the_same_list(tmp_path, cache, cicy4_few, text):
    write_text(tmp_path / "list.zip", cicy4_few)
    np.savez(tmp_path / "list.npz", matrix=cicy4_few.matrices, hodge=cicy4_few.hodge)
    shutil.copy(tmp_path / "list.npz", tmp_path / "renamed.zip")
    shutil.copy(tmp_path / "list.zip", tmp_path / "renamed.dat")
    for folder, name, origin in (
        ("one", "cicy4list.txt", text),
        ("two", "cicy4list.zip", tmp_path / "list.zip"),
        ("three", "cicy4.npz", tmp_path / "list.npz"),
    ):
        (tmp_path / folder).mkdir()
        shutil.copy(origin, tmp_path / folder / name)
    expected = fingerprint(cicy4_few.matrices, cicy4_few.hodge)
    places = ["list.txt", "list.zip", "list.npz", "renamed.zip", "renamed.dat", "one", "two"]
    for place in [*places, "three"]:
        data = load_cicy4(tmp_path / place)
        assert data.fingerprint == expected, place
        assert data.source == str(tmp_path / place)
    part = load_cicy4(text, subset=7, layout="descending")
    assert (len(part), part.layout) == (7, "descending")
    # A profile asks for its number whatever the list is.
    assert load_cicy4(text, subset=5_000).fingerprint == expected
    with pytest.raises(ValueError, match="subset must be a whole number from 1 to"):
        load_cicy4(text, subset=0)


@pytest.mark.filterwarnings("error")
def test_other_hodge_numbers_than_the_exact_ones_are_told(tmp_path, cache, cicy4_few):
    hodge = cicy4_few.hodge.copy()
    hodge[3, :3] += [1, 0, -1]  # both relations still hold
    np.savez(tmp_path / "list.npz", matrix=cicy4_few.matrices, hodge=hodge)
    for _ in ("validated", "from the cache"):
        with pytest.warns(UserWarning, match=r"1 entries have other Hodge numbers .* is entry 3$"):
            found = load_cicy4(tmp_path / "list.npz")
        assert (found.hodge == hodge).all()


def test_things_that_are_no_list(tmp_path, cache):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"none of conf\.npy, cicy4list\.zip"):
        load_cicy4(empty)
    with pytest.raises(FileNotFoundError, match="no file"):
        load_cicy4(tmp_path / "none.zip")
    (tmp_path / "page.zip").write_text("<html>moved</html>")
    with pytest.raises(Refused, match=r"page\.zip, line 1, column 1: .* does not begin with '{'"):
        load_cicy4(tmp_path / "page.zip")
    (tmp_path / "none.txt").write_text("{}")
    with pytest.raises(Refused, match="has no sound entry"):
        load_cicy4(tmp_path / "none.txt")
    assert not cache.exists() or all(path.suffix == ".npz" for path in cache.iterdir())


def test_broken_entries_stop_the_loading_or_are_dropped(cache, cicy4_few, broken_text):
    with pytest.raises(Refused, match=r"1 of 30 entries break a rule, .* entry 3 \(line 4\)"):
        load_cicy4(broken_text)
    assert not cache.exists()
    for _ in range(2):  # parsed, then from the cache
        with pytest.warns(UserWarning, match="1 entries that break a rule were left out"):
            data = load_cicy4(broken_text, drop=True)
        assert (data.matrices == np.delete(cicy4_few.matrices, 3, axis=0)).all()
    assert len(list(cache.iterdir())) == 1
    with pytest.raises(Refused, match="1 of 30 entries"):
        load_cicy4(broken_text)


def test_own_arrays_are_validated_too(tmp_path, cache, cicy4_few):
    hodge = cicy4_few.hodge.copy()
    hodge[2, 0] += 1
    np.savez(tmp_path / "own.npz", matrix=cicy4_few.matrices, hodge=hodge)
    with pytest.raises(Refused, match="the first is entry 2:"):
        load_cicy4(tmp_path / "own.npz")


def test_copies_are_told_every_time(tmp_path, cache, cicy4_few):
    """In another order of rows and columns, too: a random split would part them."""
    permuted = cicy4_few.matrices[2:4, ::-1, ::-1]
    matrices = np.concatenate([cicy4_few.matrices, cicy4_few.matrices[:1], permuted])
    hodge = np.concatenate([cicy4_few.hodge, cicy4_few.hodge[:1], cicy4_few.hodge[2:4]])
    np.savez(tmp_path / "own.npz", matrix=matrices, hodge=hodge)
    for _ in range(2):  # read, then from the cache
        with pytest.warns(UserWarning, match="3 entries, the first of them 30, are earlier ones"):
            assert len(load_cicy4(tmp_path / "own.npz")) == 33
    report = check(tmp_path / "own.npz")
    assert "note: 3 entries, the first of them 30, are earlier ones" in report.text()
    assert not len(report.broken)


def test_report_of_a_source(broken_text):
    report = check(broken_text)
    assert report.broken.tolist() == [3]
    assert report.source == str(broken_text)


def test_second_time_from_the_cache(cache, text, monkeypatch):
    first = read_list(text)
    monkeypatch.setattr(sources, "validate", None)  # it is not called again
    second = read_list(text)
    for name in ("matrices", "hodge", "positions", "broken"):
        assert (getattr(first, name) == getattr(second, name)).all()
        assert getattr(first, name).dtype == getattr(second, name).dtype


def test_changed_source_is_read_again(cache, text):
    before = read_list(text)
    content = text.read_text().splitlines(keepends=True)
    text.write_text("".join(["{" + content[1], *content[2:]]))
    assert len(read_list(text).matrices) == len(before.matrices) - 1
    assert len(list(cache.iterdir())) == 2


def test_a_source_that_changes_while_it_is_read_is_not_kept(cache, text, monkeypatch):
    """Or the new list would come whenever the old one is asked for."""
    read = sources.read_entries

    def replaced_meanwhile(path):
        path.write_bytes(path.read_bytes() + b"\n")
        return read(path)

    monkeypatch.setattr(sources, "read_entries", replaced_meanwhile)
    with pytest.raises(Refused, match="changed while it was read; load it again"):
        read_list(text)
    assert not list(cache.glob("*.npz"))


def test_damaged_cache_is_not_trusted(cache, text, cicy4_few):
    read_list(text)
    (entry,) = cache.iterdir()
    content = bytearray(entry.read_bytes())
    for damage in (content[: len(content) // 2], b"", bytes(len(content))):
        entry.write_bytes(damage)
        assert (read_list(text).matrices == cicy4_few.matrices).all()
        assert [path.name for path in cache.iterdir()] == [entry.name]
        assert (read_list(text).matrices == cicy4_few.matrices).all()


def test_cache_that_cannot_be_read_is_made_again(cache, text, cicy4_few, monkeypatch):
    load_cicy4(text)
    (kept,) = cache.iterdir()
    assert kept.stat().st_mode & 0o444 == 0o444  # others may share the folder
    genuine = Path.read_bytes

    def read_bytes(path):
        if path.parent == cache:
            raise PermissionError(13, "Permission denied")
        return genuine(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert (load_cicy4(text).matrices == cicy4_few.matrices).all()


def test_a_file_that_may_not_be_read_is_refused_in_a_sentence(tmp_path, cicy4_few, monkeypatch):
    write_npz(tmp_path / "own.npz", cicy4_few.matrices, cicy4_few.hodge)

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sources, "read_npz", refuse)
    for read in (load_cicy4, check):
        with pytest.raises(Refused, match=r"own.npz cannot be read \(Permission denied\)"):
            read(tmp_path / "own.npz")


def test_forged_cache_is_not_trusted(cache, text, cicy4_few):
    """A sound npz file with other labels under the name of the cached one."""
    read_list(text)
    (entry,) = cache.iterdir()
    with np.load(entry) as archive:
        arrays = dict(archive)
    arrays["hodge"] = arrays["hodge"] + 1
    with open(entry, "wb") as file:
        np.savez_compressed(file, **arrays)
    assert (read_list(text).hodge == cicy4_few.hodge).all()


def test_cache_that_cannot_be_written(tmp_path, monkeypatch, text, cicy4_few):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("CICY4_CACHE", str(blocked / "cache"))
    with pytest.warns(UserWarning, match="the list was not cached"):
        found = read_list(text)
    assert (found.matrices == cicy4_few.matrices).all()


def test_a_cache_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CICY4_CACHE", "~/cache")
    assert sources.cache_folder() == tmp_path / "cache"


def test_cache_folder_follows_the_system(monkeypatch):
    monkeypatch.delenv("CICY4_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert sources.cache_folder() == Path("/somewhere/cicy4-hodge")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.cache_folder() == Path.home() / ".cache" / "cicy4-hodge"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert sources.cache_folder() == Path.home() / "Library" / "Caches" / "cicy4-hodge"


def test_copy_of_the_bundled_list_needs_no_validation(tmp_path, cache, monkeypatch, cicy4):
    monkeypatch.setattr(sources, "validate", None)
    found = read_list(shutil.copy(find_bundled(), tmp_path / "copy.npz"))
    assert (found.hodge == cicy4.hodge).all()
    assert not cache.exists()


def test_several_processes_at_once(cache, text):
    """Both parse and cache the same source; one entry is left, and it is whole."""
    code = "import sys; from cicy_utils.sources import read_list; read_list(sys.argv[1])"
    root = Path(sources.__file__).parents[1]
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(text)], cwd=root, env=os.environ.copy())
        for _ in range(2)
    ]
    assert [process.wait() for process in running] == [0, 0]
    (entry,) = cache.iterdir()
    assert files.checksum(entry) == entry.stem.split("-")[1]
