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
from data.formats.images import image_size
from data.formats.label_maps import read_ground_truth
from tasks.evaluation.instance_metrics import InstanceRecords, add_records, average_precision, match_image
from tasks.pipeline.labels import decide_rows, instance_masks
from tasks.pipeline.second_round import LabelScores
from tasks.pipeline.settings import LabelsConfig, PipelineConfig
from tasks.training.working_size import read_working_image, working_size
from tasks.tuning.artifacts import Keys
from tasks.tuning.space import Space, Values
from tasks.tuning.tables import Searched


@dataclass(frozen=True)
class _Pieces:
    """Walked maps of an image's instances, the class rows of these, and the labels that bound them, where these do."""

    sample: Sample
    maps: Tensor
    rows: list[int]
    semantic: NDArray[np.integer] | None


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

    def _label_maps(self, settings: PipelineConfig) -> Iterator[tuple[str, NDArray[np.integer] | None]]:
        """Yield the rows of the semantic labels of each image; None where they do not bound the instances."""
        searched, config = self._searched, settings.labels
        keys = searched.artifacts.walk_keys(settings.walk, workers=searched.workers, device=searched.device)
        for job in searched.artifacts.jobs(searched.samples, config, keys):
            with LabelScores(job, config) as scores:
                for sample in job.samples:
                    if sample.id not in scores:
                        continue
                    maps, by_pixels = scores.deciding(sample.id)
                    image = read_working_image(sample.image, job.long_side) if config.crf_iterations else None
                    size = working_size(image_size(sample.image), job.long_side)
                    decided = decide_rows(maps, size, config, image, by_pixels=by_pixels)
                    bounds = bool(config.crf_iterations) or by_pixels
                    yield sample.id, decided.rows[0].astype(np.uint16) if bounds else None

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
        semantic = None if pieces.semantic is None else pieces.semantic.astype(np.int64)
        found = instance_masks(pieces.maps, pieces.rows, size, config, semantic).at_size(own_size)
        truth = read_ground_truth(sample)
        assert truth.semantic is not None
        assert truth.instances is not None
        classes = np.array([sample.labels[row] for row in found.rows], np.int64)
        scores = np.array(found.scores, np.float64)
        return match_image(found.masks, classes, scores, truth.semantic, truth.instances, num_classes=num_classes)
