"""A run killed in each stage in turn goes on where it was, and ends like one that was never disturbed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests_flows_support import ROOT, pseudomask, run_words

pytestmark = pytest.mark.slow
STAGES = ["classifier", "cams", "thresholds", "relations", "irnet", "fields"]
STAGES += ["walk", "label-thresholds", "pixel-classifier", "pixel-scores", "labels", "quality", "scores", "metrics"]


def labels_of(folder: Path) -> dict[str, bytes]:
    labels = folder / "run" / "labels"
    return {p.relative_to(labels).as_posix(): p.read_bytes() for p in sorted(labels.rglob("*")) if p.is_file()}


def manifests(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in (folder / "store").glob("*/*/manifest.json")}


def processes_of(group: int, folder: Path) -> list[str]:
    """Return the command lines of living processes that belong to a killed run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if int(entry.name) != group and str(folder).encode() in environment + b" ".join(words):
            found.append(" ".join(word.decode(errors="replace") for word in words))
    return found


def begun(folder: Path, stage: str) -> bool:
    """Return whether a worker is making an artifact of the stage, or one was published."""
    drafts = (folder / "store" / ".tmp").glob(f"*/{stage}-*")
    return any(drafts) or any((folder / "store" / stage).glob("*/manifest.json"))


def kill_in(stage: str, words: list[str | Path], folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    run = subprocess.Popen(
        [sys.executable, "-m", "flows", *map(str, words)],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not begun(folder, stage) and run.poll() is None:
        assert time.monotonic() < deadline, f"{stage} never began"
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def test_a_run_killed_in_each_stage_ends_like_an_undisturbed_one(tiny_data: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    answer = pseudomask(*run_words(tiny_data, undisturbed))
    assert answer.returncode == 0, answer.stderr
    words = run_words(tiny_data, killed)
    finished: dict[str, int] = {}
    for stage in STAGES:
        kill_in(stage, words, killed)
        time.sleep(0.5)
        assert processes_of(os.getpid(), killed) == []
        now = manifests(killed)
        assert {name: now.get(name) for name in finished} == finished
        finished = now
    answer = pseudomask(*words)
    assert answer.returncode == 0, answer.stderr
    now = manifests(killed)
    assert {name: now[name] for name in finished} == finished
    assert labels_of(killed) == labels_of(undisturbed)
