"""Real services on loopback for tests: Prefect servers on SQLite and PostgreSQL, and workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "65534"
START_SECONDS = 120.0
RUN_SECONDS = 600.0
TINY = {
    "backbone": "resnet18",
    "shard_size": 4,
    "long_side": [64, 80],
    "classifier": {"resize_long": [64, 80], "crop_size": 64, "steps": [1, 1]},
    "cams": {"scales": [1]},
    "irnet": {"crop_size": 64, "radius_px": 3, "steps": [1, 1]},
    "walk": {"steps": 16},
    "scores": {"crf_thresholds": [0.2]},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """A PostgreSQL server with a database `prefect`."""

    def __init__(self, folder: Path) -> None:
        # Not below pytest's folders, which are their user's alone: PostgreSQL refuses to run as root.
        self.folder, self.port = Path(tempfile.mkdtemp(prefix="postgres-")), free_port()
        self._log = folder / "postgres.log"
        self._as = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.getuid() == 0 else []
        if self._as:
            os.chown(self.folder, int(NOBODY), int(NOBODY))
        self._run("initdb", "-D", str(self.folder / "db"), "-U", "prefect", "--auth=trust", "-E", "UTF8")
        self.start()
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "prefect", "prefect")

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/prefect"

    def start(self) -> None:
        command = [*self._as, _binary("postgres"), "-D", str(self.folder / "db"), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}"]
        log = self._log.open("ab")
        self.process = subprocess.Popen(command, cwd="/", stdout=log, stderr=subprocess.STDOUT)
        wait_for(lambda: _connects(self.port), "PostgreSQL")

    def kill(self) -> None:
        """Kill the server and all that it started, as a power cut does."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, name: str, *words: str) -> None:
        subprocess.run([*self._as, _binary(name), *words], cwd="/", check=True, capture_output=True)


class Prefect:
    """A Prefect server, and a worker once it is asked for. Attributes are what tests look at."""

    def __init__(self, folder: Path, postgres: Postgres | None = None) -> None:
        self.folder, self.postgres, self.port = folder, postgres, free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = kept | {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "NO_PROXY": "127.0.0.1",
            "DO_NOT_TRACK": "1",
            "COLUMNS": "200",
        }
        self.worker: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        environment = dict(self.environment)
        if self.postgres:
            environment["PREFECT_API_DATABASE_CONNECTION_URL"] = self.postgres.url
        words = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self.server = self._spawn(words, "server.log", environment)
        wait_for(lambda: _answers(f"{self.api}/health"), f"the Prefect server ({self.folder}/server.log)")

    def start_worker(self) -> None:
        self.worker = self._spawn(["-m", "flows", "worker"], "worker.log", self.environment)

    def kill_server(self) -> None:
        """Kill the server's process group: its web process is a child of the command."""
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def kill_worker(self) -> None:
        """Kill the worker alone: the processes of its runs have to find out for themselves."""
        assert self.worker
        self.worker.kill()
        self.worker.wait()

    def stop(self) -> None:
        for process in filter(None, (self.worker, self.server)):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def command(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `python -m ...`, `prefect` or `flows`, and return it with its output."""
        return subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_SECONDS,
        )

    def watch(self, deployment: str, request: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Ask for a run and wait for its end, as `prefect deployment run ... --watch` does."""
        words = ["deployment", "run", deployment, "--watch", "--param", f"request={json.dumps(request)}"]
        return self.command("prefect", *words)

    def ask(self, deployment: str, request: dict[str, Any]) -> str:
        """Ask for a run, and return its id."""
        words = ["deployment", "run", deployment, "--param", f"request={json.dumps(request)}"]
        said = self.command("prefect", *words)
        assert said.returncode == 0, said.stdout + said.stderr
        return next(line.split()[-1] for line in said.stdout.splitlines() if "UUID:" in line)

    def call(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Call the server's API; without a method by GET, or POST where there is a body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self.api}{path}", data, headers, method=method)
        with opener.open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def state(self, run: str) -> str:
        """Return the name of a run's state; "unknown" while the server gives no answer."""
        try:
            return self.call(f"/flow_runs/{run}")["state"]["name"]
        except OSError:
            return "unknown"

    def _spawn(self, words: list[str], log: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        stream = (self.folder / log).open("ab")
        command = [sys.executable, *words]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
        )


def labels_request(data: Path, out: Path, **settings: Any) -> dict[str, Any]:
    """Return the parameters of a run of seconds, with its store beside its results."""
    return {"data": str(data), "split": "train", "out": str(out), "settings": {**TINY, **settings}}


def as_options(settings: dict[str, Any], prefix: str = "--") -> list[str]:
    """Return nested settings as options of the command line."""
    words = []
    for name, value in settings.items():
        option = prefix + name.replace("_", "-")
        if isinstance(value, dict):
            words += as_options(value, f"{option}.")
        else:
            words += [option, *map(str, value if isinstance(value, list) else [value])]
    return words


def label_bytes(run: Path) -> dict[str, bytes]:
    """Return the label maps and instances of a run, or of a published version."""
    folder = run / "labels" if (run / "labels").is_dir() else run
    files = [*folder.glob("Segmentation*/*.png"), folder / "instances.json"]
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def wait_for(happened: Any, what: str, seconds: float = START_SECONDS) -> Any:
    """Wait until `happened()` is true, and return what it returned."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := happened():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: nothing within {seconds:.0f} s")


def _binary(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not on the PATH"
    return found


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5):
            return True
    except OSError:
        return False
