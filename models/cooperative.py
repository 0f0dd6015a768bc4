"""Two networks of one kind that are trained together, the second with features of the first (Ikedo and Hotta 2021)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models import danet, deeplabv3plus
from models.layers import SeparableConv2d
from models.segmenter import BackboneFactory, Segmenter

Connections = Mapping[str, Sequence[str]]
"""Layer of the second network -> layers of the first whose inputs are laid beside its own input."""

Layer = nn.Conv2d | SeparableConv2d

Prediction = Literal["second", "mean"]
Connection = Literal["single", "ensemble", "same-layer", "multi-layer"]


class Cooperative(Segmenter):
    """Two networks, and paths from layers of the first to layers of the second.

    At a connected layer the input of the second network has the inputs of layers of the first beside its own, resized
    to its size: a convolution over both is the sum of one over each, so that the layer keeps its weights and each path
    has a convolution of its own. With the weights of the paths at zero the second network is one that is alone. Without
    connections the two are an ensemble.

    The weights of a layer and of its paths start from what each of them sees: larger than those of one convolution over
    all of it, which takes them by the number of all inputs.

    In training the outputs of both are returned, whose losses add up (Eq. 1). The second network's loss reaches the
    first through the paths.

    Args:
        first: Gives its features.
        second: Takes them; of the same kind.
        connections: All layers are convolutions with one group, or depthwise separable ones.
        prediction: What counts: the second network's output, or the mean of both networks' probabilities.

    Raises:
        ValueError: A layer that is named does not exist, or is no such convolution.
    """

    def __init__(
        self, first: Segmenter, second: Segmenter, connections: Connections, *, prediction: Prediction = "second"
    ) -> None:
        super().__init__()
        self.num_classes = first.num_classes
        self.prediction: Prediction = prediction
        taps = {name: _Tap(_layer(first, name)) for names in connections.values() for name in names}
        for name, tap in taps.items():
            _replace(first, name, tap)
        for name, sources in connections.items():
            _replace(second, name, _Joint(_layer(second, name), [taps[source] for source in sources]))
        self.first, self.second = first, second

    @property
    def backbone(self) -> nn.Module:
        """The first network's; both normalise alike."""
        return self.first.backbone  # pyright: ignore[reportReturnType]

    @property
    def backbones(self) -> tuple[nn.Module, ...]:
        """Both networks'."""
        return (*self.first.backbones, *self.second.backbones)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Tensor:
        """Return logits [B, C, H, W] for normalised input; in training those of both networks, [2, B, C, H, W].

        Networks that have several outputs in training give them all: [2 N, B, C, H, W].
        """
        taps = [module for module in self.first.modules() if isinstance(module, _Tap)]
        try:
            if self.training:
                return torch.stack([self.first(x), self.second(x)]).flatten(0, -5)
            if self.prediction == "mean":
                return torch.logaddexp(self.first(x).log_softmax(1), self.second(x).log_softmax(1))
            if taps:
                # For its features: nobody looks at its logits.
                self.first.coarse(x)
            return self.second(x)
        finally:
            for tap in taps:
                tap.seen = None


class _Tap(nn.Module):
    """A layer whose input can be read until the networks are done."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return self.layer(x)


class _Joint(nn.Module):
    """A layer, and a path for each layer of the other network that it is connected to."""

    def __init__(self, layer: Layer, taps: Sequence[_Tap]) -> None:
        super().__init__()
        self.layer = layer
        # In a tuple, so that they are not parts of this network too.
        self._taps = tuple(taps)
        self.paths = nn.ModuleList(_path(tap.layer.in_channels, layer) for tap in taps)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        for tap, path in zip(self._taps, self.paths, strict=True):
            assert tap.seen is not None
            maps = tap.seen
            if path.kernel_size == (1, 1) and maps.shape[2] < x.shape[2]:
                # The same, on fewer and smaller maps: a convolution of single pixels and a resizing commute.
                y = y + _resized(path(maps), x.shape[2:])
            else:
                y = y + path(_resized(maps, x.shape[2:]))
        return y


def _path(in_channels: int, layer: Layer) -> Layer:
    """Return a convolution like a layer, of other input."""
    if isinstance(layer, SeparableConv2d):
        return SeparableConv2d(in_channels, layer.out_channels, layer.kernel_size[0])
    return nn.Conv2d(
        in_channels,
        layer.out_channels,
        layer.kernel_size,  # pyright: ignore[reportArgumentType]
        layer.stride,  # pyright: ignore[reportArgumentType]
        layer.padding,  # pyright: ignore[reportArgumentType]
        layer.dilation,  # pyright: ignore[reportArgumentType]
        bias=False,
    )


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    return maps if maps.shape[2:] == size else F.interpolate(maps, size, mode="bilinear", align_corners=False)


def _layer(net: nn.Module, name: str) -> Layer:
    try:
        layer = net.get_submodule(name)
    except AttributeError:
        raise ValueError(f"{type(net).__name__} has no layer {name!r}") from None
    layer = layer.layer if isinstance(layer, _Tap | _Joint) else layer
    if isinstance(layer, SeparableConv2d):
        return layer
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1:
        raise ValueError(f"{name}: expected a convolution with one group, found {type(layer).__name__}")
    return layer


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)


# Where the features of each kind of network meet; DANet's streams are not mixed.
DEEPLABV3PLUS_LAYERS = (
    "aspp.branches.0.0",
    "aspp.project.0",
    "decoder.detail.0",
    "decoder.fuse.0",
    "decoder.classifier",
)
DANET_STREAMS = (("position.before.0", "position.after.0"), ("channel.before.0", "channel.after.0"))


def same_layer(layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Connect each layer with the same layer (Sec. 3.2)."""
    return {name: (name,) for name in layers}


def multi_layer(layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Connect each layer with all of them, whatever their depth (Sec. 3.3)."""
    return {name: tuple(layers) for name in layers}


CONNECTIONS = {"same-layer": same_layer, "multi-layer": multi_layer}


def cooperate(
    build: Callable[..., Segmenter],
    streams: Sequence[Sequence[str]],
    backbone: BackboneFactory,
    num_classes: int,
    *,
    connections: Connection,
    prediction: Prediction | None = None,
    **options: Any,
) -> Segmenter:
    """Build two networks of a kind that are trained together (Ikedo and Hotta 2021), or what they are compared with.

    Args:
        build: Builder of each network.
        streams: Layers where the two meet; those of different streams are not connected.
        backbone: Called for each network.
        num_classes: Values of a label map.
        connections: Features of the first network's layers go to the same layer of the second ("same-layer"), or to
            every layer of the same stream ("multi-layer"); there are no paths ("ensemble"), or no second ("single").
        prediction: See `Cooperative`; None is the mean of an ensemble, and the second network's output elsewhere.
        options: Keywords of each network.
    """
    networks = [build(backbone, num_classes, **options) for _ in range(2 - (connections == "single"))]
    if connections == "single":
        return networks[0]
    paths: dict[str, Sequence[str]] = {}
    if connections != "ensemble":
        for stream in streams:
            paths |= CONNECTIONS[connections](stream)
    first, second = networks
    return Cooperative(first, second, paths, prediction=prediction or ("second" if paths else "mean"))


build_danet = partial(cooperate, danet.build, DANET_STREAMS)
build_deeplabv3plus = partial(cooperate, deeplabv3plus.build, (DEEPLABV3PLUS_LAYERS,))
