"""The flow `pseudo-labels`: from images with image-level labels to evaluated semantic and instance labels."""

from __future__ import annotations

from prefect import Task, flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.execution import Maker
from flows.progress import RunProgress
from flows.request import RunRequest, prepare
from flows.results import collect, record
from tasks.plan import Node, Plan
from tasks.prefect_task import Reference, artifact_task
from tasks.workers import StageError, WorkerPool


@flow(name="pseudo-labels", flow_run_name="{request.out}")
def pseudo_labels(request: RunRequest) -> str:
    """Run every stage whose artifacts are not in the store yet, and collect the results in `request.out`.

    Raises:
        DatasetError: The data set cannot be used; every problem is listed.
        StageError: A shard failed; the others were finished.
        ArtifactError: The store or the results cannot be written.
    """
    prepared = prepare(request)
    plan, store = prepared.plan, prepared.store
    store.prepare()
    record(request, prepared)
    # One thread more than workers, so that cached artifacts are checked while all workers are busy.
    runner = ThreadPoolTaskRunner(max_workers=request.num_workers + 1)
    # The pool is left first: an interrupt must not wait for the tasks that its workers are busy with.
    with RunProgress(plan) as progress, runner, WorkerPool(request.num_workers) as pool:
        make = Maker(plan, store, pool, request.torch_device, progress)
        _wait(_submit(plan, artifact_task(store, make), runner), progress)
    return str(collect(request, prepared))


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
