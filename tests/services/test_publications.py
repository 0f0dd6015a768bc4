"""Deployments of publications on a real server: what Prefect's own commands do to them, and what is carried over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services_support import TINY, Prefect, as_options

from data.store.publication import Entry, Publication
from flows.deployment.names import slug

NIGHTLY = "regenerate-labels/nightly"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """Return a server with everything deployed, and no worker at work."""
    service = Prefect(tmp_path_factory.mktemp("publications"))
    try:
        deployed = service.command("flows", "deploy", "--json")
        assert deployed.returncode == 0, deployed.stderr
        # Who waits is told of each.
        assert "deployed pseudo-labels/by-hand" in deployed.stderr
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def out(server: Prefect, tiny_data: Path) -> Path:
    """Return the folder of a publication with a schedule."""
    out = server.folder / "labels"
    said = server.command(
        "flows", *regenerate(tiny_data, out), "--schedule", "0 3 * * *", "--timezone", "Europe/Berlin"
    )
    assert said.returncode == 0, said.stderr
    return out


def regenerate(data: Path, out: Path) -> list[str | Path]:
    return ["regenerate", "--data", data, "--split", "train", "--out", out, "--preset", "quick", *as_options(TINY)]


def deployment_of(server: Prefect, out: Path) -> dict[str, Any]:
    return server.call(f"/deployments/name/regenerate-labels/{slug(out)}")


def test_no_pause_resume_or_edit_by_prefect_loses_what_is_to_be_done(server: Prefect, out: Path) -> None:
    before = deployment_of(server, out)
    assert before["parameters"]["request"]["out"] == str(out)
    [schedule] = before["schedules"]
    for word in ("pause", "resume"):
        name = f"regenerate-labels/{slug(out)}"
        assert server.command("prefect", "deployment", "schedule", word, name, schedule["id"]).returncode == 0
        [row] = json.loads(server.command("flows", "schedule", "list", "--json").stdout)["schedules"]
        assert row["paused"] == (word == "pause")
        assert (row["next"] is None) == row["paused"]
    # As the form of the UI does that edits a schedule.
    edited = {"schedule": {"cron": "0 5 * * *", "timezone": "Asia/Tokyo"}, "active": True}
    server.call(f"/deployments/{before['id']}/schedules/{schedule['id']}", edited, method="PATCH")
    after = deployment_of(server, out)
    assert after["schedules"][0]["schedule"]["cron"] == "0 5 * * *"
    assert after["parameters"] == before["parameters"]
    # Run in the UI sends no parameters; the run has them all.
    run = server.call(f"/deployments/{before['id']}/create_flow_run", {})
    assert run["parameters"] == before["parameters"]
    server.call(f"/flow_runs/{run['id']}", method="DELETE")


def test_a_schedule_of_before_that_a_pause_has_emptied_is_carried_over(server: Prefect, out: Path) -> None:
    own = deployment_of(server, out)
    request = own["parameters"]["request"] | {"out": str(server.folder / "old")}
    name = slug(server.folder / "old")
    nightly = server.call(f"/deployments/name/{NIGHTLY}")
    entry = {"schedule": {"cron": "0 4 * * *", "timezone": "UTC"}, "slug": name, "active": False, "parameters": {}}
    server.call(f"/deployments/{nightly['id']}/schedules", [entry, entry | {"slug": "lost", "active": True}])
    action = {"type": "run-deployment", "source": "selected", "deployment_id": nightly["id"]}
    trigger = {"type": "event", "expect": ["images.landed"], "posture": "Reactive", "threshold": 1, "within": 0}
    automation = {
        "name": f"regenerate {name} when images land",
        "trigger": trigger,
        "actions": [action | {"parameters": {"request": request}}],
    }
    server.call("/automations/", automation)
    deployed = json.loads(server.command("flows", "deploy", "--json").stdout)
    assert f"regenerate-labels/{name}" in deployed["publications"]
    assert deployed["lost"] == ["lost: 0 4 * * *"]
    carried = deployment_of(server, server.folder / "old")
    assert carried["parameters"] == {"request": request}
    assert [(each["active"], each["schedule"]["cron"]) for each in carried["schedules"]] == [(False, "0 4 * * *")]
    assert [each["slug"] for each in server.call(f"/deployments/name/{NIGHTLY}")["schedules"]] == ["lost"]
    # The publication that had its own is as it was.
    assert deployment_of(server, out)["parameters"] == own["parameters"]
    assert deployment_of(server, out)["tags"] == own["tags"]
    removed = server.command("flows", "schedule", "remove", server.folder / "old")
    assert removed.returncode == 0, removed.stderr
    listed = json.loads(server.command("flows", "schedule", "list", "--json").stdout)["schedules"]
    assert [row["publication"] for row in listed] == [str(out)]


def test_a_version_is_approved_by_its_deployment_and_the_name_is_kept(server: Prefect, out: Path) -> None:
    publication = Publication(out)
    for hold in (False, True):
        with publication.lock(), publication.draft() as draft:
            record = {"created": "2026-01-01T00:00:00+00:00", "reasons": [], "held": ["odd"] * hold, "means": {}}
            publication.publish(draft, record, [Entry("a", "ab" * 32, ("cat",), "k", 0.5, 1, 1)], hold=hold)
    name = f"approve-labels/{slug(out)}"
    nobody = server.command("prefect", "deployment", "run", name)
    assert nobody.returncode == 1
    assert "by" in nobody.stdout + nobody.stderr
    run = server.ask(name, {"out": str(out), "version": 2, "by": "Ada"})
    assert server.command("flows", "worker", "--until-idle").returncode == 0
    state = server.call(f"/flow_runs/{run}")["state"]
    assert (state["name"], state["message"]) == ("Approved", "Approved v2, by Ada")
    assert publication.latest == 2
    assert json.loads((out / "decisions/d00001.json").read_text())["by"] == "Ada"
    shutil.rmtree(out)


def test_a_pool_of_another_type_without_an_image_is_refused(server: Prefect) -> None:
    server.call("/work_pools/pseudomask", {}, method="DELETE")
    server.call("/work_pools/", {"name": "pseudomask", "type": "docker", "base_job_template": {}})
    said = server.command("flows", "deploy")
    assert said.returncode == 1
    assert "is of type docker, whose job template has no variables image and env" in " ".join(said.stderr.split())
