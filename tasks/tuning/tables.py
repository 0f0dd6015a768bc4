"""What a search knows of its images: a table per setting that is not a threshold, kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from data.concurrency import map_in_threads
from data.dataset import Sample
from data.files import replacing
from tasks.engine.artifact import has_truth
from tasks.engine.source import source_digest
from tasks.pipeline.score_maps import MapReader, saliency_factors
from tasks.pipeline.second_round import LabelScores
from tasks.pipeline.seeds.hints import hints_of
from tasks.pipeline.settings import PipelineConfig
from tasks.tuning.artifacts import RunArtifacts
from tasks.tuning.curves import ImageCurves, ImageScores, Measuring, measure_image
from tasks.tuning.space import BACKGROUND, PIXEL, Space, Values, value_of

log = logging.getLogger(__name__)
KEPT = 8
"""Tables that are in memory at a time."""
_ARRAYS = ("hits", "found", "true", "merits")


@dataclass(frozen=True)
class Table:
    """`ImageCurves` of N images: `hits` and `found` int32 [N, T, V], `true` [N, V], `merits` float64 [N, T, M]."""

    hits: NDArray[np.int32]
    found: NDArray[np.int32]
    true: NDArray[np.int32]
    merits: NDArray[np.float64]

    def counts(self, row: int) -> NDArray[np.int64]:
        """Return hits, found and true pixels of each image and value at a threshold, [3, N, V]."""
        return np.stack([self.hits[:, row], self.found[:, row], self.true]).astype(np.int64)


@dataclass(frozen=True)
class Searched:
    """What a search looks at.

    Attributes:
        artifacts: Of the run.
        samples: Id -> image.
        space: Settings of the semantic labels.
        folder: Where tables are kept.
        judge: Measure without ground truth too.
        workers: Threads, and processes that make walks.
        device: Where walks are made.
    """

    artifacts: RunArtifacts
    samples: Mapping[str, Sample]
    space: Space
    folder: Path
    judge: bool
    workers: int
    device: str

    @property
    def axis(self) -> str:
        """The setting whose values a table has side by side: the labels' background threshold."""
        return PIXEL if self.artifacts.second_round else BACKGROUND


class Tables:
    """Tables by the settings of a candidate; made where there is none yet.

    Args:
        searched: What they are of.
        say: Called with a sentence per table that is made.
    """

    def __init__(self, searched: Searched, say: Callable[[str], None] = log.info) -> None:
        self._searched = searched
        self._say = say
        self._known: OrderedDict[str, Table] = OrderedDict()

    def at(self, values: Values) -> tuple[Table, int]:
        """Return the table of a candidate, and the row of its threshold."""
        searched = self._searched
        settings = searched.space.settings(values)
        own = value_of(settings, searched.axis)
        thresholds = searched.space.values.get(searched.axis, (own,))
        return self._table(settings, thresholds, values), thresholds.index(own)

    def _table(self, settings: PipelineConfig, thresholds: tuple[float, ...], values: Values) -> Table:
        searched = self._searched
        keys = searched.artifacts.walk_keys(
            settings.walk, workers=searched.workers, device=searched.device, progress=self._say
        )
        how = Measuring(
            thresholds=thresholds,
            iterations=settings.labels.crf_iterations,
            walk_threshold=_number(settings) if searched.artifacts.second_round else None,
            cam_threshold=searched.artifacts.cam_threshold,
            num_values=len(searched.artifacts.record.classes.values),
            long_side=settings.long_side,
            judge=searched.judge,
            pixel_threshold=settings.labels.pixel_threshold if self._by_walk else None,
        )
        name = self._name(settings, how, keys)
        if name not in self._known:
            file = searched.folder / f"{name}.npz"
            table = _read(file)
            if table is None:
                others = [f"{key} {value:g}" for key, value in values.items() if key != searched.axis]
                counts = f"{len(searched.samples)} images at {len(thresholds)} thresholds"
                self._say(f"measuring {counts}, {', '.join(others) or 'all else as it is'}")
                table = self._measure(settings, how, keys)
                _write(file, table)
            self._known[name] = table
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(name)
        return self._known[name]

    def _name(self, settings: PipelineConfig, how: Measuring, keys: Mapping[int, str]) -> str:
        """Return a name for all that a table depends on."""
        labels, record = settings.labels, self._searched.artifacts.record
        parts = {
            "source": source_digest("tasks.tuning.curves:measure_image"),
            "how": vars(how) | {"thresholds": list(how.thresholds)},
            "evidence": [labels.background_threshold, labels.walk_power] if how.walk_threshold is not None else None,
            "walk": sorted(keys.items()),
            "others": [record.stages[name].keys for name in ("cams", "pixel-scores") if name in record.stages],
            # The name of the list has the digests of the images and of their ground truth.
            "images": [record.images.file, *sorted(self._searched.samples)],
            "truth": any(map(has_truth, self._searched.samples.values())),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]

    @property
    def _by_walk(self) -> bool:
        """Whether walked scores become probabilities by hints, whose threshold is not the axis."""
        artifacts = self._searched.artifacts
        return artifacts.hinted and not artifacts.second_round

    def _measure(self, settings: PipelineConfig, how: Measuring, keys: Mapping[int, str]) -> Table:
        torch.set_num_threads(1)
        found = map_in_threads(
            lambda scores: measure_image(scores, how), self._scores(settings, keys), self._searched.workers
        )
        return _stack(found)

    def _scores(self, settings: PipelineConfig, keys: Mapping[int, str]) -> Iterator[ImageScores]:
        searched = self._searched
        for job in searched.artifacts.jobs(searched.samples, settings.labels, keys):
            with (
                LabelScores(job, settings.labels) as scores,
                MapReader(searched.artifacts.read_cams(job), saliency_factors(job)) as cams,
            ):
                for sample in job.samples:
                    if sample.id in scores:
                        hints, boundary = hints_of(sample, job.classes), scores.boundary(sample.id)
                        yield ImageScores(sample, *scores.deciding(sample.id), cams[sample.id], hints, boundary)
                    else:
                        yield ImageScores(sample, None, False, None)


def _number(settings: PipelineConfig) -> float:
    threshold = settings.labels.background_threshold
    assert threshold != "auto"
    return threshold


def _stack(curves: Iterator[ImageCurves]) -> Table:
    hits, found, true, merits = (np.stack(part) for part in zip(*map(_small, curves), strict=True))
    return Table(hits, found, true, merits)


def _small(curves: ImageCurves) -> tuple[NDArray, ...]:
    *counts, merits = curves
    return (*(each.astype(np.int32) for each in counts), merits)


def _write(file: Path, table: Table) -> None:
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **{name: getattr(table, name) for name in _ARRAYS})


def _read(file: Path) -> Table | None:
    """Return a table; None where there is none that can be read."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Table(*(arrays[name] for name in _ARRAYS))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
