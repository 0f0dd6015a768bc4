"""DeepLab v2 and the dilated backbones that it stands on."""

import pytest
import torch
import torchvision.models as tv
from torch import nn

from models.backbones import BACKBONES
from models.backbones.base import build_backbone
from models.deeplabv2 import DeepLabV2


@torch.no_grad()
@pytest.mark.parametrize("name", BACKBONES)
def test_at_output_stride_8_every_fourth_feature_is_the_undilated_network_s(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, output_stride=8).double().eval()
    original = tv.get_model(name, weights=None).double()
    state = {key: value for key, value in original.state_dict().items() if not key.startswith(("fc.", "classifier."))}
    backbone.trunk.load_state_dict(state)
    features = original.eval().features if name == "mobilenet_v2" else nn.Sequential(*list(original.children())[:-2])
    if name == "densenet121":
        # Its rectifier is no part of its features.
        features = nn.Sequential(original.features, nn.ReLU())
    x = torch.randn(1, 3, 96, 128, dtype=torch.float64)
    levels = backbone(x)
    assert [level.shape[-1] for level in levels] == [32, 32, 16, 16, 16]
    torch.testing.assert_close(levels[-1][..., ::4, ::4], features.eval()(x))


def test_logits_have_the_input_s_size_and_add_up_four_rates() -> None:
    net = DeepLabV2(build_backbone("resnet18", output_stride=8), 4).eval()
    x = torch.randn(2, 3, 45, 62)
    logits = net(x)
    assert logits.shape == (2, 4, 45, 62)
    features = net.backbone(x)[-1]
    assert features.shape[2:] == (6, 8)
    alone = []
    for classifier in net.classifiers:
        # A classifier at rate r sees nine pixels, r apart.
        columns = nn.functional.unfold(features, 3, dilation=classifier.dilation, padding=classifier.padding)
        alone.append(classifier.weight.flatten(1) @ columns + classifier.bias[:, None])
    assert [classifier.dilation[0] for classifier in net.classifiers] == [6, 12, 18, 24]
    expected = torch.stack(alone).sum(0).unflatten(2, (6, 8))
    expected = nn.functional.interpolate(expected, (45, 62), mode="bilinear", align_corners=False)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_a_backbone_of_another_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="output stride 8, got 16"):
        DeepLabV2(build_backbone("resnet18"), 4)


def test_parameters_are_the_backbone_s_and_four_classifiers() -> None:
    net = DeepLabV2(build_backbone("resnet101", output_stride=8), 21)
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == 42_500_160 + 4 * (2048 * 9 * 21 + 21)
