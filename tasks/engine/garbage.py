"""Which artifacts of a store somebody still needs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.names import is_plain
from data.store import ArtifactError, Store, folder_size, open_store
from tasks.engine.run_record import FILE_NAME, read_run
from tasks.engine.stage import Stage


def kept_stages(stages: Iterable[Stage]) -> set[str]:
    """Return the names of the stages whose artifacts are networks, or what was chosen beside them.

    They are small, and other runs are made with them.
    """
    return {stage.name for stage in stages if stage.seeded or stage.chooses}


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


def needed(store: Store, stages: Sequence[Stage], since: float, forget: Collection[Path] = ()) -> set[tuple[str, str]]:
    """Return (stage, key) of the artifacts that a run or a published version needs.

    That is all artifacts of the runs begun at `since` (seconds since 1970) or later, and the networks of every run.
    Published labels need no more than these: they are kept with the version. What a run has in another store is not
    needed here.

    Args:
        stages: All stages that there are.
        forget: Folders of runs that were deleted for good.

    Raises:
        ArtifactError: The store knows no run at all, or cannot tell what a run needs: its record cannot be read, or
            its folder is gone and not to be forgotten.
    """
    notes = store.notes()
    if not notes:
        raise ArtifactError(
            f"{store.address}: expected a store with runs; it knows of none, so what is needed cannot be told"
        )
    gone = {folder.absolute() for folder in forget}
    if unknown := sorted(gone - {folder for folder, _ in notes}):
        raise ArtifactError(f"{unknown[0]}: not a run of {store.address}, so it cannot be forgotten")
    kept = kept_stages(stages)
    found: set[tuple[str, str]] = set()
    problems = []
    for run, _ in notes:
        if run in gone:
            if not run.parent.is_dir():
                problems.append(f"{run}: its parent is gone, too; is a disk not mounted?")
            elif os.path.lexists(run):
                problems.append(f"{run}: is there, so it is not forgotten; delete it first")
            continue
        try:
            record = read_run(run)
            recent = (run / FILE_NAME).stat().st_mtime >= since
        except (ArtifactError, OSError) as error:
            remedy = "mend it, or delete the folder" if os.path.lexists(run) else "bring it back"
            problems.append(f"{error}; {remedy}; if the run is gone for good: --forget {run}")
            continue
        there = _other_store(store, record.store)
        wanted = {(stage, key) for stage, key in record.artifacts if recent or stage in kept}
        found |= {artifact for artifact in wanted if there is None or not _has(there, *artifact)}
    if problems:
        lines = "\n".join(problems)
        raise ArtifactError(f"{store.address}: nothing is deleted, since what these runs need cannot be told\n{lines}")
    return found


def known_artifacts(store: Store, stages: Iterable[Stage]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return stage and key of the artifacts whose manifests can be read, and what is wrong with the others."""
    names = {stage.name for stage in stages}
    found, problems = [], []
    for stage, key in store.artifacts():
        if stage not in names:
            continue
        try:
            store.read_manifest(stage, key)
            found.append((stage, key))
        except ArtifactError as error:
            problems.append(str(error))
    return found, problems


def leftovers(
    store: Store,
    stages: Sequence[Stage],
    since: float,
    forget: Collection[Path] = (),
    artifacts: list[tuple[str, str]] | None = None,
) -> list[Leftover]:
    """Return what nobody needs, in the order of the store: only what is an artifact or checkpoints without a doubt.

    Args:
        stages: All stages that there are.
        artifacts: What `known_artifacts` found, where the caller has that already.

    Raises:
        ArtifactError: As in `needed`.
    """
    wanted = needed(store, stages, since, forget)
    found = [
        Leftover(stage, store.path(stage, key), store.size(stage, key), key)
        for stage, key in (known_artifacts(store, stages)[0] if artifacts is None else artifacts)
        if (stage, key) not in wanted
    ]
    names = {f"{stage}-{key}" for stage, key in wanted}
    ours = {stage.name for stage in stages}
    for folder in sorted((store.root / ".scratch").glob("*")):
        stage, _, key = folder.name.rpartition("-")
        scratch = stage in ours and is_plain(key) and folder.is_dir() and not folder.is_symlink()
        if scratch and folder.name not in names and folder.stat().st_mtime < since:
            found.append(Leftover(stage, folder, folder_size(folder)))
    return found


def _other_store(store: Store, address: str) -> Store | None:
    """Return the store that a run names, where that is another one; None for this one, wherever it was moved to."""
    if address == store.address:
        return None
    other = open_store(address)
    identity = store.identity()
    same = identity is not None and identity == other.identity()
    with contextlib.suppress(OSError):
        same = same or ("://" not in address + store.address and other.root.samefile(store.root))
    return None if same else other


def _has(store: Store, stage: str, key: str) -> bool:
    """Tell whether a store has an artifact whose manifest can be read; one out of reach has none."""
    try:
        store.read_manifest(stage, key)
        return store.has(stage, key)
    except ArtifactError:
        return False
