"""Published labels as Prefect's assets, on a real server: the events from which its pages of assets are made."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from services_support import TINY, Prefect, as_options, wait_for

from flows.deployment.names import artifact_key, slug

OPEN_GATE = {"background": [0, 1], "classes": [0, 30], "instances": [0, 100], "agreement": 0}
MADE, USED = "prefect.asset.materialization.succeeded", "prefect.asset.referenced"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    service = Prefect(tmp_path_factory.mktemp("assets"))
    try:
        deployed = service.command("flows", "deploy", "--json")
        assert deployed.returncode == 0, deployed.stderr
        yield service
    finally:
        service.stop()


def events(server: Prefect, name: str) -> list[dict[str, Any]]:
    found = server.call("/events/filter", {"filter": {"event": {"name": [name]}}, "limit": 50})["events"]
    return sorted(found, key=lambda event: event["occurred"])


def made(server: Prefect, count: int) -> dict[str, dict[str, Any]]:
    """Return key -> the newest event of an asset that was made, once there are so many events."""
    wait_for(lambda: len(events(server, MADE)) >= count, f"{count} assets", 30)
    found = events(server, MADE)
    assert len(found) == count
    return {event["resource"]["prefect.resource.id"]: event for event in found}


def sources(event: dict[str, Any]) -> set[str]:
    return {each["prefect.resource.id"] for each in event["related"] if each["prefect.resource.role"] == "asset"}


def test_nights_and_decisions_are_assets_with_lineage(server: Prefect, tiny_data: Path) -> None:
    # A blank in the path, which no key of an asset may have.
    data, out = server.folder / "the set", server.folder / "the labels"
    shutil.copytree(tiny_data, data)
    names = (data / "ImageSets/Segmentation/train.txt").read_text().split()
    listed = data / "listed.txt"
    listed.write_text("\n".join(names[:10]))
    words = ["--data", data, "--split", listed, "--out", out, "--preset", "quick"]
    words += as_options(TINY | {"gate": OPEN_GATE})
    set_key, labels = f"pseudomask://sets/{slug(data)}", f"pseudomask://labels/{slug(out)}"

    said = server.command("flows", "regenerate", *words)
    assert said.returncode == 0, said.stderr
    first = made(server, 3)
    assert first.keys() == {f"{labels}/networks/v00001", f"{labels}/v00001", f"{labels}/latest"}
    networks, version = first[f"{labels}/networks/v00001"], first[f"{labels}/v00001"]
    assert sources(networks) == {set_key}
    assert networks["payload"]["images"] == 10
    assert sources(version) == {set_key, f"{labels}/networks/v00001"}
    assert sources(first[f"{labels}/latest"]) == {f"{labels}/v00001"}
    assert version["resource"]["prefect.resource.name"] == f"version 1 of {out}"
    assert version["resource"]["prefect.asset.url"] == (out / "v00001").as_uri()
    assert (version["payload"]["version"], version["payload"]["images"]) == (1, 10)
    assert 0 <= version["payload"]["scores"]["miou"] <= 1

    # A deployed night trains nothing, and keeps labels of the version before.
    listed.write_text("\n".join(names))
    assert server.command("flows", "regenerate", *words, "--schedule", "0 0 1 1 *").returncode == 0
    run = server.command("prefect", "deployment", "run", f"regenerate-labels/{slug(out)}")
    assert run.returncode == 0, run.stdout
    assert server.command("flows", "worker", "--until-idle").returncode == 0
    second = made(server, 5)
    version = second[f"{labels}/v00002"]
    assert sources(version) == {set_key, f"{labels}/networks/v00001", f"{labels}/v00001"}
    assert version["payload"]["changes"]["added"] == 2
    assert second[f"{labels}/latest"]["payload"]["version"] == 2
    referenced = {event["resource"]["prefect.resource.id"] for event in events(server, USED)}
    assert set_key in referenced
    artifacts = {each["key"]: each for each in server.call("/artifacts/filter", {})}
    history = artifacts[artifact_key("history", out)]
    assert history["data"].startswith("data:image/png")
    assert history["description"] == "Figures of versions 1 to 2"

    # A night without work makes no asset; a person's decision is one.
    assert server.command("flows", "regenerate", *words).returncode == 0
    server.ask(f"rollback-labels/{slug(out)}", {"out": str(out), "by": "Ada"})
    assert server.command("flows", "worker", "--until-idle").returncode == 0
    latest = made(server, 6)[f"{labels}/latest"]
    assert sources(latest) == {f"{labels}/v00001"}
    payload = {"version": 1, "before": 2, "by": "Ada", "images": 10}
    assert {name: latest["payload"][name] for name in payload} == payload
