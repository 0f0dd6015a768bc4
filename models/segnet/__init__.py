"""SegNet, its decoder variants, and the networks that it is measured against (Badrinarayanan et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from models.segnet.basic import FCNBasic, SegNetBasic
from models.segnet.deconvnet import DeconvNet
from models.segnet.deeplab_largefov import DeepLabLargeFOV
from models.segnet.encoders import VGG16, SceneNetwork
from models.segnet.fcn import FCN
from models.segnet.inputs import Input
from models.segnet.segnet import SegNet

__all__ = ["NETWORKS", "SceneNetwork", "build_scene_network", "stored_maps"]

NETWORKS: dict[str, Callable[..., SceneNetwork]] = {
    "segnet": SegNet,
    "segnet-basic": SegNetBasic,
    "segnet-basic-encoder-addition": partial(SegNetBasic, addition=True),
    "segnet-basic-single-channel-decoder": partial(SegNetBasic, single_channel=True),
    "bilinear-interpolation": partial(FCNBasic, learned=False, addition=False),
    "fcn-basic": FCNBasic,
    "fcn-basic-no-addition": partial(FCNBasic, addition=False),
    "fcn-basic-no-dim-reduction": partial(FCNBasic, reduction=False),
    "fcn-basic-no-addition-no-dim-reduction": partial(FCNBasic, addition=False, reduction=False),
    "fcn-fixed": partial(FCN, learned=False),
    "fcn-learned": FCN,
    "deeplab-largefov": DeepLabLargeFOV,
    "deconvnet": DeconvNet,
}
"""Name -> function from the number of classes to the network; its keywords are `input` and, on VGG16, `dropout`."""


def build_scene_network(
    name: str, num_classes: int, *, weights: str | Path | None = None, input: Input, dropout: float = 0.5
) -> SceneNetwork:
    """Build a network by name, with ImageNet weights where asked for.

    Args:
        num_classes: Of the logits.
        weights: See `VGG16.load`.
        input: What the network is shown of an image.
        dropout: Of the networks on VGG16.

    Raises:
        ValueError: No network has this name, or the weights are not those of its encoder.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}; expected one of {', '.join(NETWORKS)}")
    on_vgg = not name.startswith(("segnet-basic", "fcn-basic", "bilinear"))
    net = NETWORKS[name](num_classes, input=input, **({"dropout": dropout} if on_vgg else {}))
    net.name, net.options = name, {"input": input, "dropout": dropout}
    if weights is not None:
        if not isinstance(net.backbone, VGG16):
            raise ValueError(f"{name} starts from random weights: its encoder is not that of an ImageNet classifier")
        net.backbone.load(weights)
    return net


def stored_maps(name: str, num_classes: int) -> float:
    """Return what a decoder is given of the first encoder's maps, in maps of floats after its pooling.

    Two bits a window of 64 maps are as many bytes as 4 such maps; full maps are 64, reduced ones `num_classes`.
    """
    maps, indices = 64, 64 * 2 / 32
    if name in ("segnet", "segnet-basic", "segnet-basic-single-channel-decoder", "deconvnet"):
        return indices
    if name == "segnet-basic-encoder-addition":
        return indices + maps
    if name == "fcn-basic":
        return num_classes
    return maps if name == "fcn-basic-no-dim-reduction" else 0
