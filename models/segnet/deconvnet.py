"""DeconvNet (Noh et al. 2015) with 1024 features in its fully connected layers, as the paper benchmarks it (Sec. 4)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from models.layers import conv_norm
from models.segnet.encoders import VGG16, SceneNetwork
from models.segnet.inputs import Input
from models.segnet.parts import INDEX_MAPS, decode, encode, start_as_he
from models.segnet.segnet import mirrored_decoders

FULLY_CONNECTED = 1024


class DeconvNet(SceneNetwork):
    """VGG16 with two of its fully connected layers as convolutions, and a decoder that undoes all of it.

    Args:
        dropout: Behind the three deepest encoders and decoders, and behind the two layers that were fully connected.
    """

    unpools: ClassVar[bool] = True
    stored_maps: float | None = INDEX_MAPS

    def __init__(self, num_classes: int, *, dropout: float = 0.5, input: Input = "imagenet") -> None:
        super().__init__(VGG16(input, dropout), num_classes)
        self.connected = nn.Sequential(
            *conv_norm(512, FULLY_CONNECTED, 7),
            nn.Dropout(dropout),
            *conv_norm(FULLY_CONNECTED, FULLY_CONNECTED, 1),
            nn.Dropout(dropout),
            *_deconv_norm(FULLY_CONNECTED, 512, 7),
        )
        self.decoders = nn.ModuleList(mirrored_decoders(partial(_deconv_norm, kernel_size=3), dropout))
        self.classifier = nn.Conv2d(64, num_classes, 1)
        start_as_he(self)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the classes' logits for normalised input."""
        x, memory = encode(self.backbone.encoders, self.backbone.dropouts, x)
        return self.classifier(decode(self.decoders, self.connected(x), memory))


def _deconv_norm(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Return a transposed convolution at stride 1, batch norm and a rectifier."""
    layer = nn.ConvTranspose2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    return nn.Sequential(layer, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
