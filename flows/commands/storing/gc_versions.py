"""`pseudomask gc` of published labels: delete versions that are neither new nor needed, and their runs."""

from __future__ import annotations

import contextlib
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from data.store import ArtifactError, explain_os_errors, open_store
from data.store.publication import Publication
from tasks.publishing.retention import Expendable, find_expendable


def is_publication(folder: str) -> bool:
    """Tell whether a folder holds versions of published labels."""
    if "://" in folder:
        return False
    publication = Publication(Path(folder))
    return bool(publication.published or publication.held)


def collect_versions(folder: Path, keep: int | None, keep_days: float | None, delete: bool = False) -> dict[str, Any]:
    """Find the versions that may go, and delete them if asked to.

    Returns:
        "publication", "keep", "keep_days", "deleted", "versions": each with "number", "images" and "bytes" of its own
        files, "runs": their folders, "bytes" of all, "kept": number -> why.

    Raises:
        ArtifactError: Neither number was given, a record is damaged, or something cannot be deleted.
        DatasetError: A correction cannot be read.
    """
    if keep is None and keep_days is None:
        raise ArtifactError(f"{folder}: expected which versions stay: --keep 10, --keep-days 90, or both")
    publication = Publication(folder)
    # A look waits for no regeneration that is under way.
    with publication.lock() if delete else contextlib.nullcontext():
        found = find_expendable(publication, keep, keep_days, datetime.now(UTC))
        versions = [_describe(publication, number) for number in found.versions]
        runs = [str(run) for run in found.runs]
        if delete:
            _delete(publication, found)
    return {
        "publication": str(publication.root),
        "keep": keep,
        "keep_days": keep_days,
        "deleted": delete,
        "versions": versions,
        "runs": runs,
        "bytes": sum(version["bytes"] for version in versions),
        "kept": {str(number): why for number, why in found.kept.items()},
    }


def show_versions_gone(result: dict[str, Any], console: Console) -> None:
    """Print a row per version, and the next command."""
    table = Table(title=f"not needed in {result['publication']}", title_justify="left")
    for column in ("version", "images", "size of its own files"):
        table.add_column(column, justify="right")
    for version in result["versions"]:
        table.add_row(str(version["number"]), str(version["images"]), decimal(version["bytes"]))
    console.print(table)
    done = "deleted" if result["deleted"] else "would be deleted"
    console.print(f"{decimal(result['bytes'])} and {len(result['runs'])} runs {done}", soft_wrap=True)
    for number, why in result["kept"].items():
        console.print(f"version {number} stays: {why}", soft_wrap=True)
    if (result["versions"] or result["runs"]) and not result["deleted"]:
        keep, days = result["keep"], result["keep_days"]
        options = [*([] if keep is None else [f"--keep {keep}"]), *([] if days is None else [f"--keep-days {days:g}"])]
        console.print(f"next: pseudomask gc {result['publication']} {' '.join(options)} --delete", soft_wrap=True)


def _describe(publication: Publication, number: int) -> dict[str, Any]:
    """Return a version's size: files that it shares with others take no room of their own."""
    files = [file.lstat() for file in publication.folder(number).rglob("*") if file.is_file()]
    own = sum(each.st_size for each in files if each.st_nlink == 1)
    return {"number": number, "images": publication.record(number, "images")["images"], "bytes": own}


def _delete(publication: Publication, found: Expendable) -> None:
    stores = {publication.record(number, "store")["store"] for number in (*found.versions, *found.kept)}
    for number in found.versions:
        publication.remove(number)
    # The store first: a run that it remembers, and whose folder is gone, keeps it from being cleared.
    for address in stores:
        store = open_store(address)
        for folder, note in store.notes() if store.exists() else ():
            if folder in found.runs:
                store.forget(note)
    for run in found.runs:
        with explain_os_errors(run):
            shutil.rmtree(run)
