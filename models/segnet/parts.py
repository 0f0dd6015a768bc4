"""What the networks are built of: encoders that remember, decoders that unpool, upsampling that starts bilinear."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.jit import is_tracing  # pyright: ignore[reportPrivateImportUsage]

from kernels.pooling import max_pool, max_unpool
from kernels.pooling.reference import pool_windows, unpool_windows

# Of 64 maps after pooling, in maps of floats: two bits per window.
INDEX_MAPS = 64 * 2 / 32


class Pooled(NamedTuple):
    """What is kept of an encoder: where its maxima were, in two bits each, and the size of its maps."""

    indices: Tensor
    size: tuple[int, int]


def pool(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c p q"], Pooled]:
    """Return the maxima of 2 x 2 windows, and what it takes to unpool."""
    # A network that is traced for other programs knows torch's operations alone.
    maxima, indices = pool_windows(x) if is_tracing() else max_pool(x)
    return maxima, Pooled(indices, (x.shape[2], x.shape[3]))


def unpool(x: Float[Tensor, "b c p q"], pooled: Pooled) -> Float[Tensor, "b c h w"]:
    """Return sparse maps with the values where the encoder's maxima were (Fig. 3)."""
    if is_tracing():
        return unpool_windows(x, pooled.indices, *pooled.size)
    return max_unpool(x, *pooled)


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
    """Draw the weights of all convolutions as He et al. 2015 do; learned upsampling stays as it starts."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not isinstance(module, Upsampling):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
