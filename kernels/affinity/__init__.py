"""Semantic affinities of pairs of pixels, from a map of class boundaries (IRNet, Eq. 7)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from kernels.affinity import cpu, planned
from kernels.affinity.paths import paths
from kernels.backend import choose

__all__ = ["boundary_to_affinity", "offsets", "paths"]


def offsets(radius: int) -> Int64[Tensor, "k 2"]:
    """Return (dy, dx) from a pair's first to its second pixel, for the pairs of `paths`, in their order."""
    return torch.tensor(list(paths(radius)))


def boundary_to_affinity(
    boundary: Float[Tensor, "h w"], radius: int, *, backend: str = "auto"
) -> Float[Tensor, "k h w"]:
    """Compute a_ij = 1 - max of the boundary over the path from i to j, both ends included.

    The value at (k, y, x) belongs to the pair of (y, x) and (y, x) + offsets(radius)[k].
    IRNet (Ahn et al. 2019), Eq. 7; as in the authors' code, a path is two pixels thick where it is oblique.

    Args:
        boundary: Probabilities of a class boundary, in [0, 1]; half precision is computed in float32.
        radius: Pairs are closer than this, in pixels of the map.
        backend: "numba" (CPU, one thread), "triton" (CUDA), "torch" (any device, differentiable; a NaN reaches
            all pairs whose paths meet it, which the others do not promise), or "auto": torch where the boundary
            requires a gradient, else the one for the device.

    Returns:
        Affinities in [0, 1]; 0 where the second pixel lies outside the map.

    Raises:
        ValueError: The map is not two-dimensional, the radius is below 2, or the backend cannot run.
    """
    if boundary.ndim != 2:
        raise ValueError(f"boundary must be [H, W], got {tuple(boundary.shape)}")
    boundary = boundary.to(torch.promote_types(boundary.dtype, torch.float32))
    needs_gradient = torch.is_grad_enabled() and boundary.requires_grad
    chosen = choose("affinity", backend, boundary, backends=("numba", "torch", "triton"), needs_gradient=needs_gradient)
    if chosen == "triton":
        from kernels.affinity import gpu

        return gpu.boundary_to_affinity(boundary, radius)
    run = cpu.boundary_to_affinity if chosen == "numba" else planned.boundary_to_affinity
    return run(boundary.detach() if chosen == "numba" else boundary, radius)
