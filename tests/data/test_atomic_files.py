"""Files are replaced completely or not at all, and a lock has one holder."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data.files import atomic_write, file_lock, replacing, temporary_beside, try_lock


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_folders_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "first" / "metrics.json"
    atomic_write(file, "ä")
    atomic_write(file, memoryview(b"new"), durable=True)
    assert file.read_bytes() == b"new"
    assert _names(file.parent) == ["metrics.json"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "a", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    file = tmp_path / ".mark.json"
    file.write_text("old")
    with replacing(file) as temporary:
        temporary.write_text("half")
        assert file.read_text() == "old"
        # Hidden, in the same folder, and told by its begin.
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".mark.json.")
    assert file.read_text() == "half"


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = tmp_path / "checkpoint.pt"
    file.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(file, "new", durable=True)
    assert file.read_text() == "old"
    assert _names(tmp_path) == ["checkpoint.pt"]


def test_a_durable_file_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, synced = tmp_path / "checkpoint.pt", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_size, file.exists())))
    atomic_write(file, "four", durable=True)
    assert synced == [(4, False)]


def test_a_folder_under_a_temporary_name_is_deleted(tmp_path: Path) -> None:
    with temporary_beside(tmp_path / "export") as temporary:
        (temporary / "sub").mkdir(parents=True)
        (temporary / "sub" / "a.png").touch()
    assert _names(tmp_path) == []


def test_a_lock_has_one_holder_and_a_killed_one_loses_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "lock"
    program = (
        "import sys, time; from pathlib import Path; from data.files import file_lock\n"
        "with file_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert try_lock(file) is None
    held = threading.Event()

    def wait() -> None:
        with file_lock(file, "somebody is at work: waiting"):
            held.set()

    with caplog.at_level(logging.INFO, "data.files"):
        threading.Thread(target=wait, daemon=True).start()
        assert not held.wait(0.3)
        assert caplog.messages == ["somebody is at work: waiting"]
        other.kill()
        other.wait()
        assert held.wait(10)


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        try_lock(tmp_path / "lock")
