"""Whose files a folder of results has: the mark of the command that writes there, and one writer at a time.

A command writes into a folder that is empty or its own. `.pseudomask.json` names the command and lists its files; no
other file is replaced or deleted. Runs and trainings from before there were marks are recognised by `run.json`.

Of files that people correct by hand, label maps and what is beside them, the mark has digests: one that was changed
since it was written is neither replaced nor deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data.concurrency import map_in_threads
from data.files import MARK, ArtifactError, atomic_write, explain_os_errors, file_digest, read_regular, try_lock
from data.formats.label_folder import MAPS
from data.names import is_plain, is_unsafe

LOCK, EXPORT = ".pseudomask.lock", "export.json"
OLD_LOCK = ".lock"
FORMAT = 1
REMEDY = "choose another folder, or empty it"

_held: dict[Path, tuple[Output, int]] = {}
_guard = threading.Lock()


class Output:
    """A folder that a command may write into.

    Attributes:
        folder: The folder itself.
        command: Name of the command that it belongs to.
        files: Names of the command's files in it.
        digests: Name -> the digests (`short_digest`) that the file may have: as it was written, and for as long as it
            is being replaced as it will be. What was written before there were digests has none.
        is_checked: Whether `refuse_changed` has found nothing since the folder was opened.
    """

    def __init__(
        self, folder: Path, command: str, files: set[str], digests: Mapping[str, list[str]] | None = None
    ) -> None:
        self.folder = folder
        self.command = command
        self.files = files
        self.digests = dict(digests or {})
        self.is_checked = False

    def claim(self, names: Iterable[str], digests: Mapping[str, str] | None = None) -> None:
        """List files before they are written.

        Args:
            digests: Name -> SHA-256 that the file will have, of those that people correct by hand.

        Raises:
            ArtifactError: There is a file of that name that the command did not write; nothing was changed.
        """
        new = sorted(set(names) - self.files)
        if foreign := [name for name in new if os.path.lexists(self.folder / name)]:
            more = f" ({len(foreign)} such files)" if len(foreign) > 1 else ""
            raise ArtifactError(
                f"{self.folder / foreign[0]}: pseudomask {self.command} would replace this file, and did not write "
                f"it{more}; move it away, or choose another folder"
            )
        self.files |= set(new)
        for name, digest in (digests or {}).items():
            # Of a file without any digest it is not known what was written.
            if name in new or name in self.digests:
                known = self.digests.setdefault(name, [])
                known += [short_digest(digest)] if short_digest(digest) not in known else []
        self._save()

    def settle(self, digests: Mapping[str, str]) -> None:
        """Note the SHA-256 of files that have been written: they may have no other from now on."""
        self.digests |= {name: [short_digest(digest)] for name, digest in digests.items()}
        self._save()

    def unsettle(self) -> None:
        """Drop the digests of all files, since they are about to be replaced: after a kill nothing is known of them."""
        self.digests = {}
        self._save()

    def refuse_changed(self, names: Iterable[str] | None = None, wanted: Mapping[str, str] | None = None) -> None:
        """Refuse to go on where a file of the command was changed by somebody else, whose work would be lost.

        Args:
            names: Those to look at; all by default.
            wanted: Name -> SHA-256 that a file will have: one that has it already loses nothing.

        Raises:
            ArtifactError: Names the file, and says how to go on.
        """
        looked_at = self.digests.keys() if names is None else self.digests.keys() & set(names)

        def changed_name(name: str) -> str | None:
            try:
                digest = file_digest(self.folder / name)
            except FileNotFoundError:
                return None
            kept = short_digest(digest) in self.digests[name] or digest == (wanted or {}).get(name)
            return None if kept else name

        with explain_os_errors(self.folder):
            changed = list(filter(None, map_in_threads(changed_name, sorted(looked_at))))
        if changed:
            more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            raise ArtifactError(
                f"{self.folder / changed[0]}{more}: changed since pseudomask {self.command} wrote it, and would be "
                "replaced; copy it to another folder to keep it, then delete it here to have it made again, or choose "
                "another folder for the results"
            )

    def remove(self, names: Iterable[str]) -> None:
        """Delete those of the named files that the command wrote, and folders that are empty then."""
        ours = self.files & set(names)
        for name in ours:
            file = self.folder / name
            file.unlink(missing_ok=True)
            for parent in file.relative_to(self.folder).parents[:-1]:
                with contextlib.suppress(OSError):
                    (self.folder / parent).rmdir()
        if ours:
            self.files -= ours
            self.digests = {name: digests for name, digests in self.digests.items() if name not in ours}
            self._save()

    def below(self, part: str) -> set[str]:
        """Return the names of the command's files in a folder of the folder; "" is the folder itself."""
        return {name for name in self.files if not part or name.startswith(f"{part}/")}

    def _save(self) -> None:
        mark: dict[str, Any] = {"format": FORMAT, "command": self.command, "files": sorted(self.files)}
        if self.digests:
            mark["digests"] = {name: self.digests[name] for name in sorted(self.digests)}
        with explain_os_errors(self.folder):
            atomic_write(self.folder / MARK, json.dumps(mark))


@contextlib.contextmanager
def own(
    folder: Path, command: str, *, besides: Iterable[Path] = (), old: Iterable[str] | None = None
) -> Iterator[Output]:
    """Be the only writer of a folder that is empty or the command's own. Within a process, blocks may be nested.

    Args:
        besides: What may lie in the folder though the command did not write it.
        old: Names of the command's files in a folder without a mark, where the caller recognises it.

    Raises:
        ArtifactError: The folder holds something else, or another process writes there.
    """
    place = folder.resolve()
    with _guard:
        if place in _held:
            output, depth = _held[place]
            if output.command != command:
                raise ArtifactError(f"{folder}: pseudomask {output.command} writes here; {REMEDY}")
            _held[place] = output, depth + 1
        else:
            # Once before anything is written, and once more when nobody else writes.
            _files(folder, command, besides, old)
            is_new = not folder.exists()
            descriptor = _lock(folder)
            try:
                files = _files(folder, command, besides, old)
                output, depth = Output(folder, command, files, _digests(folder)), 0
            except ArtifactError:
                os.close(descriptor)
                raise
            _held[place] = output, 1
    try:
        yield output
    finally:
        with _guard:
            output, depth = _held.pop(place)
            if depth > 1:
                _held[place] = output, depth - 1
        if depth == 1:
            # A command that was refused before it wrote anything leaves no folder.
            unused = is_new and folder.is_dir()  # pyright: ignore[reportPossiblyUnboundVariable]
            if unused and {path.name for path in folder.iterdir()} <= {LOCK}:
                shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)  # pyright: ignore[reportPossiblyUnboundVariable]


def short_digest(digest: str) -> str:
    """Return the part of a SHA-256 that tells a file from what somebody made of it: a mark has many of them."""
    return digest[:16]


def refuse_foreign(folder: Path, command: str, besides: Iterable[Path] = ()) -> None:
    """Refuse a folder that is neither empty nor the command's own.

    Raises:
        ArtifactError: It holds something else.
    """
    _files(folder, command, besides, None)


def mark_place(folder: Path, command: str) -> None:
    """Mark a folder whose one writer is seen to otherwise, and in which no file is replaced."""
    if not (folder / MARK).is_file():
        Output(folder, command, set()).claim(())


def refuse_nesting(out: Path, store: Path | None, data: Path | None, beside: Iterable[Path] = ()) -> None:
    """Refuse results or a store inside the data set, whose images they would become, and the like.

    Args:
        out: Folder of the results.
        store: The store, where there is one.
        data: Folder of the data set.
        beside: Folders of what is read beside it: maps, labels, other sets.

    Raises:
        ArtifactError: Says which lies in which. `data` in the folder of results is the place of a demo's set.
    """
    written = [("--out", out), *([] if store is None else [("--store", store)])]
    sources = [] if data is None else [(data, "the data set", "images")]
    sources += [(folder, "the folder", "what is read there") for folder in beside]
    for source, what, kind in sources:
        for name, folder in written:
            if lies_in(folder, source):
                raise ArtifactError(
                    f"{folder}: {name} lies in {what} {source}, so that results would be taken for {kind}; "
                    f"choose a folder outside for {name}"
                )
    if data is not None:
        in_store = store is not None and lies_in(data, store)
        if in_store or (lies_in(data, out) and not lies_in(data, out / "data")):
            where = "--store" if in_store else "--out"
            raise ArtifactError(f"{data}: the data set lies in {where}; choose a folder outside the set for {where}")
    if store is not None and lies_in(out, store):
        raise ArtifactError(f"{out}: --out lies in the store {store}; choose another folder for --out or --store")


def refuse_inside(place: Path, data: Path) -> None:
    """Refuse a place inside a data set for what is made of a run.

    Raises:
        ArtifactError: It lies there.
    """
    if lies_in(place, data):
        raise ArtifactError(f"{place}: lies in the data set of the run, {data}; choose a folder outside")


def lies_in(inner: Path, outer: Path) -> bool:
    """Tell whether a folder is another one or lies in it, by whatever path or link, whether it exists or not."""
    inner, outer = inner.resolve(), outer.resolve()
    chain = (inner, *inner.parents)
    if outer in chain:
        return True
    # A second mount, or another case of letters.
    with contextlib.suppress(OSError):
        wanted = outer.stat()
        return any(os.path.samestat(place.stat(), wanted) for place in chain if place.exists())
    return False


def refuse_other(file: Path, is_ours: Callable[[Path], bool], kind: str) -> None:
    """Refuse a place that holds something else than a file of the kind that is to be written there.

    Raises:
        ArtifactError: Names the file.
    """
    if not os.path.lexists(file):
        return
    try:
        ours = file.is_file() and is_ours(file)
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read ({error.strerror}); choose another place") from None
    if not ours:
        raise ArtifactError(f"{file}: holds something else than {kind}; move it away, or choose another place")


def is_page(file: Path) -> bool:
    """Tell whether a file is a page that pseudomask wrote."""
    with file.open("rb") as stream:
        begin = stream.read(4096)
    return begin.lower().startswith(b"<!doctype html>") and b" pseudomask</title>" in begin


def read_export(folder: Path) -> dict[str, Any] | None:
    """Return what an export says of itself, None where there is none."""
    try:
        stamp = json.loads(read_regular(folder / EXPORT))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(stamp, dict) and {"format", "images"} <= stamp.keys() and stamp.keys() & {"run", "publication"}
    if not known:
        return None
    # Exports of the first versions list no files, and later ones no digests.
    files = stamp.get("files", [])
    said = files.values() if isinstance(files, dict) else files if isinstance(files, list) else [None]
    return stamp if all(isinstance(each, str) for each in said) else None


def old_labels(folder: Path) -> set[str]:
    """Return the names of the label files in a folder that a command wrote before there were marks."""
    names = {file.relative_to(folder).as_posix() for kind in MAPS for file in (folder / kind).rglob("*.png")}
    return names | {
        name for name in ("classes.txt", "values.txt", "instances.json", "metrics.json") if (folder / name).is_file()
    }


def _files(folder: Path, command: str, besides: Iterable[Path], old: Iterable[str] | None) -> set[str]:
    """Return the names of the command's files in a folder.

    Raises:
        ArtifactError: The folder is not the command's.
    """
    if not os.path.lexists(folder):
        return set()
    with explain_os_errors(folder):
        if not folder.is_dir():
            raise ArtifactError(f"{folder}: expected a folder for the results, found a file; choose another")
        entries = [entry for entry in folder.iterdir() if not _is_own(entry.name)]
    if (folder / MARK).is_file():
        mark = _read_mark(folder / MARK)
        if mark["command"] != command:
            raise ArtifactError(f"{folder}: holds the results of pseudomask {mark['command']}; {REMEDY}")
        return set(mark["files"])
    beside = [path.absolute() for path in besides]
    if not any(all(not lies_in(path, entry) for path in beside) for entry in entries):
        return set()
    if old is not None:
        return set(old)
    if command in ("run", "train") and (record := _read_run(folder)):
        found = "train" if "network" in record["settings"] else "run"
        if found == command:
            return _old_files(folder)
        raise ArtifactError(f"{folder}: holds the results of pseudomask {found}; {REMEDY}")
    if command == "regenerate" and _is_publication(folder):
        return set()
    if command == "compare" and (table := _compared_table(folder)):
        names = {"comparison.json", "report/index.html", *(file.name for file in folder.glob(f"{table}-*.md"))}
        return {name for name in names if (folder / name).is_file()}
    if command == "compare" and all(_read_run(entry) is not None for entry in entries):
        # It was stopped before its tables: there are only its trainings.
        return set()
    raise ArtifactError(f"{folder}: holds something else than results of pseudomask {command}; {REMEDY}")


def _digests(folder: Path) -> dict[str, list[str]]:
    """Return the digests in a folder's mark, none where it has no mark or one of before there were any."""
    return _read_mark(folder / MARK).get("digests", {}) if (folder / MARK).is_file() else {}


def _is_own(name: str) -> bool:
    """Tell whether a file is the mark, one that a kill left half written, or a lock."""
    return name in (LOCK, OLD_LOCK) or name == MARK or name.startswith(f"{MARK}.")


def _read_mark(file: Path) -> dict[str, Any]:
    try:
        mark = json.loads(read_regular(file))
        names = mark["files"]
        usable = mark["format"] == FORMAT and isinstance(mark["command"], str)
        if not usable or not all(isinstance(name, str) and not is_unsafe(name) for name in names):
            raise ValueError("not what was written")
        digests = mark.get("digests", {})
        if not all(
            isinstance(found, list) and all(isinstance(one, str) for one in found) for found in digests.values()
        ):
            raise ValueError("digests of another form")
        if not digests.keys() <= set(names):
            raise ValueError("digests of files that it does not list")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(
            f"{file}: expected a list of the files that pseudomask wrote here, but it cannot be used ({error}); "
            "choose another folder, or empty this one"
        ) from None
    return mark


def _read_run(folder: Path) -> dict[str, Any] | None:
    """Return the record of a run or training, None where there is none; its version may be any."""
    try:
        record = json.loads(read_regular(folder / "run.json"))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and {"version", "settings", "stages", "store"} <= record.keys()
    return record if known and isinstance(record["settings"], dict) else None


def _compared_table(folder: Path) -> str | None:
    """Return the table of a comparison from before there were marks, None where there is none."""
    try:
        found = json.loads(read_regular(folder / "comparison.json"))
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(found, dict) and {"table", "rows"} <= found.keys()
    return found["table"] if known and is_plain(found["table"]) else None


def _old_files(folder: Path) -> set[str]:
    """Return the names of the files of a run or training that has no mark, as its lists of images tell them."""
    ids = set()
    for listing in folder.glob("images-*.jsonl"):
        with contextlib.suppress(OSError, ValueError, AttributeError, RecursionError):
            ids |= {str(json.loads(line).get("id")) for line in read_regular(listing).splitlines()}
    names = {"run.json", "metrics.json"} | {listing.name for listing in folder.glob("images-*.jsonl")}
    names |= {f"network/{file.name}" for file in (folder / "network").glob("*") if file.is_file()}
    for part in ("labels", "predictions"):
        names |= {f"{part}/{name}" for name in ("classes.txt", "values.txt", "instances.json")}
        names |= {f"{part}/{kind}/{id}.png" for kind in MAPS for id in ids if not is_unsafe(id)}
    return {name for name in names if (folder / name).is_file()}


def _is_publication(folder: Path) -> bool:
    if (folder / OLD_LOCK).is_file() and any((folder / "runs").glob("v*/run.json")):
        return True
    return any(folder.glob("v[0-9]*/version.json")) or any((folder / "held").glob("v[0-9]*/version.json"))


def _lock(folder: Path) -> int:
    """Lock a folder until the descriptor that is returned is closed; the lock file tells who holds it."""
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = try_lock(folder / LOCK)
        if descriptor is None:
            holder = (folder / LOCK).read_bytes()[:200].decode(errors="replace") or "another process"
            raise ArtifactError(f"{folder}: {holder} writes here; wait until it has ended, or choose another folder")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return descriptor
