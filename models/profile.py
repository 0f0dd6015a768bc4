"""How large the networks are, and how much they compute: nothing is allocated and nothing is run.

`NETWORKS` is where a new network is entered; `pseudomask models` lists whatever is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.backbones import BACKBONES, build_backbone
from models.cam import CAMNet
from models.deeplabv2 import DeepLabV2
from models.irnet import IRNet
from models.maskrcnn import MAX_DETECTIONS, MaskRCNN


@dataclass(frozen=True)
class Profile:
    """Size and work of one network.

    Attributes:
        parameters: All of them, trained or frozen.
        gmacs: Billions of multiply-adds of the convolutions and matrix products for one image.
    """

    name: str
    parameters: int
    gmacs: float


def _cam(backbone: str, num_classes: int) -> nn.Module:
    return CAMNet(build_backbone(backbone), num_classes)


def _irnet(backbone: str, num_classes: int) -> nn.Module:
    # Its branches are blind to classes.
    return IRNet(build_backbone(backbone))


def _deeplabv2(backbone: str, num_classes: int) -> nn.Module:
    return DeepLabV2(build_backbone(backbone, output_stride=8), num_classes + 1)


class _Stages(nn.Module):
    """Mask R-CNN with as many boxes as it takes at most, since no pixels are there to choose them by."""

    def __init__(self, net: MaskRCNN) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> None:
        rpn, heads = self.net.rpn, self.net.roi_heads
        levels = list(self.net.backbone(x).values())
        rpn.head(levels)
        for pool, num_boxes, head, predictor in (
            (heads.box_roi_pool, rpn.post_nms_top_n(), heads.box_head, heads.box_predictor),
            (heads.mask_roi_pool, MAX_DETECTIONS, heads.mask_head, heads.mask_predictor),
        ):
            predictor(head(x.new_empty(num_boxes, levels[0].shape[1], *pool.output_size)))


def _maskrcnn(backbone: str, num_classes: int) -> nn.Module:
    return _Stages(MaskRCNN(build_backbone(backbone, output_stride=32), num_classes + 1))


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    f"{kind}-{backbone}": partial(build, backbone)
    for kind, build in (("cam", _cam), ("irnet", _irnet), ("deeplabv2", _deeplabv2), ("maskrcnn", _maskrcnn))
    for backbone in BACKBONES
}
"""Name -> function from the number of foreground classes to the network, which takes normalised RGB [B, 3, H, W].

Mask R-CNN is counted without its resizing, with 1000 proposals and 100 detections an image.
"""


def profile(name: str, *, num_classes: int = 20, size: tuple[int, int] = (512, 512)) -> Profile:
    """Count a network's parameters, and its multiply-adds for one image of `size` (H, W).

    Raises:
        ValueError: No network has this name, or a number is not positive.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; expected one of {', '.join(NETWORKS)}")
    if min(num_classes, *size) < 1:
        raise ValueError(f"expected a positive number of classes and size, got {num_classes} and {size}")
    # Tensors on the meta device have shapes and no values.
    with torch.device("meta"), torch.no_grad():
        net = NETWORKS[name](num_classes).eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, *size))
    parameters = sum(parameter.numel() for parameter in net.parameters())
    # The counter has two operations for a multiply-add.
    return Profile(name, parameters, counter.get_total_flops() / 2 / 1e9)
