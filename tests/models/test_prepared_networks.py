"""Networks prepared for inference, against themselves before."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from models.backbones import BACKBONES
from models.backbones.base import build_backbone
from models.cam import CAMNet
from models.deeplabv2 import DeepLabV2
from models.inference import FusedConv, prepare_inference
from models.irnet import IRNet


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def settled(net: nn.Module) -> nn.Module:
    """Give the norms statistics and scales, as training does."""
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.9, 1.1)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return net.eval()


def assert_alike(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", BACKBONES)
def test_a_prepared_backbone_has_the_same_features(name: str, output_stride: int) -> None:
    backbone = settled(build_backbone(name, output_stride=output_stride))
    x = torch.randn(2, 3, 67, 81)
    with torch.no_grad():
        before = x.clone()
        expected = backbone(x)
        prepared = prepare_inference(deepcopy(backbone))
        for ours, theirs in zip(prepared(x.to(memory_format=torch.channels_last)), expected, strict=True):
            assert_alike(ours, theirs)
        assert torch.equal(x, before)
    # DenseNet's stand before a rectifier, and cannot be folded.
    left = [module for module in prepared.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not left or name == "densenet121"


@pytest.mark.usefixtures("threads")
def test_prepared_networks_have_the_same_outputs() -> None:
    x = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        for net in (CAMNet(build_backbone("resnet50"), 4), DeepLabV2(build_backbone("resnet18", output_stride=8), 4)):
            settled(net)
            expected = net(x)
            assert_alike(prepare_inference(net)(x), expected)
        irnet = settled(IRNet(build_backbone("mobilenet_v2")))
        expected = irnet(x)
        for ours, theirs in zip(prepare_inference(irnet)(x), expected, strict=True):
            assert_alike(ours, theirs)


def test_every_rectifier_and_sum_of_a_block_is_fused() -> None:
    for name in ("resnet50", "resnet18"):
        trunk = prepare_inference(settled(build_backbone(name))).trunk
        for module in (
            module for layer in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4) for module in layer.modules()
        ):
            assert not isinstance(module, nn.ReLU | nn.BatchNorm2d)
            # No convolution but as part of a fused one.
            assert not any(isinstance(child, nn.Conv2d) for child in module.children()) or isinstance(module, FusedConv)
    features = prepare_inference(settled(build_backbone("mobilenet_v2"))).trunk.features
    assert not any(isinstance(module, nn.ReLU6) for module in features.modules())


def test_a_rectifier_behind_another_norm_stays() -> None:
    branch = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4), nn.ReLU()).eval()
    x = torch.randn(1, 3, 5, 6)
    with torch.no_grad():
        expected = branch(x)
        assert_alike(prepare_inference(branch)(x), expected)
    assert isinstance(branch[2], nn.ReLU)


def test_under_autocast_torch_s_own_kernels_run() -> None:
    backbone = settled(build_backbone("resnet18"))
    prepared = prepare_inference(deepcopy(backbone))
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ours, theirs = prepared(x)[-1], backbone(x)[-1]
    assert ours.dtype == torch.bfloat16
    assert (ours - theirs).abs().max() <= 0.05 * theirs.abs().max()
