"""`pseudomask deploy` and `pseudomask worker`: a machine whose runs are asked for through Prefect."""

from __future__ import annotations

import socket
from typing import Annotated, Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from flows.commands.command import Command, Logging, Output, answer
from flows.deployment.names import POOL
from flows.engine.store_block import read_block
from tasks.config import Config, StoreAddress


class DeployRequest(Config):
    """Deployments of prefect.yaml.

    Attributes:
        pool: Work pool of the runs; its kind is the server's word, and this one of processes is made if need be.
        image: Container image of the runs, in a pool of docker, kubernetes or the like.
        volume: Folders that containers share, as SOURCE:PATH, with :ro where they are only read; PATH alone where the
            pool's own job template mounts it. SOURCE is a folder, a volume of docker, or a claim of kubernetes.
        store: Where artifacts lie when a run names no store; an address, or a folder that all runs see.
        store_block: Block with the keys of the store, as secret/NAME; runs read it, and nothing records it.
        notify: Block that tells of held labels, failed runs and late nights, as TYPE/NAME; off ends that.
        late_hours: Labels are late that were neither published nor unchanged for so long.
    """

    pool: str = POOL
    image: str | None = None
    volume: tuple[str, ...] = ()
    store: StoreAddress | None = None
    store_block: str | None = None
    notify: str | None = None
    late_hours: Annotated[float, Field(gt=0, le=8760)] = 26.0


class WorkerRequest(Config):
    """A worker of this machine.

    Attributes:
        pool: Work pool of processes that it serves.
        limit: Runs that are started at a time; those that wait for their turn on the machine count.
        until_idle: Do what is scheduled now, and end.
        with_healthcheck: Answer on http://HOST:8080/health, for whoever watches; PREFECT_WORKER_WEBSERVER_PORT and
            PREFECT_WORKER_WEBSERVER_HOST change that.
    """

    pool: str = POOL
    limit: int | None = None
    until_idle: bool = False
    with_healthcheck: bool = False


def show_deployments(result: dict[str, Any], console: Console) -> None:
    """Print a row a deployment, and the next commands to type."""
    table = Table(title=f"deployed on {result['server']}", title_justify="left")
    table.add_column("deployment")
    for name in (*result["deployments"], *result["publications"]):
        table.add_row(name)
    console.print(table)
    for old in result["lost"]:
        _say(console, f"schedule without its request: {old}; next: pseudomask regenerate ... --schedule CRON")
    if (told := result.get("notify")) is not None:
        _say(console, f"notify: {told['block'] or 'nobody'}; {'; '.join(told['automations']) or 'no automations'}")
    limit, pool, kind = result["limit"], result["pool"], result["kind"]
    if kind == "process":
        _say(console, f"{limit['name']}: {limit['slots']} at a time on this machine ({socket.gethostname()})")
        _say(console, f"next: pseudomask worker{'' if pool == POOL else f' --pool {pool}'}")
    else:
        slots = limit["slots"] or f"any number; `prefect work-pool set-concurrency-limit {pool} 1`"
        _say(console, f"{limit['name']}, of type {kind}: {slots} at a time")
        _say(console, f"next: prefect worker start --pool {pool} (pip install prefect-{kind})")
    example = '\'request={"data": "/photos", "labels": "/photos/tags.csv", "out": "/runs/first"}\''
    _say(console, f"then: prefect deployment run pseudo-labels/by-hand --watch --param {example}")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)


def _deploy(request: DeployRequest, options: Output) -> None:
    from flows.deployment.deployments import deploy
    from flows.deployment.pools import Place, Volume
    from flows.publishing.carry_over import carry_over
    from flows.publishing.notify import notify_by

    if request.store_block is not None:
        # What is misspelt now would fail in the night.
        read_block(request.store_block)
    volumes = tuple(map(Volume.parse, request.volume))
    place = Place(request.pool, request.image, volumes, request.store, request.store_block)
    result = {**deploy(place), **carry_over()}
    if request.notify is not None:
        flows = sorted({name.partition("/")[0] for name in result["deployments"]})
        result["notify"] = notify_by(request.notify, request.late_hours, flows)
    answer(result, show_deployments, options.as_json)


def _work(request: WorkerRequest, options: Logging) -> None:
    from flows.deployment.worker import work

    work(**dict(request))


DEPLOY = Command(
    name="deploy",
    help="Register the deployments of prefect.yaml with the Prefect server. Run again after editing it.",
    request=DeployRequest,
    carry_out=_deploy,
)
WORKER = Command(
    name="worker",
    help="Run on this machine what the Prefect server is asked to, and take up runs whose process was killed.",
    request=WorkerRequest,
    carry_out=_work,
    options=Logging,
)
