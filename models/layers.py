"""Layers that several networks are built of."""

from __future__ import annotations

from torch import nn


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
