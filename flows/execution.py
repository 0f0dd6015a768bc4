"""Making the artifacts of a plan: each a Prefect task, and a job for a worker process, published in the store."""

from __future__ import annotations

import contextlib
import platform
import threading
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from data.store import Store, no_space
from flows.progress import RunProgress
from tasks.job import Job
from tasks.plan import Node, Plan
from tasks.prefect_task import Reference, artifact_task
from tasks.workers import StageError, WorkerPool

# Enough to keep a GPU busy while another worker decodes; each holds a network and its activations.
GPU_WORKERS = 2


def make_artifacts(plan: Plan, store: Store, *, num_workers: int, device: str, num_processes: int = 1) -> None:
    """Make every artifact of a plan that is not in the store yet. To be called in a flow.

    Raises:
        StageError: An artifact failed; the others were finished.
        ArtifactError: The store cannot be written.
    """
    # One thread more than workers, so that cached artifacts are checked while all workers are busy.
    runner = ThreadPoolTaskRunner(max_workers=num_workers + 1)
    # The pool is left first: an interrupt must not wait for the tasks that its workers are busy with.
    with RunProgress(plan) as progress, runner, WorkerPool(num_workers) as pool:
        make = Maker(plan, store, pool, device, progress, num_processes)
        _wait(_submit(plan, artifact_task(store, make), runner), progress)


class Maker:
    """Makes the artifacts of a plan; called by Prefect tasks in threads."""

    def __init__(
        self, plan: Plan, store: Store, pool: WorkerPool, device: str, progress: RunProgress, num_processes: int = 1
    ) -> None:
        self._plan = plan
        self._nodes = {(node.stage.name, node.key): node for node in plan.nodes}
        self._store = store
        self._pool = pool
        self._device = device
        self._progress = progress
        self._num_processes = num_processes
        self._gpu = threading.Semaphore(GPU_WORKERS)

    def __call__(self, stage: str, key: str) -> None:
        """Make and publish one artifact.

        Raises:
            StageError: The stage function failed, or its worker died.
            ArtifactError: The store cannot be written, or the disk is full.
        """
        node = self._nodes[stage, key]
        if node.origin:
            if node.origin != self._store.root:
                self._store.adopt(Store(node.origin), stage, key)
            return
        on_gpu = node.stage.on_device and self._device != "cpu"
        with self._store.create(stage, key) as draft, self._gpu if on_gpu else contextlib.nullcontext():
            job = self._job(node, draft.folder)
            try:
                summary = self._pool.run(node.stage.function, job, node.label, exclusive=not node.stage.sharded)
            except StageError as error:
                if error.no_space:
                    raise no_space(self._store.root) from error
                raise
            draft.manifest |= {
                "recipe": node.recipe,
                "device": job.device,
                "num_threads": job.num_threads,
                "seed": job.seed,
                "seconds": summary.pop("seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "versions": {"python": platform.python_version(), "torch": version("torch")},
                "summary": summary,
            }

    def _job(self, node: Node, out: Path) -> Job:
        config = self._plan.config
        inputs = {name: tuple(self._store.path(name, key) for key in keys) for name, keys in node.inputs.items()}
        return Job(
            samples=node.samples,
            classes=self._plan.dataset.classes,
            config=node.config,
            out=out,
            scratch=self._store.scratch(node.stage.name, node.key),
            inputs=inputs,
            backbone=config.backbone,
            weights=None if config.weights is None else str(config.weights),
            device=self._device if node.stage.on_device else "cpu",
            num_threads=1 if node.stage.sharded else self._pool.num_slots,
            num_processes=1 if node.stage.sharded else self._num_processes,
            validation=node.validation,
            seed=config.seed,
            progress=self._progress.reporter(node),
        )


Futures = dict[tuple[str, str], tuple[Node, PrefectFuture[Reference]]]


def _submit(plan: Plan, task: Task[..., Reference], runner: ThreadPoolTaskRunner) -> Futures:
    """Submit every node, each to wait for its inputs' futures."""
    futures: Futures = {}
    for node in plan.nodes:
        inputs = [futures[stage, key][1] for stage, keys in node.inputs.items() for key in keys]
        parameters = {"stage": node.stage.name, "key": node.key, "label": node.label}
        future = runner.submit(task, parameters, wait_for=inputs)
        futures[node.stage.name, node.key] = (node, future)
    return futures


def _wait(futures: Futures, progress: RunProgress) -> None:
    """Wait for all, and raise the first failure that is not merely the consequence of another."""
    failure: BaseException | None = None
    for node, future in futures.values():
        future.wait()
        state: State = future.state
        if state.is_completed():
            progress.finish(node, state.name.lower() if state.name == "Cached" else "")
        elif failure is None and state.is_failed():
            failure = state.result(raise_on_failure=False)
    if isinstance(failure, BaseException):
        raise failure
    unfinished = [node.label for node, future in futures.values() if not future.state.is_completed()]
    if unfinished:
        raise StageError(f"not finished: {', '.join(unfinished)}")
