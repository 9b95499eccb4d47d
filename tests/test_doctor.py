"""The doctor: a sound machine has no problem, and everything that can be wrong is told.

What is changed here is the machine: files, packages, kernels, the environment.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cicy_utils import data, lease
from cicy_utils.batch import __main__ as command
from cicy_utils.batch import doctor, runner

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def root(tmp_path) -> Path:
    """The folder of a clone, as far as the doctor looks at it."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path


def change(root: Path, old: str, new: str) -> None:
    """Change the clone's pyproject.toml."""
    path = root / "pyproject.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def look(root: Path, name: str) -> doctor.Finding:
    """What one check of the table finds, through everything that the command does."""
    (check,) = [check for check in doctor.CHECKS if check.name == name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "CHECKS", (check,))
        ((_, finding),) = doctor.examine(root)
    return finding


def test_a_sound_machine_has_no_problem(root, capsys):
    assert doctor.main(root) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if not line.startswith(" ")]
    assert {line.split()[0] for line in told[:-2]} <= {doctor.OK, doctor.NOTE}
    assert [line[9:22].strip() for line in told[:-2]] == [check.name for check in doctor.CHECKS]
    assert len(lines) <= 40  # about a screenful
    assert "905,684 configurations" in "".join(lines)
    assert told[-1] == "0 problems."
    assert list((root / "results").iterdir()) == []  # it leaves nothing behind


def test_one_problem_is_an_exit_code_and_its_remedy_is_told(root, capsys, monkeypatch):
    monkeypatch.setattr(
        doctor, "CHECKS", [check for check in doctor.CHECKS if check.name in ("disk", "packages")]
    )
    change(root, "numpy>=2.0", "numpy>=99")
    assert doctor.main(root) == 1
    out = capsys.readouterr().out
    assert out.startswith("problem  packages     numpy is ")
    assert "\n                      -> delete the folder .venv" in out
    assert out.endswith("\n1 problem.\n")


def test_another_python_is_refused(root):
    change(root, ">=3.11,<3.14", ">=3.99")
    finding = look(root, "Python")
    assert finding.state == doctor.PROBLEM
    assert ">=3.99 is needed" in finding.text


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("jinja2>=3.1", "no-such-package>=3.1", "no-such-package is missing"),
        ("nbclient>=0.10", "nbclient>=99", ">=99 is needed"),
        ("optuna>=4.0", "no-such-optuna>=4.0", "no-such-optuna is missing"),
    ],
)
def test_packages_that_are_missing_or_too_old_are_named(root, old, new, told):
    change(root, old, new)
    finding = look(root, "packages")
    assert finding.state == doctor.PROBLEM
    assert told in finding.text
    assert finding.remedy


def test_what_only_some_things_need_is_a_note(root):
    change(root, "pooch>=1.8", "no-such-pooch>=1.8")
    finding = look(root, "extras")
    assert finding.state == doctor.NOTE
    assert "the download of the published list: no-such-pooch is missing" in finding.text
    assert "[fetch" in finding.remedy


@pytest.mark.parametrize(
    ("module", "name"),
    [("torch", "PyTorch"), ("jupyter_client", "kernel"), ("numpy", "arithmetic")],
)
def test_a_package_that_cannot_be_imported_is_a_problem(root, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    finding = look(root, name)
    assert finding.state == doctor.PROBLEM
    assert module in finding.text
    assert finding.remedy


def test_without_any_package_it_still_runs():
    """In a Python of its own that has nothing but the standard library."""
    alone = [sys.executable, "-S", "-m", "cicy_utils.batch.doctor"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(alone, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "problem  packages     ModuleNotFoundError" in done.stdout
    assert "ok       disk" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("there", "driver", "built", "state", "told", "remedy"),
    [
        (False, None, None, doctor.NOTE, "none, so networks train on the processor", ""),
        (True, None, "13.0", doctor.PROBLEM, "its driver cannot be loaded", "install the driver"),
        (True, (12, 8), None, doctor.PROBLEM, "is built for a CPU only", "for CUDA up to 12.8"),
        (True, (12, 8), "13.0", doctor.PROBLEM, "takes CUDA up to 12.8, and", "built for CUDA 12"),
        (True, (12, 2), "12.8", doctor.PROBLEM, "CUDA does not start", "nvidia-smi"),
    ],
)
def test_a_gpu_that_pytorch_cannot_use_is_a_problem(
    root, monkeypatch, there, driver, built, state, told, remedy
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(doctor, "gpu_is_there", lambda: there)
    monkeypatch.setattr(doctor, "_driver", lambda: driver and doctor.Cuda(*driver))
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finding = look(root, "GPU")
    assert finding.state == state
    assert told in finding.text
    assert remedy in finding.remedy
    if there:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # somebody's wish, and not a mistake
        finding = look(root, "GPU")
        assert finding.state == doctor.NOTE
        assert "CUDA_VISIBLE_DEVICES= hides" in finding.text


def test_the_main_job_warns_before_it_begins(tmp_path, monkeypatch, capfd):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr(doctor, "gpu_is_there", lambda: True)
    monkeypatch.setattr(doctor, "_driver", lambda: doctor.Cuda(12, 8))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def begin(*arguments, **options):
        _, err = capfd.readouterr()
        assert err.splitlines()[0] == "!" * doctor.WIDTH
        assert err.splitlines()[1].startswith("problem  GPU          there is one that PyTorch")
        assert "ok " not in err
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", begin)
    assert command.main(["run", "--profile", "smoke", "--only", "00"], tmp_path) == 130


def test_a_damaged_list_is_told(root, tmp_path, monkeypatch):
    damaged = tmp_path / "cicy4.npz"
    content = bytearray(data.find_bundled().read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    monkeypatch.setenv("CICY4_DATA", str(damaged))
    finding = look(root, "list")
    assert finding.state == doctor.PROBLEM
    assert str(damaged) in finding.text
    assert "data/cicy4.npz" in finding.remedy
    damaged.unlink()
    assert "no file is there" in look(root, "list").text


def test_a_kernel_that_dies_is_told(root, tmp_path, monkeypatch):
    use_kernel(tmp_path, monkeypatch, [sys.executable, "-c", "raise SystemExit(3)"])
    finding = look(root, "kernel")
    assert finding.state == doctor.PROBLEM
    assert "died" in finding.text


def test_a_kernel_of_another_environment_is_told(root, tmp_path, monkeypatch):
    elsewhere = (
        "import sys; sys.prefix = '/elsewhere'; from ipykernel.kernelapp import main; main()"
    )
    argv = [sys.executable, "-c", elsewhere, "-f", "{connection_file}"]
    use_kernel(tmp_path, monkeypatch, argv)
    finding = look(root, "kernel")
    assert finding.state == doctor.PROBLEM
    assert "runs in '/elsewhere', not in " in finding.text


def use_kernel(folder: Path, monkeypatch, argv: list[str]) -> None:
    """Let the kernel python3 be another one."""
    spec = folder / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    content = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(content))
    monkeypatch.setenv("JUPYTER_PATH", str(folder / "jupyter"))


def test_a_results_folder_that_cannot_be_written_is_told(root):
    (root / "results").rmdir()
    (root / "results").write_text("a file is in its place")
    finding = look(root, "results")
    assert finding.state == doctor.PROBLEM
    assert f"nothing can be written into {root / 'results'}" in finding.text
    assert "make it writable" in finding.remedy
    assert look(root, "links, locks").state == doctor.PROBLEM


def test_a_file_system_without_links_or_locks_is_a_note(root, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    finding = look(root, "links, locks")
    assert (finding.state, finding.text) == (doctor.NOTE, "the file system of results has no links")
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert look(root, "links, locks").text.endswith("no links and no locks")


def test_a_full_disk_is_told(root, monkeypatch):
    usage = shutil.disk_usage(root)
    for free, state in ((0, doctor.PROBLEM), (doctor.GIB, doctor.NOTE), (99 * doctor.GIB, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        assert look(root, "disk").state == state


def test_who_is_at_work_is_told_and_who_is_dead_is_not(root):
    folder = root / "results" / "mine" / "11_lstm_448" / "seed-42"
    dead = (
        "import os, sys; from cicy_utils import lease; held = lease.hold(sys.argv[1]); "
        "held.__enter__(); os._exit(1)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", dead, str(folder)], env=environment, check=False)
    assert lease.look(lease.lease_file(folder)).is_dead
    assert look(root, "in use").state == doctor.OK
    with lease.hold(folder):
        finding = look(root, "in use")
        assert finding.state == doctor.NOTE
        assert f"mine/11_lstm_448/seed-42 (process {os.getpid()} on" in finding.text
    assert look(root, "in use").state == doctor.OK


def test_every_check_says_what_to_do_when_it_raises(root, monkeypatch):
    def broken(root):
        raise OSError("line one\nline two")

    checks = tuple(check._replace(look=broken) for check in doctor.CHECKS)
    monkeypatch.setattr(doctor, "CHECKS", checks)
    for _, finding in doctor.examine(root):
        assert finding.state == doctor.PROBLEM
        assert finding.text == "OSError: line one line two"
        assert finding.remedy
