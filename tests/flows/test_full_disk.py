"""A disk that fills up in the middle of a run: an error that says so, and nothing lost."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_flows_support import OWN_SERVER, pseudomask, run_words


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which only root can mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount a small file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Write a file that leaves so many bytes."""
    filler = disk / "filler"
    free = shutil.disk_usage(disk).free
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, free - leave)
    return filler


@pytest.mark.parametrize(
    ("missing", "room_for_server"),
    [
        ("irnet", True),
        pytest.param("walk", True, marks=pytest.mark.slow),
        pytest.param("walk", False, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_named_and_the_same_command_goes_on(
    first_run: tuple[Path, dict],
    tiny_data: Path,
    small_disk: Path,
    tmp_path: Path,
    missing: str,
    room_for_server: bool,
) -> None:
    store = small_disk / "store"
    shutil.copytree(first_run[0] / "store", store, ignore=shutil.ignore_patterns(".*"))
    lost = sorted((store / missing).iterdir())
    kept = {m: m.stat().st_mtime_ns for m in store.glob("*/*/manifest.json") if m.parent not in lost}
    for folder in lost:
        shutil.rmtree(folder)
    if room_for_server:
        (tmp_path / "server").mkdir()
        (store / ".prefect").symlink_to(tmp_path / "server")
    filler = fill(small_disk, leave=16_000)
    words = run_words(tiny_data, tmp_path, ["--store", store])
    answer = pseudomask(*words, server=OWN_SERVER)
    assert answer.returncode == 1, answer.stderr
    assert "no space left" in answer.stderr
    assert str(store) in answer.stderr
    assert "Traceback" not in answer.stderr
    assert all(m.stat().st_mtime_ns == time for m, time in kept.items())
    filler.unlink()
    answer = pseudomask(*words, server=OWN_SERVER)
    assert answer.returncode == 0, answer.stderr
    assert all(folder.is_dir() for folder in lost)
    assert {m: m.stat().st_mtime_ns for m in kept} == kept
