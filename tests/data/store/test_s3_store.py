"""A store in a bucket of a real S3 server on loopback."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from data.store import ArtifactError, open_store
from data.store.remote import CACHE_VARIABLE, RemoteStore

pytestmark = pytest.mark.services


@pytest.fixture
def address(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "one"))
    return f"{bucket}/{tmp_path.name}"


def make(address: str, key: str = "k1", num_files: int = 5) -> None:
    with open_store(address).create("walk", key) as draft:
        for number in range(num_files):
            (draft.folder / f"{number}.txt").write_text(f"{number}" * 1000)


def on_another_machine(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteStore:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "two"))
    store = open_store(address)
    assert isinstance(store, RemoteStore)
    return store


def test_a_bucket_is_a_store(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(address)
    assert not store.exists()
    store.prepare()
    make(address)
    two = on_another_machine(address, tmp_path, monkeypatch)
    assert two.exists()
    assert two.has("walk", "k1")
    assert not two.has("walk", "k2")
    assert list(two.artifacts()) == [("walk", "k1")]
    assert two.verify("walk", "k1") is None
    assert two.size("walk", "k1") > 5000
    two.remove("walk", "k1")
    assert two.verify("walk", "k1") == "missing"
    assert list(two.artifacts()) == []
    assert store.verify("walk", "k1") == "missing"
    assert store.republish("walk", "k1")
    shutil.rmtree(two.root)
    assert two.verify("walk", "k1") is None


def test_a_damaged_object_is_noticed(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(address)
    two = on_another_machine(address, tmp_path, monkeypatch)
    two._write("walk/k1/3.txt", b"4" * 1000)
    assert two.verify("walk", "k1") == "3.txt: damaged, its SHA-256 does not match the manifest"
    two._connection[0].rm_file(two._at("walk", "k1", "3.txt"))
    assert two.verify("walk", "k1") == "3.txt: missing"
    make(address)
    assert two.verify("walk", "k1") is None


def test_a_process_killed_while_it_uploads_leaves_nothing_to_see(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=make, args=(address, "k1", 400))
    process.start()
    two = on_another_machine(address, tmp_path, monkeypatch)
    deadline = time.monotonic() + 60
    while not two._names("walk/k1"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not two.has("walk", "k1")
    assert two.verify("walk", "k1") == "missing"
    assert list(two.artifacts()) == []
    # The killed process had its copy ready; its machine goes on from there.
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "one"))
    assert open_store(address).republish("walk", "k1")
    assert two.verify("walk", "k1") is None


def test_what_cannot_be_used_is_named_within_seconds(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArtifactError, match=r"^s3://no-such-bucket/x: .*bucket"):
        open_store("s3://no-such-bucket/x").prepare()
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with monkeypatch.context() as context:
        context.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(ArtifactError, match=r"^s3://pseudomask/x: cannot be read or written .*127\.0\.0\.1:9"):
            open_store("s3://pseudomask/x").prepare()
        s3fs.S3FileSystem.clear_instance_cache()
    with monkeypatch.context() as context:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            context.delenv(name)
        context.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(ArtifactError, match=r"^s3://pseudomask/x: .*redentials"):
            open_store("s3://pseudomask/x").prepare()
        s3fs.S3FileSystem.clear_instance_cache()
