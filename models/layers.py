"""Layers that several networks are built of."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class DilatedDepthwise(nn.Conv2d):
    """A dilated convolution of each map by itself, at stride 1 and padded by its dilation.

    A pixel meets only those whose coordinates leave the same remainders by the dilation, so this is a plain convolution
    of so many smaller images, whose gradients torch has on a CPU in a tenth of the time.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> DilatedDepthwise:
        """Return a copy of `conv` that shares its parameters."""
        same = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # pyright: ignore[reportArgumentType]
            padding=conv.dilation,  # pyright: ignore[reportArgumentType]
            dilation=conv.dilation,  # pyright: ignore[reportArgumentType]
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        same.weight, same.bias = conv.weight, conv.bias
        return same

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return the maps convolved."""
        if input.is_cuda or not torch.is_grad_enabled():
            return super().forward(input)
        (height, width), (down, right) = input.shape[2:], self.dilation
        whole = F.pad(input, (0, -width % right, 0, -height % down)).permute(0, 2, 3, 1)
        grid = whole.unflatten(2, (-1, right)).unflatten(1, (-1, down)).permute(0, 2, 4, 1, 3, 5)
        parts = grid.flatten(0, 2).permute(0, 3, 1, 2)
        centre = [size // 2 for size in self.kernel_size]
        parts = F.conv2d(parts, self.weight, self.bias, padding=centre, groups=self.groups)
        grid = parts.permute(0, 2, 3, 1).unflatten(0, grid.shape[:3]).permute(0, 3, 1, 4, 2, 5)
        # Without gaps, which a batch norm that follows is slow over.
        return grid.flatten(3, 4).flatten(1, 2)[:, :height, :width].contiguous().permute(0, 3, 1, 2)


class SeparableConv2d(nn.Sequential):
    """A depthwise separable convolution: one of each map by itself, then one over the maps."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        own = nn.Conv2d(in_channels, in_channels, kernel_size, padding=kernel_size // 2, groups=in_channels, bias=False)
        super().__init__(own, nn.Conv2d(in_channels, out_channels, 1, bias=False))
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = (kernel_size, kernel_size)


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    rectify: bool = True,
    bias: bool = True,
    groups: int = 1,
    dilation: int = 1,
) -> nn.Sequential:
    """Return a convolution that keeps the size of the maps, batch norm, and a rectifier where one is wanted."""
    padding = dilation * (kernel_size - 1) // 2
    layers: list[nn.Module] = [
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        ),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if rectify else nn.Sequential(*layers)
