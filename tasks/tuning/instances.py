"""Settings of instances, tried on semantic labels that are chosen already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.concurrency import map_in_threads
from data.dataset import Sample
from data.formats.hints import Hints
from data.formats.images import image_size
from data.formats.label_maps import read_ground_truth
from tasks.evaluation.instance_metrics import InstanceRecords, add_records, average_precision, match_image
from tasks.pipeline.labels import decide_rows, deciding_maps, instance_masks, instances_by_boxes, score_levels
from tasks.pipeline.second_round import LabelScores
from tasks.pipeline.seeds.hints import hints_of, keep_known
from tasks.pipeline.settings import LabelsConfig, PipelineConfig
from tasks.training.working_size import read_working_image, working_size
from tasks.tuning.artifacts import Keys
from tasks.tuning.space import Space, Values
from tasks.tuning.tables import Searched


@dataclass(frozen=True)
class _Semantic:
    """Labels of an image at its working size.

    Attributes:
        rows: [H, W], 1 + the row of a class, 0 for background; None where they do not bound the instances.
        hints: What a person said of the image, at its own size.
        levels: Scores of each class at stride 4, in [0, 1], where there are hints.
    """

    rows: NDArray[np.integer] | None
    hints: Hints | None = None
    levels: Tensor | None = None


@dataclass(frozen=True)
class _Pieces:
    """Walked maps of an image's instances, the class rows of these, and the image's labels."""

    sample: Sample
    maps: Tensor
    rows: list[int]
    semantic: _Semantic


class InstanceTrials:
    """Average precision of instances under settings of theirs.

    Args:
        searched: What is searched; its images have ground truth of instances.
        space: Settings of instances, on the base of those of the semantic labels that were chosen.
    """

    def __init__(self, searched: Searched, space: Space) -> None:
        self._searched = searched
        self._space = space
        torch.set_num_threads(1)
        self._semantic = dict(self._label_maps(space.base))

    def ap50(self, values: Values) -> float:
        """Return the AP50 of a candidate over the images."""
        searched = self._searched
        settings = self._space.settings(values)
        keys = searched.artifacts.walk_keys(settings.walk, workers=searched.workers, device=searched.device)
        names = searched.artifacts.record.classes.names
        found = map_in_threads(
            lambda pieces: self._match(pieces, settings.labels, len(names)),
            self._pieces(settings, keys),
            searched.workers,
        )
        return average_precision(add_records(list(found)), names)["ap50"] or 0.0

    def _label_maps(self, settings: PipelineConfig) -> Iterator[tuple[str, _Semantic]]:
        """Yield the id of each image that has instances, and its semantic labels."""
        searched, config = self._searched, settings.labels
        keys = searched.artifacts.walk_keys(settings.walk, workers=searched.workers, device=searched.device)
        for job in searched.artifacts.jobs(searched.samples, config, keys):
            with LabelScores(job, config) as scores:
                for sample in job.samples:
                    if sample.id not in scores:
                        continue
                    hints = hints_of(sample, job.classes)
                    size = working_size(image_size(sample.image), job.long_side)
                    maps, by_pixels = deciding_maps(sample, scores, config, hints, size)
                    image = read_working_image(sample.image, job.long_side) if config.crf_iterations else None
                    rows = decide_rows(maps, size, config, image, by_pixels=by_pixels).rows[0]
                    values = np.array([0, *(label + 1 for label in sample.labels)])
                    rows = np.searchsorted(values, keep_known(values[rows], sample, hints, outside=0))
                    bounds = bool(config.crf_iterations) or by_pixels
                    levels = score_levels(maps, by_pixels=by_pixels) if hints else None
                    yield sample.id, _Semantic(rows.astype(np.uint16) if bounds else None, hints, levels)

    def _pieces(self, settings: PipelineConfig, keys: Keys) -> Iterator[_Pieces]:
        searched = self._searched
        for job in searched.artifacts.jobs(searched.samples, settings.labels, keys):
            with LabelScores(job, settings.labels) as scores:
                for sample in job.samples:
                    if sample.id in scores:
                        yield _Pieces(sample, *scores.pieces(sample.id), self._semantic[sample.id])

    def _match(self, pieces: _Pieces, config: LabelsConfig, num_classes: int) -> InstanceRecords:
        sample = pieces.sample
        own_size = image_size(sample.image)
        size = working_size(own_size, self._space.base.long_side)
        known = pieces.semantic
        semantic = None if known.rows is None else known.rows.astype(np.int64)
        found = instance_masks(pieces.maps, pieces.rows, size, config, semantic)
        if known.hints and known.levels is not None and semantic is not None:
            found = instances_by_boxes(found, semantic, known.hints.at_size(size), sample.labels, known.levels)
        found = found.at_size(own_size)
        truth = read_ground_truth(sample)
        assert truth.semantic is not None
        assert truth.instances is not None
        classes = np.array([sample.labels[row] for row in found.rows], np.int64)
        scores = np.array(found.scores, np.float64)
        maps = truth.semantic, truth.instances
        return match_image(found.masks, classes, scores, *maps, num_classes=num_classes, image=sample.id)
