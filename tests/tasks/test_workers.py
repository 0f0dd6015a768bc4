"""The worker pool: answers, progress, slots, and deaths of either side."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data.dataset import ClassTable, Sample
from tasks.config import Config
from tasks.engine.job import Job
from tasks.engine.workers import StageError, WorkerPool

TOYS = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def _toys_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOYS)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "out").mkdir()
    (tmp_path / "scratch").mkdir()
    samples = tuple(Sample(name, Path(f"{name}.png"), ()) for name in "abc")
    return Job(samples, ClassTable(("cat",)), Config(), out=tmp_path / "out", scratch=tmp_path / "scratch")


def _wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def _runs(pid: int) -> bool:
    """Return whether a process runs; a zombie that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_answers_reports_progress_and_is_used_again(pool: WorkerPool, job: Job) -> None:
    seen: list[tuple] = []
    job = dataclasses.replace(job, progress=lambda *what: seen.append(what))
    first = pool.run("toy_stages:echo", job, "walk 01/01")
    assert (first["samples"], first["threads"]) == (3, "1")
    assert first["pid"] != os.getpid()
    assert seen[-1] == (3, 3, "echo")
    assert pool.run("toy_stages:echo", job, "walk 01/01")["pid"] == first["pid"]


def test_a_worker_outlives_the_thread_that_asked_for_it(pool: WorkerPool, job: Job) -> None:
    # Linux sends the death signal when the thread that started a process ends, not only when its process does.
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(pool.run, "toy_stages:echo", job, "walk").result()
    assert pool.run("toy_stages:echo", job, "walk")["pid"] == first["pid"]


def test_a_worker_gets_the_threads_of_its_job(pool: WorkerPool, job: Job) -> None:
    job = dataclasses.replace(job, num_threads=2)
    assert pool.run("toy_stages:echo", job, "irnet", exclusive=True)["threads"] == "2"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fail", "^walk 03/16: three is not even$"),
        ("killed", "^walk 03/16: its worker process was killed .* memory; try fewer --workers"),
        ("leave", r"^walk 03/16: its worker process died \(exit code 3\)"),
        ("nowhere", "^walk 03/16: .*nowhere"),
    ],
)
def test_a_failure_names_stage_and_shard_and_spares_the_pool(
    pool: WorkerPool, job: Job, function: str, message: str
) -> None:
    with pytest.raises(StageError, match=message):
        pool.run(f"toy_stages:{function}", job, "walk 03/16")
    assert pool.run("toy_stages:echo", job, "walk 04/16")["samples"] == 3


def test_an_exception_brings_its_traceback_and_a_full_disk_is_told_apart(pool: WorkerPool, job: Job) -> None:
    with pytest.raises(StageError) as raised:
        pool.run("toy_stages:fail", job, "walk")
    assert "in fail" in raised.value.trace
    assert not raised.value.no_space
    with pytest.raises(StageError) as raised:
        pool.run("toy_stages:fill_disk", job, "walk")
    assert raised.value.no_space


def test_one_killed_worker_costs_only_its_own_job(pool: WorkerPool, job: Job) -> None:
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(pool.run, "toy_stages:overlap", job, "walk 01/02")
        _wait_until(lambda: any(job.scratch.iterdir()))
        with pytest.raises(StageError, match="killed"):
            pool.run("toy_stages:killed", job, "walk 02/02")
        assert other.result()["together"] == 1


@pytest.mark.parametrize("exclusive", [True, False])
def test_an_exclusive_job_runs_alone_and_others_side_by_side(pool: WorkerPool, job: Job, exclusive: bool) -> None:
    together: list[int] = []
    for _ in range(2):  # Both workers warm first, so that their start does not keep the jobs apart.
        with ThreadPoolExecutor(2) as threads:
            runs = [threads.submit(pool.run, "toy_stages:overlap", job, "walk", exclusive=exclusive) for _ in "ab"]
            together = [run.result()["together"] for run in runs]
    assert max(together) == (1 if exclusive else 2)


def test_closing_ends_a_job_at_once_with_an_error(pool: WorkerPool, job: Job) -> None:
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(pool.run, "toy_stages:hang", job, "irnet")
        assert _wait_until((job.out / "ready").exists)
        pool.close()
        with pytest.raises(StageError, match="irnet: "):
            run.result()
    assert not _runs(int((job.out / "pid").read_text()))


def test_workers_die_when_their_parent_is_killed(job: Job) -> None:
    script = (
        "import sys; from pathlib import Path; from data.dataset import ClassTable; from tasks.config import Config\n"
        "from tasks.engine.job import Job; from tasks.engine.workers import WorkerPool\n"
        "out = Path(sys.argv[1])\n"
        "job = Job((), ClassTable(('cat',)), Config(), out=out, scratch=out)\n"
        "WorkerPool(1).run('toy_stages:hang', job, 'walk')\n"
    )
    paths = os.pathsep.join([TOYS, str(Path(TOYS).parent.parent)])
    parent = subprocess.Popen([sys.executable, "-c", script, str(job.out)], env=os.environ | {"PYTHONPATH": paths})
    assert _wait_until((job.out / "ready").exists)
    worker = int((job.out / "pid").read_text())
    assert _runs(worker)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _wait_until(lambda: not _runs(worker))


def test_a_workers_log_lines_reach_the_parents_loggers(
    pool: WorkerPool, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    pool.run("toy_stages:warn", job, "toy")
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("tasks.toy", "WARNING", "watch out: 3")
    ]
