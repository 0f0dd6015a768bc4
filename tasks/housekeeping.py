"""Which artifacts of a store somebody still needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from data.store import ArtifactError, Store, folder_size
from tasks.run_record import FILE_NAME, RunRecord, read_run
from tasks.stages import NETWORK_STAGES

NETWORKS = ("classifier", "thresholds", "irnet", "label-thresholds", *NETWORK_STAGES)
"""The stages whose artifacts are networks, or what was chosen beside them: small, and what other runs are made with."""


@dataclass(frozen=True)
class Leftover:
    """An artifact, or the checkpoints of a training, that nobody needs.

    Attributes:
        stage: Of the artifact.
        folder: Where it is.
        size: In bytes.
        key: Of the artifact; None for checkpoints.
    """

    stage: str
    folder: Path
    size: int
    key: str | None = None


def needed(store: Store, since: float) -> set[tuple[str, str]]:
    """Return (stage, key) of the artifacts that a run or a published version needs.

    That is all artifacts of the runs begun at `since` (seconds since 1970) or later, and the networks of every run
    whose folder is still there. Published labels need no more than these: they are kept with the version.

    Raises:
        ArtifactError: The store knows no run at all.
    """
    if not store.users():
        raise ArtifactError(
            f"{store.address}: expected a store with runs; it knows of none, so what is needed cannot be told"
        )
    return {
        (stage, key)
        for run, record in _runs(store)
        for recent in [(run / FILE_NAME).stat().st_mtime >= since]
        for stage, key in record.artifacts
        if recent or stage in NETWORKS
    }


def leftovers(store: Store, since: float) -> list[Leftover]:
    """Return what nobody needs, in the order of the store.

    Raises:
        ArtifactError: The store knows no run at all.
    """
    wanted = needed(store, since)
    found = [
        Leftover(stage, store.path(stage, key), store.size(stage, key), key)
        for stage, key in store.artifacts()
        if (stage, key) not in wanted
    ]
    names = {f"{stage}-{key}" for stage, key in wanted}
    for folder in sorted((store.root / ".scratch").glob("*")):
        if folder.name not in names and folder.stat().st_mtime < since:
            found.append(Leftover(folder.name.rpartition("-")[0], folder, folder_size(folder)))
    return found


def _runs(store: Store) -> Iterable[tuple[Path, RunRecord]]:
    for run in store.users():
        try:
            record = read_run(run)
        except ArtifactError:
            # The run was deleted, and with it the need.
            continue
        if record.store == store.address:
            yield run, record
