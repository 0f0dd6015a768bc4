"""The plan of a run: every artifact it is made of, with its key, before anything runs.

A key is the hash of all that decides an artifact's content (its recipe): the stage and its source, the settings, the
class table, the samples' bytes and the keys of the inputs. Paths, devices and worker counts are not part of it.

A set may have millions of images, and an artifact a stage and shard. So what the artifacts of a stage have in common
is there once, samples are told by a digest that the stages share, and a whole recipe is made when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data.concurrency import gc_paused, map_in_threads
from data.dataset import CocoSource, Dataset, DatasetError, Problem, Sample
from data.files import content_digest, current_digest, file_digest
from models.backbones import is_timm
from models.backbones.timm_names import full_name
from models.pretrained import imagenet_version, recorded_network
from tasks.config import Config, RunConfig
from tasks.engine.source import source_digest
from tasks.engine.stage import ExternalCamConfig, Stage

KEY_LENGTH = 20
_TIMM_SOURCE = "models.backbones.timm_networks:build_timm_backbone"


@dataclass(frozen=True, slots=True)
class SampleDigest:
    """SHA-256 of an image's bytes, of its ground truth, of where its saliency comes from, where it has any, of its
    class attention maps, where another method made them, and of its regions, where a segmenter found any."""

    image: str
    truth: str | None = None
    saliency: str | None = None
    cams: str | None = None
    regions: str | None = None


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with the digests of their files: what artifacts are made over, shard by shard or whole."""

    samples: tuple[Sample, ...] = ()
    digests: Mapping[str, SampleDigest] = field(default_factory=dict)

    @cached_property
    def with_truth(self) -> tuple[Sample, ...]:
        """The samples that come with any ground truth."""
        return tuple(filter(has_truth, self.samples))

    @gc_paused()
    def recipe(self, samples: Iterable[Sample], reads: Reads) -> dict[str, Any]:
        """Return id -> what a recipe says of samples of the set: their bytes and labels, and what else is read."""
        return {sample.id: self._describe(sample, reads) for sample in samples}

    def deal(self, samples: Iterable[Sample], num_shards: int | None, reads: Reads) -> list[Shard]:
        """Deal samples of the set into shards by the hash of their ids, so that a new image changes one shard only.

        Args:
            num_shards: None for one that is the whole set.
            reads: What is digested beside their bytes and labels.

        Returns:
            The shards in order; empty ones are left out.
        """
        dealt: dict[int, tuple[list[Sample], Any]] = {}
        # One way through the set in its own order, which is that of its objects in memory.
        for sample in samples:
            number = shard_of(sample.id, num_shards or 1)
            if number not in dealt:
                dealt[number] = [], hashlib.sha256()
            members, state = dealt[number]
            members.append(sample)
            state.update(json.dumps([sample.id, *self._describe(sample, reads).values()]).encode())
        return [
            Shard(number, num_shards, tuple(members), state.hexdigest())
            for number, (members, state) in sorted(dealt.items())
        ]

    def _describe(self, sample: Sample, reads: Reads) -> dict[str, Any]:
        digest = self.digests[sample.id]
        described: dict[str, Any] = {"image": digest.image, "labels": list(sample.labels)}
        return described | {name: getattr(digest, name) for name, is_read in reads._asdict().items() if is_read}


class Reads(NamedTuple):
    """What artifacts are made from beside the images and their labels; the names are those of `SampleDigest`."""

    truth: bool = False
    saliency: bool = False
    cams: bool = False
    regions: bool = False


def reads_of(stage: Stage) -> Reads:
    """Return what a stage reads of its samples."""
    return Reads(stage.reads_ground_truth, stage.reads_saliency, stage.reads_cams, stage.reads_regions)


class Shard(NamedTuple):
    """Samples of a set that artifacts of several stages are made over, with the digest that stands for them in keys.

    Attributes:
        number: What the hash of their ids leaves when it is divided by `of`.
        of: The number of shards; None where this is the whole set.
    """

    number: int
    of: int | None
    samples: tuple[Sample, ...]
    digest: str


@dataclass(frozen=True)
class Networks:
    """Trained networks of an earlier run, to be used in place of training.

    Attributes:
        store: The address of the store that has their artifacts.
        keys: Stage -> key, for the stages that train.
    """

    store: str
    keys: dict[str, str]


@dataclass(frozen=True, slots=True)
class Node:
    """One artifact of a plan, and the task that makes it.

    Attributes:
        label: What people call it: "walk 03/16", or "irnet".
        samples: What it runs over.
        config: The stage's settings.
        common: What its recipe has in common with those of the stage's other artifacts; None for an artifact of an
            earlier run.
        inputs: Stage -> keys of the artifacts that it reads.
        origin: The address of the earlier run's store, which it is copied from.
        images: The set that the samples are of.
        shard: The shard that they are; None for the whole set.
        watched: What a training is watched on.
    """

    stage: Stage
    label: str
    key: str
    samples: tuple[Sample, ...]
    config: Config
    common: Mapping[str, Any] | None = None
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    origin: str | None = None
    images: ImageSet = field(default_factory=ImageSet)
    shard: Shard | None = None
    watched: ImageSet = field(default_factory=ImageSet)

    @property
    def validation(self) -> tuple[Sample, ...]:
        """The samples that a training is watched on."""
        return self.watched.samples

    @property
    def recipe(self) -> dict[str, Any] | None:
        """All that its key is the hash of, the samples one by one; None for an artifact of an earlier run."""
        if self.common is None:
            return None
        samples = self.images.recipe(self.samples, reads_of(self.stage))
        recipe = {**self.common, "samples": samples, "inputs": {name: list(keys) for name, keys in self.inputs.items()}}
        if self.watched.samples:
            recipe["validation"] = self.watched.recipe(self.watched.samples, Reads(truth=True))
        return recipe


@dataclass(frozen=True)
class Plan:
    """The nodes of a run, each after those that it reads.

    Attributes:
        images: Those of the data set.
        validation: What the trainings are watched on, and tested on.
    """

    dataset: Dataset
    config: RunConfig
    nodes: tuple[Node, ...]
    images: ImageSet = field(default_factory=ImageSet)
    validation: ImageSet = field(default_factory=ImageSet)

    def of(self, stage: str) -> list[Node]:
        """Return the nodes of a stage, in the order of its shards."""
        return [node for node in self.nodes if node.stage.name == stage]

    @property
    def stages(self) -> list[str]:
        """The names of the stages that have nodes, in order."""
        return list(dict.fromkeys(node.stage.name for node in self.nodes))


@gc_paused()
def digest_samples(dataset: Dataset, num_threads: int | None = None) -> dict[str, SampleDigest]:
    """Hash the bytes of every image, its ground truth, its maps of saliency and class attention, and its regions.

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
            beside: dict[str, str | None] = {"saliency": None, "cams": None, "regions": None}
            for name in beside:
                if source := getattr(sample, name, None):
                    file = source
                    beside[name] = content_digest(source)
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
    nodes = tuple(node for nodes in planner.nodes.values() for node in nodes.values())
    return Plan(dataset, config, nodes, planner.images, planner.validation)


def long_side_of(config: RunConfig) -> tuple[int, int] | None:
    """Return the range of the images' long side at which the stages of a run work, where its settings have one."""
    return getattr(config, "long_side", None)


def shard_of(sample: str, num_shards: int) -> int:
    """Return the number of the shard that the image with an id is dealt into."""
    return int.from_bytes(hashlib.sha1(sample.encode()).digest()) % num_shards


def count_shards(num_samples: int, shard_size: int) -> int:
    """Return the power of two nearest to `num_samples / shard_size`, at least 1."""
    return 2 ** max(0, round(math.log2(max(1, num_samples) / shard_size)))


def has_truth(sample: Sample) -> bool:
    """Return whether a sample comes with any ground truth."""
    return any((sample.semantic, sample.instances, sample.coco))


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """Return the key of an artifact: the hash of its recipe, which has digests for its samples."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


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
    """Adds stages one after the other; `nodes` is stage -> shard number (None for the whole set) -> node."""

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
        self.nodes: dict[str, dict[int | None, Node]] = {}
        self._shards: dict[tuple[bool, Reads], list[Shard]] = {}

    def add(self, stage: Stage) -> None:
        settings = _settings(self.config, stage)
        if stage.reads_cams and (cams := self.dataset.cams):
            settings = ExternalCamConfig(family=cams.family, names=cams.names, missing=cams.missing)
        if self.networks and stage.name in self.networks.keys:
            key, origin = self.networks.keys[stage.name], self.networks.store
            node = Node(stage, stage.name, key, self.dataset.samples, settings, origin=origin, images=self.images)
            self.nodes[stage.name] = {None: node}
            return
        watched = self.validation if stage.reads_ground_truth and stage.seeded else ImageSet()
        common = self._common(stage, settings, watched)
        nodes: dict[int | None, Node] = {}
        shards = self._shards_of(stage)
        for position, shard in enumerate(shards, start=1):
            number = shard.number if shard.of else None
            inputs = {name: self._input_keys(name, number) for name in stage.needs if name in self.nodes}
            key = recipe_key({**common, "samples": shard.digest, "inputs": inputs})
            label = f"{stage.name} {position:02d}/{len(shards):02d}" if stage.sharded else stage.name
            nodes[number] = Node(
                stage,
                label,
                key,
                shard.samples,
                settings,
                common,
                inputs,
                images=self.images,
                shard=shard if shard.of else None,
                watched=watched,
            )
        self.nodes[stage.name] = nodes

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
        nodes = self.nodes[stage]
        if number in nodes:
            return (nodes[number].key,)
        return tuple(node.key for node in nodes.values())
