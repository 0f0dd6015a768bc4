"""`pseudomask versions`, `approve` and `rollback`: published labels, version by version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data.store import ArtifactError
from data.store.publication import Publication
from flows.commands.command import POSITIONAL, Command, answering
from tasks.config import Config

SHOWN = ("number", "images", "created", "reasons", "held", "means")


def list_versions(published: Path) -> dict[str, Any]:
    """Return every version's record, oldest first, each with its "state": "latest", "published" or "held".

    Raises:
        ArtifactError: There are none, or a record is damaged.
    """
    publication = _open(published)
    latest, held = publication.latest, set(publication.held)

    def state(number: int) -> str:
        return "latest" if number == latest else "held" if number in held else "published"

    numbers = sorted({*publication.published, *held})
    records = [publication.record(number, *SHOWN) for number in numbers]
    return {
        "publication": str(publication.root),
        "latest": latest,
        "versions": [{**record, "state": state(record["number"])} for record in records],
    }


def approve_version(published: Path, number: int) -> dict[str, Any]:
    """Publish a version that was held, or take a published one that is not the latest.

    Raises:
        ArtifactError: There is no such version, or the folder cannot be written.
    """
    publication = _open(published)
    with publication.lock():
        publication.lead_to(number)
    return {"publication": str(publication.root), "latest": publication.latest}


def roll_back(published: Path, number: int | None) -> dict[str, Any]:
    """Make a published version the latest, by default the one before the latest.

    Raises:
        ArtifactError: There is no such version, none before, or the folder cannot be written.
    """
    publication = _open(published)
    with publication.lock():
        if number is None:
            # The link may lead nowhere, and this is how to mend it.
            link = publication.linked
            earlier = [version for version in publication.published if link is None or version < link]
            if not earlier:
                raise ArtifactError(f"{publication.root}: there is no version before {link} to go back to")
            number = earlier[-1]
        elif number in publication.held:
            raise ArtifactError(f"{publication.root}: version {number} was held, not published; approve it instead")
        publication.lead_to(number)
    return {"publication": str(publication.root), "latest": publication.latest}


def show_versions(result: dict[str, Any], console: Console) -> None:
    """Print a row a version."""
    table = Table(title=result["publication"], title_justify="left")
    for column in ("version", "state", "made", "images", "background", "classes", "instances", "why"):
        table.add_column(column, overflow="fold")
    for record in result["versions"]:
        means = record["means"].get("version")
        means = means if isinstance(means, dict) else {}
        table.add_row(
            str(record["number"]),
            record["state"],
            record["created"].partition("+")[0].replace("T", " "),
            str(record["images"]),
            *(_mean(means.get(name)) for name in ("background", "classes", "instances")),
            "; ".join(record["held"] if record["state"] == "held" else record["reasons"]),
        )
    console.print(table)
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


def _open(published: Path) -> Publication:
    publication = Publication(published)
    if not (publication.published or publication.held):
        raise ArtifactError(f"{published}: expected the folder of published labels, found no version in it")
    return publication


class VersionsRequest(Config):
    """Published labels.

    Attributes:
        published: Folder of the versions.
    """

    published: Path


class ApproveRequest(VersionsRequest):
    """A version that shall be the latest.

    Attributes:
        version: Its number.
    """

    version: int


class RollbackRequest(VersionsRequest):
    """An earlier version that shall be the latest.

    Attributes:
        to: Number of the version; by default the one before the latest.
    """

    to: int | None = None


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
    carry_out=answering(lambda request: approve_version(request.published, request.version), show_latest),
    written={"published": POSITIONAL, "version": POSITIONAL},
)
ROLLBACK = Command(
    name="rollback",
    help="Make an earlier version the latest.",
    request=RollbackRequest,
    carry_out=answering(lambda request: roll_back(request.published, request.to), show_latest),
    written={"published": POSITIONAL},
)
