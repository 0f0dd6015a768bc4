"""Archives of strangers, unpacked below one folder."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from data.files import NO_SPACE
from data.names import is_unsafe
from data.public_sets.transfer import RESERVE, DownloadError

# The last is what zipfile raises over a password, or a compression that it does not know.
UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
)


class Member(NamedTuple):
    """A regular file of an archive: its name, its size in bytes, and what it is read by."""

    name: str
    size: int
    source: zipfile.ZipInfo | tarfile.TarInfo


Archive = zipfile.ZipFile | tarfile.TarFile


def unpack(archive: Path, folder: Path) -> int:
    """Unpack a `.zip`, `.tar`, `.tgz` or `.tar.gz` archive below a folder; files that are there are replaced.

    Only regular files are written, with the permissions that new files have.

    Returns:
        The number of files.

    Raises:
        DownloadError: The archive is damaged; a name leads out of the folder; there are links or devices in it; or it
            needs more space than there is. Before anything is written, unless the damage lies in a file's content.
    """
    with _opened(archive, folder) as (opened, members):
        _refuse_full_disk(folder, members)
        for member in members:
            with _read(opened, member) as source:
                _write(folder, member.name, source)
    return len(members)


def refuse_replacing(archive: Path, folder: Path) -> None:
    """Refuse an archive that would replace a file of the same name and other content.

    Raises:
        DownloadError: Names the file; or the archive is one that `unpack` refuses.
    """
    with _opened(archive, folder) as (opened, members):
        for member in members:
            target = folder / member.name
            if os.path.lexists(target) and not _is_same(target, opened, member):
                raise DownloadError(
                    f"{target}: is there already, and is not the set's; the download would replace it. Move it away, "
                    "or choose another folder with --out"
                )


@contextmanager
def _opened(archive: Path, folder: Path) -> Iterator[tuple[Archive, list[Member]]]:
    """Give an archive with its members, whose names are safe; what is wrong with it becomes a `DownloadError`."""
    try:
        with zipfile.ZipFile(archive) if archive.suffix == ".zip" else tarfile.open(archive) as opened:
            members = list(_zip_members(opened) if isinstance(opened, zipfile.ZipFile) else _tar_members(opened))
            for member in members:
                if is_unsafe(member.name) or "\\" in member.name:
                    raise _unsafe(archive, member.name, "a path outside the folder")
            yield opened, members
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise DownloadError(
            f"{archive}: damaged, or not the set's ({reason}); delete it, and run the same command again"
        ) from error
    except OSError as error:
        if error.errno in NO_SPACE:
            raise _no_space(folder, None) from error
        raise


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir():
            continue
        if kind not in (0, stat.S_IFREG):
            raise _unsafe(archive.filename, info.filename, "a link or a device")
        yield Member(info.filename, info.file_size, info)


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if info.isdir():
            continue
        if not info.isreg():
            raise _unsafe(archive.name, info.name, "a link or a device")
        yield Member(info.name, info.size, info)


def _refuse_full_disk(folder: Path, members: list[Member]) -> None:
    needed = sum(member.size for member in members)
    folder.mkdir(parents=True, exist_ok=True)
    if needed + RESERVE > shutil.disk_usage(folder).free:
        raise _no_space(folder, needed)


def _is_same(file: Path, archive: Archive, member: Member) -> bool:
    if file.is_symlink() or not file.is_file() or file.stat().st_size != member.size:
        return False
    with file.open("rb") as ours, _read(archive, member) as theirs:
        while block := theirs.read(1 << 20):
            if ours.read(len(block)) != block:
                return False
    return True


def _read(archive: Archive, member: Member) -> IO[bytes]:
    if isinstance(archive, zipfile.ZipFile):
        assert isinstance(member.source, zipfile.ZipInfo)
        return archive.open(member.source)
    assert isinstance(member.source, tarfile.TarInfo)
    source = archive.extractfile(member.source)
    assert source is not None
    return source


def _write(folder: Path, name: str, source: IO[bytes]) -> None:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    # A link that lay in the folder before may lead elsewhere.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise DownloadError(f"{target}: lies behind a link that leaves {folder}; remove the link")
    target.unlink(missing_ok=True)
    with target.open("xb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20)


def _unsafe(archive: object, name: str, what: str) -> DownloadError:
    return DownloadError(f"{archive}: holds {what}, {name!r:.200}; nothing was unpacked. The archive is not the set's")


def _no_space(folder: Path, needed: int | None) -> DownloadError:
    place = folder if folder.is_dir() else folder.parent
    free = shutil.disk_usage(place).free
    wanted = "" if needed is None else f": {needed / 2**20:.0f} MiB are needed, {free / 2**20:.0f} MiB are free"
    return DownloadError(f"{folder}: no space left to unpack{wanted}; free some, and run the same command again")
