"""The CPU version of a plan, for maps of any number type."""

from __future__ import annotations

from numba import njit


@njit(nogil=True, cache=True)
def path_maxima(field, out, steps, sizes):  # pragma: no cover
    """Write the maximum of a [H, W] map over each shape of a plan to out [S + 1, H, W].

    The value at (y, x) is that of the shape whose box has its top left corner there; where the box leaves the
    map, the value is undefined.
    """
    height, width = field.shape
    out[0] = field
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
                both[x] = max(one[x], other[x])
