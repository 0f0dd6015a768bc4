"""Probabilities of the second round, with the first round's scores as evidence of their own.

The pixel classifier knows what a class looks like in other images; the walk knows where its attention is in this one.
They err independently, about: the classifier has not seen the image, and the walk has seen no other. So the odds of a
class against background are multiplied by the ratio of its walked score to the background threshold: 1 where the walk
is undecided. Of images that are judged as objects, attention maps take the walk's place.
"""

from __future__ import annotations

import contextlib
import json
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from tasks.engine.job import Job
from tasks.pipeline.score_maps import OBJECT_SCORES, PIXEL_SCORES, MapReader, saliency_prior, strongest
from tasks.pipeline.settings import LabelsConfig
from tasks.pipeline.thresholds import FILE

LEAST = 1e-4


class SecondRound(contextlib.ExitStack):
    """The second round of a shard, read one image at a time.

    Use as `with SecondRound(job, threshold) as second: second.probabilities(id)`.

    Args:
        job: Has the input `pixel-scores`; `cams` and `thresholds` for images that are judged as objects.
        walk_threshold: Background threshold of the walked scores, relative to an image's highest.
        power: Of the ratio; 0 leaves it out.
    """

    def __init__(self, job: Job, walk_threshold: float, power: float) -> None:
        super().__init__()
        self._prior = saliency_prior(job)
        self._walk_threshold, self._power = walk_threshold, power
        folder = job.input("pixel-scores")
        self._pixels = self.enter_context(MapReader(folder / PIXEL_SCORES))
        self._walk = self.enter_context(MapReader(job.input("walk") / "semantic.safetensors"))
        self._objects = self._cams = None
        if (folder / OBJECT_SCORES).is_file() and "thresholds" in job.inputs:
            self._objects = self.enter_context(MapReader(folder / OBJECT_SCORES))
            self._cams = self.enter_context(MapReader(job.input("cams") / "cams.safetensors"))
            self._cam_threshold = float(json.loads((job.input("thresholds") / FILE).read_text())["threshold"])

    def __enter__(self) -> Self:
        return self

    def probabilities(self, sample_id: str) -> Float[Tensor, "k h w"] | None:
        """Return the probabilities of an image's classes; None where the second round has not judged it.

        Saliency is evidence, too. It counts once: walked scores and CAMs are taken without it.
        """
        if sample_id in self._pixels:
            found = by_walk(self._pixels[sample_id], self._walk[sample_id], self._walk_threshold, self._power)
        elif self._objects and self._cams and sample_id in self._objects:
            # Where so few images teach, a walk within the boundaries that they taught is no better than its seeds.
            evidence = ratio(self._cams[sample_id], self._cam_threshold)
            found = of_objects(self._objects[sample_id], evidence**self._power)
        else:
            return None
        return found if self._prior is None else with_evidence(found, self._prior.evidence(sample_id))


class LabelScores(contextlib.ExitStack):
    """What decides the labels of a shard's images: walked scores, or where there is one the second round.

    Use as `with LabelScores(job, config) as scores: scores.deciding("sample")`, where `"sample" in scores`.

    Attributes:
        second_round: Whether there is one.

    Args:
        job: Has the input `walk`, and where the run has them `pixel-scores`, `saliency`, `cams` and `thresholds`.
        config: Of the labels, with thresholds that are numbers.
    """

    def __init__(self, job: Job, config: LabelsConfig) -> None:
        super().__init__()
        walk = job.input("walk")
        self._rows_of = json.loads((walk / "instances.json").read_text())
        prior = saliency_prior(job)
        factors = prior and prior.factors
        # A piece is weighted as its class is.
        of_pieces = factors and (lambda id: factors(id)[self._rows_of[id]])
        self._walked = self.enter_context(MapReader(walk / "semantic.safetensors", factors))
        self._pieces = self.enter_context(MapReader(walk / "instances.safetensors", of_pieces))
        self._fields = None
        if "fields" in job.inputs:
            self._fields = self.enter_context(MapReader(job.input("fields") / "boundary.safetensors"))
        self.second_round = "pixel-scores" in job.inputs
        self._second = None
        if self.second_round:
            assert config.background_threshold != "auto"
            self._threshold = config.background_threshold
            self._second = self.enter_context(SecondRound(job, self._threshold, config.walk_power))

    def __enter__(self) -> Self:
        return self

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._walked

    def deciding(self, sample_id: str) -> tuple[Float[Tensor, "k h w"], bool]:
        """Return the maps of a sample's classes that decide its labels, and whether they are probabilities."""
        found = self._second.probabilities(sample_id) if self._second else None
        return (self._walked[sample_id], False) if found is None else (found, True)

    def walked_shares(self, sample_id: str) -> list[float]:
        """Return the share of a sample's cells that the walk alone gives to each class; 0 without a second round."""
        walked = self._walked[sample_id]
        if self._second is None:
            return [0.0] * len(walked)
        rows, _ = strongest(walked / walked.max().clamp(min=1e-12), self._threshold)
        return (torch.bincount(rows.flatten(), minlength=len(walked) + 1)[1:] / rows.numel()).tolist()

    def boundary(self, sample_id: str) -> Float[Tensor, "h w"] | None:
        """Return the probabilities of a class boundary at stride 4, where the job reads them: runs with hints do."""
        return None if self._fields is None else self._fields[sample_id]

    def pieces(self, sample_id: str) -> tuple[Float[Tensor, "n h w"], list[int]]:
        """Return the walked maps of a sample's instances, and the position of each one's class in its labels."""
        return self._pieces[sample_id], self._rows_of[sample_id]


def by_walk(
    probabilities: Float[Tensor, "k h w"], walked: Float[Tensor, "k h w"], threshold: float, power: float = 1.0
) -> Float[Tensor, "k h w"]:
    """Return probabilities once the walk is evidence: its scores over the image's highest and over their threshold."""
    return with_evidence(probabilities, ratio(walked / walked.max().clamp(min=1e-12), threshold) ** power)


def ratio(scores: Float[Tensor, "k h w"], threshold: float) -> Float[Tensor, "k h w"]:
    """Return scores divided by their background threshold, never 0."""
    return scores.clamp(min=LEAST) / max(threshold, LEAST)


def with_evidence(probabilities: Float[Tensor, "k h w"], evidence: Float[Tensor, "k h w"]) -> Float[Tensor, "k h w"]:
    """Return probabilities once the odds of each class against background are multiplied by its evidence."""
    background = (1 - probabilities.sum(dim=0)).clamp(min=LEAST)
    return from_odds(probabilities / background * evidence)


def of_objects(objects: Float[Tensor, "1 h w"], evidence: Float[Tensor, "k h w"]) -> Float[Tensor, "k h w"]:
    """Return the classes' probabilities where one of any class is known: its odds times each class's evidence."""
    known = objects.clamp(LEAST, 1 - LEAST)
    return from_odds(known / (1 - known) * evidence)


def from_odds(odds: Float[Tensor, "k h w"]) -> Float[Tensor, "k h w"]:
    """Return the probabilities of classes by their odds against background."""
    return odds / (1 + odds.sum(dim=0, keepdim=True))
