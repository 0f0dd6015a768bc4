"""Stage `cams` of a run with `--cams`: class attention maps of another method, from files, in the form of our own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from data.cam_maps import CamMaps, read_cams
from data.dataset import Sample
from data.formats.images import image_size
from tasks.engine.job import Job
from tasks.engine.stage import ExternalCamConfig
from tasks.pipeline.score_maps import grid_size, save_maps
from tasks.pipeline.seeds.hints import hint_cams, hints_of
from tasks.training.working_size import working_size


class CamCounts:
    """Counts of what files of attention maps held and lacked.

    Attributes:
        tags: Class number -> images that have the tag.
        without_map: Class number -> those of them whose file has no map of it.
        empty: Class number -> those of them whose map is zero everywhere, or lacking.
        remarks: What files held that maps are not to hold -> how many did.
        examples: Remark -> the id of the first image with it.
    """

    def __init__(self) -> None:
        self.tags: Counter[int] = Counter()
        self.without_map: Counter[int] = Counter()
        self.empty: Counter[int] = Counter()
        self.remarks: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def add(self, sample: Sample, found: CamMaps) -> None:
        """Count the maps of an image, as its file has them."""
        self.tags.update(sample.labels)
        self.without_map.update(found.lacking)
        self.empty.update(c for c, each in zip(sample.labels, found.values, strict=True) if not each.any())
        self.remarks.update(found.remarks)
        self.examples = dict.fromkeys(found.remarks, sample.id) | self.examples

    def update(self, other: CamCounts) -> None:
        """Add the counts of other images, which come after these."""
        for name in ("tags", "without_map", "empty", "remarks"):
            getattr(self, name).update(getattr(other, name))
        self.examples = other.examples | self.examples

    def summary(self) -> dict[str, Any]:
        """Return the counts as plain data, under the names of the attributes."""
        counts = {"tags": dict(self.tags), "without_map": dict(self.without_map), "empty": dict(self.empty)}
        return {**counts, "remarks": dict(self.remarks), "examples": self.examples}


def read_external_cams(job: Job) -> dict[str, Any]:
    """Write the maps of every image that has labels, as `tasks.pipeline.seeds.cams:infer_cams` does, from its file.

    Summary: that of `CamCounts`.

    Raises:
        DatasetError: A file cannot be used.
    """
    config = job.config
    assert isinstance(config, ExternalCamConfig)
    maps: dict[str, Tensor] = {}
    counts = CamCounts()
    for done, sample in enumerate(job.samples, start=1):
        if sample.labels:
            own_size = image_size(sample.image)
            size = working_size(own_size, job.long_side)
            found = read_cams(sample, config.source, job.classes, grid_size(size), strict=False)
            given = maps_to_grid(found.values, size)
            maps[sample.id] = hint_cams(given, sample.labels, hints_of(sample, job.classes), size)
            counts.add(sample, found)
        job.progress(done, len(job.samples))
    save_maps(job.out / "cams.safetensors", maps)
    return counts.summary()


def maps_to_grid(maps: NDArray[np.float32], size: tuple[int, int]) -> Float[Tensor, "k h w"]:
    """Bring maps [K, h, w] of any size to the stride-4 grid of an image (H, W).

    Maps on that grid stay as they are. Of larger ones each cell is the mean of what it covers; smaller ones are
    interpolated.
    """
    rows, columns = grid_size(size)
    if maps.shape[1:] == (rows, columns):
        return torch.from_numpy(maps)
    grid = np.zeros((len(maps), rows, columns), np.float32)
    for place, each in enumerate(maps):
        if each.shape[0] < rows or each.shape[1] < columns:
            grid[place] = cv2.resize(each, (columns, rows), interpolation=cv2.INTER_LINEAR)
        else:
            grid[place] = _mean_of_cells(each, size)
    return torch.from_numpy(grid)


def _mean_of_cells(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    rows, columns = grid_size(size)
    if values.shape != size:
        interpolation = cv2.INTER_AREA if values.shape[0] > size[0] else cv2.INTER_LINEAR
        values = np.asarray(cv2.resize(values, size[::-1], interpolation=interpolation), np.float32)
    # Cells at the lower and right end may reach beyond the image.
    full = np.pad(values, ((0, 4 * rows - size[0]), (0, 4 * columns - size[1])), mode="edge")
    return full.reshape(rows, 4, columns, 4).mean(axis=(1, 3), dtype=np.float32)
