"""Files that may be read: a pipe or a device never ends."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def refuse_special(path: Path) -> int:
    """Return the size of a regular file (or of one that a link leads to), in bytes.

    Raises:
        OSError: The file is missing, a pipe, a device or a folder.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file, but a folder, a pipe or a device")
    return state.st_size
