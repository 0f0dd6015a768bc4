"""Files from the network: there with the SHA-256 that is known of them, or not at all."""

from __future__ import annotations

import hashlib
import logging
import secrets
import urllib.request
from pathlib import Path

from data.dataset import DatasetError, Problem
from data.files import file_digest

log = logging.getLogger(__name__)
CHUNK_BYTES = 2**20
PATIENCE_S = 60.0


def fetch(url: str, file: Path, sha256: str) -> None:
    """Download a file, unless it is there already; it appears whole or not at all.

    A file that is there with other bytes is removed and downloaded again.

    Raises:
        DatasetError: What was downloaded has another SHA-256 and was removed, or nothing can be downloaded.
    """
    if file.is_file():
        if file_digest(file) == sha256:
            return
        log.warning("%s: not the file that is expected, or damaged; it is removed and downloaded again", file)
        file.unlink()
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        found = _download(url, temporary)
        if found != sha256:
            message = f"expected the SHA-256 {sha256} of what {url} gives, found {found}; it was removed"
            raise DatasetError([Problem(file, message)])
        temporary.replace(file)
    except OSError as error:
        raise DatasetError([Problem(file, f"expected to download it from {url}, but {error}")]) from error
    finally:
        temporary.unlink(missing_ok=True)


def _download(url: str, file: Path) -> str:
    """Write what an address gives into a file, and return its SHA-256."""
    state = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer, file.open("wb") as stream:
        while chunk := answer.read(CHUNK_BYTES):
            state.update(chunk)
            stream.write(chunk)
    return state.hexdigest()
