"""SegNet and the networks that it is measured against: the paper's sizes, plain pooling, odd sizes, weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import BackboneChoice
from models.inference import prepare_inference
from models.segnet import fcn, parts
from models.segnet.encoders import VGG16, SceneNetwork
from models.segnet.inputs import LocalContrast
from models.segnet.parts import Upsampling
from tasks.measurement.sizes import SIZED, network_size
from tasks.networks import NETWORKS
from tasks.networks.segnet import SCENE_NETWORKS

SMALL = ("segnet-basic", "segnet-basic-encoder-addition", "segnet-basic-single-channel-decoder", "fcn-basic")


IN_THE_PAPER = [name for name in SCENE_NETWORKS if SIZED[name].paper]


def build(name: str, num_classes: int, *, weights: Path | None = None, **options: Any) -> SceneNetwork:
    backbone = BackboneChoice("vgg16", weights)
    net = NETWORKS[name].build(num_classes, backbone, {"input": "imagenet", **options})
    assert isinstance(net, SceneNetwork)
    return net


def test_most_networks_have_figures_in_the_paper() -> None:
    assert set(SCENE_NETWORKS) - set(IN_THE_PAPER) == {"fcn-fixed", "deconvnet"}


@pytest.mark.parametrize("name", IN_THE_PAPER)
def test_sizes_are_those_of_the_paper(name: str) -> None:
    found = network_size(name, num_classes=11, size=(96, 96))
    assert found.paper
    for figure, value in found.paper.items():
        assert getattr(found, figure) == pytest.approx(value, rel=0.03)


@pytest.mark.parametrize("name", ["segnet", "segnet-basic", "segnet-basic-encoder-addition"])
def test_outputs_and_gradients_are_those_of_plain_pooling(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against torch's own layers, with indices of 64 bits."""
    torch.manual_seed(0)
    net = build(name, 11, dropout=0.0).double()
    x = torch.randn(2, 3, 70, 93, dtype=torch.float64)
    cotangent = torch.randn(2, 11, 70, 93, dtype=torch.float64)
    own = _run(net, x, cotangent)
    pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
    monkeypatch.setattr(parts, "max_pool", pool)
    monkeypatch.setattr(parts, "max_unpool", lambda x, indices, size: unpool(x, indices, output_size=size))
    for found, expected in zip(own, _run(net, x, cotangent), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("size", [(45, 60), (23, 31), (5, 1)])
def test_an_odd_last_row_is_pooled_too(size: tuple[int, int]) -> None:
    """As the authors' Caffe does: the paper's images of 360 x 480 have 45 rows before the fourth pooling."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    maxima, memory = parts.pool(x)
    spread = parts.unpool(maxima.square(), memory)
    (own,) = torch.autograd.grad((spread * x).sum(), x)
    expected, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    assert maxima.shape[2:] == (-(-size[0] // 2), -(-size[1] // 2))
    assert torch.equal(maxima, expected)
    theirs = F.max_unpool2d(expected.square(), indices, 2, output_size=list(size))
    assert torch.equal(spread, theirs)
    torch.testing.assert_close(own, torch.autograd.grad((theirs * x).sum(), x)[0])


def test_a_pixel_of_the_basic_encoders_deepest_maps_sees_106_pixels() -> None:
    """Sec. 3.1, in either direction."""
    torch.manual_seed(0)
    net = build("segnet-basic", 5).eval()
    image = torch.randn(1, 3, 240, 240, requires_grad=True)
    x = image
    for encoder in net.backbone.encoders:
        # Of all pixels of a window, not of the greatest alone.
        x = F.avg_pool2d(encoder(x), 2)
    (seen,) = torch.autograd.grad(x[0, :, 7, 7].sum(), image)
    for side in (2, 3):
        (places,) = seen.abs().amax([axis for axis in range(4) if axis != side]).nonzero(as_tuple=True)
        assert int(places[-1] - places[0]) + 1 == 106


def test_weights_start_with_the_variance_of_he_in_transposed_convolutions_too() -> None:
    torch.manual_seed(0)
    net = build("deconvnet", 5)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 10_000:
            num_inputs = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
            assert float(layer.weight.detach().var()) == pytest.approx(2 / num_inputs, rel=0.05), layer


def _run(net: nn.Module, x: Tensor, cotangent: Tensor) -> list[Tensor]:
    net.zero_grad()
    logits = net(x)
    (logits * cotangent).sum().backward()
    gradients = [parameter.grad for parameter in net.parameters()]
    return [logits.detach(), *(gradient.clone() for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("name", ["segnet", "deconvnet", "fcn-learned", "deeplab-largefov"])
def test_dropout_changes_no_place_of_a_maximum(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pooled is what batch norm and the rectifier gave: dropout is behind, at the three deepest encoders."""
    torch.manual_seed(0)
    net = build(name, 5, dropout=0.5).train()
    pooled: list[Tensor] = []
    for encoder in net.backbone.encoders:
        assert not any(isinstance(layer, nn.Dropout) for layer in encoder.modules())
        encoder.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    net(torch.randn(2, 3, 64, 64))
    zeros = [float((x == 0).float().mean()) for x in pooled[1:]]
    # Behind the rectifier and 2 x 2 pooling few are 0; behind dropout half are, from the third encoder on.
    assert [share > 0.4 for share in zeros] == [False, False, True, True]
    kinds = [type(dropout) for dropout in net.backbone.dropouts]
    assert kinds == [nn.Identity, nn.Identity, nn.Dropout, nn.Dropout, nn.Dropout]
    if net.unpools:
        ends = [isinstance(decoder[-1], nn.Dropout) for decoder in net.decoders]  # pyright: ignore
        assert ends == [True, True, True, False, False]


@pytest.mark.parametrize("name", SCENE_NETWORKS)
def test_logits_have_the_images_size_whatever_that_is(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, 5).eval()
    for size in ((64, 64), (67, 91)):
        with torch.no_grad():
            assert net(torch.randn(1, 3, *size)).shape == (1, 5, *size)


@pytest.mark.parametrize(
    ("name", "side"), [("segnet", 32), ("fcn-learned", 32), ("segnet-basic", 16), ("deeplab-largefov", 8)]
)
def test_images_below_the_stride_are_refused_with_the_least_size(name: str, side: int) -> None:
    with torch.device("meta"):
        net = build(name, 5).eval()
    with pytest.raises(ValueError, match=rf"{name}: expected images of at least {side} x {side}, got {side - 1} x 99"):
        net(torch.empty(1, 3, side - 1, 99, device="meta"))


def test_convolutions_of_the_basic_networks_have_no_bias_where_batch_norm_follows() -> None:
    for name in SCENE_NETWORKS:
        if name.startswith(("segnet-basic", "fcn-basic")):
            with torch.device("meta"):
                net = build(name, 5)
            biased = [module for module in net.modules() if isinstance(module, nn.Conv2d) and module.bias is not None]
            assert biased == ([net.classifier] if isinstance(net.classifier, nn.Conv2d) else []), name


@pytest.mark.parametrize("name", [*SMALL, "segnet"])
def test_what_is_made_ready_for_inference_is_the_same_network(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, 5)
    net(torch.randn(2, 3, 64, 96))
    net.eval()
    x = torch.randn(1, 3, 65, 70)
    with torch.no_grad():
        expected = net(x)
        found = prepare_inference(net)(x)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_upsampling_starts_as_bilinear_interpolation() -> None:
    maps = torch.rand(1, 3, 6, 7)
    for factor, kernel_size in ((2, 8), (2, 4), (8, 16)):
        up = Upsampling(3, factor, kernel_size)
        expected = F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)
        inside = (..., slice(factor, -factor), slice(factor, -factor))
        torch.testing.assert_close(up(maps)[inside], expected[inside])
        assert up(maps, (6 * factor + 1, 7 * factor)).shape == (1, 3, 6 * factor + 1, 7 * factor)
        # Cut and not squeezed, where the sides are odd.
        torch.testing.assert_close(parts.upsample(maps, factor, (6 * factor - 1, 7 * factor)), expected[:, :, :-1])


def test_local_contrast_is_the_definition_pixel_by_pixel() -> None:
    pixels = torch.randint(256, (2, 3, 13, 11), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = LocalContrast()(pixels)
    line = torch.exp(-((torch.arange(9.0) - 4) ** 2) / 8)
    weights = torch.outer(line, line) / line.sum() ** 2 / 3
    x = pixels.double() / 255

    def around(maps: Tensor, y: int, x: int) -> Tensor:
        rows, columns = (y + torch.arange(-4, 5)).clamp(0, 12), (x + torch.arange(-4, 5)).clamp(0, 10)
        return (maps[:, rows][:, :, columns] * weights).sum()

    for image, normalized in zip(x, found, strict=True):
        mean = torch.tensor([[around(image, y, x) for x in range(11)] for y in range(13)])
        centred = image - mean
        deviation = torch.tensor([[around(centred**2, y, x) for x in range(11)] for y in range(13)]).sqrt()
        expected = centred / deviation.clamp(min=float(deviation.mean()))
        torch.testing.assert_close(normalized.double(), expected, rtol=0, atol=1e-5)
    for grey in (7, 127, 255):
        assert not LocalContrast()(torch.full((1, 3, 33, 47), grey)).any()


@pytest.mark.parametrize("with_norm", [True, False])
def test_imagenet_weights_of_either_layout_are_taken(with_norm: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = (torchvision.models.vgg16_bn if with_norm else torchvision.models.vgg16)(weights=None)
    state = {key: value for key, value in theirs.state_dict().items() if key.startswith("features.")}
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg.pth")
    net = build("segnet", 3, weights=tmp_path / "vgg.pth", dropout=0.0).eval()
    assert net.backbone.pretrained
    assert isinstance(net.backbone, VGG16)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        if with_norm:
            own = x
            for encoder in net.backbone.encoders:
                own = F.max_pool2d(encoder(own), 2)
            torch.testing.assert_close(own, theirs.eval().features(x))
        else:
            first = [module for module in net.modules() if isinstance(module, nn.Conv2d)][12]
            assert torch.equal(first.weight, theirs.features[28].weight)


def test_fcn_starts_from_the_fully_connected_layers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcn, "FULLY_CONNECTED", 6)
    torch.manual_seed(0)
    state = torchvision.models.vgg16(weights=None, num_classes=2).features.state_dict(prefix="features.")
    first, second = nn.Linear(512 * 7 * 7, 6), nn.Linear(6, 6)
    named = {**first.state_dict(prefix="classifier.0."), **second.state_dict(prefix="classifier.3.")}
    torch.save(state | named, tmp_path / "vgg.pth")
    net = build("fcn-learned", 3, weights=tmp_path / "vgg.pth")
    assert isinstance(net, fcn.FCN)
    x = torch.randn(1, 512, 7, 7)
    with torch.no_grad():
        # The middle of the map sees the whole square, as the layer that was fully connected did.
        torch.testing.assert_close(net.connected[0](x)[0, :, 3, 3], first(x.flatten(1))[0], rtol=0, atol=1e-4)
        assert torch.equal(net.connected[4].weight[:, :, 0, 0], second.weight)
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: not the weights of VGG16: classifier\.0"):
        build("fcn-learned", 3, weights=tmp_path / "other.pth")
    torch.save(state, tmp_path / "alone.pth")
    assert build("fcn-learned", 3, weights=tmp_path / "alone.pth").backbone.pretrained


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth: not the weights of VGG16"):
        build("segnet", 3, weights=tmp_path / "other.pth")
    with pytest.raises(ValueError, match="starts from random weights"):
        build("segnet-basic", 3, weights=tmp_path / "other.pth")
