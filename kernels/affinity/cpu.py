"""The CPU version of a plan, for maps of any number type."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from kernels.affinity.plan import plan

# Numbers in the table of a tile's shapes: about half of a second-level cache.
TABLE = 1 << 17


def boundary_to_affinity(boundary: Float[Tensor, "h w"], radius: int) -> Float[Tensor, "k h w"]:
    """See `kernels.affinity.boundary_to_affinity`.

    Equal to the reference to the last bit: rounding 1 - B is monotone, so 1 - max(B) = min(1 - B).
    """
    height, width = boundary.shape
    shapes = plan(radius)
    affinity = torch.empty(len(shapes.ends), height, width, dtype=boundary.dtype)
    passable = (1 - boundary).contiguous().numpy()
    path_minima(passable, affinity.view(-1).numpy(), 0, height * width, width, *shapes)
    return affinity


@njit(nogil=True, cache=True)
def path_maxima(field, out, steps, sizes):
    """Write the maximum of a [H, W] map over each shape of a plan to out [S + 1, H, W].

    The value at (y, x) is that of the shape whose box has its top left corner there; where the box leaves the
    map, the value is undefined. A comparison with NaN is false, so a NaN may or may not show in the shapes it is in.
    """
    height, width = field.shape
    for y in range(height):
        for x in range(width):
            out[0, y, x] = field[y, x]
    for s in range(len(steps)):
        a, ay, ax, b, by, bx = steps[s]
        columns = width - sizes[s + 1, 1] + 1
        if columns <= 0:
            continue
        for y in range(height - sizes[s + 1, 0] + 1):
            one = out[a, y + ay, ax : ax + columns]
            other = out[b, y + by, bx : bx + columns]
            both = out[s + 1, y, :columns]
            for x in range(columns):
                both[x] = one[x] if one[x] > other[x] else other[x]


@njit(nogil=True, cache=True)
def path_minima(field, out, origin, offset_stride, row_stride, steps, sizes, ends):
    """Write the minimum of a [H, W] map over the path of each pair; 0 where the path leaves the map.

    The value of offset k at (y, x) goes to out[origin + k * offset_stride + y * row_stride + x] of a flat array.
    """
    height, width = field.shape
    reach = 0
    for s in range(len(sizes)):
        reach = max(reach, sizes[s, 0] - 1)
    padded = width + 2 * reach
    # Tiles of rows keep the table of shapes in a cache; the rows that a tile shares with the next are computed twice.
    tile = min(height, max(2 * reach, TABLE // (len(sizes) * padded) - reach))
    negated = np.empty((tile + reach, padded), field.dtype)
    table = np.empty((len(sizes), tile + reach, padded), field.dtype)
    for top in range(0, height, tile):
        negated[:] = 0
        for y in range(min(tile + reach, height - top)):
            for x in range(width):
                negated[y, reach + x] = -field[top + y, x]
        path_maxima(negated, table, steps, sizes)
        for k in range(len(ends)):
            shape, left = ends[k]
            for y in range(min(tile, height - top)):
                start = origin + k * offset_stride + (top + y) * row_stride
                target = out[start : start + width]
                path = table[shape, y, reach - left : reach - left + width]
                for x in range(width):
                    target[x] = -path[x]
