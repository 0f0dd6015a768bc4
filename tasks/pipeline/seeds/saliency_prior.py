"""Stage `saliency`: how much each part of an image draws the eye, from maps of the user's or a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import DatasetError, Problem, Sample
from data.formats.images import read_image
from data.saliency_maps import is_network, read_saliency
from models.onnx_saliency import SaliencyNetwork
from tasks.engine.job import Job
from tasks.pipeline.score_maps import SALIENCY_MAPS, SALIENCY_SETTINGS, grid_size, save_maps
from tasks.pipeline.settings import SaliencyPriorConfig
from tasks.training.working_size import file_working_size


def find_saliency(job: Job) -> dict[str, Any]:
    """Write the map of every image that has labels, [1, h, w] in [0, 1] at stride 4, and the settings of its use.

    Raises:
        DatasetError: A map or a network cannot be used.
    """
    config = job.config
    assert isinstance(config, SaliencyPriorConfig)
    networks: dict[Path, SaliencyNetwork] = {}
    maps = {}
    for done, sample in enumerate(job.samples, start=1):
        if sample.labels:
            found = _saliency_of(sample, networks, job.num_threads)
            maps[sample.id] = to_grid(found, file_working_size(sample.image, job.long_side))
        job.progress(done, len(job.samples))
    save_maps(job.out / SALIENCY_MAPS, maps)
    (job.out / SALIENCY_SETTINGS).write_text(config.model_dump_json())
    return {}


def to_grid(saliency: NDArray[np.float32], size: tuple[int, int]) -> Float[Tensor, "1 h w"]:
    """Bring a map [H, W] of any size to the stride-4 grid of an image (H, W): the mean over the pixels of each cell."""
    interpolation = cv2.INTER_AREA if saliency.shape[0] > size[0] else cv2.INTER_LINEAR
    full = cv2.resize(saliency, size[::-1], interpolation=interpolation)
    rows, columns = grid_size(size)
    # Cells at the lower and right end may reach beyond the image.
    full = np.pad(full, ((0, 4 * rows - size[0]), (0, 4 * columns - size[1])), mode="edge")
    return torch.from_numpy(full.reshape(1, rows, 4, columns, 4).mean(axis=(2, 4)))


def _saliency_of(sample: Sample, networks: dict[Path, SaliencyNetwork], num_threads: int) -> NDArray[np.float32]:
    source = sample.saliency
    assert source is not None
    if not is_network(source):
        return read_saliency(sample)
    try:
        if source not in networks:
            networks[source] = SaliencyNetwork(source, num_threads)
        return networks[source](read_image(sample.image))
    except ValueError as error:
        raise DatasetError([Problem(source, f"{error} (for {sample.id})", sample.id)]) from error
