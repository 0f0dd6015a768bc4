"""Maps that look like a network's: cells with soft walls, and blobs of score inside them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def cells(
    height: int, width: int, num_maps: int, num_cells: int = 12
) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "h w"]]:
    """Return scores [num_maps, H, W] and a boundary [H, W], both in [0, 1] and the same at each call.

    The boundary falls off by e a pixel from the walls between points drawn at random; each map is a blob around one
    of the points.
    """
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(num_cells, 2, generator=generator) * torch.tensor([height, width])
    pixels = torch.cartesian_prod(torch.arange(height), torch.arange(width)).float()
    distances = torch.cdist(points, pixels).view(num_cells, height, width)
    nearest = distances.topk(2, dim=0, largest=False).values
    scores = (-(distances[:num_maps] / (0.15 * height)).square()).exp()
    return scores, (nearest[0] - nearest[1]).exp()
