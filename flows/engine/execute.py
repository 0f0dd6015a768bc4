"""Making the artifacts of a plan: each a Prefect task, on this machine or on a Dask cluster."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.engine.made import HealthWatch
from flows.engine.progress import RunProgress, Watch
from flows.engine.request import PlannedRun, Request
from tasks.engine.artifact import Artifact
from tasks.engine.build import Machine, make
from tasks.engine.plan import Plan
from tasks.engine.prefect_task import Reference, artifact_task
from tasks.engine.workers import StageError, WorkerPool

# Enough to keep a GPU busy while another worker decodes; each holds a network and its activations.
GPU_WORKERS = 2
HOUR = 3600.0

ArtifactTask = Task[..., Reference]


def make_artifacts(
    request: Request, prepared: PlannedRun, watch: Watch | None = None, *, num_processes: int = 1, go_on: bool = False
) -> None:
    """Make every artifact of a plan that is not in the store yet. To be called in a flow.

    Args:
        watch: Is told how far each stage is, beside the terminal.
        num_processes: Processes that a training may use.
        go_on: Go on where a stage has failed without an error.

    Raises:
        StageError: An artifact failed, and the others were finished; or the time limit was reached.
        ArtifactError: The store cannot be written.
        ServerError: The cluster that the request names does not answer.
    """
    with (
        RunProgress(prepared.plan, watch) as progress,
        _runner(request, prepared, progress, num_processes) as (runner, task),
    ):
        health = None if go_on else HealthWatch(prepared)
        _wait(_submit(prepared.plan, task, runner), progress, Deadline(request.time_limit), health)


@contextlib.contextmanager
def _runner(
    request: Request, prepared: PlannedRun, progress: RunProgress, num_processes: int
) -> Iterator[tuple[TaskRunner[Any], Callable[[Artifact], ArtifactTask]]]:
    """Open what runs the tasks, and yield it with the function that makes an artifact's task."""
    if request.cluster is not None:
        # Only who uses a cluster waits for Dask.
        from flows.engine.dask import dask_runner, task_on_cluster

        with dask_runner(request) as runner:
            yield runner, lambda artifact: task_on_cluster(request, prepared, artifact, num_processes)
        return
    # One thread more than workers, so that cached artifacts are checked while all workers are busy.
    runner = ThreadPoolTaskRunner(max_workers=request.num_workers + 1)
    # The pool is left first: an interrupt must not wait for the tasks that its workers are busy with.
    with runner, WorkerPool(request.num_workers) as pool:
        machine = Machine(pool, request.torch_device, request.num_workers, num_processes)
        task = artifact_task(
            prepared.store, Maker(prepared, machine, progress), keep_records=not prepared.store.read_only
        )
        yield runner, lambda artifact: task


class Maker:
    """Makes the artifacts of a plan in worker processes of this machine; called by Prefect tasks in threads."""

    def __init__(self, prepared: PlannedRun, machine: Machine, progress: RunProgress) -> None:
        self._prepared = prepared
        self._artifacts = {(artifact.stage.name, artifact.key): artifact for artifact in prepared.plan.artifacts}
        self._machine = machine
        self._progress = progress
        self._gpu = threading.Semaphore(GPU_WORKERS)

    def __call__(self, stage: str, key: str) -> None:
        """Make and publish one artifact; errors are those of `tasks.engine.build.make`."""
        artifact = self._artifacts[stage, key]
        on_gpu = artifact.stage.on_device and self._machine.device != "cpu"
        with self._gpu if on_gpu else contextlib.nullcontext():
            make(artifact, self._prepared.store, self._machine, self._progress.reporter(artifact))


class Deadline:
    """The end of a run's time; it starts when the run's turn comes.

    Args:
        hours: None is no end.
    """

    def __init__(self, hours: float | None) -> None:
        self._hours = hours
        self._end = None if hours is None else time.monotonic() + hours * HOUR

    @property
    def left(self) -> float | None:
        """Seconds, or None without an end."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raises:
        StageError: It has passed.
        """
        if self.left == 0.0:
            raise StageError(
                f"stopped after {self._hours:g} hours, the time limit of the run. What is finished is kept: the same "
                "command goes on from there"
            )


Futures = dict[tuple[str, str], tuple[Artifact, PrefectFuture[Reference]]]


def _submit(plan: Plan, task: Callable[[Artifact], ArtifactTask], runner: TaskRunner[Any]) -> Futures:
    """Submit every artifact, each to wait for its inputs' futures."""
    futures: Futures = {}
    for artifact in plan.artifacts:
        inputs = [futures[stage, key][1] for stage, keys in artifact.inputs.items() for key in keys]
        parameters = {"stage": artifact.stage.name, "key": artifact.key, "label": artifact.label}
        future = runner.submit(task(artifact), parameters, wait_for=inputs)
        futures[artifact.stage.name, artifact.key] = (artifact, future)
    return futures


def _wait(futures: Futures, progress: RunProgress, deadline: Deadline, watch: HealthWatch | None) -> None:
    """Wait for all, and raise the first failure that is not merely the consequence of another."""
    done: SimpleQueue[tuple[Artifact, PrefectFuture[Reference]]] = SimpleQueue()
    for artifact, future in futures.values():
        future.add_done_callback(lambda future, artifact=artifact: done.put((artifact, future)))
    failure: BaseException | None = None
    unfinished: list[str] = []
    for _ in futures:
        try:
            artifact, future = done.get(timeout=deadline.left)
        except Empty:
            deadline.check()
            raise
        future.wait()
        state: State = future.state
        if state.is_completed():
            progress.finish(artifact, state.name.lower() if state.name == "Cached" else "")
            if watch and failure is None:
                watch.finish(artifact)
            continue
        unfinished.append(artifact.label)
        if failure is None and state.is_failed():
            failure = state.result(raise_on_failure=False)
    if isinstance(failure, BaseException):
        raise failure
    if unfinished:
        raise StageError(f"not finished: {', '.join(unfinished)}")
