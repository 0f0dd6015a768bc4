"""Five feature levels, output strides, and weights with the input convention that belongs to them."""

from pathlib import Path

import pytest
import torch
import torchvision.models as tv
from torch import nn

from models.backbones import BACKBONES, BackboneSpec, OutputStride
from models.backbones.base import SamePadConv2d, build_backbone, load_imagenet_state
from models.backbones.family import Family, remove_strides, without_layer
from models.cam import CAMNet
from models.irnet import IRNet
from models.profile import profile
from tasks.training.saving import save_network


def check_levels(name: str, output_stride: OutputStride, size: tuple[int, int]) -> None:
    spec = BACKBONES[name]
    backbone = build_backbone(name, output_stride=output_stride).eval()
    levels = backbone(torch.zeros(1, 3, *size))
    strides = [min(stride, output_stride) for stride in spec.level_strides]
    assert (list(backbone.strides), backbone.channels) == (strides, spec.channels)
    assert [level.shape[1] for level in levels] == list(spec.channels)
    assert [tuple(level.shape[2:]) for level in levels] == [tuple(-(-side // s) for side in size) for s in strides]


@pytest.mark.parametrize("size", [(64, 96), (33, 50)])
@pytest.mark.parametrize(
    ("name", "output_stride"), [(name, stride) for name, spec in BACKBONES.items() for stride in spec.output_strides]
)
def test_levels_have_the_channels_and_strides_of_the_entry(
    name: str, size: tuple[int, int], output_stride: OutputStride
) -> None:
    check_levels(name, output_stride, size)


def _regnet(name: str, output_stride: OutputStride, dilated: bool) -> nn.Module:
    net = tv.get_model(name, weights=None)
    remove_strides(net.trunk_output[2], net.trunk_output[3], output_stride, dilated)
    net.fc = nn.Identity()
    return net


REGNET = Family(_regnet, lambda net: [net.stem, *net.trunk_output], lambda state: without_layer(state, "fc"))


@pytest.fixture
def regnet(monkeypatch: pytest.MonkeyPatch) -> str:
    """A new entry, whose first level is at stride 2, and whose constructor reads values of tensors."""
    name = "regnet_x_400mf"
    channels = (32, 32, 64, 160, 400)
    entry = BackboneSpec(name, f"{__name__}:REGNET", channels, 2, level_strides=(2, 4, 8, 16, 32))
    monkeypatch.setitem(BACKBONES, name, entry)
    return name


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_a_new_entry_is_compared_with_the_strides_that_it_states(regnet: str, output_stride: OutputStride) -> None:
    check_levels(regnet, output_stride, (33, 50))


def test_irnet_refuses_levels_at_other_strides_than_its_branches_know(regnet: str) -> None:
    with pytest.raises(ValueError, match="first levels are at strides 4, 4, 8, got 2, 4, 8"):
        IRNet(build_backbone(regnet))


def test_a_constructor_that_reads_values_of_tensors_is_built_without_values_too(regnet: str, tmp_path: Path) -> None:
    with torch.device("meta"):
        backbone = build_backbone(regnet)
        assert {tensor.device.type for tensor in backbone.state_dict().values()} == {"meta"}
        assert [tuple(level.shape[2:]) for level in backbone(torch.empty(1, 3, 64, 96))][-1] == (4, 6)
    counted = profile("regnet", lambda: CAMNet(build_backbone(regnet), 3), size=(64, 96))
    real = CAMNet(build_backbone(regnet), 3)
    assert counted.parameters == sum(parameter.numel() for parameter in real.parameters())
    file = save(tmp_path / "w.pth", real.backbone.trunk)
    with pytest.raises(ValueError, match=rf"w\.pth: not the weights of resnet18, but of {regnet}: choose --backbone"):
        build_backbone("resnet18", file)


@torch.no_grad()
@pytest.mark.parametrize("name", BACKBONES)
def test_at_output_stride_32_the_features_are_the_plain_network_s(name: str) -> None:
    backbone = build_backbone(name, output_stride=32).eval()
    plain = tv.get_model(name, weights=None).eval()
    plain.load_state_dict({**plain.state_dict(), **backbone.trunk.state_dict()})
    features = plain.features if name == "mobilenet_v2" else nn.Sequential(*list(plain.children())[:-2])
    if name == "densenet121":
        # Its rectifier is no part of its features.
        features = nn.Sequential(plain.features, nn.ReLU())
    # Of sizes that are odd on the way DenseNet loses a row, and we do not.
    x = torch.randn(1, 3, 96, 64 if name == "densenet121" else 70)
    torch.testing.assert_close(backbone(x)[-1], features(x))


@pytest.mark.parametrize("size", [6, 7])
def test_same_padding_puts_the_odd_pixel_at_the_end(size: int) -> None:
    conv = nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False)
    nn.init.ones_(conv.weight)
    x = torch.arange(float(size)).view(1, 1, 1, size).expand(1, 1, size, size)
    middle_row = SamePadConv2d.of(conv)(x)[0, 0, 1] / 3
    padded = [0.0, *range(size), 0.0] if size % 2 else [*map(float, range(size)), 0.0]
    expected = [sum(padded[i : i + 3]) for i in range(0, 2 * -(-size // 2), 2)]
    assert middle_row.tolist() == pytest.approx(expected)


def save(path: Path, net: nn.Module) -> Path:
    torch.save(net.state_dict(), path)
    return path


def test_a_torchvision_file_loads_whole_and_keeps_its_convention(tmp_path: Path) -> None:
    net = tv.resnet18(weights=None)
    nn.init.constant_(net.bn1.running_mean, 0.5)
    backbone = build_backbone("resnet18", save(tmp_path / "w.pth", net))
    assert backbone.pretrained
    assert backbone.convention == "torchvision"
    assert torch.equal(backbone.trunk.conv1.weight, net.conv1.weight)
    assert torch.equal(backbone.trunk.bn1.running_mean, net.bn1.running_mean)


def test_folded_norms_mean_tensorflow_s_input_and_padding(tmp_path: Path) -> None:
    backbone = build_backbone("mobilenet_v2", save(tmp_path / "w.pth", tv.mobilenet_v2(weights=None)))
    assert backbone.convention == "tensorflow"
    pixels = torch.tensor([0.0, 127.5, 255.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    assert backbone.normalize(pixels)[0, 0, 0].tolist() == [-1, 0, 1]
    strided = [m for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    assert strided
    assert all(isinstance(m, SamePadConv2d) for m in strided)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "w.pth", tv.resnet34(weights=None))
    with pytest.raises(ValueError, match=r"w\.pth: not the weights of resnet18"):
        build_backbone("resnet18", path)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.pth"):
        build_backbone("resnet18", path)


def test_gradients_stop_behind_the_third_level_of_pretrained_weights_only() -> None:
    for pretrained in (False, True):
        net = CAMNet(build_backbone("resnet18"), 3)
        net.backbone.pretrained = pretrained
        net(torch.randn(2, 3, 64, 64)).sum().backward()
        assert (net.backbone.trunk.conv1.weight.grad is None) == pretrained
        assert (net.backbone.trunk.layer2[0].conv1.weight.grad is None) == pretrained
        assert net.backbone.trunk.layer3[0].conv1.weight.grad is not None


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_irnet_returns_maps_at_stride_4_and_its_backbone_is_frozen(name: str) -> None:
    net = IRNet(build_backbone(name)).train()
    assert not net.backbone.training
    boundary, displacement = net.eval().infer(torch.randn(2, 3, 45, 62))
    assert boundary.shape == (2, 12, 16)
    assert displacement.shape == (2, 2, 12, 16)
    assert 0 <= boundary.min() <= boundary.max() <= 1
    assert not any(p.requires_grad for p in net.backbone.parameters())


@pytest.mark.parametrize("train_backbone", [False, True])
def test_irnet_s_backbone_learns_only_where_it_shall(train_backbone: bool) -> None:
    net = IRNet(build_backbone("resnet18"), train_backbone=train_backbone).train()
    boundary, displacement = net(torch.randn(1, 3, 64, 64))
    (boundary.sum() + displacement.sum()).backward()
    assert (net.backbone.trunk.conv1.weight.grad is not None) == train_backbone
    assert net.displacement.predict.weight.grad is not None


def test_irnet_subtracts_its_mean_displacement_in_evaluation_alone() -> None:
    net = IRNet(build_backbone("resnet18"))
    x = torch.randn(1, 3, 32, 32)
    raw = net.train()(x)[1]
    net.displacement.mean.copy_(torch.tensor([1.0, -2.0]))
    assert torch.equal(net.train()(x)[1], raw)
    difference = raw - net.eval()(x)[1]
    assert torch.allclose(difference, torch.tensor([1.0, -2.0]).view(1, 2, 1, 1).expand_as(raw), atol=1e-5)


def test_a_trained_network_keeps_the_input_that_its_first_weights_had(tmp_path: Path) -> None:
    net = CAMNet(build_backbone("mobilenet_v2", save(tmp_path / "w.pth", tv.mobilenet_v2(weights=None))), 2)
    # One look in training mode, and no norm is folded any more.
    net.train()(torch.randn(2, 3, 64, 64))
    save_network(net, tmp_path)
    again = build_backbone("mobilenet_v2", tmp_path / "network.safetensors")
    assert again.convention == net.backbone.convention == "tensorflow"
    assert torch.equal(again.mean, net.backbone.mean)


def test_weights_of_another_network_are_named_in_a_line(tmp_path: Path) -> None:
    file = save(tmp_path / "w.pth", tv.mobilenet_v2(weights=None))
    with pytest.raises(
        ValueError, match=r"w\.pth: not the weights of resnet50, but of mobilenet_v2: choose --backbone"
    ):
        build_backbone("resnet50", file)
    other = {**tv.resnet18(weights=None).state_dict(), "conv1.weight": torch.zeros(1), "more": torch.zeros(1)}
    del other["bn1.bias"]
    torch.save(other, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="of resnet18, of ") as raised:
        build_backbone("resnet18", tmp_path / "other.pth")
    expected = "1 missing (bn1.bias, ...); 1 unknown (more, ...); 1 of another shape (conv1.weight, ...)"
    assert str(raised.value).endswith(expected)


@pytest.mark.parametrize("name", [*BACKBONES, "vgg16_bn"])
def test_the_versions_of_downloaded_weights_are_torchvision_s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = {member.name: member for member in tv.get_model_weights(name)}
    taken = []
    monkeypatch.setattr(tv.WeightsEnum, "get_state_dict", lambda weights, **_: taken.append(weights.name) or {})
    load_imagenet_state(name, "imagenet-v1")
    load_imagenet_state(name, "imagenet")
    assert taken == ["IMAGENET1K_V1", sorted(weights for weights in offered if weights.startswith("IMAGENET1K_V"))[-1]]


@pytest.mark.parametrize("content", [b"cut off", b""])
def test_a_download_that_is_not_what_its_name_says_is_removed_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints/resnet18-f37072fd.pth"
    file.parent.mkdir()
    file.write_bytes(content)
    was_there = []
    monkeypatch.setattr(tv.WeightsEnum, "get_state_dict", lambda *_, **__: was_there.append(file.exists()) or {})
    load_imagenet_state("resnet18", "imagenet")
    assert was_there == [False]


def test_weights_of_another_hash_are_refused_by_their_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError('invalid hash value (expected "f37072fd", got "0000")')

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(tv.WeightsEnum, "get_state_dict", refuse)
    with pytest.raises(ValueError, match=r"resnet18-f37072fd\.pth: expected torchvision's weights, but invalid hash"):
        load_imagenet_state("resnet18", "imagenet")
