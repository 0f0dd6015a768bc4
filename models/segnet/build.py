"""Builders of SegNet, its decoder variants, and the networks that it is measured against.

Each takes the backbone's choice, of which it reads the weights alone, the number of classes, `input` and `dropout`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from models.segmenter import BackboneFactory
from models.segnet.basic import FCNBasic, SegNetBasic
from models.segnet.deconvnet import DeconvNet
from models.segnet.deeplab_largefov import DeepLabLargeFOV
from models.segnet.encoders import SceneNetwork
from models.segnet.fcn import FCN
from models.segnet.inputs import Input
from models.segnet.segnet import SegNet


def _on_vgg16(
    network: Callable[..., SceneNetwork],
    backbone: BackboneFactory,
    num_classes: int,
    *,
    input: Input,
    dropout: float = 0.5,
) -> SceneNetwork:
    """Build a network on VGG16, with ImageNet weights where these are chosen; see `SceneNetwork.load`."""
    net = network(num_classes, input=input, dropout=dropout)
    if backbone.weights is not None:
        net.load(backbone.weights)
    return net


def _from_random(
    network: Callable[..., SceneNetwork],
    backbone: BackboneFactory,
    num_classes: int,
    *,
    input: Input,
    dropout: float = 0.5,
) -> SceneNetwork:
    """Build a network on SegNet-Basic's encoder, which has no dropout.

    Raises:
        ValueError: There are weights, which this encoder cannot start from.
    """
    if backbone.weights is not None:
        raise ValueError("this network starts from random weights: its encoder is not that of an ImageNet classifier")
    return network(num_classes, input=input)


segnet = partial(_on_vgg16, SegNet)
deeplab_largefov = partial(_on_vgg16, DeepLabLargeFOV)
fcn_fixed = partial(_on_vgg16, partial(FCN, learned=False))
fcn_learned = partial(_on_vgg16, FCN)
deconvnet = partial(_on_vgg16, DeconvNet)
segnet_basic = partial(_from_random, SegNetBasic)
segnet_basic_encoder_addition = partial(_from_random, partial(SegNetBasic, addition=True))
segnet_basic_single_channel_decoder = partial(_from_random, partial(SegNetBasic, single_channel=True))
bilinear_interpolation = partial(_from_random, partial(FCNBasic, learned=False, addition=False))
fcn_basic = partial(_from_random, FCNBasic)
fcn_basic_no_addition = partial(_from_random, partial(FCNBasic, addition=False))
fcn_basic_no_dim_reduction = partial(_from_random, partial(FCNBasic, reduction=False))
fcn_basic_no_addition_no_dim_reduction = partial(_from_random, partial(FCNBasic, addition=False, reduction=False))
