"""The CPU version: a stencil in numba, single precision, one thread."""

# An intrinsic is called without its first parameter, the compiler's.
# pyright: reportCallIssue=false

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from kernels.affinity import offsets
from kernels.affinity.cpu import path_minima
from kernels.affinity.plan import unions
from kernels.random_walk.chebyshev import Schedule, schedule
from kernels.random_walk.stencil import LANES, MAX_MAPS, STRIP, add_neighbours

# Products that follow each other through the rows, so that a weight comes from a cache and not from memory: the rows
# between the first and the last, 4 a product at radius 5, fit the second level at a hundred columns.
WAVE = 8
# Bytes of weights at a time; a larger map is walked in bands of rows.
MAX_WEIGHTS = 1 << 30


class Layout(NamedTuple):
    """Where a pixel's numbers lie in flat arrays; `lead` and the first `reach` rows of both are margins of zeros.

    Its value is at lead + (reach + y) * stride + x of a field, its weight for offset k at
    lead + ((reach + y) * K + k) * stride + x. `stride` leaves at least `reach` columns free after the map, so a
    neighbour is a constant shift, with no test for the border: what lies outside has weight 0. Rows of
    the weights hold all offsets, so that few pages of memory are open at a time.
    """

    height: int
    width: int
    reach: int
    lead: int
    stride: int


def _lay_out(height: int, width: int, reach: int) -> Layout:
    lead = -(-reach // LANES) * LANES
    stride = max(-(-(width + reach) // LANES) * LANES, -(-width // STRIP) * STRIP)
    return Layout(height, width, reach, lead, stride)


@njit(nogil=True, cache=True, error_model="numpy")
def _invert_row_sums(inverse, weights, shifts, layout):
    """Write 1 / (row sum of A^beta), A's diagonal being 1, in double precision over the weights as they are stored."""
    sums = np.empty(layout.width)
    for y in range(layout.reach, layout.reach + layout.height):
        start = layout.lead + y * len(shifts) * layout.stride
        sums[:] = 1
        for k in range(len(shifts)):
            after = weights[start + shifts[k, 1] : start + shifts[k, 1] + layout.width]
            before = weights[start + shifts[k, 2] : start + shifts[k, 2] + layout.width]
            for x in range(layout.width):
                sums[x] += np.float64(after[x]) + np.float64(before[x])
        row = inverse[layout.lead + y * layout.stride :]
        for x in range(layout.width):
            row[x] = 1 / sums[x]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _advance(fields, others, totals, inverse, weights, shifts, first, maps, y, layout, product):
    """Put row y of scale T fields - keep others in the place of `others`, and add its share to totals."""
    scale, keep, share = product
    sums = np.empty((MAX_MAPS, STRIP), fields.dtype)
    row, weights_row = layout.lead + y * layout.stride, layout.lead + y * len(shifts) * layout.stride
    for x in range(0, layout.width, STRIP):
        at, weights_at = row + x, weights_row + x
        # All maps while the weights are in registers: the number of maps must be known when this is compiled.
        if maps == 1:
            add_neighbours(fields, first, at, weights, weights_at, shifts, sums, 1)
        elif maps == 2:
            add_neighbours(fields, first, at, weights, weights_at, shifts, sums, 2)
        elif maps == 3:
            add_neighbours(fields, first, at, weights, weights_at, shifts, sums, 3)
        else:
            add_neighbours(fields, first, at, weights, weights_at, shifts, sums, 4)
        divisor = inverse[at : at + STRIP]
        for c in range(maps):
            neighbours = sums[c]
            field = fields[first + c, at : at + STRIP]
            other = others[first + c, at : at + STRIP]
            # The pixel itself comes last: the largest term, it would cost the others their last digits.
            for i in range(STRIP):
                other[i] = scale * ((neighbours[i] + field[i]) * divisor[i]) - keep * other[i]
            if share != 0:
                total = totals[first + c, at : at + STRIP]
                for i in range(STRIP):
                    total[i] += share * other[i]


@njit(nogil=True, cache=True)
def _walk(fields, others, totals, inverse, weights, shifts, products, layout):
    """Add every product's share to totals; fields holds the input, others zeros, and both are overwritten.

    A row of one product is made as soon as the row `reach` below is there from the one before, and takes the place of
    the row two products back, which no later row reads.
    """
    for first in range(0, len(fields), MAX_MAPS):
        maps = min(MAX_MAPS, len(fields) - first)
        for begin in range(0, len(products), WAVE):
            wave = products[begin : begin + WAVE]
            for front in range(layout.height + layout.reach * (len(wave) - 1)):
                for j in range(len(wave)):
                    y = front - layout.reach * j
                    if not 0 <= y < layout.height:
                        continue
                    product = (wave[j, 0], wave[j, 1], wave[j, 2])
                    here = fields if (begin + j) % 2 == 0 else others
                    there = others if (begin + j) % 2 == 0 else fields
                    _advance(
                        here, there, totals, inverse, weights, shifts, first, maps, y + layout.reach, layout, product
                    )


def propagate(
    scores: Float[Tensor, "c h w"],
    boundary: Float[Tensor, "h w"],
    radius: int,
    beta: float,
    steps: int,
    tolerance: float,
) -> Float[Tensor, "c h w"]:
    """See `kernels.random_walk.propagate`."""
    passable = (1 - boundary).float()
    field = scores.float() * passable
    # The least of the powers along a path is the power of the least: one power a pixel, none a pair.
    passable = passable.pow(beta)
    height, width = boundary.shape
    layout = _lay_out(height, width, radius - 1)
    rows = max(MAX_WEIGHTS // (len(offsets(radius)) * layout.stride * 4), 4 * layout.reach)
    for part, allowed in _split(steps, tolerance, height, rows, layout.reach):
        field = _walk_in_bands(field, passable, radius, schedule(part, allowed), rows)
    return field.to(scores.dtype)


def _split(steps: int, tolerance: float, height: int, rows: int, reach: int) -> list[tuple[int, float]]:
    """Return (steps, tolerance) of walks that, one after the other, make the whole, each at home in a band of rows.

    A band's outer rows are lost to its edges, `reach` a product: no more than half of it may be.
    """
    halo = len(schedule(steps, tolerance).products) * reach
    if height <= rows or steps <= 1 or 4 * halo <= rows:
        return [(steps, tolerance)]
    halves = (steps // 2, steps - steps // 2)
    return [part for half in halves for part in _split(half, tolerance / 2, height, rows, reach)]


def _walk_in_bands(
    field: Float[Tensor, "c h w"], passable: Float[Tensor, "h w"], radius: int, walk: Schedule, rows: int
) -> Float[Tensor, "c h w"]:
    """Return the walked field; of a band of `rows`, those that a walk from its cut edges cannot reach."""
    height = len(passable)
    if height <= rows:
        return _walk_band(field, passable, radius, walk)
    halo = len(walk.products) * (radius - 1)
    walked = torch.empty_like(field)
    for top in range(0, height, rows - 2 * halo):
        kept = slice(top, min(top + rows - 2 * halo, height))
        begin, end = max(top - halo, 0), min(kept.stop + halo, height)
        band = _walk_band(field[:, begin:end], passable[begin:end], radius, walk)
        walked[:, kept] = band[:, top - begin : kept.stop - begin]
    return walked


def _walk_band(
    field: Float[Tensor, "c h w"], passable: Float[Tensor, "h w"], radius: int, walk: Schedule
) -> Float[Tensor, "c h w"]:
    layout = _lay_out(*passable.shape, radius - 1)
    height, width, reach, lead, stride = layout
    size = 2 * lead + (height + 2 * reach) * stride
    shapes = unions(radius)
    count = len(shapes.ends)
    weights = torch.zeros(lead + (height + reach) * count * stride).numpy()
    origin = lead + reach * count * stride
    path_minima(passable.contiguous().numpy(), weights, origin, stride, count * stride, *shapes)
    to = offsets(radius).numpy()
    after = np.arange(count) * stride
    shifts = np.stack([to @ (stride, 1), after, after - to @ (count * stride, 1)], axis=1)
    inverse = np.zeros(size, np.float32)
    _invert_row_sums(inverse, weights, shifts, layout)
    fields, others, totals = torch.zeros(3, len(field), size)
    inner = slice(lead + reach * stride, lead + (reach + height) * stride)

    def within(maps: Tensor) -> Tensor:
        return maps[:, inner].unflatten(1, (height, stride))[:, :, :width]

    within(fields).copy_(field)
    within(totals).copy_(field).mul_(walk.first)
    _walk(fields.numpy(), others.numpy(), totals.numpy(), inverse, weights, shifts, walk.products, layout)
    return within(totals).contiguous()


def propagate_affinities(
    scores: Float[Tensor, "c h w"],
    affinity: Float[Tensor, "k h w"],
    radius: int,
    beta: float,
    steps: int,
    tolerance: float,
) -> Float[Tensor, "c h w"]:
    """See `kernels.random_walk.propagate_affinities`; all weights at a time."""
    count, height, width = affinity.shape
    layout = _lay_out(height, width, radius - 1)
    reach, lead, stride = layout.reach, layout.lead, layout.stride
    weights = torch.zeros(lead + (height + reach) * count * stride)
    rows = weights[lead + reach * count * stride :].view(height, count, stride)
    rows[:, :, :width] = affinity.float().pow(beta).transpose(0, 1)
    after = np.arange(count) * stride
    steps_to = offsets(radius).numpy()
    shifts = np.stack([steps_to @ (stride, 1), after, after - steps_to @ (count * stride, 1)], axis=1)
    size = 2 * lead + (height + 2 * reach) * stride
    inverse = np.zeros(size, np.float32)
    _invert_row_sums(inverse, weights.numpy(), shifts, layout)
    walk = schedule(steps, tolerance)
    fields, others, totals = torch.zeros(3, len(scores), size)
    within = slice(lead + reach * stride, lead + (reach + height) * stride)
    for maps, share in ((fields, 1.0), (totals, walk.first)):
        maps[:, within].unflatten(1, (height, stride))[:, :, :width] = share * scores.float()
    _walk(fields.numpy(), others.numpy(), totals.numpy(), inverse, weights.numpy(), shifts, walk.products, layout)
    return totals[:, within].unflatten(1, (height, stride))[:, :, :width].to(scores.dtype).contiguous()
