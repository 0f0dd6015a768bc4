"""What happens when a run fails or holds its labels: the reason stands on its page, and whoever is to know is told."""

from __future__ import annotations

import json
import logging
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.flows import Flow
from prefect.utilities.urls import url_for

from data.text import hide_passwords
from flows.deployment.names import artifact_key

log = logging.getLogger(__name__)
COMMAND_VARIABLE = "PSEUDOMASK_ON_FAILURE"
COMMAND_SECONDS = 60.0
HELD = "Held"


def tell_of_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Put the reason on the run's page, and give it to the command that `PSEUDOMASK_ON_FAILURE` names."""
    _call(_news(flow, flow_run, state))
    reason = hide_passwords(state.message or "")
    out = _out_of(flow_run)
    if flow_run.deployment_id:
        text = f"**{flow_run.name}** ended as {state.name}:\n\n```\n{reason}\n```\n\n"
        text += "What is finished is kept: the same run goes on from there (`prefect flow-run retry`)."
        with get_client(sync_client=True) as client:
            artifact = ArtifactCreate(
                key=artifact_key("failure", out), type="markdown", data=text, flow_run_id=flow_run.id
            )
            client.create_artifact(artifact)


def tell_of_review(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Tell the same command of labels that are held, every night as long as they are."""
    if state.name == HELD:
        _call(_news(flow, flow_run, state))


def _news(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> dict[str, Any]:
    """Return what the command gets as one JSON object on standard input.

    Returns:
        "flow", "run" (its name), "id", "url" (of its page), "deployment" ("flow/name"), "out" (folder of the results),
        "state", "reason". What there is none of is None.
    """
    return {
        "flow": flow.name,
        "run": flow_run.name,
        "id": str(flow_run.id),
        "url": url_for("flow-run", flow_run.id),
        "deployment": _deployment_of(flow, flow_run),
        "out": _out_of(flow_run),
        "state": state.name,
        "reason": hide_passwords(state.message or ""),
    }


def _deployment_of(flow: Flow[..., Any], flow_run: FlowRun) -> str | None:
    if flow_run.deployment_id is None:
        return None
    try:
        with get_client(sync_client=True) as client:
            return f"{flow.name}/{client.read_deployment(flow_run.deployment_id).name}"
    except ObjectNotFound:
        # It was removed while the run was under way.
        return None


def _out_of(flow_run: FlowRun) -> str | None:
    request = flow_run.parameters.get("request")
    out = request.get("out") if isinstance(request, dict) else getattr(request, "out", None)
    return None if out is None else str(out)


def _call(news: dict[str, Any]) -> None:
    """Give news to the command, if there is one; its failure is logged."""
    if command := os.environ.get(COMMAND_VARIABLE):
        try:
            subprocess.run(shlex.split(command), input=json.dumps(news), text=True, check=True, timeout=COMMAND_SECONDS)
        except subprocess.CalledProcessError as error:
            # Its words may hold a token; the log is kept on the server.
            log.error("%s: %s ended with exit code %d", COMMAND_VARIABLE, Path(error.cmd[0]).name, error.returncode)
        except subprocess.TimeoutExpired as error:
            log.error("%s: %s took longer than %.0f s", COMMAND_VARIABLE, Path(error.cmd[0]).name, COMMAND_SECONDS)
        except (OSError, ValueError) as error:
            log.error("%s: %s", COMMAND_VARIABLE, error)
