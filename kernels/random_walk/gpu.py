"""The Triton version: many images at once, one kernel a product, all products one CUDA graph.

Memory is bounded: what would take more than `BUDGET` bytes is walked in parts (`kernels.random_walk.parts`).
"""

# What a jitted function takes when it is launched is not what its parameters are within it.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from kernels.affinity import offsets
from kernels.affinity.gpu import path_minima
from kernels.random_walk.chebyshev import schedule
from kernels.random_walk.parts import Part, parts_of

BLOCK = 128
# Maps that share a read of the weights.
MAX_MAPS = 4
# Bytes of the buffers of one part, and of those that are kept; and how many graphs are, which have memory of their own.
BUDGET, MOST_KEPT = 2 << 30, 8

_one_at_a_time = Lock()
_kept: OrderedDict[tuple[Any, ...], _Walk] = OrderedDict()


def propagate_batch(
    scores: Sequence[Float[Tensor, "c h w"]],
    boundaries: Sequence[Float[Tensor, "h w"]],
    radius: int,
    beta: float,
    steps: int,
    tolerance: float,
) -> list[Float[Tensor, "c h w"]]:
    """See `kernels.random_walk.propagate_batch`; the images of a part are padded to its largest one's size."""
    if not any(one.numel() for one in scores):
        return [one.clone() for one in scores]
    out = [torch.empty_like(one) for one in scores]
    with _one_at_a_time:
        for part in parts_of([tuple(one.shape) for one in scores], len(offsets(radius)), BUDGET):
            _walk_part(part, scores, boundaries, out, _prepare(part, radius, beta, steps, tolerance, scores[0].device))
    return out


def _walk_part(
    part: Part, scores: Sequence[Tensor], boundaries: Sequence[Tensor], out: Sequence[Tensor], walk: _Walk
) -> None:
    """Write the walked scores of a part into `out`. No buffer outlives the call, unless it is kept."""
    rows = slice(part.first_map, part.first_map + part.num_maps)
    walk.load([scores[k][rows] for k in part.images], [boundaries[k] for k in part.images])
    walk.run()
    for totals, k in zip(walk.totals, part.images, strict=True):
        found = out[k][rows]
        found.copy_(totals[: len(found), : found.shape[1], : found.shape[2]])


def _prepare(part: Part, radius: int, beta: float, steps: int, tolerance: float, device: torch.device) -> _Walk:
    """Return the buffers for a part, with a graph of all launches where there is a GPU.

    The latest are kept, as many as fit into `BUDGET` beside the part's own. A part that does not fit by itself is not
    kept, and needs no graph, which would run once.
    """
    problem = (part.shape, part.half, radius, beta, steps, tolerance, device)
    if problem in _kept:
        _kept.move_to_end(problem)
        return _kept[problem]
    while _kept and (
        len(_kept) >= MOST_KEPT or sum(walk.num_bytes for walk in _kept.values()) + part.num_bytes > BUDGET
    ):
        _kept.popitem(last=False)
    walk = _Walk(part, radius, beta, steps, tolerance, device)
    if part.num_bytes > BUDGET:
        return walk
    if device.type == "cuda":
        walk.capture()
    _kept[problem] = walk
    return walk


class _Walk:
    """A part on its way: fixed memory, as a graph needs it.

    Attributes:
        num_bytes: Size of all buffers.
        totals: float32 [B, C, H, W]; the walked scores, once `run` has returned.
    """

    def __init__(
        self, part: Part, radius: int, beta: float, steps: int, tolerance: float, device: torch.device
    ) -> None:
        batch, _, height, width = part.shape
        self.num_bytes = part.num_bytes
        self._radius, self._beta = radius, beta
        self._schedule = schedule(steps, tolerance)
        self._offsets = offsets(radius).int().to(device)
        single = {"dtype": torch.float32, "device": device}
        self._scores, self.totals, self._here, self._there = torch.zeros(4, *part.shape, **single).unbind()
        self._boundaries, self._inverse, self._passable = torch.ones(3, batch, height, width, **single).unbind()
        self._weights = torch.empty(
            batch, len(self._offsets), height, width, dtype=torch.float16 if part.half else torch.float32, device=device
        )
        self._powers = torch.empty_like(self._passable, dtype=self._weights.dtype) if part.half else self._passable
        self._graph: torch.cuda.CUDAGraph | None = None

    def load(self, scores: Sequence[Tensor], boundaries: Sequence[Tensor]) -> None:
        """Copy a batch in. Past an image's edges the boundary is closed, so nothing comes from there."""
        self._scores.zero_()
        self._boundaries.fill_(1)
        for b, (one, boundary) in enumerate(zip(scores, boundaries, strict=True)):
            maps, height, width = one.shape
            self._scores[b, :maps, :height, :width] = one
            self._boundaries[b, :height, :width] = boundary

    def capture(self) -> None:
        stream = torch.cuda.Stream(self._scores.device)
        stream.wait_stream(torch.cuda.current_stream(self._scores.device))
        # Compiles the kernels and fills the tables, neither of which can be captured.
        with torch.cuda.stream(stream):
            self._launch()
        torch.cuda.current_stream(self._scores.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._launch()
        self._graph = graph

    def run(self) -> None:
        if self._graph is None:
            self._launch()
        else:
            self._graph.replay()

    def _launch(self) -> None:
        batch, maps, height, width = self._scores.shape
        size = (height, width, len(self._offsets))
        tiles = triton.cdiv(height * width, BLOCK)
        # Everything has its place before a graph is captured: what that allocates, nobody counts.
        passable = torch.neg(self._boundaries, out=self._passable).add_(1)
        here, there, weights, inverse = self._here, self._there, self._weights, self._inverse
        torch.mul(self._scores, passable[:, None], out=here)
        there.zero_()
        # The least of the powers along a path is the power of the least: one power a pixel, none a pair.
        passable.pow_(self._beta)
        if self._powers is not passable:
            self._powers.copy_(passable)
        path_minima(self._powers, self._radius, out=weights)
        _invert_row_sums[(tiles, batch)](inverse, weights, self._offsets, *size, BLOCK=BLOCK)
        torch.mul(here, self._schedule.first, out=self.totals)
        together = min(maps, MAX_MAPS)
        grid = (tiles, triton.cdiv(maps, together), batch)
        for scale, keep, share in self._schedule.products.tolist():
            _advance[grid](
                here, there, self.totals, inverse, weights, self._offsets, maps, *size, scale, keep, share,
                MAPS=together, BLOCK=BLOCK,
            )  # fmt: skip
            here, there = there, here


@triton.jit
def _invert_row_sums(inverse, weights, offsets, height, width, num_offsets, BLOCK: tl.constexpr):
    """Write 1 / (row sum of A^beta), summed in double precision. Program (tile of pixels, image)."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    image = tl.program_id(1).to(tl.int64)
    size = height * width
    y = at // width
    x = at % width
    total = tl.full([BLOCK], 1.0, tl.float64)
    for k in range(num_offsets):
        dy = tl.load(offsets + 2 * k)
        dx = tl.load(offsets + 2 * k + 1)
        plane = weights + (image * num_offsets + k) * size
        behind = (at < size) & (y >= dy) & (x - dx >= 0) & (x - dx < width)
        # The weight of a pair that leaves the map is 0, so only the other direction needs its bounds.
        total += tl.load(plane + at, mask=at < size, other=0.0).to(tl.float64)
        total += tl.load(plane + at - dy * width - dx, mask=behind, other=0.0).to(tl.float64)
    tl.store(inverse + image * size + at, (1.0 / total).to(tl.float32), mask=at < size)


@triton.jit
def _advance(
    fields, others, totals, inverse, weights, offsets, num_maps, height, width, num_offsets, scale, keep, share,
    MAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Put scale T fields - keep others in the place of others, add its share to totals.

    Program (tile of pixels, group of maps, image).
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    maps = tl.program_id(1) * MAPS + tl.arange(0, MAPS)
    image = tl.program_id(2).to(tl.int64)
    size = height * width
    y = at // width
    x = at % width
    inside = at < size
    pixels = ((image * num_maps + maps) * size)[:, None] + at[None, :]
    live = (maps < num_maps)[:, None] & inside[None, :]
    total = tl.zeros([MAPS, BLOCK], tl.float32)
    for k in range(num_offsets):
        dy = tl.load(offsets + 2 * k)
        dx = tl.load(offsets + 2 * k + 1)
        shift = dy * width + dx
        plane = weights + (image * num_offsets + k) * size
        ahead = inside & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        weight = tl.load(plane + at, mask=ahead, other=0.0)
        total += weight[None, :] * tl.load(fields + pixels + shift, mask=live & ahead[None, :], other=0.0)
        behind = inside & (y >= dy) & (x - dx >= 0) & (x - dx < width)
        weight = tl.load(plane + at - shift, mask=behind, other=0.0)
        total += weight[None, :] * tl.load(fields + pixels - shift, mask=live & behind[None, :], other=0.0)
    field = tl.load(fields + pixels, mask=live, other=0.0)
    divisor = tl.load(inverse + image * size + at, mask=inside, other=0.0)
    other = tl.load(others + pixels, mask=live, other=0.0)
    following = scale * ((total + field) * divisor[None, :]) - keep * other
    tl.store(others + pixels, following, mask=live)
    sofar = tl.load(totals + pixels, mask=live, other=0.0)
    tl.store(totals + pixels, sofar + share * following, mask=live)
