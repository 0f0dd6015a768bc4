"""Files on disk: what may be read, digests, atomic writes, locks, and the explanation of the system's errors."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NoReturn

from data.dataset import DatasetError, Problem

log = logging.getLogger(__name__)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_SETTLED_NS = 10**8  # Changes that are nearer to one another may have one time.
_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux.
PATIENCE_S = 300.0
MARK = ".pseudomask.json"
OWN_RECORDS = (MARK, "run.json", "version.json", "export.json", ".users")
"""What the folders of outputs, runs, versions, exports and stores hold."""
SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"})
_known: dict[Path, tuple[tuple[int, ...], str]] = {}


class ArtifactError(Exception):
    """An artifact cannot be written or used; the message names the folder and says what to do."""


def refuse_special(path: Path) -> int:
    """Return the size of a regular file (or of one that a link leads to), in bytes.

    Raises:
        OSError: The file is missing, a pipe, a device or a folder.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file, but a folder, a pipe or a device")
    return state.st_size


def read_regular(file: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: It is missing or cannot be read, or is a pipe or a device, which never end.
    """
    try:
        refuse_special(file)
        return file.read_bytes()
    except OSError as error:
        error.filename = str(file)
        raise


def leads_nowhere(path: Path) -> str | None:
    """Return where a link leads that leads to nothing; None for all else."""
    return str(path.readlink()) if path.is_symlink() and not path.exists() else None


def _refuse_folder(error: OSError) -> NoReturn:
    message = f"expected a folder that can be read, but {error.strerror or error}"
    raise DatasetError([Problem(Path(error.filename), message)])


def walk_visible(
    folder: Path,
    failed: Callable[[OSError], None] = _refuse_folder,
    leave: Callable[[Path, str], object] = lambda path, why: None,
    *,
    own: Collection[str] = (),
    skip: Collection[str] = (),
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Give each folder with the names of the visible folders and of the files in it, ascending.

    Links to folders are followed where they lead out of the folder, each place once. What systems wrote is left out.

    Args:
        folder: Where to begin.
        failed: Is told of a folder that cannot be read.
        leave: Is told of a visible folder that is left out, and why where it is a link.
        own: Records by which folders are known that this product wrote, which are left out.
        skip: Names of folders that are left out without a word.

    Raises:
        DatasetError: By default, a folder cannot be read.
    """
    root = folder.resolve()
    seen = {root}
    for parent, folders, names in os.walk(folder, onerror=failed, followlinks=True):
        kept = []
        for name in sorted(name for name in folders if name[0] != "." and name not in skip):
            path = Path(parent, name)
            if name.casefold() in SYSTEM_FOLDERS or any(os.path.lexists(path / record) for record in own):
                leave(path, "")
                continue
            if path.is_symlink():
                target = path.resolve()
                if target in seen or target.is_relative_to(root) or root.is_relative_to(target):
                    leave(path, "a link to what is read already")
                    continue
                seen.add(target)
            kept.append(name)
        folders[:] = kept
        yield Path(parent), folders, sorted(names)


def files_below(
    folder: Path, suffixes: Collection[str] = (), *, own: Collection[str] = (), left: list[Path] | None = None
) -> list[Path]:
    """Return the visible files below a folder, by path; folders are those of `walk_visible`.

    Args:
        folder: Where to look; where no folder is, there are none.
        suffixes: In lower case, of the files wanted; all by default.
        own: As of `walk_visible`.
        left: Gets the folders that are left out, but for links.

    Raises:
        DatasetError: A folder cannot be read: what lies there would count as absent.
    """
    leave = lambda path, why: left.append(path) if left is not None and not why else None  # noqa: E731
    return sorted(_find_below(folder, suffixes, leave, own))


def has_below(folder: Path, suffix: str) -> bool:
    """Tell whether there is a visible file of a suffix below a folder, as `files_below`."""
    return any(True for _ in _find_below(folder, {suffix}))


def _find_below(
    folder: Path,
    suffixes: Collection[str],
    leave: Callable[[Path, str], object] = lambda path, why: None,
    own: Collection[str] = (),
) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for parent, _, names in walk_visible(folder, leave=leave, own=own):
        for name in names:
            # A path per file is slow.
            if name[0] != "." and (not suffixes or os.path.splitext(name)[1].lower() in suffixes):  # noqa: PTH122
                yield parent / name


def visible(folder: Path, *patterns: str) -> list[Path]:
    """Return what fits patterns of `Path.glob` in a folder, by path; names with a dot before them are systems'.

    Raises:
        DatasetError: A folder that a pattern names cannot be read.
    """
    for place in {folder / Path(pattern).parent for pattern in patterns if "*" not in Path(pattern).parent.name}:
        if place.is_dir():
            try:
                os.scandir(place).close()
            except OSError as error:
                error.filename = str(place)
                _refuse_folder(error)
    return sorted(file for pattern in patterns for file in folder.glob(pattern) if file.name[0] != ".")


def dangling_links(folder: Path) -> list[Path]:
    """Return the links below a folder that lead to nothing, but for hidden ones; links to folders are not followed."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        found += [file for name in sorted(names) if name[0] != "." and leads_nowhere(file := Path(parent, name))]
    return found


def is_source(file: Path) -> bool:
    """Tell whether a file is there, or a link that leads to nothing: it cannot be read now, and is not absent."""
    return file.is_file() or leads_nowhere(file) is not None


def exchange(first: Path, second: Path) -> bool:
    """Let two files or folders change places at once, so that a kill leaves either as it was or as it will be.

    Returns:
        False where the system or the file system cannot do it; nothing has changed then.

    Raises:
        OSError: One of them is missing, or the folder cannot be written.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_CURRENT_FOLDER, os.fsencode(first), _CURRENT_FOLDER, os.fsencode(second), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: It cannot be read, or is a pipe or a device, which never end.
    """
    refuse_special(file)
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def current_digest(file: Path) -> str:
    """Return the SHA-256 of a file that others may change; it is read again only where its state is another.

    Raises:
        OSError: As of `file_digest`.
    """
    state = file_state(file)
    known = _known.get(file)
    if known is not None and known[0] == state:
        return known[1]
    digest = file_digest(file)
    if file_state(file) == state and time.time_ns() - state[-1] > _SETTLED_NS:
        _known[file] = state, digest
    return digest


def file_state(file: Path) -> tuple[int, ...]:
    """Return what a file's system knows of its content: inode, size, and the times of the last changes.

    Raises:
        OSError: The file is missing.
    """
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def content_files(path: Path) -> list[Path]:
    """Return a file alone, or the visible files of a folder, by name; those of folders in it are left out.

    Raises:
        OSError: There is neither.
    """
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if not file.name.startswith(".") and file.is_file())


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file, as `current_digest`, or that of the names and digests of a folder's files.

    Raises:
        OSError: As of `file_digest`.
    """
    if not path.is_dir():
        return current_digest(path)
    state = hashlib.sha256()
    for file in content_files(path):
        state.update(f"{current_digest(file)} {file.name}\n".encode(errors="surrogateescape"))
    return state.hexdigest()


def content_state(path: Path) -> tuple[int, ...]:
    """Return what the system knows of the content of a file, or of the files of a folder.

    Raises:
        OSError: It is missing.
    """
    return tuple(number for file in content_files(path) for number in file_state(file))


@contextlib.contextmanager
def temporary_beside(target: Path) -> Iterator[Path]:
    """Yield a new name in the target's folder, hidden; a file or folder of that name is deleted at the end."""
    temporary = target.with_name(f".{target.name.removeprefix('.')}.{secrets.token_hex(4)}")
    try:
        yield temporary
    finally:
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(file: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a name to write to; what was written there takes the place of `file` where the block ends well.

    So readers see the old file or the new one, complete. Missing folders are made.

    Args:
        durable: Force the bytes to disk before, so that a power cut cannot leave a file without its content.

    Raises:
        OSError: The folder cannot be written, or the disk is full; `file` is as it was.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with temporary_beside(file) as temporary:
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(file)


def atomic_write(file: Path, content: str | bytes | memoryview, *, durable: bool = False) -> None:
    """Write a file that appears complete or not at all; text as UTF-8. See `replacing`."""
    with replacing(file, durable=durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(file: Path, *, mode: int = 0o666) -> int | None:
    """Lock a file, made if need be, among the processes of this machine.

    Returns:
        A descriptor that holds the lock until it is closed or its process ends; None where another holds it.

    Raises:
        OSError: The file cannot be opened, or is a link.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def waiting_lock(file: Path) -> Iterator[None]:
    """Wait until no other process of this user is in the block, `PATIENCE_S` at most: one may have been stopped in it.

    Where the file cannot be made, or is another user's, nobody waits.
    """
    descriptor, end = None, time.monotonic() + PATIENCE_S
    with contextlib.suppress(OSError):
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        while os.fstat(descriptor).st_uid == os.getuid() and time.monotonic() < end:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Tell whether a process has a folder locked; one that cannot be opened counts as held."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def file_lock(file: Path, waiting: str = "", *, mode: int = 0o666) -> Iterator[None]:
    """Hold a lock for the block, waiting for it if need be; it is released if the process dies.

    Args:
        file: The file that is locked; made if need be, and never deleted.
        waiting: Logged where another process holds the lock.
        mode: Permissions of a new file.

    Raises:
        OSError: The file cannot be opened, or is a link.
    """
    descriptor = try_lock(file, mode=mode)
    if descriptor is None:
        if waiting:
            log.info(waiting)
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW)
    try:
        # At once where it is ours already.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explain_os_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the system below `folder` into an `ArtifactError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise no_space(folder) from error
        if error.errno is None:
            raise
        if error.errno in NOT_WRITABLE:
            reason, remedy = "cannot be written", "change its permissions, or choose another folder (--out, --store)"
        elif error.errno == errno.EFBIG:
            reason, remedy = "cannot be written", "raise the limit on the size of files (ulimit -f)"
        else:
            reason, remedy = "cannot be read or written", "check the disk and the path, or choose another folder"
        raise ArtifactError(f"{error.filename or folder}: {reason} ({error.strerror}); {remedy}") from error


def no_space(folder: Path) -> ArtifactError:
    """Return the error for a full disk below `folder`."""
    return ArtifactError(
        f"{folder}: no space left on the device; free some, or choose another folder (--out, --store). "
        "What is finished is kept: the same command goes on from there"
    )
