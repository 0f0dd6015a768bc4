"""A convolution of stride 1 and the bias, residual and rectification that follow it, for inference."""

from __future__ import annotations

import math
from importlib import import_module

import torch
from jaxtyping import Float
from torch import Tensor

from kernels.backend import choose
from kernels.convolution.cpu import finish, spectrum_of

__all__ = ["convolve", "finish", "spectrum_of"]

# Each has `convolve(x, weight, bias, spectrum, residual, low, high)`.
MODULES = {"numba": "cpu", "torch": "reference"}


@torch.no_grad()
def convolve(
    x: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "o c k k"],
    bias: Float[Tensor, " o"],
    *,
    spectrum: Float[Tensor, "36 c o"] | None = None,
    residual: Float[Tensor, "b o h w"] | None = None,
    low: float = -math.inf,
    high: float = math.inf,
    backend: str = "auto",
) -> Float[Tensor, "b o h w"]:
    """Return min(max(x * weight + bias + residual, low), high), where x is padded by zeros to keep its size.

    Args:
        x: The fastest with channels last in memory; so are the result's.
        weight: Of 1 x 1 or 3 x 3 pixels.
        bias: Of each feature.
        spectrum: `spectrum_of(weight)` for a 3 x 3 weight that is used again and again; computed if None.
        residual: Added before the clipping.
        low: 0 rectifies.
        high: 6 makes that relu6.
        backend: "numba" (CPU, single precision, one thread), "torch" (plain, any device), or "auto".

    Raises:
        ValueError: Shapes that do not fit, another size of kernel, another precision than numba's, or a backend that
            cannot run.
    """
    if weight.ndim != 4 or tuple(weight.shape[2:]) not in {(1, 1), (3, 3)}:
        raise ValueError(f"weight must be [O, C, 1, 1] or [O, C, 3, 3], got {tuple(weight.shape)}")
    if x.ndim != 4 or x.shape[1] != weight.shape[1] or 0 in x.shape:
        raise ValueError(f"x must be [B, {weight.shape[1]}, H, W] and not empty, got {tuple(x.shape)}")
    expected = {"bias": (weight.shape[0],), "residual": (x.shape[0], weight.shape[0], *x.shape[2:])}
    for name, found in (("bias", bias), ("residual", residual)):
        if found is not None and tuple(found.shape) != expected[name]:
            raise ValueError(f"{name} must be {list(expected[name])}, got {tuple(found.shape)}")
    name = choose("convolution", backend, x, backends=tuple(MODULES))
    if name == "numba" and {t.dtype for t in (x, weight, bias, residual) if t is not None} != {torch.float32}:
        if backend == "numba":
            raise ValueError(f"convolution: backend 'numba' needs single precision, got {x.dtype}")
        name = "torch"
    return import_module(f"kernels.convolution.{MODULES[name]}").convolve(
        x, weight, bias, spectrum, residual, low, high
    )
