"""A store at an address: the truth is there, this machine has copies, and nobody sees a part of an artifact."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from data.store import MANIFEST, ArtifactError, Store, open_store, store_address
from data.store.local import _json_digest
from data.store.remote import CACHE_VARIABLE, RemoteStore, cache_folder


class FolderFileSystem(LocalFileSystem):
    """A folder that is reached like any other file system."""

    protocol = "folder"

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return super()._strip_protocol(str(path).removeprefix("folder://"))


fsspec.register_implementation("folder", FolderFileSystem)
ADDRESSES = ["memory://bucket/store", "folder://{tmp_path}/bucket/store"]


class Machines:
    """Machines that use the store at one address, each with a cache of its own."""

    def __init__(self, address: str, caches: Path, environment: pytest.MonkeyPatch) -> None:
        self.address = address
        self._caches = caches
        self._environment = environment

    def __call__(self, name: str) -> RemoteStore:
        self._environment.setenv(CACHE_VARIABLE, str(self._caches / name))
        self._environment.setattr("socket.gethostname", lambda: name)
        store = open_store(self.address)
        assert isinstance(store, RemoteStore)
        return store


@pytest.fixture(params=ADDRESSES)
def machines(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    # Whoever makes an instance says that it makes folders, which object stores need not.
    address = request.param.format(tmp_path=tmp_path)
    fsspec.config.conf["folder"] = {"auto_mkdir": True}
    yield Machines(address, tmp_path / "caches", monkeypatch)
    fsspec.config.conf.pop("folder")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is asked of the file systems: the names of the files that were downloaded and uploaded."""
    counts: Counter[str] = Counter()

    def count(kind: type, method: str, position: int) -> None:
        original = getattr(kind, method)

        def counted(self: Any, *words: Any, **more: Any) -> None:
            counts[f"{method} {Path(words[position]).name}"] += 1
            return original(self, *words, **more)

        monkeypatch.setattr(kind, method, counted)

    for kind in (MemoryFileSystem, FolderFileSystem):
        count(kind, "get_file", 0)
        count(kind, "put_file", 1)
    return counts


def make(store: Store, key: str = "k1", text: str = "hello") -> None:
    with store.create("walk", key) as draft:
        (draft.folder / "sub").mkdir()
        (draft.folder / "sub" / "a.txt").write_text(text)
        (draft.folder / "b [1].txt").write_text("x")
        draft.manifest["summary"] = {"rows": 1}


def overwrite(store: RemoteStore, name: str, content: bytes) -> None:
    store._write(name, content)


def test_one_machine_reads_what_another_made(machines: Machines) -> None:
    make(machines("one"))
    two = machines("two")
    assert two.has("walk", "k1")
    assert two.read_manifest("walk", "k1")["summary"] == {"rows": 1}
    assert not two.path("walk", "k1").exists()
    assert two.verify("walk", "k1") is None
    assert (two.path("walk", "k1") / "sub" / "a.txt").read_text() == "hello"
    assert (two.fetch("walk", "k1") / "b [1].txt").read_text() == "x"
    assert list(two.artifacts()) == list(two.artifacts("walk")) == [("walk", "k1")]
    assert two.size("walk", "k1") > 6


def test_a_copy_is_downloaded_once_and_the_manifest_uploaded_last(machines: Machines, requests: Counter[str]) -> None:
    make(machines("one"))
    assert list(requests)[-1] == f"put_file {MANIFEST}"
    two = machines("two")
    requests.clear()
    assert two.verify("walk", "k1") is None
    assert requests == {"get_file a.txt": 1, "get_file b [1].txt": 1}
    requests.clear()
    assert two.verify("walk", "k1") is None
    two.fetch("walk", "k1")
    assert machines("one").verify("walk", "k1") is None
    assert not requests


def test_several_that_ask_at_once_share_one_download(machines: Machines, requests: Counter[str]) -> None:
    make(machines("one"))
    two = machines("two")
    requests.clear()
    with ThreadPoolExecutor(8) as threads:
        folders = list(threads.map(lambda _: two.fetch("walk", "k1"), range(8)))
    assert {(folder / "sub" / "a.txt").read_text() for folder in folders} == {"hello"}
    assert requests["get_file a.txt"] == 1


def test_a_damaged_copy_is_downloaded_again(machines: Machines) -> None:
    make(machines("one"))
    one = machines("one")
    (one.path("walk", "k1") / "sub" / "a.txt").write_text("jello")
    assert one.verify("walk", "k1") is None
    assert (one.path("walk", "k1") / "sub" / "a.txt").read_text() == "hello"


@pytest.mark.parametrize(
    ("content", "problem"), [(b"jello", "damaged"), (b"hello!", "6 bytes, the manifest says 5"), (None, "missing")]
)
def test_a_damaged_object_is_noticed_and_made_again(machines: Machines, content: bytes | None, problem: str) -> None:
    make(machines("one"))
    two = machines("two")
    with two._reaching() as files:
        files.rm_file(two._at("walk", "k1", "sub", "a.txt"))
    if content is not None:
        overwrite(two, "walk/k1/sub/a.txt", content)
    assert two.verify("walk", "k1") == f"sub/a.txt: {problem}" + (
        ", its SHA-256 does not match the manifest" if problem == "damaged" else ""
    )
    with pytest.raises(ArtifactError, match=r"walk/k1: sub/a\.txt: .*the command of the run makes it again"):
        two.fetch("walk", "k1")
    assert not two.path("walk", "k1").exists()
    make(two)
    assert machines("three").verify("walk", "k1") is None
    # The manifest changed with it where the content did; who had a copy takes the new one.
    assert machines("one").verify("walk", "k1") is None


def test_a_damaged_manifest_is_noticed(machines: Machines) -> None:
    make(machines("one"))
    two = machines("two")
    overwrite(two, f"walk/k1/{MANIFEST}", b'{"files": {')
    assert str(two.verify("walk", "k1")).startswith("manifest.json: unreadable")
    with pytest.raises(ArtifactError, match=r"bucket/store/walk/k1/manifest\.json: unreadable"):
        two.read_manifest("walk", "k1")


def test_what_is_gone_from_the_address_is_missing_and_published_again_from_a_copy(machines: Machines) -> None:
    one = machines("one")
    make(one)
    machines("two").remove("walk", "k1")
    assert one.verify("walk", "k1") == "missing"
    assert not one.has("walk", "k1")
    assert not machines("two").republish("walk", "k1")
    assert machines("one").republish("walk", "k1")
    assert machines("two").verify("walk", "k1") is None


def test_an_upload_that_is_killed_is_invisible_and_goes_on(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    one = machines("one")
    kind = type(one._connection[0])
    put = kind.put

    def killed(self: Any, here: list[str], there: list[str]) -> None:
        put(self, here[:1], there[:1])
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(kind, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            make(one)
    two = machines("two")
    assert two.verify("walk", "k1") == "missing"
    assert not two.has("walk", "k1")
    assert not list(two.artifacts())
    assert one.republish("walk", "k1")
    assert two.verify("walk", "k1") is None


def test_the_first_of_two_writers_stays(machines: Machines) -> None:
    one = machines("one")
    with one.create("walk", "k1") as late:
        (late.folder / "who").write_text("late")
        with machines("two").create("walk", "k1") as early:
            (early.folder / "who").write_text("early")
    assert one.verify("walk", "k1") is None
    assert (one.path("walk", "k1") / "who").read_text() == "early"


def test_two_writers_at_once_leave_a_whole_artifact(machines: Machines) -> None:
    stores = [machines("one"), machines("two")]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(make, stores))
    assert machines("three").verify("walk", "k1") is None


def test_adoption_goes_both_ways(machines: Machines, tmp_path: Path) -> None:
    local = Store(tmp_path / "local")
    make(local)
    one = machines("one")
    one.adopt(local, "walk", "k1")
    assert machines("two").verify("walk", "k1") is None
    other = Store(tmp_path / "other")
    other.adopt(machines("two"), "walk", "k1")
    assert other.verify("walk", "k1") is None


def test_users_of_other_machines_bring_their_records(machines: Machines, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    machines("one").register(run)
    os.utime(run / "run.json", (0, 0))
    assert machines("two").users() == [run]
    shutil.rmtree(run)
    assert machines("one").users() == [run]
    two = machines("two")
    assert two.users() == [two.root / ".users" / "one" / run.relative_to("/")]
    assert (two.users()[0] / "run.json").read_text() == "{}"


def test_preparing_writes_nothing_that_stays(machines: Machines) -> None:
    one = machines("one")
    one.prepare()
    assert list(one.artifacts()) == []
    assert one._names() == []
    make(one)
    assert one.exists()


def test_checkpoints_stay_on_this_machine_until_published(machines: Machines) -> None:
    one = machines("one")
    assert one.scratch("walk", "k1").is_relative_to(one.root)
    make(one)
    assert not (one.root / ".scratch" / "walk-k1").exists()


def test_a_full_disk_is_this_machines(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    make(machines("one"))
    two = machines("two")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(two._connection[0]), "get", full)
    with pytest.raises(ArtifactError, match=r"caches/two/.*no space left"):
        two.verify("walk", "k1")


def test_a_store_goes_to_another_machine_by_its_address(machines: Machines) -> None:
    one = machines("one")
    two = machines("two")
    # A copy is made as what was sent is made anew: by what the store says of itself.
    assert copy.copy(one).root == two.root != one.root


def test_an_address_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    fsspec.register_implementation("absent", "no_such_package.Files", errtxt="Install absentfs to access Absent")
    with pytest.raises(ArtifactError, match=r"^absent://x: Install absentfs .* absent:// is not installed"):
        open_store("absent://x").prepare()
    with pytest.raises(ArtifactError, match=r"^nothing://x: .*nothing.*--store"):
        open_store("nothing://x").prepare()


@pytest.mark.parametrize("address", ["{}", "file://{}", "local://{}", "{}/", "{}/sub/.."])
def test_an_address_of_a_folder_is_a_plain_store(tmp_path: Path, address: str) -> None:
    store = open_store(address.format(tmp_path / "store"))
    assert type(store) is Store
    assert (store.root, store.address) == (tmp_path / "store", str(tmp_path / "store"))


def test_an_address_has_one_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_address("store") == str(tmp_path / "store")
    assert store_address("s3://bucket/prefix/") == "s3://bucket/prefix"
    assert cache_folder("s3://bucket/a") != cache_folder("s3://bucket/b")


@pytest.mark.parametrize(
    "change",
    [
        {"host": "../../../../home/user/x"},
        {"host": ".."},
        {"host": None},
        {"record": "/home/user/x/a"},
        {"record": "../a"},
        {"record": "a"},
        {"folder": "/a/../../x"},
        {"folder": "relative"},
        {"folder": 5},
        {"content": 5},
        {"time": "now"},
    ],
)
def test_a_note_of_a_user_writes_nothing_but_a_record(machines: Machines, change: dict[str, object]) -> None:
    store = machines("two")
    note = {"folder": "/x", "host": "one", "time": 0, "record": "run.json", "content": "evil"} | change
    store._write(".users/note.json", json.dumps(note).encode())
    with pytest.raises(ArtifactError, match=r"\.users/note.json: expected the note"):
        store.users()
    assert not list(store.root.rglob("*evil*"))
    assert not [file for file in (store.root / ".users").rglob("*") if file.is_file()]


def test_a_manifest_at_the_address_brings_only_files_of_its_artifact(machines: Machines, tmp_path: Path) -> None:
    store, target = machines("one"), tmp_path / "planted"
    for name in (str(target), "../../planted"):
        content = b"evil"
        entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest = {"stage": "walk", "key": "k1", "files": {name: entry}}
        manifest["sha256"] = _json_digest(manifest)
        store._write("walk/k1/manifest.json", json.dumps(manifest).encode())
        assert "expected files inside the artifact" in str(store.verify("walk", "k1"))
        with pytest.raises(ArtifactError, match="expected files inside the artifact"):
            store.fetch("walk", "k1")
    assert not target.exists()
