"""Maps that look like a network's, and an image that looks like a photograph; the same at each call."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


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


def displacement_field(height: int, width: int) -> Tensor:
    """Return a field like a network's: every pixel points some way towards the nearest of eight points, unevenly."""
    generator = torch.Generator().manual_seed(0)
    places = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
    points = torch.rand(8, 2, 1, 1, generator=generator) * torch.tensor([height, width]).view(2, 1, 1)
    ways = points - places
    nearest = ways.norm(dim=1).argmin(0)
    way = ways.gather(0, nearest.expand(1, 2, height, width))[0]
    noise = torch.randn(1, 2, height // 4 + 1, width // 4 + 1, generator=generator)
    noise = F.interpolate(noise, (height, width), mode="bilinear", align_corners=False)[0]
    return 0.5 * way + noise


def photograph(height: int, width: int) -> np.ndarray:
    """Make shaded discs on a shaded ground, with texture and noise: about as many vertices as a photograph has."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.stack([110 + 60 * np.sin(6 * y + c) + 30 * np.cos(4 * x * (c + 1)) for c in range(3)], -1)
    for _ in range(8):
        (cy, cx), radius = generator.uniform(0.1, 0.9, 2), generator.uniform(0.05, 0.2)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        stripes = 20 * np.sin((x + y)[disc] * generator.uniform(100, 400))
        image[disc] = generator.uniform(30, 220, 3) + stripes[:, None]
    return (image + generator.normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8)
