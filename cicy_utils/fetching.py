"""Download of the published list, with a checksum that is recorded once and compared ever after.

``pooch`` does the work: it retries, shows progress, and puts a file in place only when it is
complete and has the expected checksum. The server offers no checksum, and the address has no TLS,
so the first download is only as good as the connection; that every entry obeys the rules is
checked at loading, and ``python -m cicy_utils.data compare bundled FILE`` says whether it is the
list that this package rebuilds.
"""

from __future__ import annotations

import re
from io import BufferedWriter
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from cicy_utils import files, published
from cicy_utils.archives import Refused, is_zip, open_zip
from cicy_utils.sources import cache_folder

URL = "http://www-thphys.physics.ox.ac.uk/projects/CalabiYau/Cicy4folds/cicy4list.zip"
RETRIES = 4
TIMEOUT = 60.0  # seconds without an answer
LARGEST = 10**9  # bytes; written out, the list has a third of that, and a seventieth in a zip file


def fetch(
    url: str = URL,
    *,
    folder: Path | None = None,
    sha256: str | None = None,
    retries: int = RETRIES,
    progress: bool = True,
) -> Path:
    """Download a list, unless it is there already with the recorded checksum.

    Args:
        url: of a zip file or a text.
        folder: where to put it and its checksum (``NAME.sha256``); None for the cache folder.
        sha256: the checksum it must have; None for the recorded one, and whatever comes if none
            is recorded.
        retries: how often to try again after a failure.
        progress: show a bar.

    Returns:
        The path of the file.

    Raises:
        Refused: pooch is not installed, the address cannot be fetched, what came has another
            checksum, is no list or is larger than any; a file that was there before is left as it
            was.
    """
    try:
        import pooch
        from requests.exceptions import RequestException
    except ImportError as error:
        raise Refused(
            "fetching needs pooch; install it with `python -m pip install pooch requests`"
        ) from error
    name = PurePosixPath(urlsplit(url).path).name
    if urlsplit(url).scheme not in ("http", "https") or not re.fullmatch(r"\w[\w.-]*", name):
        raise Refused(f"{url} is not the http address of a file; give one that ends in its name")
    folder = Path(folder or cache_folder() / "fetched").expanduser()
    path, record = folder / name, folder / f"{name}.sha256"
    recorded = _recorded(record)
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise Refused(f"{sha256} is no sha256; give its 64 hexadecimal digits")
    if sha256 and recorded and sha256.lower() != recorded:
        raise Refused(f"{record} says {recorded}, not {sha256}; delete that file if it is wrong")
    known = (sha256 or recorded or "").lower()
    was_there = path.exists()
    if was_there and not known:
        raise Refused(
            f"{path} is there already, and nothing says what its checksum should be; load it as it "
            "is, or delete it to fetch it"
        )
    shelf = pooch.create(
        folder,
        base_url="",
        registry={name: f"sha256:{known}" if known else None},
        urls={name: url},
        retry_if_failed=retries,
    )
    downloader = pooch.HTTPDownloader(progressbar=progress, timeout=TIMEOUT)

    def limited(address: str, path: str, shelf: pooch.Pooch) -> None:
        with open(path, "wb") as file:
            downloader(address, _Limited(file), shelf)

    try:
        shelf.fetch(name, downloader=limited)
    except _TooLarge as error:
        raise Refused(
            f"{url} sends more than {LARGEST / 1e6:,.0f} MB, so it is no list; check the address"
        ) from error
    except RequestException as error:
        raise Refused(
            f"{url} could not be fetched ({type(error).__name__}: {' '.join(str(error).split())}); "
            "try again later or give --url"
        ) from error
    except OSError as error:
        why = error.strerror or error
        raise Refused(f"{folder} cannot be written ({why}); give --folder") from error
    except ValueError as error:  # pooch found another checksum
        changed = f": if the file was changed by its authors, delete {record} and fetch again"
        raise Refused(
            f"{url} has another checksum than {known}; what came was thrown away"
            + (changed if recorded else "")
        ) from error
    try:
        _require_list(path)
    except Refused:
        if not was_there:
            path.unlink()
        raise
    if not recorded:
        files.write_text(record, f"{files.checksum(path)}  {name}\n")
    return path


class _TooLarge(Exception):
    """No ValueError: pooch would try again."""


class _Limited:
    """A file that does not take more than ``LARGEST`` bytes, whatever a server sends."""

    def __init__(self, file: BufferedWriter) -> None:
        self.file, self.flush = file, file.flush

    def write(self, content: bytes) -> None:
        if self.file.tell() + len(content) > LARGEST:
            raise _TooLarge
        self.file.write(content)


def _recorded(record: Path) -> str:
    if not record.is_file():
        return ""
    words = record.read_text(encoding="ascii", errors="replace").split()
    if not words or not re.fullmatch(r"[0-9a-f]{64}", words[0]):
        raise Refused(f"{record} holds no sha256; delete it to record one anew")
    return words[0]


def _require_list(path: Path) -> None:
    """A page that says the file has moved is no list: its checksum must not be recorded."""
    if is_zip(path):
        with open_zip(path) as archive:
            published.text_member(archive)
        return
    with open(path, "rb") as file:
        beginning = file.read(1000).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not beginning.startswith(b"{"):
        raise Refused(
            f"what came is neither a zip file nor a list in braces ({path}); check the address"
        )
