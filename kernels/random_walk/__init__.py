"""Random walk of class scores over pixels, held back by class boundaries (IRNet, Eq. 12 and 13)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from kernels.backend import choose
from kernels.random_walk import cpu, reference

__all__ = ["propagate"]


@torch.no_grad()
def propagate(
    scores: Float[Tensor, "c h w"],
    boundary: Float[Tensor, "h w"],
    *,
    radius: int = 5,
    beta: float = 10,
    steps: int = 256,
    backend: str = "auto",
) -> Float[Tensor, "c h w"]:
    """Walk scores to pixels with no boundary in between: T^steps (scores * (1 - boundary)).

    T = S^-1 A^beta: A holds the affinities of the pixels closer than `radius` (and 1 for a pixel with
    itself), beta is the power of each entry, and S makes every row of T sum to 1. IRNet (Ahn et al. 2019),
    Eq. 12 and 13. T is applied as a stencil; no matrix over pairs of pixels exists.

    Args:
        scores: Non-negative maps, one a class or an instance; there may be none.
        boundary: Probabilities of a class boundary, in [0, 1].
        radius: Of the neighbourhood, in pixels of the map; at least 2.
        beta: Above 0; the higher, the less passes a faint boundary.
        steps: Number of steps; 0 only multiplies by (1 - boundary).
        backend: "numba" (CPU, single precision, one thread), "torch" (plain, double precision, any device),
            or "auto": numba for tensors on the CPU, else torch.

    Returns:
        Maps in the scores' precision, float32 at least.

    Raises:
        ValueError: A shape or a number is out of range, or the backend cannot run.
    """
    if scores.ndim != 3 or scores.shape[1:] != boundary.shape:
        raise ValueError(
            f"scores must be [C, H, W] and boundary [H, W], got {tuple(scores.shape)}, {tuple(boundary.shape)}"
        )
    if radius < 2 or beta <= 0 or steps < 0:
        raise ValueError(f"need radius >= 2, beta > 0, steps >= 0, got {radius=}, {beta=}, {steps=}")
    dtype = torch.promote_types(scores.dtype, torch.float32)
    run = cpu.propagate if choose("random_walk", backend, scores) == "numba" else reference.propagate
    return run(scores.to(dtype), boundary.to(dtype), radius, beta, steps)
