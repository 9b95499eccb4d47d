"""Compiled code, and what numba has kept of it: forgotten when any of its sources changes.

Numba compiles a function anew when the file that it stands in has changed, and not when that of a
function has which is compiled into it. So modules with compiled code take ``njit`` from here.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from numba import config, njit

from cicy_utils.files import write_text

_STAMP = "compiled.sha256"


def forget_stale(sources: Path, cache: Path) -> None:
    """Remove what is kept of the modules in a folder, unless all of them are as they were.

    Args:
        sources: the folder of the modules; those that import ``njit`` count.
        cache: where numba keeps what it has compiled of them.
    """
    texts = (path.read_bytes() for path in sorted(sources.glob("*.py")))
    digest = hashlib.sha256(b"".join(text for text in texts if b"import njit" in text)).hexdigest()
    stamp = cache / _STAMP
    with suppress(OSError):  # where nothing can be removed, nothing was kept either
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
            return
        for index in cache.glob("*.nbi"):  # without it the code beside it is not found
            index.unlink(missing_ok=True)
        write_text(stamp, digest)


@njit(cache=True)
def _anything():
    """Tells where numba keeps what is compiled in this folder."""


if not config.DISABLE_JIT:  # else nothing is kept
    forget_stale(Path(__file__).parent, Path(_anything.stats.cache_path))
