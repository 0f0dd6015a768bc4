"""The dense CRF against pydensecrf: the two label maps that relation mining makes of one photograph."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.row import Row
from kernels.crf import refine_labels, refine_many

# Of labels, beside pydensecrf's.
TOLERANCE = 5e-4


def rows() -> list[Row]:
    """Return one row a size and number of labels; the kernel makes both maps at once, the baseline each by itself."""
    return [_row(375, 500, 2), _row(375, 500, 3), _row(94, 125, 3), _row(32, 32, 2)]


def _row(height: int, width: int, num_labels: int) -> Row:
    image = _photograph(height, width)
    maps = [_label_map(image, num_labels, threshold) for threshold in (0.3, 0.6)]
    fast = partial(refine_many, image, maps, [num_labels] * len(maps), backend="numba")

    def slow() -> list[np.ndarray]:
        return [refine_labels(image, each, num_labels, backend="pydensecrf") for each in maps]

    def measure_error() -> float:
        return max(float((ours != theirs).mean()) for ours, theirs in zip(fast(), slow(), strict=True))

    return Row(
        kernel=f"dense CRF, 2 maps of {num_labels} labels, {height} x {width}",
        baseline="pydensecrf",
        fast=fast,
        slow=slow,
        measure_error=measure_error,
        tolerance=TOLERANCE,
        unit="of the pixels",
        memory=True,
    )


def _photograph(height: int, width: int) -> np.ndarray:
    """Make shaded discs on a shaded ground, with texture and noise: about as many vertices as a photograph has."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.stack([110 + 60 * np.sin(6 * y + c) + 30 * np.cos(4 * x * (c + 1)) for c in range(3)], -1)
    for _ in range(8):
        (cy, cx), radius = generator.uniform(0.1, 0.9, 2), generator.uniform(0.05, 0.2)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        stripes = 20 * np.sin((x + y)[disc] * generator.uniform(100, 400))
        image[disc] = generator.uniform(30, 220, 3) + stripes[:, None]
    return (image + generator.normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8)


def _label_map(image: np.ndarray, num_labels: int, threshold: float) -> np.ndarray:
    """Return labels as coarse maps of scores give them, from the image's colours in cells of 8 x 8 pixels."""
    height, width = image.shape[:2]
    cells = image[::8, ::8].repeat(8, 0).repeat(8, 1)[:height, :width] / 255
    labels = 1 + cells[..., : num_labels - 1].argmax(-1)
    return np.where(cells.max(-1) > threshold, labels, 0)
