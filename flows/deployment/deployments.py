"""Everything that Prefect has to know before runs can be asked of it: the pool, the limit, the deployments."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessWorker

from data.text import hide_passwords
from flows.deployment.machine_limit import ensure_limit, limit_name
from flows.engine.server import ServerError, reach_directly
from tasks.engine.processes import python_command, python_environment

ROOT = Path(__file__).resolve().parents[2]
POOL, POOL_TYPE = "pseudomask", "process"
DEPLOY_SECONDS = 600.0
_DEPLOYED = re.compile(r"Deployment '([^']+)' successfully")
log = logging.getLogger(__name__)


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
        # By name: without a filter the server answers with a page of all that there are.
        wanted = DeploymentFilter(name=DeploymentFilterName(any_=names))
        deployed = [
            f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
            for deployment in client.read_deployments(deployment_filter=wanted)
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
    """Make the pool where it is missing.

    Raises:
        ServerError: There is one of its name that `pseudomask worker` cannot serve.
    """
    try:
        kind = client.read_work_pool(POOL).type
        if kind != POOL_TYPE:
            raise ServerError(
                f"the work pool {POOL} is of type {kind}, expected {POOL_TYPE}: images, store and code are folders of "
                f"this machine. Delete it (`prefect work-pool delete {POOL}`), or use another server"
            )
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=POOL, type=POOL_TYPE, base_job_template=template))


def _deploy_all() -> None:
    """Have Prefect deploy what `prefect.yaml` lists, with a line for each that is done.

    Raises:
        ServerError: Prefect refuses one, or takes longer than `DEPLOY_SECONDS`.
    """
    command = python_command("-m", "prefect", "--no-prompt", "deploy", "--all")
    environment = os.environ | python_environment() | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    timer = threading.Timer(DEPLOY_SECONDS, process.kill)
    timer.start()
    said = []
    with process, contextlib.closing(process.stdout or io.StringIO()) as lines:
        for line in lines:
            said.append(line)
            for name in _DEPLOYED.findall(line):
                log.info("deployed %s", name)
    late = not timer.is_alive()
    timer.cancel()
    if late:
        raise ServerError(f"prefect deploy took longer than {DEPLOY_SECONDS:.0f} s: {''.join(said).strip()}")
    if process.returncode:
        raise ServerError(f"prefect deploy failed: {''.join(said).strip()}")
