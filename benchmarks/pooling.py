"""Max-pooling with two bits a window, and unpooling, against torch's with indices of 64 bits; the boundary measure."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.row import Part, Row, Speed
from kernels.pooling import max_pool, max_unpool
from tasks.evaluation.boundary_metric import boundary_sums

CHANNELS, HEIGHT, WIDTH = 64, 360, 480
CLASSES, MAPS = 11, 100


def rows() -> list[Row]:
    return [_row(gradients=False), _row(gradients=True)]


def speeds() -> list[Speed]:
    generator = np.random.default_rng(0)
    # Regions of 20 pixels, moved by one: every class has contours in every map.
    truth = generator.integers(0, CLASSES, (MAPS, HEIGHT // 20, WIDTH // 20), dtype=np.uint8)
    truth = truth.repeat(20, axis=1).repeat(20, axis=2)
    found = np.roll(truth, 1, axis=2)

    def work() -> None:
        for gt, pred in zip(truth, found, strict=True):
            boundary_sums(gt, pred, CLASSES)

    return [Speed(f"boundary F1, {CLASSES} classes, {HEIGHT} x {WIDTH}", work, MAPS)]


def _row(*, gradients: bool) -> Row:
    """The first pooling of a network that sees 360 x 480 pixels, and the unpooling that belongs to it."""
    torch.manual_seed(0)
    maps = torch.randn(1, CHANNELS, HEIGHT, WIDTH).relu().contiguous(memory_format=torch.channels_last)

    def fast() -> list[Tensor]:
        x = maps.detach().requires_grad_(gradients)
        maxima, indices = max_pool(x)
        return _finish(x, max_unpool(maxima, indices, (HEIGHT, WIDTH)))

    def slow() -> list[Tensor]:
        x = maps.detach().requires_grad_(gradients)
        maxima, indices = F.max_pool2d(x, 2, return_indices=True)
        return _finish(x, F.max_unpool2d(maxima, indices, (2, 2)))

    def measure_error() -> float:
        pairs = zip(fast(), slow(), strict=True)
        return max(float((one != other).float().mean()) for one, other in pairs)

    what = "with gradients" if gradients else "forward"
    name = f"pooling and unpooling, {what}, {CHANNELS} x {HEIGHT} x {WIDTH}"
    return Row(name, "torch's layers", fast, [Part(slow)], measure_error, 0, "of the values", memory=True)


def _finish(x: Tensor, spread: Tensor) -> list[Tensor]:
    if not x.requires_grad:
        return [spread]
    spread.sum().backward()
    assert x.grad is not None
    return [spread.detach(), x.grad]
