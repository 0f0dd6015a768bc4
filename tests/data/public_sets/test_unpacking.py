"""Archives of strangers write below one folder, regular files alone."""

from __future__ import annotations

import io
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from data.public_sets import DownloadError
from data.public_sets.archives import unpack
from data.public_sets.transfer import RESERVE

OUTSIDE = ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "C:\\evil.txt", "..\\evil.txt"]


def _tar(file: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(file, "w") as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return file


def _regular(name: str, size: int = 3) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def _linked(name: str, kind: bytes, target: str = "../..") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_path_that_leaves_the_folder_is_refused_before_anything_is_written(
    tmp_path: Path, name: str, kind: str
) -> None:
    archive = tmp_path / f"set.{kind}"
    if kind == "tar":
        _tar(archive, _regular("good.txt"), _regular(name))
    else:
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("good.txt", b"abc")
            opened.writestr(name, b"abc")
    with pytest.raises(DownloadError, match=r"a path outside the folder.*nothing was unpacked"):
        unpack(archive, tmp_path / "in" / "folder")
    assert sorted(path.name for path in tmp_path.rglob("*.txt")) == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = _tar(tmp_path / "set.tar", _regular("good.txt"), _linked("sub", kind), _regular("sub/evil.txt"))
    with pytest.raises(DownloadError, match="a link or a device, 'sub'"):
        unpack(archive, tmp_path / "folder")
    assert not list(tmp_path.rglob("*.txt"))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("sub")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(info, "../..")
    with pytest.raises(DownloadError, match="a link or a device, 'sub'"):
        unpack(tmp_path / "set.zip", tmp_path / "folder")


def test_a_link_that_lies_in_the_folder_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(DownloadError, match="behind a link"):
        unpack(_tar(tmp_path / "set.tar", _regular("sub/a.txt")), tmp_path / "folder")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_file_that_is_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").symlink_to(tmp_path / "precious")
    assert unpack(_tar(tmp_path / "set.tar", _regular("a.txt")), tmp_path / "folder") == 1
    assert (tmp_path / "precious").read_text() == "kept"
    assert (tmp_path / "folder" / "a.txt").read_bytes() == b"xxx"


def test_an_archive_that_needs_more_than_there_is_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = _tar(tmp_path / "set.tar", _regular("a.txt", 2 << 20))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=RESERVE + (1 << 20)))
    with pytest.raises(DownloadError, match="no space left to unpack: 2 MiB are needed, 65 MiB are free"):
        unpack(archive, tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("name", ["set.zip", "set.tgz"])
def test_a_damaged_archive_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>an error of the proxy</html>")
    with pytest.raises(DownloadError, match=rf"{name}: damaged, or not the set's .*delete it"):
        unpack(tmp_path / name, tmp_path / "folder")


@pytest.mark.parametrize(
    ("offsets", "value"), [((6, 8), 1), ((8, 10), 99)], ids=["with a password", "compressed oddly"]
)
def test_a_zip_that_cannot_be_read_is_named(tmp_path: Path, offsets: tuple[int, int], value: int) -> None:
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("a.txt", "a")
    content = bytearray(archive.read_bytes())
    # The same field of the file's own header and of the directory's.
    local, listed = offsets
    content[local] = content[content.index(b"PK\x01\x02") + listed] = value
    archive.write_bytes(content)
    with pytest.raises(DownloadError, match=r"set.zip: damaged, or not the set's \(.*\); delete it"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
