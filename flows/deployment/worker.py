"""The worker: starts deployed runs as processes of this machine, and takes up those whose process was killed."""

from __future__ import annotations

import asyncio
import logging
import os

import anyio
import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import PrefectException
from prefect.workers.process import ProcessWorker

from flows.deployment.deployments import check_server
from flows.deployment.liveness import WORKER_VARIABLE
from flows.deployment.machine_limit import ensure_limit
from flows.deployment.pools import POOL, PROCESS, read_pool
from flows.deployment.recovery import take_up
from flows.engine.server import ServerError
from tasks.engine.processes import python_environment

log = logging.getLogger(__name__)
LOOK_SECONDS = 5.0


def work(
    *, pool: str = POOL, limit: int | None = None, until_idle: bool = False, with_healthcheck: bool = False
) -> None:
    """Serve a pool of processes until interrupted.

    Args:
        limit: Runs that are started at a time; those that wait for their turn count.
        until_idle: Do what is scheduled now, and return.
        with_healthcheck: Answer at Prefect's address of a worker's health, `/health` on port 8080 by default.

    Raises:
        ServerError: No Prefect server answers, or the pool is of another kind.
    """
    check_server()
    with get_client(sync_client=True) as client:
        _check_kind(read_pool(client, pool))
        ensure_limit(client)
    os.environ[WORKER_VARIABLE] = str(os.getpid())
    # Runs are this process's children.
    os.environ.update(python_environment())
    asyncio.run(_serve(pool, limit, until_idle, with_healthcheck))


def _check_kind(pool: WorkPool) -> None:
    if pool.type != PROCESS:
        raise ServerError(
            f"the work pool {pool.name} is of type {pool.type}, whose worker is Prefect's: `pip install "
            f"prefect-{pool.type}`, then `prefect worker start --pool {pool.name}`"
        )


async def _serve(pool: str, limit: int | None, until_idle: bool, with_healthcheck: bool) -> None:
    await _take_up()
    async with anyio.create_task_group() as group:
        group.start_soon(_keep_taking_up)
        worker = ProcessWorker(work_pool_name=pool, limit=limit)
        await worker.start(run_once=until_idle, with_healthcheck=with_healthcheck, printer=log.info)
        group.cancel_scope.cancel()


async def _keep_taking_up() -> None:
    while True:
        await anyio.sleep(LOOK_SECONDS)
        await _take_up()


async def _take_up() -> None:
    def look() -> list[str]:
        with get_client(sync_client=True) as client:
            return take_up(client)

    try:
        for name in await anyio.to_thread.run_sync(look):
            log.info("%s: its process was killed; it is started again", name)
    except (httpx.HTTPError, PrefectException) as error:
        # The server may be restarting; the word that killed runs left stays until it is back.
        log.warning("the Prefect server gives no answer (%s); looking again in %.0f s", error, LOOK_SECONDS)
