"""The CPU version: channels of a pixel lie side by side, and no difference of two maps is ever stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from kernels.affinity import offsets


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _affinities(features, shifts, found):
    """Write to found [B, K, H, W] the affinities of features [B, H, W, D]; shifts int64 [K, 2] are (dy, dx)."""
    batch, height, width, channels = features.shape
    for b in range(batch):
        for k in range(len(shifts)):
            dy, dx = shifts[k]
            for y in range(height - dy):
                for x in range(max(-dx, 0), width - max(dx, 0)):
                    one, other = features[b, y, x], features[b, y + dy, x + dx]
                    total = np.float32(0)
                    for c in range(channels):
                        total += abs(one[c] - other[c])
                    found[b, k, y, x] = np.exp(-total / np.float32(channels))


@njit(nogil=True, cache=True, fastmath={"contract"})
def _add_gradients(features, shifts, slopes, gradients):
    """Add to gradients [B, H, W, D] those of every pair's features; slopes [B, K, H, W] are those of the distances.

    The distance of two equal numbers has the slope 0, as torch has it.
    """
    batch, height, width, channels = features.shape
    for b in range(batch):
        for k in range(len(shifts)):
            dy, dx = shifts[k]
            for y in range(height - dy):
                for x in range(max(-dx, 0), width - max(dx, 0)):
                    slope = slopes[b, k, y, x]
                    if slope != 0:
                        one, other = features[b, y, x], features[b, y + dy, x + dx]
                        mine, theirs = gradients[b, y, x], gradients[b, y + dy, x + dx]
                        for c in range(channels):
                            difference = one[c] - other[c]
                            part = slope if difference > 0 else -slope if difference < 0 else np.float32(0)
                            mine[c] += part
                            theirs[c] -= part


class _FeatureAffinity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, radius: int) -> Tensor:
        shifts = offsets(radius)
        batch, _, height, width = features.shape
        rows = features.detach().permute(0, 2, 3, 1).contiguous()
        found = torch.zeros(batch, len(shifts), height, width)
        _affinities(rows.numpy(), shifts.numpy(), found.numpy())
        ctx.shifts = shifts
        ctx.save_for_backward(rows, found)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, found = ctx.saved_tensors
        # d exp(-distance) = -exp(-distance) d distance, and the distance is a mean over the channels.
        slopes = (-gradient * found / rows.shape[-1]).contiguous()
        gradients = torch.zeros_like(rows)
        _add_gradients(rows.numpy(), ctx.shifts.numpy(), slopes.numpy(), gradients.numpy())
        return gradients.permute(0, 3, 1, 2), None


def feature_affinity(features: Float[Tensor, "b d h w"], radius: int) -> Float[Tensor, "b k h w"]:
    """See `kernels.feature_affinity.feature_affinity`."""
    return _FeatureAffinity.apply(features, radius)
