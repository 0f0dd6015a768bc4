"""A person's word on versions of published labels: one that was held is published, or an earlier one taken again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from data.store import ArtifactError
from data.store.decisions import Action, record_decision
from data.store.publication import Publication
from data.user import user_name
from flows.engine.request import FormRequest, WholePath

PersonName = Annotated[str, Field(min_length=1, max_length=200)]


class ApproveRequest(FormRequest):
    """A version of published labels that shall be the latest. The parameters of the flow `approve-labels`.

    Attributes:
        out: Folder of the published versions.
        version: Number of the version; by default the newest that is held.
        by: Who approves it, for the record; by default the user of this machine.
    """

    out: WholePath
    version: Annotated[int, Field(ge=1)] | None = None
    by: PersonName | None = None


class RollbackRequest(FormRequest):
    """An earlier version of published labels that shall be the latest. The parameters of the flow `rollback-labels`.

    Attributes:
        out: Folder of the published versions.
        to: Number of the version; by default the one before the latest.
        by: Who goes back, for the record; by default the user of this machine.
    """

    out: WholePath
    to: Annotated[int, Field(ge=1)] | None = None
    by: PersonName | None = None


def open_published(folder: Path) -> Publication:
    """Return the publication in a folder.

    Raises:
        ArtifactError: There is no version in it.
    """
    publication = Publication(folder)
    if not (publication.published or publication.held):
        raise ArtifactError(f"{folder}: expected the folder of published labels, found no version in it")
    return publication


def approve_version(out: Path, version: int | None = None, by: str | None = None) -> dict[str, Any]:
    """Publish a version that was held, by default the newest, or take a published one that is not the latest.

    Returns:
        "publication", "latest", "before": the latest version until then, "by".

    Raises:
        ArtifactError: There is no such version, none is held, or the folder cannot be written.
    """
    publication = open_published(out)
    with publication.lock():
        if version is None:
            if not publication.held:
                raise ArtifactError(f"{publication.root}: expected a version that is held for review, found none")
            version = publication.held[-1]
        return _lead(publication, "approve", version, by)


def roll_back(out: Path, to: int | None = None, by: str | None = None) -> dict[str, Any]:
    """Make a published version the latest, by default the one before the latest; returns as `approve_version`.

    Raises:
        ArtifactError: There is no such version, none before, or the folder cannot be written.
    """
    publication = open_published(out)
    with publication.lock():
        if to is None:
            # The link may lead nowhere, and this is how to mend it.
            link = publication.linked
            earlier = [version for version in publication.published if link is None or version < link]
            if not earlier:
                raise ArtifactError(f"{publication.root}: there is no version before {link} to go back to")
            to = earlier[-1]
        elif to in publication.held:
            raise ArtifactError(f"{publication.root}: version {to} was held, not published; approve it instead")
        return _lead(publication, "rollback", to, by)


def _lead(publication: Publication, action: Action, version: int, by: str | None) -> dict[str, Any]:
    before = publication.linked
    if version == before:
        raise ArtifactError(f"{publication.root}: version {version} is the latest already")
    publication.check_fit(version)
    # Written first: nobody could tell afterwards whose word a link follows.
    record = record_decision(publication.root, action, version, before, by or user_name("--by"))
    publication.lead_to(version)
    return {"publication": str(publication.root), "latest": version, "before": before, "by": record.by}
