"""What a family of backbones provides, and the removal of strides that the families share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from models.backbones import OutputStride

State = dict[str, Tensor]


@dataclass(frozen=True)
class Family:
    """Networks of one architecture.

    Attributes:
        build: From name, output stride and whether the last level is dilated at stride 16 to torchvision's network with
            random weights, without its classification layer.
        levels: From that network to the five parts whose outputs are the feature levels, to be run in order.
        read: From a state dict in torchvision's key layout to the one of the network; without the classification layer.
    """

    build: Callable[[str, OutputStride, bool], nn.Module]
    levels: Callable[[nn.Module], list[nn.Module]]
    read: Callable[[Mapping[str, Tensor]], State]


def without_layer(state: Mapping[str, Tensor], name: str) -> State:
    """Return a state dict without the tensors of a layer."""
    return {key: value for key, value in state.items() if not key.startswith(f"{name}.")}


def remove_strides(third: nn.Module, last: nn.Module, output_stride: OutputStride, dilated: bool) -> None:
    """Let the parts at strides 16 and 32 run at 16 and 16, or, dilated, at 8 and 8, or leave them as they are."""
    if output_stride == 16:
        remove_stride(last, 1, 2 if dilated else 1)
    elif output_stride == 8:
        remove_stride(third, 1, 2)
        remove_stride(last, 2, 4)


def remove_stride(part: nn.Module, rate_before: int, rate: int) -> None:
    """Set a part's stride to 1. Its strided convolution keeps the rate of those before it, the others get `rate`.

    At every other pixel the part then computes what it did at its stride.
    """
    for conv in part.modules():
        if isinstance(conv, nn.Conv2d):
            own = rate_before if conv.stride == (2, 2) else rate
            conv.stride = (1, 1)
            if conv.kernel_size != (1, 1):
                conv.dilation = conv.padding = (own, own)
