"""Making one artifact: a job for a worker process, published in the store."""

from __future__ import annotations

import contextlib
import platform
import threading
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from data.store import Store, no_space
from flows.progress import RunProgress
from tasks.job import Job
from tasks.plan import Node, Plan
from tasks.workers import StageError, WorkerPool

# Enough to keep a GPU busy while another worker decodes; each holds a network and its activations.
GPU_WORKERS = 2


class Maker:
    """Makes the artifacts of a plan; called by Prefect tasks in threads."""

    def __init__(self, plan: Plan, store: Store, pool: WorkerPool, device: str, progress: RunProgress) -> None:
        self._plan = plan
        self._nodes = {(node.stage.name, node.key): node for node in plan.nodes}
        self._store = store
        self._pool = pool
        self._device = device
        self._progress = progress
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
            seed=config.seed,
            progress=self._progress.reporter(node),
        )
