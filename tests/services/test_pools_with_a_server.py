"""Pools of other kinds on a real server: what is deployed, and runs in namespaces of their own, as containers are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services_support import ROOT, TINY, Prefect, as_options, labels_request

from flows.deployment.names import slug
from flows.deployment.pools import IMAGE_FOLDER

# The image has the source there; each volume is mounted where the deployment says.
BOX = """
set -eu
hostname {name}
mount -t tmpfs none /srv
mkdir /srv/home {code}
mount --bind {root} {code}
{mounts}
cd {code}
exec env -i PATH={bin}:/usr/bin:/bin HOME=/srv/home PYTHONPATH={code} {variables} {command}
"""
NAMESPACES = ("unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "sh", "-c")


def in_namespaces() -> bool:
    """Return whether this user may have namespaces of processes, mounts and host names."""
    if not shutil.which("unshare"):
        return False
    tried = subprocess.run([*NAMESPACES, "hostname box && mount -t tmpfs none /srv"], capture_output=True, check=False)
    return tried.returncode == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    service = Prefect(tmp_path_factory.mktemp("pools"))
    for kind, template in (("docker", True), ("kubernetes", True), ("process", False)):
        words = ["work-pool", "create", f"{kind}-pool", "--type", kind]
        words += ["--base-job-template", f"docs/deploy/{kind}-pool.json"] * template
        made = service.command("prefect", *words)
        assert made.returncode == 0, made.stdout + made.stderr
    yield service
    service.stop()


def boxed(server: Prefect, name: str, command: list[str], variables: dict[str, str], volumes: list[str]) -> list[str]:
    """Return what runs a command with a host name, processes, folders and variables of its own."""
    words = variables | {"PREFECT_API_URL": server.api, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    mounts = "\n".join(
        f"mkdir -p {path} && mount --bind {source} {path}" for source, path in (each.split(":") for each in volumes)
    )
    script = BOX.format(
        name=name,
        root=ROOT,
        code=IMAGE_FOLDER,
        mounts=mounts,
        bin=Path(sys.executable).parent,
        variables=" ".join(f"{key}={value}" for key, value in words.items()),
        command=" ".join(command),
    )
    return [*NAMESPACES, script]


def deployment(server: Prefect, name: str) -> dict[str, Any]:
    return server.call(f"/deployments/name/{name}")


def test_a_pool_that_is_not_there_or_lacks_an_image_is_refused(server: Prefect) -> None:
    for words, said in (
        (["--pool", "none"], "prefect work-pool create none --type docker"),
        (["--pool", "docker-pool"], "expected --image"),
        (["--pool", "docker-pool", "--image", "labels"], "expected --volume SOURCE:PATH"),
        (["--pool", "process-pool", "--image", "labels"], "leave out --image"),
    ):
        refused = server.command("flows", "deploy", *words)
        assert refused.returncode == 1, refused.stdout
        assert said in " ".join(refused.stderr.split())
    refused = server.command("flows", "worker", "--pool", "docker-pool", "--until-idle")
    assert refused.returncode == 1
    assert "prefect worker start --pool docker-pool" in " ".join(refused.stderr.split())
    assert server.call("/deployments/filter", {}) == []


@pytest.mark.skipif(not in_namespaces(), reason="needs namespaces of its own (unshare, as root)")
def test_a_run_of_a_pool_of_docker_starts_as_its_deployment_says(
    server: Prefect, tiny_data: Path, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    shutil.copytree(tiny_data, volume / "data")
    volumes = [f"{volume}:/srv/labels"]
    words = ["--pool", "docker-pool", "--image", "labels:1", "--volume", *volumes, "--store", "/srv/labels/store"]
    deployed = server.command("flows", "deploy", *words, "--json")
    assert deployed.returncode == 0, deployed.stderr
    assert json.loads(deployed.stdout)["kind"] == "docker"
    found = deployment(server, "pseudo-labels/by-hand")
    assert found["work_pool_name"] == "docker-pool"
    variables = found["job_variables"]
    assert (variables["image"], variables["volumes"]) == ("labels:1", volumes)
    # What stands in prefect.yaml is there, too.
    assert variables["env"]["PREFECT_LOGGING_EXTRA_LOGGERS"]

    def carry_out(out: str) -> subprocess.CompletedProcess[str]:
        request = labels_request(Path("/srv/labels/data"), Path(out))
        run = server.ask("pseudo-labels/by-hand", request)
        # As the worker of docker starts it.
        command = [sys.executable, "-m", "prefect", "flow-run", "execute", run]
        boxes = boxed(server, "a1b2c3", command, variables["env"], volumes)
        return subprocess.run(boxes, capture_output=True, text=True, check=False, timeout=600)

    done = carry_out("/srv/labels/run")
    assert done.returncode == 0, done.stdout + done.stderr
    [run] = server.call("/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}})
    assert run["name"] == "docker-pool:/srv/labels/run"
    assert len(list((volume / "run/labels/SegmentationClass").glob("*.png"))) == 12
    assert (volume / "store/walk").is_dir()
    # A limit per container would never be cleared away.
    assert server.call("/v2/concurrency_limits/filter", {}) == []
    lost = carry_out("/tmp/elsewhere/run")
    assert lost.returncode != 0
    assert "/tmp/elsewhere/run: expected a folder in /srv/labels" in lost.stdout + lost.stderr
    assert not Path("/tmp/elsewhere").exists()


def test_a_night_that_a_container_would_lose_is_refused(server: Prefect, tiny_data: Path, tmp_path: Path) -> None:
    words = ["--pool", "kubernetes-pool", "--image", "host/labels:1", "--volume", f"labels:{tmp_path}/data"]
    deployed = server.command("flows", "deploy", *words)
    assert deployed.returncode == 0, deployed.stderr
    variables = deployment(server, "regenerate-labels/nightly")["job_variables"]
    assert variables["volumes"] == [{"name": "volume-0", "persistentVolumeClaim": {"claimName": "labels"}}]
    night = ["--data", tiny_data, "--schedule", "0 3 * * *", "--workers", "1", *as_options(TINY)]
    refused = server.command("flows", "regenerate", *night, "--out", tmp_path / "published")
    assert refused.returncode == 1
    assert f"expected a folder in {tmp_path}/data" in " ".join(refused.stderr.split())
    kept = tmp_path / "data" / "published"
    taken = server.command("flows", "regenerate", *night, "--out", kept)
    assert taken.returncode == 0, taken.stderr
    own = deployment(server, f"regenerate-labels/{slug(kept)}")
    assert (own["work_pool_name"], own["job_variables"]) == ("kubernetes-pool", variables)
    assert own["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": IMAGE_FOLDER}}]


@pytest.mark.skipif(not in_namespaces(), reason="needs namespaces of its own (unshare, as root)")
def test_a_worker_in_a_namespace_of_its_own_serves_another_pool_of_processes(
    server: Prefect, tiny_data: Path, tmp_path: Path
) -> None:
    deployed = server.command("flows", "deploy", "--pool", "process-pool", "--store", tmp_path / "store", "--json")
    assert deployed.returncode == 0, deployed.stderr
    said = json.loads(deployed.stdout)
    assert (said["pool"], said["kind"]) == ("process-pool", "process")
    run = server.ask("pseudo-labels/by-hand", labels_request(tiny_data, tmp_path / "run"))
    command = [sys.executable, "-m", "flows", "worker", "--pool", "process-pool", "--until-idle"]
    # Its own home, so that no words of other workers' runs are there; the deployment's folder is this one's.
    boxes = boxed(server, "host-two", command, {"PREFECT_HOME": "/srv/home/prefect"}, [])
    done = subprocess.run(boxes, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = server.call(f"/flow_runs/{run}")
    assert (found["state"]["type"], found["name"]) == ("COMPLETED", f"host-two:{tmp_path}/run")
    assert (tmp_path / "store" / "walk").is_dir()
    assert "gpu-host-two" in {limit["name"] for limit in server.call("/v2/concurrency_limits/filter", {})}
