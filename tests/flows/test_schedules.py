"""What a schedule replaces, with a stand-in for the server's client that records the calls."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from flows.engine.server import ServerError
from flows.publishing import schedule as schedules
from flows.publishing.request import RegenerateRequest

ID = UUID(int=1)


class Client:
    """A server with one schedule and one automation of the folder, and another's."""

    def __init__(self, name: str, refuses: str = "") -> None:
        entries = [SimpleNamespace(slug="another", id="other"), SimpleNamespace(slug=name, id="schedule")]
        self.deployment = SimpleNamespace(id=ID, schedules=entries)
        self.refuses = refuses
        self.calls: list[tuple[str, Any]] = []

    def read_deployment_by_name(self, name: str) -> Any:
        return self.deployment

    def read_automations_by_name(self, name: str) -> list[Any]:
        return [SimpleNamespace(id="automation")]

    def __getattr__(self, call: str) -> Any:
        def record(*values: Any, **more: Any) -> None:
            if call == self.refuses:
                raise RuntimeError(call)
            self.calls.append((call, values[-1]))

        return record


@pytest.fixture
def request_(tmp_path: Path) -> RegenerateRequest:
    return RegenerateRequest(data=tmp_path, out=tmp_path / "published")


def client_of(monkeypatch: pytest.MonkeyPatch, request_: RegenerateRequest, refuses: str = "") -> Client:
    client = Client(schedules.slug(request_.out), refuses)

    @contextlib.contextmanager
    def get_client(**_: Any) -> Iterator[Client]:
        yield client

    monkeypatch.setattr(schedules, "get_client", get_client)
    monkeypatch.setattr(schedules, "check_server", lambda: "")
    return client


@pytest.mark.parametrize("cron", ["61 3 * * *", "banana", "0 3 * *", "", "0 3 * * * *", "h 3 * * *", "@daily"])
def test_a_mistyped_schedule_leaves_the_one_before(
    monkeypatch: pytest.MonkeyPatch, request_: RegenerateRequest, cron: str
) -> None:
    client = client_of(monkeypatch, request_)
    with pytest.raises(ServerError, match="expected five fields"):
        schedules.schedule(request_, cron)
    assert client.calls == []


def test_a_schedule_is_replaced_without_being_deleted_first(
    monkeypatch: pytest.MonkeyPatch, request_: RegenerateRequest
) -> None:
    client = client_of(monkeypatch, request_)
    schedules.schedule(request_, "0 3 * * *")
    assert [call for call, _ in client.calls] == [
        "update_deployment_schedule",
        "create_automation",
        "delete_automation",
    ]


@pytest.mark.parametrize("refuses", ["update_deployment_schedule", "create_automation"])
def test_a_server_that_refuses_the_new_schedule_loses_none(
    monkeypatch: pytest.MonkeyPatch, request_: RegenerateRequest, refuses: str
) -> None:
    client = client_of(monkeypatch, request_, refuses)
    with pytest.raises(RuntimeError):
        schedules.schedule(request_, "0 3 * * *")
    assert not [call for call, _ in client.calls if call.startswith("delete")]


@pytest.mark.parametrize("word", ["off", "Off", " OFF "])
def test_off_in_any_case_ends_schedule_and_automation(
    monkeypatch: pytest.MonkeyPatch, request_: RegenerateRequest, word: str
) -> None:
    client = client_of(monkeypatch, request_)
    assert schedules.schedule(request_, word)["cron"] is None
    assert client.calls == [("delete_deployment_schedule", "schedule"), ("delete_automation", "automation")]


def test_a_store_with_a_password_in_its_address_is_refused_where_prefect_would_keep_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request = RegenerateRequest.model_validate(
        {"data": tmp_path, "out": tmp_path / "published", "store": "ftp://user:SECRET@host/x"}
    )
    assert "SECRET" not in request.model_dump_json()
    client = client_of(monkeypatch, request)
    with pytest.raises(ServerError, match="without a password") as error:
        schedules.schedule(request, "0 3 * * *")
    assert "SECRET" not in str(error.value)
    assert client.calls == []
