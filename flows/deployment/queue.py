"""Runs of a deployment that wait for the one at work: of those that ask for the same, the newest does it."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run as this_run
from prefect.states import Completed

from flows.deployment.liveness import deployed

log = logging.getLogger(__name__)


def leave_to_newest() -> State[None] | None:
    """Return the state `Skipped` for this run where a newer one waits that asks for the same, else None.

    Of the runs that wait only the newest stays; the others are skipped, too. Elsewhere than in a deployed run it does
    nothing.
    """
    if not deployed() or this_run.parent_flow_run_id:
        return None
    with get_client(sync_client=True) as client:
        ours = client.read_flow_run(UUID(str(this_run.id)))
        waiting = _waiting(client, ours)
        if not waiting:
            return None
        *older, newest = waiting
        for run in older:
            client.set_flow_run_state(run.id, _skipped(newest), force=True)
    log.info("skipped: %s waits, and asks for the same", newest.name)
    return _skipped(newest)


def _waiting(client: SyncPrefectClient, ours: FlowRun) -> list[FlowRun]:
    """Return the other runs of a run's deployment that are due and ask for the same, the newest last."""
    if ours.deployment_id is None:
        return []
    due = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        expected_start_time=FlowRunFilterExpectedStartTime.model_validate({"before_": datetime.now(UTC)}),
    )
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[ours.deployment_id])),
        flow_run_filter=due,
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )
    return [run for run in found if run.id != ours.id and run.parameters == ours.parameters]


def _skipped(newest: FlowRun) -> State[None]:
    return Completed(name="Skipped", message=f"Skipped: the newer run {newest.name} waits, and asks for the same")
