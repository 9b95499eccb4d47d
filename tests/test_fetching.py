"""Downloads from a server of our own: recorded once, compared after, retried, refused."""

from __future__ import annotations

import hashlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cicy_utils import data, fetching
from cicy_utils.archives import Refused
from cicy_utils.data import load_cicy4
from cicy_utils.fetching import fetch
from cicy_utils.published import write_text


class Server(ThreadingHTTPServer):
    """Serves ``content`` for any path, after so many failures; counts what was asked."""

    content = b""
    failures = 0
    promised = 0  # bytes more than are sent
    asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/projects/cicy4list.zip"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked += 1
        if server.failures > 0:
            server.failures -= 1
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(server.content) + server.promised))
        self.end_headers()
        self.wfile.write(server.content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, cicy4_few, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between attempts
    write_text(tmp_path / "original.zip", cicy4_few)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.content = (tmp_path / "original.zip").read_bytes()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server, folder, **options):
    return fetch(server.url, folder=folder, progress=False, **options)


def test_fetched_once_and_recorded(server, tmp_path, cicy4_few):
    path = get(server, tmp_path / "new")
    assert path == tmp_path / "new" / "cicy4list.zip"
    digest = hashlib.sha256(server.content).hexdigest()
    assert (tmp_path / "new" / "cicy4list.zip.sha256").read_text() == f"{digest}  cicy4list.zip\n"
    assert len(load_cicy4(path)) == len(cicy4_few)
    assert get(server, tmp_path / "new") == path
    assert server.asked == 1
    assert sorted(child.name for child in path.parent.iterdir()) == [
        "cicy4list.zip",
        "cicy4list.zip.sha256",
    ]


def test_a_file_of_which_nothing_is_recorded_is_neither_fetched_nor_believed(server, tmp_path):
    """As one that another program has fetched, or fetched half."""
    path = tmp_path / "cicy4list.zip"
    path.write_bytes(server.content[:-100])
    with pytest.raises(Refused, match=r"is there already, .* delete it to fetch it"):
        get(server, tmp_path)
    assert not path.with_name("cicy4list.zip.sha256").exists()
    digest = hashlib.sha256(server.content).hexdigest()
    assert get(server, tmp_path, sha256=digest).read_bytes() == server.content


def test_damaged_copy_is_fetched_again(server, tmp_path):
    path = get(server, tmp_path)
    path.write_bytes(server.content[:-100])
    assert get(server, tmp_path).read_bytes() == server.content
    assert server.asked == 2


def test_other_content_than_recorded_is_refused(server, tmp_path):
    path = get(server, tmp_path)
    path.unlink()
    server.content += b"?"
    with pytest.raises(Refused, match=r"has another checksum than [0-9a-f]{64}; .* delete"):
        get(server, tmp_path, retries=1)
    assert not path.exists()
    assert server.asked == 3
    assert sorted(child.name for child in tmp_path.iterdir()) == [
        "cicy4list.zip.sha256",
        "original.zip",
    ]


def test_given_checksum(server, tmp_path):
    digest = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(Refused, match=r"another checksum than 0{64}; what came was thrown away$"):
        get(server, tmp_path, sha256="0" * 64, retries=0)
    assert get(server, tmp_path, sha256=digest.upper()).read_bytes() == server.content
    with pytest.raises(Refused, match=f"says {digest}, not {'0' * 64}"):
        get(server, tmp_path, sha256="0" * 64)
    with pytest.raises(Refused, match="is no sha256"):
        get(server, tmp_path, sha256="abc")


def test_failures_are_retried(server, tmp_path):
    server.failures = 2
    assert get(server, tmp_path, retries=2).read_bytes() == server.content
    assert server.asked == 3


def test_server_that_stays_away(server, tmp_path):
    server.failures = 99
    with pytest.raises(Refused, match=r"could not be fetched \(HTTPError"):
        get(server, tmp_path / "new", retries=1)
    assert server.asked == 2
    assert not any((tmp_path / "new").iterdir())


def test_download_that_breaks_off(server, tmp_path):
    server.promised = 1000
    with pytest.raises(Refused, match="could not be fetched"):
        get(server, tmp_path / "new", retries=0)
    assert not any((tmp_path / "new").iterdir())


def test_a_server_that_does_not_stop(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "LARGEST", len(server.content))
    get(server, tmp_path / "just")
    monkeypatch.setattr(fetching, "LARGEST", len(server.content) - 1)
    with pytest.raises(Refused, match=r"sends more than 0 MB, so it is no list"):
        get(server, tmp_path / "new")
    assert server.asked == 2  # not again
    assert not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize("content", [b"<html>moved</html>", b"", b"PK\x03\x04 and no more"])
def test_what_is_no_list_is_not_recorded(server, tmp_path, content):
    server.content = content
    with pytest.raises(Refused):
        get(server, tmp_path / "new")
    assert not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize("url", ["ftp://x/list.zip", "http://x/", "http://x/..", "file:///etc/x"])
def test_addresses_that_are_none(tmp_path, url):
    with pytest.raises(Refused, match="not the http address of a file"):
        fetch(url, folder=tmp_path)


def test_unreadable_record(server, tmp_path):
    (tmp_path / "cicy4list.zip.sha256").write_text("?")
    with pytest.raises(Refused, match="holds no sha256"):
        get(server, tmp_path)


def test_without_pooch(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(Refused, match="pip install pooch requests"):
        fetch(folder=tmp_path)


def test_command(server, tmp_path, capsys):
    assert data.main(["fetch", "--url", server.url, "--folder", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'new' / 'cicy4list.zip'}\n")
    server.failures = 99
    arguments = ["fetch", "--url", server.url, "--folder", str(tmp_path / "other")]
    assert data.main(arguments) == 1
    assert "FAILED: " in capsys.readouterr().err


def test_default_address():
    assert fetching.URL.endswith(
        "www-thphys.physics.ox.ac.uk/projects/CalabiYau/Cicy4folds/cicy4list.zip"
    )
