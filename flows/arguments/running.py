"""The commands of a machine whose runs are asked for through Prefect."""

from __future__ import annotations

from flows.arguments.answers import answer


def deploy(json: bool = False) -> None:
    """Make known to the Prefect server what it can be asked to run; again after every change of prefect.yaml.

    Args:
        json: Print one JSON object on standard output.
    """
    from flows.commands.production import show_deployments
    from flows.deployment.deployments import deploy as deploy_all

    answer(deploy_all(), show_deployments, json)


def worker(limit: int | None = None, until_idle: bool = False) -> None:
    """Start what the Prefect server is asked to run, on this machine, and take up runs whose process was killed.

    Args:
        limit: Runs that are started at a time; those that wait for their turn on the machine count.
        until_idle: Do what is scheduled now, and end.
    """
    from flows.deployment.worker import work

    work(limit=limit, until_idle=until_idle)


RUNNING = (deploy, worker)
