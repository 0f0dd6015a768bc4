"""The Triton version: a program has bytes of indices, that is four windows side by side for each."""

# What a jitted function takes when it is launched is not what its parameters are within it.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, UInt8
from torch import Tensor

BLOCK = 256


def pool(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c p q"], UInt8[Tensor, "b c p k"]]:
    """See `kernels.pooling.max_pool`."""
    batch, channels, height, width = x.shape
    maxima = _empty(x, batch, channels, height // 2, width // 2)
    indices = _empty(x, batch, channels, height // 2, triton.cdiv(width // 2, 4), dtype=torch.uint8)
    _launch(_pool, x, maxima, indices)
    return maxima, indices


def unpool(
    x: Float[Tensor, "b c p q"], indices: UInt8[Tensor, "b c p k"], height: int, width: int
) -> Float[Tensor, "b c h w"]:
    """See `kernels.pooling.max_unpool`."""
    spread = _empty(x, *x.shape[:2], height, width)
    _launch(_unpool, spread, x, indices)
    spread[:, :, 2 * (height // 2) :] = 0
    spread[:, :, :, 2 * (width // 2) :] = 0
    return spread


def pick(x: Float[Tensor, "b c h w"], indices: UInt8[Tensor, "b c p k"]) -> Float[Tensor, "b c p q"]:
    """See `kernels.pooling.reference.pick`."""
    picked = _empty(x, *indices.shape[:3], x.shape[3] // 2)
    _launch(_pick, x, picked, indices)
    return picked


def _empty(like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    last = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    order = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=order)


def _launch(kernel, maps: Tensor, windows: Tensor, indices: Tensor) -> None:
    """Visit every byte of indices, in the order in which the bytes lie in memory."""
    if indices.numel() == 0:
        return
    by_channel = indices.is_contiguous()
    grid = (triton.cdiv(indices.numel(), BLOCK),)
    kernel[grid](
        maps, windows, indices, *maps.stride(), *windows.stride(), *indices.stride(),
        *indices.shape[1:], windows.shape[3], indices.numel(), BY_CHANNEL=by_channel, BLOCK=BLOCK,
    )  # fmt: skip


@triton.jit
def _locate(channels, height, bytes_, total, BY_CHANNEL: tl.constexpr, BLOCK: tl.constexpr):
    """Return image, channel, row and byte of this program's places, and which of them there are."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    if BY_CHANNEL:
        k = place % bytes_
        p = place // bytes_ % height
        c = place // bytes_ // height % channels
        b = place // bytes_ // height // channels
    else:
        c = place % channels
        k = place // channels % bytes_
        p = place // channels // bytes_ % height
        b = place // channels // bytes_ // height
    return b, c, p, k, place < total


@triton.jit
def _pool(
    maps, windows, indices, mb, mc, my, mx, wb, wc, wy, wx, ib, ic, iy, ix,
    channels, height, bytes_, width, total, BY_CHANNEL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b, c, p, k, exists = _locate(channels, height, bytes_, total, BY_CHANNEL, BLOCK)
    packed = tl.zeros([BLOCK], tl.int32)
    for j in tl.static_range(4):
        q = 4 * k + j
        inside = exists & (q < width)
        corner = maps + b * mb + c * mc + 2 * p * my + 2 * q * mx
        best = tl.load(corner, mask=inside, other=0.0)
        number = tl.zeros([BLOCK], tl.int32)
        for n in tl.static_range(1, 4):
            other = tl.load(corner + (n // 2) * my + (n % 2) * mx, mask=inside, other=0.0)
            greater = ((other > best) | (other != other)) & (best == best)
            best = tl.where(greater, other, best)
            number = tl.where(greater, n, number)
        tl.store(windows + b * wb + c * wc + p * wy + q * wx, best, mask=inside)
        packed |= tl.where(inside, number, 0) << (2 * j)
    tl.store(indices + b * ib + c * ic + p * iy + k * ix, packed.to(tl.uint8), mask=exists)


@triton.jit
def _unpool(
    maps, windows, indices, mb, mc, my, mx, wb, wc, wy, wx, ib, ic, iy, ix,
    channels, height, bytes_, width, total, BY_CHANNEL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b, c, p, k, exists = _locate(channels, height, bytes_, total, BY_CHANNEL, BLOCK)
    packed = tl.load(indices + b * ib + c * ic + p * iy + k * ix, mask=exists, other=0).to(tl.int32)
    for j in tl.static_range(4):
        q = 4 * k + j
        inside = exists & (q < width)
        value = tl.load(windows + b * wb + c * wc + p * wy + q * wx, mask=inside, other=0.0)
        number = (packed >> (2 * j)) & 3
        corner = maps + b * mb + c * mc + 2 * p * my + 2 * q * mx
        for n in tl.static_range(4):
            kept = tl.where(number == n, value, tl.zeros_like(value))
            tl.store(corner + (n // 2) * my + (n % 2) * mx, kept, mask=inside)


@triton.jit
def _pick(
    maps, windows, indices, mb, mc, my, mx, wb, wc, wy, wx, ib, ic, iy, ix,
    channels, height, bytes_, width, total, BY_CHANNEL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b, c, p, k, exists = _locate(channels, height, bytes_, total, BY_CHANNEL, BLOCK)
    packed = tl.load(indices + b * ib + c * ic + p * iy + k * ix, mask=exists, other=0).to(tl.int32)
    for j in tl.static_range(4):
        q = 4 * k + j
        inside = exists & (q < width)
        number = ((packed >> (2 * j)) & 3).to(tl.int64)
        source = maps + b * mb + c * mc + (2 * p + number // 2) * my + (2 * q + number % 2) * mx
        value = tl.load(source, mask=inside, other=0.0)
        tl.store(windows + b * wb + c * wc + p * wy + q * wx, value, mask=inside)
