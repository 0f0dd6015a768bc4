"""What needs no Prefect: a run whose artifacts are all in the store, and the judgement of a stage that is made."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from flows.engine.progress import RunProgress
from flows.engine.request import PlannedRun, Request, read_summary
from tasks.engine.artifact import Artifact
from tasks.engine.run_record import FILE_NAME
from tasks.engine.workers import StageError
from tasks.evaluation.health import CHECKED, Health, check_stage


def may_be_made(request: Request) -> bool:
    """Tell whether it is worth a look if a run is made already: it was begun before, and no server is to hear of it."""
    return (request.out / FILE_NAME).is_file() and not request.cluster and "PREFECT_API_URL" not in os.environ


def is_whole(prepared: PlannedRun) -> bool:
    """Return whether every artifact of a plan is in the store, byte for byte."""
    store, threads = prepared.store, ThreadPoolExecutor()
    try:
        found = threads.map(lambda each: store.verify(each.stage.name, each.key) is None, prepared.plan.artifacts)
        return all(found)
    finally:
        threads.shutdown(cancel_futures=True)


def tell_made(prepared: PlannedRun, *, go_on: bool) -> None:
    """Say of every stage that it is cached, and judge it as when it was made.

    Raises:
        StageError: A stage makes everything after it meaningless, and the run is not to go on.
    """
    with RunProgress(prepared.plan) as progress:
        health = None if go_on else HealthWatch(prepared)
        for artifact in prepared.plan.artifacts:
            progress.finish(artifact, "cached")
            if health:
                health.finish(artifact)


def judge_stage(prepared: PlannedRun, stage: str) -> Health:
    """Judge a stage of a run whose artifacts are all made; one that a run took from another has nothing to be said."""
    plan = prepared.plan
    artifacts = plan.of(stage)
    if not artifacts or artifacts[0].origin:
        return Health()
    return check_stage(
        stage,
        [read_summary(prepared, artifact) for artifact in artifacts],
        plan.dataset.samples,
        plan.dataset.classes,
        trained=not any(artifact.origin for artifact in plan.artifacts),
        config=artifacts[0].config,
        external=plan.dataset.cams is not None,
        by_pixels=bool(plan.of("pixel-scores")),
    )


class HealthWatch:
    """Ends a run whose stages have failed without an error: what comes after them would mean nothing."""

    def __init__(self, prepared: PlannedRun) -> None:
        self._prepared = prepared
        plan = prepared.plan
        self._left = Counter(artifact.stage.name for artifact in plan.artifacts)

    def finish(self, artifact: Artifact) -> None:
        """Take note of an artifact that is made, and judge its stage with the last of them.

        Raises:
            StageError: The stage makes everything after it meaningless; cause and remedy.
        """
        name = artifact.stage.name
        self._left[name] -= 1
        if self._left[name] or name not in CHECKED:
            return
        found = judge_stage(self._prepared, name)
        if found.failures:
            raise StageError(f"{'. '.join(found.failures)}. --go-on goes on all the same (from Python go_on=True).")
