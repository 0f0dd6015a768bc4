"""The plain convolution, with all that follows it."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def convolve(
    x: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "o c k k"],
    bias: Float[Tensor, " o"],
    spectrum: Float[Tensor, "36 c o"] | None,
    residual: Float[Tensor, "b o h w"] | None,
    low: float,
    high: float,
) -> Float[Tensor, "b o h w"]:
    """See `kernels.convolution.convolve`; any precision. `spectrum` is not looked at."""
    y = F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)
    return (y if residual is None else y + residual).clamp(low, high)
