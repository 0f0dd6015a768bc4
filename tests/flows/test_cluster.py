"""Runs on a Dask cluster, with the store in a bucket: the labels of a run on one machine, whatever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests_flows_support import ROOT, pseudomask, run_words

from data.store import open_store

pytestmark = pytest.mark.services


@pytest.fixture
def store(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PSEUDOMASK_CACHE", str(tmp_path / "cache"))
    return f"{bucket}/{tmp_path.name}"


def labels_of(folder: Path) -> dict[str, bytes]:
    labels = folder / "run" / "labels"
    return {p.relative_to(labels).as_posix(): p.read_bytes() for p in sorted(labels.rglob("*")) if p.is_file()}


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def scheduler(store: str, tmp_path: Path) -> Iterator[tuple[str, list[int]]]:
    """Start a scheduler and two workers; return its address, and the process ids of those who mind the workers."""
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def start(*words: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{words[0]}.log").open("ab")
        return subprocess.Popen([*dask, *words], cwd=ROOT, env=environment, stdout=log, stderr=log)

    started = [
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
    ]
    wait_until(lambda: file.is_file() and file.stat().st_size > 0)
    address = json.loads(file.read_text())["address"]
    started += [start("worker", address, "--nthreads", "1", "--no-dashboard") for _ in range(2)]
    yield address, [process.pid for process in started[1:]]
    for process in reversed(started):
        process.kill()
        process.wait()


def worker_of(minder: int) -> int | None:
    """Return the process id of the Dask worker that a nanny has started, None before."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == minder and b"spawn_main" in words:
            return int(entry.name)
    return None


def test_a_cluster_with_a_bucket_makes_the_labels_of_one_machine(
    tiny_data: Path, first_run: tuple[Path, dict], store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = run_words(tiny_data, tmp_path, ["--store", store, "--cluster", "local:2", "--json"])
    answer = pseudomask(*words)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["store"] == store
    assert labels_of(tmp_path) == labels_of(first_run[0])
    # Another machine finds all of it made.
    before = {pair: open_store(store).read_manifest(*pair)["finished"] for pair in open_store(store).artifacts()}
    monkeypatch.setenv("PSEUDOMASK_CACHE", str(tmp_path / "other cache"))
    again = pseudomask(*run_words(tiny_data, tmp_path / "again", ["--store", store]))
    assert again.returncode == 0, again.stderr
    assert labels_of(tmp_path / "again") == labels_of(first_run[0])
    after = {pair: open_store(store).read_manifest(*pair)["finished"] for pair in open_store(store).artifacts()}
    assert after == before
    status = json.loads(pseudomask("status", tmp_path / "again" / "run", "--json").stdout)
    assert {stage["state"] for stage in status["stages"].values()} == {"cached"}
    assert len(json.loads(pseudomask("status", store, "--json").stdout)["runs"]) == 2
    assert json.loads(pseudomask("gc", store, "--json").stdout)["stages"] == {}


def test_a_dask_worker_killed_in_mid_run_costs_its_shards_alone(
    tiny_data: Path, first_run: tuple[Path, dict], store: str, scheduler: tuple[str, list[int]], tmp_path: Path
) -> None:
    address, minders = scheduler
    words = run_words(tiny_data, tmp_path, ["--store", store, "--cluster", address])
    run = subprocess.Popen(
        [sys.executable, "-m", "flows", *map(str, words)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen = open_store(store)
    wait_until(lambda: run.poll() is not None or any((seen.root / ".tmp").glob("*/cams-*")))
    assert run.poll() is None, run.communicate()[1]
    finished = {pair: seen.fetch(*pair).joinpath("manifest.json").read_bytes() for pair in seen.artifacts()}
    assert [stage for stage, _ in finished] == ["classifier"]
    # Both workers are at a shard of the same stage, or will be in a moment.
    worker = worker_of(minders[0])
    assert worker
    os.kill(worker, signal.SIGKILL)
    assert run.wait(600) == 0, run.communicate()[1]
    assert {pair: seen.fetch(*pair).joinpath("manifest.json").read_bytes() for pair in finished} == finished
    assert labels_of(tmp_path) == labels_of(first_run[0])


def test_an_address_where_no_scheduler_answers_is_an_error_of_seconds(tiny_data: Path, tmp_path: Path) -> None:
    answer = pseudomask(*run_words(tiny_data, tmp_path, ["--cluster", "tcp://127.0.0.1:9"]))
    assert answer.returncode == 1
    assert "tcp://127.0.0.1:9: no Dask scheduler answers" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "store").exists()
    refused = pseudomask(*run_words(tiny_data, tmp_path, ["--cluster", "everywhere"]))
    assert refused.returncode == 2
    assert "cluster" in refused.stderr
