"""The artifact store: folders addressed by key, published whole or not at all, and checked byte for byte."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import (
    ArtifactError,
    atomic_write,
    explain_os_errors,
    file_digest,
    file_lock,
    is_held,
    read_regular,
    sync,
)
from data.names import is_listed_file, is_plain
from data.store.credentials import check_address

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
USERS, IDENTITY = ".users", ".store-id"
TEMPORARY = re.compile(r".+-[0-9]{1,9}-[0-9a-f]{4,8}")


@dataclass
class Draft:
    """An artifact in the making.

    Attributes:
        folder: Where its files go.
        manifest: What the manifest shall say beside the files.
    """

    folder: Path
    manifest: dict[str, Any] = field(default_factory=dict)


def store_address(address: str | Path) -> str:
    """Return the one form of a store's address: a folder's absolute path, or `protocol://...` of anything else.

    Raises:
        AddressError: It has a key or a password in it, which would be recorded.
    """
    protocol, separator, path = str(address).partition("://")
    if not separator:
        return str(Path(address).resolve())
    if protocol in ("file", "local"):
        return str(Path(path).resolve())
    check_address(str(address))
    return f"{protocol}://{path.rstrip('/')}"


class Store:
    """Artifacts at `<root>/<stage>/<key>/`, each with a `manifest.json` of its files' sizes and SHA-256.

    Only a rename publishes, so a kill at any moment leaves whole artifacts and temporary folders, never half
    an artifact. Nothing is touched on disk before `prepare` or `create`.

    Attributes:
        root: The folder on this machine: of the artifacts, of checkpoints, and of what else a run keeps between kills.
        address: What users call the store; `open_store` opens it again, on another machine, too.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.address = str(self.root)

    def path(self, stage: str, key: str) -> Path:
        """Return the folder of an artifact, whether it exists or not.

        Raises:
            ArtifactError: Stage or key is no plain name, so that the folder might lie anywhere.
        """
        for kind, name in (("stage", stage), ("key", key)):
            if not is_plain(name):
                raise ArtifactError(
                    f"{self.address}: expected the {kind} of an artifact, letters and digits, found {name!r}; "
                    "the record or manifest that names it was damaged or tampered with: make it again"
                )
        return self.root / stage / key

    def exists(self) -> bool:
        """Return whether there is a store at all."""
        return self.root.is_dir()

    def has(self, stage: str, key: str) -> bool:
        """Return whether an artifact was published; `verify` tells whether it is still whole."""
        return self.path(stage, key).is_dir()

    def fetch(self, stage: str, key: str) -> Path:
        """Return the folder of an artifact that was verified or published, brought to this machine if need be.

        Raises:
            ArtifactError: The store does not have it, or cannot be reached.
        """
        folder = self.path(stage, key)
        if not folder.is_dir():
            raise ArtifactError(f"{folder}: missing; the command of the run makes it again")
        return folder

    def republish(self, stage: str, key: str) -> bool:
        """Publish again what the store lost and this machine still has; return whether that was so."""
        return False

    def size(self, stage: str, key: str) -> int:
        """Return how many bytes an artifact holds."""
        return folder_size(self.path(stage, key))

    @property
    def _temporary(self) -> Path:
        # Process ids mean something on one machine only; a store may be shared by several.
        return self.root / ".tmp" / socket.gethostname()

    @property
    def read_only(self) -> bool:
        """Whether there is a store in which this process may write nothing: it serves what was made in it."""
        return self.root.is_dir() and not os.access(self.root, os.W_OK | os.X_OK)

    def prepare(self) -> None:
        """Make the store, prove that it is writable, and remove what dead processes left.

        Raises:
            ArtifactError: The folder cannot be made or written.
        """
        with explain_os_errors(self.root):
            self._temporary.mkdir(parents=True, exist_ok=True)
            probe = self._temporary / f"probe-{os.getpid()}-{secrets.token_hex(4)}"
            probe.touch()
            probe.unlink()
            self.identity(make=True)
            for folder in self._temporary.iterdir():
                if TEMPORARY.fullmatch(folder.name) and _is_left(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    def identity(self, *, make: bool = False) -> str | None:
        """Return the id that a store keeps wherever it is moved to; None where it has none, unless one is made."""
        file = self.root / IDENTITY
        if make and not os.path.lexists(file):
            temporary = self._temporary / f"id-{os.getpid()}-{secrets.token_hex(4)}"
            temporary.write_text(secrets.token_hex(16))
            try:
                # Where two make one at once, the first stays.
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, file)
            except OSError:
                temporary.replace(file)
            finally:
                temporary.unlink(missing_ok=True)
        try:
            return read_regular(file).decode().strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def read_manifest(self, stage: str, key: str) -> dict[str, Any]:
        """Read an artifact's manifest.

        Raises:
            ArtifactError: There is none, or it is not what was written.
        """
        file = self.path(stage, key) / MANIFEST
        try:
            return parse_manifest(read_regular(file), stage, key)
        except FileNotFoundError:
            raise ArtifactError(f"{file}: missing") from None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{file}: {error}") from None

    def verify(self, stage: str, key: str) -> str | None:
        """Compare an artifact with its manifest, all bytes of it.

        Returns:
            None where it is whole, else what is wrong: "missing", or the first bad file and how it differs.
        """
        folder = self.path(stage, key)
        if not folder.is_dir():
            return "missing"
        try:
            files = self.read_manifest(stage, key)["files"]
        except ArtifactError as error:
            return str(error).removeprefix(f"{folder}{os.sep}")
        return files_problem(folder, files)

    @contextlib.contextmanager
    def create(self, stage: str, key: str) -> Iterator[Draft]:
        """Open a draft, and publish it as the artifact when the block ends without an exception.

        Where another process has published the same key meanwhile, its artifact stays and ours goes; one that
        is damaged is replaced.

        Raises:
            ArtifactError: No space left, or the store cannot be written.
        """
        self.path(stage, key)
        with self._temporary_folder(f"{stage}-{key}") as folder:
            draft = Draft(folder)
            yield draft
            with explain_os_errors(self.root):
                _write_manifest(draft, stage, key)
                self._publish(folder, stage, key)

    def adopt(self, other: Store, stage: str, key: str) -> None:
        """Copy an artifact from another store under the same key.

        Raises:
            ArtifactError: The other store does not have it whole, or this one cannot be written.
        """
        if problem := other.verify(stage, key):
            raise ArtifactError(f"{other.address}/{stage}/{key}: {problem}")
        with self._temporary_folder(f"{stage}-{key}") as folder, explain_os_errors(self.root):
            shutil.copytree(other.path(stage, key), folder, dirs_exist_ok=True)
            self._publish(folder, stage, key)

    def scratch(self, stage: str, key: str) -> Path:
        """Return the folder, made if need be, that keeps a training's checkpoints until it is published."""
        self.path(stage, key)
        folder = self.root / ".scratch" / f"{stage}-{key}"
        with explain_os_errors(self.root):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def claim(self, stage: str, key: str) -> Iterator[None]:
        """Be the only one on this machine who makes an artifact; others wait. A process that dies gives it up.

        Raises:
            ArtifactError: The store cannot be written.
        """
        self.path(stage, key)
        with self._locked(f"{stage}-{key}", f"{stage} {key} is being made by another process: waiting for it"):
            yield

    def register(self, user: Path, record: str = "run.json") -> None:
        """Note that the folder `user` was made from artifacts of this store, so that gc can ask it what for.

        Args:
            record: Name of the file in it that tells; a store that other machines use keeps a copy of it for them.
        """
        with explain_os_errors(self.root):
            folder = self.root / USERS
            folder.mkdir(parents=True, exist_ok=True)
            name = hashlib.sha1(str(user.absolute()).encode()).hexdigest()
            atomic_write(folder / f"{name}.json", json.dumps({"folder": str(user.absolute())}))

    def users(self) -> list[Path]:
        """Return the folders that were registered, whether they still exist or not, in order.

        Raises:
            ArtifactError: A note of one is damaged.
        """
        return sorted(folder for folder, _ in self.notes())

    def notes(self) -> list[tuple[Path, str]]:
        """Return each registered folder with what deletes its note, `forget`; in the order of the notes.

        Raises:
            ArtifactError: A note is damaged.
        """
        files = sorted((self.root / USERS).glob("*.json"))
        with explain_os_errors(self.root):
            return [(Path(read_note(read_regular(file), str(file))["folder"]), file.name) for file in files]

    def forget(self, note: str) -> None:
        """Delete the note of a registered folder."""
        with explain_os_errors(self.root):
            (self.root / USERS / note).unlink(missing_ok=True)

    def artifacts(self, stage: str | None = None) -> Iterator[tuple[str, str]]:
        """Yield stage and key of every artifact, or of every one of a stage, in order."""
        for manifest in sorted(self.root.glob(f"{stage or '[!.]*'}/*/{MANIFEST}")):
            if is_plain(manifest.parent.parent.name) and is_plain(manifest.parent.name):
                yield manifest.parent.parent.name, manifest.parent.name

    def remove(self, stage: str, key: str) -> None:
        """Delete an artifact; nobody sees a part of it.

        Raises:
            ArtifactError: It cannot be deleted.
        """
        with explain_os_errors(self.root):
            shutil.rmtree(self._retire(self.path(stage, key)))

    @contextlib.contextmanager
    def _temporary_folder(self, name: str) -> Iterator[Path]:
        """Make a folder that goes with the block, unless it has moved to its place."""
        folder = self._temporary / f"{name}-{os.getpid()}-{secrets.token_hex(4)}"
        with explain_os_errors(self.root):
            folder.mkdir(parents=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            # Tells other containers, which see other process ids, that it is in use. Some network disks cannot.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
        finally:
            os.close(descriptor)
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, name: str, waiting: str = "") -> Iterator[None]:
        """Hold a lock among the processes of this machine; `waiting` is logged where another has it."""
        folder = self.root / ".locks"
        with explain_os_errors(self.root):
            folder.mkdir(parents=True, exist_ok=True)
            lock = contextlib.ExitStack()
            lock.enter_context(file_lock(folder / name, waiting, mode=0o644))
        with lock:
            yield

    def _publish(self, folder: Path, stage: str, key: str) -> None:
        if self.verify(stage, key) is not None:
            self._place(folder, stage, key)
        shutil.rmtree(self.root / ".scratch" / f"{stage}-{key}", ignore_errors=True)

    def _place(self, folder: Path, stage: str, key: str) -> None:
        """Move a finished folder to the place of its artifact, in exchange for what is there."""
        target = self.path(stage, key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._retire(target), ignore_errors=True)
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            sync(target.parent)

    def _retire(self, target: Path) -> Path:
        """Rename an artifact out of the way, so that nobody sees it while it is being deleted."""
        retired = self._temporary / f"retired-{os.getpid()}-{secrets.token_hex(4)}"
        retired.parent.mkdir(parents=True, exist_ok=True)
        target.rename(retired)
        return retired


def is_alive(pid: int) -> bool:
    """Return whether a process with this id runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_note(content: bytes, name: str) -> dict[str, Any]:
    """Read the note of a registered folder.

    Raises:
        ArtifactError: It is damaged.
    """
    try:
        note = json.loads(content)
        if not isinstance(note["folder"], str) or not Path(note["folder"]).is_absolute() or "\0" in note["folder"]:
            raise ValueError("no folder")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(
            f"{name}: expected the note of a folder that uses the store, but it is damaged ({error}); run the "
            "command of that folder again, or delete the note if the folder is gone"
        ) from None
    return note


def _is_left(folder: Path) -> bool:
    """Tell whether a temporary folder was left by a process that has ended."""
    # Its holder has it locked, in whatever container; one from before there were locks is told by the process.
    return not is_held(folder) and not is_alive(int(folder.name.rsplit("-", 2)[1]))


def folder_size(folder: Path) -> int:
    """Return how many bytes the files below a folder hold."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def parse_manifest(content: bytes, stage: str, key: str) -> dict[str, Any]:
    """Read the manifest of an artifact.

    Raises:
        ValueError: It is not what was written; says how.
    """
    try:
        manifest = json.loads(content)
        digest = manifest.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"unreadable ({error})") from None
    if digest != _json_digest(manifest) or (manifest.get("stage"), manifest.get("key")) != (stage, key):
        raise ValueError("damaged, its content does not match its own SHA-256")
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise ValueError("damaged, it lists no files")
    for name, entry in files.items():
        if not is_listed_file(name) or name == MANIFEST:
            raise ValueError(f"expected files inside the artifact, found {name!r}")
        if not isinstance(entry, dict) or not {"size", "sha256"} <= entry.keys():
            raise ValueError(f"expected size and SHA-256 of {name!r}")
    return manifest


def files_problem(folder: Path, files: dict[str, Any]) -> str | None:
    """Compare files with their sizes and SHA-256 in a manifest; return the first bad one and how it differs."""
    with ThreadPoolExecutor() as threads:
        problems = threads.map(lambda item: _file_problem(folder, *item), files.items())
        return next((problem for problem in problems if problem), None)


def _file_problem(folder: Path, name: str, expected: dict[str, Any]) -> str | None:
    try:
        size = (folder / name).stat().st_size
        if size != expected["size"]:
            return f"{name}: {size} bytes, the manifest says {expected['size']}"
        if file_digest(folder / name) != expected["sha256"]:
            return f"{name}: damaged, its SHA-256 does not match the manifest"
    except FileNotFoundError:
        return f"{name}: missing"
    except OSError as error:
        return f"{name}: unreadable ({error.strerror})"
    return None


def _write_manifest(draft: Draft, stage: str, key: str) -> None:
    files = sorted(file for file in draft.folder.rglob("*") if file.is_file())
    with ThreadPoolExecutor() as threads:
        digests = list(threads.map(file_digest, files))
    listing = {
        file.relative_to(draft.folder).as_posix(): {"size": file.stat().st_size, "sha256": digest}
        for file, digest in zip(files, digests, strict=True)
    }
    manifest = draft.manifest | {"stage": stage, "key": key, "files": listing}
    manifest["sha256"] = _json_digest(manifest)
    with (draft.folder / MANIFEST).open("w", encoding="utf-8") as stream:
        json.dump(manifest, stream, indent=1, sort_keys=True)
        stream.flush()
        # The manifest alone is forced to disk: after a power cut its hashes tell which files did not make it.
        os.fsync(stream.fileno())


def _json_digest(value: Any) -> str:
    # Through JSON once more, so that tuples and integer keys digest like what will be read back.
    text = json.dumps(json.loads(json.dumps(value)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
