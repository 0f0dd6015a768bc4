"""Refinement of the displacement field, against the authors' way: numpy, the whole map a step."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmarks.row import Row
from kernels.displacement import find_centroids

ITERATIONS = 300


def rows() -> list[Row]:
    return [_row(94, 125), _row(32, 32)]


def _row(height: int, width: int) -> Row:
    field = _field(height, width)

    def fast() -> Tensor:
        return find_centroids(field, ITERATIONS, backend="numba")

    def slow() -> np.ndarray:
        return _follow(field.numpy(), ITERATIONS)

    def measure_error() -> float:
        return float((fast().numpy() != slow()).any(0).mean())

    name = f"displacement, {ITERATIONS} steps, {height} x {width}"
    return Row(name, "numpy", fast, slow, measure_error, 0, "of the centroids")


def _field(height: int, width: int) -> Tensor:
    """Return a field like a network's: every pixel points some way towards the nearest of eight points, unevenly."""
    generator = torch.Generator().manual_seed(0)
    places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
    points = torch.rand(8, 2, 1, 1, generator=generator) * torch.tensor([height, width]).view(2, 1, 1)
    ways = points - places
    nearest = ways.norm(dim=1).argmin(0)
    way = ways.gather(0, nearest.expand(1, 2, height, width))[0]
    noise = torch.randn(1, 2, height // 4 + 1, width // 4 + 1, generator=generator)
    noise = torch.nn.functional.interpolate(noise, (height, width), mode="bilinear", align_corners=False)[0]
    return 0.5 * way + noise


def _follow(field: np.ndarray, iterations: int) -> np.ndarray:
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
