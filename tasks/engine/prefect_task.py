"""The one wrapper that makes an artifact's work a Prefect task, with the store as its cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.states import Cancelled

from data.store import Store
from tasks.engine.workers import WorkerLost, WorkerStopped

Reference = dict[str, str]
RETRIES = 2


@dataclass
class ArtifactPolicy(CachePolicy):
    """A task is cached where its artifact is in the store, every byte as its manifest says.

    Prefect keeps a record of each result, here a reference to the artifact, under the artifact's own key. Where the
    artifact is missing or damaged the record is removed first, so that the task runs again under the same key.
    """

    store: Store = dataclasses.field(default_factory=lambda: Store(Path()))
    records: Path = dataclasses.field(default_factory=Path)

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str:
        """Return the key of the record, which is the artifact's own."""
        stage, key = inputs["stage"], inputs["key"]
        record = f"{stage}-{key}"
        if self.store.verify(stage, key) is not None:
            (self.records / record).unlink(missing_ok=True)
        return record


def artifact_task(store: Store, make: Callable[[str, str], None], *, keep_records: bool = True) -> Task[..., Reference]:
    """Return a Prefect task `(stage, key, label) -> {"stage", "key"}` that calls `make(stage, key)` unless cached.

    It is cancelled where its worker process was told to end, and tried again where that was killed alone.

    Args:
        store: Where the artifacts are; the records of Prefect's cache lie beside them.
        make: Publishes the artifact; called where the flow's task runner runs the task.
        keep_records: Keep them; without, a task that finds its artifact ends at once, but is not called cached.
    """
    records = store.root / ".prefect" / "records"

    @task(
        task_run_name="{label}",
        cache_policy=ArtifactPolicy(store=store, records=records) if keep_records else NO_CACHE,
        persist_result=keep_records,
        result_storage=records if keep_records else None,
        result_serializer="json",
        retries=RETRIES,
        retry_condition_fn=_worker_was_lost,
    )
    def artifact(stage: str, key: str, label: str) -> Any:
        # The record may be gone while the artifact is there: killed between the two, or made by another run.
        if store.verify(stage, key) is not None:
            try:
                make(stage, key)
            except WorkerStopped as error:
                return Cancelled(message=str(error))
        return {"stage": stage, "key": key}

    return artifact


def _worker_was_lost(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.data, WorkerLost)
