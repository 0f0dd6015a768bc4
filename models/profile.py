"""Size and work of a network: nothing is allocated and nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.maskrcnn import MAX_DETECTIONS, MaskRCNN
from models.saliency import SaliencyDeepLabV3Plus


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


def profile(
    name: str,
    build: Callable[[], nn.Module],
    size: tuple[int, int] = (512, 512),
    paper: Mapping[str, float] | None = None,
) -> Profile:
    """Count a network's parameters, and its multiply-adds for one image of `size` (H, W).

    Mask R-CNN is counted without its resizing, with 1000 proposals and 100 detections per image.

    Args:
        name: Name that the profile has.
        build: Returns the network.
        size: Size of the image.
        paper: What the paper states of the network.
    """
    net, gmacs = _count(build, size)
    # Of networks that cooperate each has one.
    encoders = [module for path, module in net.named_modules() if path.rpartition(".")[2] == "backbone"]
    parameters = sum(parameter.numel() for parameter in net.parameters())
    encoder_parameters = sum(parameter.numel() for encoder in encoders for parameter in encoder.parameters())
    megabytes = sum(tensor.numel() for tensor in net.state_dict().values()) * 4 / 1e6
    return Profile(name, parameters, gmacs, encoder_parameters, megabytes, dict(paper or {}))


def count_gmacs(build: Callable[[], nn.Module], size: tuple[int, int]) -> float:
    """Return billions of multiply-adds of a network for one image of `size` (H, W), with saliency where it has it."""
    return _count(build, size)[1]


def _count(build: Callable[[], nn.Module], size: tuple[int, int]) -> tuple[nn.Module, float]:
    """Return a network without values, and the billions of its multiply-adds for one image."""
    # Tensors on the meta device have shapes and no values.
    with torch.device("meta"), torch.no_grad():
        # What a constructor made elsewhere, such as an array's values, is on the meta device then too.
        net = build().eval().to("meta")
        net = _Stages(net) if isinstance(net, MaskRCNN) else net
        with FlopCounterMode(display=False) as counter:
            x = torch.empty(1, 3, *size)
            _ = net.both(x) if isinstance(net, SaliencyDeepLabV3Plus) else net(x)
    # The counter has two operations for a multiply-add.
    return net, counter.get_total_flops() / 2 / 1e9
