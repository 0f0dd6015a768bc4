"""The Triton version: every pixel of every path is read, which a GPU's caches serve faster than a table of shapes."""

# What a jitted function takes when it is launched is not what its parameters are within it.
# pyright: reportArgumentType=false

from __future__ import annotations

from functools import cache
from itertools import accumulate

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from kernels.affinity.paths import paths

BLOCK = 256


def boundary_to_affinity(boundary: Float[Tensor, "h w"], radius: int) -> Float[Tensor, "k h w"]:
    """See `kernels.affinity.boundary_to_affinity`; equal to the last bit, as 1 - max(B) = min(1 - B)."""
    return path_minima((1 - boundary)[None], radius)[0]


def path_minima(
    fields: Float[Tensor, "b h w"], radius: int, out: Float[Tensor, "b k h w"] | None = None
) -> Float[Tensor, "b k h w"]:
    """Return each map's minimum over the path of each pair; 0 where the path leaves the map.

    Args:
        out: Where they are written; by default new memory in the precision of the fields.
    """
    batch, height, width = fields.shape
    starts, pixels = path_tables(radius, fields.device)
    if out is None:
        out = fields.new_empty(batch, len(starts) - 1, height, width)
    if out.numel():
        grid = (triton.cdiv(height * width, BLOCK), len(starts) - 1, batch)
        _path_minima[grid](fields.contiguous(), starts, pixels, out, height, width, BLOCK=BLOCK)
    return out


@cache
def path_tables(radius: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return int32 (starts [K + 1], pixels [sum of the lengths, 2]): path k is pixels[starts[k] : starts[k + 1]]."""
    found = paths(radius).values()
    starts = torch.tensor([0, *accumulate(map(len, found))], dtype=torch.int32, device=device)
    pixels = torch.tensor([pixel for path in found for pixel in path], dtype=torch.int32, device=device)
    return starts, pixels


@triton.jit
def _path_minima(fields, starts, pixels, out, height, width, BLOCK: tl.constexpr):
    """Program (tile of pixels, offset, map)."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    offset = tl.program_id(1)
    image = tl.program_id(2).to(tl.int64)
    size = height * width
    y = at // width
    x = at % width
    least = tl.full([BLOCK], float("inf"), fields.dtype.element_ty)
    for i in range(tl.load(starts + offset), tl.load(starts + offset + 1)):
        # No path goes up.
        py = y + tl.load(pixels + 2 * i)
        px = x + tl.load(pixels + 2 * i + 1)
        within = (py < height) & (px >= 0) & (px < width)
        least = tl.minimum(least, tl.load(fields + image * size + py * width + px, mask=within, other=0.0))
    tl.store(out + (image * tl.num_programs(1) + offset) * size + at, least, mask=at < size)
