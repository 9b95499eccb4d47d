"""Loading: arrays, checksums, layouts, subsets, places, refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cicy_utils import data, verification
from cicy_utils.data import CHECKSUMS, LAYOUTS, arrange, checksum, find_bundled, load_cicy4


def test_the_bundled_arrays(cicy4):
    assert cicy4.matrices.shape == (905684, 16, 20)
    assert cicy4.matrices.dtype == np.uint8
    assert cicy4.hodge.shape == (905684, 4)
    assert cicy4.hodge.dtype == np.int16
    assert len(cicy4) == 905684
    assert checksum(cicy4.matrices) == CHECKSUMS["matrix"]
    assert checksum(cicy4.hodge) == CHECKSUMS["hodge"]


def test_statistics_are_the_published_ones(cicy4):
    """Gray, Haupt and Lukas, arXiv 1405.2073; the favourable share to the last digit."""
    found = verification.statistics(cicy4)
    assert found == verification.recorded_statistics()
    assert found["configurations"] == 921_497 - 15_813
    assert found["largest_entry"] == 6
    assert found["favourable"] == 0.5449384111897748
    assert found["minimum"] == {"h11": 1, "h21": 0, "h31": 20, "h22": 204, "euler": 288}
    assert found["maximum"] == {"h11": 24, "h21": 33, "h31": 426, "h22": 1752, "euler": 2610}
    assert found["distinct"]["h11"] == 23
    for name, published, half_a_digit in (
        ("h11", 10.1, 0.05),
        ("h21", 0.8, 0.05),
        ("h31", 39.6, 0.05),
        ("h22", 241, 0.5),
    ):
        assert found["mean"][name] == pytest.approx(published, abs=half_a_digit)


def test_labels_are_those_of_the_matrices(cicy4_sample):
    assert set(verification.label_faults(cicy4_sample).values()) == {0}


def test_wrong_labels_are_counted(cicy4_sample):
    wrong = cicy4_sample.hodge.copy()
    wrong[7, 3] += 2
    wrong[9, 0] += 1
    broken = data.Cicy4(cicy4_sample.matrices, wrong, "test", "stored", "")
    assert set(verification.label_faults(broken).values()) == {2}


@pytest.mark.long
def test_verification_of_everything(capsys):
    assert data.main(["verify"]) == 0
    assert "everything agrees" in capsys.readouterr().out


def test_verification_fails_on_a_damaged_list(tmp_path, monkeypatch, capsys):
    copy = shutil.copy(find_bundled(), tmp_path)
    with open(copy, "r+b") as file:
        file.seek(4_000_000)
        file.write(b"damage")
    monkeypatch.setenv("CICY4_DATA", str(tmp_path))
    assert data.main(["verify"]) == 1
    assert "damaged" in capsys.readouterr().err


def test_a_matrix_that_is_none_is_told_and_ends_the_verification(tmp_path, monkeypatch, cicy4_few):
    matrices = cicy4_few.matrices.copy()
    matrices[5] = 0
    np.savez(tmp_path / "cicy4.npz", matrix=matrices, hodge=cicy4_few.hodge)
    monkeypatch.setenv("CICY4_DATA", str(tmp_path))
    said: list[str] = []
    assert verification.verify(said.append) is False
    assert "configuration 5" in said[-1] and said[-1].endswith("FAILED for 1")


def test_one_wrong_label_is_told_by_every_check_that_sees_it(tmp_path, monkeypatch, cicy4_few):
    right = data.Cicy4(cicy4_few.matrices, cicy4_few.hodge, "test", "stored", "")
    sums = {"matrix": data.checksum(right.matrices), "hodge": data.checksum(right.hodge)}
    known = verification.statistics(right)
    monkeypatch.setattr(verification, "CHECKSUMS", sums)
    monkeypatch.setattr(verification, "recorded_statistics", lambda: json.loads(json.dumps(known)))
    monkeypatch.setenv("CICY4_DATA", str(tmp_path / "cicy4.npz"))
    wrong = right.hodge.copy()
    wrong[7, 3] += 2
    for hodge, sound in ((right.hodge, True), (wrong, False)):
        data.write_npz(tmp_path / "cicy4.npz", right.matrices, hodge)
        lines: list[str] = []
        assert verification.verify(lines.append) is sound
        failed = [line for line in lines if "FAILED for 1" in line]
        assert len(lines) > 10
        assert any("sha256 of hodge" in line for line in failed) is not sound
        assert any("no configuration whose" in line for line in failed) is not sound
        assert any("mean" in line for line in failed) is not sound
        assert not any("sha256 of matrix" in line for line in failed)


def test_changed_entry_is_noticed(tmp_path, cicy4, monkeypatch):
    hodge = cicy4.hodge.copy()
    hodge[123456, 0] += 1
    np.savez(tmp_path / "cicy4.npz", matrix=cicy4.matrices, hodge=hodge)
    monkeypatch.setenv("CICY4_DATA", str(tmp_path / "cicy4.npz"))
    with pytest.raises(ValueError, match="sha256 of 'hodge'"):
        load_cicy4()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_only_move_rows(cicy4_sample, layout):
    arranged = arrange(cicy4_sample.matrices, layout)
    assert arranged.dtype == np.uint8
    for before, after in zip(cicy4_sample.matrices, arranged, strict=True):
        assert sorted(map(bytes, before)) == sorted(map(bytes, after))
        for n_plus_1 in range(1, 8):  # rows of equal n keep their order
            one, other = (rows[rows.sum(axis=1) == n_plus_1] for rows in (before, after))
            assert (one == other).all()
    sums = arranged.sum(axis=2).astype(int)
    zeros_first = layout.endswith("zeros-first")
    rows = (sums > 0).sum(axis=1)
    for total, count in zip(sums, rows, strict=True):
        nonzero = total[-count:] if zeros_first else total[:count]
        ascending = nonzero[::-1] if layout.startswith("descending") else nonzero
        assert (ascending > 0).all()
        assert (np.diff(ascending) >= 0).all()


def test_fingerprint_sees_content_not_layout():
    one, other = load_cicy4(subset=50), load_cicy4(subset=50, layout="descending")
    assert one.fingerprint == other.fingerprint
    assert (one.layout, other.layout) == ("stored", "descending")
    assert load_cicy4(subset=50, subset_seed=1).fingerprint != one.fingerprint
    changed = one.hodge.copy()
    changed[0, 0] += 1
    assert data.fingerprint(one.matrices, changed) != one.fingerprint


def test_subset_is_drawn_in_order_and_by_seed(cicy4):
    subset = load_cicy4(subset=1000)
    assert len(subset) == 1000
    assert (subset.matrices == load_cicy4(subset=1000).matrices).all()
    position = {matrix.tobytes(): index for index, matrix in enumerate(cicy4.matrices)}
    found = [position[matrix.tobytes()] for matrix in subset.matrices]
    assert (np.diff(found) > 0).all()
    assert (cicy4.hodge[found] == subset.hodge).all()


def test_own_file(tmp_path, cicy4_sample):
    path = tmp_path / "own.npz"
    np.savez(path, matrix=cicy4_sample.matrices, hodge=cicy4_sample.hodge)
    loaded = load_cicy4(path)
    assert (loaded.matrices == cicy4_sample.matrices).all()
    assert loaded.source == str(path)


@pytest.mark.parametrize("here", [".", "notebooks"])
def test_a_relative_path_is_looked_up_here_and_from_the_top(
    tmp_path, cicy4_sample, monkeypatch, here
):
    for folder in ("notebooks", "results"):
        (tmp_path / folder).mkdir()
    for name, part in (("own.npz", slice(0, 5)), ("notebooks/own.npz", slice(0, 7))):
        labelled = {"matrix": cicy4_sample.matrices[part], "hodge": cicy4_sample.hodge[part]}
        np.savez(tmp_path / name, **labelled)
    monkeypatch.chdir(tmp_path / here)
    assert len(load_cicy4("own.npz")) == (5 if here == "." else 7)
    found = load_cicy4("notebooks/own.npz")
    assert len(found) == 7
    assert data.main(["check", "notebooks/own.npz"]) == 0
    assert data.main(["compare", "notebooks/own.npz", found.source]) == 0
    monkeypatch.chdir(tmp_path)
    assert load_cicy4(found.source).fingerprint == found.fingerprint


def test_list_comes_with_an_installed_wheel(tmp_path):
    root = Path(data.__file__).resolve().parents[1]
    source, wheels, site = tmp_path / "source", tmp_path / "wheels", tmp_path / "site"
    skip = shutil.ignore_patterns("__pycache__")
    for folder in ("cicy_utils", "data"):
        shutil.copytree(root / folder, source / folder, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True)
    (wheel,) = wheels.iterdir()
    shutil.unpack_archive(wheel, site, format="zip")
    load = "from cicy_utils import data; print(data.find_bundled(), len(data.load_cicy4()))"
    found = subprocess.run(
        [sys.executable, "-P", "-c", load],
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.split() == [str(site / "cicy_utils" / "_data" / "cicy4.npz"), "905684"]


@pytest.mark.parametrize("subset", [0, -1, 905_685, 5.0, True, "all"])
def test_subset_out_of_range(subset):
    with pytest.raises(ValueError, match=f"whole number from 1 to 905,684, not {subset!r}"):
        load_cicy4(subset=subset)


@pytest.mark.parametrize("subset", [[10**7], [-1, -1], [1.0], [[1, 2]], 3])
def test_indices_out_of_range(subset):
    with pytest.raises(ValueError, match=r"indices are integers \(n,\) from 0 to 905,683"):
        load_cicy4(subset=np.array(subset))


def test_indices_twice():
    with pytest.raises(ValueError, match="an index is there twice"):
        load_cicy4(subset=np.array([3, 5, 3]))


def test_unknown_layout():
    with pytest.raises(ValueError, match="unknown layout 'ascending'; choose one of stored"):
        load_cicy4(layout="ascending")


def test_missing_files(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no file"):
        load_cicy4(tmp_path / "none.npz")
    monkeypatch.setenv("CICY4_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="CICY4_DATA is set to"):
        load_cicy4()
    with pytest.raises(FileNotFoundError, match=r"none\.json is neither at"):
        data.find_data_file("none.json")


def test_files_with_other_content(tmp_path, cicy4_sample):
    matrices, hodge = cicy4_sample.matrices, cicy4_sample.hodge
    text = tmp_path / "text.npz"
    text.write_text("{{1, 1, {{6}}}}")
    cases = {
        text: "damaged or truncated zip file",
        saved(tmp_path, "names", a=matrices, b=hodge): "no array 'matrix'",
        saved(tmp_path, "dtype", matrix=matrices / 6, hodge=hodge): "must be uint8",
        saved(tmp_path, "shape", matrix=matrices[:, :15], hodge=hodge): "must be uint8",
        saved(tmp_path, "large", matrix=np.zeros((1, 1 << 20), "u1"), hodge=hodge): "must be uint8",
        saved(
            tmp_path, "deep", matrix=np.zeros((9, 20, 20, 20), "u1"), hodge=hodge
        ): "must be uint8",
        saved(tmp_path, "labels", matrix=matrices, hodge=hodge[:, :3]): r"must be int16 \(N, 4\)",
        saved(tmp_path, "count", matrix=matrices, hodge=hodge[:-1]): "must be int16",
        saved(tmp_path, "pickle", matrix=np.array([{}]), hodge=hodge): "Python objects",
    }
    for path, message in cases.items():
        with pytest.raises(ValueError, match=message):
            load_cicy4(path)


def test_check_and_convert(tmp_path, cicy4_few, capsys):
    hodge = cicy4_few.hodge.copy()
    hodge[4, 3] += 1
    source = saved(tmp_path, "own", matrix=cicy4_few.matrices, hodge=hodge)
    report = tmp_path / "report.csv"
    assert data.main(["check", str(source), "--report", str(report)]) == 1
    assert "30 entries, 0 products, 29 sound, 1 broken" in capsys.readouterr().out
    assert len(report.read_text().splitlines()) == 3  # both relations break

    output = tmp_path / "sound.npz"
    assert data.main(["convert", str(source), str(output)]) == 1
    assert "break a rule" in capsys.readouterr().err
    assert not output.exists()
    for name in ("sound.npz", "sound.txt", "sound.zip"):
        output = tmp_path / name
        assert data.main(["convert", str(source), str(output), "--drop"]) == 0
        assert "note: " in (noted := capsys.readouterr().err)
        assert "1 entries that break a rule were left out" in noted
        assert (load_cicy4(output).hodge == np.delete(hodge, 4, axis=0)).all()
    assert data.main(["check", str(output)]) == 0
    assert data.main(["convert", str(output), str(tmp_path / "sound.dat")]) == 1
    assert "must end in .npz, .txt or .zip" in capsys.readouterr().err
    none = tmp_path / "no"
    for command in (
        ["convert", str(source), str(none / "sound.npz")],
        ["check", str(source), "--report", str(none / "report.csv")],
    ):
        assert data.main(command) == 1
        assert capsys.readouterr().err == f"FAILED: there is no folder {none}\n"


def saved(folder, name, **arrays):
    np.savez(folder / name, **arrays)
    return folder / f"{name}.npz"
