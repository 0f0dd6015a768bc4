"""A Prefect server with workers on loopback, and nights of publications that are asked for there."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.kills import ROOT
from benchmarks.night_checks import check_page
from benchmarks.night_world import Expected, Said, World
from flows.deployment.names import artifact_key, slug

PATIENCE_S = 900.0
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
NEVER = "0 0 1 1 *"
BUSY, RETRIES = 503, 5


class NightServer:
    """A Prefect server on SQLite with a folder of its own; its log is beside it.

    Attributes:
        environment: Of commands that are to reach it.
        workers: That were started and not killed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder, self.api = folder, f"http://127.0.0.1:{self.port}/api"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.alone = kept | {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}
        more = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": self.api, "NO_PROXY": "127.0.0.1"}
        self.environment = self.alone | more | {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "COLUMNS": "200"}
        self.workers: list[subprocess.Popen[bytes]] = []
        self.server = self._serve()
        self._deployed: set[str] = set()

    def restart(self) -> None:
        """Kill the server with all its processes, and start it again some seconds later."""
        _kill_group(self.server)
        time.sleep(5)
        self.server = self._serve()

    def start_worker(self, *more: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        self.workers.append(self._spawn(["-m", "flows", "worker", *more], "worker.log"))
        return self.workers[-1]

    def kill_worker(self) -> None:
        """Kill the newest worker alone: the processes of its runs have to find out for themselves."""
        worker = self.workers.pop()
        worker.kill()
        worker.wait()

    def stop_workers(self) -> None:
        """End all workers, with what they run."""
        while self.workers:
            _kill_group(self.workers.pop())

    def stop(self) -> None:
        """End everything."""
        self.stop_workers()
        _kill_group(self.server)

    def command(self, *words: str) -> str:
        """Run `python -m WORDS` and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words[:4])}: exit code {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def call(self, path: str, body: Any = None) -> Any:
        """Call the server's API; a server that is too busy (503) is asked again, as Prefect's own client does."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api}{path}", data, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        tries = 0
        while True:
            try:
                with opener.open(request, timeout=60) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                tries += 1
                if error.code != BUSY or tries > RETRIES:
                    raise
                time.sleep(2)

    def schedule(self, world: World) -> str:
        """Give a world a deployment of its own, once; return its name."""
        name = f"regenerate-labels/{slug(world.out)}"
        if not self._deployed:
            self.command("flows", "deploy", "--json")
        if name not in self._deployed:
            self.command("flows", *world.words("--schedule", NEVER, "--json"))
        self._deployed.add(name)
        return name

    def ask(self, deployment: str) -> str:
        """Ask for a run of a deployment, as Run in the UI does; return its id."""
        id = self.call(f"/deployments/name/{deployment}")["id"]
        return self.call(f"/deployments/{id}/create_flow_run", {"state": {"type": "SCHEDULED"}})["id"]

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """Return the runs of a deployment that began or are due, the oldest first."""
        body = {"deployments": {"id": {"any_": [self.call(f"/deployments/name/{deployment}")["id"]]}}}
        found = self.call("/flow_runs/filter", {**body, "sort": "EXPECTED_START_TIME_ASC"})
        return [run for run in found if not run["auto_scheduled"]]

    def run(self, id: str) -> dict[str, Any] | None:
        """Return a run, or None while the server gives no answer."""
        try:
            return self.call(f"/flow_runs/{id}")
        except OSError:
            return None

    def end_of(self, id: str) -> dict[str, Any]:
        """Wait for the end of a run, and return it."""

        def ended() -> dict[str, Any] | None:
            run = self.run(id)
            return run if run and run["state"]["type"] in ENDS else None

        return wait_for(ended, f"the end of run {id}")

    def said_of(self, run: dict[str, Any], world: World, expected: Expected) -> Said:
        """Return what a deployed night said: its state, and what its page and its assets lack."""
        state = run["state"]
        said = Said(expected.code, state["name"], state["message"] or "")
        keys = {what: artifact_key(what, world.out) for what in ("night", "history")}
        body = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
        page = {each["key"]: each for each in self.call("/artifacts/filter", body)}
        said.faults += [f"the page has no {what}" for what, key in keys.items() if key not in page]
        if keys["night"] in page:
            said.faults += check_page(page[keys["night"]]["data"], expected)
        if expected.version:
            wanted = f"pseudomask://labels/{slug(world.out)}/v{expected.version:05d}"
            event = {"event": {"name": ["prefect.asset.materialization.succeeded"]}, "resource": {"id": [wanted]}}
            try:
                wait_for(lambda: self.call("/events/filter", {"filter": event})["events"], wanted, 30)
            except TimeoutError:
                said.faults.append(f"there is no asset {wanted}")
        return said

    def _serve(self) -> subprocess.Popen[bytes]:
        words = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        server = self._spawn(words, "server.log")
        wait_for(lambda: self._answers(), f"the Prefect server ({self.folder}/server.log)")
        return server

    def _answers(self) -> bool:
        try:
            return bool(self.call("/health"))
        except OSError:
            return False

    def _spawn(self, words: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, *words],
                cwd=ROOT,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def wait_for(happened: Callable[[], Any], what: str, seconds: float = PATIENCE_S) -> Any:
    """Wait until `happened()` is true, and return what it returned.

    Raises:
        TimeoutError: It never was.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(0.2)
    raise TimeoutError(f"{what}: nothing within {seconds:.0f} s")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
