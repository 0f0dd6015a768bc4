"""Random walk of class scores over pixels, held back by class boundaries (IRNet, Eq. 12 and 13) or by affinities of any
origin (AffinityNet, Eq. 11 and 12)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from kernels.affinity import offsets
from kernels.backend import choose
from kernels.random_walk import cpu, reference

__all__ = ["propagate", "propagate_affinities", "propagate_batch"]


def propagate(
    scores: Float[Tensor, "c h w"],
    boundary: Float[Tensor, "h w"],
    *,
    radius: int = 5,
    beta: float = 10,
    steps: int = 256,
    tolerance: float = 1e-5,
    backend: str = "auto",
) -> Float[Tensor, "c h w"]:
    """Walk scores to pixels with no boundary in between: T^steps (scores * (1 - boundary)).

    T = S^-1 A^beta: A holds the affinities of the pixels closer than `radius` (and 1 for a pixel with
    itself), beta is the power of each entry, and S makes every row of T sum to 1. IRNet (Ahn et al. 2019),
    Eq. 12 and 13. T is applied as a stencil; no matrix over pairs of pixels exists.

    Args:
        scores: Finite maps, one a class or an instance; there may be none.
        boundary: Probabilities of a class boundary, in [0, 1].
        radius: Of the neighbourhood, in pixels of the map; at least 2.
        beta: Above 0; the higher, the less passes a faint boundary.
        steps: Number of steps; 0 only multiplies by (1 - boundary).
        tolerance: Largest share of the input's norm, the root of the sum of S_i x_i^2, by which fewer products
            than steps may change the result, before rounding, below 1; 0 for one product a step (`chebyshev.schedule`).
        backend: "numba" (CPU, single precision, one thread), "triton" (CUDA, single precision), "torch" (plain,
            double precision, one product a step, any device), or "auto": numba for tensors on the CPU, triton for
            those on a CUDA device, else torch.

    Returns:
        Maps in the scores' precision, float32 at least.

    Raises:
        ValueError: A shape or a number is out of range, or the backend cannot run.
    """
    (walked,) = propagate_batch(
        [scores], [boundary], radius=radius, beta=beta, steps=steps, tolerance=tolerance, backend=backend
    )
    return walked


@torch.no_grad()
def propagate_batch(
    scores: Sequence[Float[Tensor, "c h w"]],
    boundaries: Sequence[Float[Tensor, "h w"]],
    *,
    radius: int = 5,
    beta: float = 10,
    steps: int = 256,
    tolerance: float = 1e-5,
    backend: str = "auto",
) -> list[Float[Tensor, "c h w"]]:
    """Walk the scores of many images, which may differ in size and in number of maps; see `propagate`.

    Triton walks them side by side, padded to the largest, so images of like size belong together; the other
    backends walk one after the other.

    Raises:
        ValueError: A shape or a number is out of range, the inputs are not on one device, or the backend cannot run.
    """
    if len(scores) != len(boundaries):
        raise ValueError(f"need as many boundaries as scores, got {len(boundaries)} and {len(scores)}")
    for one, boundary in zip(scores, boundaries, strict=True):
        if one.ndim != 3 or one.shape[1:] != boundary.shape:
            raise ValueError(
                f"scores must be [C, H, W] and boundary [H, W], got {tuple(one.shape)}, {tuple(boundary.shape)}"
            )
    if radius < 2 or beta <= 0 or steps < 0 or not 0 <= tolerance < 1:
        raise ValueError(
            "need radius >= 2, beta > 0, steps >= 0, tolerance in [0, 1), "
            f"got {radius=}, {beta=}, {steps=}, {tolerance=}"
        )
    if not scores:
        return []
    devices = {tensor.device for tensor in (*scores, *boundaries)}
    if len(devices) > 1:
        raise ValueError(f"inputs must be on one device, got {', '.join(sorted(map(str, devices)))}")
    chosen = choose("random_walk", backend, scores[0], backends=("numba", "torch", "triton"))
    fields = [one.to(torch.promote_types(one.dtype, torch.float32)) for one in scores]
    boundaries = [boundary.to(one.dtype) for boundary, one in zip(boundaries, fields, strict=True)]
    if chosen == "triton":
        from kernels.random_walk import gpu

        return gpu.propagate_batch(fields, boundaries, radius, beta, steps, tolerance)
    if chosen == "numba":
        return [cpu.propagate(*image, radius, beta, steps, tolerance) for image in zip(fields, boundaries, strict=True)]
    return [reference.propagate(*image, radius, beta, steps) for image in zip(fields, boundaries, strict=True)]


@torch.no_grad()
def propagate_affinities(
    scores: Float[Tensor, "c h w"],
    affinity: Float[Tensor, "k h w"],
    *,
    radius: int = 5,
    beta: float = 8,
    steps: int = 256,
    tolerance: float = 1e-5,
    backend: str = "auto",
) -> Float[Tensor, "c h w"]:
    """Walk scores by affinities of pairs of pixels: T^steps scores.

    T = D^-1 W^beta: W holds the affinities of the pixels closer than `radius` (and 1 for a pixel with itself), beta is
    the power of each entry, and D makes every row of T sum to 1. AffinityNet (Ahn and Kwak 2018), Eq. 11 and 12. T is
    applied as a stencil; no matrix over pairs of pixels exists.

    Args:
        scores: Finite maps, one a class; there may be none.
        affinity: In [0, 1]; the value at (k, y, x) belongs to the pair of (y, x) and (y, x) +
            `kernels.affinity.offsets(radius)`[k], and is 0 where that lies outside the map.
        radius: Of the neighbourhood, in pixels of the map; at least 2.
        beta: Above 0; the higher, the less passes a low affinity.
        steps: Number of steps; 0 returns the scores.
        tolerance: As of `propagate`.
        backend: "numba" (CPU, single precision, one thread), "torch" (plain, double precision, one product a step, any
            device), or "auto": numba for tensors on the CPU, else torch.

    Returns:
        Maps in the scores' precision, float32 at least.

    Raises:
        ValueError: A shape or a number is out of range, the inputs are not on one device, or the backend cannot run.
    """
    if radius < 2 or beta <= 0 or steps < 0 or not 0 <= tolerance < 1:
        raise ValueError(
            "need radius >= 2, beta > 0, steps >= 0, tolerance in [0, 1), "
            f"got {radius=}, {beta=}, {steps=}, {tolerance=}"
        )
    wanted = (len(offsets(radius)), *scores.shape[1:])
    if scores.ndim != 3 or affinity.shape != wanted:
        raise ValueError(
            f"scores must be [C, H, W] and affinity [K, H, W], K = {wanted[0]} at radius {radius}, "
            f"got {tuple(scores.shape)}, {tuple(affinity.shape)}"
        )
    if scores.device != affinity.device:
        raise ValueError(f"inputs must be on one device, got {scores.device} and {affinity.device}")
    chosen = choose("random_walk", backend, scores, backends=("numba", "torch"))
    field = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if chosen == "numba":
        return cpu.propagate_affinities(field, affinity, radius, beta, steps, tolerance)
    return reference.propagate_affinities(field, affinity, radius, beta, steps)
