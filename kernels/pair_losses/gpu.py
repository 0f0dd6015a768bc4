"""The Triton version: every pair once, its path read from a cache, its strongest pixel counted.

Counts and slopes are whole numbers, so that it does not matter in which order the GPU adds to them; the sums of errors
are stored by program and added in a fixed order. Nothing is kept for the backward pass but counts.
"""

# What a jitted function takes when it is launched is not what its parameters are within it.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Integer
from torch import Tensor

from kernels.affinity import offsets
from kernels.affinity.gpu import path_tables
from kernels.pair_losses.terms import IGNORE, PairTerms, from_counts

BLOCK = 128


def pair_terms(
    boundary: Float[Tensor, "b h w"],
    displacement: Float[Tensor, "b 2 h w"],
    labels: Integer[Tensor, "b h w"],
    radius: int,
) -> PairTerms:
    """See `kernels.pair_losses.pair_terms`."""
    batch, height, width = labels.shape
    steps_to = offsets(radius).int().to(labels.device)
    starts, pixels = path_tables(radius, labels.device)
    decided = torch.zeros(3, batch, height, width, dtype=torch.int32, device=labels.device)
    slopes = torch.zeros(batch, 2, 2, height, width, dtype=torch.int32, device=labels.device)
    grid = (triton.cdiv(height * width, BLOCK), len(steps_to), batch)
    sums = torch.zeros(batch, len(steps_to), grid[0], 2, dtype=torch.float64, device=labels.device)
    if labels.numel():
        _visit_pairs[grid](
            boundary.detach().contiguous(), displacement.detach().contiguous(), labels.int().contiguous(),
            starts, pixels, steps_to, decided, slopes, sums, height, width, radius - 1, IGNORE=IGNORE, BLOCK=BLOCK,
        )  # fmt: skip
    return from_counts(boundary, displacement, decided, sums.sum((0, 1, 2)), slopes)


@triton.jit
def _visit_pairs(
    boundary, displacement, labels, starts, pixels, offsets, decided, slopes, sums, height, width, reach,
    IGNORE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Program (tile of first pixels, offset, image)."""
    first = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    offset = tl.program_id(1)
    image = tl.program_id(2).to(tl.int64)
    size = height * width
    y = first // width
    x = first % width
    has_pairs = (y < height - reach) & (x >= reach) & (x < width - reach)
    dy = tl.load(offsets + 2 * offset)
    dx = tl.load(offsets + 2 * offset + 1)
    second = first + dy * width + dx
    one = tl.load(labels + image * size + first, mask=has_pairs, other=IGNORE)
    other = tl.load(labels + image * size + second, mask=has_pairs, other=IGNORE)
    is_pair = (one != IGNORE) & (other != IGNORE)
    alike = is_pair & (one == other)
    kind = tl.where(one == other, tl.where(one == 0, 0, 1), 2)

    strongest = tl.full([BLOCK], float("-inf"), boundary.dtype.element_ty)
    decider = first
    for i in range(tl.load(starts + offset), tl.load(starts + offset + 1)):
        at = first + tl.load(pixels + 2 * i) * width + tl.load(pixels + 2 * i + 1)
        value = tl.load(boundary + image * size + at, mask=is_pair, other=0.0)
        # Of equal ones the first pixel in raster order, whatever the order of the path.
        better = (value > strongest) | ((value == strongest) & (at < decider))
        strongest = tl.where(better, value, strongest)
        decider = tl.where(better, at, decider)
    tl.atomic_add(decided + (kind * tl.num_programs(2) + image) * size + decider, 1, mask=is_pair)

    cost = tl.zeros([BLOCK], tl.float64)
    for axis in tl.static_range(2):
        field = displacement + (image * 2 + axis) * size
        step = dy if axis == 0 else dx
        error = tl.load(field + first, mask=alike, other=0.0) - tl.load(field + second, mask=alike, other=0.0)
        error -= tl.where(alike & (kind == 1), step, 0).to(error.dtype)
        cost += tl.abs(error).to(tl.float64)
        slope = (error > 0).to(tl.int32) - (error < 0).to(tl.int32)
        place = slopes + ((image * 2 + kind) * 2 + axis) * size
        tl.atomic_add(place + first, slope, mask=alike)
        tl.atomic_add(place + second, -slope, mask=alike)
    program = ((image * tl.num_programs(1) + offset) * tl.num_programs(0) + tl.program_id(0)) * 2
    tl.store(sums + program, tl.sum(tl.where(kind == 0, cost, 0.0)))
    tl.store(sums + program + 1, tl.sum(tl.where(kind == 1, cost, 0.0)))
