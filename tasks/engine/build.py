"""Making one artifact: the order for it, which says all, and the work, on any machine that sees images and store."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from data.concurrency import map_in_threads
from data.dataset import ClassTable, CocoSource, Sample
from data.files import content_digest, content_state
from data.store import Store, no_space, open_store
from tasks.config import Config
from tasks.engine.job import Job
from tasks.engine.plan import Node, Plan, coco_digest, long_side_of
from tasks.engine.stage import Stage
from tasks.engine.workers import StageError, WorkerPool


@dataclass(frozen=True)
class Order:
    """All that an artifact is made from but the bytes: small enough to be sent to another machine.

    The names are those of `tasks.engine.plan.Node` and `tasks.engine.job.Job`.
    """

    stage: Stage
    key: str
    label: str
    samples: tuple[Sample, ...]
    classes: ClassTable
    config: Config
    recipe: dict[str, Any] | None
    inputs: dict[str, tuple[str, ...]]
    origin: str | None
    validation: tuple[Sample, ...]
    backbone: str
    weights: str | None
    seed: int
    long_side: tuple[int, int] | None = None


@dataclass(frozen=True)
class Machine:
    """The worker processes, device and threads that artifacts are made with.

    Attributes:
        pool: The worker processes.
        device: Where networks run.
        num_threads: Threads of a stage that is not sharded.
        num_processes: Processes that a training may use.
    """

    pool: WorkerPool
    device: str
    num_threads: int
    num_processes: int = 1


def order(plan: Plan, node: Node) -> Order:
    """Return the order for an artifact of a plan."""
    return Order(
        stage=node.stage,
        key=node.key,
        label=node.label,
        samples=node.samples,
        classes=plan.dataset.classes,
        config=node.config,
        recipe=node.recipe,
        inputs=node.inputs,
        origin=node.origin,
        validation=node.validation,
        backbone=plan.config.backbone,
        weights=None if plan.config.weights is None else str(plan.config.weights),
        seed=plan.config.seed,
        long_side=long_side_of(plan.config),
    )


def make(order: Order, store: Store, machine: Machine, progress: Callable[..., None] = Job.progress) -> None:
    """Make and publish an artifact; where it was made already, publish it again or copy it.

    Raises:
        StageError: The stage function failed, or its worker died.
        ArtifactError: The store cannot be written, or the disk is full.
    """
    stage = order.stage.name
    if store.republish(stage, order.key):
        return
    if order.origin:
        if order.origin != store.address:
            store.adopt(open_store(order.origin), stage, order.key)
        return
    if not order.stage.seeded:
        _make(order, store, machine, progress)
        return
    # Two runs that train the same network at once would write the same checkpoints.
    with store.claim(stage, order.key):
        if store.verify(stage, order.key) is not None:
            _make(order, store, machine, progress)


def _make(order: Order, store: Store, machine: Machine, progress: Callable[..., None]) -> None:
    stage = order.stage.name
    with store.create(stage, order.key) as draft:
        job = _job(order, store, machine, draft.folder, progress)
        sources = _sources(order)
        before = _states(sources)
        try:
            summary = machine.pool.run(order.stage.function, job, order.label, exclusive=not order.stage.sharded)
        except StageError as error:
            if error.no_space:
                raise no_space(store.root) from error
            raise
        _refuse_changed(order, sources, before)
        draft.manifest |= {
            "recipe": order.recipe,
            "device": job.device,
            "num_threads": job.num_threads,
            "seed": job.seed,
            "seconds": summary.pop("seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {"python": platform.python_version(), "torch": version("torch")},
            "summary": summary,
        }


class _Source(NamedTuple):
    """A file that an artifact is made from, with the digests of its recipe; `coco` is the entry that they are of."""

    file: Path
    expected: str
    coco: CocoSource | None = None

    @property
    def is_changed(self) -> bool:
        """Whether its bytes are not those of the recipe."""
        try:
            digest = content_digest(self.file)
        except OSError:
            return True
        return (digest if self.coco is None else coco_digest(self.coco, digest)) not in self.expected.split()


def _sources(order: Order) -> list[_Source]:
    """Return the images of an order, the maps and the COCO file that lie beside them, and the pretrained weights."""
    recipe = order.recipe or {}
    expected = {**recipe.get("validation", {}), **recipe.get("samples", {})}
    files: list[_Source] = []
    weights = recipe.get("weights")
    # Those of torchvision have a name, not a file.
    if order.weights and isinstance(weights, str) and not weights.startswith("imagenet"):
        files.append(_Source(Path(order.weights), weights))
    for sample in {sample.id: sample for sample in (*order.validation, *order.samples)}.values():
        described = expected.get(sample.id, {})
        if "image" in described:
            files.append(_Source(sample.image, described["image"]))
        if truth := described.get("truth"):
            maps = filter(None, (sample.semantic, sample.instances, sample.confidence))
            files += [_Source(file, truth) for file in maps]
            files += [_Source(sample.coco.file, truth, sample.coco)] if sample.coco else []
        for name in ("saliency", "cams", "regions"):
            file = getattr(sample, name, None)
            if file and described.get(name):
                files.append(_Source(file, described[name]))
    # All images may have their saliency from one network.
    return list(dict.fromkeys(files))


def _states(sources: list[_Source]) -> list[tuple[int, ...] | None]:
    """Return the files' states, None for one that is gone."""

    def state(source: _Source) -> tuple[int, ...] | None:
        try:
            return content_state(source.file)
        except OSError:
            return None

    return list(map_in_threads(state, sources))


def _refuse_changed(order: Order, sources: list[_Source], before: list[tuple[int, ...] | None]) -> None:
    """Refuse to publish what was made while its images or label maps changed: it has the key of the former ones.

    A file that was changed and put back has been another meanwhile.

    Raises:
        StageError: Names the first file that was touched, or whose bytes are not those of the recipe.
    """
    others = map_in_threads(lambda source: source.is_changed, sources)
    for source, other, first, last in zip(sources, others, before, _states(sources), strict=True):
        if other or first != last:
            raise StageError(
                f"{order.label}: {source.file} changed while the run was going on; nothing was kept of this step. "
                "Start the same command again"
            )


def _job(order: Order, store: Store, machine: Machine, out: Path, progress: Callable[..., None]) -> Job:
    sharded = order.stage.sharded
    return Job(
        samples=order.samples,
        classes=order.classes,
        config=order.config,
        out=out,
        scratch=store.scratch(order.stage.name, order.key),
        stage=order.stage.name,
        model=order.stage.model,
        inputs={name: tuple(store.fetch(name, key) for key in keys) for name, keys in order.inputs.items()},
        backbone=order.backbone,
        weights=order.weights,
        device=machine.device if order.stage.on_device else "cpu",
        num_threads=1 if sharded else machine.num_threads,
        num_processes=1 if sharded else machine.num_processes,
        validation=order.validation,
        seed=order.seed,
        long_side=order.long_side,
        progress=progress,
    )
