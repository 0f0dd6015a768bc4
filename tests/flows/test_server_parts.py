"""What surrounds the embedded server, without starting one."""

import fcntl
import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.engine import server
from flows.engine.server import (
    EmbeddedServer,
    ServerError,
    direct_variables,
    prefect_server,
    set_environment,
    start_lock,
)

LOCAL = "http://127.0.0.1:4200/api"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("127.0.0.1,localhost", "127.0.0.1,localhost")),
        ({"no_proxy": "corp.example"}, ("corp.example,127.0.0.1,localhost",) * 2),
        ({"NO_PROXY": "corp.example"}, ("corp.example,127.0.0.1,localhost",) * 2),
        ({"no_proxy": "a", "NO_PROXY": "localhost, b"}, ("a,127.0.0.1,localhost", "localhost,b,127.0.0.1")),
        ({"no_proxy": "*"}, ("*", "*")),
    ],
)
def test_a_server_on_this_machine_is_reached_past_proxies_and_hosts_that_were_named_stay(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: tuple[str, str]
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert direct_variables(LOCAL) == dict(zip(("no_proxy", "NO_PROXY"), expected, strict=True))
    assert direct_variables("http://prefect.example/api") == {}


def test_the_environment_is_as_before_after_a_configured_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", LOCAL)
    monkeypatch.setenv("no_proxy", "corp.example")
    before = dict(os.environ)
    with prefect_server(tmp_path):
        assert os.environ["no_proxy"] == "corp.example,127.0.0.1,localhost"
    assert dict(os.environ) == before
    with pytest.raises(KeyError), set_environment({"no_proxy": "x", "NEW": "y"}):
        raise KeyError
    assert dict(os.environ) == before


class Process:
    """A child that was never started."""

    pid = -1

    def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
        self.command, self.env = command, env

    def poll(self) -> None:
        return None


def test_the_embedded_server_does_not_start_in_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Alembic, by which it prepares its database, imports modules of the folder that it is started in.
    started: dict[str, Any] = {}
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: started.update(options))
    monkeypatch.chdir(tmp_path)
    with suppress(AttributeError), prefect_server(Path("home")):
        pass
    assert started["cwd"] == "/"
    assert started["env"]["PREFECT_HOME"] == str(tmp_path / "home")


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedServer:
    monkeypatch.setattr(subprocess, "Popen", Process)
    return EmbeddedServer(tmp_path)


def test_the_embedded_server_has_a_password_of_its_own_and_no_open_cors(embedded: EmbeddedServer) -> None:
    environment: dict[str, str] = embedded._process.env  # pyright: ignore[reportAssignmentType, reportAttributeAccessIssue]
    word = environment["PREFECT_SERVER_API_AUTH_STRING"]
    assert len(word) > 30
    assert embedded.client_environment["PREFECT_API_AUTH_STRING"] == word
    assert "*" not in environment["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"]
    assert EmbeddedServer(embedded._log.parent).client_environment["PREFECT_API_AUTH_STRING"] != word
    assert not any(word in part for part in embedded._process.command)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_slow_server_is_waited_for_while_its_log_grows(
    embedded: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSEUDOMASK_SERVER_SECONDS", "60")
    slept: list[float] = []

    def sleep(_: float) -> None:
        slept.append(50.0)
        if len(slept) <= 5:
            with embedded._log.open("a") as log:
                log.write("still starting\n")

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: sum(slept))
    monkeypatch.setattr(server, "time", clock)
    with pytest.raises(ServerError, match=r"did nothing for 60 s; .* may be busy: repeat the command"):
        embedded.wait()
    assert len(slept) == 7


def test_the_limit_of_the_wait_must_be_seconds(embedded: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("soon", "-1", "inf", "nan"):
        monkeypatch.setenv("PSEUDOMASK_SERVER_SECONDS", wrong)
        with pytest.raises(ServerError, match="PSEUDOMASK_SERVER_SECONDS"):
            embedded.wait()


def test_servers_of_one_database_start_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.01)
    first = start_lock(tmp_path)
    got: list[int] = []
    second = threading.Thread(target=lambda: got.append(start_lock(tmp_path)))
    second.start()
    second.join(0.2)
    assert not got
    os.close(first)
    second.join(10)
    assert got
    with (tmp_path / server.LOCK).open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(got[0])
    assert "waiting for another server" in capsys.readouterr().out


def test_telemetry_is_off_wherever_the_product_is_started() -> None:
    from prefect.settings import get_current_settings

    assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    settings = get_current_settings().server
    assert settings.analytics_enabled is False
    assert settings.concurrency.lease_storage == "prefect.server.concurrency.lease_storage.filesystem"
