"""The plain version: every step adds up the shifted, weighted neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kernels.affinity import boundary_to_affinity, offsets


def _add_neighbours(
    field: Float[Tensor, "c h w"], weights: Float[Tensor, "k h w"], radius: int
) -> Float[Tensor, "c h w"]:
    """Multiply each map by A: a pixel's own value and its neighbours', weighted (not yet divided by the row sums)."""
    _, height, width = field.shape
    reach = radius - 1
    padded = F.pad(field, (reach, reach, 0, reach))
    out = F.pad(field, (reach, reach, 0, reach))
    for (dy, dx), weight in zip(offsets(radius).tolist(), weights, strict=True):
        there = (slice(None), slice(dy, dy + height), slice(reach + dx, reach + dx + width))
        here = (slice(None), slice(0, height), slice(reach, reach + width))
        out[here] += weight * padded[there]
        # The pair's other pixel sees this one with the same affinity; a partner outside has weight 0.
        out[there] += weight * padded[here]
    return out[:, :height, reach : reach + width]


def propagate(
    scores: Float[Tensor, "c h w"], boundary: Float[Tensor, "h w"], radius: int, beta: float, steps: int
) -> Float[Tensor, "c h w"]:
    """See `kernels.random_walk.propagate`.

    In double precision: in single, the rounding of a row's sum is the same at every step and adds up to 4e-4.
    """
    boundary = boundary.double()
    weights = boundary_to_affinity(boundary, radius).pow(beta)
    row_sums = _add_neighbours(torch.ones_like(boundary)[None], weights, radius)
    field = scores.double() * (1 - boundary)
    for _ in range(steps):
        field = _add_neighbours(field, weights, radius) / row_sums
    return field.to(scores.dtype)


def propagate_affinities(
    scores: Float[Tensor, "c h w"], affinity: Float[Tensor, "k h w"], radius: int, beta: float, steps: int
) -> Float[Tensor, "c h w"]:
    """See `kernels.random_walk.propagate_affinities`; in double precision, as `propagate`."""
    weights = affinity.double().pow(beta)
    row_sums = _add_neighbours(torch.ones_like(weights[:1]), weights, radius)
    field = scores.double()
    for _ in range(steps):
        field = _add_neighbours(field, weights, radius) / row_sums
    return field.to(scores.dtype)
