"""SegNet: VGG16's convolutions as the encoder, and its mirror image as the decoder (Sec. 3, Fig. 2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from models.layers import conv_norm
from models.segnet.encoders import FIRST_DROPOUT, VGG16, VGG16_WIDTHS, SceneNetwork
from models.segnet.inputs import Input
from models.segnet.parts import INDEX_MAPS, decode, encode, start_as_he


def mirrored_decoders(layer: Callable[[int, int], nn.Sequential], dropout: float) -> list[nn.Sequential]:
    """Return the decoders of VGG16's encoders, the deepest first: what an encoder has, the other way round.

    A decoder ends with the channels that its encoder begins from, the last with 64 in place of RGB.

    Args:
        layer: Returns a convolution, with what follows it, from so many channels to so many.
        dropout: Behind the three deepest.
    """
    ends = [64, *(widths[-1] for widths in VGG16_WIDTHS)]
    decoders = []
    for number in reversed(range(len(VGG16_WIDTHS))):
        layers = nn.Sequential()
        for a, b in pairwise((*reversed(VGG16_WIDTHS[number]), ends[number])):
            layers.extend(layer(a, b))
        if number >= FIRST_DROPOUT and dropout:
            layers.append(nn.Dropout(dropout))
        decoders.append(layers)
    return decoders


class SegNet(SceneNetwork):
    """13 convolutions, five poolings that remember their maxima in two bits, five unpoolings, 13 convolutions.

    The last convolution gives the logits.

    Args:
        dropout: Behind the three deepest encoders and decoders (Sec. 4); see `VGG16`.
    """

    unpools: ClassVar[bool] = True
    stored_maps: float | None = INDEX_MAPS

    def __init__(self, num_classes: int, *, dropout: float = 0.5, input: Input = "imagenet") -> None:
        super().__init__(VGG16(input, dropout), num_classes)
        decoders = mirrored_decoders(partial(conv_norm, kernel_size=3), dropout)
        decoders[-1] = nn.Sequential(*conv_norm(64, 64, 3), nn.Conv2d(64, num_classes, 3, padding=1))
        self.decoders = nn.ModuleList(decoders)
        start_as_he(self)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the classes' logits for normalised input."""
        x, memory = encode(self.backbone.encoders, self.backbone.dropouts, x)
        return decode(self.decoders, x, memory)
