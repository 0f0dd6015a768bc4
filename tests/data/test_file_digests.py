"""Digests of files that others may change: read once, and again when the file is another."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from data import files
from data.files import current_digest


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.jpg"
    read: list[Path] = []
    digest = files.file_digest
    monkeypatch.setattr(files, "file_digest", lambda path: read.append(path) or digest(path))
    file.write_bytes(b"first")
    # What was written a moment ago may be written again within the clock's step, so it is not remembered.
    assert current_digest(file) == current_digest(file) == hashlib.sha256(b"first").hexdigest()
    assert len(read) == 2
    time.sleep(0.11)
    for _ in range(3):
        assert current_digest(file) == hashlib.sha256(b"first").hexdigest()
    assert len(read) == 3
    # Of the same size and with its time put back.
    times = file.stat()
    file.write_bytes(b"other")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert current_digest(file) == hashlib.sha256(b"other").hexdigest()
    file.unlink()
    with pytest.raises(FileNotFoundError):
        current_digest(file)
