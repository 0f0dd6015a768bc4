"""The CPU version: a stencil in numba, single precision, row sums in double precision."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numba import njit
from torch import Tensor

from kernels.affinity import boundary_to_affinity, offsets

# Pixels whose sums are open at a time: few enough to stay in the first-level cache for a handful of maps, many
# enough to make the start of an inner loop cheap.
BLOCK = 512


@njit(nogil=True, cache=True, error_model="numpy")
def _invert_row_sums(weights, shifts, inverse, begin, end):  # pragma: no cover
    """Write 1 / (row sum of A^beta), A's diagonal being 1."""
    for i in range(begin, end):
        total = 1.0
        for k in range(len(shifts)):
            total += np.float64(weights[k, i]) + np.float64(weights[k, i - shifts[k]])
        inverse[i] = 1.0 / total


@njit(nogil=True, cache=True, fastmath={"contract"})
def _walk(fields, weights, shifts, inverse, begin, end, steps):  # pragma: no cover
    """Return T^steps of each map; reads and writes [begin, end), reads 0 in the margin around it."""
    following = np.zeros_like(fields)
    totals = np.empty((len(fields), BLOCK), fields.dtype)
    for _ in range(steps):
        for start in range(begin, end, BLOCK):
            size = min(BLOCK, end - start)
            totals[:, :size] = 0
            for k in range(len(shifts)):
                after, before = start + shifts[k], start - shifts[k]
                weight_after = weights[k, start : start + size]
                weight_before = weights[k, before : before + size]
                # All maps while the weights are in the cache: reading them is what takes the time.
                for c in range(len(fields)):
                    total = totals[c, :size]
                    field_after = fields[c, after : after + size]
                    field_before = fields[c, before : before + size]
                    for i in range(size):
                        total[i] += weight_after[i] * field_after[i] + weight_before[i] * field_before[i]
            # The pixel itself comes last: the largest term, it would cost the others their last digits.
            for c in range(len(fields)):
                for i in range(size):
                    following[c, start + i] = (totals[c, i] + fields[c, start + i]) * inverse[start + i]
        fields, following = following, fields
    return fields


def propagate(
    scores: Float[Tensor, "c h w"], boundary: Float[Tensor, "h w"], radius: int, beta: float, steps: int
) -> Float[Tensor, "c h w"]:
    """See `kernels.random_walk.propagate`."""
    # Maps lie in a margin of zeros as wide as the longest offset, so a neighbour is a constant shift of the flat
    # index, and no pixel needs a test for the border. The margin stays 0, since no pair with a
    # pixel of it has a weight.
    reach = radius - 1
    rows, columns = (size + 2 * reach for size in boundary.shape)

    def flatten(maps: Tensor) -> np.ndarray:
        return F.pad(maps.float(), (reach,) * 4).flatten(1).numpy()

    weights = flatten(boundary_to_affinity(boundary, radius).pow(beta))
    shifts = offsets(radius).numpy() @ (columns, 1)
    begin, end = reach * columns + reach, (rows - reach) * columns - reach
    inverse = np.empty(rows * columns, np.float32)
    _invert_row_sums(weights, shifts, inverse, begin, end)
    walked = _walk(flatten(scores * (1 - boundary)), weights, shifts, inverse, begin, end, steps)
    unpadded = torch.from_numpy(walked).unflatten(1, (rows, columns))[:, reach : rows - reach, reach : columns - reach]
    return unpadded.to(scores.dtype).contiguous()
