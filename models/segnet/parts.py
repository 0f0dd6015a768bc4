"""What the networks are built of: encoders that remember, decoders that unpool, upsampling that starts bilinear."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.jit import is_tracing  # pyright: ignore[reportPrivateImportUsage]
from torch.nn import functional as F

from kernels.pooling import max_pool, max_unpool
from kernels.pooling.reference import pool_windows, unpool_windows

# Of 64 maps after pooling, in maps of floats: two bits per window.
INDEX_MAPS = 64 * 2 / 32


class Pooled(NamedTuple):
    """What is kept of an encoder: where its maxima were, in two bits each, and the size of its maps."""

    indices: Tensor
    size: tuple[int, int]


def pool(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c p q"], Pooled]:
    """Return the maxima of 2 x 2 windows, and what it takes to unpool.

    An odd last row or column is in windows of its own, as in the authors' Caffe: maps of 45 x 60 pool to 23 x 30.
    """
    height, width = x.shape[2:]
    # A network that is traced for other programs knows torch's operations alone, and has any size.
    if is_tracing() or height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2), value=-math.inf)
    maxima, indices = pool_windows(x) if is_tracing() else max_pool(x)
    return maxima, Pooled(indices, (height, width))


def unpool(x: Float[Tensor, "b c p q"], pooled: Pooled) -> Float[Tensor, "b c h w"]:
    """Return sparse maps with the values where the encoder's maxima were (Fig. 3)."""
    height, width = pooled.size
    whole = (2 * x.shape[2], 2 * x.shape[3])
    spread = unpool_windows(x, pooled.indices, *whole) if is_tracing() else max_unpool(x, pooled.indices, whole)
    return spread[:, :, :height, :width]


def encode(
    encoders: Iterable[nn.Module], dropouts: Iterable[nn.Module], x: Float[Tensor, "b c h w"]
) -> tuple[Tensor, list[Pooled]]:
    """Run encoders, each followed by pooling and dropout; return the deepest maps, and what each encoder remembers."""
    memory = []
    for encoder, dropout in zip(encoders, dropouts, strict=True):
        x, pooled = pool(encoder(x))
        x = dropout(x)
        memory.append(pooled)
    return x, memory


def upsample(x: Float[Tensor, "b c p q"], factor: int, size: Sequence[int]) -> Float[Tensor, "b c h w"]:
    """Return maps by bilinear interpolation to `factor` times the sides, cut to `size` (H, W)."""
    larger = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    return larger[:, :, : size[0], : size[1]]


def decode(decoders: Iterable[nn.Module], x: Tensor, memory: Sequence[Pooled]) -> Tensor:
    """Run decoders from the deepest on, each on maps that are unpooled with the indices of its encoder."""
    for decoder, pooled in zip(decoders, reversed(memory), strict=True):
        x = decoder(unpool(x, pooled))
    return x


class Upsampling(nn.ConvTranspose2d):
    """Learned upsampling: a transposed convolution over all channels that starts as bilinear interpolation.

    Args:
        channels: Of input and output.
        factor: Of the sides.
        kernel_size: Where it is larger than the 2 `factor` that bilinear interpolation takes, the rest starts at 0.
    """

    def __init__(self, channels: int, factor: int, kernel_size: int | None = None) -> None:
        kernel_size = kernel_size or 2 * factor
        padding = (kernel_size - factor) // 2
        # As large as any size that pools to the input's; what is too much is cut off.
        super().__init__(channels, channels, kernel_size, factor, padding, output_padding=factor - 1, bias=False)
        start_bilinear(self)

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        """Return maps of `output_size` (H, W), by default `factor` times the input's, and less than once more."""
        factor = self.stride[0]
        height, width = output_size or (factor * input.shape[2], factor * input.shape[3])
        return super().forward(input)[:, :, :height, :width]


@torch.no_grad()
def start_bilinear(layer: nn.ConvTranspose2d) -> None:
    """Set the weights to those of bilinear interpolation, each channel to itself.

    At stride f, output pixel j lies at (j + 1/2) / f - 1/2 of the input, and an input pixel counts 1 - its distance.
    """
    factor, kernel_size = layer.stride[0], layer.kernel_size[0]
    distance = (torch.arange(kernel_size) - (kernel_size - 1) / 2).abs() / factor
    line = (1 - distance).clamp(min=0)
    layer.weight.zero_()
    diagonal = torch.arange(layer.in_channels)
    layer.weight[diagonal, diagonal] = line[:, None] * line


@torch.no_grad()
def start_as_he(net: nn.Module) -> None:
    """Draw the weights of all convolutions as He et al. 2015 do; learned upsampling stays as it starts.

    Their variance is 2 / n, with n the inputs that an output sums.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not isinstance(module, Upsampling):
            # The weights of a transposed convolution lie [in, out, k, k], so that torch's fan-out is its inputs.
            mode = "fan_out" if isinstance(module, nn.ConvTranspose2d) else "fan_in"
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
