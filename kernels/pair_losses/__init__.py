"""Costs of pairs of pixels under mined labels: the sums in IRNet's losses (Eq. 5, 6 and 8)."""

from __future__ import annotations

from importlib import import_module

from jaxtyping import Float, Integer
from torch import Tensor

from kernels.backend import choose
from kernels.pair_losses.terms import IGNORE, PairTerms

MODULES = {"numba": "cpu", "torch": "reference", "triton": "gpu"}

__all__ = ["IGNORE", "PairTerms", "pair_terms"]


def pair_terms(
    boundary: Float[Tensor, "b h w"],
    displacement: Float[Tensor, "b 2 h w"],
    labels: Integer[Tensor, "b h w"],
    *,
    radius: int = 10,
    backend: str = "auto",
) -> PairTerms:
    """Sum the costs of all pairs closer than `radius`, by kind of pair.

    With a_ij = 1 - max of the boundary over the path (Eq. 7) and (i, j) a pair with x_j - x_i in `paths(radius)`:
    -log(a_ij + 1e-5) over background and foreground pairs, -log(1 + 1e-5 - a_ij) over negative pairs;
    |D_i - D_j - (x_j - x_i)| over foreground pairs (Eq. 5) and |D_i - D_j| over background pairs (Eq. 6).

    As in the authors' code the first pixel of a pair keeps radius - 1 pixels from the left, right and lower
    border, so all of its pairs exist; a map smaller than that has none. Where boundaries on a path are equal,
    the gradient goes to the first in raster order.

    Args:
        boundary: Probabilities in [0, 1]; float32 or float64.
        displacement: (dy, dx) in pixels of the map, of the boundary's precision.
        labels: 0 background, 255 do not care (its pairs count for nothing), else a foreground class.
        radius: In pixels of the map; at least 2.
        backend: "numba" (CPU, over `torch.get_num_threads()` threads, the same result for any number), "triton"
            (CUDA), "torch" (plain, any device, keeps the table of all pairs), or "auto": numba for tensors on the
            CPU, triton for those on a GPU where it is installed, else torch.

    Raises:
        ValueError: Shapes do not fit together, or the backend cannot run.
    """
    batch, height, width = labels.shape
    if boundary.shape != labels.shape or displacement.shape != (batch, 2, height, width):
        raise ValueError(
            f"boundary and labels must be [B, H, W], displacement [B, 2, H, W], got {tuple(boundary.shape)}, "
            f"{tuple(labels.shape)}, {tuple(displacement.shape)}"
        )
    name = choose("pair_losses", backend, boundary, backends=("numba", "torch", "triton"))
    module = import_module(f"kernels.pair_losses.{MODULES[name]}")
    return module.pair_terms(boundary, displacement, labels, radius)
