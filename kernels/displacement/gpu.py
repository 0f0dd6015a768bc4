"""The Triton version: one program follows a tile of pixels of one image of a batch."""

# What a jitted function takes when it is launched is not what its parameters are within it.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

BLOCK = 128


def track_batch(displacements: Sequence[Float[Tensor, "2 h w"]], iterations: int) -> list[Float[Tensor, "2 h w"]]:
    """See `kernels.displacement.reference.track`; fields of any sizes, padded to the largest, single precision."""
    if not any(field.numel() for field in displacements):
        return [torch.empty_like(field) for field in displacements]
    device = displacements[0].device
    height, width = (max(field.shape[axis] for field in displacements) for axis in (1, 2))
    fields = torch.zeros(len(displacements), 2, height, width, device=device)
    for padded, field in zip(fields, displacements, strict=True):
        padded[:, : field.shape[1], : field.shape[2]] = field
    sizes = torch.tensor([field.shape[1:] for field in displacements], dtype=torch.int32, device=device)
    ends = torch.empty_like(fields)
    grid = (triton.cdiv(height * width, BLOCK), len(displacements))
    # A product that is not rounded before it is added would lead pixels near a watershed elsewhere.
    _follow[grid](fields, sizes, ends, height, width, iterations, BLOCK=BLOCK, enable_fp_fusion=False)
    return [
        end[:, : field.shape[1], : field.shape[2]].to(field.dtype, copy=True)
        for end, field in zip(ends, displacements, strict=True)
    ]


@triton.jit
def _follow(fields, sizes, ends, height, width, iterations, BLOCK: tl.constexpr):
    """Program (tile of pixels, image); `sizes` [B, 2] are those before the padding."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    image = tl.program_id(1).to(tl.int64)
    plane = height * width
    bottom = tl.load(sizes + 2 * image) - 1
    side = tl.load(sizes + 2 * image + 1) - 1
    inside = (pixel // width <= bottom) & (pixel % width <= side)
    rows = fields + image * 2 * plane
    columns = rows + plane
    y = (pixel // width).to(tl.float32)
    x = (pixel % width).to(tl.float32)
    for _ in range(iterations):
        top = tl.floor(y)
        left = tl.floor(x)
        down = y - top
        right = x - left
        first = top.to(tl.int32) * width + left.to(tl.int32)
        # With a fraction of zero the lower (right) neighbour may not exist, and counts for nothing.
        far = tl.where(right > 0, 1, 0)
        below = first + tl.where(down > 0, width, 0)
        near_top = tl.load(rows + first, mask=inside, other=0.0) * (1 - down) * (1 - right)
        far_top = tl.load(rows + first + far, mask=inside, other=0.0) * (1 - down) * right
        near_bottom = tl.load(rows + below, mask=inside, other=0.0) * down * (1 - right)
        far_bottom = tl.load(rows + below + far, mask=inside, other=0.0) * down * right
        dy = near_top + far_top + near_bottom + far_bottom
        near_top = tl.load(columns + first, mask=inside, other=0.0) * (1 - down) * (1 - right)
        far_top = tl.load(columns + first + far, mask=inside, other=0.0) * (1 - down) * right
        near_bottom = tl.load(columns + below, mask=inside, other=0.0) * down * (1 - right)
        far_bottom = tl.load(columns + below + far, mask=inside, other=0.0) * down * right
        dx = near_top + far_top + near_bottom + far_bottom
        y = tl.minimum(tl.maximum(y + dy, 0.0), bottom.to(tl.float32))
        x = tl.minimum(tl.maximum(x + dx, 0.0), side.to(tl.float32))
    tl.store(ends + image * 2 * plane + pixel, y, mask=inside)
    tl.store(ends + image * 2 * plane + plane + pixel, x, mask=inside)
