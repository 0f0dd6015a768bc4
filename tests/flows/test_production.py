"""What deployed runs have beside their work, without a server: turns, words of killed runs, hooks, time limits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import cloudpickle
import pytest
from prefect.client.schemas.objects import StateType, WorkPool
from prefect.exceptions import ParameterTypeError
from prefect.flow_engine import _flow_parameters
from prefect.settings import PREFECT_HOME, PREFECT_UI_URL, temporary_settings
from tests_flows_support import ROOT, pseudomask, run_words

from flows import cli
from flows.deployment import queue, recovery, worker
from flows.deployment.flow import run_name
from flows.deployment.hooks import COMMAND_VARIABLE, tell_of_failure, tell_of_review
from flows.deployment.liveness import WORKER_VARIABLE, abandoned, at_work, machine_folder
from flows.deployment.names import artifact_key, slug
from flows.engine.execute import Deadline
from flows.engine.server import QUIET_VARIABLE, prefect_server
from flows.labels.flow import pseudo_labels
from flows.publishing.flow import regenerate_labels
from flows.training.flow import deeplabv2, downstream, maskrcnn, predict
from tasks.engine.workers import StageError

TAKE_TURN = """
import time
from flows.deployment.machine_limit import _locked_file
with _locked_file(2):
    print("in", flush=True)
    time.sleep(600)
"""
LEAVE_WORD = """
import sys, time
from flows.deployment.liveness import _leave_word
_leave_word("{run}")
print("in", flush=True)
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path) -> Any:
    with temporary_settings({PREFECT_HOME: tmp_path}):
        yield tmp_path


def start(home: Path, script: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)


def test_a_run_leaves_word_that_is_found_once_its_process_is_gone(home: Path) -> None:
    run = str(uuid4())
    process = start(home, LEAVE_WORD.format(run=run))
    assert process.stdout
    assert process.stdout.readline() == "in\n"
    assert list(abandoned()) == []
    process.kill()
    process.wait()
    assert [(name, file.name) for name, file in abandoned()] == [(run, run)]


class Server:
    """A client of a server that knows one run."""

    def __init__(self, kind: StateType, run_count: int = 1) -> None:
        self.run = SimpleNamespace(id=None, name="run", state=SimpleNamespace(type=kind), run_count=run_count)
        self.states: list[str] = []

    def read_flow_run(self, run_id: Any) -> Any:
        self.run.id = run_id
        return self.run

    def set_flow_run_state(self, run_id: Any, state: Any, force: bool = False) -> None:
        assert run_id == self.run.id
        self.states.append(state.name)


@pytest.mark.parametrize(
    ("kind", "run_count", "states"),
    [
        (StateType.RUNNING, 1, ["AwaitingRetry"]),
        (StateType.CRASHED, 4, ["AwaitingRetry"]),
        (StateType.CRASHED, recovery.MOST_TRIES, []),
        (StateType.CANCELLING, 1, ["Cancelled"]),
        (StateType.COMPLETED, 1, []),
    ],
)
def test_what_was_killed_is_scheduled_again_and_what_ended_is_not(
    home: Path, kind: StateType, run_count: int, states: list[str]
) -> None:
    file = machine_folder() / "at-work" / str(uuid4())
    file.parent.mkdir(parents=True)
    file.touch()
    server = Server(kind, run_count)
    taken = recovery.take_up(server)  # pyright: ignore[reportArgumentType]
    assert server.states == states
    assert bool(taken) == (states == ["AwaitingRetry"])
    assert not file.exists()


def test_turns_are_as_many_as_the_limit_and_a_kill_gives_its_own_back(home: Path) -> None:
    processes = [start(home, TAKE_TURN) for _ in range(3)]
    try:
        time.sleep(0.1)
        inside = []
        deadline = time.monotonic() + 60
        while len(inside) < 2 and time.monotonic() < deadline:
            inside = [process for process in processes if _said(process)]
            time.sleep(0.1)
        time.sleep(2)
        waiting = [process for process in processes if not _said(process)]
        assert len(waiting) == 1
        inside[0].send_signal(signal.SIGKILL)
        assert waiting[0].stdout
        assert waiting[0].stdout.readline() == "in\n"
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _said(process: subprocess.Popen[str]) -> bool:
    import select

    if getattr(process, "said", False):
        return True
    assert process.stdout
    ready, _, _ = select.select([process.stdout], [], [], 0)
    if ready:
        process.said = process.stdout.readline() == "in\n"  # type: ignore[attr-defined]
    return bool(ready)


def test_outside_of_a_deployment_nothing_is_marked(home: Path) -> None:
    with at_work():
        assert not machine_folder().exists()


def ended_run() -> Any:
    """Return a run by hand of labels in /runs/first."""
    return SimpleNamespace(
        name="host:/runs/first", deployment_id=None, id=uuid4(), parameters={"request": {"out": "/runs/first"}}
    )


@pytest.mark.parametrize(("tell", "state"), [(tell_of_failure, "Failed"), (tell_of_review, "Held")])
def test_the_failure_command_gets_the_reason_and_which_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Any, state: str
) -> None:
    news = tmp_path / "news.json"
    monkeypatch.setenv(COMMAND_VARIABLE, f"dd of={news} status=none")
    run = ended_run()
    with temporary_settings({PREFECT_UI_URL: "http://server:4200"}):
        tell(SimpleNamespace(name="pseudo-labels"), run, SimpleNamespace(name=state, message="a.jpg: truncated"))
    assert json.loads(news.read_text()) == {
        "flow": "pseudo-labels",
        "run": "host:/runs/first",
        "id": str(run.id),
        "url": f"http://server:4200/runs/flow-run/{run.id}",
        "deployment": None,
        "out": "/runs/first",
        "state": state,
        "reason": "a.jpg: truncated",
    }


def test_a_run_that_did_its_work_calls_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND_VARIABLE, f"dd of={tmp_path / 'news.json'} status=none")
    tell_of_review(SimpleNamespace(name="f"), ended_run(), SimpleNamespace(name="Published", message=""))  # pyright: ignore
    assert not (tmp_path / "news.json").exists()


@pytest.mark.parametrize("command", ["false", "no-such-command", "one 'quote"])
def test_a_failure_command_that_fails_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, command: str
) -> None:
    monkeypatch.setenv(COMMAND_VARIABLE, command)
    tell_of_failure(SimpleNamespace(name="f"), ended_run(), SimpleNamespace(name="Failed", message=None))  # pyright: ignore
    assert COMMAND_VARIABLE in caplog.text


def test_a_deadline_passes_and_says_so() -> None:
    Deadline(None).check()
    deadline = Deadline(1e-6)
    time.sleep(0.01)
    assert deadline.left == 0
    with pytest.raises(StageError, match=r"1e-06 hours, the time limit"):
        deadline.check()


def test_a_run_stops_at_its_time_limit_and_keeps_what_is_done(tiny_data: Path, tmp_path: Path) -> None:
    limited = run_words(tiny_data, tmp_path, ["--time-limit", str(2 / 3600), "--classifier.steps", "5000", "5000"])
    answer = pseudomask(*limited)
    assert answer.returncode == 1
    assert "the time limit of the run" in answer.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_folders_of_one_name_have_schedules_of_their_own() -> None:
    one, other = slug(Path("/a/Labels 1")), slug(Path("/b/Labels 1"))
    assert one != other
    assert one.startswith("labels-1-")
    # So have what their runs put on the server.
    assert artifact_key("scores", "/a/Labels 1") == f"scores-{one}"


@pytest.mark.parametrize("flow", [pseudo_labels, regenerate_labels, downstream, deeplabv2, maskrcnn, predict])
def test_a_flow_can_be_sent_to_the_workers_of_a_cluster(flow) -> None:
    assert cloudpickle.dumps(flow)


def test_a_run_without_its_request_begins_and_says_what_it_lacks() -> None:
    # What a schedule of the deployment by hand starts, whose parameters nobody checked.
    given = _flow_parameters(regenerate_labels, SimpleNamespace(parameters={}), None)  # pyright: ignore
    with pytest.raises(ParameterTypeError, match="regenerate-labels: expected the parameter request, found none"):
        regenerate_labels.validate_parameters(given)
    with pytest.raises(TypeError, match="missing"):
        signature(regenerate_labels).bind()


def test_a_run_is_called_after_its_machine_and_the_whole_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    request = SimpleNamespace(out=Path("runs/first"))
    monkeypatch.setattr("flows.deployment.flow.flow_run", SimpleNamespace(parameters={"request": request}))
    assert run_name() == f"{socket.gethostname()}:{tmp_path}/runs/first"


def test_tasks_are_quiet_on_a_configured_server_unless_somebody_wants_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://server:4200/api")
    with prefect_server(tmp_path):
        assert os.environ[QUIET_VARIABLE] == "WARNING"
    assert QUIET_VARIABLE not in os.environ
    monkeypatch.setenv(QUIET_VARIABLE, "INFO")
    with prefect_server(tmp_path):
        assert os.environ[QUIET_VARIABLE] == "INFO"


class Waiting:
    """A client of a server on which runs of one deployment wait."""

    def __init__(self, *asked: str) -> None:
        self.ours = self._run("ours", "x")
        self.runs = [self._run(f"run {place}", what) for place, what in enumerate(asked)]
        self.states: dict[str, str] = {}

    def _run(self, name: str, what: str) -> Any:
        return SimpleNamespace(id=uuid4(), name=name, deployment_id=uuid4(), parameters={"request": what})

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def read_flow_run(self, run: Any) -> Any:
        return self.ours

    def read_flow_runs(self, **_: Any) -> list[Any]:
        return [self.ours, *self.runs]

    def set_flow_run_state(self, run: Any, state: Any, force: bool) -> None:
        [name] = [each.name for each in self.runs if each.id == run]
        self.states[name] = state.name


@pytest.mark.parametrize(
    ("asked", "newest", "skipped"),
    [((), None, []), (("y",), None, []), (("x",), "run 0", []), (("x", "y", "x", "x"), "run 3", ["run 0", "run 2"])],
)
def test_of_runs_that_wait_for_the_same_the_newest_stays(
    monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], newest: str | None, skipped: list[str]
) -> None:
    server = Waiting(*asked)
    monkeypatch.setattr(queue, "deployed", lambda: True)
    monkeypatch.setattr(queue, "get_client", lambda **_: server)
    monkeypatch.setattr(queue, "this_run", SimpleNamespace(id=server.ours.id, parent_flow_run_id=None))
    state = queue.leave_to_newest()
    assert (state and state.name) == (newest and "Skipped")
    assert newest is None or (state and newest in str(state.message))
    assert server.states == dict.fromkeys(skipped, "Skipped")


@pytest.mark.parametrize(("words", "healthy"), [([], False), (["--with-healthcheck"], True)])
def test_a_worker_answers_for_its_health_where_it_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, words: list[str], healthy: bool
) -> None:
    started: list[dict[str, Any]] = []

    async def start(self: Any, **options: Any) -> None:
        started.append(options)

    async def no_killed_runs() -> None:
        pass

    monkeypatch.setenv(WORKER_VARIABLE, "")
    monkeypatch.setattr(worker, "check_server", lambda: "")
    monkeypatch.setattr(worker, "ensure_limit", lambda client: 1)
    monkeypatch.setattr(worker, "get_client", lambda **_: contextlib.nullcontext())
    monkeypatch.setattr(worker, "read_pool", lambda client, name: WorkPool(name=name, type="process"))
    monkeypatch.setattr(worker, "_take_up", no_killed_runs)
    monkeypatch.setattr(worker.ProcessWorker, "start", start)
    assert cli.main(["worker", "--until-idle", *words]) == 0
    assert [(each["run_once"], each["with_healthcheck"]) for each in started] == [(True, healthy)]
