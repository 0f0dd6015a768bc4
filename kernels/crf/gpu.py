"""The GPU version in Triton: several images and maps at once, sums in a fixed order, no atomic operations."""

# What a jitted function takes when it is launched is not what its parameters are within it.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from jaxtyping import Float32, Int32, Int64, UInt8
from torch import Tensor

from kernels.crf.lattice import build as build_lattice
from kernels.crf.lattice import features
from kernels.crf.settings import BILATERAL, GAUSSIAN

# Rows of a table that a program works on.
BLOCK = 64
# The most pixels that are added up one after the other; a vertex with more, in a plain area, is summed in parts.
SEGMENT = 64


@triton.jit
def _sum_rows(
    values, sources, weights, starts, out, num_sources, num_rows, CHANNELS: tl.constexpr, BLOCK: tl.constexpr
):
    """out[m, r] = sum of weights[j] values[m, sources[j]] over j from starts[r] to starts[r + 1]."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)
    values += tl.program_id(1).to(tl.int64) * num_sources * CHANNELS
    out += tl.program_id(1).to(tl.int64) * num_rows * CHANNELS
    inside = row < num_rows
    start = tl.load(starts + row, mask=inside, other=0)
    count = tl.load(starts + row + 1, mask=inside, other=0) - start
    total = tl.zeros((BLOCK, CHANNELS), tl.float32)
    for j in range(0, tl.max(count, axis=0)):
        valid = j < count
        source = tl.load(sources + start + j, mask=valid, other=0)
        weight = tl.load(weights + start + j, mask=valid, other=0.0)
        place = source.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        total += weight[:, None] * tl.load(values + place, mask=valid[:, None], other=0.0)
    tl.store(out + row.to(tl.int64)[:, None] * CHANNELS + channel[None, :], total, mask=inside[:, None])


@triton.jit
def _blur(values, before, after, out, num_rows, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """Add to each row half of its neighbours on an axis; one that is num_rows does not exist."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)
    shift = tl.program_id(1).to(tl.int64) * num_rows * CHANNELS
    inside = row < num_rows
    left = tl.load(before + row, mask=inside, other=num_rows)
    right = tl.load(after + row, mask=inside, other=num_rows)
    own_at = shift + row.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
    left_at = shift + left.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
    right_at = shift + right.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
    own = tl.load(values + own_at, mask=inside[:, None], other=0.0)
    near = tl.load(values + left_at, mask=(left < num_rows)[:, None], other=0.0)
    near += tl.load(values + right_at, mask=(right < num_rows)[:, None], other=0.0)
    tl.store(out + own_at, own + 0.5 * near, mask=inside[:, None])


@triton.jit
def _infer(
    values,
    corners,
    weights,
    unaries,
    out,
    num_vertices,
    num_pixels,
    CORNERS: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Slice the messages and write softmax(message + unary) over a map's labels; that of no label is -inf."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)
    m = tl.program_id(1).to(tl.int64)
    inside = pixel < num_pixels
    own = (m * num_pixels + pixel)[:, None] * CHANNELS + channel[None, :]
    energy = tl.load(unaries + own, mask=inside[:, None], other=0.0)
    for k in tl.static_range(CORNERS):
        vertex = tl.load(corners + pixel * CORNERS + k, mask=inside, other=0)
        weight = tl.load(weights + pixel * CORNERS + k, mask=inside, other=0.0)
        place = (m * num_vertices + vertex)[:, None] * CHANNELS + channel[None, :]
        energy += weight[:, None] * tl.load(values + place, mask=inside[:, None], other=0.0)
    share = tl.exp(energy - tl.max(energy, axis=1)[:, None])
    share = share / tl.sum(share, axis=1)[:, None]
    tl.store(out + own, share, mask=inside[:, None])


@dataclass(frozen=True)
class _Rows:
    """A sparse matrix by rows: the weights and sources of row r are those from starts[r] to starts[r + 1]."""

    sources: Int32[Tensor, " e"]
    weights: Float32[Tensor, " e"]
    starts: Int32[Tensor, " r1"]

    def sum(self, values: Float32[Tensor, "m s c"]) -> Float32[Tensor, "m r c"]:
        num_maps, num_sources, channels = values.shape
        num_rows = len(self.starts) - 1
        out = values.new_empty(num_maps, num_rows, channels)
        _sum_rows[(triton.cdiv(num_rows, BLOCK), num_maps)](
            values, self.sources, self.weights, self.starts, out, num_sources, num_rows, CHANNELS=channels, BLOCK=BLOCK
        )
        return out


@dataclass(frozen=True)
class Lattice:
    """The lattices of both kernels of some images, their pixels and vertices one after the other.

    Attributes:
        corners: Of each pixel.
        weights: At `corners`, with the kernel's weight and normalisation.
        splat: Sums over pixels: of each part of a vertex, then of the parts.
        before: A vertex's neighbours against each axis, M where there is none or the kernel has fewer axes.
        after: The same along each axis.
        shapes: (H, W) of each image.
    """

    corners: Int32[Tensor, "n k"]
    weights: Float32[Tensor, "n k"]
    splat: tuple[_Rows, ...]
    before: Int32[Tensor, "a m"]
    after: Int32[Tensor, "a m"]
    shapes: tuple[tuple[int, int], ...]

    def blurred(self, field: Float32[Tensor, "m n c"]) -> Float32[Tensor, "m v c"]:
        """Return the vertices' values after splatting and blurring."""
        values = field
        for rows in self.splat:
            values = rows.sum(values)
        num_maps, num_vertices, channels = values.shape
        for before, after in zip(self.before, self.after, strict=True):
            out = torch.empty_like(values)
            _blur[(triton.cdiv(num_vertices, BLOCK), num_maps)](
                values, before, after, out, num_vertices, CHANNELS=channels, BLOCK=BLOCK
            )
            values = out
        return values


def build(images: Sequence[UInt8[Tensor, "h w 3"]]) -> Lattice:
    """Build the lattices of images on one device.

    Raises:
        ValueError: An image is too large for the vertices' keys.
    """
    kernels = (GAUSSIAN, BILATERAL)
    built = [build_lattice(features(image, kernel)) for image in images for kernel in kernels]
    sizes = [each.after.shape[1] for each in built]
    firsts, total = torch.tensor([0, *sizes]).cumsum(0).tolist(), sum(sizes)
    axes = max(len(each.after) for each in built)

    def joined(neighbours: Sequence[Tensor]) -> Int32[Tensor, "a m"]:
        parts = []
        for first, each in zip(firsts, neighbours, strict=False):
            moved = torch.where(each < each.shape[1], each + first, total)
            parts.append(F.pad(moved, (0, 0, 0, axes - len(each)), value=total))
        return torch.cat(parts, 1).int()

    # By kernel: the pixels of all images.
    corners = [
        torch.cat([built[i].corners + firsts[i] for i in range(k, len(built), len(kernels))])
        for k in range(len(kernels))
    ]
    weights = [torch.cat([each.barycentric for each in built[k :: len(kernels)]]) for k in range(len(kernels))]
    both = torch.cat(corners, 1)
    order, levels = _plan_sums(both, total)
    plain = Lattice(
        both.int(),
        torch.cat(weights, 1),
        _splat(torch.cat(weights, 1), order, levels),
        joined([each.before for each in built]),
        joined([each.after for each in built]),
        tuple((image.shape[0], image.shape[1]) for image in images),
    )
    # Symmetric normalisation divides by the square root of the filtered ones at both pixels.
    ones = plain.blurred(both.new_ones(1, len(both), 1, dtype=torch.float32)).flatten()
    for k, kernel in enumerate(kernels):
        gain = 1 / (1 + 2.0 ** (1 - weights[k].shape[1]))
        norm = gain * (weights[k] * ones[corners[k]]).sum(1, keepdim=True) + 1e-20
        weights[k] = weights[k] * (kernel.weight * gain / norm).sqrt()
    normalised = torch.cat(weights, 1)
    return replace(plain, weights=normalised, splat=_splat(normalised, order, levels))


def _plan_sums(
    corners: Int64[Tensor, "n k"], num_vertices: int
) -> tuple[Int64[Tensor, " e"], list[Int32[Tensor, " r1"]]]:
    """Return the entries of `corners` in the order of their vertices, and where the rows of successive sums start.

    A row longer than SEGMENT is cut into parts, which the next sum adds up.
    """
    order = corners.flatten().argsort(stable=True)
    counts = corners.flatten().bincount(minlength=num_vertices)
    levels = []
    while counts.max() > SEGMENT:
        parts = (counts + SEGMENT - 1) // SEGMENT
        row = torch.arange(len(counts), device=counts.device).repeat_interleave(parts)
        within = torch.arange(len(row), device=counts.device) - (parts.cumsum(0) - parts)[row]
        levels.append(_starts((counts[row] - SEGMENT * within).clamp(max=SEGMENT)))
        counts = parts
    return order, [*levels, _starts(counts)]


def _starts(counts: Int64[Tensor, " r"]) -> Int32[Tensor, " r1"]:
    return F.pad(counts.cumsum(0), (1, 0)).int()


def _splat(
    weights: Float32[Tensor, "n k"], order: Int64[Tensor, " e"], levels: list[Int32[Tensor, " r1"]]
) -> tuple[_Rows, ...]:
    rows = [_Rows((order // weights.shape[1]).int(), weights.flatten()[order], levels[0])]
    for shorter, longer in pairwise(levels):
        parts = torch.arange(len(shorter) - 1, dtype=torch.int32, device=order.device)
        rows.append(_Rows(parts, torch.ones_like(parts, dtype=torch.float32), longer))
    return tuple(rows)


def marginals(
    lattice: Lattice, unaries: Sequence[Sequence[Float32[Tensor, "l h w"]]], iterations: int
) -> list[list[Float32[Tensor, "l h w"]]]:
    """See `kernels.crf.reference.marginals`; here for the maps of each image of the lattice."""
    num_maps = max(map(len, unaries))
    sizes = [height * width for height, width in lattice.shapes]
    num_pixels, device = sum(sizes), lattice.corners.device
    channels = triton.next_power_of_2(max(len(each) for maps in unaries for each in maps))
    flat = torch.full((num_maps, num_pixels, channels), -torch.inf, device=device)
    # An image with fewer maps than another computes maps of one label to no use.
    flat[:, :, 0] = 0
    for start, size, maps in zip(np.cumsum([0, *sizes]), sizes, unaries, strict=False):
        for m, each in enumerate(maps):
            flat[m, start : start + size, : len(each)] = each.flatten(1).T
    grid = (triton.cdiv(num_pixels, BLOCK), num_maps)
    num_vertices = lattice.after.shape[1]
    values = torch.zeros(num_maps, num_vertices, channels, device=device)
    field = torch.empty(num_maps, num_pixels, channels, device=device)
    for done in range(iterations + 1):
        if done > 0:
            values = lattice.blurred(field)
        _infer[grid](
            values,
            lattice.corners,
            lattice.weights,
            flat,
            field,
            num_vertices,
            num_pixels,
            CORNERS=lattice.corners.shape[1],
            CHANNELS=channels,
            BLOCK=BLOCK,
        )
    return [
        [part[m, :, : len(each)].T.reshape(each.shape) for m, each in enumerate(maps)]
        for part, maps in zip(field.split(sizes, 1), unaries, strict=True)
    ]
