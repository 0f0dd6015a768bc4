"""Files that may be read, since a pipe or a device never ends, and their digests."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
import time
from pathlib import Path

_SETTLED_NS = 10**8  # Changes that are nearer to one another may have one time.
_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux.
_known: dict[Path, tuple[tuple[int, ...], str]] = {}


def refuse_special(path: Path) -> int:
    """Return the size of a regular file (or of one that a link leads to), in bytes.

    Raises:
        OSError: The file is missing, a pipe, a device or a folder.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file, but a folder, a pipe or a device")
    return state.st_size


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
