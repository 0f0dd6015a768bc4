"""A layer with its residual and rectifier, against torch's layers one after the other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.row import Part, Row
from kernels.convolution import convolve, spectrum_of

BATCH = 2


def rows() -> list[Row]:
    # The layers of a ResNet-50 that see 375 x 500 pixels, and maps of 32 x 32.
    shapes = (
        (512, 512, 24, 32, 3),
        (256, 256, 24, 32, 3),
        (256, 256, 32, 32, 3),
        (128, 128, 32, 32, 3),
        (256, 1024, 24, 32, 1),
    )
    return [_row(*shape) for shape in (*shapes, (64, 256, 94, 125, 1), (64, 256, 32, 32, 1))]


@torch.no_grad()
def _row(channels: int, features: int, height: int, width: int, size: int) -> Row:
    torch.manual_seed(0)
    x = torch.randn(BATCH, channels, height, width).to(memory_format=torch.channels_last)
    weight = torch.randn(features, channels, size, size) / (channels * size**2) ** 0.5
    weight = weight.to(memory_format=torch.channels_last)
    bias = torch.randn(features)
    residual = torch.randn(BATCH, features, height, width).to(memory_format=torch.channels_last)
    spectrum = spectrum_of(weight) if size == 3 else None

    def fast() -> Tensor:
        return convolve(x, weight, bias, spectrum=spectrum, residual=residual, low=0, backend="numba")

    def slow() -> Tensor:
        return F.conv2d(x, weight, bias, padding=size // 2).add_(residual).relu_()

    def measure_error() -> float:
        expected = slow()
        return float((fast() - expected).abs().max() / expected.max())

    name = f"convolution {size} x {size}, {channels} to {features}, {BATCH} x {height} x {width}"
    return Row(name, "torch's layers", fast, [Part(slow)], measure_error, 1e-4, "of the maximum")
