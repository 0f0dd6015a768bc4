"""SegNet: VGG16's convolutions as the encoder, and its mirror image as the decoder (Sec. 3, Fig. 2)."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from models.segnet.encoders import VGG16, VGG16_WIDTHS, SceneNetwork
from models.segnet.inputs import Input
from models.segnet.parts import conv_norm, decode, encode, start_as_he


def mirrored(num_decoders: int = len(VGG16_WIDTHS)) -> list[tuple[int, ...]]:
    """Return the channels that go through each decoder, the deepest first: those of its encoder, the other way round.

    A decoder ends with the channels that its encoder begins from, the last with 64 in place of RGB.
    """
    begins = [64, *(widths[-1] for widths in VGG16_WIDTHS)]
    return [(*reversed(VGG16_WIDTHS[n]), begins[n]) for n in reversed(range(num_decoders))]


class SegNet(SceneNetwork):
    """13 convolutions, five poolings that remember their maxima in two bits, five unpoolings, 13 convolutions.

    The last convolution gives the logits.

    Args:
        dropout: Behind the two deepest encoders and decoders (Sec. 4).
    """

    unpools: ClassVar[bool] = True

    def __init__(self, num_classes: int, *, dropout: float = 0.5, input: Input = "imagenet") -> None:
        super().__init__(VGG16(input, dropout), num_classes)
        decoders = []
        for number, widths in enumerate(mirrored()):
            layers = nn.Sequential()
            for a, b in pairwise(widths):
                layers.extend(conv_norm(a, b, 3))
            if number < 2 and dropout:
                layers.append(nn.Dropout(dropout))
            decoders.append(layers)
        decoders[-1] = nn.Sequential(*conv_norm(64, 64, 3), nn.Conv2d(64, num_classes, 3, padding=1))
        self.decoders = nn.ModuleList(decoders)
        start_as_he(self)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the classes' logits for normalised input."""
        x, memory = encode(self.backbone.encoders, x)
        return decode(self.decoders, x, memory)
