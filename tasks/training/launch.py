"""Running a training stage in several processes that work on one network: what `torchrun` does, from within a task."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import traceback
from dataclasses import replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tasks.engine.job import Job, StageFunction
from tasks.engine.workers import die_with_parent, keep_freed_memory, limit_threads
from tasks.training.loop import TrainingError


def run_in_processes(function: StageFunction, job: Job, num_processes: int) -> dict[str, Any]:
    """Run a function of a module over a job in processes that work on it together; return the first's summary.

    On GPUs each process has its own and they talk by NCCL, else they share the cores and talk by gloo.

    Raises:
        TrainingError: One of them failed; the others were stopped.
        ValueError: There are fewer GPUs than processes.
    """
    if num_processes == 1:
        return function(job)
    if job.device != "cpu" and torch.cuda.device_count() < num_processes:
        raise ValueError(f"{num_processes} processes need a GPU each, found {torch.cuda.device_count()}")
    job.scratch.mkdir(parents=True, exist_ok=True)
    for stale in job.scratch.glob("failure-*.json"):
        stale.unlink()
    # Everybody's own port on the loopback address, so that trainings side by side do not meet.
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
        run_id=f"{job.scratch.name}-{os.getpid()}",
        max_restarts=0,
    )
    messages: SimpleQueue[tuple[int, int, str] | None] = multiprocessing.get_context("spawn").SimpleQueue()
    listener = threading.Thread(target=_pass_on, args=(messages, job), daemon=True)
    listener.start()
    try:
        silent = replace(job, progress=Job.progress)
        return elastic_launch(config, _work)(function, silent, messages, os.getpid())[0]
    except ChildFailedError as error:
        raise TrainingError(_first_failure(job.scratch) or str(error)) from error
    finally:
        messages.put(None)
        listener.join()


def _work(function: StageFunction, job: Job, messages: SimpleQueue[Any], parent: int) -> dict[str, Any]:
    """Be one of the processes."""
    die_with_parent(parent)
    keep_freed_memory()
    rank, size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    device = job.device
    if device != "cpu":
        device = f"cuda:{local_rank}"
        torch.cuda.set_device(local_rank)
    threads = max(1, job.num_threads // size)
    limit_threads(threads)
    try:
        dist.init_process_group("gloo" if device == "cpu" else "nccl")
        return function(
            replace(job, device=device, num_threads=threads, progress=lambda *said: messages.put(_three(*said)))
        )
    except Exception as error:
        failure = {"message": str(error) or type(error).__name__, "trace": traceback.format_exc()}
        (job.scratch / f"failure-{rank}.json").write_text(json.dumps(failure))
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _three(done: int, total: int, note: str = "") -> tuple[int, int, str]:
    return done, total, note


def _pass_on(messages: SimpleQueue[Any], job: Job) -> None:
    while (said := messages.get()) is not None:
        job.progress(*said)


def _first_failure(folder: Path) -> str | None:
    """Return what the process said that failed first: the others fail for want of it."""
    files = sorted(folder.glob("failure-*.json"), key=lambda file: file.stat().st_mtime_ns)
    return json.loads(files[0].read_text())["message"] if files else None
