"""The networks that give every pixel a class, by name: DeepLab v2 and v3+, DANet, and what is built of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from models.backbones import OutputStride
from models.backbones.base import Backbone
from models.cooperative import DANET_STREAMS, DEEPLABV3PLUS_LAYERS, Cooperative, Prediction, multi_layer, same_layer
from models.danet import DANet
from models.deeplabv2 import DeepLabV2
from models.deeplabv3plus import DeepLabV3Plus
from models.saliency import build_saliency_deeplabv3plus
from models.segmenter import Segmenter

Connection = Literal["single", "ensemble", "same-layer", "multi-layer"]
CONNECTIONS = {"same-layer": same_layer, "multi-layer": multi_layer}


class BackboneFactory(Protocol):
    """A backbone of a kind that is settled, at an output stride that the network chooses."""

    def __call__(self, *, output_stride: OutputStride, dilated: bool) -> Backbone: ...


@dataclass(frozen=True)
class Kind:
    """A network on a backbone.

    Attributes:
        build: From the backbone and the number of classes; keywords are the network's options.
        output_stride: Of the backbone.
        dilated: The backbone's last level is dilated, where the stride does not ask for it.
        streams: Layers where two of these networks meet; those of different streams are not connected.
    """

    build: Callable[..., Segmenter]
    output_stride: OutputStride
    dilated: bool = False
    streams: tuple[tuple[str, ...], ...] = ()


KINDS = {
    "deeplabv2": Kind(DeepLabV2, 8),
    "deeplabv3plus": Kind(DeepLabV3Plus, 16, dilated=True, streams=(DEEPLABV3PLUS_LAYERS,)),
    "saliency-deeplabv3plus": Kind(build_saliency_deeplabv3plus, 16, dilated=True),
    "danet": Kind(DANet, 8, streams=DANET_STREAMS),
}
COOPERATIVE = {f"cooperative-{kind}": kind for kind in ("danet", "deeplabv3plus")}
SEGMENTERS = ("deeplabv2", "deeplabv3plus", "saliency-deeplabv3plus", *COOPERATIVE)


def build_segmenter(
    name: str, num_classes: int, backbone: BackboneFactory, options: Mapping[str, Any] | None = None
) -> Segmenter:
    """Build a network by name.

    Args:
        name: One of `SEGMENTERS`.
        num_classes: The values of a label map.
        backbone: Called for each backbone that the network has.
        options: Keywords of the network; of two that cooperate also those of `cooperate`.

    Raises:
        ValueError: No network has this name.
    """
    if name not in SEGMENTERS:
        raise ValueError(f"unknown network {name!r}; expected one of {', '.join(SEGMENTERS)}")
    options = dict(options or {})
    if name in COOPERATIVE:
        net = cooperate(COOPERATIVE[name], num_classes, backbone, **options)
    else:
        net = _build(KINDS[name], num_classes, backbone, options)
    net.name, net.options = name, options
    return net


def cooperate(
    kind: str,
    num_classes: int,
    backbone: BackboneFactory,
    *,
    connections: Connection,
    prediction: Prediction | None = None,
    **options: Any,
) -> Segmenter:
    """Build two networks of a kind that are trained together (Ikedo and Hotta 2021), or what they are compared with.

    Args:
        kind: One of `KINDS` with streams.
        connections: Features of the first network's layers go to the same layer of the second ("same-layer"), or to
            every layer of the same stream ("multi-layer"); there are no paths ("ensemble"), or no second ("single").
        prediction: See `Cooperative`; None is the mean of an ensemble, and the second network's output elsewhere.
        options: Of each network.
    """
    networks = [_build(KINDS[kind], num_classes, backbone, options) for _ in range(2 - (connections == "single"))]
    if connections == "single":
        return networks[0]
    paths: dict[str, Sequence[str]] = {}
    if connections != "ensemble":
        for stream in KINDS[kind].streams:
            paths |= CONNECTIONS[connections](stream)
    first, second = networks
    return Cooperative(first, second, paths, prediction=prediction or ("second" if paths else "mean"))


def _build(kind: Kind, num_classes: int, backbone: BackboneFactory, options: Mapping[str, Any]) -> Segmenter:
    return kind.build(backbone(output_stride=kind.output_stride, dilated=kind.dilated), num_classes, **options)
