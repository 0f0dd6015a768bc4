"""Automations of Prefect that tell a person by a block what a night came to: held, failed, crashed, or late."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from flows.engine.server import ServerError
from flows.publishing.deployment import FLOW

HELD, FAILED, LATE = "pseudomask: labels are held", "pseudomask: a run has failed", "pseudomask: labels are late"
NAMES = (HELD, FAILED, LATE)
OFF = "off"
DONE = {"prefect.flow-run.Published", "prefect.flow-run.Unchanged"}
ENDED = {"prefect.flow-run.Failed", "prefect.flow-run.Crashed", "prefect.flow-run.TimedOut"}
_RUN = "{{ flow_run.name }} ({{ deployment.name }}): {{ flow_run.state.message }}\n{{ flow_run|ui_url }}"


def notify_by(block: str, late_hours: float, flows: list[str]) -> dict[str, Any]:
    """Make or replace the automations that notify by a block; `off` removes them.

    Args:
        block: "type/name" of a block of notifications, such as slack-webhook/team.
        late_hours: A publication is late when it was neither published nor found unchanged for so long after the last
            time that it was.
        flows: Names of the flows whose failures are told.

    Returns:
        "block", and "automations", the names of those that there are now.

    Raises:
        ServerError: There is no such block.
    """
    with get_client(sync_client=True) as client:
        made = [] if block == OFF else _automations(_block_id(client, block), late_hours, flows)
        before = [each.id for name in NAMES for each in client.read_automations_by_name(name)]
        for automation in made:
            client.create_automation(automation)
        for id in before:
            client.delete_automation(id)
    return {"block": None if block == OFF else block, "automations": [automation.name for automation in made]}


def _block_id(client: SyncPrefectClient, block: str) -> Any:
    kind, _, name = block.partition("/")
    try:
        document = client.read_block_document_by_name(name, kind)
    except ObjectNotFound:
        documents = client.read_block_documents(include_secrets=False)
        known = sorted(f"{each.block_type.slug}/{each.name}" for each in documents if each.block_type and each.name)
        message = f"--notify {block}: expected a block as TYPE/NAME, there are: {', '.join(known) or 'none'}"
        raise ServerError(f"{message}; make one in the UI (Blocks); `prefect block create TYPE` has the link") from None
    capabilities = document.block_schema.capabilities if document.block_schema else []
    if "notify" not in capabilities:
        raise ServerError(
            f"--notify {block}: expected a block that notifies, such as slack-webhook, found another kind"
        )
    return document.id


def _automations(block: Any, late_hours: float, flows: list[str]) -> list[AutomationCore]:
    nights = {"prefect.resource.role": "flow", "prefect.resource.name": FLOW}
    every = {"prefect.resource.role": "flow", "prefect.resource.name": flows}
    held = EventTrigger(expect={"prefect.flow-run.Held"}, match_related=nights, posture=Posture.Reactive)  # pyright: ignore
    ended = EventTrigger(expect=ENDED, match_related=every, posture=Posture.Reactive)  # pyright: ignore
    late = EventTrigger(
        after=DONE,
        expect=DONE,
        match_related=nights,  # pyright: ignore
        for_each={"related:deployment:prefect.resource.id"},
        posture=Posture.Proactive,
        within=timedelta(hours=late_hours),
    )
    told = f"No version, and not found unchanged, for {late_hours:g} hours. Last: {_RUN}"
    kinds = ((HELD, held, _RUN), (FAILED, ended, _RUN), (LATE, late, told))
    return [
        AutomationCore(
            name=name,
            description="Made by `pseudomask deploy --notify`.",
            trigger=trigger,
            actions=[SendNotification(block_document_id=block, subject=name, body=body)],
        )
        for name, trigger, body in kinds
    ]
