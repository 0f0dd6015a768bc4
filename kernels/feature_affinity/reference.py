"""The plain version: the distance of the map to its own shifted copy, for one offset after the other."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kernels.affinity import offsets


def feature_affinity(features: Float[Tensor, "b d h w"], radius: int) -> Float[Tensor, "b k h w"]:
    """See `kernels.feature_affinity.feature_affinity`."""
    height, width = features.shape[2:]
    reach = radius - 1
    padded = F.pad(features, (reach, reach, 0, reach))
    inside = F.pad(features.new_ones(height, width), (reach, reach, 0, reach))

    def affinity(dy: int, dx: int) -> Tensor:
        rows, columns = slice(dy, dy + height), slice(reach + dx, reach + dx + width)
        distance = (features - padded[:, :, rows, columns]).abs().mean(dim=1)
        return torch.exp(-distance) * inside[rows, columns]

    return torch.stack([affinity(dy, dx) for dy, dx in offsets(radius).tolist()], dim=1)
