"""Base class of the semantic segmentation networks, and the building of a network by the name of its builder."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from models.backbones import OutputStride
from models.backbones.base import Backbone


class BackboneFactory(Protocol):
    """A backbone at an output stride that the network chooses.

    Attributes:
        weights: ImageNet weights, for networks that have an encoder of their own.
    """

    @property
    def weights(self) -> str | Path | None: ...

    def __call__(self, *, output_stride: OutputStride, dilated: bool = False) -> Backbone: ...


class Segmenter(nn.Module):
    """A network from normalised input [B, 3, H, W] to the classes' logits [B, num_classes, H, W].

    It has a `backbone`, the part that may start from ImageNet's weights, with `normalize` from RGB pixels in [0, 255]
    to the network's input, and `pretrained`.

    Attributes:
        num_classes: The values of a label map.
        name: Name of the network in `tasks.networks.NETWORKS`.
        options: Keywords that it was built with, as JSON has them.
        image_size: (H, W) that whole images are resized to, or None where they are seen at their own.
        unpools: It has unpooling, where rounding may move a value to another place of its window: a jump.
        output_weights: Weights in the loss of the outputs that it has in training; None where all count 1.
        stored_maps: What a decoder is given of the first encoder's maps, in maps of floats after its pooling. Two bits
            per window of 64 maps are as many bytes as 4 such maps. None where this is not compared.
    """

    unpools: ClassVar[bool] = False
    output_weights: tuple[float, ...] | None = None
    stored_maps: float | None = None
    num_classes: int
    name: str = ""
    options: Mapping[str, Any] = {}
    image_size: tuple[int, int] | None = None

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return RGB pixels [B, 3, H, W] in [0, 255] as the network's input."""
        return self.backbone.normalize(pixels)  # pyright: ignore

    def coarse(self, x: Tensor) -> Tensor:
        """Return logits for normalised input at whatever size they are computed at, outside of training."""
        return self(x)

    @property
    def backbones(self) -> tuple[nn.Module, ...]:
        """All parts that may start from ImageNet's weights."""
        return (self.backbone,)  # pyright: ignore[reportReturnType]


def build_network(
    model: str, name: str, num_classes: int, backbone: BackboneFactory, options: Mapping[str, Any]
) -> nn.Module:
    """Build a network.

    Args:
        model: "module:function" of the builder: `(backbone, num_classes, **options) -> nn.Module`.
        name: Name of the network, which a `Segmenter` is given.
        num_classes: Values of a label map.
        backbone: Called for each backbone that the network has.
        options: Keywords of the builder.

    Raises:
        ValueError: The weights are not those of the network's encoder.
    """
    net = pkgutil.resolve_name(model)(backbone, num_classes, **options)
    if isinstance(net, Segmenter):
        net.name, net.options = name, dict(options)
    return net
