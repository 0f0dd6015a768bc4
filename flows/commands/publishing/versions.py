"""`pseudomask versions`, `approve` and `rollback`: published labels, version by version."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data.store.decisions import read_decisions
from flows.commands.command import POSITIONAL, Command, answering
from flows.publishing.approval import ApproveRequest, RollbackRequest, approve_version, open_published, roll_back
from tasks.config import Config

DONE = {"approve": "approved", "rollback": "went back to"}
SHOWN = ("number", "images", "created", "reasons", "held", "means")


def list_versions(published: Path) -> dict[str, Any]:
    """Return every version's record, oldest first, each with its "state": "latest", "published", "held" or "rolled
    back".

    "decisions" has who approved or rolled back what, oldest first.

    Raises:
        ArtifactError: There are none, or a record is damaged.
    """
    publication = open_published(published)
    latest, held = publication.latest, set(publication.held)
    decisions, taken_back = read_decisions(publication.root), set()
    for decision in decisions:
        taken_back.discard(decision.version)
        if decision.action == "rollback" and decision.before is not None:
            # Forward again, nothing is taken back.
            taken_back |= {*range(decision.version + 1, decision.before + 1)}

    def state(number: int) -> str:
        if number == latest:
            return "latest"
        if number in held:
            return "held"
        return "rolled back" if number in taken_back else "published"

    numbers = sorted({*publication.published, *held})
    records = [publication.record(number, *SHOWN) for number in numbers]
    return {
        "publication": str(publication.root),
        "latest": latest,
        "versions": [{**record, "state": state(record["number"])} for record in records],
        "decisions": [asdict(decision) for decision in decisions],
    }


def show_versions(result: dict[str, Any], console: Console) -> None:
    """Print a row a version; with scores where one has any."""
    table = Table(title=result["publication"], title_justify="left")
    scored = any(record.get("scores") for record in result["versions"])
    numbers = ("images", "corrected", "background", "classes", "instances", *(["mIoU"] if scored else []))
    for column in ("version", "state", "made", *numbers, "why"):
        table.add_column(column, overflow="fold")
    for record in result["versions"]:
        means = record["means"].get("version")
        means = means if isinstance(means, dict) else {}
        table.add_row(
            str(record["number"]),
            record["state"],
            record["created"].partition("+")[0].replace("T", " "),
            str(record["images"]),
            str(record.get("corrected", 0)),
            *(_mean(means.get(name)) for name in ("background", "classes", "instances")),
            *([_mean(record.get("scores", {}).get("miou"))] if scored else []),
            "; ".join(record["held"] if record["state"] == "held" else record["reasons"]),
        )
    console.print(table)
    for decision in result["decisions"]:
        when = decision["at"].partition("+")[0].replace("T", " ")
        said = f"{when}: {decision['by']} {DONE[decision['action']]} version {decision['version']}"
        console.print(said, highlight=False, soft_wrap=True)
    console.print(
        f"next: pseudomask lineage IMAGE --published {result['publication']}", highlight=False, soft_wrap=True
    )


def _mean(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "–"


def show_latest(result: dict[str, Any], console: Console) -> None:
    """Print which version readers take now."""
    console.print(
        f"version {result['latest']} is the latest: {result['publication']}/latest", highlight=False, soft_wrap=True
    )


class VersionsRequest(Config):
    """Published labels.

    Attributes:
        published: Folder of the versions.
    """

    published: Path


VERSIONS = Command(
    name="versions",
    help="The versions of published labels: when, why, from how many images, and which is the latest.",
    request=VersionsRequest,
    carry_out=answering(lambda request: list_versions(request.published), show_versions),
    written={"published": POSITIONAL},
)
APPROVE = Command(
    name="approve",
    help="Make a version that was held for review the latest.",
    request=ApproveRequest,
    carry_out=answering(lambda request: approve_version(**dict(request)), show_latest),
    written={"out": POSITIONAL, "version": POSITIONAL},
)
ROLLBACK = Command(
    name="rollback",
    help="Make an earlier version the latest.",
    request=RollbackRequest,
    carry_out=answering(lambda request: roll_back(**dict(request)), show_latest),
    written={"out": POSITIONAL},
)
