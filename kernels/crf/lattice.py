"""The lattice of an image in torch, on any device: vertices by sorting, their neighbours by bisection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from kernels.crf.geometry import check_extents, elevation, packing
from kernels.crf.settings import Kernel


@dataclass(frozen=True)
class Lattice:
    """The vertices around the pixels of an image, for one kernel of d dimensions.

    Attributes:
        corners: The vertices around each pixel; numbers in [0, M), in the order of their keys.
        barycentric: The pixel's coordinates within its simplex: in [0, 1] up to rounding, their sum is 1.
        before: A vertex's neighbour on each axis against the axis, or M where there is none.
        after: The same along the axis.
    """

    corners: Int64[Tensor, "n d1"]
    barycentric: Float32[Tensor, "n d1"]
    before: Int64[Tensor, "d1 m"]
    after: Int64[Tensor, "d1 m"]


def features(image: UInt8[Tensor, "h w 3"], kernel: Kernel) -> Float32[Tensor, "n d"]:
    """Return positions (x, y), and colours if the kernel looks at them, in standard deviations.

    Raises:
        ValueError: The image is too large for the lattice's keys.
    """
    height, width = image.shape[:2]
    y, x = torch.meshgrid(*(torch.arange(size, device=image.device) for size in (height, width)), indexing="ij")
    parts = [torch.stack([x, y], -1).float() / kernel.sxy]
    if kernel.srgb:
        parts.append(image.float() / kernel.srgb)
    check_extents([width / kernel.sxy, height / kernel.sxy, *([255 / kernel.srgb] * 3 if kernel.srgb else [])])
    return torch.cat(parts, -1).flatten(0, 1)


def build(points: Float32[Tensor, "n d"]) -> Lattice:
    """Return the lattice around points, as in Adams, Baek and Davis (2010), Sec. 3."""
    d, device = points.shape[1], points.device
    powers, steps, _ = packing(d)
    powers, steps = (torch.from_numpy(each).to(device) for each in (powers, steps))
    scaled = points * torch.from_numpy(elevation(d)).to(device)
    # Coordinates that sum to 0: e_i = (sum of the scaled features from i on) - i * (the one before).
    beyond = torch.cat([scaled.flip(1).cumsum(1).flip(1), torch.zeros_like(scaled[:, :1])], 1)
    before = torch.cat([torch.zeros_like(scaled[:, :1]), scaled], 1)
    elevated = (beyond - torch.arange(d + 1, device=device) * before) / (d + 1)
    # The nearest point whose coordinates are all multiples of d + 1, in that unit; what it exceeds the sum of 0 by
    # is taken from the coordinates that were rounded furthest.
    nearest = elevated.round()
    excess = nearest.sum(1, keepdim=True).long()
    rank = (elevated - nearest).argsort(dim=1, descending=True, stable=True).argsort(dim=1) + excess
    shift = (rank < 0).long() - (rank > d).long()
    nearest = nearest + shift
    place = rank + (d + 1) * shift
    rest = (elevated - nearest).gather(1, place.argsort(dim=1))
    barycentric = torch.cat([1 + rest[:, d:] - rest[:, :1], (rest[:, :-1] - rest[:, 1:]).flip(1)], 1)
    # From the nearest point, a step along the axis whose coordinate lies lowest leads to the next corner.
    walk = steps[place.argsort(dim=1, descending=True)[:, :d]].cumsum(1)
    first = ((d + 1) * nearest.long() * powers).sum(1, keepdim=True)
    keys, corners = torch.cat([first, first + walk], 1).unique(return_inverse=True)
    return Lattice(corners, barycentric, _look_up(keys, keys - steps[:, None]), _look_up(keys, keys + steps[:, None]))


def _look_up(keys: Int64[Tensor, " m"], wanted: Int64[Tensor, "d1 m"]) -> Int64[Tensor, "d1 m"]:
    """Return the places of keys in the sorted list, M where one is missing."""
    places = torch.searchsorted(keys, wanted)
    return places.where(keys[places.clamp(max=len(keys) - 1)] == wanted, len(keys))
