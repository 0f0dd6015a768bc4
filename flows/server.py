"""A Prefect server of the run's own, on the loopback interface, for who has none.

`PREFECT_API_URL` in the environment says that there is one; then none is started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from data.store import explain_os_errors

START_SECONDS = 120.0
CONNECT_SECONDS = 5.0


class ServerError(RuntimeError):
    """A server that a run needs does not answer: Prefect's, or Dask's scheduler; the message says what to do."""


def check_scheduler(address: str | None) -> None:
    """See that something answers at the address of a Dask scheduler, within seconds and without loading Dask.

    Raises:
        ServerError: Nothing does.
    """
    if address is None or address.startswith("local"):
        return
    place = urlsplit(address)
    try:
        socket.create_connection((place.hostname or "", place.port or 0), CONNECT_SECONDS).close()
    except OSError as error:
        raise no_scheduler(address, error) from None


def no_scheduler(address: str, error: OSError) -> ServerError:
    """Return the error for a Dask cluster that cannot be reached."""
    return ServerError(
        f"{address}: no Dask scheduler answers ({error}). Start one with `dask scheduler`, and its workers with `dask "
        f"worker {address} --nthreads 1`; or take --cluster local"
    )


def no_server(address: str) -> ServerError:
    """Return the error for a Prefect server that is configured and cannot be reached."""
    return ServerError(
        f"{address}: no Prefect server answers. Start it with `prefect server start`, or unset PREFECT_API_URL: a run "
        "then has a server of its own"
    )


@contextlib.contextmanager
def prefect_server(home: Path) -> Iterator[EmbeddedServer | None]:
    """Start a server and point Prefect at it, unless one is configured already. It never outlives this process.

    Enter this before anything imports Prefect, which reads its settings at import; and call `wait` on what it yields
    before the first flow, so that the seconds of its start are used.

    Args:
        home: Where it keeps its database.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield None
        return
    with explain_os_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        server = EmbeddedServer(home)
    os.environ.update(server.client_environment)
    try:
        yield server
    finally:
        server.stop()
        for name in server.client_environment:
            os.environ.pop(name, None)


class EmbeddedServer:
    """A server process; `wait` returns when it answers."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._api = f"http://127.0.0.1:{port}/api"
        self._log = home / "server.log"
        self.client_environment = {
            "PREFECT_API_URL": self._api,
            "PREFECT_HOME": str(home),
            "PREFECT_LOGGING_LEVEL": "CRITICAL",  # Failures are the command's to explain, once.
            "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
            "PREFECT_LOGGING_TO_API_ENABLED": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "NO_PROXY": "127.0.0.1",
            "DO_NOT_TRACK": "1",
        }
        environment = os.environ | self.client_environment | {"PREFECT_UI_ENABLED": "0"}
        environment |= {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        environment.pop("PREFECT_API_URL")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.server", str(port), str(os.getpid())],
                env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Return when the server answers.

        Raises:
            ServerError: It ended, or took too long.
        """
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if (code := self._process.poll()) is not None:
                raise ServerError(f"the embedded Prefect server ended with exit code {code}; see {self._log}")
            with contextlib.suppress(OSError), direct.open(f"{self._api}/health", timeout=5):
                return
            time.sleep(0.05)
        raise ServerError(f"the embedded Prefect server gave no answer in {START_SECONDS:.0f} s; see {self._log}")

    def stop(self) -> None:
        """End the server; its database is whole after a kill, too, so none of its time is waited for."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Serve until the parent dies: `python -m flows.server PORT PARENT`."""
    port, parent = map(int, sys.argv[1:])
    from tasks.workers import die_with_parent

    die_with_parent(parent)
    # Ctrl-C reaches the whole group; the parent reports the end of its flow here, and then stops this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if sig != signal.SIGINT:
                super().handle_exit(sig, frame)

    app = "prefect.server.api.server:create_app"
    Server(uvicorn.Config(app, factory=True, host="127.0.0.1", port=port, log_level="error")).run()


if __name__ == "__main__":
    main()
