"""Artifacts of a plan in a flow: made when the machine's turn comes, with bars on the run's page."""

from __future__ import annotations

from flows.deployment.machine_limit import turn
from flows.deployment.ui import watch_stages
from flows.engine.execute import make_artifacts
from flows.engine.request import PlannedRun, Request


def make_in_turn(request: Request, prepared: PlannedRun, *, num_processes: int = 1, go_on: bool = False) -> None:
    """Do as `make_artifacts` does; a deployed run waits for its turn on the machine first."""
    with turn():
        watch = watch_stages(prepared.plan.stages)
        make_artifacts(request, prepared, watch, num_processes=num_processes, go_on=go_on)
