"""Everything that Prefect has to know before runs can be asked of it: the pool, the limit, the deployments."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.settings import get_current_settings

from data.text import hide_passwords
from flows.deployment.machine_limit import ensure_limit, limit_name
from flows.deployment.pools import PROCESS, Place, fields_of, read_pool
from flows.engine.server import ServerError, no_password, reach_directly, refused_by
from tasks.engine.processes import python_command, python_environment

ROOT = Path(__file__).resolve().parents[2]
DEPLOY_SECONDS = 600.0
_DEPLOYED = re.compile(r"Deployment '([^']+)' successfully")
log = logging.getLogger(__name__)


def deploy(place: Place | None = None) -> dict[str, Any]:
    """Make the pool and this machine's limit where they are missing, and deploy all that `prefect.yaml` lists.

    Args:
        place: Where the runs happen; by default as processes of the machines with a worker.

    Returns:
        "server": its address; "pool"; "kind": of the pool; "limit": {"name", "slots"} of this machine, or of the pool
        where its runs are containers (slots are None without a limit); "deployments": "flow/name" of each.

    Raises:
        ServerError: No server answers, it has no such pool, or it refuses a deployment; the message has Prefect's own
            words.
    """
    server, place = check_server(), place or Place()
    with get_client(sync_client=True) as client:
        pool = read_pool(client, place.pool)
        fields = fields_of(place, pool)
        limit = {"name": f"work pool {pool.name}", "slots": pool.concurrency_limit}
        if pool.type == PROCESS:
            limit = {"name": limit_name(), "slots": ensure_limit(client)}
        names = _deploy_all(pool.name, fields)
        # By name: without a filter the server answers with a page of all that there are.
        wanted = DeploymentFilter(name=DeploymentFilterName(any_=names))
        deployed = [
            f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
            for deployment in client.read_deployments(deployment_filter=wanted)
        ]
    return {
        "server": hide_passwords(server),
        "pool": pool.name,
        "kind": pool.type,
        "limit": limit,
        "deployments": sorted(deployed),
    }


def check_server() -> str:
    """Return the address of the Prefect server that is configured.

    Raises:
        ServerError: None is, or it gives no answer, or wants a password.
    """
    address = get_current_settings().api.url
    start = "start one with `prefect server start`, and `prefect config set PREFECT_API_URL=http://127.0.0.1:4200/api`"
    if not address:
        raise ServerError(f"expected the address of a Prefect server, none is configured; {start}")
    reach_directly(address)
    try:
        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
            if not problem:
                # Whoever asks for the health needs no password.
                client.api_version()
    except httpx.HTTPStatusError as error:
        if refused_by(error):
            raise no_password(address) from None
        # It answers, so it is there: Prefect's cloud has no such address.
        problem = None
    except httpx.HTTPError as error:
        problem = error
    if problem:
        raise ServerError(f"{address}: no Prefect server answers ({problem}); {start}")
    return address


def _deploy_all(pool: str, fields: dict[str, Any]) -> list[str]:
    """Deploy what `prefect.yaml` lists to a pool, and return the names."""
    listed = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    for entry in listed["deployments"]:
        own = entry["work_pool"]["job_variables"]
        given = fields["job_variables"]
        variables = own | given | {"env": own.get("env", {}) | given.get("env", {})}
        entry |= {"work_pool": {"name": pool, "job_variables": variables}}
        entry |= {"pull": fields["pull"]} if "pull" in fields else {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(listed), encoding="utf-8")
        _have_deployed(file)
    return [entry["name"] for entry in listed["deployments"]]


def _have_deployed(file: Path) -> None:
    """Have Prefect deploy what a file lists, with a line for each that is done.

    Raises:
        ServerError: Prefect refuses one, or takes longer than `DEPLOY_SECONDS`.
    """
    command = python_command("-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file))
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
