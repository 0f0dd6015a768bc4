"""The CPU version of the refinement: each pixel is followed to its end before the next one starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from numba import float32, njit
from torch import Tensor


# No fastmath: the arithmetic, in the reference's order, decides where a pixel near a watershed ends.
@njit(nogil=True, cache=True)
def _track(displacement, out, iterations):
    _, height, width = displacement.shape
    one = float32(1)
    for row in range(height):
        for column in range(width):
            y, x = float32(row), float32(column)
            for _ in range(iterations):
                top, left = int(y), int(x)
                down, right = y - float32(top), x - float32(left)
                # With a fraction of zero the lower (right) neighbour may not exist, and counts for nothing.
                bottom, far = top + (down > 0), left + (right > 0)
                next_y, next_x = y, x
                for axis in range(2):
                    step = (
                        displacement[axis, top, left] * (one - down) * (one - right)
                        + displacement[axis, top, far] * (one - down) * right
                        + displacement[axis, bottom, left] * down * (one - right)
                        + displacement[axis, bottom, far] * down * right
                    )
                    if axis == 0:
                        next_y = min(max(y + step, float32(0)), float32(height - 1))
                    else:
                        next_x = min(max(x + step, float32(0)), float32(width - 1))
                # Arrived: every further iteration would repeat this one.
                if next_y == y and next_x == x:
                    break
                y, x = next_y, next_x
            out[0, row, column] = y
            out[1, row, column] = x


def track_batch(displacements: Sequence[Float[Tensor, "2 h w"]], iterations: int) -> list[Float[Tensor, "2 h w"]]:
    """See `kernels.displacement.reference.track`; single precision."""
    ends = [torch.empty(displacement.shape) for displacement in displacements]
    for displacement, end in zip(displacements, ends, strict=True):
        _track(displacement.detach().float().contiguous().numpy(), end.numpy(), iterations)
    return ends
