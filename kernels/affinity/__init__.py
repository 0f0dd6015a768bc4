"""Semantic affinities of pairs of pixels, from a map of class boundaries (IRNet, Eq. 7)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.affinity import planned
from kernels.affinity.paths import paths

__all__ = ["boundary_to_affinity", "offsets", "paths"]


def offsets(radius: int) -> Int64[Tensor, "k 2"]:
    """Return (dy, dx) from a pair's first to its second pixel, for the pairs of `paths`, in their order."""
    return torch.tensor(list(paths(radius)))


def boundary_to_affinity(boundary: Float[Tensor, "h w"], radius: int) -> Float[Tensor, "k h w"]:
    """Compute a_ij = 1 - max of the boundary over the path from i to j, both ends included.

    Differentiable. The value at (k, y, x) belongs to the pair of (y, x) and (y, x) + offsets(radius)[k].
    IRNet (Ahn et al. 2019), Eq. 7; as in the authors' code, a path is two pixels thick where it is oblique.

    Args:
        boundary: Probabilities of a class boundary, in [0, 1]; half precision is computed in float32.
        radius: Pairs are closer than this, in pixels of the map.

    Returns:
        Affinities in [0, 1]; 0 where the second pixel lies outside the map.

    Raises:
        ValueError: The map is not two-dimensional, or the radius is below 2.
    """
    if boundary.ndim != 2:
        raise ValueError(f"boundary must be [H, W], got {tuple(boundary.shape)}")
    return planned.boundary_to_affinity(boundary.to(torch.promote_types(boundary.dtype, torch.float32)), radius)
