"""The embedded server, and artifacts as Prefect tasks on it: cached while whole, made again when not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_LOGGING_LEVEL, temporary_settings

from data.store import Store
from flows.engine.server import ServerError, prefect_server
from tasks.engine.prefect_task import artifact_task

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("PREFECT_API_URL", raising=False)
        with prefect_server(tmp_path_factory.mktemp("prefect")) as server:
            assert server is not None
            server.wait()
            url = os.environ["PREFECT_API_URL"]
            # In this process Prefect may have read its settings before the server was there.
            word = os.environ["PREFECT_API_AUTH_STRING"]
            settings = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: word, PREFECT_LOGGING_LEVEL: "CRITICAL"}
            with temporary_settings(settings):
                yield url


class Bench:
    """A store, a flow over three of its artifacts, and a list of what the flow had to make."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.store.prepare()
        self.made: list[str] = []

    def make(self, stage: str, key: str) -> None:
        self.made.append(key)
        with self.store.create(stage, key) as draft:
            (draft.folder / "file.txt").write_text(key)

    def run(self) -> tuple[list[str], list[str | None]]:
        """Return what was made, and the names of the three tasks' final states."""
        self.made = []
        task = artifact_task(self.store, self.make)

        @flow
        def three() -> list[str | None]:
            futures = [task.submit("walk", key, f"walk {key}") for key in ("a", "b", "c")]
            for future in futures:
                future.wait()
            return [future.state.name for future in futures]

        states = three()
        return sorted(self.made), states


@pytest.fixture
def bench(api: str, tmp_path: Path) -> Bench:
    return Bench(tmp_path / "store")


def test_a_second_run_is_cached_throughout(bench: Bench) -> None:
    assert bench.run() == (["a", "b", "c"], ["Completed"] * 3)
    assert bench.run() == ([], ["Cached"] * 3)


def _delete(folder: Path) -> None:
    shutil.rmtree(folder)


def _damage(folder: Path) -> None:
    (folder / "file.txt").write_text("x")


def _lose_file(folder: Path) -> None:
    (folder / "file.txt").unlink()


def _cut_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": {')


@pytest.mark.parametrize("harm", [_delete, _damage, _lose_file, _cut_manifest])
def test_a_harmed_artifact_is_made_again_alone(bench: Bench, harm: Callable[[Path], None]) -> None:
    bench.run()
    harm(bench.store.path("walk", "b"))
    assert bench.run() == (["b"], ["Cached", "Completed", "Cached"])
    assert bench.store.verify("walk", "b") is None
    assert bench.run() == ([], ["Cached"] * 3)


def test_an_artifact_without_prefects_record_is_not_made_again(bench: Bench) -> None:
    bench.run()
    shutil.rmtree(bench.store.root / ".prefect")
    assert bench.run()[0] == []


def test_a_failing_shard_leaves_the_others_done(bench: Bench) -> None:
    def fail_on_b(stage: str, key: str) -> None:
        if key == "b":
            raise ValueError("b is bad")
        Bench.make(bench, stage, key)

    bench.make = fail_on_b
    assert bench.run()[0] == ["a", "c"]
    del bench.make
    assert bench.run()[0] == ["b"]


def test_a_configured_server_is_used_and_none_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    with prefect_server(tmp_path / "home") as server:
        assert server is None
    assert not (tmp_path / "home").exists()
    assert os.environ["PREFECT_API_URL"] == "http://127.0.0.1:1/api"


def test_a_server_that_cannot_start_is_an_error_that_names_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "nonsense")
    with prefect_server(tmp_path / "home") as server:
        assert server is not None
        with pytest.raises(ServerError, match=r"server\.log"):
            server.wait()


@pytest.mark.parametrize("group", [False, True], ids=["the parent alone", "the whole group"])
def test_a_killed_parent_leaves_no_server(tmp_path: Path, group: bool) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from flows.engine.server import prefect_server\n"
        "with prefect_server(Path(sys.argv[1])) as server:\n"
        "    server.wait(); print(server._process.pid, os.environ['PREFECT_API_URL'], flush=True); time.sleep(600)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    with parent, parent.stdout:
        _, url = parent.stdout.readline().split()
        assert _answers(url)
        (os.killpg if group else os.kill)(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _answers(url) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _answers(url)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
