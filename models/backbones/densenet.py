"""DenseNet (Huang et al. 2017)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

import torch
import torchvision.models as tv
from torch import Tensor, nn

from models.backbones import OutputStride
from models.backbones.family import Family, State, remove_stride, without_layer

CUTS = (0, 4, 5, 7, 9, 13)


class _Mean(nn.Module):
    """The mean of 2 x 2 pixels that lie `rate` apart, at every pixel; beyond the border there are none."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            rate = min(self.rate, x.shape[axis])
            end = x.narrow(axis, x.shape[axis] - rate, rate)
            following = torch.cat([x.narrow(axis, rate, x.shape[axis] - rate), end], dim=axis)
            x = (x + following) / 2
        return x


def _build(name: str, output_stride: OutputStride, dilated: bool) -> nn.Module:
    net = tv.get_model(name, weights=None)
    assert isinstance(net, tv.DenseNet)
    parts = net.features
    # What halves the maps is the pooling at the end of a transition.
    if output_stride <= 16:
        parts.transition3.pool = _Mean(2 if output_stride == 8 else 1)  # pyright: ignore
        rate = 4 if output_stride == 8 else 2 if dilated else 1
        remove_stride(parts.denseblock4, 1, rate)  # pyright: ignore[reportArgumentType]
    if output_stride == 8:
        parts.transition2.pool = _Mean(1)  # pyright: ignore
        remove_stride(parts.denseblock3, 1, 2)  # pyright: ignore[reportArgumentType]
    # Maps of odd sizes are rounded up, and the last level ends with a rectifier, as the other networks' do; the levels
    # before it are what a block's layers have added, whose norm and rectifier belong to the next transition.
    for module in parts.modules():
        if isinstance(module, nn.AvgPool2d):
            module.ceil_mode = True
    parts.add_module("relu5", nn.ReLU(inplace=True))
    net.classifier = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return net


def _levels(net: nn.Module) -> list[nn.Module]:
    assert isinstance(net, tv.DenseNet)
    return [net.features[a:b] for a, b in itertools.pairwise(CUTS)]


def _read(state: Mapping[str, Tensor]) -> State:
    # torchvision's download has the names of an older torch.
    renamed = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", key): v for key, v in state.items()}
    return without_layer(renamed, "classifier")


DENSENET = Family(_build, _levels, _read)
