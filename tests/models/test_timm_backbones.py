"""Networks of timm as backbones: strides of every level, weights, and the heads on them."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.backbones import timm_networks
from models.backbones.base import BackboneChoice, build_backbone
from models.backbones.timm_networks import TimmBackbone, at_stride, layout_of
from models.cam import CAMNet
from models.inference import prepare_inference
from models.irnet import IRNet
from tasks.measurement.sizes import network_size, on_backbone
from tasks.networks import NETWORKS
from tasks.networks.export import TOLERANCE, export_onnx
from tasks.training.saving import load_classifier, save_network

timm = pytest.importorskip("timm", reason="needs pseudomask[timm]")
# Small ones, with and without dilated convolutions, and a transformer.
NAMES = ("timm:test_efficientnet", "timm:test_convnext", "timm:test_mambaout", "timm:test_vit")


def plain(name: str, **options: Any) -> Any:
    """Return timm's own network, with its classification layer."""
    torch.manual_seed(1)
    return timm.create_model(name.removeprefix("timm:"), **options).eval()


@pytest.mark.parametrize(
    ("name", "output_stride"),
    [
        *((name, stride) for name in NAMES for stride in (8, 16, 32)),
        ("timm:vit_small_patch14_dinov2", 16),
        ("timm:hrnet_w18_small", 16),
        # Its final feature is a list, and some of its parameters are not trained.
        ("timm:efficientvim_m1", 16),
    ],
)
def test_levels_have_the_stated_channels_and_strides(name: str, output_stride: Literal[8, 16, 32]) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name, output_stride=output_stride).eval()
        for size in ((64, 96), (33, 50), (7, 130)):
            levels = backbone(torch.empty(1, 3, *size))
            assert [level.shape[1] for level in levels] == list(backbone.channels)
            expected = [tuple(-(-side // stride) for side in size) for stride in backbone.strides]
            assert [tuple(level.shape[2:]) for level in levels] == expected
    assert backbone.strides == tuple(min(stride, output_stride) for stride in (4, 4, 8, 16, 32))


def test_a_network_runs_at_the_output_stride_where_it_can_and_else_at_its_own(caplog: pytest.LogCaptureFixture) -> None:
    assert layout_of("timm:test_efficientnet", 8).strides == (2, 4, 8, 8, 8)
    assert layout_of("timm:test_mambaout", 8).strides == (4, 4, 8, 16, 32)
    assert layout_of("timm:vit_small_patch14_dinov2", 16).strides == (14,) * 5
    caplog.set_level("INFO")
    build_backbone("timm:test_vit")
    assert "its features lie 16, 16, 16, 16, 16 pixels apart; they are interpolated" in caplog.text


@pytest.mark.parametrize(("own", "stride"), [(2, 4), (16, 4), (16, 8), (14, 16), (14, 4), (32, 16)])
def test_a_cell_lies_where_its_stride_says(own: int, stride: int) -> None:
    centres = (torch.arange(16.0) + 0.5) * own
    found = at_stride(centres.view(1, 1, 1, -1).expand(1, 1, 16, 16), own, stride)[0, 0, 5]
    wanted = (torch.arange(len(found)) + 0.5) * stride
    inside = (wanted >= centres[0]) & (wanted <= centres[-1])
    torch.testing.assert_close(found[inside], wanted[inside])


@torch.no_grad()
@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:test_convnext"])
def test_at_output_stride_32_the_last_level_is_what_the_network_classifies_by(name: str, tmp_path: Path) -> None:
    net = plain(name)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    x = torch.randn(1, 3, 96, 64)
    levels = build_backbone(name, tmp_path / "w.pth", output_stride=32).eval()(x)
    torch.testing.assert_close(levels[-1], net.forward_features(x))


@torch.no_grad()
def test_a_transformers_levels_are_its_patch_tokens(tmp_path: Path) -> None:
    net = plain("timm:test_vit", dynamic_img_size=True)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    backbone = build_backbone("timm:test_vit", tmp_path / "w.safetensors").eval()
    x = torch.randn(1, 3, 96, 64)
    fourth, last = net.get_intermediate_layers(x, n=[4, 5], reshape=True, norm=True)
    levels = backbone(x)
    torch.testing.assert_close(levels[-1], last)
    torch.testing.assert_close(levels[-2], fourth)


@pytest.mark.parametrize("name", NAMES)
def test_the_input_is_timms_for_the_weights(name: str) -> None:
    backbone = build_backbone(name)
    config = timm.get_pretrained_cfg(name.removeprefix("timm:"))
    pixels = torch.tensor([0.0, 100.0, 255.0]).view(1, 3, 1, 1)
    expected = (pixels / 255 - torch.tensor(config.mean).view(1, 3, 1, 1)) / torch.tensor(config.std).view(1, 3, 1, 1)
    torch.testing.assert_close(backbone.normalize(pixels), expected)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(plain("timm:test_resnet").state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth: not the weights of timm:test_efficientnet\.r160_in1k, of \d+ tens"):
        build_backbone("timm:test_efficientnet", tmp_path / "w.pth")
    torch.save({"state_dict": plain("timm:test_resnet").state_dict()}, tmp_path / "nested.pth")
    with pytest.raises(ValueError, match=r"nested\.pth: expected a state dict of tensors by timm's names"):
        build_backbone("timm:test_resnet", tmp_path / "nested.pth")
    with pytest.raises(ValueError, match="no such weights file"):
        build_backbone("timm:test_resnet", tmp_path / "none.pth")


def test_timms_download_is_loaded_and_what_fails_of_it_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    real, given = timm.create_model, plain("timm:test_resnet")

    def create(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        assert name == "test_resnet.r160_in1k"
        return given if pretrained else real(name, **options)

    monkeypatch.setattr(timm, "create_model", create)
    backbone = build_backbone("timm:test_resnet", "imagenet")
    assert backbone.pretrained
    assert torch.equal(backbone.trunk.layer4[0].conv1.weight, given.layer4[0].conv1.weight)

    def fail(name: str, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise OSError("no network")
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ValueError, match=r"cannot be downloaded \(OSError: no network\); give a file by --weights"):
        build_backbone("timm:test_resnet", "imagenet")


def test_a_feature_that_is_not_of_its_declared_stride_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    build = timm_networks._build

    def wrong(name: str, output_stride: Literal[8, 16, 32]) -> tuple[Any, dict[str, Any]]:
        net, options = build(name, output_stride)
        net.feature_info[3]["reduction"] = 8
        return net, options

    monkeypatch.setattr(timm_networks, "_build", wrong)
    with pytest.raises(ValueError, match=r"feature 3 of a 128 x 192 image: expected \(16, 24\) cells.*stride 8, found"):
        layout_of.__wrapped__("timm:test_resnet", 32)


@pytest.mark.parametrize("name", ["timm:test_maxvit", "timm:test_coatnet"])
def test_a_network_for_images_of_one_size_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a network for images of any size"):
        layout_of(name, 16)


@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:test_vit"])
def test_gradients_stop_behind_the_third_level_of_pretrained_weights_only(name: str) -> None:
    first, later = {
        "timm:test_efficientnet": ("conv_stem.weight", "blocks.4.0.conv_dw.weight"),
        "timm:test_vit": ("patch_embed.proj.weight", "blocks.5.mlp.fc1.weight"),
    }[name]
    for pretrained in (False, True):
        net = deepcopy(CAMNet(build_backbone(name), 3))
        net.backbone.pretrained = pretrained
        net(torch.randn(2, 3, 64, 64)).sum().backward()
        assert (net.backbone.trunk.get_parameter(first).grad is None) == pretrained
        assert net.backbone.trunk.get_parameter(later).grad is not None


def test_parameters_that_no_level_depends_on_are_not_trained() -> None:
    backbone = build_backbone("timm:mobilenetv3_small_050")
    assert [name for name, each in backbone.trunk.named_parameters() if not each.requires_grad] == [
        "conv_head.weight",
        "conv_head.bias",
    ]


@torch.no_grad()
@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:ghostnet_100"])
def test_a_prepared_backbone_has_the_same_features(name: str) -> None:
    backbone = build_backbone(name).eval()
    x = torch.randn(2, 3, 67, 81)
    for ours, theirs in zip(prepare_inference(deepcopy(backbone))(x), backbone(x), strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:test_vit"])
def test_every_head_works_on_a_network_of_timm(name: str) -> None:
    boundary, displacement = IRNet(build_backbone(name)).eval().infer(torch.randn(1, 3, 45, 62))
    assert (boundary.shape, displacement.shape) == ((1, 12, 16), (1, 2, 12, 16))
    assert CAMNet(build_backbone(name), 3).activations(torch.randn(1, 3, 45, 62)).shape == (1, 3, 3, 4)
    for network in ("deeplabv2", "deeplabv3plus", "pspnet"):
        net = NETWORKS[network].build(4, BackboneChoice(name)).eval()
        assert net(torch.randn(1, 3, 45, 62)).shape == (1, 4, 45, 62)
    detector = NETWORKS["maskrcnn"].build(4, BackboneChoice(name), {"min_size": 64, "max_size": 64}).eval()
    (found,) = detector([255 * torch.rand(3, 45, 62)])
    assert found["masks"].shape[1:] == (1, 45, 62)


def test_the_table_of_sizes_has_the_networks_on_a_backbone_of_timm() -> None:
    networks = on_backbone("timm:test_resnet")
    assert {"cam-timm:test_resnet", "irnet-timm:test_resnet", "deeplabv2-timm:test_resnet"} <= networks.keys()
    found = network_size("cam-timm:test_resnet", num_classes=5, size=(64, 64), networks=networks)
    expected = sum(each.numel() for each in build_backbone("timm:test_resnet").parameters())
    assert found.encoder_parameters == expected
    assert found.parameters == expected + 5 * 96


def test_a_saved_network_is_built_again_with_its_input(tmp_path: Path) -> None:
    torch.save(plain("timm:test_efficientnet").state_dict(), tmp_path / "w.pth")
    net = CAMNet(build_backbone("timm:test_efficientnet", tmp_path / "w.pth"), 2).eval()
    save_network(net, tmp_path)
    again = load_classifier(tmp_path)
    assert isinstance(again.backbone, TimmBackbone)
    assert again.backbone.pretrained
    x = again.backbone.normalize(255 * torch.rand(1, 3, 40, 50))
    with torch.no_grad():
        torch.testing.assert_close(again(x), net(x))
    # And a network is trained from it.
    trunk = build_backbone("timm:test_efficientnet", tmp_path / "network.safetensors").trunk
    assert torch.equal(trunk.conv_head.weight, net.backbone.trunk.conv_head.weight)


@pytest.mark.parametrize("name", ["timm:test_efficientnet", "timm:test_mambaout"])
def test_a_network_on_it_is_exported_for_images_of_any_size(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    answer = export_onnx(NETWORKS["deeplabv2"].build(4, BackboneChoice(name)).eval(), tmp_path / "net.onnx")
    assert max(answer["errors"].values()) <= TOLERANCE
