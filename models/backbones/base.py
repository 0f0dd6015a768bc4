"""The five feature levels of image classification networks, whose last down-samplings may be left out.

At output stride 32 the network is as it was trained. At 16 the last down-sampling has stride 1 and nothing is dilated
(Ahn et al. 2019, Sec. 3), unless that is asked for (Chen et al. 2018, Sec. 3.1). At 8 so has the one before, and what
follows is dilated, as DeepLab v2 has it (Chen et al. 2017, Sec. 3.1).
"""

from __future__ import annotations

import hashlib
import logging
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import torch
import torchvision.models as tv
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones import BACKBONES, OutputStride, is_timm
from models.backbones.family import Family
from models.pretrained import ImageNetWeights, imagenet_version, recorded_network

log = logging.getLogger(__name__)
InputConvention = Literal["torchvision", "tensorflow"]
OUTPUT_STRIDE = 16


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
        channels: Channels of the five levels.
        strides: Strides of the five levels: 4, 4, 8, then 8, 8 or 16, 16 or 16, 32, by the output stride.
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
        self.strides = BACKBONES[name].strides(output_stride)
        self.channels = BACKBONES[name].channels
        self.dilated = dilated
        self.trunk = _build_trunk(name, output_stride, dilated)
        if convention == "tensorflow":
            _pad_as_tensorflow(self.trunk)
        mean_std = NORMALIZATIONS[convention]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean_std.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(mean_std.std).view(1, 3, 1, 1), persistent=False)

    def levels(self) -> list[nn.Module]:
        """Return the five parts whose outputs are the feature levels, to be run one after the other."""
        return family_of(self.name).levels(self.trunk)

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
        name: One of `models.backbones.BACKBONES`, or "timm:NAME" for a network of timm.
        weights: A file in torchvision's key layout or of a trained network, one of `ImageNetWeights` for torchvision's
            own download, or None. Of networks of timm, see `models.backbones.timm_networks.build_timm_backbone`.
        convention: Which input the weights expect. "auto" takes what `network.json` beside the file says; without
            such, TensorFlow's where every batch norm of the file is folded (mean 0, variance 1), as converted
            checkpoints have it, and torchvision's elsewhere.
        output_stride: 32, 16, or 8 with dilated convolutions.
        dilated: Dilate the last level at output stride 16 too.

    Raises:
        ValueError: The file's keys or shapes are not those of the network; or timm is not installed, or has no such
            network.
    """
    if is_timm(name):
        # Who has no such backbone needs no timm.
        from models.backbones.timm_networks import build_timm_backbone

        return build_timm_backbone(name, weights, output_stride=output_stride)
    state = load_imagenet_state(name, weights) if weights is not None else None
    if convention == "auto":
        recorded = recorded_network(Path(weights)) if weights is not None else {}
        guessed = "tensorflow" if state is not None and _has_folded_norms(state) else "torchvision"
        convention = cast(InputConvention, recorded.get("convention", guessed))
    backbone = Backbone(name, convention, output_stride, dilated=dilated)
    if state is not None:
        load_trunk(backbone, state, source=str(weights))
    return backbone


@dataclass(frozen=True)
class BackboneChoice:
    """Backbone and weights that were chosen; the network that is built on it chooses the output stride.

    Attributes:
        name: See `build_backbone`.
        weights: See `build_backbone`.
    """

    name: str
    weights: str | Path | None = None

    def __call__(self, *, output_stride: OutputStride, dilated: bool = False) -> Backbone:
        """Return the backbone."""
        return build_backbone(self.name, self.weights, output_stride=output_stride, dilated=dilated)


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
    own = family_of(backbone.name).read(state)
    wanted, given = _shapes(backbone.trunk.state_dict()), _shapes(own)
    if wanted != given:
        told = _owner(state) or _difference(wanted, given)
        raise ValueError(f"{source}: not the weights of {backbone.name}{told}")
    backbone.trunk.load_state_dict(own, strict=True)
    backbone.pretrained = True


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    # Files from before torch counted batches lack the count.
    return {key: value.shape for key, value in state.items() if not key.endswith("num_batches_tracked")}


def family_of(name: str) -> Family:
    """Return what builds a backbone and reads its weights."""
    return pkgutil.resolve_name(BACKBONES[name].family)


def _build_trunk(name: str, output_stride: OutputStride, dilated: bool) -> nn.Module:
    """Return a backbone's network; on the meta device, where it is the default, also of what has values elsewhere."""
    build = family_of(name).build
    if torch.get_default_device().type != "meta":
        return build(name, output_stride, dilated)
    try:
        trunk = build(name, output_stride, dilated)
    except RuntimeError:
        # Some constructors read values of tensors, as torchvision's RegNet does: these are on the CPU alone.
        with torch.device("cpu"):
            trunk = build(name, output_stride, dilated)
    return trunk.to("meta")


def _owner(state: Mapping[str, Tensor]) -> str:
    """Say in a few words whose weights are given; nothing where they are of no backbone."""
    for name in BACKBONES:
        with torch.device("meta"):
            wanted = _shapes(Backbone(name).trunk.state_dict())
        if wanted == _shapes(family_of(name).read(state)):
            return f", but of {name}: choose --backbone {name}, or other weights"
    return ""


def _difference(wanted: dict[str, torch.Size], given: dict[str, torch.Size]) -> str:
    """Say in a few words how tensors differ from those that are wanted."""
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


def _pad_as_tensorflow(trunk: nn.Module) -> None:
    for parent in trunk.modules():
        for child_name, child in parent.named_children():
            if isinstance(child, nn.Conv2d) and child.stride == (2, 2) and child.kernel_size != (1, 1):
                setattr(parent, child_name, SamePadConv2d.of(child))
