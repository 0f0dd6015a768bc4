"""What every network that gives each pixel a class says of itself to those who train it and apply it."""

from __future__ import annotations

from typing import ClassVar

from torch import nn


class Segmenter(nn.Module):
    """A network from normalised input [B, 3, H, W] to the classes' logits [B, num_classes, H, W].

    It has a `backbone`, the part that may start from ImageNet's weights, with `normalize` from RGB pixels in [0, 255]
    to the network's input, and `pretrained`.

    Attributes:
        num_classes: The values of a label map.
        image_size: (H, W) that whole images are resized to, or None where they are seen at their own.
        unpools: It has unpooling, where rounding may move a value to another place of its window: a jump.
    """

    unpools: ClassVar[bool] = False
    num_classes: int
    image_size: tuple[int, int] | None = None
