"""Exported networks give what the network gives, and an export that does not leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from data.store import ArtifactError
from models.backbones.base import Backbone, BackboneChoice, SamePadConv2d
from models.deeplabv2 import DeepLabV2
from models.maskrcnn import MaskRCNN
from models.segnet.inputs import Input
from tasks.networks import NETWORKS
from tasks.networks.export import SIZES, TOLERANCE, UNPOOLING_TOLERANCE, export_onnx, export_torchscript

Export = Callable[..., dict[str, Any]]
FORMATS = pytest.mark.parametrize("export", [export_onnx, export_torchscript])


@pytest.fixture(scope="module")
def deeplab() -> DeepLabV2:
    """A DeepLab v2 in training mode, whose padding depends on whether a size is even."""
    torch.manual_seed(0)
    return DeepLabV2(Backbone("mobilenet_v2", "tensorflow", 8), num_classes=4)


@pytest.fixture(scope="module", params=[("resnet18", "torchvision"), ("mobilenet_v2", "tensorflow")])
def maskrcnn(request: pytest.FixtureRequest) -> MaskRCNN:
    """A small Mask R-CNN whose scores lie so far apart that rounding does not change their order."""
    torch.manual_seed(1)
    backbone = Backbone(*request.param, 32)
    options = {"anchor_sizes": (16, 24, 32, 48, 64), "channels": 16, "num_proposals": 40, "num_sampled": 8}
    net = MaskRCNN(backbone, 3, min_size=96, max_size=160, **options)
    net.roi_heads.detections_per_img = 5
    with torch.no_grad():
        net.rpn.head.cls_logits.weight.mul_(100)
        net.roi_heads.box_predictor.cls_score.weight.mul_(10)
    return net


def run_onnx(file: Path, pixels: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(output) for output in session.run(["logits"], {"pixels": pixels.numpy()})]


def run_torchscript(file: Path, pixels: Tensor) -> list[Tensor]:
    return list(torch.jit.load(file)(pixels))


@pytest.mark.parametrize(("export", "run"), [(export_onnx, run_onnx), (export_torchscript, run_torchscript)])
def test_a_semantic_export_takes_pixels_of_any_size_and_batch(
    deeplab: DeepLabV2, tmp_path: Path, export: Export, run: Callable[[Path, Tensor], list[Tensor]]
) -> None:
    answer = export(deeplab, tmp_path / "new" / "net")
    assert answer["file"] == str(tmp_path / "new" / "net")
    assert answer["bytes"] == (tmp_path / "new" / "net").stat().st_size
    assert answer["errors"].keys() == {"97x129", "128x160", "65x64"}
    assert max(answer["errors"].values()) <= TOLERANCE
    assert deeplab.training, "the caller's network is left as it is"

    pixels = torch.randint(256, (3, 3, 50, 71)).float()
    (logits,) = run(tmp_path / "new" / "net", pixels)
    net = deeplab.eval()
    with torch.no_grad():
        torch.testing.assert_close(logits, net(net.backbone.normalize(pixels)), atol=TOLERANCE, rtol=0)
    deeplab.train()


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deeplabv2", {}),
        ("deeplabv3plus", {"dsc": True}),
        ("pspnet", {}),
        ("saliency-deeplabv3plus", {}),
        ("cooperative-danet", {"connections": "same-layer"}),
        ("cooperative-deeplabv3plus", {"connections": "multi-layer", "separable_decoder": True}),
    ],
)
def test_networks_on_tensorflows_mobilenet_export_at_even_and_odd_sizes(
    name: str, options: dict[str, Any], tmp_path: Path, real_data: Path
) -> None:
    torch.manual_seed(0)
    backbone = BackboneChoice("mobilenet_v2", real_data / "weights" / "mobilenet_v2_imagenet_fp16.pth")
    net = NETWORKS[name].build(21, backbone, options).eval()
    assert net.backbone.convention == "tensorflow", "pads by whether a size is even"
    export_onnx(net, tmp_path / "net")
    differences = {}
    for size in ((96, 128), (97, 129), (96, 129), (97, 128), (33, 47), (375, 500)):
        pixels = torch.randint(256, (1, 3, *size)).float()
        with torch.no_grad():
            expected = net(net.normalize(pixels))
        (logits,) = run_onnx(tmp_path / "net", pixels)
        differences[size] = float((logits - expected).abs().max() / expected.abs().max())
        assert (logits.argmax(1) == expected.argmax(1)).float().mean() > 0.999, size
    print(f"{name}: the largest difference is {max(differences.values()):.2g} of the largest logit: {differences}")
    assert max(differences.values()) <= TOLERANCE, differences


@FORMATS
@pytest.mark.parametrize("scale", [1e-9, 30.0])
def test_an_export_agrees_whatever_the_size_of_the_logits(tmp_path: Path, export: Export, scale: float) -> None:
    torch.manual_seed(0)
    net = DeepLabV2(Backbone("mobilenet_v2", "tensorflow", 8), num_classes=4)
    scale_logits(net, scale)
    answer = export(net, tmp_path / "net")
    assert max(answer["errors"].values()) <= TOLERANCE


def scale_logits(net: DeepLabV2, scale: float) -> None:
    """Give a network features of a trained one's size, and logits of about `scale`."""
    net.eval()
    with torch.no_grad():
        # Batch norm of an untrained network leaves less and less of its input.
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        net.train()
        pixels = torch.randint(256, (2, 3, 97, 129)).float()
        net(net.backbone.normalize(pixels))
        net.eval()
        largest = net(net.backbone.normalize(pixels)).abs().max()
        last = [module for module in net.modules() if isinstance(module, nn.Conv2d) and module.out_channels == 4]
        for conv in last:
            conv.weight.mul_(scale / largest)
            if conv.bias is not None:
                conv.bias.mul_(scale / largest)


@pytest.mark.parametrize("scale", [1e-9, 30.0])
def test_an_export_that_pads_in_another_way_is_refused(
    tmp_path: Path, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: SamePadConv2d, input: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(
            reversed(input.shape[2:]), reversed(self.kernel_size), reversed(self.stride), strict=True
        ):
            # An exported graph divides towards zero.
            total = (-(-size // stride) - 1) * stride + kernel - size
            pads += [total // 2, total - total // 2]
        return nn.Conv2d.forward(self, nn.functional.pad(input, pads))

    torch.manual_seed(0)
    net = DeepLabV2(Backbone("mobilenet_v2", "tensorflow", 8), num_classes=4)
    scale_logits(net, scale)
    monkeypatch.setattr(SamePadConv2d, "forward", forward)
    with pytest.raises(ArtifactError, match=r"the exported graph and the network differ|cannot be run"):
        export_onnx(net, tmp_path / "net")


@FORMATS
@pytest.mark.parametrize(
    ("name", "input"),
    [("segnet-basic-single-channel-decoder", "local_contrast"), ("fcn-basic", "imagenet"), ("segnet", "imagenet")],
)
def test_networks_of_scenes_are_exported_with_their_pooling_and_their_input(
    name: str, input: Input, export: Export, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = NETWORKS[name].build(4, BackboneChoice("vgg16"), {"input": input}).eval()
    net.image_size = (96, 128)
    answer = export(net, tmp_path / "net", ("road", "sky", "car", "tree"))
    assert max(answer["errors"].values()) <= (UNPOOLING_TOLERANCE if net.unpools else TOLERANCE)
    # Of one colour, unpooling may go wrong, and that is told; without it nothing may.
    assert 0 <= answer["flat_error"] <= (1 if net.unpools else TOLERANCE)
    # What the terminal said is with the file.
    if export is export_onnx:
        said = onnxruntime.InferenceSession(str(tmp_path / "net")).get_modelmeta().custom_metadata_map
    else:
        files = {"metadata.json": ""}
        torch.jit.load(tmp_path / "net", _extra_files=files)
        said = json.loads(files["metadata.json"])
    assert {name: json.loads(value) for name, value in said.items()} == {
        "input": "float32, RGB in [0, 255]",
        "classes": ["road", "sky", "car", "tree"],
        "image_size": [96, 128],
        "least_side": 32 if name == "segnet" else 16,
    }


@FORMATS
@pytest.mark.parametrize(
    ("name", "options", "outputs"),
    [("saliency-deeplabv3plus", {}, 2), ("cooperative-danet", {"connections": "multi-layer"}, 1)],
)
def test_networks_of_several_outputs_or_parts_are_exported(
    tmp_path: Path, export: Export, name: str, options: dict[str, Any], outputs: int
) -> None:
    torch.manual_seed(0)
    net = NETWORKS[name].build(4, BackboneChoice("resnet18"), options)
    answer = export(net, tmp_path / "net")
    assert all(error <= TOLERANCE for error in answer["errors"].values())
    pixels = torch.rand(1, 3, 70, 50) * 255
    if export is export_onnx:
        session = onnxruntime.InferenceSession(str(tmp_path / "net"), providers=["CPUExecutionProvider"])
        found = session.run(None, {"pixels": pixels.numpy()})
    else:
        found = torch.jit.load(tmp_path / "net")(pixels)
    assert [tuple(one.shape) for one in found] == [(1, 4, 70, 50), (1, 70, 50)][:outputs]


@FORMATS
def test_a_mask_rcnn_export_agrees_at_all_sizes(maskrcnn: MaskRCNN, tmp_path: Path, export: Export) -> None:
    answer = export(maskrcnn, tmp_path / "net")
    assert len(answer["errors"]) == len(SIZES)
    assert max(answer["errors"].values()) <= TOLERANCE


@FORMATS
def test_an_export_that_differs_is_refused_and_leaves_the_folder_as_it_was(
    deeplab: DeepLabV2, tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "net"
    file.write_bytes(b"an earlier export")
    monkeypatch.setattr(torch.onnx, "export", _after(torch.onnx.export, _shift_logits))
    monkeypatch.setattr(torch.jit, "save", _after(torch.jit.save, _shift_logits))
    with pytest.raises(ArtifactError, match=r"net: not written: at 97x129 .* differ by [\d.e+]+, expected at most 0"):
        export(deeplab, file)
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert file.read_bytes() == b"an earlier export"


@FORMATS
@pytest.mark.parametrize(("step", "where"), [(0.5, "at 97x129"), (1e-6, "of one colour")])
def test_an_export_that_differs_on_smooth_images_alone_is_refused(
    tmp_path: Path, export: Export, monkeypatch: pytest.MonkeyPatch, step: float, where: str
) -> None:
    net = _OfSmoothImages(step)
    monkeypatch.setattr(torch.onnx, "export", _after(torch.onnx.export, _shift_smooth))
    monkeypatch.setattr(torch.jit, "trace", _after(torch.jit.trace, _shift_smooth))
    with pytest.raises(ArtifactError, match=rf"net: not written: {where} .* differ by"):
        export(net, tmp_path / "net")


@FORMATS
def test_an_export_that_knows_one_size_only_is_refused(tmp_path: Path, export: Export) -> None:
    with pytest.raises(ArtifactError, match=r"not written: at 128x160 .* differ by inf"):
        export(_OfOneSize(), tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


class _OfOneSize(nn.Module):
    """Draws logits at the size that it was traced at."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone("resnet18")
        self.head = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (int(size) for size in x.shape[2:])
        return nn.functional.interpolate(self.head(x), (height, width))


class _OfSmoothImages(nn.Module):
    """Once it is exported, adds to the logits of images whose neighbouring pixels differ by less than a step."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.backbone = Backbone("resnet18")
        self.head = nn.Conv2d(3, 2, 1)
        self.step, self.exported = step, False

    def forward(self, x: Tensor) -> Tensor:
        if self.exported and x.diff(dim=-1).abs().median() < self.step:
            return self.head(x) + 1
        return self.head(x)


def _after(function: Callable[..., Any], change: Callable[[nn.Module], None]) -> Callable[..., Any]:
    """Return a function that changes the module behind the one it exports."""

    def changed(module: nn.Module, *args: Any, **options: Any) -> Any:
        exported = function(module, *args, **options)
        change(module)
        return exported

    return changed


def _shift_smooth(graph: nn.Module) -> None:
    net = graph.get_submodule("net")
    assert isinstance(net, _OfSmoothImages)
    net.exported = True


def _shift_logits(graph: nn.Module) -> None:
    with torch.no_grad():
        graph.get_parameter("net.classifiers.0.bias").add_(0.01)
