"""`pseudomask deploy` and `regenerate --schedule`: what they did, and the next command."""

from __future__ import annotations

import socket
from typing import Any

from rich.console import Console
from rich.table import Table


def show_deployments(result: dict[str, Any], console: Console) -> None:
    """Print a row a deployment, and the next commands to type."""
    table = Table(title=f"deployed on {result['server']}", title_justify="left")
    table.add_column("deployment")
    for name in result["deployments"]:
        table.add_row(name)
    console.print(table)
    limit = result["limit"]
    _say(console, f"{limit['name']}: {limit['slots']} at a time on this machine ({socket.gethostname()})")
    _say(console, "next: pseudomask worker")
    example = '\'request={"data": "/photos", "labels": "/photos/tags.csv", "out": "/runs/first"}\''
    _say(console, f"then: prefect deployment run pseudo-labels/by-hand --watch --param {example}")


def show_schedule(result: dict[str, Any], console: Console) -> None:
    """Print when the labels are regenerated, and how to have it done at once."""
    if result["cron"] is None:
        _say(console, f"{result['publication']}: no schedule any more")
        return
    _say(console, f"{result['publication']}: regenerated at {result['cron']!r} (UTC), by {result['deployment']}")
    _say(console, f"at once: prefect event emit {result['event']} --resource-id {result['resource']}")


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
