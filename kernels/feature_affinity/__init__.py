"""Semantic affinities of pairs of pixels, from the distance of their features (AffinityNet, Eq. 3)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from kernels.backend import choose
from kernels.feature_affinity import cpu, reference

__all__ = ["feature_affinity"]


def feature_affinity(
    features: Float[Tensor, "b d h w"], radius: int, *, backend: str = "auto"
) -> Float[Tensor, "b k h w"]:
    """Compute W_ij = exp(-mean over the channels of |f_i - f_j|) for the pairs of pixels closer than `radius`.

    The value at (k, y, x) belongs to the pair of (y, x) and (y, x) + `kernels.affinity.offsets(radius)`[k].
    AffinityNet (Ahn and Kwak 2018), Eq. 3 and 4; the paper has the sum of the channels, the authors' code their mean,
    which is what its other numbers belong to.

    Args:
        features: Finite; half precision is computed in float32.
        radius: Pairs are closer than this, in pixels of the map; at least 2.
        backend: "numba" (CPU, single precision, one thread), "torch" (plain, any device and precision), or "auto":
            numba for features in single precision on the CPU, else torch. Both are differentiable.

    Returns:
        Affinities in [0, 1]; 0 where the second pixel lies outside the map.

    Raises:
        ValueError: The features are not [B, D, H, W] with a channel, the radius is below 2, or the backend cannot run.
    """
    if features.ndim != 4 or not features.shape[1]:
        raise ValueError(f"features must be [B, D, H, W] with D of 1 or more, got {tuple(features.shape)}")
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    backends = ("numba", "torch") if features.dtype == torch.float32 else ("torch",)
    chosen = choose("feature_affinity", backend, features, backends=backends)
    run = cpu.feature_affinity if chosen == "numba" else reference.feature_affinity
    return run(features, radius)
