"""Deployed runs on a real server and worker: done, refused, failed, scheduled, queued, and taken up after kills."""

from __future__ import annotations

import json
import shutil
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
from services_support import TINY, Prefect, as_options, label_bytes, labels_request, wait_for

from flows.deployment.names import artifact_key, slug
from flows.publishing.deployment import EVENT, resource
from tasks.networks import families

ENDS = {"Completed", "Failed", "Crashed", "Cancelled"}
OPEN_GATE = {"background": [0, 1], "classes": [0, 30], "instances": [0, 100], "agreement": 0}


@pytest.fixture(scope="module")
def undisturbed(prefect: Prefect, tiny_data: Path) -> Path:
    """Return the folder of a run that was asked for and watched to its end."""
    out = prefect.folder / "first" / "run"
    said = prefect.watch("pseudo-labels/by-hand", labels_request(tiny_data, out))
    assert said.returncode == 0, said.stdout + said.stderr
    return out


def test_a_watched_run_ends_well_and_has_its_page(prefect: Prefect, undisturbed: Path) -> None:
    assert json.loads((undisturbed / "metrics.json").read_text())["images"] == 12
    found = {artifact["key"]: artifact for artifact in prefect.call("/artifacts/filter", {})}
    key = {what: artifact_key(what, undisturbed) for what in ("scores", "work", "results", "labels-1", "progress-walk")}
    assert set(key.values()) <= found.keys()
    assert found[key["progress-walk"]]["data"] == 100
    assert found[key["labels-1"]]["data"].startswith("data:image/jpeg")
    said = [line["message"] for line in prefect.call("/logs/filter", {})]
    assert any("no ImageNet weights" in line for line in said)


def test_a_wrong_preset_is_refused_before_the_run(prefect: Prefect, tmp_path: Path) -> None:
    said = prefect.watch(
        "pseudo-labels/by-hand", {"data": str(tmp_path), "out": str(tmp_path / "run"), "preset": "qick"}
    )
    assert said.returncode == 1
    assert "qick" in said.stdout + said.stderr
    assert "Created flow run" not in said.stdout


def test_a_bad_parameter_is_refused_before_the_run(prefect: Prefect, tmp_path: Path) -> None:
    bad = labels_request(tmp_path, tmp_path / "run", walk={"steps": "many"})
    said = prefect.watch("pseudo-labels/by-hand", bad)
    assert said.returncode == 1
    assert "steps" in said.stdout + said.stderr
    assert not (tmp_path / "run").exists()


def test_a_failing_run_gives_exit_code_1_and_its_reason(prefect: Prefect, tiny_data: Path, tmp_path: Path) -> None:
    broken = tmp_path / "data"
    shutil.copytree(tiny_data, broken)
    image = sorted(broken.rglob("*.jpg"))[0]
    image.write_bytes(image.read_bytes()[:300])
    request = labels_request(broken, tmp_path / "run")
    del request["split"]
    said = prefect.watch("pseudo-labels/by-hand", request)
    assert said.returncode == 1
    assert image.name in said.stdout
    key = artifact_key("failure", request["out"])
    reasons = [artifact["data"] for artifact in prefect.call("/artifacts/filter", {}) if artifact["key"] == key]
    assert any(image.name in reason for reason in reasons)


@pytest.mark.parametrize("flow", ["segnet", "deeplabv3plus", "saliency", "cooperative"])
def test_networks_are_trained_from_their_deployments(
    prefect: Prefect, tiny_data: Path, tmp_path: Path, flow: str
) -> None:
    training = {"image_size": [32, 48], "epochs": 1, "steps": [1, 9], "batch_size": 4, "validate_epochs": 1}
    backbone = {"backbone": "resnet18"}
    if flow == "segnet":
        backbone = {}
    else:
        training["crop_size"] = [32, 48]
    request = {"data": str(tiny_data), "split": "train", "val": "val", "out": str(tmp_path / "net")}
    said = prefect.watch(f"{flow}/{flow}", {**request, "settings": {**backbone, "training": training}})
    assert said.returncode == 0, said.stdout + said.stderr
    metrics = json.loads((tmp_path / "net" / "metrics.json").read_text())
    assert metrics["validation"]["images"] == 4
    assert ("saliency" in metrics["validation"]) == (flow == "saliency")
    refused = prefect.watch(f"{flow}/{flow}", {**request, "settings": {"training": {"epochs": 0}}})
    assert refused.returncode == 1
    assert "epochs" in refused.stdout + refused.stderr


def test_a_request_whose_parts_do_not_fit_together_gives_its_reason(
    prefect: Prefect, tiny_data: Path, tmp_path: Path
) -> None:
    said = prefect.watch("cooperative/cooperative", {"data": str(tiny_data), "out": str(tmp_path / "net")})
    assert said.returncode == 1
    assert "pseudomask.failed" in said.stdout
    assert "a list of them by --val" in " ".join(said.stdout.split())


def test_deploying_again_changes_nothing(prefect: Prefect) -> None:
    before = {entry["id"] for entry in prefect.call("/deployments/filter", {})}
    again = prefect.command("flows", "deploy", "--json")
    assert again.returncode == 0, again.stderr
    assert {entry["id"] for entry in prefect.call("/deployments/filter", {})} == before
    networks = (*families(), "predict")
    expected = {"pseudo-labels/by-hand", "regenerate-labels/nightly", *(f"{name}/{name}" for name in networks)}
    expected |= {"approve-labels/approve", "rollback-labels/rollback"}
    assert set(json.loads(again.stdout)["deployments"]) == expected


def test_a_worker_killed_in_mid_run_costs_no_label(prefect: Prefect, tiny_data: Path, undisturbed: Path) -> None:
    out = prefect.folder / "worker killed" / "run"
    run = prefect.ask("pseudo-labels/by-hand", labels_request(tiny_data, out))
    wait_for(lambda: any((out.parent / "store" / "cams").glob("*/manifest.json")), "the first maps")
    prefect.kill_worker()
    time.sleep(3)
    assert prefect.state(run) == "Running"
    prefect.start_worker()
    wait_for(lambda: prefect.state(run) == "Completed", f"run {run}", 300)
    assert prefect.call(f"/flow_runs/{run}")["run_count"] == 2
    assert label_bytes(out) == label_bytes(undisturbed)


def test_a_server_killed_in_mid_run_costs_no_label(prefect: Prefect, tiny_data: Path, undisturbed: Path) -> None:
    out = prefect.folder / "server killed" / "run"
    run = prefect.ask("pseudo-labels/by-hand", labels_request(tiny_data, out))
    wait_for(lambda: any((out.parent / "store" / "cams").glob("*/manifest.json")), "the first maps")
    prefect.kill_server()
    if prefect.postgres:
        prefect.postgres.kill()
        prefect.postgres.start()
    time.sleep(5)
    prefect.start()
    _finish(prefect, run, out, tiny_data)
    assert label_bytes(out) == label_bytes(undisturbed)


def test_a_schedule_and_an_event_regenerate_labels(prefect: Prefect, tiny_data: Path) -> None:
    data, out = prefect.folder / "growing", prefect.folder / "published" / "labels"
    shutil.copytree(tiny_data, data)
    names = (data / "ImageSets/Segmentation/train.txt").read_text().split()
    listed = data / "listed.txt"
    listed.write_text("\n".join(names[:10]))
    words = [
        "--data",
        data,
        "--split",
        listed,
        "--out",
        out,
        "--preset",
        "quick",
        *as_options(TINY | {"gate": OPEN_GATE}),
    ]
    said = prefect.command("flows", "regenerate", *words, "--schedule", "* * * * *", "--json")
    assert said.returncode == 0, said.stderr
    wait_for(lambda: (out / "latest").is_symlink(), "the schedule's first version", 400)
    assert prefect.command("flows", "schedule", "pause", out).returncode == 0
    wait_for(lambda: not _active(prefect), "the end of what was scheduled", 300)
    assert (out / "latest").readlink().name == "v00001"
    nights = [run["state"] for run in prefect.call("/flow_runs/filter", {}) if run["state"]["name"] != "Scheduled"]
    assert "Published v1: there is no version yet" in [state["message"] for state in nights]
    # Of what came due meanwhile the newest alone was begun.
    assert {state["name"] for state in nights} <= ENDS | {"Published", "Unchanged", "Skipped"}

    listed.write_text("\n".join(names))
    assert prefect.command("flows", "regenerate", *words, "--schedule", "0 0 1 1 *").returncode == 0
    emitted = prefect.command("prefect", "event", "emit", EVENT, "--resource-id", resource(slug(out)))
    assert emitted.returncode == 0, emitted.stdout + emitted.stderr
    wait_for(lambda: (out / "latest").readlink().name == "v00002", "the event's version", 300)
    version = json.loads((out / "latest" / "version.json").read_text())
    assert (version["changes"]["added"], version["trained"], version["images"]) == (2, False, 12)
    wait_for(lambda: not _active(prefect), "the end of the event's run", 100)
    [row] = json.loads(prefect.command("flows", "schedule", "list", "--json").stdout)["schedules"]
    assert (row["publication"], row["last"]["message"]) == (str(out), "Published v2: 2 images added")
    assert prefect.command("flows", "regenerate", *words, "--schedule", "off").returncode == 0
    assert prefect.call("/automations/filter", {}) == []
    assert json.loads(prefect.command("flows", "schedule", "list", "--json").stdout)["schedules"] == []


def test_twenty_runs_take_turns_and_none_is_lost(prefect: Prefect, tiny_data: Path, undisturbed: Path) -> None:
    base = prefect.folder / "queued"
    runs, stores = {}, {}
    for number in range(20):
        # Each has work of its own: other scores of the shared labels, or other labels.
        settings = {"labels": {"background_threshold": 0.25 + number / 100}}
        if number % 4 == 3:
            deployment = "predict/predict"
            request = {"network": str(base / "none"), "data": str(tiny_data), "out": str(base / f"{number}" / "run")}
        else:
            deployment = "pseudo-labels/by-hand"
            request = labels_request(tiny_data, base / f"{number}" / "run", **settings)
            request["networks"] = str(undisturbed)
        runs[prefect.ask(deployment, request)] = deployment
        stores[number] = base / f"{number}" / "store"
    wait_for(lambda: all(prefect.state(run) in ENDS for run in runs), "the end of all runs", 900)
    for run, deployment in runs.items():
        # There is no such network: these fail, and hold nobody up.
        assert prefect.state(run) == ("Failed" if deployment.startswith("predict") else "Completed")
    spans = sorted(filter(None, map(_span, stores.values())))
    assert len(spans) == 15
    for (_, end), (begin, _) in pairwise(spans):
        assert begin >= end


def _span(store: Path) -> tuple[float, float] | None:
    """Return when the first of a run's own artifacts was begun, and when the last was done."""
    spans = []
    for file in store.glob("*/*/manifest.json"):
        manifest, end = json.loads(file.read_text()), file.stat().st_ctime
        # The networks were made by another run.
        if manifest["stage"] not in ("classifier", "irnet"):
            spans.append((end - manifest["seconds"], end))
    return (min(begin for begin, _ in spans), max(end for _, end in spans)) if spans else None


def _finish(prefect: Prefect, run: str, out: Path, data: Path) -> None:
    """Wait for a run that lost its server; ask for it again where that is what it takes."""
    ends = {"Completed", "Failed", "Crashed"}
    wait_for(lambda: prefect.state(run) in ends, f"run {run}", 300)
    if prefect.state(run) != "Completed":
        said = prefect.watch("pseudo-labels/by-hand", labels_request(data, out))
        assert said.returncode == 0, said.stdout


def _active(prefect: Prefect) -> list[str]:
    body = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING"]}}}}
    now = datetime.now().astimezone().isoformat()
    return [run["id"] for run in prefect.call("/flow_runs/filter", body) if (run["expected_start_time"] or now) <= now]
