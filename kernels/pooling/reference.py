"""Pooling with packed indices in plain torch."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

SHIFTS = (0, 2, 4, 6)


def pool(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c p q"], UInt8[Tensor, "b c p k"]]:
    """See `kernels.pooling.max_pool`."""
    batch, channels, height, width = x.shape
    if min(height, width) < 2:
        empty = x.new_empty(batch, channels, height // 2, width // 2)
        return empty, _pack(empty.to(torch.uint8))
    maxima, places = F.max_pool2d(x, 2, return_indices=True)
    # torch counts the pixels of a map: y W + x, and a window begins at even ones.
    numbers = 2 * (places // width % 2) + places % width % 2
    return maxima, _pack(numbers.to(torch.uint8))


def unpool(
    x: Float[Tensor, "b c p q"], indices: UInt8[Tensor, "b c p k"], height: int, width: int
) -> Float[Tensor, "b c h w"]:
    """See `kernels.pooling.max_unpool`."""
    spread = x.new_zeros(*x.shape[:2], height, width)
    numbers = _unpack(indices, x.shape[3])
    for number in range(4):
        view = spread[..., number // 2 : 2 * x.shape[2] : 2, number % 2 : 2 * x.shape[3] : 2]
        view.copy_(torch.where(numbers == number, x, 0))
    return spread


def pick(x: Float[Tensor, "b c h w"], indices: UInt8[Tensor, "b c p k"]) -> Float[Tensor, "b c p q"]:
    """Return the values [B, C, H // 2, W // 2] at the maxima's places: the gradient of unpooling."""
    height, width = x.shape[2] // 2, x.shape[3] // 2
    numbers = _unpack(indices, width)
    picked = x.new_zeros(*x.shape[:2], height, width)
    for number in range(4):
        view = x[..., number // 2 : 2 * height : 2, number % 2 : 2 * width : 2]
        picked = torch.where(numbers == number, view, picked)
    return picked


def _pack(numbers: UInt8[Tensor, "b c p q"]) -> UInt8[Tensor, "b c p k"]:
    padded = F.pad(numbers, (0, -numbers.shape[3] % 4)).unflatten(3, (-1, 4))
    shifts = torch.tensor(SHIFTS, dtype=torch.uint8, device=numbers.device)
    return (padded << shifts).sum(4, dtype=torch.uint8)


def _unpack(indices: UInt8[Tensor, "b c p k"], width: int) -> UInt8[Tensor, "b c p q"]:
    shifts = torch.tensor(SHIFTS, dtype=torch.uint8, device=indices.device)
    return (indices[..., None] >> shifts & 3).flatten(3)[..., :width]
