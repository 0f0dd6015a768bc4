"""What is tried again: only what a second try can mend."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.client.schemas.objects import StateType

from data.store import ArtifactError, Store
from tasks.engine.prefect_task import RETRIES, artifact_task
from tasks.engine.workers import StageError, WorkerLost, WorkerStopped


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        (WorkerLost("walk 01/02: its worker process was killed"), True),
        (StageError("walk 01/02: three is not even"), False),
        (ArtifactError("store: no space left"), False),
    ],
)
def test_a_lost_worker_is_tried_again_and_bad_data_never(tmp_path: Path, failure: Exception, again: bool) -> None:
    task = artifact_task(Store(tmp_path), lambda stage, key: None)
    assert task.retries == RETRIES > 0
    assert task.retry_condition_fn is not None
    # Prefect asks with a state that holds the exception.
    assert task.retry_condition_fn(task, SimpleNamespace(), SimpleNamespace(data=failure)) is again


def test_what_is_stopped_with_its_run_is_cancelled_and_not_failed(tmp_path: Path) -> None:
    def stop(stage: str, key: str) -> None:
        raise WorkerStopped("walk 01/02: stopped with its run")

    state = artifact_task(Store(tmp_path), stop).fn("walk", "key", "walk 01/02")
    assert (state.type, state.message) == (StateType.CANCELLED, "walk 01/02: stopped with its run")
