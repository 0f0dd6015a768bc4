"""Mask R-CNN equals torchvision's, but for ignored regions and what pretrained weights freeze."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from models.backbones.base import NORMALIZATIONS, build_backbone
from models.maskrcnn import MaskRCNN

ANCHOR_SIZES = (8, 16, 24, 32, 48)
CHANNELS = 16
Target = dict[str, Tensor]


def tiny(*, pretrained: bool = False, freeze_norm: bool = True) -> MaskRCNN:
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", output_stride=32)
    backbone.pretrained = pretrained
    return MaskRCNN(
        backbone,
        3,
        min_size=64,
        max_size=96,
        anchor_sizes=ANCHOR_SIZES,
        channels=CHANNELS,
        num_proposals=40,
        num_sampled=16,
        freeze_norm=freeze_norm,
    )


@pytest.fixture(scope="module")
def network() -> MaskRCNN:
    return tiny()


@pytest.fixture
def net(network: MaskRCNN) -> MaskRCNN:
    return network.train()


def image(height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(height + width)) * 255


def target(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (64, 64), ignored: tuple = ()) -> Target:
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = 1
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.arange(len(boxes)) % 2 + 1,
        "masks": masks,
        "ignored": torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
    }


def losses(net: Callable[..., dict[str, Tensor]], images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return net(images, targets)


def torchvision_twin(net: MaskRCNN) -> detection.MaskRCNN:
    pixels = NORMALIZATIONS["torchvision"]
    features = copy.deepcopy(net.backbone)
    features.out_channels = CHANNELS
    twin = detection.MaskRCNN(
        features,
        min_size=64,
        max_size=96,
        image_mean=pixels.mean,
        image_std=pixels.std,
        rpn_anchor_generator=AnchorGenerator(tuple((size,) for size in ANCHOR_SIZES), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_train=40,
        rpn_pre_nms_top_n_test=20,
        rpn_post_nms_top_n_train=40,
        rpn_post_nms_top_n_test=20,
        box_head=TwoMLPHead(CHANNELS * 49, 4 * CHANNELS),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(4 * CHANNELS, 3),
        box_batch_size_per_image=16,
        mask_head=MaskRCNNHeads(CHANNELS, (CHANNELS,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(CHANNELS, CHANNELS, 3),
    )
    twin.load_state_dict(net.state_dict())
    # It draws one of several sizes, of which there is one: a random number that ours does not draw.
    twin.transform.torch_choice = lambda sizes: sizes[0]
    return twin


def test_without_ignored_boxes_losses_and_detections_are_torchvision_s(net: MaskRCNN) -> None:
    twin = torchvision_twin(net)
    # Of sides that stay or double, torchvision's masks lie over their images too.
    images = [image(64, 80), image(40, 32)]
    targets = [target((5, 8, 40, 30), (20, 20, 60, 50), size=(64, 80)), target((3, 3, 30, 36), size=(40, 32))]
    ours, theirs = losses(net, images, targets), losses(twin, images, targets)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], msg=name)
    with torch.no_grad():
        found, expected = net.eval()(images), twin.eval()(images)
    for mine, other in zip(found, expected, strict=True):
        assert len(mine["boxes"])
        torch.testing.assert_close(mine, other)


def test_anchors_of_the_background_inside_an_ignored_box_have_no_label_and_the_others_keep_theirs(
    net: MaskRCNN,
) -> None:
    anchors = torch.tensor(
        [
            [0.0, 0, 10, 10],  # inside
            [10, 0, 30, 10],  # exactly half
            [9, 0, 30, 10],  # a little more than half
            [40, 40, 60, 60],  # outside
            [2, 2, 18, 18],  # an object's
        ]
    )
    truth = target((2, 2, 18, 18), ignored=((0, 0, 20, 20),))
    (labels,), _ = net.rpn.assign_targets_to_anchors([anchors], [truth])
    assert labels.tolist() == [-1, 0, -1, 0, 1]
    truth["ignored"] = torch.tensor([[0.0, 0, 20, 9], [0, 9, 20, 20]])
    (labels,), _ = net.rpn.assign_targets_to_anchors([anchors], [truth])
    # Two ignored boxes together do not make one.
    assert labels.tolist() == [-1, 0, 0, 0, 1]


def test_anchors_across_the_border_of_an_image_that_is_all_ignored_have_no_label(
    net: MaskRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    assign = net.rpn.assign_targets_to_anchors

    def spy(anchors: list[Tensor], targets: list[Target]) -> tuple:
        labels, boxes = assign(anchors, targets)
        found.append((anchors, labels))
        return labels, boxes

    monkeypatch.setattr(net.rpn, "assign_targets_to_anchors", spy)
    losses(net, [image(64, 80), image(64, 80)], [target(ignored=((0, 0, 80, 64),)), target(ignored=((0, 0, 40, 64),))])
    ((anchors, labels),) = found
    assert (anchors[0] < 0).any()
    assert (labels[0] == -1).all()
    # At the other border the image is not ignored.
    assert (labels[1][anchors[1][:, 0] > 90] == 0).all()
    assert (labels[1][anchors[1][:, 2] < 30] == -1).all()


def test_proposals_of_the_background_inside_an_ignored_box_are_not_sampled(
    net: MaskRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposals = torch.tensor([[0.0, 0, 10, 10], [40, 40, 60, 60], [2, 2, 18, 18], [9, 0, 30, 10]])
    sampled = []
    select = net.roi_heads.select_training_samples

    def spy(boxes: list[Tensor], targets: list[Target]) -> tuple:
        chosen = select(boxes, targets)
        sampled.append((chosen[0][0].tolist(), chosen[2][0].tolist()))
        return chosen

    monkeypatch.setattr(net.roi_heads, "select_training_samples", spy)
    features = net.backbone(torch.zeros(1, 3, 64, 64))
    for ignored in ((), ((0, 0, 20, 20),)):
        truth = target((2, 2, 18, 18), ignored=ignored)
        net.roi_heads(features, [proposals], [(64, 64)], [truth])
    everything = [*proposals.tolist(), [2, 2, 18, 18]]
    assert sampled[0] == (everything, [0, 0, 1, 0, 1])
    assert sampled[1] == (everything[1:3] + everything[4:], [0, 1, 1])


def test_ignored_boxes_are_resized_with_the_image(net: MaskRCNN) -> None:
    truth = target((4, 4, 16, 16), size=(32, 40), ignored=((0, 8, 20, 32),))
    _, (resized,) = net.transform([image(32, 40)], [truth])
    assert resized["boxes"].tolist() == [[8, 8, 32, 32]]
    assert resized["ignored"].tolist() == [[0, 16, 40, 64]]
    assert truth["ignored"].tolist() == [[0, 8, 20, 32]]


def test_images_that_are_shrunk_do_not_alias_and_masks_lie_over_them(net: MaskRCNN) -> None:
    lines = torch.zeros(3, 256, 256)
    lines[:, :, ::4] = 255
    resized, _ = net.transform.resize(lines)
    assert resized.shape == (3, 64, 64)
    assert resized.min() > 20
    assert resized.mean() == pytest.approx(255 / 4, rel=0.02)
    for size in ((100, 150), (50, 40)):
        truth = target((7, 11, 38, 30), size=size)
        resized, given = net.transform.resize(image(*size), truth)
        assert given is not None
        assert given["masks"].shape[1:] == resized.shape[1:]
        new, old = resized.shape[1:], size
        rows, columns = (((torch.arange(a) + 0.5) * b / a).long() for a, b in zip(new, old, strict=True))
        assert torch.equal(given["masks"][0], truth["masks"][0][rows][:, columns])


def test_images_without_objects_train_and_one_that_is_all_ignored_teaches_nothing(net: MaskRCNN) -> None:
    empty = losses(net, [image()], [target()])
    assert empty["loss_classifier"] > 0
    assert empty["loss_objectness"] > 0
    assert empty["loss_mask"] == 0
    everywhere = ((-500, -500, 500, 500),)
    nothing = losses(net, [image()], [target(ignored=everywhere)])
    assert {name: loss.item() for name, loss in nothing.items()} == dict.fromkeys(empty, 0)
    net.zero_grad()
    sum(nothing.values(), torch.zeros(())).backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    both = losses(net, [image(), image()], [target(), target(ignored=everywhere)])
    assert both["loss_classifier"] > 0
    assert all(loss.isfinite() for loss in both.values())


def test_detections_have_the_size_of_their_images(net: MaskRCNN) -> None:
    images = [image(30, 47), image(64, 90)]
    with torch.no_grad():
        found = net.eval()(images)
    for pixels, detections in zip(images, found, strict=True):
        count = len(detections["scores"])
        assert count
        assert detections["masks"].shape == (count, 1, *pixels.shape[1:])
        assert detections["boxes"].max() <= max(pixels.shape)
        assert set(detections["labels"].tolist()) <= {1, 2}


def test_pretrained_backbones_keep_first_levels_and_norms_and_others_do_not() -> None:
    for pretrained in (False, True):
        net = tiny(pretrained=pretrained).train()
        trunk = net.backbone.body.trunk
        means = trunk.layer3[0].bn1.running_mean.clone()
        sum(losses(net, [image()], [target((5, 5, 30, 30))]).values(), torch.zeros(())).backward()
        assert torch.equal(trunk.layer3[0].bn1.running_mean, means) == pretrained
        for parameter in (trunk.conv1.weight, trunk.layer1[0].conv1.weight, trunk.layer3[0].bn1.weight):
            assert (parameter.grad is None) == pretrained
        assert trunk.layer2[0].conv1.weight.grad is not None
        assert net.backbone.fpn.inner_blocks[0][0].weight.grad is not None


def test_batch_norms_behind_the_first_levels_learn_where_they_are_not_frozen() -> None:
    net = tiny(pretrained=True, freeze_norm=False).train()
    trunk = net.backbone.body.trunk
    early, late = trunk.layer1[0].bn1, trunk.layer3[0].bn1
    means = early.running_mean.clone(), late.running_mean.clone()
    sum(losses(net, [image()], [target((5, 5, 30, 30))]).values(), torch.zeros(())).backward()
    assert torch.equal(early.running_mean, means[0])
    assert not torch.equal(late.running_mean, means[1])
    assert early.weight.grad is None
    assert late.weight.grad is not None


def test_another_output_stride_or_number_of_anchor_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="output stride 32, got 16"):
        MaskRCNN(build_backbone("resnet18"), 3)
    with pytest.raises(ValueError, match="five levels"):
        MaskRCNN(build_backbone("resnet18", output_stride=32), 3, anchor_sizes=(32, 64), channels=CHANNELS)


def test_boxes_and_scores_are_exact_where_products_are_bfloat16(net: MaskRCNN) -> None:
    images = [image(64, 80)]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        (found,) = net.eval()(images)
    assert len(found["boxes"])
    for name in ("boxes", "scores", "masks"):
        assert found[name].dtype == torch.float32, name
        assert not torch.equal(found[name], found[name].bfloat16().float()), name
    with torch.autocast("cpu", torch.bfloat16):
        taught = losses(net.train(), images, [target((5, 8, 40, 30), size=(64, 80))])
    assert all(torch.isfinite(loss) and loss.dtype == torch.float32 for loss in taught.values())
