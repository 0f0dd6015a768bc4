"""The plan of a run: every artifact it is made of, with its key, before anything runs.

A key is the hash of all that decides an artifact's content (its recipe): the stage and its source, the settings, the
class table, the samples' bytes and the keys of the inputs. Paths, devices and worker counts are not part of it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.dataset import Dataset, DatasetError, Problem, Sample
from data.store import file_digest
from tasks.config import Config
from tasks.settings import RunConfig
from tasks.source import source_digest
from tasks.stages import RESULTS, STAGES, Stage

KEY_LENGTH = 20


@dataclass(frozen=True)
class SampleDigest:
    """SHA-256 of an image's bytes, and of its ground truth where it has any."""

    image: str
    truth: str | None = None


@dataclass(frozen=True)
class Networks:
    """Trained networks of an earlier run, to be used in place of training.

    Attributes:
        store: Where their artifacts are.
        keys: Stage -> key, for the stages that train.
    """

    store: Path
    keys: dict[str, str]


@dataclass(frozen=True)
class Node:
    """One artifact of a plan, and the task that makes it.

    Attributes:
        label: What people call it: "walk 03/16", or "irnet".
        samples: What it runs over.
        validation: What a training is watched on.
        config: The stage's settings.
        recipe: All that its key is the hash of; None for an artifact of an earlier run.
        inputs: Stage -> keys of the artifacts that it reads.
        origin: The store of the earlier run that it is copied from.
    """

    stage: Stage
    label: str
    key: str
    samples: tuple[Sample, ...]
    config: Config
    recipe: dict[str, Any] | None
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    origin: Path | None = None
    validation: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The nodes of a run, each after those that it reads.

    Attributes:
        validation: What the trainings are watched on.
    """

    dataset: Dataset
    config: RunConfig
    nodes: tuple[Node, ...]
    validation: tuple[Sample, ...] = ()

    def of(self, stage: str) -> list[Node]:
        """Return the nodes of a stage, in the order of its shards."""
        return [node for node in self.nodes if node.stage.name == stage]

    @property
    def stages(self) -> list[str]:
        """The names of the stages that have nodes, in order."""
        return list(dict.fromkeys(node.stage.name for node in self.nodes))


def digest_samples(dataset: Dataset, num_threads: int | None = None) -> dict[str, SampleDigest]:
    """Hash the bytes of every image and its ground truth.

    Returns:
        Sample id -> digests.

    Raises:
        DatasetError: Files cannot be read; all of them are listed.
    """
    coco_digests = {file: file_digest(file) for file in {s.coco.file for s in dataset.samples if s.coco}}

    def digest(sample: Sample) -> SampleDigest | Problem:
        file = sample.image
        try:
            image = file_digest(file)
            truth = []
            if coco := sample.coco:
                truth.append(f"{coco_digests[coco.file]} {coco.image_id} {coco.category_ids}")
            for file in filter(None, (sample.semantic, sample.instances)):
                truth.append(file_digest(file))
        except OSError as error:
            return Problem(file, f"cannot be read ({error.strerror})", sample.id)
        return SampleDigest(image, " ".join(truth) or None)

    with ThreadPoolExecutor(num_threads) as threads:
        digests = dict(zip((s.id for s in dataset.samples), threads.map(digest, dataset.samples), strict=True))
    if problems := [found for found in digests.values() if isinstance(found, Problem)]:
        raise DatasetError(problems)
    return {sample: found for sample, found in digests.items() if isinstance(found, SampleDigest)}


def weights_digest(config: RunConfig) -> str | None:
    """Return what stands for the pretrained weights in a key: a file's SHA-256, "imagenet", or None.

    Raises:
        DatasetError: The file cannot be read.
    """
    if not isinstance(config.weights, Path):
        return config.weights
    try:
        return file_digest(config.weights)
    except OSError as error:
        message = f"cannot be read ({error.strerror}); expected a file of {config.backbone} weights"
        raise DatasetError([Problem(config.weights, message)]) from None


def make_plan(
    dataset: Dataset,
    config: RunConfig,
    digests: dict[str, SampleDigest],
    *,
    weights: str | None = None,
    networks: Networks | None = None,
    stages: Sequence[Stage] = STAGES,
    results: Sequence[str] = RESULTS,
    validation: Mapping[Sample, SampleDigest] | None = None,
) -> Plan:
    """Lay out all artifacts of a run. Reads the project's source, and nothing else.

    Args:
        digests: From `digest_samples`.
        weights: From `weights_digest`.
        networks: Stages to take from an earlier run; what only their training needs is left out.
        stages: The table of stages, each after those that it needs.
        results: The stages that are wanted; others are planned where these need them.
        validation: Samples that trainings on ground truth are watched on, and their digests.
    """
    planner = _Planner(dataset, config, digests, weights, networks, validation or {})
    wanted = _wanted(stages, results, networks.keys if networks else {})
    for stage in stages:
        if stage.name in wanted:
            planner.add(stage)
    nodes = tuple(node for nodes in planner.nodes.values() for node in nodes.values())
    return Plan(dataset, config, nodes, tuple(planner.validation))


def shards(samples: Iterable[Sample], num_shards: int) -> dict[int, tuple[Sample, ...]]:
    """Deal samples into buckets by the hash of their ids, so that a new image changes one bucket only.

    Returns:
        Bucket in [0, num_shards) -> samples; empty buckets are left out.
    """
    buckets: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        buckets[int(hashlib.sha1(sample.id.encode()).hexdigest(), 16) % num_shards].append(sample)
    return {bucket: tuple(buckets[bucket]) for bucket in sorted(buckets)}


def count_shards(num_samples: int, shard_size: int) -> int:
    """Return the power of two nearest to `num_samples / shard_size`, at least 1."""
    return 2 ** max(0, round(math.log2(max(1, num_samples) / shard_size)))


def has_truth(sample: Sample) -> bool:
    """Return whether a sample comes with any ground truth."""
    return any((sample.semantic, sample.instances, sample.coco))


def recipe_key(recipe: dict[str, Any]) -> str:
    """Return the key of an artifact: the hash of its recipe."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def _wanted(stages: Sequence[Stage], results: Sequence[str], given: Iterable[str]) -> set[str]:
    table = {stage.name: stage for stage in stages}
    wanted: set[str] = set()
    pending = [name for name in results if name in table]
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += () if name in given else table[name].needs
    return wanted


class _Planner:
    """Adds stages one after the other; `nodes` is stage -> bucket (None for the whole set) -> node."""

    def __init__(
        self,
        dataset: Dataset,
        config: RunConfig,
        digests: dict[str, SampleDigest],
        weights: str | None,
        networks: Networks | None,
        validation: Mapping[Sample, SampleDigest],
    ) -> None:
        self.dataset = dataset
        self.validation = validation
        self.config = config
        self.digests = digests
        self.weights = weights
        self.networks = networks
        self.nodes: dict[str, dict[int | None, Node]] = {}
        num_shards = count_shards(len(dataset.samples), config.shard_size)
        self.buckets = shards(dataset.samples, num_shards)

    def add(self, stage: Stage) -> None:
        buckets: dict[int | None, tuple[Sample, ...]] = {None: self.dataset.samples}
        if stage.sharded:
            buckets = {**self.buckets}
        given = self.networks is not None and stage.name in self.networks.keys
        if stage.reads_ground_truth and not given:
            buckets = {bucket: tuple(filter(has_truth, samples)) for bucket, samples in buckets.items()}
        self.nodes[stage.name] = {
            bucket: self._node(stage, bucket, samples, f"{stage.name} {position:02d}/{len(buckets):02d}")
            for position, (bucket, samples) in enumerate(buckets.items(), start=1)
            if samples
        }

    def _node(self, stage: Stage, bucket: int | None, samples: tuple[Sample, ...], label: str) -> Node:
        label = label if stage.sharded else stage.name
        settings = getattr(self.config, stage.settings) if stage.settings else Config()
        if self.networks and stage.name in self.networks.keys:
            key, origin = self.networks.keys[stage.name], self.networks.store
            return Node(stage, label, key, samples, settings, recipe=None, origin=origin)
        inputs = {name: self._input_keys(name, bucket) for name in stage.needs}
        recipe: dict[str, Any] = {
            "stage": stage.name,
            "source": source_digest(stage.function),
            "settings": settings.model_dump(mode="json"),
            "classes": list(self.dataset.classes.names),
            "samples": {sample.id: _sample_recipe(stage, sample, self.digests[sample.id]) for sample in samples},
            "inputs": {name: list(keys) for name, keys in inputs.items()},
        }
        if stage.seeded:
            recipe["seed"] = self.config.seed
        if stage.uses_pretrained:
            recipe |= {"backbone": self.config.backbone, "weights": self.weights}
        watched = self.validation if stage.reads_ground_truth and stage.seeded else {}
        if watched:
            recipe["validation"] = {s.id: _sample_recipe(stage, s, digest) for s, digest in watched.items()}
        return Node(stage, label, recipe_key(recipe), samples, settings, recipe, inputs, validation=tuple(watched))

    def _input_keys(self, stage: str, bucket: int | None) -> tuple[str, ...]:
        nodes = self.nodes[stage]
        if bucket in nodes:
            return (nodes[bucket].key,)
        return tuple(node.key for node in nodes.values())


def _sample_recipe(stage: Stage, sample: Sample, digest: SampleDigest) -> dict[str, Any]:
    recipe: dict[str, Any] = {"image": digest.image, "labels": list(sample.labels)}
    if stage.reads_ground_truth:
        recipe["truth"] = digest.truth
    return recipe
