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
from models.segnet import NETWORKS as SCENE_NETWORKS
from models.segnet import build_scene_network


@dataclass(frozen=True)
class Profile:
    """Size and work of one network.

    Attributes:
        parameters: All of them, trained or frozen.
        gmacs: Billions of multiply-adds of the convolutions and matrix products for one image.
        encoder_parameters: Those of the backbone.
        megabytes: Of all its tensors in single precision, 10^6 bytes.
        paper: What the paper says of the same network, by the names of these figures; empty where it says nothing.
    """

    name: str
    parameters: int
    gmacs: float
    encoder_parameters: int
    megabytes: float
    paper: dict[str, float]


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


# Badrinarayanan et al. 2017, Tables 1 and 6, for 11 classes. DeconvNet's 877 MB is left out: with 1024 features in its
# fully connected layers, as Section 4 has it, it takes 328 MB, with the original 4096 it takes 1007 MB.
PAPER = {
    "segnet": {"encoder_parameters": 14.7e6, "megabytes": 117},
    "segnet-basic": {"parameters": 1.425e6},
    "segnet-basic-encoder-addition": {"parameters": 1.425e6},
    "segnet-basic-single-channel-decoder": {"parameters": 0.625e6},
    "bilinear-interpolation": {"parameters": 0.625e6},
    "fcn-basic": {"parameters": 0.65e6},
    "fcn-basic-no-addition": {"parameters": 0.65e6},
    "fcn-basic-no-dim-reduction": {"parameters": 1.625e6},
    "fcn-basic-no-addition-no-dim-reduction": {"parameters": 1.625e6},
    "fcn-learned": {"megabytes": 539},
    "deeplab-largefov": {"megabytes": 83},
}
PAPER_CLASSES = 11


def _scene(name: str, num_classes: int) -> nn.Module:
    # Every pixel of a scene has one of the classes: there is no background beside them.
    return build_scene_network(name, num_classes, input="imagenet")


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    f"{kind}-{backbone}": partial(build, backbone)
    for kind, build in (("cam", _cam), ("irnet", _irnet), ("deeplabv2", _deeplabv2), ("maskrcnn", _maskrcnn))
    for backbone in BACKBONES
} | {name: partial(_scene, name) for name in SCENE_NETWORKS}
"""Name -> function from the number of classes to the network, which takes normalised RGB [B, 3, H, W].

The networks of SegNet's paper have as many outputs as classes, the others one more for the background where they have
any. Mask R-CNN is counted without its resizing, with 1000 proposals and 100 detections an image.
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
    parts = {path.rpartition(".")[2]: module for path, module in net.named_modules()}
    parameters = sum(parameter.numel() for parameter in net.parameters())
    encoder_parameters = sum(parameter.numel() for parameter in parts.get("backbone", nn.Identity()).parameters())
    megabytes = sum(tensor.numel() for tensor in net.state_dict().values()) * 4 / 1e6
    paper = PAPER.get(name, {}) if num_classes == PAPER_CLASSES else {}
    # The counter has two operations for a multiply-add.
    gmacs = counter.get_total_flops() / 2 / 1e9
    return Profile(name, parameters, gmacs, encoder_parameters, megabytes, paper)
