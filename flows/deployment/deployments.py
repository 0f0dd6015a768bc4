"""Everything that Prefect has to know before runs can be asked of it: the pool, the limit, the deployments."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessWorker

from data.text import hide_passwords
from flows.deployment.machine_limit import ensure_limit, limit_name
from flows.engine.server import ServerError, reach_directly
from tasks.engine.processes import python_command, python_environment

ROOT = Path(__file__).resolve().parents[2]
POOL = "pseudomask"


def deploy() -> dict[str, Any]:
    """Make the pool and this machine's limit where they are missing, and deploy all that `prefect.yaml` lists.

    Returns:
        "server": its address; "pool"; "limit": {"name", "slots"}; "deployments": "flow/name" of each.

    Raises:
        ServerError: No server answers, or it refuses a deployment; the message has Prefect's own words.
    """
    server = check_server()
    with get_client(sync_client=True) as client:
        _ensure_pool(client)
        slots = ensure_limit(client)
        _deploy_all()
        names = [entry["name"] for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]]
        deployed = [
            f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
            for deployment in client.read_deployments()
            if deployment.name in names
        ]
    return {
        "server": hide_passwords(server),
        "pool": POOL,
        "limit": {"name": limit_name(), "slots": slots},
        "deployments": sorted(deployed),
    }


def check_server() -> str:
    """Return the address of the Prefect server that is configured.

    Raises:
        ServerError: None is, or it gives no answer.
    """
    address = get_current_settings().api.url
    start = "start one with `prefect server start`, and `prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api`"
    if not address:
        raise ServerError(f"expected the address of a Prefect server, none is configured; {start}")
    reach_directly(address)
    try:
        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
    except httpx.HTTPError as error:
        problem = error
    if problem:
        raise ServerError(f"{address}: no Prefect server answers ({problem}); {start}")
    return address


def _ensure_pool(client: SyncPrefectClient) -> None:
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))


def _deploy_all() -> None:
    command = python_command("-m", "prefect", "--no-prompt", "deploy", "--all")
    environment = os.environ | python_environment()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"prefect deploy failed: {(done.stdout + done.stderr).strip()}")
