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

from flows.production.deployments import check_server
from flows.regenerate_request import RegenerateRequest
from flows.server import ServerError

DEPLOYMENT = "regenerate-labels/nightly"
EVENT = "images.landed"


def schedule(request: RegenerateRequest, cron: str) -> dict[str, Any]:
    """Run a regeneration by a schedule, and whenever images land. It replaces what the folder had.

    Args:
        cron: Five fields, in UTC; "off" ends both.

    Returns:
        "deployment", "cron" (None where it is off), "event" and "resource": emit that event about this resource to run
        it at once.

    Raises:
        ServerError: No server answers, or the deployment is not there.
    """
    check_server()
    name = slug(request.out)
    with get_client(sync_client=True) as client:
        deployment = _deployment(client)
        for entry in deployment.schedules:
            if entry.slug == name:
                client.delete_deployment_schedule(deployment.id, entry.id)
        for automation in client.read_automations_by_name(_automation_name(name)):
            client.delete_automation(automation.id)
        if cron != "off":
            parameters = {"request": request.model_dump(mode="json")}
            entry = DeploymentScheduleCreate(
                schedule=CronSchedule(cron=cron, timezone="UTC"), active=True, parameters=parameters, slug=name
            )
            client.create_deployment_schedules(deployment.id, [entry])
            client.create_automation(_when_images_land(name, deployment, parameters))
    return {
        "deployment": DEPLOYMENT,
        "publication": str(request.out),
        "cron": None if cron == "off" else cron,
        "event": EVENT,
        "resource": resource(name),
    }


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
