"""The dense CRF against pydensecrf: the two label maps that relation mining makes of one photograph."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from benchmarks.inputs import photograph
from benchmarks.row import Part, Row, synchronised
from kernels.crf import refine_batch, refine_labels, refine_many

# Of labels, beside pydensecrf's.
TOLERANCE = 5e-4


def rows() -> list[Row]:
    """Return one row a size and number of labels; the kernel makes both maps at once, the baseline each by itself."""
    sizes = [(375, 500, 2), (375, 500, 3), (94, 125, 3), (32, 32, 2)]
    return [_row(*size) for size in sizes] + ([_on_gpu(16, 375, 500, 3)] if torch.cuda.is_available() else [])


def _row(height: int, width: int, num_labels: int) -> Row:
    image = photograph(height, width)
    maps = [_label_map(image, num_labels, threshold) for threshold in (0.3, 0.6)]
    fast = partial(refine_many, image, maps, [num_labels] * len(maps), backend="numba")
    slow = partial(_refine_plainly, image, maps, num_labels)

    def measure_error() -> float:
        return max(float((ours != theirs).mean()) for ours, theirs in zip(fast(), slow(), strict=True))

    return Row(
        kernel=f"dense CRF, 2 maps of {num_labels} labels, {height} x {width}",
        baseline="pydensecrf",
        fast=fast,
        slow=[Part(slow)],
        measure_error=measure_error,
        tolerance=TOLERANCE,
        unit="of the pixels",
        memory=True,
    )


def _on_gpu(batch: int, height: int, width: int, num_labels: int) -> Row:
    """Return a row of a batch of images, two maps each; the baseline does one image, counted for all."""
    image = photograph(height, width)
    maps = [_label_map(image, num_labels, threshold) for threshold in (0.3, 0.6)]
    images = [torch.from_numpy(image).cuda()] * batch
    labels = [[torch.from_numpy(each).cuda() for each in maps]] * batch
    fast = synchronised(partial(refine_batch, images, labels, [[num_labels] * 2] * batch, backend="triton"))
    slow = partial(_refine_plainly, image, maps, num_labels)

    def measure_error() -> float:
        pairs = zip(fast()[-1], slow(), strict=True)
        return max(float((ours.cpu().numpy() != theirs).mean()) for ours, theirs in pairs)

    name = f"GPU, {batch} images: dense CRF, 2 maps of {num_labels} labels, {height} x {width}"
    return Row(name, "pydensecrf on one core", fast, [Part(slow, batch)], measure_error, 1e-3, "of the pixels")


def _refine_plainly(image: np.ndarray, maps: list[np.ndarray], num_labels: int) -> list[np.ndarray]:
    return [refine_labels(image, each, num_labels, backend="pydensecrf") for each in maps]


def _label_map(image: np.ndarray, num_labels: int, threshold: float) -> np.ndarray:
    """Return labels as coarse maps of scores give them, from the image's colours in cells of 8 x 8 pixels."""
    height, width = image.shape[:2]
    cells = image[::8, ::8].repeat(8, 0).repeat(8, 1)[:height, :width] / 255
    labels = 1 + cells[..., : num_labels - 1].argmax(-1)
    return np.where(cells.max(-1) > threshold, labels, 0)
