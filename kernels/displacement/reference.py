"""The plain version of the refinement: bilinear sampling by four gathers a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def track(displacement: Float[Tensor, "2 h w"], iterations: int) -> Float[Tensor, "2 h w"]:
    """Return where each pixel stands, (y, x), after following the field, from its own place, so many times."""
    _, height, width = displacement.shape
    place = {"dtype": displacement.dtype, "device": displacement.device}
    y, x = torch.meshgrid(torch.arange(height, **place), torch.arange(width, **place), indexing="ij")
    for _ in range(iterations):
        top, left = y.floor(), x.floor()
        down, right = y - top, x - left
        rows, columns = (top.long(), y.ceil().long()), (left.long(), x.ceil().long())
        step = (
            displacement[:, rows[0], columns[0]] * (1 - down) * (1 - right)
            + displacement[:, rows[0], columns[1]] * (1 - down) * right
            + displacement[:, rows[1], columns[0]] * down * (1 - right)
            + displacement[:, rows[1], columns[1]] * down * right
        )
        y, x = (y + step[0]).clamp(0, height - 1), (x + step[1]).clamp(0, width - 1)
    return torch.stack([y, x])


def track_batch(displacements: Sequence[Float[Tensor, "2 h w"]], iterations: int) -> list[Float[Tensor, "2 h w"]]:
    """Return `track` of each field."""
    return [track(displacement, iterations) for displacement in displacements]
