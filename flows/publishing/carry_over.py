"""Schedules of before publications had deployments of their own, and deployments of publications after an update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.events.actions import RunDeployment

from flows.deployment.names import slug
from flows.publishing.deployment import (
    FLOW,
    automations_of,
    deploy_publication,
    deploy_review,
    place_of,
    publications,
    read_template,
    request_of,
)
from flows.publishing.schedule import SLUG

EXAMPLE = "example"


def carry_over() -> dict[str, Any]:
    """Bring the deployments of publications up to the code, and give those that had a schedule alone one of their own.

    A schedule whose parameters the server has lost gets them from the automation of its event.

    Returns:
        "publications": the deployments, "lost": the old schedules whose request is nowhere; these are left as they are.

    Raises:
        ServerError: The deployment by hand is not there.
    """
    lost = []
    with get_client(sync_client=True) as client:
        template = read_template(client)
        for old in template.schedules:
            name = old.slug or ""
            request = old.parameters.get("request") or _request_of_automation(client, name)
            if name == EXAMPLE:
                client.delete_deployment_schedule(template.id, old.id)
            elif not request or slug(Path(request["out"])) != name:
                lost.append(f"{old.slug or old.id}: {getattr(old.schedule, 'cron', old.schedule)}")
            else:
                entry = DeploymentScheduleCreate(schedule=old.schedule, active=bool(old.active), slug=SLUG)
                deploy_publication(client, request, entry)
                client.delete_deployment_schedule(template.id, old.id)
        known = list(publications(client))
        for deployment in known:
            deploy_review(client, Path(request_of(deployment)["out"]))
            client.update_deployment(deployment.id, DeploymentUpdate(**place_of(template), tags=deployment.tags))
    return {"publications": [f"{FLOW}/{deployment.name}" for deployment in known], "lost": lost}


def _request_of_automation(client: Any, name: str) -> dict[str, Any]:
    for id in automations_of(client, name):
        automation = client.read_automation(id)
        for action in automation.actions if automation else ():
            if isinstance(action, RunDeployment) and action.parameters:
                return action.parameters.get("request") or {}
    return {}
