"""What every network that gives each pixel a class says of itself to those who train it and apply it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn


class Segmenter(nn.Module):
    """A network from normalised input [B, 3, H, W] to the classes' logits [B, num_classes, H, W].

    It has a `backbone`, the part that may start from ImageNet's weights, with `normalize` from RGB pixels in [0, 255]
    to the network's input, and `pretrained`.

    Attributes:
        num_classes: The values of a label map.
        name: That it is built by, in `models.segmenters`.
        options: Those that it is built with, as JSON has them.
        image_size: (H, W) that whole images are resized to, or None where they are seen at their own.
        unpools: It has unpooling, where rounding may move a value to another place of its window: a jump.
    """

    unpools: ClassVar[bool] = False
    num_classes: int
    name: str = ""
    options: Mapping[str, Any] = {}
    image_size: tuple[int, int] | None = None

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return RGB pixels [B, 3, H, W] in [0, 255] as the network's input."""
        return self.backbone.normalize(pixels)  # pyright: ignore

    @property
    def backbones(self) -> tuple[nn.Module, ...]:
        """All parts that may start from ImageNet's weights."""
        return (self.backbone,)  # pyright: ignore[reportReturnType]
