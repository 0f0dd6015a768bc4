"""What the deployment of a publication replaces, with a stand-in for the server's client that records the calls."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.exceptions import ObjectNotFound
from prefect.types._datetime import now
from pydantic import ValidationError

from data.dataset import DatasetError
from data.synthetic.dataset import write_synthetic
from flows import cli
from flows.commands.publishing.schedule import ScheduleRequest
from flows.deployment.names import slug
from flows.engine.server import ServerError
from flows.publishing import schedule as schedules
from flows.publishing.deployment import TAG
from flows.publishing.request import RegenerateRequest

OWN, BY_HAND = UUID(int=1), UUID(int=2)


class Client:
    """A server with the deployment by hand, which has an old schedule of the folder and another's."""

    def __init__(self, name: str, refuses: str = "") -> None:
        self.name, self.refuses = name, refuses
        self.calls: list[tuple[str, Any]] = []
        old = [SimpleNamespace(slug="another", id="other"), SimpleNamespace(slug=name, id="old")]
        place = {"work_pool_name": "pool", "work_queue_name": None, "path": "/code", "entrypoint": "flow.py:flow"}
        place |= {"pull_steps": [], "job_variables": {}, "parameter_openapi_schema": {}}
        self.by_hand = SimpleNamespace(
            id=BY_HAND, flow_id=UUID(int=3), schedules=old, tags=["labels"], enforce_parameter_schema=True, **place
        )
        self.own = SimpleNamespace(id=OWN, schedules=[SimpleNamespace(slug="by-ui", id="by-ui")])

    def read_deployment_by_name(self, name: str) -> Any:
        if name in ("regenerate-labels/nightly", "approve-labels/approve", "rollback-labels/rollback"):
            return self.by_hand
        if name == f"regenerate-labels/{self.name}":
            return self.own
        raise ObjectNotFound(Exception(name))

    def read_deployment(self, id: UUID) -> Any:
        return self.own

    def read_automations_by_name(self, name: str) -> list[Any]:
        return [SimpleNamespace(id="automation")]

    def __getattr__(self, call: str) -> Any:
        def record(*values: Any, **more: Any) -> Any:
            if call == self.refuses:
                raise RuntimeError(call)
            self.calls.append((call, more or values[-1]))
            return OWN

        return record


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_synthetic(folder, num_images=2, seed=3, size=(64, 80))
    return folder


@pytest.fixture
def request_(data: Path, tmp_path: Path) -> RegenerateRequest:
    return RegenerateRequest(data=data, out=tmp_path / "published")


def client_of(monkeypatch: pytest.MonkeyPatch, request_: RegenerateRequest, refuses: str = "") -> Client:
    client = Client(slug(request_.out), refuses)

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


def test_a_publication_is_deployed_with_its_request_and_replaces_what_there_was(
    monkeypatch: pytest.MonkeyPatch, request_: RegenerateRequest
) -> None:
    client = client_of(monkeypatch, request_)
    said = schedules.schedule(request_, "0 3 * * *", "Europe/Berlin")
    assert said["deployment"] == f"regenerate-labels/{slug(request_.out)}"
    (_, made), *others = client.calls
    assert made["parameters"] == {"request": request_.model_dump(mode="json")}
    assert made["tags"] == ["labels", TAG]
    assert (made["entrypoint"], made["path"], made["concurrency_limit"]) == ("flow.py:flow", "/code", 1)
    assert made["concurrency_options"].collision_strategy == ConcurrencyLimitStrategy.ENQUEUE
    [entry] = made["schedules"]
    assert (entry.schedule.cron, entry.schedule.timezone, entry.parameters) == ("0 3 * * *", "Europe/Berlin", {})
    assert str(request_.out) in made["description"]
    # The parameters of the automation are the deployment's own, too; what was there goes last.
    assert [call for call, _ in others] == [
        "delete_deployment_schedule",
        "create_automation",
        "delete_automation",
        "create_deployment",
        "create_deployment",
        "delete_deployment_schedule",
    ]
    assert [each["parameters"] for _, each in others[3:5]] == [{"request": {"out": str(request_.out)}}] * 2
    assert others[1][1].actions[0].parameters is None
    assert (others[0][1], others[5][1]) == ("by-ui", "old")


@pytest.mark.parametrize("refuses", ["create_deployment", "create_automation"])
def test_a_server_that_refuses_the_new_schedule_loses_no_automation_and_no_old_schedule(
    monkeypatch: pytest.MonkeyPatch, request_: RegenerateRequest, refuses: str
) -> None:
    client = client_of(monkeypatch, request_, refuses)
    with pytest.raises(RuntimeError):
        schedules.schedule(request_, "0 3 * * *")
    assert not {"delete_automation", "delete_deployment"} & {call for call, _ in client.calls}
    assert ("delete_deployment_schedule", "old") not in client.calls


@pytest.mark.parametrize("word", ["off", "Off", " OFF "])
def test_off_in_any_case_ends_deployment_and_automation(
    monkeypatch: pytest.MonkeyPatch, request_: RegenerateRequest, word: str
) -> None:
    client = client_of(monkeypatch, request_)
    assert schedules.schedule(request_, word)["cron"] is None
    assert client.calls == [("delete_automation", "automation"), ("delete_deployment", OWN)]


def test_a_set_that_is_not_there_and_a_wrong_time_zone_are_found_before_the_night(
    monkeypatch: pytest.MonkeyPatch, request_: RegenerateRequest, tmp_path: Path
) -> None:
    client = client_of(monkeypatch, request_)
    with pytest.raises(DatasetError, match="expected the folder of a data set"):
        schedules.schedule(RegenerateRequest(data=tmp_path / "none", out=tmp_path / "published"), "0 3 * * *")
    with pytest.raises(ServerError, match="Europe/Belin"):
        schedules.schedule(request_, "0 3 * * *", "Europe/Belin")
    settings = request_.settings.model_copy(update={"weights": Path("weights.pth")})
    with pytest.raises(DatasetError, match="the whole path of the weights"):
        schedules.schedule(request_.model_copy(update={"settings": settings}), "0 3 * * *")
    assert client.calls == []


def test_a_store_with_a_password_in_its_address_is_refused_before_prefect_could_keep_it(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="which is refused since addresses are recorded"):
        RegenerateRequest.model_validate(
            {"data": tmp_path, "out": tmp_path / "published", "store": "ftp://user:SECRET@host/x"}
        )


def test_the_next_time_follows_the_clock_of_the_zone() -> None:
    schedule = schedules._cron_schedule("0 3 * * *", "Europe/Berlin")
    found = schedules._next_time(schedule)
    assert found is not None
    moment = now("Europe/Berlin")
    assert found.endswith(("03:00+01:00", "03:00+02:00"))
    assert moment.date().isoformat() <= found[:10]


@pytest.mark.parametrize("words", [["pause"], ["list", "/published"], ["stop", "/published"]])
def test_a_schedule_that_is_not_named_is_a_wrong_command_line(words: list[str], capsys: pytest.CaptureFixture) -> None:
    try:
        code = cli.main(["schedule", *words])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    said = capsys.readouterr()
    assert "schedule" in said.err + said.out


def test_the_row_of_a_schedule_is_json_for_scripts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    row = {
        "publication": "/p",
        "deployment": "d",
        "times": ["0 3 * * * UTC"],
        "paused": True,
        "next": None,
        "last": None,
    }
    monkeypatch.setattr(schedules, "pause", lambda folder: row | {"publication": str(folder)})
    assert cli.main(["schedule", "pause", "/published", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == row | {"publication": "/published", "action": "pause"}


@pytest.mark.parametrize("words", [["--schedule", "0 3 * * *", "--dry-run"], ["--timezone", "Europe/Berlin"]])
def test_options_that_do_not_fit_together_are_refused(words: list[str], capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["regenerate", "--data", "P", "--out", "L", *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_a_publication_is_found_by_any_way_to_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ScheduleRequest(action="pause", published=Path()).published == tmp_path
