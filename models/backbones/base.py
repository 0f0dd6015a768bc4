"""The five feature levels of image classification networks, whose last down-samplings may be left out.

At output stride 32 the network is as it was trained. At 16 the last down-sampling has stride 1 and nothing is dilated
(Ahn et al. 2019, Sec. 3), unless that is asked for (Chen et al. 2018, Sec. 3.1). At 8 so has the one before, and what
follows is dilated, as DeepLab v2 has it (Chen et al. 2017, Sec. 3.1).
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, cast, get_args

import torch
import torchvision.models as tv
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers import DilatedDepthwise
from models.pretrained import ImageNetWeights, imagenet_version, recorded_network

log = logging.getLogger(__name__)
InputConvention = Literal["torchvision", "tensorflow"]
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", "densenet121")
OUTPUT_STRIDE = 16
OutputStride = Literal[8, 16, 32]
Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Normalization:
    """Input is `(pixel - mean) / std`, per RGB channel, for pixels in [0, 255]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


NORMALIZATIONS: dict[InputConvention, Normalization] = {
    "torchvision": Normalization((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "tensorflow": Normalization((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}


class SamePadConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME does: what is odd goes to the bottom and the right.

    For a 3 x 3 kernel at stride 2 that is (0, 1) on an even side and (1, 1) on an odd one.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> SamePadConv2d:
        """Return a copy of `conv` that shares its parameters."""
        same = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # pyright: ignore[reportArgumentType]
            conv.stride,  # pyright: ignore[reportArgumentType]
            groups=conv.groups,
            bias=conv.bias is not None,
        )
        same.weight, same.bias = conv.weight, conv.bias
        return same

    def forward(self, input: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(
            reversed(input.shape[2:]), reversed(self.kernel_size), reversed(self.stride), strict=True
        ):
            # Not -(-size // stride): an exported ONNX graph divides towards zero.
            total = max(((size + stride - 1) // stride - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(input, pads))


class Backbone(nn.Module):
    """Five feature levels of a classification network.

    Attributes:
        channels: Of the five levels.
        strides: Of the five levels: 4, 4, 8, then 8, 8 or 16, 16 or 16, 32, by the output stride.
        convention: The input normalisation and padding that its weights were trained with.
        pretrained: Whether ImageNet weights were loaded; if not, batch norm has to be trained.
    """

    def __init__(
        self,
        name: str,
        convention: InputConvention = "torchvision",
        output_stride: OutputStride = 16,
        *,
        dilated: bool = False,
    ) -> None:
        super().__init__()
        if name not in BACKBONES:
            raise ValueError(f"unknown backbone {name!r}; expected one of {', '.join(BACKBONES)}")
        self.name = name
        self.convention: InputConvention = convention
        self.pretrained = False
        self.strides = (4, 4, 8, min(output_stride, 16), output_stride)
        self.dilated = dilated
        build = {"mobilenet_v2": _mobilenet, "densenet121": _densenet}.get(name, _resnet)
        self.trunk = build(name, output_stride, dilated)
        if convention == "tensorflow":
            _pad_as_tensorflow(self.trunk)
        self.channels = _channels(self.trunk)
        mean_std = NORMALIZATIONS[convention]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean_std.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(mean_std.std).view(1, 3, 1, 1), persistent=False)

    def levels(self) -> list[nn.Module]:
        """Return the five parts whose outputs are the feature levels, to be run one after the other."""
        t = self.trunk
        if self.name == "mobilenet_v2":
            cuts = (0, 3, 4, 7, 14, 19)
            return [t.features[a:b] for a, b in itertools.pairwise(cuts)]  # pyright: ignore
        if self.name == "densenet121":
            cuts = (0, 4, 5, 7, 9, 13)
            return [t.features[a:b] for a, b in itertools.pairwise(cuts)]  # pyright: ignore
        return [nn.Sequential(t.conv1, t.bn1, t.relu, t.maxpool), t.layer1, t.layer2, t.layer3, t.layer4]  # pyright: ignore

    def normalize(self, pixels: UInt8[Tensor, "b 3 h w"] | Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return RGB pixels in [0, 255] as the network's input."""
        return (pixels.float() - self.mean) / self.std

    def forward(self, x: Float[Tensor, "b 3 h w"], stop_gradient_after: int = 0) -> list[Tensor]:
        """Return the five levels [B, channels[k], ceil(H / strides[k]), ceil(W / strides[k])].

        Args:
            x: Normalised input.
            stop_gradient_after: Gradients stop behind this many levels; 0 for none.
        """
        features = []
        for k, level in enumerate(self.levels(), start=1):
            x = level(x)
            if k == stop_gradient_after:
                x = x.detach()
            features.append(x)
        return features


def build_backbone(
    name: str,
    weights: str | Path | None = None,
    convention: InputConvention | Literal["auto"] = "auto",
    output_stride: OutputStride = 16,
    *,
    dilated: bool = False,
) -> Backbone:
    """Build a backbone, with weights where asked for.

    Args:
        name: One of `BACKBONES`.
        weights: A file in torchvision's key layout or of a trained network, one of `ImageNetWeights` for torchvision's
            own download, or None.
        convention: Which input the weights expect. "auto" takes what `network.json` beside the file says; without
            such, TensorFlow's where every batch norm of the file is folded (mean 0, variance 1), as converted
            checkpoints have it, and torchvision's elsewhere.
        output_stride: 32, 16, or 8 with dilated convolutions.
        dilated: Dilate the last level at output stride 16 too.

    Raises:
        ValueError: The file's keys or shapes are not those of the network.
    """
    state = load_imagenet_state(name, weights) if weights is not None else None
    if convention == "auto":
        recorded = recorded_network(Path(weights)) if weights is not None else {}
        guessed = "tensorflow" if state is not None and _has_folded_norms(state) else "torchvision"
        convention = cast(InputConvention, recorded.get("convention", guessed))
    backbone = Backbone(name, convention, output_stride, dilated=dilated)
    if state is not None:
        load_trunk(backbone, state, source=str(weights))
    return backbone


def load_imagenet_state(name: str, weights: str | Path) -> dict[str, Tensor]:
    """Return a torchvision-layout state dict in float32, from a file or by torchvision's download.

    Raises:
        ValueError: The file is none, or what was downloaded is not what its name says.
    """
    if str(weights) in get_args(ImageNetWeights):
        state = _downloaded_state(name, f"IMAGENET1K_V{imagenet_version(name, str(weights))}")
    else:
        path = Path(weights)
        if not path.is_file():
            raise ValueError(f"{path}: no such weights file")
        try:
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(f"{path}: not a checkpoint of tensors ({error})") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{weights}: expected a state dict, got {type(state).__name__}")
    # The layouts of the reference's classifier and of our own.
    for prefix in ("resnet50.", "backbone.trunk."):
        if any(key.startswith(prefix) for key in state):
            state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def _downloaded_state(name: str, version: str) -> Mapping[str, Tensor]:
    """Return torchvision's weights of a network, downloaded unless they were before.

    The name of such a file ends with the first digits of its SHA-256, by which torch checks what it downloads, and
    nothing that it finds: a file that was cut off or replaced since is removed here, and downloaded again.
    """
    offered = tv.get_model_weights(name)[version]
    file = Path(torch.hub.get_dir()) / "checkpoints" / offered.url.rpartition("/")[2]
    if file.is_file() and not _sha256(file).startswith(file.stem.rpartition("-")[2]):
        log.warning("%s: its SHA-256 is not that of its name; it is removed and downloaded again", file)
        file.unlink()
    try:
        return offered.get_state_dict(progress=True, check_hash=True)
    except RuntimeError as error:
        if "invalid hash" not in str(error):
            raise
        raise ValueError(f"{offered.url}: expected torchvision's weights, but {error}; they were removed") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_trunk(backbone: Backbone, state: Mapping[str, Tensor], source: str) -> None:
    """Load a torchvision state dict; the classification layer, which the backbone lacks, is left out.

    Raises:
        ValueError: Its keys or shapes are not those of the backbone; the message names `source`.
    """
    state = {k: v for k, v in state.items() if not k.startswith(("fc.", "classifier."))}
    # torchvision's download of DenseNet has the names of an older torch.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", k): v for k, v in state.items()}
    wanted, given = _shapes(backbone.trunk.state_dict()), _shapes(state)
    if wanted != given:
        raise ValueError(f"{source}: not the weights of {backbone.name}{_difference(wanted, given)}")
    backbone.trunk.load_state_dict(state, strict=True)
    backbone.pretrained = True


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    # Files from before torch counted batches lack the count.
    return {key: value.shape for key, value in state.items() if not key.endswith("num_batches_tracked")}


def _difference(wanted: dict[str, torch.Size], given: dict[str, torch.Size]) -> str:
    """Say in a few words whose weights are given, or else how they differ from those that are wanted."""
    for name in BACKBONES:
        with torch.device("meta"):
            if _shapes(Backbone(name).trunk.state_dict()) == given:
                return f", but of {name}: choose --backbone {name}, or other weights"
    differences = {
        "missing": sorted(wanted.keys() - given.keys()),
        "unknown": sorted(given.keys() - wanted.keys()),
        "of another shape": sorted(key for key in wanted.keys() & given.keys() if wanted[key] != given[key]),
    }
    told = [f"{len(keys)} {kind} ({keys[0]}, ...)" for kind, keys in differences.items() if keys]
    return f", of {len(wanted)} tensors: {'; '.join(told)}"


def _has_folded_norms(state: Mapping[str, Tensor]) -> bool:
    means = [v for k, v in state.items() if k.endswith("running_mean")]
    variances = [v for k, v in state.items() if k.endswith("running_var")]
    return bool(means) and all((m == 0).all() for m in means) and all((v == 1).all() for v in variances)


def _resnet(name: str, output_stride: OutputStride, dilated: bool) -> nn.Module:
    net = tv.get_model(name, weights=None)
    assert isinstance(net, tv.ResNet)
    _remove_strides(net.layer3, net.layer4, output_stride, dilated)
    net.fc = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return net


def _remove_strides(third: nn.Module, last: nn.Module, output_stride: OutputStride, dilated: bool) -> None:
    """Let the parts at strides 16 and 32 run at 16 and 16, or, dilated, at 8 and 8, or leave them as they are."""
    if output_stride == 16:
        _remove_stride(last, 1, 2 if dilated else 1)
    elif output_stride == 8:
        _remove_stride(third, 1, 2)
        _remove_stride(last, 2, 4)


def _remove_stride(part: nn.Module, rate_before: int, rate: int) -> None:
    """Set a part's stride to 1. Its strided convolution keeps the rate of those before it, the others get `rate`.

    At every other pixel the part then computes what it did at its stride.
    """
    for conv in part.modules():
        if isinstance(conv, nn.Conv2d):
            own = rate_before if conv.stride == (2, 2) else rate
            conv.stride = (1, 1)
            if conv.kernel_size != (1, 1):
                conv.dilation = conv.padding = (own, own)


def _mobilenet(name: str, output_stride: OutputStride, dilated: bool) -> nn.Module:
    net = tv.get_model(name, weights=None)
    assert isinstance(net, tv.MobileNetV2)
    _remove_strides(net.features[7:14], net.features[14:], output_stride, dilated)
    _learn_dilated_fast(net)
    net.classifier = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return net


def _learn_dilated_fast(trunk: nn.Module) -> None:
    for parent in trunk.modules():
        for child_name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.groups > 1 and child.dilation != (1, 1):
                setattr(parent, child_name, DilatedDepthwise.of(child))


class _Mean(nn.Module):
    """The mean of 2 x 2 pixels that lie `rate` apart, at every pixel; beyond the border there are none."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            rate = min(self.rate, x.shape[axis])
            end = x.narrow(axis, x.shape[axis] - rate, rate)
            following = torch.cat([x.narrow(axis, rate, x.shape[axis] - rate), end], dim=axis)
            x = (x + following) / 2
        return x


def _densenet(name: str, output_stride: OutputStride, dilated: bool) -> nn.Module:
    net = tv.get_model(name, weights=None)
    assert isinstance(net, tv.DenseNet)
    parts = net.features
    # What halves the maps is the pooling at the end of a transition.
    if output_stride <= 16:
        parts.transition3.pool = _Mean(2 if output_stride == 8 else 1)  # pyright: ignore
        rate = 4 if output_stride == 8 else 2 if dilated else 1
        _remove_stride(parts.denseblock4, 1, rate)  # pyright: ignore[reportArgumentType]
    if output_stride == 8:
        parts.transition2.pool = _Mean(1)  # pyright: ignore
        _remove_stride(parts.denseblock3, 1, 2)  # pyright: ignore[reportArgumentType]
    # Maps of odd sizes are rounded up, and the last level ends with a rectifier, as the other networks' do; the levels
    # before it are what a block's layers have added, whose norm and rectifier belong to the next transition.
    for module in parts.modules():
        if isinstance(module, nn.AvgPool2d):
            module.ceil_mode = True
    parts.add_module("relu5", nn.ReLU(inplace=True))
    net.classifier = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    return net


def _channels(trunk: nn.Module) -> tuple[int, ...]:
    if isinstance(trunk, tv.MobileNetV2):
        return (24, 24, 32, 96, 1280)
    if isinstance(trunk, tv.DenseNet):
        return (64, 256, 512, 1024, 1024)
    assert isinstance(trunk, tv.ResNet)
    widths = []
    for layer in (trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4):
        convolutions = [module for module in layer[-1].modules() if isinstance(module, nn.Conv2d)]
        widths.append(convolutions[-1].out_channels)
    return (64, *widths)


def _pad_as_tensorflow(trunk: nn.Module) -> None:
    for parent in trunk.modules():
        for child_name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2) and child.kernel_size != (1, 1):
                setattr(parent, child_name, SamePadConv2d.of(child))
