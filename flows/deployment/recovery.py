"""Runs whose process was killed, taken up again: they go on from the artifacts that are done."""

from __future__ import annotations

import logging
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled

from flows.deployment.liveness import abandoned

log = logging.getLogger(__name__)
MOST_TRIES = 5


def take_up(client: SyncPrefectClient) -> list[str]:
    """Schedule anew what was at work on this machine when its process was killed, and return the runs' names.

    A run that was killed `MOST_TRIES` times stays crashed: it is most likely what fills the memory.
    """
    taken = []
    for run_id, file in abandoned():
        try:
            run = client.read_flow_run(UUID(run_id))
        except ObjectNotFound:
            file.unlink(missing_ok=True)
            continue
        if _settle(client, run):
            taken.append(run.name)
        file.unlink(missing_ok=True)
    return taken


def _settle(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Bring a run whose process is gone into the state that this calls for; return whether it is done again."""
    kind = run.state.type if run.state else None
    if kind == StateType.CANCELLING:
        client.set_flow_run_state(run.id, Cancelled(), force=True)
    if kind not in (StateType.RUNNING, StateType.CRASHED):
        return False
    if run.run_count >= MOST_TRIES:
        log.error("%s was killed %d times; it is not started again", run.name, run.run_count)
        return False
    message = "its process was killed; it goes on from what is done"
    client.set_flow_run_state(run.id, AwaitingRetry(message=message), force=True)
    return True
