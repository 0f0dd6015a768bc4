"""How large the networks are, and how much they compute: nothing is allocated and nothing is run.

`NETWORKS` is where a new network is entered; `pseudomask models` lists whatever is in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.backbones import BACKBONES
from models.backbones.base import build_backbone
from models.cam import CAMNet
from models.irnet import IRNet
from models.maskrcnn import MAX_DETECTIONS, MaskRCNN
from models.saliency import SaliencyDeepLabV3Plus
from models.segmenters import build_segmenter
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


def _segmenter(name: str, background: int, options: dict[str, Any], backbone: str, num_classes: int) -> nn.Module:
    return build_segmenter(name, num_classes + background, partial(build_backbone, backbone), options)


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


def _saliency(backbone: str, num_classes: int) -> nn.Module:
    return SaliencyDeepLabV3Plus(build_backbone(backbone, dilated=True), num_classes)


# Of 11 classes Badrinarayanan et al. 2017, Tables 1 and 6; DeconvNet's 877 MB is left out: with 1024 features in its
# fully connected layers, as Section 4 has it, it takes 328 MB, with the original 4096 it takes 1007 MB. Of 19 classes
# Sima et al. 2023, Table 1, whose GFLOPs are multiply-adds of an image of 512 x 1024.
PAPERS: dict[int, dict[str, dict[str, float]]] = {
    11: {
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
    },
    19: {
        "deeplabv3plus-resnet101": {"parameters": 59.34e6, "gmacs": 177.78},
        "deeplabv3plus-dsc-resnet101": {"parameters": 46.81e6, "gmacs": 152.13},
    },
}
PAPER_SIZES = {19: (512, 1024)}
SIDE_BACKBONES = ("resnet50", "resnet101", "densenet121")


def _scene(name: str, num_classes: int) -> nn.Module:
    # Every pixel of a scene has one of the classes: there is no background beside them.
    return build_scene_network(name, num_classes, input="imagenet")


_PARTS: dict[str, Callable[[str, int], nn.Module]] = {
    "cam": _cam,
    "irnet": _irnet,
    "deeplabv2": partial(_segmenter, "deeplabv2", 1, {}),
    "maskrcnn": _maskrcnn,
}
# Of the supervised side flows, whose sets have no background beside their classes.
_SIDE: dict[str, Callable[[str, int], nn.Module]] = {
    "deeplabv3plus": partial(_segmenter, "deeplabv3plus", 0, {}),
    "deeplabv3plus-dsc": partial(_segmenter, "deeplabv3plus", 0, {"dsc": True}),
    "saliency-deeplabv3plus": _saliency,
    "danet": partial(_segmenter, "cooperative-danet", 0, {"connections": "single"}),
    **{
        f"{name}-{connections}": partial(_segmenter, name, 0, {"connections": connections})
        for name in ("cooperative-danet", "cooperative-deeplabv3plus")
        for connections in ("same-layer", "multi-layer")
    },
}
NETWORKS: dict[str, Callable[[int], nn.Module]] = (
    {f"{kind}-{backbone}": partial(build, backbone) for kind, build in _PARTS.items() for backbone in BACKBONES}
    | {name: partial(_scene, name) for name in SCENE_NETWORKS}
    | {f"{kind}-{backbone}": partial(build, backbone) for kind, build in _SIDE.items() for backbone in SIDE_BACKBONES}
)
"""Name -> function from the number of classes to the network, which takes normalised RGB [B, 3, H, W].

The networks of the side flows have as many outputs as classes, the others one more for the background. Mask R-CNN is
counted without its resizing, with 1000 proposals and 100 detections an image.
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
    net, gmacs = _count(lambda: NETWORKS[name](num_classes), size)
    # Of networks that cooperate each has one.
    encoders = [module for path, module in net.named_modules() if path.rpartition(".")[2] == "backbone"]
    parameters = sum(parameter.numel() for parameter in net.parameters())
    encoder_parameters = sum(parameter.numel() for encoder in encoders for parameter in encoder.parameters())
    megabytes = sum(tensor.numel() for tensor in net.state_dict().values()) * 4 / 1e6
    paper = PAPERS.get(num_classes, {}).get(name, {})
    if PAPER_SIZES.get(num_classes, size) != size:
        paper = {figure: value for figure, value in paper.items() if figure != "gmacs"}
    return Profile(name, parameters, gmacs, encoder_parameters, megabytes, paper)


def count_gmacs(build: Callable[[], nn.Module], size: tuple[int, int]) -> float:
    """Return billions of multiply-adds of a network for one image of `size` (H, W), with saliency where it has it."""
    return _count(build, size)[1]


def _count(build: Callable[[], nn.Module], size: tuple[int, int]) -> tuple[nn.Module, float]:
    """Return a network without values, and the billions of its multiply-adds for one image."""
    # Tensors on the meta device have shapes and no values.
    with torch.device("meta"), torch.no_grad():
        net = build().eval()
        with FlopCounterMode(display=False) as counter:
            x = torch.empty(1, 3, *size)
            _ = net.both(x) if isinstance(net, SaliencyDeepLabV3Plus) else net(x)
    # The counter has two operations for a multiply-add.
    return net, counter.get_total_flops() / 2 / 1e9
