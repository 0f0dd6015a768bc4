"""Stage functions without networks, for the tests of the engine; workers import them by name."""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from tasks.engine.job import Job


def echo(job: Job) -> dict[str, Any]:
    """Write a line a sample, made of the inputs' lines, and report progress."""
    texts = [file.read_text() for folders in job.inputs.values() for folder in folders for file in folder.glob("*.txt")]
    for done, sample in enumerate(job.samples, start=1):
        (job.out / f"{sample.id}.txt").write_text(f"{sample.id} {len(texts)}\n")
        job.progress(done, len(job.samples), "echo")
    return {"samples": len(job.samples), "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}


def warn(job: Job) -> dict[str, Any]:
    log = logging.getLogger("tasks.toy")
    log.info("not told")
    log.warning("watch out: %d", 3)
    return {}


def fail(job: Job) -> dict[str, Any]:
    """Raise."""
    raise ValueError("three is not even")


def fail_on_b(job: Job) -> dict[str, Any]:
    """Raise for the shard that holds sample b."""
    if any(sample.id == "b" for sample in job.samples):
        raise ValueError("b is bad")
    return echo(job)


def killed(job: Job) -> dict[str, Any]:
    """Die as the kernel's memory killer has it."""
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def leave(job: Job) -> dict[str, Any]:
    """Exit."""
    os._exit(3)


def fill_disk(job: Job) -> dict[str, Any]:
    """Find the device full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def hang(job: Job) -> dict[str, Any]:
    """Say who runs, and never return."""
    (job.out / "pid").write_text(str(os.getpid()))
    Path(job.out / "ready").touch()
    time.sleep(600)
    return {}


def overlap(job: Job) -> dict[str, Any]:
    """Hold a folder in the scratch for a moment, and return how many others did meanwhile."""
    mine = job.scratch / str(os.getpid())
    mine.mkdir()
    time.sleep(0.3)
    together = len(list(job.scratch.iterdir()))
    time.sleep(0.3)
    mine.rmdir()
    return {"together": together}
