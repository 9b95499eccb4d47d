"""Zip files and npy files that are damaged or mean harm: one sentence each, nothing written."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from cicy_utils import archives
from cicy_utils.archives import Folder, Refused, open_zip, read_npy


def zipped(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_members_of_a_zip_file(tmp_path):
    path = zipped(tmp_path / "a.zip", **{"folder/list.txt": b"{}", "__MACOSX/list.txt": b"x"})
    with open_zip(path) as archive:
        assert archive.names() == ["folder/list.txt"]
        assert archive.find("list.txt") == "folder/list.txt"
        assert archive.find("other.txt") is None
        assert archive.size("folder/list.txt") == 2
        with archive.open("folder/list.txt") as stream:
            assert stream.read() == b"{}"


def test_two_members_of_one_name(tmp_path):
    path = zipped(tmp_path / "a.zip", **{"a/list.txt": b"{}", "b/list.txt": b"{}"})
    with open_zip(path) as archive, pytest.raises(Refused, match=r"a/list\.txt, b/list\.txt"):
        archive.find("list.txt")


def test_two_members_of_one_full_name(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        for content in ("{}", "{{}}"):
            archive.writestr("list.txt", content)
    with pytest.raises(Refused, match="two members of one name"), open_zip(path):
        pass


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "c:evil.txt"])
def test_member_outside_the_archive(tmp_path, name):
    path = zipped(tmp_path / "a.zip", **{name: b"{}"})
    with pytest.raises(Refused, match="points outside the archive"), open_zip(path):
        pass
    assert [child.name for child in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("kept", [0.2, 0.9, 0.99])
def test_truncated_zip(tmp_path, kept):
    path = zipped(tmp_path / "a.zip", **{"list.txt": bytes(range(256)) * 50})
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(Refused, match="damaged or truncated zip file"), open_zip(path):
        pass


def test_damaged_member(tmp_path):
    path = zipped(tmp_path / "a.zip", **{"list.txt": np.random.default_rng(0).bytes(5000)})
    content = bytearray(path.read_bytes())
    content[2000] ^= 255
    path.write_bytes(content)
    refused = pytest.raises(Refused, match="damaged or truncated zip file")
    with open_zip(path) as archive, archive.open("list.txt") as stream, refused:
        stream.read()


def test_bomb(tmp_path, monkeypatch):
    monkeypatch.setattr("cicy_utils.archives.MAX_MEMBER_BYTES", 99_999)
    path = zipped(tmp_path / "a.zip", **{"list.txt": b" " * 100_000})
    with pytest.raises(Refused, match="unpacks to 100,000 bytes"), open_zip(path):
        pass


def test_directory_of_members_that_is_too_large(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", **{f"{number}.txt": b"" for number in range(1001)})
    with pytest.raises(Refused, match="1,001 members"), open_zip(path):
        pass
    monkeypatch.setattr("cicy_utils.archives._MAX_DIRECTORY", 30_000)
    with pytest.raises(Refused, match="directory of members is too large"), open_zip(path):
        pass


def test_encrypted_member(tmp_path):
    path = zipped(tmp_path / "a.zip", **{"list.txt": b"{}"})
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(Refused, match="encrypted"), open_zip(path):
        pass


def test_other_compression(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("list.txt", b"{}")
    with pytest.raises(Refused, match="not compressed by deflate"), open_zip(tmp_path / "a.zip"):
        pass


# -------------------------------------------------------------------------------------------------
# npy
# -------------------------------------------------------------------------------------------------


def read_all(folder, name="a.npy"):
    with read_npy(Folder(folder), name) as (header, chunks):
        return header, [(start, chunk.copy()) for start, chunk in chunks]


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "<f4", ">f8", "?", "f2"])
def test_arrays_come_in_chunks(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr(archives, "CHUNK", 3)
    array = (np.arange(70).reshape(7, 5, 2) % 2).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    header, parts = read_all(tmp_path)
    starts, chunks = zip(*parts, strict=True)
    assert header.shape == (7, 5, 2)
    assert header.dtype == array.dtype
    assert starts == (0, 3, 6)
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    assert (np.concatenate(chunks) == array).all()


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


def test_arrays_that_are_refused(tmp_path):
    cases = {
        "Python objects": np.array([Evil()], dtype=object),
        "the type '<c16'": np.zeros(3, complex),
        "the type '<U3'": np.array(["abc"]),
        "Fortran order": np.asfortranarray(np.zeros((3, 4))),
        r"the shape \(\)": np.array(3),
        "the shape": np.zeros((1, 1, 1, 1, 1, 1)),
        "damaged header": np.zeros(3, [("a", "i4")]),
    }
    for message, array in cases.items():
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(Refused, match=message):
            read_all(tmp_path)


def test_damaged_npy(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.arange(1000))
    good = stream.getvalue()
    huge = good.replace(b"(1000,), }" + 8 * b" ", b"(999999999999,), }")
    cases = {
        b"": "not an npy file",
        b"\x80\x04K\x01.": "not an npy file",
        good[:20]: "damaged header",
        good[:-1]: r"holds 7,999 bytes of numbers where int64 \(1000,\) needs 8,000",
        good + b"x": "holds 8,001 bytes",
        huge: "of which it may have 2,000,000",
        good.replace(b"(1000,), }  ", b"(1000*9,), }"): "damaged header",
        good[:8] + b"\xff\xff" + good[10:]: "header of 65,535 bytes",
    }
    for content, message in cases.items():
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(Refused, match=message):
            read_all(tmp_path)
