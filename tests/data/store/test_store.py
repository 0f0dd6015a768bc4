"""The artifact store: whole or absent, checked byte for byte, errors that say what to do."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data.store import MANIFEST, ArtifactError, Store, explain_os_errors
from data.store.local import _json_digest, parse_manifest


def _make(store: Store, key: str = "k1", text: str = "hello") -> Path:
    with store.create("walk", key) as draft:
        (draft.folder / "sub").mkdir()
        (draft.folder / "sub" / "a.txt").write_text(text)
        draft.manifest["summary"] = {"rows": (1, 2)}
    return store.path("walk", key)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.prepare()
    return store


def test_a_published_artifact_is_whole_and_leaves_no_temporary_folder(store: Store) -> None:
    folder = _make(store)
    assert store.verify("walk", "k1") is None
    assert (folder / "sub" / "a.txt").read_text() == "hello"
    manifest = store.read_manifest("walk", "k1")
    assert manifest["files"]["sub/a.txt"]["size"] == 5
    assert manifest["summary"] == {"rows": [1, 2]}
    assert not [path for path in (store.root / ".tmp").rglob("*") if path.name.startswith("walk")]


def test_an_exception_in_the_block_publishes_nothing(store: Store) -> None:
    with pytest.raises(IsADirectoryError), store.create("walk", "k1") as draft:
        draft.folder.write_text("half")
    assert store.verify("walk", "k1") == "missing"


@pytest.mark.parametrize("name", ["sub/a.txt", MANIFEST])
def test_one_flipped_byte_anywhere_is_found(store: Store, name: str) -> None:
    file = _make(store) / name
    original = file.read_bytes()
    for position, byte in enumerate(original):
        if chr(byte).isspace():
            continue
        file.write_bytes(original[:position] + bytes([byte ^ 1]) + original[position + 1 :])
        problem = store.verify("walk", "k1")
        assert problem is not None, f"flip at byte {position} went unseen"
        assert problem.startswith(name)


def test_lost_files_and_folders_are_named(store: Store) -> None:
    folder = _make(store)
    (folder / "sub" / "a.txt").write_text("hello!")
    assert store.verify("walk", "k1") == "sub/a.txt: 6 bytes, the manifest says 5"
    (folder / "sub" / "a.txt").unlink()
    assert store.verify("walk", "k1") == "sub/a.txt: missing"
    (folder / MANIFEST).unlink()
    assert store.verify("walk", "k1") == "manifest.json: missing"


def test_the_first_to_publish_stays(store: Store) -> None:
    with store.create("walk", "k1") as late:
        (late.folder / "who").write_text("late")
        with store.create("walk", "k1") as early:
            (early.folder / "who").write_text("early")
    assert (store.path("walk", "k1") / "who").read_text() == "early"
    assert store.verify("walk", "k1") is None


def test_a_damaged_artifact_is_replaced(store: Store) -> None:
    (_make(store) / "sub" / "a.txt").write_text("jello")
    _make(store)
    assert store.verify("walk", "k1") is None


def test_leftovers_of_dead_processes_go_and_those_of_living_stay(store: Store) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    old = store._temporary / f"walk-k1-{dead.pid}-abcd"
    own = store._temporary / f"walk-k1-{os.getpid()}-abcd"
    old.mkdir()
    own.mkdir()
    store.prepare()
    assert not old.exists()
    assert own.exists()


def test_scratch_outlives_a_failure_and_goes_with_publication(store: Store) -> None:
    (store.scratch("walk", "k1") / "checkpoint").write_text("epoch 3")
    with pytest.raises(ZeroDivisionError), store.create("walk", "k1"):
        raise ZeroDivisionError
    assert (store.scratch("walk", "k1") / "checkpoint").read_text() == "epoch 3"
    _make(store)
    assert not (store.root / ".scratch" / "walk-k1").exists()


def test_who_has_claimed_an_artifact_makes_it_alone_and_a_dead_process_has_not(store: Store) -> None:
    program = (
        "import sys, time; from pathlib import Path; from data.store import Store\n"
        "with Store(Path(sys.argv[1])).claim('irnet', 'k1'): print('claimed', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(store.root)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "claimed\n"
    waited = threading.Event()

    def wait() -> None:
        with store.claim("irnet", "k1"):
            waited.set()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    with store.claim("irnet", "k2"):
        assert not waited.wait(0.3)
    other.kill()
    other.wait()
    assert waited.wait(10)


def test_adopt_copies_a_whole_artifact_and_refuses_a_damaged_one(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    folder = _make(other)
    store.adopt(other, "walk", "k1")
    assert store.verify("walk", "k1") is None
    (folder / "sub" / "a.txt").write_text("jello")
    with pytest.raises(ArtifactError, match=r"sub/a\.txt: damaged"):
        Store(tmp_path / "third").adopt(other, "walk", "k1")


def test_a_file_in_the_place_of_the_store_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"cannot be written .*--store"):
        Store(tmp_path / "file").prepare()


def test_no_space_left_names_the_folder_and_what_to_do(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"no space left.*--store.*kept"):
        _make(store)
    assert store.verify("walk", "k1") == "missing"


@pytest.mark.parametrize("number", [errno.EIO, errno.EFBIG, errno.EISDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG])
def test_every_error_of_the_system_names_the_folder_and_what_to_do(tmp_path: Path, number: int) -> None:
    with pytest.raises(ArtifactError, match=rf"{tmp_path}: .*\({os.strerror(number)}\); "), explain_os_errors(tmp_path):
        raise OSError(number, os.strerror(number))


UNSAFE = ["../../docs", "/etc", "", ".", "..", "a/b", "a\\b", "C:", "k\n", ".hidden", 5, None]


@pytest.mark.parametrize("name", UNSAFE)
def test_a_stage_or_key_that_is_no_plain_name_opens_no_path(store: Store, name: str) -> None:
    other = Store(store.root.parent / "other")
    for stage, key in ((name, "k1"), ("walk", name)):
        calls = (store.path, store.fetch, store.verify, store.read_manifest, store.scratch, store.remove)
        for call in (*calls, lambda *place: store.adopt(other, *place)):
            with pytest.raises(ArtifactError, match=r"expected the (stage|key) of an artifact"):
                call(stage, key)
        for manager in (store.create, store.claim):
            with pytest.raises(ArtifactError, match=r"expected the (stage|key)"), manager(stage, key):
                pass


LEAVING = [
    "../x",
    "/home/user/.profile",
    "a/../../x",
    "SegmentationClass/../../x",
    "C:x",
    "a\\b",
    "",
    ".",
    "a//b",
    "./a",
]


@pytest.mark.parametrize("name", [*LEAVING, MANIFEST])
def test_a_manifest_lists_only_files_inside_its_artifact(store: Store, name: str) -> None:
    manifest = {"stage": "walk", "key": "k1", "files": {name: {"size": 1, "sha256": "0"}}}
    manifest["sha256"] = _json_digest(manifest)
    with pytest.raises(ValueError, match="expected files inside the artifact"):
        parse_manifest(json.dumps(manifest).encode(), "walk", "k1")
    _make(store)
    (store.path("walk", "k1") / MANIFEST).write_text(json.dumps(manifest))
    assert "expected files inside" in str(store.verify("walk", "k1"))


@pytest.mark.parametrize("content", ["[]", "5", "null", "[" * 100_000, '{"sha256": 1}'])
def test_a_manifest_that_is_none_is_unreadable(content: str) -> None:
    with pytest.raises(ValueError, match=r"unreadable|damaged"):
        parse_manifest(content.encode(), "walk", "k1")


@pytest.mark.parametrize("name", [".nfs0001", "x-y-z", "x", "a-1-b", "-1-", "mine-12-notes"])
def test_strange_names_among_temporary_folders_are_left_alone(store: Store, name: str) -> None:
    (store._temporary / name).mkdir()
    store.prepare()
    assert (store._temporary / name).is_dir()


def test_work_in_progress_of_a_process_that_is_not_seen_here_stays(store: Store) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = store._temporary / f"walk-k1-{dead.pid}-01234567"
    folder.mkdir()
    # As another container holds it, whose process ids are its own.
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    store.prepare()
    assert folder.is_dir()
    os.close(descriptor)
    store.prepare()
    assert not folder.exists()


def test_a_draft_is_held_while_it_is_written(store: Store) -> None:
    with store.create("walk", "k1") as draft:
        descriptor = os.open(draft.folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


def test_a_store_keeps_its_id_wherever_it_is(store: Store) -> None:
    name = store.identity()
    assert name
    moved = Store(store.root.rename(store.root.parent / "moved"))
    moved.prepare()
    assert moved.identity() == name
    assert Store(store.root).identity() is None
