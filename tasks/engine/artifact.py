"""What an artifact is made from: images and their digests, settings, and the artifacts that it reads.

A key is the hash of all that decides an artifact's content (its recipe): the stage and its source, the settings, the
class table, the samples' bytes and the keys of the inputs. Paths, devices and worker counts are not part of it.

A set may have millions of images, and an artifact a stage and shard. So what the artifacts of a stage have in common
is there once, samples are told by a digest that the stages share, and a whole recipe is made when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from data.concurrency import gc_paused
from data.dataset import ClassTable, Sample, SampleWithMore
from tasks.config import Config, RunConfig
from tasks.engine.stage import Stage

KEY_LENGTH = 20
BESIDE = ("saliency", "cams", "regions", "hints")
"""What may lie beside an image, by the names of samples, digests and recipes."""


@dataclass(frozen=True, slots=True)
class SampleDigest:
    """SHA-256 of an image's bytes, of its ground truth, of where its saliency comes from, where it has any, of its
    class attention maps, where another method made them, of its regions, where a segmenter found any, and of hints."""

    image: str
    truth: str | None = None
    saliency: str | None = None
    cams: str | None = None
    regions: str | None = None
    hints: str | None = None


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
        described |= doubts_of(sample)
        beside = {name: getattr(digest, name) for name, is_read in reads._asdict().items() if is_read}
        if digest.hints is None:
            # One hint in a set leaves the artifacts of other images as they are.
            beside.pop("hints", None)
        return described | beside


class Reads(NamedTuple):
    """What artifacts are made from beside the images and their labels; the names are those of `SampleDigest`."""

    truth: bool = False
    saliency: bool = False
    cams: bool = False
    regions: bool = False
    hints: bool = False


def reads_of(stage: Stage) -> Reads:
    """Return what a stage reads of its samples."""
    return Reads(
        stage.reads_ground_truth, stage.reads_saliency, stage.reads_cams, stage.reads_regions, stage.reads_hints
    )


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


@dataclass(frozen=True, slots=True)
class Artifact:
    """One artifact: all that it is made from, but the bytes.

    Attributes:
        label: What people call it: "walk 03/16", or "irnet".
        samples: What it runs over.
        classes: The class table of the set.
        config: The stage's settings.
        run: The settings of the run that it belongs to.
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
    classes: ClassTable
    config: Config
    run: RunConfig
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

    def alone(self) -> Artifact:
        """Return it without the rest of the set: small enough to be sent to another machine."""
        own = {sample.id: self.images.digests[sample.id] for sample in self.samples if self.common is not None}
        return replace(self, images=ImageSet(self.samples, own))


def doubts_of(sample: Sample) -> dict[str, Any]:
    """Return what a recipe says of labels that are not known or not sure; nothing where all are."""
    if not isinstance(sample, SampleWithMore):
        return {}
    found = {"unknown": list(sample.unknown), "certainty": list(sample.certainty)}
    return {name: value for name, value in found.items() if value}


def shard_of(sample: str, num_shards: int) -> int:
    """Return the number of the shard that the image with an id is dealt into."""
    return int.from_bytes(hashlib.sha1(sample.encode()).digest()) % num_shards


def has_truth(sample: Sample) -> bool:
    """Return whether a sample comes with any ground truth."""
    return any((sample.semantic, sample.instances, sample.coco))


def recipe_key(recipe: Mapping[str, Any]) -> str:
    """Return the key of an artifact: the hash of its recipe, which has digests for its samples."""
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]
