"""Refinement of the displacement field, against the authors' way: numpy, the whole map a step."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from benchmarks.inputs import displacement_field
from benchmarks.row import Part, Row
from kernels.displacement import find_centroids

ITERATIONS = 300


def rows() -> list[Row]:
    return [_row(94, 125), _row(32, 32)]


def _row(height: int, width: int) -> Row:
    field = displacement_field(height, width)

    def fast() -> Tensor:
        return find_centroids(field, ITERATIONS, backend="numba")

    def slow() -> np.ndarray:
        return follow(field.numpy(), ITERATIONS)

    def measure_error() -> float:
        return float((fast().numpy() != slow()).any(0).mean())

    name = f"displacement, {ITERATIONS} steps, {height} x {width}"
    return Row(name, "numpy", fast, [Part(slow)], measure_error, 0, "of the centroids")


def follow(field: np.ndarray, iterations: int) -> np.ndarray:
    """Return the centroids int64 [2, H, W] of a field, the whole map a step."""
    _, height, width = field.shape
    one = np.float32(1)
    y, x = np.meshgrid(np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32), indexing="ij")
    for _ in range(iterations):
        top, left = np.floor(y).astype(int), np.floor(x).astype(int)
        bottom, far = np.ceil(y).astype(int), np.ceil(x).astype(int)
        down, right = y - top.astype(np.float32), x - left.astype(np.float32)
        step = (
            field[:, top, left] * (one - down) * (one - right)
            + field[:, top, far] * (one - down) * right
            + field[:, bottom, left] * down * (one - right)
            + field[:, bottom, far] * down * right
        )
        y, x = np.clip(y + step[0], 0, height - 1), np.clip(x + step[1], 0, width - 1)
    return np.stack([y, x]).round().astype(np.int64)
