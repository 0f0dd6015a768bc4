"""A deployment per publication: its request as default parameters, and the automation of `images.landed`.

The server empties the parameters of a schedule whenever that is edited, so they are the deployment's alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows.deployment.names import slug
from flows.engine.server import ServerError

FLOW, APPROVE, ROLLBACK = "regenerate-labels", "approve-labels", "rollback-labels"
BY_HAND = {FLOW: "nightly", APPROVE: "approve", ROLLBACK: "rollback"}
"""Flow -> the deployment whose code and pool those of publications have."""
TAG = "publication"
EVENT = "images.landed"
PAGE = 100


def deploy_publication(client: SyncPrefectClient, request: dict[str, Any], entry: DeploymentScheduleCreate) -> None:
    """Make or replace the deployment of a publication, and the automation of its event.

    Args:
        request: A `RegenerateRequest` as JSON.
    """
    # What is missing is found before anything is made.
    templates = {flow: read_template(client, flow) for flow in BY_HAND}
    name, template = slug(Path(request["out"])), templates[FLOW]
    id = client.create_deployment(
        **place_of(template),
        flow_id=template.flow_id,
        name=name,
        parameters={"request": request},
        schedules=[entry],
        tags=[*template.tags, TAG],
        description=_describe_publication(request, name),
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        paused=False,
    )
    for other in client.read_deployment(id).schedules:
        if other.slug != entry.slug:
            client.delete_deployment_schedule(id, other.id)
    before = automations_of(client, name)
    client.create_automation(_when_images_land(name, id))
    for automation in before:
        client.delete_automation(automation)
    deploy_review(client, Path(request["out"]))


def deploy_review(client: SyncPrefectClient, out: Path) -> None:
    """Make or replace the deployments by which a person approves and rolls back versions of a publication."""
    for flow, what in ((APPROVE, "Approve the version that is held"), (ROLLBACK, "Go back to an earlier version")):
        template = read_template(client, flow)
        client.create_deployment(
            **place_of(template),
            flow_id=template.flow_id,
            name=slug(out),
            parameters={"request": {"out": str(out)}},
            tags=[*template.tags, TAG],
            description=f"{what}: published labels in [`{out}`]({out.as_uri()}). Who does it is recorded.",
        )


def delete_deployments(client: SyncPrefectClient, name: str) -> bool:
    """Delete the deployments of a publication; return whether it had its own."""
    found = False
    for flow in (APPROVE, ROLLBACK, FLOW):
        try:
            client.delete_deployment(client.read_deployment_by_name(f"{flow}/{name}").id)
            found = True
        except ObjectNotFound:
            found = False
    return found


def place_of(template: DeploymentResponse) -> dict[str, Any]:
    """Return where the runs of a deployment find the flow, and who starts them."""
    names = ("work_pool_name", "work_queue_name", "path", "entrypoint", "pull_steps", "job_variables")
    return {name: getattr(template, name) for name in (*names, "parameter_openapi_schema", "enforce_parameter_schema")}


def publications(client: SyncPrefectClient) -> Iterator[DeploymentResponse]:
    """Yield the deployments of publications, by name."""
    of_flow, found = FlowFilter(name=FlowFilterName(any_=[FLOW])), []
    while page := client.read_deployments(flow_filter=of_flow, limit=PAGE, offset=len(found)):
        found += page
    yield from sorted((each for each in found if "out" in request_of(each)), key=lambda each: each.name)


def request_of(deployment: DeploymentResponse) -> dict[str, Any]:
    """Return the request that is a deployment's default, or none."""
    request = deployment.parameters.get("request")
    return request if isinstance(request, dict) else {}


def read_template(client: SyncPrefectClient, flow: str = FLOW) -> DeploymentResponse:
    """Return the deployment whose code and pool those of publications have.

    Raises:
        ServerError: It is not there.
    """
    name = f"{flow}/{BY_HAND[flow]}"
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        raise ServerError(f"the deployment {name} is not there; type `pseudomask deploy` first") from None


def deployment_of(client: SyncPrefectClient, folder: Path) -> DeploymentResponse:
    try:
        return client.read_deployment_by_name(f"{FLOW}/{slug(folder)}")
    except ObjectNotFound:
        known = ", ".join(str(request_of(each)["out"]) for each in publications(client)) or "none"
        raise ServerError(f"{folder}: expected a publication with a schedule; there are: {known}") from None


def automations_of(client: SyncPrefectClient, name: str) -> list[UUID]:
    return [automation.id for automation in client.read_automations_by_name(automation_name(name))]


def resource(name: str) -> str:
    """Return the id of the resource that the event is about."""
    return f"pseudomask.labels.{name}"


def automation_name(name: str) -> str:
    """Return what the automation of a publication's event is called."""
    return f"regenerate {name} when images land"


def _when_images_land(name: str, deployment: UUID) -> AutomationCore:
    run = RunDeployment(source="selected", deployment_id=deployment, parameters=None, job_variables=None)
    return AutomationCore(
        name=automation_name(name),
        trigger=EventTrigger(
            expect={EVENT},
            match={"prefect.resource.id": resource(name)},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[run],
    )


def _describe_publication(request: dict[str, Any], name: str) -> str:
    """Return the description of a publication's deployment, in Markdown."""
    out, data = Path(request["out"]), Path(request["data"])
    return (
        f"Published labels in [`{out}`]({out.as_uri()}), brought up to the images of [`{data}`]({data.as_uri()}).\n\n"
        f"- versions: `pseudomask versions {out}`\n"
        f"- at once: **Run**, or `prefect event emit {EVENT} --resource-id {resource(name)}`\n"
        f"- times: `pseudomask schedule list`, `pause`, `resume` or `remove {out}`\n"
    )
