"""What deployments carry for a work pool, by the kind that the server says it is."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import prefect
import pytest
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound
from prefect.utilities.templating import apply_values, find_placeholders
from prefect.workers.base import BaseJobConfiguration
from prefect.workers.process import ProcessWorker
from tests_flows_support import ROOT

from data.store import ArtifactError
from flows.deployment import flow as flow_module
from flows.deployment import machine_limit
from flows.deployment.machine_limit import turn
from flows.deployment.names import POOL
from flows.deployment.pools import IMAGE_FOLDER, Place, Volume, fields_of, read_pool
from flows.deployment.shared import POOL_VARIABLE, SHARED_VARIABLE, check_shared
from flows.deployment.worker import _check_kind
from flows.engine.request import STORE_VARIABLE, Request
from flows.engine.server import ServerError

DEPLOY = ROOT / "docs" / "deploy"
KNOWN = Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json"


def template_of_prefect(kind: str) -> dict[str, Any]:
    """Return the base job template that Prefect's server has for a kind of pool."""
    found = (each for package in json.loads(KNOWN.read_text()).values() for each in package.values())
    return next(each["default_base_job_configuration"] for each in found if each["type"] == kind)


def own_template(kind: str) -> dict[str, Any]:
    return json.loads((DEPLOY / f"{kind}-pool.json").read_text())


def pool(kind: str, template: dict[str, Any] | None = None) -> WorkPool:
    if template is None:
        is_ours = kind in ("docker", "kubernetes")
        template = own_template(kind) if is_ours else ProcessWorker.get_default_base_job_template()
    return WorkPool.model_construct(name="boxes", type=kind, base_job_template=template, concurrency_limit=None)


def place(*volumes: str, **more: Any) -> Place:
    return Place("boxes", more.pop("image", "labels:1"), tuple(map(Volume.parse, volumes)), **more)


def job_of(template: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return what a worker makes of a template and job variables."""
    defaults = {
        name: each["default"] for name, each in template["variables"]["properties"].items() if "default" in each
    }
    return apply_values(template["job_configuration"], defaults | values)


def test_runs_of_docker_get_image_volumes_and_the_store() -> None:
    given = place("/srv/sets:/srv/sets:ro", "labels:/data", store="s3://bucket/x", store_block="secret/keys")
    fields = fields_of(given, pool("docker"))
    assert fields["pull"] == [{"prefect.deployments.steps.set_working_directory": {"directory": IMAGE_FOLDER}}]
    variables = fields["job_variables"]
    assert (variables["image"], variables["image_pull_policy"]) == ("labels:1", "IfNotPresent")
    assert variables["volumes"] == ["/srv/sets:/srv/sets:ro", "labels:/data"]
    assert variables["env"] == {
        "PSEUDOMASK_STORE": "s3://bucket/x",
        "PSEUDOMASK_STORE_BLOCK": "secret/keys",
        "PSEUDOMASK_POOL": "boxes",
        "PSEUDOMASK_SHARED": "/data",
        "PSEUDOMASK_CACHE": "/data/cache",
    }
    job = job_of(own_template("docker"), variables)
    assert job["volumes"] == variables["volumes"]
    assert job["container_create_kwargs"] == {"device_requests": [], "shm_size": "2g"}
    assert job["auto_remove"] is True


def test_runs_of_kubernetes_get_claims_and_mounts() -> None:
    variables = fields_of(place("labels:/data", "sets:/sets:ro"), pool("kubernetes"))["job_variables"]
    job = job_of(own_template("kubernetes"), variables)["job_manifest"]
    pod = job["spec"]["template"]["spec"]
    assert pod["volumes"] == [
        {"name": "volume-0", "persistentVolumeClaim": {"claimName": "labels"}},
        {"name": "volume-1", "persistentVolumeClaim": {"claimName": "sets"}},
    ]
    [container] = pod["containers"]
    assert container["image"] == "labels:1"
    assert container["volumeMounts"] == [
        {"name": "volume-0", "mountPath": "/data", "readOnly": False},
        {"name": "volume-1", "mountPath": "/sets", "readOnly": True},
    ]
    assert (container["envFrom"], container["resources"]["limits"]) == ([], {})
    secret = {"env_from": [{"secretRef": {"name": "keys"}}], "gpus": "1"}
    [container] = job_of(own_template("kubernetes"), secret)["job_manifest"]["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == secret["env_from"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1"}


def test_a_volume_that_the_pools_own_template_mounts_is_named_by_its_path() -> None:
    variables = fields_of(place("/mnt/labels"), pool("ecs", template_of_prefect("ecs")))["job_variables"]
    assert "volumes" not in variables
    assert "image_pull_policy" not in variables
    assert variables["env"][SHARED_VARIABLE] == "/mnt/labels"


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_template_is_prefects_with_our_variables(kind: str) -> None:
    ours, theirs = own_template(kind), template_of_prefect(kind)
    assert theirs["variables"]["properties"].keys() < ours["variables"]["properties"].keys()
    used = {each.name for each in find_placeholders(ours["job_configuration"])}
    assert used == ours["variables"]["properties"].keys()
    # The worker checks that, too.
    BaseJobConfiguration.model_validate(job_of(ours, {"env": {}, "labels": {}, "command": "x", "name": "x"}))


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("process", place(), "is of type process"),
        ("process", place("/data:/data", image=None), "leave out --image and --volume"),
        ("docker", place("/data:/data", image=None), "expected --image"),
        ("docker", place(), "expected --volume SOURCE:PATH"),
        ("docker", place("/data:/data:ro"), "expected --volume SOURCE:PATH"),
        ("ecs", place("/data:/data"), "no variable volumes"),
        ("prefect-agent", place("/data"), "no variables image and env"),
    ],
)
def test_what_a_kind_of_pool_cannot_have_is_refused(kind: str, given: Place, said: str) -> None:
    template = {"ecs": template_of_prefect("ecs"), "prefect-agent": {}}.get(kind)
    with pytest.raises(ServerError, match=said):
        fields_of(given, pool(kind, template))


def test_a_store_that_ends_with_the_container_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"^/srv/store: expected a folder in /data"):
        fields_of(place("/data:/data", store="/srv/store"), pool("docker"))
    assert fields_of(place("/data:/data", store="/data/store"), pool("docker"))


@pytest.mark.parametrize("text", ["data", "a:b:/c", ":/data", "a:data", "/data:", ""])
def test_a_volume_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ServerError, match=r"--volume .*: expected SOURCE:PATH"):
        Volume.parse(text)


class Client:
    """A server without pools."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def read_work_pool(self, name: str) -> WorkPool:
        raise ObjectNotFound(Exception(name))

    def create_work_pool(self, asked: Any) -> WorkPool:
        self.made.append(asked)
        return pool("process")


def test_a_pool_that_is_not_there_is_named_with_what_makes_it() -> None:
    client: Any = Client()
    with pytest.raises(ServerError, match="prefect work-pool create boxes --type docker --base-job-template") as error:
        read_pool(client, "boxes")
    template = next(word for word in str(error.value).split() if word.endswith(".json`,"))
    assert (ROOT / template.rstrip("`,")).is_file()
    assert client.made == []
    read_pool(client, POOL)
    assert [(each.name, each.type) for each in client.made] == [(POOL, "process")]


def test_a_worker_serves_processes_alone() -> None:
    _check_kind(pool("process"))
    with pytest.raises(ServerError, match="prefect worker start --pool boxes"):
        _check_kind(pool("docker"))


@pytest.mark.parametrize(
    ("path", "is_shared"),
    [("/data/x", True), ("/data", True), ("s3://b/x", True), ("/data/../x", False), ("/database", False)],
)
def test_what_a_container_writes_lies_in_a_volume(path: str, is_shared: bool) -> None:
    check_shared([path], None)
    if is_shared:
        check_shared([path], "/data:/more")
    else:
        with pytest.raises(ArtifactError, match="expected a folder in /data or /more"):
            check_shared([path], "/data:/more")


def test_a_run_in_a_container_looks_at_its_folders_and_has_no_turn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(SHARED_VARIABLE, "/data")
    monkeypatch.setenv(STORE_VARIABLE, "/srv/store")
    with pytest.raises(ArtifactError, match="/srv/store"):
        flow_module._check_folders(Request(out=Path("/data/run")))
    monkeypatch.delenv(STORE_VARIABLE)
    flow_module._check_folders(Request(out=Path("/data/run")))
    with pytest.raises(ArtifactError, match="/tmp/run"):
        flow_module._check_folders(SimpleNamespace(out="/tmp/run"))
    monkeypatch.setenv(POOL_VARIABLE, "boxes")
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "x")
    monkeypatch.setattr(machine_limit, "get_client", lambda **_: pytest.fail("asked for a turn"))
    with turn():
        pass
    monkeypatch.setattr(
        flow_module, "flow_run", SimpleNamespace(parameters={"request": SimpleNamespace(out="/data/a")})
    )
    assert flow_module.run_name() == "boxes:/data/a"


def test_the_variable_is_the_store_of_requests_that_name_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(STORE_VARIABLE, "s3://bucket/x/")
    assert Request(out=tmp_path / "run").store_address == "s3://bucket/x"
    assert Request(out=tmp_path / "run", store=str(tmp_path)).store_address == str(tmp_path)
    monkeypatch.setenv(STORE_VARIABLE, "s3://a:b@bucket/x/")
    with pytest.raises(ArtifactError, match="which is refused"):
        _ = Request(out=tmp_path / "run").store_address
    monkeypatch.setenv(STORE_VARIABLE, "")
    assert Request(out=tmp_path / "run").store_address == str(tmp_path / "store")
