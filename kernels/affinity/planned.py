"""The fast version: one maximum for every step of a plan, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kernels.affinity.plan import plan


def boundary_to_affinity(boundary: Float[Tensor, "h w"], radius: int) -> Float[Tensor, "k h w"]:
    """See `kernels.affinity.boundary_to_affinity`."""
    height, width = boundary.shape
    reach = radius - 1
    shapes = plan(radius)
    strongest = [F.pad(boundary, (reach, reach, 0, reach), value=1.0)]
    full_height, full_width = strongest[0].shape
    for (a, ay, ax, b, by, bx), (rows, columns) in zip(shapes.steps.tolist(), shapes.sizes[1:].tolist(), strict=True):
        last_y, last_x = full_height - rows + 1, full_width - columns + 1
        one = strongest[a][ay : ay + last_y, ax : ax + last_x]
        other = strongest[b][by : by + last_y, bx : bx + last_x]
        strongest.append(torch.maximum(one, other))
    return 1 - torch.stack(
        [strongest[s][:height, reach - left : reach - left + width] for s, left in shapes.ends.tolist()]
    )
