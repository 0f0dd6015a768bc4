"""The plan of a run: every artifact it is made of, with its key, before anything runs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.concurrency import gc_paused, map_in_threads
from data.dataset import CocoSource, Dataset, DatasetError, Problem, Sample
from data.files import content_digest, current_digest, file_digest
from models.backbones import is_timm
from models.backbones.timm_names import full_name
from models.pretrained import imagenet_version, recorded_network
from tasks.config import Config, RunConfig
from tasks.engine.artifact import BESIDE, Artifact, ImageSet, Reads, SampleDigest, Shard, reads_of, recipe_key
from tasks.engine.source import source_digest
from tasks.engine.stage import ExternalCamConfig, Stage

_TIMM_SOURCE = "models.backbones.timm_networks:build_timm_backbone"


@dataclass(frozen=True)
class Networks:
    """Trained networks of an earlier run, to be used in place of training.

    Attributes:
        store: The address of the store that has their artifacts.
        keys: Stage -> key, for the stages that train.
    """

    store: str
    keys: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """The artifacts of a run, each after those that it reads.

    Attributes:
        images: Those of the data set.
        validation: What the trainings are watched on, and tested on.
    """

    dataset: Dataset
    config: RunConfig
    artifacts: tuple[Artifact, ...]
    images: ImageSet = field(default_factory=ImageSet)
    validation: ImageSet = field(default_factory=ImageSet)

    def of(self, stage: str) -> list[Artifact]:
        """Return the artifacts of a stage, in the order of its shards."""
        return [artifact for artifact in self.artifacts if artifact.stage.name == stage]

    @property
    def stages(self) -> list[str]:
        """The names of the stages that have artifacts, in order."""
        return list(dict.fromkeys(artifact.stage.name for artifact in self.artifacts))


@gc_paused()
def digest_samples(dataset: Dataset, num_threads: int | None = None) -> dict[str, SampleDigest]:
    """Hash the bytes of every image, its ground truth, its maps of saliency and class attention, its regions and hints.

    Returns:
        Sample id -> digests.

    Raises:
        DatasetError: Files cannot be read; all of them are listed.
    """
    sources = {(s.coco.file, s.coco.category_ids) for s in dataset.samples if s.coco}
    coco_digests = {source: f"{file_digest(source[0])} {source[1]}" for source in sources}

    def digest(sample: Sample) -> SampleDigest | Problem:
        file = sample.image
        try:
            image = current_digest(file)
            truth = []
            if coco := sample.coco:
                truth.append(_coco_digest(coco, coco_digests))
            for file in filter(None, (sample.semantic, sample.instances, sample.confidence)):
                truth.append(current_digest(file))
            truth += filter(None, [sample.coding])
            beside: dict[str, str | None] = dict.fromkeys(BESIDE)
            for name in beside:
                if source := getattr(sample, name, None):
                    file = source
                    beside[name] = _boxes_digest(sample, name) or content_digest(source)
        except OSError as error:
            return Problem(file, f"cannot be read ({error.strerror})", sample.id)
        return SampleDigest(image, " ".join(truth) or None, **beside)

    digests: dict[str, SampleDigest] = {}
    problems: list[Problem] = []
    found = map_in_threads(digest, dataset.samples, num_threads)
    for sample, digested in zip(dataset.samples, found, strict=True):
        if isinstance(digested, Problem):
            problems.append(digested)
        else:
            digests[sample.id] = digested
    if problems:
        raise DatasetError(problems)
    return digests


def _boxes_digest(sample: Sample, name: str) -> str | None:
    """Return what stands for boxes of a file that has those of many images, and may change in others than this."""
    boxes = getattr(sample, "boxes", ()) if name == "hints" else ()
    return hashlib.sha256(json.dumps(boxes).encode()).hexdigest() if boxes else None


def image_digests(samples: Sequence[Sample]) -> dict[str, str]:
    """Return sample id -> digest of the image's bytes; an image that cannot be read has none."""

    def digest(sample: Sample) -> str | None:
        try:
            return current_digest(sample.image)
        except OSError:
            return None

    found = zip(samples, map_in_threads(digest, samples), strict=True)
    return {sample.id: value for sample, value in found if value is not None}


def weights_digest(config: RunConfig) -> str | None:
    """Return what stands for the pretrained weights in a key: a file's SHA-256, "imagenet-v1", or None.

    The input that the weights expect is part of it where a file beside them says so.

    Raises:
        DatasetError: The file cannot be read.
    """
    if config.weights is None:
        return None
    if isinstance(config.weights, str):
        if is_timm(config.backbone):
            # The tag in the backbone's full name tells which.
            return config.weights
        return f"imagenet-v{imagenet_version(config.backbone, config.weights)}"
    try:
        recorded = recorded_network(config.weights)
        return " ".join([file_digest(config.weights), *filter(None, [recorded.get("convention")])])
    except ValueError as error:
        raise DatasetError([Problem(config.weights, str(error))]) from None
    except OSError as error:
        message = f"cannot be read ({error.strerror}); expected a file of {config.backbone} weights"
        raise DatasetError([Problem(config.weights, message)]) from None


@gc_paused()
def make_plan(
    dataset: Dataset,
    config: RunConfig,
    digests: Mapping[str, SampleDigest],
    stages: Sequence[Stage],
    results: Sequence[str],
    *,
    weights: str | None = None,
    networks: Networks | None = None,
    validation: ImageSet | None = None,
) -> Plan:
    """Lay out all artifacts of a run. Reads the project's source, and nothing else.

    Args:
        digests: From `digest_samples`.
        stages: The table of stages, each after those that it needs.
        results: The stages that are wanted; others are planned where these need them.
        weights: From `weights_digest`.
        networks: Stages to take from an earlier run; what only their training needs is left out.
        validation: What trainings on ground truth are watched on.
    """
    planner = _Planner(dataset, config, digests, weights, networks, validation or ImageSet())
    stages = [stage for stage in stages if not stage.chooses or "auto" in dict(_settings(config, stage)).values()]
    stages = [stage for stage in stages if not stage.switch or getattr(_settings(config, stage), stage.switch)]
    if not any(sample.saliency for sample in dataset.samples):
        stages = [stage for stage in stages if not stage.reads_saliency]
    wanted = _wanted(stages, results, networks.keys if networks else {})
    for stage in stages:
        if stage.name in wanted:
            planner.add(stage)
    artifacts = tuple(artifact for artifacts in planner.artifacts.values() for artifact in artifacts.values())
    return Plan(dataset, config, artifacts, planner.images, planner.validation)


def long_side_of(config: RunConfig) -> tuple[int, int] | None:
    """Return the range of the images' long side at which the stages of a run work, where its settings have one."""
    return getattr(config, "long_side", None)


def count_shards(num_samples: int, shard_size: int) -> int:
    """Return the power of two nearest to `num_samples / shard_size`, at least 1."""
    return 2 ** max(0, round(math.log2(max(1, num_samples) / shard_size)))


def coco_digest(coco: CocoSource, digest: str) -> str:
    """Return the digest of an image's ground truth in a COCO file, by the digest of the file."""
    return _coco_digest(coco, {(coco.file, coco.category_ids): f"{digest} {coco.category_ids}"})


def _coco_digest(coco: CocoSource, digests: Mapping[tuple[Path, tuple[int, ...]], str]) -> str:
    text = f"{digests[coco.file, coco.category_ids]} {coco.image_id}"
    return hashlib.sha256(text.encode()).hexdigest()


def _settings(config: RunConfig, stage: Stage) -> Config:
    return getattr(config, stage.settings) if stage.settings else Config()


def _wanted(stages: Sequence[Stage], results: Sequence[str], given: Iterable[str]) -> set[str]:
    table = {stage.name: stage for stage in stages}
    wanted: set[str] = set()
    pending = [name for name in results if name in table]
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += () if name in given else (need for need in table[name].needs if need in table)
    return wanted


class _Planner:
    """Adds stages one after the other; `artifacts` is stage -> shard number (None for the whole set) -> artifact."""

    def __init__(
        self,
        dataset: Dataset,
        config: RunConfig,
        digests: Mapping[str, SampleDigest],
        weights: str | None,
        networks: Networks | None,
        validation: ImageSet,
    ) -> None:
        self.dataset = dataset
        self.images = ImageSet(dataset.samples, digests)
        self.validation = validation
        self.config = config
        self.weights = weights
        self.networks = networks
        self.artifacts: dict[str, dict[int | None, Artifact]] = {}
        self._shards: dict[tuple[bool, Reads], list[Shard]] = {}

    def add(self, stage: Stage) -> None:
        settings = _settings(self.config, stage)
        if stage.reads_cams and (cams := self.dataset.cams):
            settings = ExternalCamConfig(family=cams.family, names=cams.names, missing=cams.missing)
        if self.networks and stage.name in self.networks.keys:
            key, origin = self.networks.keys[stage.name], self.networks.store
            self.artifacts[stage.name] = {
                None: Artifact(
                    stage,
                    stage.name,
                    key,
                    self.dataset.samples,
                    self.dataset.classes,
                    settings,
                    self.config,
                    origin=origin,
                    images=self.images,
                )
            }
            return
        watched = self.validation if stage.reads_ground_truth and stage.seeded else ImageSet()
        common = self._common(stage, settings, watched)
        artifacts: dict[int | None, Artifact] = {}
        shards = self._shards_of(stage)
        for position, shard in enumerate(shards, start=1):
            number = shard.number if shard.of else None
            inputs = {name: self._input_keys(name, number) for name in stage.needs if name in self.artifacts}
            key = recipe_key({**common, "samples": shard.digest, "inputs": inputs})
            label = f"{stage.name} {position:02d}/{len(shards):02d}" if stage.sharded else stage.name
            artifacts[number] = Artifact(
                stage,
                label,
                key,
                shard.samples,
                self.dataset.classes,
                settings,
                self.config,
                common,
                inputs,
                images=self.images,
                shard=shard if shard.of else None,
                watched=watched,
            )
        self.artifacts[stage.name] = artifacts

    def _common(self, stage: Stage, settings: Config, watched: ImageSet) -> dict[str, Any]:
        """Return what the recipes of all artifacts of a stage have in common."""
        common: dict[str, Any] = {
            "stage": stage.name,
            "source": stage.source,
            "settings": settings.model_dump(mode="json"),
            "classes": list(self.dataset.classes.names),
        }
        if not self.dataset.classes.has_background:
            common["background"] = False
        if (long_side := long_side_of(self.config)) is not None:
            common["long_side"] = list(long_side)
        if stage.seeded:
            common["seed"] = self.config.seed
        if stage.uses_pretrained:
            common |= {"backbone": self.config.backbone, "weights": self.weights}
            if is_timm(self.config.backbone):
                common |= {"backbone": full_name(self.config.backbone), "backbone_source": source_digest(_TIMM_SOURCE)}
        if watched.samples:
            (whole,) = watched.deal(watched.samples, None, Reads(truth=True))
            common["validation"] = whole.digest
        return common

    def _shards_of(self, stage: Stage) -> list[Shard]:
        """Return what the stage's artifacts are made over, the same for all stages that read the same."""
        kind = (stage.sharded, reads_of(stage))
        if kind not in self._shards:
            # By the size of the whole set: an image's ground truth is scored beside its labels.
            count = count_shards(len(self.images.samples), self.config.shard_size) if stage.sharded else None
            samples = self.images.with_truth if stage.reads_ground_truth else self.images.samples
            self._shards[kind] = self.images.deal(samples, count, reads_of(stage))
        return self._shards[kind]

    def _input_keys(self, stage: str, number: int | None) -> tuple[str, ...]:
        artifacts = self.artifacts[stage]
        if number in artifacts:
            return (artifacts[number].key,)
        return tuple(artifact.key for artifact in artifacts.values())
