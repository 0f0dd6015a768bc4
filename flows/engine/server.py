"""A Prefect server of the run's own, on the loopback interface, for who has none.

`PREFECT_API_URL` in the environment says that there is one; then none is started.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from data.files import explain_os_errors, try_lock
from data.store.credentials import BLOCK_VARIABLE, block_name
from tasks.engine.processes import python_command, python_environment

START_VARIABLE = "PSEUDOMASK_SERVER_SECONDS"
OWN_VARIABLE = "PSEUDOMASK_OWN_SERVER"  # Set where the server is the run's own, and ends with it.
START_SECONDS = 120.0  # How long the server may do nothing before it answers.
LOOPBACK = ("127.0.0.1", "localhost")
LOCK = ".start.lock"
QUIET_VARIABLE = "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL"  # Lines of tasks that do not name their stage.
LOG_BYTES = 1 << 20
CONNECT_SECONDS = 5.0
LOOK_SECONDS = 0.5


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


def check_block_server() -> None:
    """See that a block with the keys of a store, where one is named, can be read: a server of a run's own has none.

    Raises:
        ServerError: No server is configured for this process.
    """
    if (block := block_name()) and "PREFECT_API_URL" not in os.environ:
        raise ServerError(
            f"{BLOCK_VARIABLE}={block}: expected the Prefect server that has the block in PREFECT_API_URL; export "
            "PREFECT_API_URL=http://127.0.0.1:4200/api, or take the file system's own variables, as AWS_PROFILE"
        )


def no_server(address: str) -> ServerError:
    """Return the error for a Prefect server that is configured and cannot be reached."""
    return ServerError(
        f"{address}: no Prefect server answers. Start it with `prefect server start`, or unset PREFECT_API_URL: a run "
        "then has a server of its own"
    )


def refused_by(error: BaseException | None) -> bool:
    """Tell whether a server has answered that it does not know who asks, as Prefect's does without its password."""
    while error is not None:
        if getattr(getattr(error, "response", None), "status_code", None) == 401:
            return True
        error = error.__cause__ or error.__context__
    return False


def no_password(address: str) -> ServerError:
    """Return the error for a Prefect server that wants a password, or another one."""
    return ServerError(
        f"{address}: the Prefect server wants its password: export PREFECT_API_AUTH_STRING, or `prefect config set "
        "PREFECT_API_AUTH_STRING=...`, with what PREFECT_SERVER_API_AUTH_STRING is where it runs"
    )


@contextlib.contextmanager
def prefect_server(home: Path) -> Iterator[EmbeddedServer | None]:
    """Start a server and point Prefect at it, unless one is configured already. It never outlives this process.

    Enter this before anything imports Prefect, which reads its settings at import; and call `wait` on what it yields
    before the first flow, so that the seconds of its start are used.

    Args:
        home: Where it keeps its database.
    """
    if address := os.environ.get("PREFECT_API_URL"):
        with set_environment({QUIET_VARIABLE: os.environ.get(QUIET_VARIABLE, "WARNING")} | direct_variables(address)):
            yield None
        return
    with explain_os_errors(home):
        home.mkdir(parents=True, exist_ok=True)
        server = EmbeddedServer(home.resolve())
    with set_environment(server.client_environment):
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def set_environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables of this process's environment for the block, and put back what was there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def direct_variables(address: str) -> dict[str, str]:
    """Return the variables by which a server on this machine is reached past any proxy; what they hold is kept."""
    if urlsplit(address).hostname not in LOOPBACK:
        return {}
    given = {name: os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")}
    either = given["no_proxy"] or given["NO_PROXY"]
    return {name: _with_loopback(value or either) for name, value in given.items()}


def reach_directly(address: str) -> None:
    """Have this process reach a server on this machine past any proxy from now on."""
    os.environ.update(direct_variables(address))


def _with_loopback(hosts: str) -> str:
    if hosts.strip() == "*":
        return hosts
    known = [host.strip() for host in hosts.split(",") if host.strip()]
    return ",".join([*known, *(host for host in LOOPBACK if host not in known)])


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
            # Only this process and its children may ask: who reaches a server can run commands through it.
            "PREFECT_API_AUTH_STRING": f"pseudomask:{secrets.token_urlsafe(24)}",
            "DO_NOT_TRACK": "1",
            OWN_VARIABLE: "1",
            **direct_variables(self._api),
        }
        environment = os.environ | self.client_environment | {"PREFECT_UI_ENABLED": "0"}
        environment["PREFECT_SERVER_API_AUTH_STRING"] = self.client_environment["PREFECT_API_AUTH_STRING"]
        environment["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] = f"http://127.0.0.1:{port}"
        environment |= {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        environment.pop("PREFECT_API_URL")
        # Another run of the store may be writing there.
        long = self._log.is_file() and self._log.stat().st_size > LOG_BYTES
        with self._log.open("wb" if long else "ab") as log:
            self._process = subprocess.Popen(
                python_command("-m", "flows.engine.server", str(port), str(os.getpid()), str(home)),
                env=environment | python_environment(),
                # Alembic puts the current folder on the path, and a module of the user's in it would be run.
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self) -> None:
        """Return when the server answers, however long that takes: a machine may be busy.

        Raises:
            ServerError: It ended, or did nothing for long.
        """
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        patience = _patience()
        seen, deadline = self._work_done(), time.monotonic() + patience
        while time.monotonic() < deadline:
            if (now := self._work_done()) != seen:
                seen, deadline = now, time.monotonic() + patience
            if (code := self._process.poll()) is not None:
                raise ServerError(f"the embedded Prefect server ended with exit code {code}; see {self._log}")
            with contextlib.suppress(OSError), direct.open(f"{self._api}/health", timeout=5):
                return
            time.sleep(0.05)
        raise ServerError(
            f"the embedded Prefect server gave no answer and did nothing for {patience:.0f} s; see {self._log}. "
            f"The machine may be busy: repeat the command, and {START_VARIABLE}=600 waits longer"
        )

    def _work_done(self) -> tuple[int, int]:
        """Return what grows while the server starts: the bytes of its log, and its seconds of work."""
        size = self._log.stat().st_size if self._log.is_file() else 0
        return size, _seconds_of_work(self._process.pid)

    def stop(self) -> None:
        """End the server; its database is whole after a kill, too, so none of its time is waited for."""
        self._process.kill()
        self._process.wait()


def main() -> None:
    """Serve until the parent dies: `python -m flows.engine.server PORT PARENT HOME`."""
    port, parent = map(int, sys.argv[1:3])
    home = Path(sys.argv[3])
    from tasks.engine.workers import die_with_parent

    die_with_parent(parent)
    # Ctrl-C reaches the whole group; the parent reports the end of its flow here, and then stops this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import uvicorn

    lock = start_lock(home)

    class Server(uvicorn.Server):
        async def startup(self, *words: Any, **more: Any) -> None:
            await super().startup(*words, **more)
            os.close(lock)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if sig != signal.SIGINT:
                super().handle_exit(sig, frame)

    app = "prefect.server.api.server:create_app"
    Server(uvicorn.Config(app, factory=True, host="127.0.0.1", port=port, log_level="error")).run()


def start_lock(home: Path) -> int:
    """Wait until no other server brings the database of `home` up to date, and return the lock's descriptor."""
    while (descriptor := try_lock(home / LOCK)) is None:
        # The line tells the parent that this process is alive.
        print("waiting for another server that starts on this database", flush=True)
        time.sleep(LOOK_SECONDS)
    return descriptor


def _patience() -> float:
    text = os.environ.get(START_VARIABLE, str(START_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ServerError(f"{START_VARIABLE}: expected seconds, got {text!r}")
    return seconds


def _seconds_of_work(pid: int) -> int:
    """Return the whole seconds that a process has used of the processor; 0 where the system has no such file."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(words[11]) + int(words[12])) // os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
