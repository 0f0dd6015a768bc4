"""The plain version: one shifted maximum for every pixel of every path."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kernels.affinity.paths import paths


def boundary_to_affinity(boundary: Float[Tensor, "h w"], radius: int) -> Float[Tensor, "k h w"]:
    """See `kernels.affinity.boundary_to_affinity`."""
    height, width = boundary.shape
    reach = radius - 1
    # A path stays inside the bounding box of its ends, so it meets the padding only where the partner does.
    padded = F.pad(boundary, (reach, reach, 0, reach), value=1.0)

    def strongest(path: tuple[tuple[int, int], ...]) -> Tensor:
        shifted = [padded[y : y + height, reach + x : reach + x + width] for y, x in path]
        return torch.stack(shifted).amax(0)

    return torch.stack([1 - strongest(path) for path in paths(radius).values()])
