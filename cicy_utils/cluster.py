"""A Dask cluster: its scheduler, how to connect to it, and who its workers are.

The scheduler and the workers are Dask's own commands, `dask scheduler` and `dask worker`. They are
given chunks of the exact computations of the list (`chunks`) and notebooks (`batch.workers`).

`distributed` is an optional package, imported when a cluster is connected to.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cicy_utils.places import allowed_cores

if TYPE_CHECKING:
    from distributed import Client, Security

LOCALHOST = "127.0.0.1"
# Of a scheduler or worker: a page is served, on this machine, even without its dashboard.
PAGE_HERE_ONLY = ("--no-dashboard", "--dashboard-address", f"{LOCALHOST}:0")
PORT = 8786
CONNECT_SECONDS = 10
WORKER_SECONDS = 20  # for the first worker to come, if there is none
GPU = "GPU"  # the resource that workers with a GPU are started with
INSTALL = "install it with `python -m pip install distributed`"


class Lost(RuntimeError):
    """The cluster went away; what was done is in files, and the same command goes on."""


@dataclass(frozen=True)
class Tls:
    """Files, in PEM format, by which both ends of a connection know each other.

    ca_file: of the authority that both were signed by; cert, key: one's own.
    """

    ca_file: Path
    cert: Path
    key: Path

    def security(self) -> Security:
        """What Dask makes of them.

        Raises:
            ValueError: a file is missing.
        """
        from distributed import Security

        for path in (self.ca_file, self.cert, self.key):
            if not Path(path).is_file():
                raise ValueError(f"there is no file {path}, which TLS needs")
        return Security(
            require_encryption=True,
            tls_ca_file=str(self.ca_file),
            tls_client_cert=str(self.cert),
            tls_client_key=str(self.key),
        )


@dataclass
class Cluster:
    """The workers of a scheduler that have a resource, or all of them.

    Attributes:
        client: the connection.
        resource: the resource that every task takes one unit of; None for a thread of any worker.
    """

    client: Client
    resource: str | None
    _cores: dict[str, frozenset[int]] = field(default_factory=dict)  # by worker, told once

    def executor(self) -> Executor:
        """Runs functions on the workers; one whose worker died is run again by another."""
        wanted = {"resources": {self.resource: 1}} if self.resource else {}
        return self.client.get_executor(pure=False, **wanted)

    def workers(self) -> dict[str, dict[str, Any]]:
        """Address and description, as Dask has it, of every worker that tasks can go to.

        Raises:
            Lost: the scheduler does not answer.
        """
        if self.client.status != "running":
            raise Lost("the connection to the scheduler was lost")
        with _answering():
            found = self.client.scheduler_info(n_workers=-1)["workers"]
        return {address: told for address, told in found.items() if self._slots(told)}

    def slots(self) -> int:
        """How many tasks the workers can do at once."""
        return sum(map(self._slots, self.workers().values()))

    def neighbours(self) -> dict[str, int]:
        """Of every worker, how many tasks may run at once on the cores that it may use.

        Workers that were each given some of the cores of a machine have these for themselves;
        those of one shell, or of one container, share what they all have.

        Raises:
            Lost: the scheduler does not answer.
        """
        workers = self.workers()
        if new := [address for address in workers if address not in self._cores]:
            with _answering():
                self._cores |= self.client.run(allowed_cores, workers=new, on_error="ignore")
        places = {
            address: (told["host"], self._cores.get(address)) for address, told in workers.items()
        }
        sharing: Counter[tuple] = Counter()
        for address, told in workers.items():
            sharing[places[address]] += self._slots(told)
        return {address: sharing[place] for address, place in places.items()}

    def _slots(self, told: Mapping[str, Any]) -> int:
        if self.resource is None:
            return told["nthreads"]
        return int(min(told["resources"].get(self.resource, 0), told["nthreads"]))


@contextmanager
def _answering() -> Iterator[None]:
    """Raises ``Lost`` where the scheduler does not answer."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        raise Lost(f"the scheduler does not answer ({error})") from error


@contextmanager
def connect(
    address: str, *, tls: Tls | None = None, resource: str | None = None
) -> Iterator[Cluster]:
    """Connect to a scheduler, make sure of its workers, and leave it as it was in the end.

    Args:
        address: as in tcp://127.0.0.1:8786, or tls://HOST:PORT.
        tls: files for the latter; without them Dask's own configuration is taken.
        resource: that the workers must have; None for "GPU" if one of them has that, else for any
            worker.

    Raises:
        ValueError: within seconds, where there is no such scheduler, no worker, or none with the
            resource; or distributed is not installed.
    """
    match = re.fullmatch(r"(tcp|tls)://(\[[^\]]+\]|[^\s:/]+):(\d+)", address)
    if not match:
        raise ValueError(f"the address of a scheduler looks like tcp://HOST:8786, not {address!r}")
    if tls and match[1] == "tcp":
        raise ValueError(f"TLS files are given, and {address} is not encrypted; use tls://")
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(f"a cluster needs the package distributed; {INSTALL}") from None
    # What it says of lost connections is said here, in fewer words.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    options = {"security": tls.security()} if tls else {}
    # A client that found nobody closes when it is collected. In the thread that the next one is
    # just starting, each would wait for the other.
    gc.collect()
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False, **options)
    except (OSError, TypeError, RuntimeError) as error:  # a TypeError is TLS without any files
        raise ValueError(
            f"no scheduler answers at {address} ({reason(error)}); start one with `bash "
            "run_all.sh scheduler`, or see that address and certificates are its own"
        ) from None
    try:
        yield Cluster(client, _resource(client, address, resource))
    finally:
        client.close(timeout=CONNECT_SECONDS)


def reason(error: Exception) -> str:
    """The innermost cause of an error that says something, on one line."""
    while error.__cause__ and str(error.__cause__).strip():
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _resource(client: Client, address: str, wanted: str | None) -> str | None:
    """The resource that tasks take, made sure of."""
    end = time.monotonic() + WORKER_SECONDS
    while not (workers := client.scheduler_info(n_workers=-1)["workers"]):
        if time.monotonic() > end:
            raise ValueError(
                f"no worker has come to {address} in {WORKER_SECONDS} seconds; start some with "
                f"`dask worker {address} --nthreads 1`"
            )
        time.sleep(0.2)
    offered = sorted({name for told in workers.values() for name in told["resources"]})
    if wanted is None:
        return GPU if GPU in offered else None
    if not Cluster(client, wanted).slots():
        raise ValueError(
            f"none of the {len(workers)} workers of {address} has the resource {wanted} (they "
            f"have {', '.join(offered) or 'none'}); start one with `dask worker {address} "
            f'--nthreads 1 --resources "{wanted}=1"`'
        )
    return wanted


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give a command the options by which it finds a cluster."""
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="let the workers of this Dask scheduler do the work, as in tcp://127.0.0.1:8786",
    )
    parser.add_argument(
        "--resource",
        metavar="NAME",
        help="only workers that were started with this resource (default: GPU if one has that)",
    )
    _add_tls(parser)


def from_options(options: argparse.Namespace) -> AbstractContextManager[Cluster] | None:
    """The connection that a command was asked for; None for none.

    Raises:
        ValueError: TLS options without a scheduler, or not all three; when entered, those of
            :func:`connect`.
    """
    tls = _tls(options)
    if options.scheduler is None:
        if tls or options.resource:
            raise ValueError("the options --resource and --tls-... need --scheduler")
        return None
    return connect(options.scheduler, tls=tls, resource=options.resource)


def _add_tls(parser: argparse.ArgumentParser) -> None:
    for name, what in {"ca-file": "authority", "cert": "certificate", "key": "key"}.items():
        parser.add_argument(
            f"--tls-{name}", type=Path, metavar="FILE", help=f"{what} for tls://, in PEM format"
        )


def _tls(options: argparse.Namespace) -> Tls | None:
    files = (options.tls_ca_file, options.tls_cert, options.tls_key)
    if not any(files):
        return None
    if not all(files):
        raise ValueError("TLS needs all of --tls-ca-file, --tls-cert and --tls-key")
    return Tls(*files)


def scheduler_parser() -> argparse.ArgumentParser:
    """The options of ``run_all.sh scheduler``."""
    parser = argparse.ArgumentParser(
        prog="bash run_all.sh scheduler",
        allow_abbrev=False,
        description="Start a Dask scheduler, until Ctrl-C. Whoever can connect to it can run "
        "programs as you: it listens on this machine only unless it is asked to do otherwise.",
    )
    parser.add_argument(
        "--host", default=LOCALHOST, help=f"address to listen on (default: {LOCALHOST})"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"(default: {PORT})")
    _add_tls(parser)
    return parser


def start_scheduler(options: argparse.Namespace) -> None:
    """Become the process of a scheduler.

    Raises:
        ValueError: not all files for TLS, or distributed is not installed.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise ValueError(f"a cluster needs the package distributed; {INSTALL}") from None
    command = [sys.executable, "-m", "dask", "scheduler", "--host", options.host]
    command += ["--port", str(options.port), *PAGE_HERE_ONLY]
    if tls := _tls(options):
        tls.security()
        command += ["--protocol", "tls", "--tls-ca-file", str(tls.ca_file)]
        command += ["--tls-cert", str(tls.cert), "--tls-key", str(tls.key)]
    elif options.host not in (LOCALHOST, "localhost", "::1"):
        print(
            f"Whoever can connect to {options.host}:{options.port} can run programs as you; use "
            "this in a closed network, or with certificates (--tls-...).",
            file=sys.stderr,
            flush=True,
        )
    os.execv(command[0], command)
