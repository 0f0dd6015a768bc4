"""The table of the networks' sizes."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from models.backbones import BACKBONES
from models.backbones.base import BackboneChoice, build_backbone
from models.profile import count_gmacs
from models.profile import profile as count
from tasks.measurement.sizes import SIZED
from tasks.measurement.sizes import network_size as profile
from tasks.networks import NETWORKS
from tasks.networks.segnet import SCENE_NETWORKS

RESNET50 = 23_508_032
BOUNDARY, DISPLACEMENT = 125_409, 1_269_120


def test_every_backbone_has_a_network_of_each_kind():
    kinds = ("cam", "irnet", "deeplabv2", "maskrcnn")
    kinds += ("deeplabv3plus", "deeplabv3plus-dsc", "saliency-deeplabv3plus", "danet")
    kinds += tuple(f"cooperative-{kind}-{c}-layer" for kind in ("danet", "deeplabv3plus") for c in ("same", "multi"))
    expected = {f"{kind}-{name}" for kind in kinds for name in BACKBONES} | set(SCENE_NETWORKS)
    assert set(SIZED) >= expected


def test_deeplab_v3_plus_is_beside_its_papers_figures_at_the_papers_size():
    for name in ("deeplabv3plus-resnet101", "deeplabv3plus-dsc-resnet101"):
        found = profile(name, num_classes=19, size=(512, 1024))
        assert found.parameters == pytest.approx(found.paper["parameters"], rel=1e-3)
        assert found.gmacs == pytest.approx(found.paper["gmacs"], rel=0.02)
        assert "gmacs" not in profile(name, num_classes=19, size=(64, 64)).paper
    # So are both encoders of a pair.
    single, pair = (profile(f"{name}-resnet50", size=(64, 64)) for name in ("danet", "cooperative-danet-same-layer"))
    assert pair.encoder_parameters == 2 * single.encoder_parameters == 2 * RESNET50
    # Both tasks are counted.
    both = profile("saliency-deeplabv3plus-resnet50", num_classes=19, size=(64, 64))
    one = profile("deeplabv3plus-dsc-resnet50", num_classes=19, size=(64, 64))
    assert both.gmacs > 1.05 * one.gmacs


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("cam-resnet50", RESNET50 + 2048 * 20), ("irnet-resnet50", RESNET50 + BOUNDARY + DISPLACEMENT)],
)
def test_parameters_are_the_references(name: str, parameters: int):
    assert profile(name, size=(64, 64)).parameters == parameters


def test_mask_rcnn_has_torchvision_s_parameters_and_batch_norms_that_may_be_trained():
    norms = 53_120
    found = profile("maskrcnn-resnet50", num_classes=90, size=(64, 64))
    assert found.parameters == MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["num_params"] + norms


def test_mask_rcnn_s_branches_count_for_1000_proposals_and_100_detections():
    box_branch = 256 * 49 * 1024 + 1024 * 1024 + 1024 * 5 * 6
    # Four convolutions at 14 x 14, one that doubles the sides, and a classifier at 28 x 28.
    mask_branch = 14 * 14 * (4 * 9 * 256 * 256 + 4 * 256 * 256) + 28 * 28 * 256 * 6
    # What is left is convolutional, and needs four times as much for twice the sides.
    small, large = (profile("maskrcnn-resnet18", num_classes=5, size=(side, side)).gmacs for side in (128, 256))
    assert (4 * small - large) / 3 == pytest.approx((1000 * box_branch + 100 * mask_branch) / 1e9, rel=1e-3)


def test_both_tasks_share_what_is_stored():
    found = profile("saliency-deeplabv3plus-resnet50", num_classes=3, size=(64, 64))
    # Batch norms have running statistics beside their parameters.
    assert 1 < found.megabytes / (4e-6 * found.parameters) < 1.01
    assert found.encoder_parameters == sum(parameter.numel() for parameter in build_backbone("resnet50").parameters())


def test_classes_count_in_the_classifier_alone():
    by_classes = {k: profile("cam-resnet18", num_classes=k, size=(64, 64)).parameters for k in (1, 7)}
    assert by_classes[7] - by_classes[1] == 6 * 512
    assert profile("irnet-resnet18", num_classes=1, size=(64, 64)) == profile("irnet-resnet18", size=(64, 64))


def test_gmacs_are_multiply_adds_counted_by_hand():
    """A convolution has kernel area x channels in x channels out multiply-adds at each of its places."""
    found = count("one", lambda: nn.Conv2d(3, 8, 3, stride=2, padding=1), (10, 13))
    assert found.gmacs == pytest.approx(9 * 3 * 8 * (5 * 7) / 1e9)
    assert found.parameters == 9 * 3 * 8 + 8


def test_gmacs_agree_with_a_count_by_hooks_on_a_real_network():
    counted = 0

    def add(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal counted
        assert isinstance(layer, nn.Conv2d)
        counted += output.numel() * layer.weight[0].numel()

    backbone = build_backbone("mobilenet_v2").eval()
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(add)
    with torch.no_grad():
        backbone(torch.zeros(1, 3, 64, 48))
    # The classifier is a 1 x 1 convolution behind the pooling.
    assert profile("cam-mobilenet_v2", num_classes=5, size=(64, 48)).gmacs == pytest.approx((counted + 1280 * 5) / 1e9)


def test_unknown_names_and_empty_sizes_are_refused():
    with pytest.raises(ValueError, match="unknown network 'cam-vgg'"):
        profile("cam-vgg")
    with pytest.raises(ValueError, match="positive"):
        profile("cam-resnet18", size=(0, 64))


def test_networks_that_are_not_listed_are_counted_alike():
    size = (64, 96)
    listed = profile("saliency-deeplabv3plus-resnet50", num_classes=19, size=size).gmacs

    def build(weights: tuple[float, float] | None) -> nn.Module:
        options = {"task_weights": weights, "dsc": True}
        return NETWORKS["saliency-deeplabv3plus"].build(19, BackboneChoice("resnet50"), options)

    assert count_gmacs(lambda: build(None), size) == listed
    alone = profile("deeplabv3plus-dsc-resnet50", num_classes=19, size=size).gmacs
    assert count_gmacs(lambda: build((1.0, 0.0)), size) == alone < listed
