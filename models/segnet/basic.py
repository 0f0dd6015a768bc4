"""SegNet-Basic and the decoders that it is compared with (Sec. 3.1 and Table 1): one encoder, eight decoders."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import conv_norm
from models.segnet.encoders import BASIC_DEPTH, BASIC_KERNEL, BASIC_WIDTH, BasicEncoder, SceneNetwork
from models.segnet.inputs import Input
from models.segnet.parts import INDEX_MAPS, Upsampling, pool, start_as_he, unpool, upsample

FCN_KERNEL = 8


class SegNetBasic(SceneNetwork):
    """Decoders that unpool by the encoders' indices and then convolve: 64 maps, 7 x 7, no biases, no rectifiers.

    Args:
        addition: Add each encoder's maps after pooling to those that have come to their size (EncoderAddition).
        single_channel: Each filter sees its own map only (SingleChannelDecoder).
    """

    unpools: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        *,
        addition: bool = False,
        single_channel: bool = False,
        input: Input = "local_contrast",
    ) -> None:
        super().__init__(BasicEncoder(input), num_classes)
        self.addition = addition
        self.stored_maps = INDEX_MAPS + (BASIC_WIDTH if addition else 0)
        groups = BASIC_WIDTH if single_channel else 1
        self.decoders = nn.ModuleList(
            conv_norm(BASIC_WIDTH, BASIC_WIDTH, BASIC_KERNEL, rectify=False, bias=False, groups=groups)
            for _ in range(BASIC_DEPTH)
        )
        self.classifier = nn.Conv2d(BASIC_WIDTH, num_classes, 1)
        start_as_he(self)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the classes' logits for normalised input."""
        memory, maps = [], []
        for encoder in self.backbone.encoders:
            x, pooled = pool(encoder(x))
            memory.append(pooled)
            if self.addition:
                maps.append(x)
        for number, decoder in enumerate(self.decoders, start=2):
            x = decoder(unpool(x, memory.pop()))
            if self.addition and number <= len(maps):
                x = x + maps[-number]
        return self.classifier(x)


class FCNBasic(SceneNetwork):
    """Decoders that upsample and add the encoder's maps of that size.

    Args:
        learned: Upsampling is a transposed 8 x 8 convolution over all maps; otherwise bilinear and fixed.
        addition: Add each encoder's maps after pooling.
        reduction: Encoders' maps are reduced to the classes by 1 x 1 convolutions; otherwise all 64 are decoded, and
            classified at the end.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        learned: bool = True,
        addition: bool = True,
        reduction: bool = True,
        input: Input = "local_contrast",
    ) -> None:
        super().__init__(BasicEncoder(input), num_classes)
        width = num_classes if reduction else BASIC_WIDTH
        self.stored_maps = width if addition else 0
        # Batch norm is behind every convolution but the one whose output is the logits.
        self.reductions = nn.ModuleList()
        if reduction:
            reduced = BASIC_DEPTH if addition else 1
            self.reductions.extend(
                conv_norm(BASIC_WIDTH, width, 1, rectify=False, bias=False)
                if learned
                else nn.Conv2d(BASIC_WIDTH, width, 1)
                for _ in range(reduced)
            )
        self.upsamplings = nn.ModuleList(Upsampling(width, 2, FCN_KERNEL) for _ in range(BASIC_DEPTH) if learned)
        normed = BASIC_DEPTH - 1 if reduction else BASIC_DEPTH
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(normed) if learned)
        self.addition = addition
        self.classifier = nn.Identity() if reduction else nn.Conv2d(width, num_classes, 1)
        start_as_he(self)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the classes' logits for normalised input."""
        sizes, kept = [], []
        for encoder in self.backbone.encoders:
            sizes.append(x.shape[2:])
            x = F.max_pool2d(encoder(x), 2, ceil_mode=True)
            if self.addition:
                kept.append(x)
        if self.addition and self.reductions:
            kept = [reduce(maps) for reduce, maps in zip(self.reductions, kept, strict=True)]
            x = kept[-1]
        elif self.reductions:
            x = self.reductions[0](x)
        for number in range(BASIC_DEPTH):
            x = self._upsampled(x, number, sizes[-1 - number])
            if self.addition and number + 2 <= BASIC_DEPTH:
                x = x + kept[-number - 2]
        return self.classifier(x)

    def _upsampled(self, x: Tensor, number: int, size: torch.Size) -> Tensor:
        if not self.upsamplings:
            return upsample(x, 2, size)
        x = self.upsamplings[number](x, size)
        return self.norms[number](x) if number < len(self.norms) else x
