"""Max-pooling that remembers where each maximum was in two bits, and its inverse (Badrinarayanan et al. 2017, Sec. 3).

A window is 2 x 2 and the stride 2, so that windows do not overlap: n = 2 dy + dx in {0, 1, 2, 3} says where the
maximum was. Four windows that lie side by side share a byte, the left one in its lowest bits. An odd last row or column
is in no window.

Nothing but the indices is kept for the backward pass: the gradient of pooling is unpooling, and the other way round.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kernels.backend import choose

__all__ = ["WINDOWS_A_BYTE", "max_pool", "max_unpool", "packed_width"]

WINDOWS_A_BYTE = 4
# Each has `pool(x)`, `unpool(x, indices, height, width)` and `pick(x, indices)`; loaded when chosen.
MODULES = {"numba": "cpu", "torch": "reference", "triton": "gpu"}


def max_pool(
    x: Float[Tensor, "b c h w"], *, backend: str = "auto"
) -> tuple[Float[Tensor, "b c p q"], UInt8[Tensor, "b c p k"]]:
    """Return the maximum of each 2 x 2 window, y[p, q] = max x[2 p + dy, 2 q + dx], and the (dy, dx) that it has.

    Of equal values the first in raster order is the maximum. A window with NaN has the maximum NaN.

    Args:
        x: At least one pixel high and wide; float64, float32, float16 or bfloat16. Its maxima lie in memory as it does
            where that is with the channels last.
        backend: "numba" (CPU), "triton" (CUDA), "torch" (plain, any device), or "auto": numba for tensors on the CPU,
            triton for those on a GPU where it is installed, else torch.

    Returns:
        The maxima [B, C, H // 2, W // 2], and their packed indices [B, C, H // 2, ceil((W // 2) / 4)].

    Raises:
        ValueError: Not a batch of maps, or the backend cannot run.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"expected floats [B, C, H, W], got {x.dtype} {tuple(x.shape)}")
    return _Pool.apply(x, _module(backend, x))  # pyright: ignore[reportReturnType]


def max_unpool(
    x: Float[Tensor, "b c p q"], indices: UInt8[Tensor, "b c p k"], size: tuple[int, int], *, backend: str = "auto"
) -> Float[Tensor, "b c h w"]:
    """Return maps of a size that are zero but where the maxima of `max_pool` were, which have the values of `x`.

    Args:
        x: A value for every window.
        indices: From `max_pool`, of maps of the same size as those that are wanted.
        size: (H, W), with H // 2 and W // 2 the height and width of `x`.
        backend: See `max_pool`.

    Raises:
        ValueError: Shapes do not fit together, or the backend cannot run.
    """
    height, width = size
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"expected floats [B, C, H // 2, W // 2], got {x.dtype} {tuple(x.shape)}")
    if tuple(x.shape[2:]) != (height // 2, width // 2):
        raise ValueError(f"expected maps of {height // 2} x {width // 2} for {height} x {width}, got {tuple(x.shape)}")
    packed = (*x.shape[:3], packed_width(x.shape[3]))
    if indices.dtype != torch.uint8 or tuple(indices.shape) != packed:
        raise ValueError(f"expected indices uint8 {packed}, got {indices.dtype} {tuple(indices.shape)}")
    return _Unpool.apply(x, indices, height, width, _module(backend, x))  # pyright: ignore[reportReturnType]


def packed_width(num_windows: int) -> int:
    """Return the bytes that the indices of windows side by side take."""
    return -(-num_windows // WINDOWS_A_BYTE)


def _module(backend: str, x: Tensor) -> ModuleType:
    return import_module(f"kernels.pooling.{MODULES[choose('pooling', backend, x, backends=tuple(MODULES))]}")


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: ModuleType) -> tuple[Tensor, Tensor]:
        maxima, indices = module.pool(x)
        ctx.save_for_backward(indices)
        ctx.mark_non_differentiable(indices)
        ctx.size, ctx.module = x.shape[2:], module
        return maxima, indices

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        (indices,) = ctx.saved_tensors
        return ctx.module.unpool(gradients[0], indices, *ctx.size), None


class _Unpool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, indices: Tensor, height: int, width: int, module: ModuleType) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.module = module
        return module.unpool(x, indices, height, width)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        (indices,) = ctx.saved_tensors
        return ctx.module.pick(gradients[0], indices), None, None, None, None
