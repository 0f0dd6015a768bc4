"""Making one artifact, on any machine that sees images and store."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from data.concurrency import map_in_threads
from data.dataset import CocoSource
from data.files import content_digest, content_state
from data.store import Store, no_space, open_store
from tasks.engine.artifact import BESIDE, Artifact
from tasks.engine.job import Job
from tasks.engine.plan import coco_digest, long_side_of
from tasks.engine.workers import StageError, WorkerPool


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


def make(artifact: Artifact, store: Store, machine: Machine, progress: Callable[..., None] = Job.progress) -> None:
    """Make and publish an artifact; where it was made already, publish it again or copy it.

    Raises:
        StageError: The stage function failed, or its worker died.
        ArtifactError: The store cannot be written, or the disk is full.
    """
    stage = artifact.stage.name
    if store.republish(stage, artifact.key):
        return
    if artifact.origin:
        if artifact.origin != store.address:
            store.adopt(open_store(artifact.origin), stage, artifact.key)
        return
    if not artifact.stage.seeded:
        _make(artifact, store, machine, progress)
        return
    # Two runs that train the same network at once would write the same checkpoints.
    with store.claim(stage, artifact.key):
        if store.verify(stage, artifact.key) is not None:
            _make(artifact, store, machine, progress)


def _make(artifact: Artifact, store: Store, machine: Machine, progress: Callable[..., None]) -> None:
    stage = artifact.stage.name
    with store.create(stage, artifact.key) as draft:
        job = _job(artifact, store, machine, draft.folder, progress)
        sources = _sources(artifact)
        before = _states(sources)
        try:
            summary = machine.pool.run(
                artifact.stage.function, job, artifact.label, exclusive=not artifact.stage.sharded
            )
        except StageError as error:
            if error.no_space:
                raise no_space(store.root) from error
            raise
        _refuse_changed(artifact, sources, before)
        draft.manifest |= {
            "recipe": artifact.recipe,
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


def _sources(artifact: Artifact) -> list[_Source]:
    """Return the images of an artifact, the maps and the COCO file that lie beside them, and the pretrained weights."""
    recipe = artifact.recipe or {}
    expected = {**recipe.get("validation", {}), **recipe.get("samples", {})}
    files: list[_Source] = []
    weights = recipe.get("weights")
    # Those of torchvision have a name, not a file.
    if artifact.run.weights and isinstance(weights, str) and not weights.startswith("imagenet"):
        files.append(_Source(Path(artifact.run.weights), weights))
    for sample in {sample.id: sample for sample in (*artifact.validation, *artifact.samples)}.values():
        described = expected.get(sample.id, {})
        if "image" in described:
            files.append(_Source(sample.image, described["image"]))
        if truth := described.get("truth"):
            maps = filter(None, (sample.semantic, sample.instances, sample.confidence))
            files += [_Source(file, truth) for file in maps]
            files += [_Source(sample.coco.file, truth, sample.coco)] if sample.coco else []
        for name in BESIDE:
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


def _refuse_changed(artifact: Artifact, sources: list[_Source], before: list[tuple[int, ...] | None]) -> None:
    """Refuse to publish what was made while its images or label maps changed: it has the key of the former ones.

    A file that was changed and put back has been another meanwhile.

    Raises:
        StageError: Names the first file that was touched, or whose bytes are not those of the recipe.
    """
    others = map_in_threads(lambda source: source.is_changed, sources)
    for source, other, first, last in zip(sources, others, before, _states(sources), strict=True):
        if other or first != last:
            raise StageError(
                f"{artifact.label}: {source.file} changed while the run was going on; nothing was kept of this step. "
                "Start the same command again"
            )


def _job(artifact: Artifact, store: Store, machine: Machine, out: Path, progress: Callable[..., None]) -> Job:
    sharded = artifact.stage.sharded
    return Job(
        samples=artifact.samples,
        classes=artifact.classes,
        config=artifact.config,
        out=out,
        scratch=store.scratch(artifact.stage.name, artifact.key),
        stage=artifact.stage.name,
        model=artifact.stage.model,
        inputs={name: tuple(store.fetch(name, key) for key in keys) for name, keys in artifact.inputs.items()},
        backbone=artifact.run.backbone,
        weights=None if artifact.run.weights is None else str(artifact.run.weights),
        device=machine.device if artifact.stage.on_device else "cpu",
        num_threads=1 if sharded else machine.num_threads,
        num_processes=1 if sharded else machine.num_processes,
        validation=artifact.validation,
        seed=artifact.run.seed,
        long_side=long_side_of(artifact.run),
        progress=progress,
    )
