"""Compile the CPU kernels now, so that no later process waits for it: python -m kernels."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console

from kernels.affinity import boundary_to_affinity
from kernels.convolution import convolve
from kernels.crf import refine_many
from kernels.displacement import find_centroids
from kernels.feature_affinity import feature_affinity
from kernels.pair_losses import pair_terms
from kernels.pooling import max_pool, max_unpool
from kernels.random_walk import propagate, propagate_affinities

SIZE = (24, 24)


def main() -> None:
    """Run every kernel once on a tiny input of the types that the stages give it; numba keeps what it compiles."""
    steps: dict[str, Callable[[], object]] = {
        "path affinity": lambda: boundary_to_affinity(torch.rand(SIZE), 5),
        "random walk": lambda: propagate(torch.rand(2, *SIZE), torch.rand(SIZE), steps=8),
        "feature affinity": _feature_affinity,
        "random walk by affinities": lambda: propagate_affinities(
            torch.rand(2, *SIZE), torch.zeros(34, *SIZE), steps=8
        ),
        "pair losses": _pair_losses,
        "displacement": lambda: find_centroids(torch.rand(2, *SIZE), 2),
        "dense CRF": _crf,
        "convolution": _convolution,
        "pooling": _pooling,
    }
    console = Console()
    for name, step in steps.items():
        begin = time.perf_counter()
        step()
        console.print(f"{name}: ready after {time.perf_counter() - begin:.1f} s", highlight=False)


def _feature_affinity() -> None:
    feature_affinity(torch.rand(1, 4, *SIZE, requires_grad=True), 5).sum().backward()


def _pair_losses() -> None:
    boundary = torch.rand(1, *SIZE, requires_grad=True)
    displacement = torch.rand(1, 2, *SIZE, requires_grad=True)
    labels = torch.randint(3, (1, *SIZE), dtype=torch.uint8)
    sum(pair_terms(boundary, displacement, labels, radius=5)[3:]).backward()  # pyright: ignore


def _crf() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(256, size=(*SIZE, 3), dtype=np.uint8)
    maps = [generator.integers(2, size=SIZE, dtype=np.uint8) for _ in range(2)]
    refine_many(image, maps, [2, 2], iterations=2)


def _convolution() -> None:
    x = torch.rand(1, 4, *SIZE)
    for size in (1, 3):
        weight, bias = torch.rand(4, 4, size, size), torch.rand(4)
        for residual in (None, x):
            convolve(x, weight, bias, residual=residual, low=0)


def _pooling() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.rand(1, 4, *SIZE).to(dtype).requires_grad_()
        maxima, indices = max_pool(x)
        max_unpool(maxima, indices, SIZE).sum().backward()


if __name__ == "__main__":
    main()
