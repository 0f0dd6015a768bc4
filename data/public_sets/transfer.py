"""One file over HTTP: resumed after a cut, checked against its size and checksum, and renamed when it is complete."""

from __future__ import annotations

import http.client
import json
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from data.files import NO_SPACE, atomic_write, file_digest
from data.text import hide_passwords

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int | None], None]
BLOCK = 1 << 20
# Attempts that bring nothing; one that brings bytes is followed by others at once.
ATTEMPTS = 4
TIMEOUT_SECONDS = 60.0
PAUSE_SECONDS = 2.0
# Left free beside what is fetched, for the rest of the machine.
RESERVE = 64 << 20


class DownloadError(Exception):
    """A data set cannot be downloaded; the message names the file or address and the remedy."""


@dataclass(frozen=True)
class RemoteFile:
    """An archive at an address.

    Attributes:
        url: Its address.
        size: Its bytes, where they are publicly known.
        sha256: Its SHA-256 in hexadecimal, where that is publicly known; else None.
        folder: Where it is unpacked, below the folder of all downloads.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    folder: str = ""

    @property
    def name(self) -> str:
        """The archive's name on disk."""
        return PurePosixPath(urlsplit(self.url).path).name


def fetch(file: RemoteFile, folder: Path, report: Progress | None = None) -> Path:
    """Download a file into a folder, going on where an earlier attempt was cut.

    The bytes are collected in `NAME.part`. They are continued only where the server says that its file is the same
    (`ETag` or `Last-Modified`). A complete file in the folder is checked and used.

    Returns:
        The file, whose size and SHA-256 are those that are known.

    Raises:
        DownloadError: The server refuses, the connection fails repeatedly, the disk is full, or the file is another
            than expected.
    """
    target = folder / file.name
    if target.is_file():
        _check(file, target)
        return target
    part, failures = target.with_name(f"{target.name}.part"), 0
    while True:
        before = _size(part)
        try:
            _receive(file, part, report)
            break
        except (OSError, http.client.HTTPException) as error:
            _refuse_hopeless(file, part, error)
            failures = 0 if _size(part) > before else failures + 1
            if failures == ATTEMPTS:
                raise DownloadError(
                    f"{_shown(file.url)}: the connection failed after {_size(part)} bytes ({_reason(error)}); check "
                    "the network and HTTPS_PROXY. The same command goes on from there"
                ) from error
            log.info("%s: %s after %d bytes; trying again", file.name, _reason(error), _size(part))
            time.sleep(PAUSE_SECONDS * failures)
    _check(file, part)
    part.replace(target)
    _state_file(part).unlink(missing_ok=True)
    return target


def _receive(file: RemoteFile, part: Path, report: Progress | None) -> None:
    """Append what is missing to the part; it is begun anew where the server's file is another.

    Raises:
        OSError: The connection failed or was cut, or the disk is full.
    """
    begin, validator = _size(part), _read_state(part)
    headers = {"User-Agent": "pseudomask"}
    if begin and validator:
        headers |= {"Range": f"bytes={begin}-", "If-Range": validator}
    answer = _open(urllib.request.Request(file.url, headers=headers), begin)
    if answer is None:
        return
    with answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            begin = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
            part.unlink()
            raise ConnectionError("the server answered with another part of the file than was asked for")
        length = answer.headers.get("Content-Length")
        total = begin + int(length) if length else file.size
        _refuse_full_disk(part, (total or 0) - begin)
        _write_state(part, answer.headers)
        with part.open("r+b" if begin else "wb") as stream:
            stream.seek(begin)
            while block := answer.read(BLOCK):
                stream.write(block)
                if report:
                    report(file.name, stream.tell(), total)
            stream.truncate()
    if total is not None and _size(part) < total:
        raise ConnectionError(f"the connection was cut, {total - _size(part)} bytes are missing")


def _open(request: urllib.request.Request, begin: int) -> Any:
    """Open an address; None where there is nothing behind `begin`, since the file was complete before a kill."""
    try:
        # Proxies are those of HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range", "").removeprefix("bytes */") == str(begin):
            return None
    request.remove_header("Range")
    return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)


def _refuse_hopeless(file: RemoteFile, part: Path, error: Exception) -> None:
    """Raise where another attempt cannot help.

    Raises:
        DownloadError: The disk is full, or the server refuses the file.
    """
    if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 429):
        answer = f"the server answers {error.code} {error.reason}"
        raise DownloadError(
            f"{_shown(file.url)}: {answer}; the set may have moved: see its page, and fetch it with a browser"
        ) from error
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        raise _no_space(part.parent, None) from error
    if isinstance(error, OSError) and error.filename == str(part):
        raise error


def _refuse_full_disk(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed + RESERVE > free:
        raise _no_space(part.parent, needed)


def _no_space(folder: Path, needed: int | None) -> DownloadError:
    free = shutil.disk_usage(folder).free
    wanted = "" if needed is None else f": {needed / 2**20:.0f} MiB are needed, {free / 2**20:.0f} MiB are free"
    return DownloadError(
        f"{folder}: no space left on the device{wanted}; free some, or choose another folder with --out. What was "
        "downloaded is kept: the same command goes on from there"
    )


def _check(file: RemoteFile, found: Path) -> None:
    """Delete a file that is another than expected, and raise; a proxy's page of errors is such a file, too."""
    size, problem = _size(found), None
    if file.size is not None and size != file.size:
        problem = f"{size} bytes, expected {file.size}"
    elif file.sha256 is not None and (sha256 := file_digest(found)) != file.sha256:
        problem = f"SHA-256 {sha256}, expected {file.sha256}"
    if problem:
        found.unlink()
        _state_file(found).unlink(missing_ok=True)
        raise DownloadError(
            f"{_shown(file.url)}: downloaded a file of {problem}. It was deleted; try again, and if that does not help "
            "look at what the address gives in a browser (a proxy's page, a changed set)"
        )


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name.removesuffix('.part')}.part.json")


def _write_state(part: Path, headers: Any) -> None:
    validator = headers.get("ETag") or headers.get("Last-Modified")
    # A weak tag does not promise equal bytes.
    usable = validator and not validator.startswith("W/")
    atomic_write(_state_file(part), json.dumps({"validator": validator if usable else None}))


def _read_state(part: Path) -> str | None:
    try:
        validator = json.loads(_state_file(part).read_bytes())["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return validator if isinstance(validator, str) and validator.isprintable() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception) -> str:
    is_answer = isinstance(error, urllib.error.HTTPError)
    cause = error if is_answer else getattr(error, "reason", None) or error
    return hide_passwords(str(cause)) or type(error).__name__


def _shown(url: str) -> str:
    return hide_passwords(url)
