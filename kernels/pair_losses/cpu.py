"""The CPU version: pairs are counted where their strongest boundary lies, and no table of pairs is kept.

The cost of a pair's affinity, and its gradient, depend on one pixel only: the one with the strongest boundary on
the path. So numba counts, for each pixel and kind of pair, the pairs that it decides, and plain torch does the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from numba import njit
from torch import Tensor

from kernels.affinity import offsets
from kernels.affinity.cpu import path_maxima
from kernels.affinity.plan import plan
from kernels.pair_losses.terms import IGNORE, PairTerms, negative_cost, positive_cost


@njit(nogil=True, cache=True)
def _count_deciders(labels, maxima, ends, offsets, counts, reach, ignore):  # pragma: no cover
    """Add to counts [3, H * W], indexed by rank, the background, foreground and negative pairs that end there."""
    height, width = labels.shape
    for k in range(len(ends)):
        shape, left = ends[k]
        dy, dx = offsets[k]
        for y in range(height - reach):
            for x in range(reach, width - reach):
                one, other = labels[y, x], labels[y + dy, x + dx]
                if one == ignore or other == ignore:
                    continue
                kind = 2 if one != other else (0 if one == 0 else 1)
                counts[kind, maxima[shape, y, x - left]] += 1


@njit(nogil=True, cache=True)
def _sum_displacement(displacement, labels, offsets, slopes, reach, ignore):  # pragma: no cover
    """Return the foreground and background sums; add the pixels' subgradients to slopes [2, 2, H, W]."""
    height, width = labels.shape
    sums = np.zeros(2)
    for k in range(len(offsets)):
        dy, dx = offsets[k]
        for y in range(height - reach):
            for x in range(reach, width - reach):
                label = labels[y, x]
                if label == ignore or labels[y + dy, x + dx] != label:
                    continue
                kind = 1 if label == 0 else 0
                for axis in range(2):
                    error = displacement[axis, y, x] - displacement[axis, y + dy, x + dx]
                    if kind == 0:
                        error -= offsets[k, axis]
                    sums[kind] += abs(error)
                    slope = np.int32(error > 0) - np.int32(error < 0)
                    slopes[kind, axis, y, x] += slope
                    slopes[kind, axis, y + dy, x + dx] -= slope
    return sums


def _over_images(work: Callable[[int], Any], batch: int) -> list[Any]:
    """Return work(0), work(1), ... in order; each image is one thread's, so threads change no result."""
    with ThreadPoolExecutor(max(min(batch, torch.get_num_threads()), 1)) as pool:
        return list(pool.map(work, range(batch)))


def _decided_pairs(boundary: np.ndarray, labels: np.ndarray, radius: int) -> np.ndarray:
    """Return int64 [3, B, H, W]: for each pixel the pairs of each kind whose strongest boundary it is."""
    batch, height, width = labels.shape
    shapes = plan(radius)
    steps_to = offsets(radius).numpy()
    decided = np.empty((3, batch, height * width), np.int64)

    def count(b: int) -> None:
        # Maxima of ranks name their pixel. Reversed, so that of equal boundaries the first pixel ranks highest.
        order = height * width - 1 - np.argsort(boundary[b].ravel()[::-1], kind="stable")
        rank = np.empty(height * width, np.int32)
        rank[order] = np.arange(height * width, dtype=np.int32)
        rank = rank.reshape(height, width)
        maxima = np.empty((len(shapes.sizes), height, width), np.int32)
        path_maxima(rank, maxima, shapes.steps, shapes.sizes)
        counts = np.zeros((3, height * width), np.int64)
        _count_deciders(labels[b], maxima, shapes.ends, steps_to, counts, radius - 1, IGNORE)
        decided[:, b, order] = counts

    _over_images(count, batch)
    return decided.reshape(3, batch, height, width)


class _DisplacementSums(torch.autograd.Function):
    """Foreground and background sums of displacement errors: [B, 2, H, W] -> [2]."""

    @staticmethod
    def forward(ctx: Any, displacement: Tensor, labels: np.ndarray, radius: int) -> Tensor:
        field = displacement.detach().contiguous().numpy()
        steps_to = offsets(radius).numpy()
        slopes = np.zeros((len(field), 2, *field.shape[1:]), np.int32)
        sums = _over_images(
            lambda b: _sum_displacement(field[b], labels[b], steps_to, slopes[b], radius - 1, IGNORE), len(field)
        )
        ctx.save_for_backward(torch.from_numpy(slopes))
        return displacement.new_tensor(np.sum(sums, axis=0)) if sums else displacement.new_zeros(2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return torch.einsum("t,btahw->bahw", grads[0], slopes.to(grads[0].dtype)), None, None


def pair_terms(
    boundary: Float[Tensor, "b h w"],
    displacement: Float[Tensor, "b 2 h w"],
    labels: Integer[Tensor, "b h w"],
    radius: int,
) -> PairTerms:
    """See `kernels.pair_losses.pair_terms`."""
    classes = labels.contiguous().numpy()
    decided = torch.from_numpy(_decided_pairs(boundary.detach().contiguous().numpy(), classes, radius))
    background, foreground, negative = decided
    affinity = 1 - boundary
    # In double precision: a sum of a million costs in single precision would depend on how it is split.
    positive = positive_cost(affinity).double()
    fg_displacement, bg_displacement = _DisplacementSums.apply(displacement, classes, radius)
    num_bg, num_fg, num_neg = decided.sum((1, 2, 3))
    return PairTerms(
        num_bg=num_bg,
        num_fg=num_fg,
        num_neg=num_neg,
        bg_affinity=(positive * background).sum().to(boundary.dtype),
        fg_affinity=(positive * foreground).sum().to(boundary.dtype),
        neg_affinity=(negative_cost(affinity).double() * negative).sum().to(boundary.dtype),
        fg_displacement=fg_displacement,
        bg_displacement=bg_displacement,
    )
