"""Downloads of public data sets: `download` fetches, checks and unpacks one. `sets` lists them."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.files import atomic_write, file_digest, file_lock, read_regular
from data.public_sets.archives import refuse_replacing, unpack
from data.public_sets.sets import SETS, DownloadableSet
from data.public_sets.transfer import DownloadError, Progress, RemoteFile, fetch

__all__ = ["SETS", "DownloadError", "DownloadableSet", "RemoteFile", "Result", "download"]

log = logging.getLogger(__name__)
STATE = ".downloads"


@dataclass(frozen=True)
class Result:
    """A data set on disk.

    Attributes:
        data: The folder to pass as `--data`.
        checksums: Name of each archive -> its SHA-256.
        unchecked: Names of the archives for which no checksum is publicly known.
    """

    data: Path
    checksums: dict[str, str]
    unchecked: tuple[str, ...]


def download(name: str, out: Path, *, keep: bool = False, report: Progress | None = None) -> Result:
    """Fetch a data set, check its archives, and unpack it. What an earlier call finished is not repeated.

    An archive's SHA-256 is stored in `out/.downloads` when it is first unpacked. Where no checksum is publicly known,
    that is what later downloads of the archive into `out` are compared with.

    Args:
        name: One of `SETS`.
        out: The folder that holds all downloads; made if need be.
        keep: Keep the archives after they were unpacked.
        report: Called as `report(archive, bytes done, bytes in all or None)` now and then.

    Raises:
        DownloadError: The server, the network or an archive failed, the disk is full, or a file of the user's would be
            replaced; the message names the remedy.
        KeyError: There is no such set.
    """
    chosen = SETS[name]
    for other in chosen.needs:
        download(other, out, keep=keep, report=report)
    out.mkdir(parents=True, exist_ok=True)
    (out / STATE).mkdir(exist_ok=True)
    checksums = {}
    with file_lock(out / STATE / "lock", f"{out}: another process downloads into this folder: waiting for it"):
        for file in chosen.files:
            checksums[file.name] = _provide(file, out, chosen, keep, report)
        if chosen.finish is not None:
            chosen.finish(out)
    unchecked = tuple(file.name for file in chosen.files if file.sha256 is None)
    return Result(out / chosen.data, checksums, unchecked)


def _provide(file: RemoteFile, out: Path, chosen: DownloadableSet, keep: bool, report: Progress | None) -> str:
    """Fetch and unpack an archive unless that was done; return its SHA-256."""
    note = out / STATE / f"{file.name}.json"
    known = _read_note(note)
    folder = out / file.folder
    if known is not None and known["unpacked"] and folder.is_dir() and (out / chosen.data).is_dir():
        log.info("%s: unpacked already", file.name)
        return known["sha256"]
    archive = fetch(file, out / STATE, report)
    found = file_digest(archive)
    if known is not None and known["sha256"] != found:
        raise DownloadError(
            f"{archive}: its SHA-256 is {found}, but an earlier download of {file.url} had {known['sha256']}; "
            f"delete {note} if the set has changed, or delete the archive and try again"
        )
    if known is None:
        # Nothing in the folder is of an earlier download.
        refuse_replacing(archive, folder)
    atomic_write(note, json.dumps({"url": file.url, "sha256": found, "unpacked": False}))
    log.info("%s: SHA-256 %s; unpacking into %s", file.name, found, folder)
    unpack(archive, folder)
    atomic_write(note, json.dumps({"url": file.url, "sha256": found, "unpacked": True}))
    if keep:
        shutil.move(archive, out / file.name)
    else:
        archive.unlink()
    return found


def _read_note(file: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(read_regular(file))
        return {"sha256": str(note["sha256"]), "unpacked": note["unpacked"]}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise DownloadError(f"{file}: expected the checksum of a download, but it is damaged; delete it") from error
