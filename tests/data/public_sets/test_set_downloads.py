"""Public data sets are fetched, resumed, checked and unpacked; the servers of this module are on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import get_args

import pytest

import data.public_sets.transfer as fetching
from data.public_sets import SETS, DownloadableSet, DownloadError, download
from data.public_sets.transfer import RemoteFile, fetch
from flows.cli import main
from flows.commands.storing.download import DownloadRequest

CONTENT = bytes(range(256)) * 40


@dataclass
class Site:
    """A web site in memory.

    Attributes:
        files: Path -> content.
        tag: The `ETag` of all files.
        cuts: After how many bytes the next answers end; the last answers are complete.
        shift: How far from what was asked for a part of a file begins.
        statuses: What the next answers are instead of the file, the last of them first.
        asked: (path, `Range`) of every request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tag: str = '"one"'
    cuts: list[int] = field(default_factory=list)
    shift: int = 0
    statuses: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)


def _answer(site: Site, request: BaseHTTPRequestHandler) -> None:
    wanted = request.headers.get("Range")
    site.asked.append((request.path, wanted))
    content = site.files.get(request.path)
    if site.statuses or content is None:
        request.send_error(site.statuses.pop() if site.statuses else 404)
        return
    begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
    if wanted and request.headers.get("If-Range") != site.tag:
        begin = 0
    if begin and begin >= len(content):
        request.send_response(416)
        request.send_header("Content-Range", f"bytes */{len(content)}")
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    request.send_response(206 if begin else 200)
    if begin:
        request.send_header("Content-Range", f"bytes {begin + site.shift}-{len(content) - 1}/{len(content)}")
    request.send_header("ETag", site.tag)
    request.send_header("Content-Length", str(len(content) - begin))
    request.end_headers()
    end = begin + site.cuts.pop(0) if site.cuts else len(content)
    request.wfile.write(content[begin:end])
    request.close_connection = True


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(files={"/set.zip": CONTENT})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(site, self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(fetching, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(fetching, "BLOCK", 1000)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    server.server_close()


def _file(site: Site, **known: object) -> RemoteFile:
    return RemoteFile(f"{site.url}/set.zip", **known)  # pyright: ignore[reportArgumentType]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_with_its_progress(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    known = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    found = fetch(_file(site, **known), tmp_path, lambda *progress: seen.append(progress))
    assert found.read_bytes() == CONTENT
    assert _names(tmp_path) == ["set.zip"]
    assert seen[0] == ("set.zip", 1000, len(CONTENT))
    assert seen[-1] == ("set.zip", len(CONTENT), len(CONTENT))


def test_a_cut_download_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    site.cuts = [3000, 0, 2500]
    assert fetch(_file(site), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == [None, "bytes=3000-", "bytes=3000-", "bytes=5500-"]


def test_a_later_command_goes_on_where_a_cut_one_was(site: Site, tmp_path: Path) -> None:
    site.cuts = [3000, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"failed after 3000 bytes .*HTTPS_PROXY.*goes on from there"):
        fetch(_file(site), tmp_path)
    site.cuts.clear()
    assert fetch(_file(site), tmp_path).read_bytes() == CONTENT
    assert site.asked[-1][1] == "bytes=3000-"


def test_a_file_that_changed_meanwhile_is_begun_anew(site: Site, tmp_path: Path) -> None:
    site.cuts = [3000, 0, 0, 0, 0]
    with pytest.raises(DownloadError):
        fetch(_file(site), tmp_path)
    site.cuts.clear()
    site.tag, site.files["/set.zip"] = '"two"', CONTENT[::-1]
    assert fetch(_file(site), tmp_path).read_bytes() == CONTENT[::-1]


def test_another_part_than_was_asked_for_is_not_appended(site: Site, tmp_path: Path) -> None:
    site.cuts, site.shift = [3000], 7
    assert fetch(_file(site), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == [None, "bytes=3000-", None]


def test_a_file_that_was_complete_when_it_was_killed_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(CONTENT)
    (tmp_path / "set.zip.part.json").write_text(json.dumps({"validator": site.tag}))
    assert fetch(_file(site), tmp_path).read_bytes() == CONTENT
    assert site.asked == [("/set.zip", f"bytes={len(CONTENT)}-")]


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"sha256": "0" * 64}, f"SHA-256 {hashlib.sha256(CONTENT).hexdigest()}, expected 000"),
        ({"size": 5}, "10240 bytes, expe"),
    ],
)
def test_another_file_than_expected_is_deleted_and_named(
    site: Site, tmp_path: Path, known: dict[str, object], message: str
) -> None:
    with pytest.raises(DownloadError, match=message):
        fetch(_file(site, **known), tmp_path)
    assert _names(tmp_path) == []


def test_a_damaged_archive_of_an_earlier_download_is_noticed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch(_file(site, sha256=hashlib.sha256(CONTENT).hexdigest()), tmp_path)
    assert site.asked == []


def test_a_page_that_is_missing_is_named_at_once(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"/gone\.zip: the server answers 404 Not Found; the set may have moved"):
        fetch(RemoteFile(f"{site.url}/gone.zip"), tmp_path)
    assert len(site.asked) == 1


def test_a_server_that_is_overloaded_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 500]
    assert fetch(_file(site), tmp_path).read_bytes() == CONTENT
    site.statuses = [503] * 9
    with pytest.raises(DownloadError, match=r"connection failed.*503"):
        fetch(replace(_file(site), url=f"{site.url}/other.zip"), tmp_path)


def test_a_full_disk_is_said_before_anything_is_fetched(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=fetching.RESERVE))
    with pytest.raises(DownloadError, match=r"no space left.*MiB are needed, 64 MiB are free.*--out.*kept"):
        fetch(_file(site), tmp_path)
    assert not (tmp_path / "set.zip.part").exists()


def _zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def small(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Offer two sets of small archives, the second of which needs the first."""
    site.files = {"/a.tgz": _tar({"A/1.txt": b"one", "A/2.txt": b"two"}), "/b.zip": _zip({"3.txt": b"three"})}
    one = DownloadableSet(
        "A", (RemoteFile(f"{site.url}/a.tgz", sha256=_sha256(site.files["/a.tgz"])),), "A", "free", "page"
    )
    finish = lambda out: (out / "A" / "list.txt").write_text("1\n2\n")  # noqa: E731
    files = (RemoteFile(f"{site.url}/b.zip", folder="B"),)
    other = DownloadableSet("B", files, "A", "free", "page", needs=("voc12",), finish=finish)
    monkeypatch.setitem(SETS, "voc12", one)
    monkeypatch.setitem(SETS, "sbd", other)
    return site


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_set_is_unpacked_with_those_that_it_needs(small: Site, tmp_path: Path) -> None:
    found = download("sbd", tmp_path / "sets")
    assert found.data == tmp_path / "sets" / "A"
    assert (found.data / "2.txt").read_bytes() == b"two"
    assert (found.data / "list.txt").read_text() == "1\n2\n"
    assert (tmp_path / "sets" / "B" / "3.txt").read_bytes() == b"three"
    assert found.checksums == {"b.zip": hashlib.sha256(small.files["/b.zip"]).hexdigest()}
    assert found.unchecked == ("b.zip",)
    assert not list((tmp_path / "sets").rglob("*.zip"))


def test_what_was_unpacked_is_not_fetched_again_unless_it_was_deleted(small: Site, tmp_path: Path) -> None:
    download("voc12", tmp_path, keep=True)
    assert (tmp_path / "a.tgz").read_bytes() == small.files["/a.tgz"]
    download("voc12", tmp_path)
    assert len(small.asked) == 1
    shutil.rmtree(tmp_path / "A")
    download("voc12", tmp_path)
    assert len(small.asked) == 2
    assert (tmp_path / "A" / "1.txt").exists()


def test_a_file_of_the_users_is_not_replaced_by_that_of_a_set(small: Site, tmp_path: Path) -> None:
    corrected = tmp_path / "A/1.txt"
    corrected.parent.mkdir()
    for content in (b"ONE", b"corrected"):
        corrected.write_bytes(content)
        for _ in range(2):
            with pytest.raises(DownloadError, match=r"A/1\.txt: is there already, and is not the set's"):
                download("voc12", tmp_path)
        assert corrected.read_bytes() == content
        assert not (tmp_path / "A/2.txt").exists()
    corrected.write_bytes(b"one")
    download("voc12", tmp_path)
    assert (tmp_path / "A/2.txt").read_bytes() == b"two"


def test_archives_with_a_public_checksum_are_compared_by_sha256() -> None:
    for name in ("voc12", "sbd", "coco14"):
        assert all(re.fullmatch(r"[0-9a-f]{64}", file.sha256 or "") for file in SETS[name].files)


def test_the_checksum_of_the_first_download_is_what_later_ones_are_compared_with(small: Site, tmp_path: Path) -> None:
    download("sbd", tmp_path)
    shutil.rmtree(tmp_path / "B")
    small.files["/b.zip"] = _zip({"3.txt": b"other"})
    with pytest.raises(DownloadError, match=r"an earlier download of .*had"):
        download("sbd", tmp_path)
    assert not (tmp_path / "B").exists()


def test_the_command_prints_checksums_terms_and_what_to_do_next(
    small: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "sbd", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert hashlib.sha256(small.files["/b.zip"]).hexdigest() in out
    assert "No checksum of b.zip is publicly known" in out
    assert f"next: pseudomask doctor --data {tmp_path}/A" in out
    assert "free See page" in err
    assert main(["download", "sbd", "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == f"{tmp_path}/A"


def test_the_command_ends_with_1_and_one_line_where_a_download_fails(
    small: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del small.files["/a.tgz"]
    assert main(["download", "voc12", "--out", str(tmp_path)]) == 1
    assert "answers 404" in capsys.readouterr().err.splitlines()[-1]


def test_every_set_is_a_choice_of_the_command() -> None:
    assert set(get_args(DownloadRequest.model_fields["name"].annotation)) == set(SETS)
    for chosen in SETS.values():
        assert chosen.terms
        assert all(file.url.startswith(("https://", "http://")) and file.name for file in chosen.files)
