"""MobileNetV2 (Sandler et al. 2018)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torchvision.models as tv
from torch import Tensor, nn

from models.backbones import OutputStride
from models.backbones.family import Family, State, remove_strides, without_layer
from models.layers import DilatedDepthwise

CUTS = (0, 3, 4, 7, 14, 19)


def _build(name: str, output_stride: OutputStride, dilated: bool) -> nn.Module:
    net = tv.get_model(name, weights=None)
    assert isinstance(net, tv.MobileNetV2)
    remove_strides(net.features[7:14], net.features[14:], output_stride, dilated)
    _learn_dilated_fast(net)
    net.classifier = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return net


def _learn_dilated_fast(net: nn.Module) -> None:
    for parent in net.modules():
        for child_name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.groups > 1 and child.dilation != (1, 1):
                setattr(parent, child_name, DilatedDepthwise.of(child))


def _levels(net: nn.Module) -> list[nn.Module]:
    assert isinstance(net, tv.MobileNetV2)
    return [net.features[a:b] for a, b in itertools.pairwise(CUTS)]


def _read(state: Mapping[str, Tensor]) -> State:
    return without_layer(state, "classifier")


MOBILENET = Family(_build, _levels, _read)
