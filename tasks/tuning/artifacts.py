"""The artifacts of a finished run, as jobs read them, and its walk under other settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from data.dataset import Dataset, DatasetError, Problem, Sample
from data.store import ArtifactError, open_store
from tasks.engine.artifact import Artifact, ImageSet, Reads, Shard, recipe_key
from tasks.engine.build import Machine, make
from tasks.engine.image_list import read_images
from tasks.engine.job import Job
from tasks.engine.plan import digest_samples
from tasks.engine.run_record import RunRecord, read_run
from tasks.engine.stage import Stage
from tasks.engine.workers import WorkerPool
from tasks.pipeline import STAGES, with_hints
from tasks.pipeline.plan import pipeline_settings
from tasks.pipeline.settings import LabelsConfig, PipelineConfig, WalkConfig
from tasks.pipeline.thresholds import CAMS, FILE, WALK

Keys = Mapping[int, str]
"""Number of a shard -> key of its artifact."""


class RunArtifacts:
    """A finished run that made labels.

    Attributes:
        record: The run's record.
        settings: Settings of all stages, as they were.
        labels: Settings of the labels, with the thresholds that were chosen on the set as numbers.
        second_round: Whether a pixel classifier decides the labels.
        hinted: Whether a person said something of some pixels.

    Args:
        run: Folder of the run.

    Raises:
        ArtifactError: It holds no finished run that made labels, or its store no longer has what labels are made from.
    """

    def __init__(self, run: Path) -> None:
        self.record: RunRecord = read_run(run)
        if "network" in self.record.settings:
            raise ArtifactError(f"{run}: expected a run that made labels, found a training")
        self._store = open_store(self.record.store)
        if "labels" not in self.record.stages or not (run / "metrics.json").is_file():
            raise ArtifactError(f"{run}: expected a finished run; the same command goes on with it")
        self.settings = pipeline_settings(self.record)
        self.second_round = "pixel-scores" in self.record.stages
        self.hinted = any(getattr(sample, "hints", None) for sample in self.record.dataset.samples)
        self._table = {stage.name: stage for stage in (with_hints(STAGES) if self.hinted else STAGES)}
        key = next(iter(self.record.stages["labels"].keys.values()))
        text = (self._store.fetch("labels", key) / "settings.json").read_text(encoding="utf-8")
        self.labels = LabelsConfig.model_validate_json(text)

    @cached_property
    def numbered(self) -> PipelineConfig:
        """Settings of all stages, with the thresholds that were chosen on the set as numbers."""
        pixels = self.settings.pixels
        if pixels.taught_thresholds == "auto" and isinstance(self.labels.sure_thresholds, tuple):
            pixels = pixels.model_copy(update={"taught_thresholds": self.labels.sure_thresholds})
        return self.settings.model_copy(update={"labels": self.labels, "pixels": pixels})

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The images, in the order of their ids."""
        return self.record.dataset.samples

    def refuse_changed(self, samples: Mapping[str, Sample]) -> None:
        """Refuse images that are not as the run saw them: what is measured of them is kept under the run's list.

        Args:
            samples: Id -> image of the run.

        Raises:
            DatasetError: Lists each image whose bytes, ground truth, saliency or hints have changed or cannot be read.
        """
        record, known = self.record, self._images.digests
        found = digest_samples(Dataset(record.root, record.classes, tuple(samples.values())))
        message = "it, its ground truth, its saliency or its hints changed since the run: start the run's command again"
        changed = [id for id, digest in found.items() if digest != known[id]]
        if changed:
            raise DatasetError([Problem(samples[id].image, message, id) for id in changed])

    @property
    def cam_threshold(self) -> float:
        """The background threshold of the CAMs: chosen for the set, or midway between those of the relations."""
        key = self.record.network("thresholds")
        if key is not None:
            return float(json.loads((self._store.fetch("thresholds", key) / FILE).read_text())["threshold"])
        pair = self.settings.relations.foreground_threshold, self.settings.relations.background_threshold
        numbers = [value for value in pair if value != "auto"]
        return sum(numbers) / len(numbers) if numbers else 0.3

    def jobs(self, samples: Mapping[str, Sample], labels: LabelsConfig, walk: Keys | None = None) -> Iterator[Job]:
        """Yield jobs of stage `labels` that read the run's artifacts; together they have the given images.

        Args:
            samples: Id -> image; none of another run.
            labels: Settings of the labels.
            walk: Artifacts of another walk, by shard.
        """
        for shard in self._shards:
            chosen = tuple(samples[sample.id] for sample in shard.samples if sample.id in samples)
            if chosen:
                yield self._job(shard, chosen, labels, walk)

    def read_cams(self, job: Job) -> Path:
        """Return the file of the attention maps of a job's images."""
        return job.input(CAMS.stage) / CAMS.name

    def walk_keys(
        self, config: WalkConfig, *, workers: int, device: str, progress: Callable[[str], None] = lambda text: None
    ) -> Keys:
        """Return the artifacts of the walk under some settings, and make those that the store lacks.

        Args:
            config: Of the walk.
            workers: Processes that make them.
            device: "cpu" or "cuda".
            progress: Called with a sentence where there is something to make.

        Raises:
            StageError: The stage failed.
            ArtifactError: The store cannot be written.
        """
        recorded = self.record.stages[WALK.stage]
        if config == self.settings.walk:
            return recorded.keys
        walks = {shard.number: self._walk(shard, config) for shard in self._shards}
        missing = [walk for walk in walks.values() if not self._store.has(WALK.stage, walk.key)]
        if missing:
            progress(f"the walk is made of {len(missing)} of {len(walks)} shards, with {_told(config)}")
            self._store.prepare()
            with WorkerPool(workers) as pool, ThreadPoolExecutor(workers) as threads:
                machine = Machine(pool, device, 1)
                list(threads.map(lambda walk: make(walk, self._store, machine), missing))
        return {number: walk.key for number, walk in walks.items()}

    @cached_property
    def _shards(self) -> list[Shard]:
        """The shards of the run, as its walk has them."""
        images, stage = self._images, self.record.stages[WALK.stage]
        return images.deal(images.samples, stage.num_shards, Reads())

    @cached_property
    def _images(self) -> ImageSet:
        pairs = list(read_images(self.record.folder, self.record.images, self.record.root))
        return ImageSet(tuple(sample for sample, _ in pairs), {sample.id: digest for sample, digest in pairs})

    def _inputs(self, stage: Stage, number: int) -> dict[str, tuple[str, ...]]:
        """Return stage -> keys of what the run's artifact of a shard was made from."""
        records = {name: self.record.stages[name] for name in stage.needs if name in self.record.stages}
        return {name: (each.keys[number if each.num_shards else 0],) for name, each in records.items()}

    def _walk(self, shard: Shard, config: WalkConfig) -> Artifact:
        stage, number = self._table[WALK.stage], shard.number
        inputs = self._inputs(stage, number)
        # As `tasks.engine.plan` has it, so that a run with these settings finds the artifact.
        common = {
            **(self.record.stages[WALK.stage].common or {}),
            "source": stage.source,
            "settings": config.model_dump(mode="json"),
        }
        key = recipe_key({**common, "samples": shard.digest, "inputs": inputs})
        return Artifact(
            stage,
            f"walk {number + 1}",
            key,
            shard.samples,
            self.record.classes,
            config,
            self.settings.model_copy(update={"weights": None}),
            common,
            inputs,
            images=self._images,
            shard=shard if shard.of else None,
        )

    def _job(self, shard: Shard, samples: tuple[Sample, ...], labels: LabelsConfig, walk: Keys | None) -> Job:
        number = shard.number
        keys = self._inputs(self._table["labels"], number)
        if walk is not None:
            keys[WALK.stage] = (walk[number],)
        folders = {name: tuple(self._store.fetch(name, key) for key in some) for name, some in keys.items()}
        nowhere = self.record.folder
        return Job(samples, self.record.classes, labels, nowhere, nowhere, folders, long_side=self.settings.long_side)


def _told(config: WalkConfig) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in config.model_dump().items())
