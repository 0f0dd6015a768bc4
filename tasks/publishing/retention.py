"""Which versions of published labels may be deleted, and the runs that only these needed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from data.files import ArtifactError
from data.store.corrections import FOLDER, Corrections
from data.store.publication import RUNS, Publication
from tasks.publishing.runs import label_artifacts, runs_of


@dataclass(frozen=True)
class Expendable:
    """What nobody needs of a publication.

    Attributes:
        versions: Numbers, ascending.
        runs: Folders of the runs whose labels and networks no version that stays has.
        kept: Number of each other version -> why it stays.
    """

    versions: tuple[int, ...]
    runs: tuple[Path, ...]
    kept: dict[int, str]


def find_expendable(publication: Publication, keep: int | None, keep_days: float | None, now: datetime) -> Expendable:
    """Return the published versions that are neither among the newest nor young, and that nothing stands on.

    `latest`, what was published after it and rolled back, what is held, and what a person corrected stay in any case.

    Args:
        keep: How many of the newest published versions stay.
        keep_days: Versions made in so many last days stay.
        now: A time with its zone.

    Raises:
        ArtifactError: A version's record is damaged; or the publication has no latest version.
        DatasetError: A correction cannot be read.
    """
    latest = publication.latest
    if latest is None:
        raise ArtifactError(f"{publication.root}: expected published labels with a latest version, found none")
    newest = publication.published[-keep:] if keep else []
    corrections = Corrections(publication.root / FOLDER)
    corrected = {record.made_on for image in corrections.images for record in corrections.records(image)}
    kept = dict.fromkeys(publication.held, "held for review")
    for number in publication.published:
        if number == latest:
            kept[number] = "the latest"
        elif number > latest:
            kept[number] = "rolled back: the next regeneration looks at it"
        elif number in corrected:
            kept[number] = "a correction was made on it"
        elif number in newest:
            kept[number] = f"among the newest {keep}"
        elif keep_days is not None and _age(publication, number, now) <= timedelta(days=keep_days):
            kept[number] = f"made in the last {keep_days:g} days"
    versions = tuple(number for number in publication.published if number not in kept)
    return Expendable(versions, _runs_of_none(publication, kept), dict(sorted(kept.items())))


def _age(publication: Publication, number: int, now: datetime) -> timedelta:
    created = publication.record(number, "created")["created"]
    try:
        return now - datetime.fromisoformat(created)
    except (TypeError, ValueError):
        folder = publication.folder(number)
        raise ArtifactError(f"{folder}: expected a version made at a time with its zone, found {created!r}") from None


def _runs_of_none(publication: Publication, kept: dict[int, str]) -> tuple[Path, ...]:
    """Return the folders of the runs older than the newest version's that no version which stays has anything from."""
    records = [publication.record(number) for number in kept]
    needed = {publication.root / record[name] for record in records for name in ("run", "networks") if record.get(name)}
    # Images that did not change have their labels from older runs.
    artifacts = {entry.artifact for number in kept for entry in publication.entries(number)}
    needed |= {run.folder for run in runs_of(publication) if label_artifacts(run) & artifacts}
    # A run may be under way, or have been stopped, whose version is not there yet.
    newest = max(publication.folder(number).name for number in kept)
    runs = sorted((publication.root / RUNS).glob("v*"))
    return tuple(run for run in runs if run not in needed and run.name < newest)
