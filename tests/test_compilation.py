"""What numba keeps of compiled code does not outlive a change of any source of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ONE = """
from cicy_utils.compilation import njit

@njit(cache=True)
def inner():
    return {}
"""
TWO = """
from pathlib import Path
from cicy_utils import compilation
import one
from cicy_utils.compilation import njit

compilation.forget_stale(Path(__file__).parent, Path(one.inner.stats.cache_path))

@njit(cache=True)
def outer():
    return one.inner()
"""
SHOW = "import two; print(two.outer(), sum(two.outer.stats.cache_hits.values()))"


def run(folder: Path) -> list[str]:
    """What the compiled function gives, and how often it was found in the cache."""
    found = subprocess.run(
        [sys.executable, "-B", "-c", SHOW],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.split()


def test_a_change_in_another_file_is_compiled_in(tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    (tmp_path / "one.py").write_text(ONE.format(1))
    assert [run(tmp_path), run(tmp_path)] == [["1", "0"], ["1", "1"]]
    (tmp_path / "one.py").write_text(ONE.format(2))
    assert [run(tmp_path), run(tmp_path)] == [["2", "0"], ["2", "1"]]


def test_every_module_with_compiled_code_takes_part():
    package = Path(__file__).resolve().parents[1] / "cicy_utils"
    texts = {path.name: path.read_text(encoding="utf-8") for path in package.glob("*.py")}
    compiled = {name for name, text in texts.items() if "njit" in text}
    assert {"topology.py", "canonical.py", "enumeration.py", "validation.py"} < compiled
    own = {name for name in compiled if "cicy_utils.compilation import njit" in texts[name]}
    assert compiled - own == {"compilation.py"}
