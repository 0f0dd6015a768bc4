"""The CPU version of a plan, for maps of any number type."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from kernels.affinity.plan import unions

# Rows of pairs at a time: few, so that the shapes stay in a cache; the rows beneath, which the next tile makes again,
# are few at this height too.
TILE = 16
# Columns of the table are a multiple of this, so that its rows begin with a vector.
LANES = 16


def boundary_to_affinity(boundary: Float[Tensor, "h w"], radius: int) -> Float[Tensor, "k h w"]:
    """See `kernels.affinity.boundary_to_affinity`.

    Equal to the reference to the last bit: rounding 1 - B is monotone, so 1 - max(B) = min(1 - B).
    """
    height, width = boundary.shape
    shapes = unions(radius)
    affinity = torch.empty(len(shapes.ends), height, width, dtype=boundary.dtype)
    passable = (1 - boundary).contiguous().numpy()
    path_minima(passable, affinity.view(-1).numpy(), 0, height * width, width, *shapes)
    return affinity


@njit(nogil=True, cache=True)
def path_minima(field, out, origin, offset_stride, row_stride, steps, widths, below, ends):
    """Write the minimum of a [H, W] map over the path of each pair; 0 where the path leaves the map.

    The value of offset k at (y, x) goes to out[origin + k * offset_stride + y * row_stride + x] of a flat array. A
    comparison with NaN is false, so a NaN may or may not show in the paths it is in.

    Args:
        field: The map, of values that are not negative.
        out: Where the minima go.
        origin: See above.
        offset_stride: See above.
        row_stride: See above.
        steps: Of `kernels.affinity.plan.unions`, as the three that follow.
        widths: See there.
        below: See there.
        ends: See there.
    """
    height, width = field.shape
    reach = below[0]
    padded = -(-(width + 2 * reach) // LANES) * LANES
    tile = min(TILE, height)
    # The value of a shape at (y, reach + x) is its minimum where its box has its top left corner at (top + y, x).
    table = np.empty((len(widths), tile + reach, padded), field.dtype)
    for top in range(0, height, tile):
        rows = min(tile, height - top)
        table[0] = 0
        for y in range(min(rows + reach, height - top)):
            for x in range(width):
                table[0, y, reach + x] = field[top + y, x]
        for s in range(len(steps)):
            a, ay, ax, b, by, bx = steps[s]
            columns = padded - widths[s + 1] + 1
            for y in range(rows + below[s + 1]):
                one = table[a, y + ay, ax : ax + columns]
                other = table[b, y + by, bx : bx + columns]
                both = table[s + 1, y, :columns]
                for x in range(columns):
                    both[x] = one[x] if one[x] < other[x] else other[x]
        for k in range(len(ends)):
            a, ay, ax, b, by, bx = ends[k]
            for y in range(rows):
                start = origin + k * offset_stride + (top + y) * row_stride
                one = table[a, y + ay, reach + ax : reach + ax + width]
                other = table[b, y + by, reach + bx : reach + bx + width]
                target = out[start : start + width]
                for x in range(width):
                    target[x] = one[x] if one[x] < other[x] else other[x]
