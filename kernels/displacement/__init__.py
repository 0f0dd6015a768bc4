"""From a displacement field to centroids and a class-agnostic instance map (IRNet, Sec. 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy import ndimage
from torch import Tensor

from kernels.backend import choose

__all__ = ["find_centroids", "instance_map", "instance_maps", "refine"]

# Each has `track_batch(displacements, iterations)`; loaded when chosen.
MODULES = {"numba": "cpu", "torch": "reference", "triton": "gpu"}


@torch.no_grad()
def _track(displacements: Sequence[Tensor], iterations: int, backend: str) -> list[Tensor]:
    """Return where each pixel of each map ends, (y, x), float32."""
    for displacement in displacements:
        if displacement.ndim != 3 or displacement.shape[0] != 2:
            raise ValueError(f"displacement must be [2, H, W], got {tuple(displacement.shape)}")
        if not displacement.isfinite().all():
            raise ValueError("displacement holds values that are not finite")
    if iterations < 0:
        raise ValueError(f"iterations must be at least 0, got {iterations}")
    if not displacements:
        return []
    name = choose("displacement", backend, displacements[0], backends=tuple(MODULES))
    module = import_module(f"kernels.displacement.{MODULES[name]}")
    return module.track_batch([displacement.float() for displacement in displacements], iterations)


def refine(displacement: Float[Tensor, "2 h w"], iterations: int, *, backend: str = "auto") -> Float[Tensor, "2 h w"]:
    """Follow the field: D_{u+1}(x) = D_u(x) + D(x + D_u(x)) (IRNet, Ahn et al. 2019, Eq. 10).

    As in the authors' code the position x + D_u(x) is clipped to the map after every iteration, D is sampled
    bilinearly, and counting starts at zero displacement: one iteration gives D itself, clipped.

    Args:
        displacement: (dy, dx) in pixels of the map.
        iterations: The paper takes 100, the authors' code 300.
        backend: "numba" (CPU), "triton" (CUDA), "torch" (plain, any device), or "auto": numba for tensors on the CPU,
            triton for those on a GPU where it is installed, else torch.

    Returns:
        The refined field, float32.

    Raises:
        ValueError: Wrong shape, negative count, a value that is not finite, or a backend that cannot run.
    """
    (end,) = _track([displacement], iterations, backend)
    rows, columns = (torch.arange(size, device=end.device) for size in end.shape[1:])
    return end - torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


def find_centroids(
    displacement: Float[Tensor, "2 h w"], iterations: int = 300, *, backend: str = "auto"
) -> Int64[Tensor, "2 h w"]:
    """Return the pixel (y, x), inside the map, at which each pixel ends when it follows the field.

    The position of `refine`, rounded half to even. Arguments and errors are those of `refine`.
    """
    return _track([displacement], iterations, backend)[0].round().long()


def instance_map(
    displacement: Float[Tensor, "2 h w"],
    *,
    threshold: float = 2.5,
    iterations: int = 300,
    backend: str = "auto",
) -> Int64[Tensor, "h w"]:
    """Return the instance map of one image: the case of one of `instance_maps`, which has the arguments and errors."""
    return instance_maps([displacement], threshold=threshold, iterations=iterations, backend=backend)[0]


def instance_maps(
    displacements: Sequence[Float[Tensor, "2 h w"]],
    *,
    threshold: float = 2.5,
    iterations: int = 300,
    backend: str = "auto",
) -> list[Int64[Tensor, "h w"]]:
    """Group the pixels of each image whose centroids fall into the same component of near-zero displacement.

    A centroid is a 4-connected component of |D| < threshold (IRNet, Ahn et al. 2019, Sec. 5.1, A.1). As in the
    authors' code, the pixels that end in no component form one more instance.

    Args:
        displacements: (dy, dx) in pixels of the map, not refined; maps of any sizes, on one device.
        threshold: In pixels of the map.
        iterations: See `refine`.
        backend: See `refine`.

    Returns:
        For each image ids without gaps from 0: the instance of pixels without component first, if any, then the
        components that some pixel ends in, in raster order of their first pixels.

    Raises:
        ValueError: As `refine`.
    """
    maps = []
    for displacement, end in zip(displacements, _track(displacements, iterations, backend), strict=True):
        candidates = displacement.float().norm(dim=0) < threshold
        # scipy's default structure connects the 4 direct neighbours and numbers components in raster order, from 1.
        components = np.empty(candidates.shape, np.int32)
        ndimage.label(candidates.cpu().numpy(), output=components)
        centroids = end.round().long().cpu().numpy()
        _, ids = np.unique(components[centroids[0], centroids[1]], return_inverse=True)
        maps.append(torch.from_numpy(ids.astype(np.int64)).to(displacement.device))
    return maps
