"""Every network on every backbone, without values: what is built, and the shapes of what comes out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models.backbones import BACKBONES
from models.backbones.base import BackboneChoice
from models.maskrcnn import MaskRCNN
from models.segmenter import Segmenter
from tasks.networks import NETWORKS

NUM_CLASSES = 5
ON_BACKBONES = [(name, backbone) for name, spec in NETWORKS.items() for backbone in spec.backbones]
WITH_AN_ENCODER = [name for name, spec in NETWORKS.items() if not spec.backbones]
# Sides that no stride divides.
SIZE = (67, 98)


def check_segmenter(net: Segmenter) -> None:
    assert net.eval()(torch.empty(2, 3, *SIZE)).shape == (2, NUM_CLASSES, *SIZE)


def check_detector(net: MaskRCNN) -> None:
    levels = net.eval().backbone(torch.empty(2, 3, *SIZE))
    width = levels["0"].shape[1]
    expected = [(2, width, *(-(-side // stride) for side in SIZE)) for stride in (4, 8, 16, 32)]
    assert [tuple(level.shape) for level in levels.values()][:4] == expected
    objectness, boxes = net.rpn.head(list(levels.values()))
    assert all(box.shape[1] == 4 * each.shape[1] for each, box in zip(objectness, boxes, strict=True))
    heads = net.roi_heads

    def pooled(pool: Any) -> Tensor:
        return torch.empty(7, width, *pool.output_size)

    classes, boxes = heads.box_predictor(heads.box_head(pooled(heads.box_roi_pool)))
    assert (classes.shape, boxes.shape) == ((7, NUM_CLASSES), (7, 4 * NUM_CLASSES))
    masks = heads.mask_predictor(heads.mask_head(pooled(heads.mask_roi_pool)))
    assert masks.shape[:2] == (7, NUM_CLASSES)


def check(name: str, backbone: str) -> None:
    options = NETWORKS[name].presets["quick"]().training.network_options
    with torch.device("meta"), torch.no_grad():
        net = NETWORKS[name].build(NUM_CLASSES, BackboneChoice(backbone), options)
        assert {tensor.device.type for tensor in (*net.parameters(), *net.buffers())} == {"meta"}
        if isinstance(net, MaskRCNN):
            check_detector(net)
        else:
            assert isinstance(net, Segmenter)
            check_segmenter(net)


def test_every_network_has_every_backbone_or_an_encoder_of_its_own() -> None:
    for spec in NETWORKS.values():
        assert set(spec.backbones) in (set(), set(BACKBONES)), spec.name
    assert {name for name, _ in ON_BACKBONES} | set(WITH_AN_ENCODER) == set(NETWORKS)


@pytest.mark.parametrize(("name", "backbone"), ON_BACKBONES)
def test_outputs_on_a_backbone_have_the_shapes_that_they_should(name: str, backbone: str) -> None:
    check(name, backbone)


@pytest.mark.parametrize("name", WITH_AN_ENCODER)
def test_outputs_of_a_network_with_an_encoder_of_its_own_have_the_shapes_that_they_should(name: str) -> None:
    check(name, "resnet18")
