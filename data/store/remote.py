"""The artifact store on any file system that fsspec knows, read through a folder of this machine.

What is at the address is the truth: an artifact that is gone from there is missing, whatever this machine still has.
The layout is that of a local store, so that a store copied into a bucket is one there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from data.files import NO_SPACE, ArtifactError, atomic_write, explain_os_errors, read_regular
from data.names import is_plain
from data.store.credentials import block_name, hide, is_told, options_of
from data.store.local import (
    MANIFEST,
    USERS,
    Store,
    files_problem,
    parse_manifest,
    read_note,
    store_address,
)
from data.text import hide_passwords

CACHE_VARIABLE = "PSEUDOMASK_CACHE"
RECORDS = ("run.json",)
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
REQUESTS = 16  # Side by side, for small objects.


def cache_folder(address: str) -> Path:
    """Return the folder of this machine that a store is read through.

    It lies in the folder that `PSEUDOMASK_CACHE` names, else in `pseudomask` of the user's cache folder.
    """
    named = os.environ.get(CACHE_VARIABLE)
    caches = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pseudomask"
    readable = re.sub(r"[^A-Za-z0-9]+", "-", address).strip("-")[-40:]
    return caches / f"{readable}-{hashlib.sha256(address.encode()).hexdigest()[:12]}"


class RemoteStore(Store):
    """A store at an address, with copies of the artifacts that this machine made or read below `root`.

    An artifact's manifest is uploaded last, so that nobody sees a part of one. A kill leaves files without manifest,
    which the artifact's next upload overwrites. Where the address cannot be used, every method raises `ArtifactError`.
    """

    def __init__(self, address: str, block: str | None = None) -> None:
        address = store_address(address)
        super().__init__(cache_folder(address))
        self.address = address
        self._block = block or block_name()

    def __reduce__(self) -> tuple[Callable[[str, str | None], RemoteStore], tuple[str, str | None]]:
        # Where it is unpickled, the cache is that machine's own; the keys are read there, and do not travel.
        return RemoteStore, (self.address, self._block)

    def prepare(self) -> None:
        """Do what a local store does, and prove that the address can be written."""
        super().prepare()
        probe = f".probe-{socket.gethostname()}-{os.getpid()}"
        self._write(probe, b"")
        with self._reaching() as files:
            files.rm_file(self._at(probe))

    def identity(self, *, make: bool = False) -> None:
        """Return no id: an address is the store's name."""

    def exists(self) -> bool:
        """Return whether there is anything at the address."""
        return bool(self._names())

    def has(self, stage: str, key: str) -> bool:
        """Return whether an artifact was published."""
        with self._reaching() as files:
            try:
                return bool(files.info(self._at(stage, key, MANIFEST)))
            except FileNotFoundError:
                return False

    def read_manifest(self, stage: str, key: str) -> dict[str, Any]:
        """Read an artifact's manifest: this machine's copy, or where it has none that at the address."""
        with contextlib.suppress(ArtifactError):
            return super().read_manifest(stage, key)
        content = self._manifest(stage, key)
        try:
            if content is not None:
                return parse_manifest(content, stage, key)
            problem = "missing"
        except ValueError as error:
            problem = str(error)
        raise ArtifactError(f"{self.address}/{stage}/{key}/{MANIFEST}: {problem}")

    def verify(self, stage: str, key: str) -> str | None:
        """Download an artifact unless this machine's copy is whole, and of the manifest at the address.

        Returns:
            None where the copy is whole now, else what is wrong at the address.
        """
        manifest = self._manifest(stage, key)
        if manifest is None:
            return "missing"
        if self._copied(stage, key) == manifest and super().verify(stage, key) is None:
            return None
        return self._download(stage, key, manifest)

    def fetch(self, stage: str, key: str) -> Path:
        """Return the folder of this machine's copy, downloaded unless it is of the manifest at the address."""
        manifest = self._manifest(stage, key)
        problem = "missing"
        if manifest is not None:
            current = self._copied(stage, key) == manifest
            problem = None if current else self._download(stage, key, manifest)
        if problem:
            raise ArtifactError(f"{self.address}/{stage}/{key}: {problem}; the command of the run makes it again")
        return self.path(stage, key)

    def republish(self, stage: str, key: str) -> bool:
        """Upload this machine's copy, where that is whole."""
        if super().verify(stage, key) is not None:
            return False
        self._upload(stage, key)
        return True

    def size(self, stage: str, key: str) -> int:
        """Return how many bytes an artifact holds at the address."""
        with self._reaching() as files:
            return int(files.du(self._at(stage, key)))  # pyright: ignore[reportArgumentType]

    def register(self, user: Path, record: str = "run.json") -> None:
        """Do what a local store does, with a copy of the record for the machines that do not see `user`."""
        folder, host = user.absolute(), socket.gethostname()
        note = {
            "folder": str(folder),
            "host": host,
            "time": time.time(),
            "record": record,
            "content": (folder / record).read_text(encoding="utf-8"),
        }
        name = hashlib.sha1(f"{host}:{folder}".encode()).hexdigest()
        self._write(f"{USERS}/{name}.json", json.dumps(note).encode())

    def notes(self) -> list[tuple[Path, str]]:
        """Return each registered folder with its note; for one of another machine, a folder here with its record."""
        with self._reaching() as files:
            notes = [(name, files.cat_file(self._at(USERS, name))) for name in self._names(USERS)]
        return [
            (self._user(read_note(note, f"{self.address}/{USERS}/{name}"), name), name)  # pyright: ignore[reportArgumentType]
            for name, note in notes
        ]

    def forget(self, note: str) -> None:
        """Delete the note of a registered folder."""
        with self._reaching() as files, contextlib.suppress(FileNotFoundError):
            files.rm_file(self._at(USERS, note))

    def artifacts(self, stage: str | None = None) -> Iterator[tuple[str, str]]:
        """Yield stage and key of every artifact at the address, or of every one of a stage, in order."""
        stages = [name for name in self._names() if not name.startswith(".")] if stage is None else [stage]
        pairs = [(name, key) for name in stages if is_plain(name) for key in self._names(name) if is_plain(key)]
        with ThreadPoolExecutor(REQUESTS) as threads:
            there = threads.map(lambda pair: self.has(*pair), pairs)
            yield from (pair for pair, found in zip(pairs, there, strict=True) if found)

    def remove(self, stage: str, key: str) -> None:
        """Delete an artifact, its manifest first, and this machine's copy."""
        with self._reaching() as files:
            files.rm_file(self._at(stage, key, MANIFEST))
            with contextlib.suppress(FileNotFoundError):
                files.rm(self._at(stage, key), recursive=True)
        if self.path(stage, key).is_dir():
            super().remove(stage, key)

    def _place(self, folder: Path, stage: str, key: str) -> None:
        super()._place(folder, stage, key)
        self._upload(stage, key)

    def _upload(self, stage: str, key: str) -> None:
        """Upload this machine's copy of an artifact."""
        names = list(super().read_manifest(stage, key)["files"])
        for group in (names, [MANIFEST]):
            with self._reaching() as files:
                files.put(
                    [str(self.path(stage, key) / name) for name in group], [self._at(stage, key, n) for n in group]
                )

    def _download(self, stage: str, key: str, manifest: bytes) -> str | None:
        """Bring an artifact here, once where several ask for it; return what is wrong with it."""
        try:
            listing = parse_manifest(manifest, stage, key)["files"]
        except ValueError as error:
            return f"{MANIFEST}: {error}"
        with self._locked(key[:2]), self._temporary_folder(f"{stage}-{key}") as folder, explain_os_errors(self.root):
            if self._copied(stage, key) == manifest and super().verify(stage, key) is None:
                return None
            # What is not there is found below.
            with self._reaching() as files, contextlib.suppress(FileNotFoundError):
                files.get([self._at(stage, key, name) for name in listing], [str(folder / name) for name in listing])
            if problem := files_problem(folder, listing):
                return problem
            (folder / MANIFEST).write_bytes(manifest)
            super()._place(folder, stage, key)
        return None

    def _manifest(self, stage: str, key: str) -> bytes | None:
        """Return the manifest at the address, None where there is none."""
        with self._reaching() as files:
            try:
                return files.cat_file(self._at(stage, key, MANIFEST))  # pyright: ignore[reportReturnType]
            except FileNotFoundError:
                return None

    def _copied(self, stage: str, key: str) -> bytes | None:
        """Return the manifest of this machine's copy, None where it has none."""
        try:
            return read_regular(self.path(stage, key) / MANIFEST)
        except OSError:
            return None

    def _write(self, name: str, content: bytes) -> None:
        with self._temporary_folder("upload") as folder, explain_os_errors(self.root):
            file = folder / "content"
            file.write_bytes(content)
            # Of fsspec's ways to write, this one makes folders where the file system has such.
            with self._reaching() as files:
                files.put([str(file)], [self._at(name)])

    def _names(self, folder: str = "") -> list[str]:
        """Return the names in a folder at the address, in order."""
        with self._reaching() as files:
            files.invalidate_cache()
            try:
                return sorted(PurePosixPath(path).name for path in files.ls(self._at(folder), detail=False))
            except FileNotFoundError:
                return []

    def _user(self, note: dict[str, Any], name: str) -> Path:
        """Return a registered folder, or for one that only another machine sees, a folder here with its record.

        Raises:
            ArtifactError: The note would have something else written than a record.
        """
        folder, host, record = Path(note["folder"]), note.get("host"), note.get("record")
        content, seconds = note.get("content"), note.get("time")
        if (
            not isinstance(record, str)
            or record not in RECORDS
            or not isinstance(content, str)
            or not isinstance(seconds, int | float)
            or not isinstance(host, str)
            or not HOST.fullmatch(host)
            or ".." in folder.parts
        ):
            raise ArtifactError(
                f"{self.address}/{USERS}/{name}: expected the note of a folder with its host and "
                f"{' or '.join(RECORDS)}, found {host!r}, {record!r}, {str(folder)!r}; delete the note, or run the "
                "command of the folder again"
            )
        if host == socket.gethostname() or (folder / record).is_file():
            return folder
        copy = self.root / USERS / host / folder.relative_to(folder.anchor)
        with explain_os_errors(self.root):
            atomic_write(copy / record, content)
            os.utime(copy / record, (seconds, seconds))
        return copy

    def _at(self, *names: str) -> str:
        return "/".join(filter(None, [self._connection[1], *names]))

    @property
    def _protocol(self) -> str:
        return self.address.partition("://")[0]

    @property
    def _options(self) -> dict[str, Any]:
        return options_of(self._block)

    @cached_property
    def _connection(self) -> tuple[AbstractFileSystem, str]:
        """The file system, and the path of the store in it."""
        options = self._options
        try:
            files, path = url_to_fs(self.address, **options)
        except ImportError as error:
            raise ArtifactError(
                f"{self.address}: {error}; the package for {self._protocol}:// is not installed"
            ) from None
        except Exception as error:
            raise self._unusable(error) from self._cause(error)
        return files, path.rstrip("/")

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[AbstractFileSystem]:
        """Explain what goes wrong at the address; every file system has errors of its own."""
        try:
            yield self._connection[0]
        except ArtifactError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NO_SPACE:
                raise
            raise self._unusable(error) from self._cause(error)

    def _unusable(self, error: Exception) -> ArtifactError:
        reason = hide(hide_passwords(str(error)), self._protocol, self._options) or type(error).__name__
        return ArtifactError(
            f"{self.address}: cannot be read or written ({reason}); check the address, that its bucket exists, the "
            "network and the credentials, or choose another store with --store"
        )

    def _cause(self, error: Exception) -> Exception | None:
        """Return what a traceback in a log may show of an error beside our own words."""
        return None if is_told(error, self._protocol, self._options) else error
