"""What happens when a run fails: its reason stands on the run's page, and whoever is to know is told."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow

log = logging.getLogger(__name__)
COMMAND_VARIABLE = "PSEUDOMASK_ON_FAILURE"
COMMAND_SECONDS = 60.0


def tell_of_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Put the reason on the run's page, and give it to the command that `PSEUDOMASK_ON_FAILURE` names.

    The command gets one JSON object on standard input: "flow", "run", "state", "reason". Its failure is logged.
    """
    reason = state.message or ""
    news = {"flow": flow.name, "run": flow_run.name, "state": state.name, "reason": reason}
    if flow_run.deployment_id:
        text = f"**{flow_run.name}** ended as {state.name}:\n\n```\n{reason}\n```\n\n"
        text += "What is finished is kept: the same run goes on from there (`prefect flow-run retry`)."
        with get_client(sync_client=True) as client:
            client.create_artifact(ArtifactCreate(key="failure", type="markdown", data=text, flow_run_id=flow_run.id))
    if command := os.environ.get(COMMAND_VARIABLE):
        try:
            subprocess.run(shlex.split(command), input=json.dumps(news), text=True, check=True, timeout=COMMAND_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            log.error("%s: %s", COMMAND_VARIABLE, error)
