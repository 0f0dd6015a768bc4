"""Regenerations by schedule, and by the event `images.landed`: one of each a folder of published labels."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from data.store import password_of
from flows.deployment.deployments import check_server
from flows.engine.server import ServerError
from flows.publishing.request import RegenerateRequest

DEPLOYMENT = "regenerate-labels/nightly"
EVENT = "images.landed"
CRON_FIELDS = 5


def schedule(request: RegenerateRequest, cron: str) -> dict[str, Any]:
    """Run a regeneration by a schedule, and whenever images land. It replaces what the folder had.

    Args:
        cron: Five fields, in UTC; "off" ends both.

    Returns:
        "deployment", "cron" (None where it is off), "event" and "resource": emit that event about this resource to run
        it at once.

    Raises:
        ServerError: The schedule is none, no server answers, or the deployment is not there.
    """
    if password_of(request.store_address):
        raise ServerError(
            f"{request.store_address}: expected a store without a password in its address, since Prefect keeps the "
            "requests of a schedule; leave it out, and set it where the worker starts, as FSSPEC_FTP_PASSWORD for ftp://"
        )
    name, cron = slug(request.out), cron.strip()
    off = cron.lower() == "off"
    # Whatever is wrong is found before anything is touched; and what is there is replaced, never deleted first.
    entry = None if off else _entry(name, cron, {"request": request.model_dump(mode="json")})
    check_server()
    with get_client(sync_client=True) as client:
        deployment = _deployment(client)
        _replace_schedule(client, deployment, name, entry)
        when = entry and _when_images_land(name, deployment, entry.parameters)
        _replace_automation(client, name, when)
    return {
        "deployment": DEPLOYMENT,
        "publication": str(request.out),
        "cron": None if off else cron,
        "event": EVENT,
        "resource": resource(name),
    }


def _entry(name: str, cron: str, parameters: dict[str, Any]) -> DeploymentScheduleCreate:
    wrong = f'--schedule {cron!r}: expected five fields, as in "0 3 * * *" (minute, hour, day, month, weekday), or off'
    if len(cron.split()) != CRON_FIELDS:
        raise ServerError(wrong)
    try:
        schedule = CronSchedule(cron=cron, timezone="UTC")
    except ValidationError:
        raise ServerError(wrong) from None
    return DeploymentScheduleCreate(schedule=schedule, active=True, parameters=parameters, slug=name)


def _replace_schedule(
    client: SyncPrefectClient, deployment: DeploymentResponse, name: str, entry: DeploymentScheduleCreate | None
) -> None:
    """Give a deployment's schedule of a name its new content, or where there is none end it."""
    before = [schedule.id for schedule in deployment.schedules if schedule.slug == name]
    if entry and before:
        client.update_deployment_schedule(
            deployment.id, before[0], active=True, schedule=entry.schedule, parameters=entry.parameters
        )
    elif entry:
        client.create_deployment_schedules(deployment.id, [entry])
    for id in before[1 if entry else 0 :]:
        client.delete_deployment_schedule(deployment.id, id)


def _replace_automation(client: SyncPrefectClient, name: str, new: AutomationCore | None) -> None:
    """Give the automation of a name its new content, or where there is none end it."""
    before = [automation.id for automation in client.read_automations_by_name(_automation_name(name))]
    if new:
        client.create_automation(new)
    for id in before:
        client.delete_automation(id)


def slug(folder: Path) -> str:
    """Return what the schedule of a folder of published labels is called: its name, and a hash of the whole path."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "labels"
    return f"{name}-{hashlib.sha1(str(folder.absolute()).encode()).hexdigest()[:6]}"


def resource(name: str) -> str:
    """Return the id of the resource that the event is about."""
    return f"pseudomask.labels.{name}"


def _automation_name(name: str) -> str:
    return f"regenerate {name} when images land"


def _when_images_land(name: str, deployment: DeploymentResponse, parameters: dict[str, Any]) -> AutomationCore:
    run = RunDeployment(source="selected", deployment_id=deployment.id, parameters=parameters, job_variables=None)
    return AutomationCore(
        name=_automation_name(name),
        trigger=EventTrigger(
            expect={EVENT},
            match={"prefect.resource.id": resource(name)},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[run],
    )


def _deployment(client: SyncPrefectClient) -> DeploymentResponse:
    try:
        return client.read_deployment_by_name(DEPLOYMENT)
    except ObjectNotFound:
        raise ServerError(f"the deployment {DEPLOYMENT} is not there; type `pseudomask deploy` first") from None
