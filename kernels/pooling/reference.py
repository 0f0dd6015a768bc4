"""Pooling with packed indices in plain torch."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

SHIFTS = (0, 2, 4, 6)


def pool(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c p q"], UInt8[Tensor, "b c p k"]]:
    """See `kernels.pooling.max_pool`."""
    maxima, numbers = pool_windows(x)
    return maxima, _pack(numbers)


def unpool(
    x: Float[Tensor, "b c p q"], indices: UInt8[Tensor, "b c p k"], height: int, width: int
) -> Float[Tensor, "b c h w"]:
    """See `kernels.pooling.max_unpool`."""
    return unpool_windows(x, _unpack(indices, x.shape[3]), height, width)


def pick(x: Float[Tensor, "b c h w"], indices: UInt8[Tensor, "b c p k"]) -> Float[Tensor, "b c p q"]:
    """Return the values [B, C, H // 2, W // 2] at the maxima's places: the gradient of unpooling."""
    corners = _corners(x)
    numbers = _unpack(indices, corners[0].shape[3])
    picked = corners[0]
    for number in range(1, 4):
        picked = torch.where(numbers == number, corners[number], picked)
    return picked


def pool_windows(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c p q"], UInt8[Tensor, "b c p q"]]:
    """Return the maximum of each window, and which of its four places has it: 2 dy + dx, a byte each."""
    corners = _corners(x)
    maxima, numbers = corners[0], torch.zeros_like(corners[0], dtype=torch.uint8)
    for number in range(1, 4):
        greater = ((corners[number] > maxima) | corners[number].isnan()) & ~maxima.isnan()
        maxima = torch.where(greater, corners[number], maxima)
        numbers = torch.where(greater, number, numbers).to(torch.uint8)
    return maxima, numbers


def unpool_windows(
    x: Float[Tensor, "b c p q"], numbers: UInt8[Tensor, "b c p q"], height: int, width: int
) -> Float[Tensor, "b c h w"]:
    """Return maps of a size with the values at the places of `pool_windows`, and 0 elsewhere."""
    batch, channels, rows, columns = x.shape
    spread = torch.stack([torch.where(numbers == number, x, 0) for number in range(4)], dim=-1)
    windows = spread.reshape(batch, channels, rows, columns, 2, 2).transpose(3, 4)
    return F.pad(
        windows.reshape(batch, channels, 2 * rows, 2 * columns), (0, width - 2 * columns, 0, height - 2 * rows)
    )


def _corners(x: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b c p q"]]:
    """Return the values at the four places of the windows, the left upper ones first."""
    height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
    return [x[:, :, dy:height:2, dx:width:2] for dy in range(2) for dx in range(2)]


def _pack(numbers: UInt8[Tensor, "b c p q"]) -> UInt8[Tensor, "b c p k"]:
    padded = F.pad(numbers, (0, -numbers.shape[3] % 4)).unflatten(3, (-1, 4))
    shifts = torch.tensor(SHIFTS, dtype=torch.uint8, device=numbers.device)
    return (padded << shifts).sum(4, dtype=torch.uint8)


def _unpack(indices: UInt8[Tensor, "b c p k"], width: int) -> UInt8[Tensor, "b c p q"]:
    shifts = torch.tensor(SHIFTS, dtype=torch.uint8, device=indices.device)
    return (indices[..., None] >> shifts & 3).flatten(3)[..., :width]
