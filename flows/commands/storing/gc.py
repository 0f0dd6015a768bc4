"""`pseudomask gc`: delete artifacts that no published version and no recent run needs, or old versions."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, validate_call
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from data.store import ArtifactError, explain_os_errors, open_store
from flows.commands.command import POSITIONAL, Command, Output, answer
from flows.commands.storing.gc_versions import collect_versions, is_publication, show_versions_gone
from tasks.config import Config
from tasks.engine.garbage import known_artifacts, leftovers
from tasks.networks import NETWORKS
from tasks.pipeline import EVERY_STAGE

DAY = 86_400.0
KEEP_DAYS = 30
Days = Annotated[float, Field(ge=0, le=36_500)]
ALL_STAGES = (*EVERY_STAGE, *(stage for spec in NETWORKS.values() for stage in spec.pipeline))


@validate_call
def collect_garbage(
    store: str | Path,
    keep_days: Days = KEEP_DAYS,
    delete: bool = False,
    forget: tuple[Path, ...] = (),
) -> dict[str, Any]:
    """Find what nobody needs, and delete it if asked to.

    Args:
        forget: Folders of runs that were deleted for good.

    Returns:
        "deleted", "stages": name -> {"artifacts", "bytes"}, "bytes" of all, "kept": artifacts that stay, "unreadable":
        those of them with a damaged manifest, "forget".

    Raises:
        ArtifactError: There is no such store, or it cannot tell what its runs need, or something cannot be deleted.
    """
    artifacts = open_store(store)
    if not artifacts.exists():
        raise ArtifactError(f"{artifacts.address}: expected a store, found none")
    known, unreadable = known_artifacts(artifacts, ALL_STAGES)
    found = leftovers(artifacts, ALL_STAGES, time.time() - keep_days * DAY, forget, known)
    kept = len(known) + len(unreadable) - sum(leftover.key is not None for leftover in found)
    stages: dict[str, dict[str, int]] = {}
    for leftover in found:
        entry = stages.setdefault(leftover.stage, {"artifacts": 0, "bytes": 0})
        entry["artifacts"] += 1
        entry["bytes"] += leftover.size
        if delete and leftover.key:
            artifacts.remove(leftover.stage, leftover.key)
        elif delete:
            with explain_os_errors(leftover.folder):
                shutil.rmtree(leftover.folder)
    if delete and forget:
        gone = {folder.absolute() for folder in forget}
        for folder, note in artifacts.notes():
            if folder in gone:
                artifacts.forget(note)
    return {
        "store": artifacts.address,
        "keep_days": keep_days,
        "deleted": delete,
        "stages": stages,
        "bytes": sum(entry["bytes"] for entry in stages.values()),
        "kept": kept,
        "unreadable": unreadable,
        "forget": [str(folder.absolute()) for folder in forget],
    }


def show_garbage(result: dict[str, Any], console: Console) -> None:
    """Print a row a stage, and the next command."""
    table = Table(title=f"not needed in {result['store']}", title_justify="left")
    for column in ("stage", "artifacts", "size"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, entry in result["stages"].items():
        table.add_row(stage, str(entry["artifacts"]), decimal(entry["bytes"]))
    console.print(table)
    done = "deleted" if result["deleted"] else "would be deleted"
    console.print(f"{decimal(result['bytes'])} {done}, {result['kept']} artifacts stay", highlight=False)
    for problem in result["unreadable"]:
        console.print(f"left alone: {problem}", highlight=False, soft_wrap=True, markup=False)
    if result["stages"] and not result["deleted"]:
        command = f"next: pseudomask gc {result['store']} --keep-days {result['keep_days']:g} --delete"
        command += f" --forget {' '.join(result['forget'])}" if result["forget"] else ""
        console.print(command, highlight=False, soft_wrap=True)


class GarbageRequest(Config):
    """A store, or published labels, that are cleared.

    Attributes:
        store: Folder or address of the artifacts, or folder of published versions.
        keep: Newest versions that stay, of published labels.
        keep_days: Runs begun in these last days keep all their artifacts, older ones their networks; by default 30.
            Versions made in these days stay.
        delete: Delete them; without, only say what would be.
        forget: Folders of runs that were deleted for good, and need nothing any more.
    """

    store: str
    keep: Annotated[int, Field(ge=1)] | None = None
    keep_days: Days | None = None
    delete: bool = False
    forget: tuple[Path, ...] = ()


def _carry_out(request: GarbageRequest, options: Output) -> None:
    if is_publication(request.store):
        if request.forget:
            raise ArtifactError(f"{request.store}: --forget is of a store; these are published labels")
        result = collect_versions(Path(request.store), request.keep, request.keep_days, request.delete)
        answer(result, show_versions_gone, options.as_json)
        return
    if request.keep is not None:
        raise ArtifactError(f"{request.store}: --keep is of published labels, found no version in it")
    days = KEEP_DAYS if request.keep_days is None else request.keep_days
    result = collect_garbage(request.store, days, request.delete, request.forget)
    answer(result, show_garbage, options.as_json)


COMMAND = Command(
    name="gc",
    help="List artifacts of a store that nothing needs, or old versions of published labels; --delete removes them.",
    request=GarbageRequest,
    carry_out=_carry_out,
    written={"store": POSITIONAL},
)
