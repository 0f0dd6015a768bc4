"""ResNets (He et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import torchvision.models as tv
from torch import Tensor, nn

from models.backbones import OutputStride
from models.backbones.family import Family, State, remove_strides, without_layer


def _build(name: str, output_stride: OutputStride, dilated: bool) -> nn.Module:
    net = tv.get_model(name, weights=None)
    assert isinstance(net, tv.ResNet)
    remove_strides(net.layer3, net.layer4, output_stride, dilated)
    net.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return net


def _levels(net: nn.Module) -> list[nn.Module]:
    assert isinstance(net, tv.ResNet)
    return [nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool), net.layer1, net.layer2, net.layer3, net.layer4]


def _read(state: Mapping[str, Tensor]) -> State:
    return without_layer(state, "fc")


RESNET = Family(_build, _levels, _read)
