"""Networks of timm as backbones: five feature levels at the strides that the heads expect.

The features are those of timm's `forward_intermediates`, which its `features_only` calls too. Of a network with maps at
several strides they are its last five; of a vision transformer the patch tokens behind five of its blocks, evenly
spaced, behind its last norm. The last level is what the network classifies by, where that is a map.

A network that has dilated convolutions runs at output stride 8 or 16; unlike our own backbones it is dilated at 16
too. Another one runs at its own strides, such as the 16 or 14 pixels of a patch. Where its strides are not those of the
levels, its maps are averaged or interpolated, so that a cell lies where the level's stride says.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones import TIMM, OutputStride
from models.backbones.base import (
    NORMALIZATIONS,
    Backbone,
    Normalization,
    _difference,
    _shapes,
    load_imagenet_state,
)
from models.backbones.timm_names import full_name, load_timm

log = logging.getLogger(__name__)
NUM_LEVELS = 5
LEVEL_STRIDES = (4, 4, 8, 16, 32)
# Keywords of some networks, which then take images of any size.
_ANY_SIZE = {"dynamic_img_size": True, "strict_img_size": False}


@dataclass(frozen=True)
class Layout:
    """How the five levels come from a network of timm, as a probe found it.

    Attributes:
        options: Keywords that the network is built with, beside its name.
        indices: Number of the network's intermediate feature that each level is made from; ascending.
        channels: Channels of these features.
        strides: Their strides in pixels.
        modules: Names of the modules that return them.
        whole: The last level is the final feature of the network, behind its last intermediate one.
        idle: Names of parameters that no level depends on, such as those of a head behind the pooling.
    """

    options: Mapping[str, Any]
    indices: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    modules: tuple[str, ...]
    whole: bool
    idle: tuple[str, ...]


@functools.cache
def layout_of(name: str, output_stride: OutputStride) -> Layout:
    """Return the layout of a network, found without allocating its weights.

    Two images without values, of other sizes and shapes, go through the network.

    Args:
        name: "timm:NAME".
        output_stride: Stride that the last feature shall have, if the network can.

    Raises:
        ValueError: timm or the network is not there; it does not take images of any size; or a feature has another
            stride than timm declares.
    """
    name = full_name(name)
    with torch.device("meta"), torch.enable_grad():
        net, options = _build(name, output_stride)
        declared = [each["reduction"] for each in net.feature_info]
        indices = _indices(declared)
        unit = max(declared)
        sizes = ((4 * unit, 6 * unit), (7 * unit, 5 * unit))
        try:
            probed = [net.forward_intermediates(torch.empty(1, 3, *size), norm=True) for size in sizes]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise ValueError(f"{name}: expected a network for images of any size, but {error!s:.200}") from None
    for (height, width), (_, maps) in zip(sizes, probed, strict=True):
        for k in dict.fromkeys(indices):
            expected = (height // declared[k], width // declared[k])
            if (found := tuple(maps[k].shape[2:])) != expected:
                message = f"{name}: feature {k} of a {height} x {width} image: expected {expected} cells, as timm"
                raise ValueError(f"{message} declares stride {declared[k]}, found {found}")
    final, maps = probed[0]
    # Of some networks the final feature is a list, or tokens.
    is_map = isinstance(final, Tensor) and final.ndim == 4
    whole = is_map and final.shape[1] == net.num_features and final.shape[2:] == maps[-1].shape[2:]
    levels = [maps[k] for k in indices[:-1]] + [final if whole else maps[-1]]
    return Layout(
        options,
        indices,
        channels=tuple(level.shape[1] for level in levels),
        strides=tuple(declared[k] for k in indices),
        modules=tuple(net.feature_info[k]["module"] for k in indices),
        whole=whole,
        idle=_idle(net, levels),
    )


def _idle(net: nn.Module, levels: list[Tensor]) -> tuple[str, ...]:
    trained = ((name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad)
    names, parameters = zip(*trained, strict=True)
    with torch.device("meta"), torch.enable_grad():
        total = torch.stack([level.sum() for level in levels]).sum()
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return tuple(name for name, gradient in zip(names, gradients, strict=True) if gradient is None)


def _build(name: str, output_stride: OutputStride) -> tuple[Any, dict[str, Any]]:
    """Return a network without its classification layer, and the keywords that it was built with."""
    create = functools.partial(load_timm().create_model, name.removeprefix(TIMM), num_classes=0)
    net = create()
    accepted = inspect.signature(type(net).__init__).parameters
    options: dict[str, Any] = {key: value for key, value in _ANY_SIZE.items() if key in accepted}
    if output_stride < LEVEL_STRIDES[-1] and "output_stride" in accepted:
        strided = {**options, "output_stride": output_stride}
        try:
            return create(**strided).eval(), strided
        except (AssertionError, RuntimeError, ValueError) as error:
            # Some take the keyword and refuse all values but 32.
            log.info("%s runs at its own strides: it refuses output stride %d (%s)", name, output_stride, error)
    return (create(**options) if options else net).eval(), options


def _indices(strides: list[int]) -> tuple[int, ...]:
    """Return which features, of these strides, the five levels are made from."""
    count = len(strides)
    if len(set(strides)) == 1 and count >= NUM_LEVELS:
        # A transformer has a feature behind each block.
        return tuple(-(-count * k // NUM_LEVELS) - 1 for k in range(1, NUM_LEVELS + 1))
    return tuple(max(0, count - NUM_LEVELS + k) for k in range(NUM_LEVELS))


class NormAct(nn.Module):
    """A plain batch norm, and the activation that timm's batch norms have inside.

    What synchronises or recomputes batch norms would lose that activation. And whatever stands before this module is
    left as it is by `models.inference`, which knows the blocks of our own backbones only.
    """

    def __init__(self, found: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(
            found.num_features, found.eps, found.momentum, found.affine, found.track_running_stats
        )
        self.norm.weight, self.norm.bias = found.weight, found.bias
        for name, values in found.named_buffers(recurse=False):
            setattr(self.norm, name, values)
        inside = dict(found.named_children())
        self.drop, self.act = (inside.get(name, nn.Identity()) for name in ("drop", "act"))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(self.norm(x)))


def _part_norms(trunk: nn.Module) -> None:
    for parent in list(trunk.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, child_name, NormAct(child))


@dataclass
class _GradientStop:
    """Forward hook that detaches what a module returns, while it is on."""

    is_on: bool = field(default=False)

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        return output.detach() if self.is_on and isinstance(output, Tensor) else output


class TimmBackbone(Backbone):
    """Five feature levels of a network of timm; `Backbone` says what they are.

    Attributes:
        name: "timm:NAME.TAG"; the tag decides the input normalisation.
        convention: The same: a network has an input of its own, from timm's `pretrained_cfg`.
        layout: How the levels come from the network.

    Args:
        name: "timm:NAME".
        output_stride: Stride of the last level; the network has it itself where it can.

    Raises:
        ValueError: As of `layout_of`.
    """

    def __init__(self, name: str, output_stride: OutputStride = 16) -> None:
        super(Backbone, self).__init__()
        self.name = full_name(name)
        self.pretrained = False
        self.layout = layout_of(self.name, output_stride)
        self.strides = tuple(min(stride, output_stride) for stride in LEVEL_STRIDES)
        self.channels = self.layout.channels  # pyright: ignore[reportAttributeAccessIssue]
        self.dilated = "output_stride" in self.layout.options
        architecture = self.name.removeprefix(TIMM)
        self.trunk: Any = load_timm().create_model(architecture, num_classes=0, **self.layout.options)
        for idle in self.layout.idle:
            # Processes that train together wait for the gradient of every parameter that is trained.
            self.trunk.get_parameter(idle).requires_grad_(False)
        _part_norms(self.trunk)
        self.stops = [_GradientStop() for _ in self.layout.modules]
        parts = dict(self.trunk.named_modules())
        for module, stop in zip(self.layout.modules, self.stops, strict=True):
            # Some features have the name of no module, as the stem of HRNet: its gradient is not stopped.
            if module in parts:
                parts[module].register_forward_hook(stop)
        pixels = _normalization(architecture)
        self.convention = self.name  # pyright: ignore[reportAttributeAccessIssue]
        NORMALIZATIONS[self.convention] = pixels
        self.register_buffer("mean", torch.tensor(pixels.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.std).view(1, 3, 1, 1), persistent=False)

    def levels(self) -> list[nn.Module]:
        """Return nothing: a network of timm has no parts that run one after the other."""
        return []

    def forward(self, x: Float[Tensor, "b 3 h w"], stop_gradient_after: int = 0) -> list[Tensor]:
        """Return the five levels; see `Backbone.forward`.

        The input is padded with zeros at bottom and right to whole cells of all strides.
        """
        height, width = x.shape[-2:]
        x = F.pad(x, (0, self._whole_cells(width) - width, 0, self._whole_cells(height) - height))
        for k, stop in enumerate(self.stops, start=1):
            stop.is_on = k == stop_gradient_after
        taken = sorted(set(self.layout.indices))
        final, maps = self.trunk.forward_intermediates(x, indices=taken, norm=True)
        levels = [maps[taken.index(k)] for k in self.layout.indices]
        if self.layout.whole:
            levels[-1] = final
        sizes = (((height + stride - 1) // stride, (width + stride - 1) // stride) for stride in self.strides)
        return [
            at_stride(level, own, stride)[..., :rows, :columns]
            for level, own, stride, (rows, columns) in zip(
                levels, self.layout.strides, self.strides, sizes, strict=True
            )
        ]

    def _whole_cells(self, side: int) -> int:
        for cell in (self.strides[-1], max(self.layout.strides)):
            side = (side + cell - 1) // cell * cell
        return side

    def load(self, state: Mapping[str, Tensor], source: str) -> None:
        """Load a state dict of timm's network; its classification layer, which the backbone lacks, is left out.

        Raises:
            ValueError: Its keys or shapes are not those of the backbone; the message names `source`.
        """
        parted = {name for name, module in self.trunk.named_modules() if isinstance(module, NormAct)}
        with torch.device("meta"):
            options = {key: value for key, value in self.layout.options.items() if key in _ANY_SIZE}
            full = load_timm().create_model(self.name.removeprefix(TIMM), **options).state_dict().keys()
        own: dict[str, Tensor] = {}
        for key, value in state.items():
            module, _, tensor = key.rpartition(".")
            own[f"{module}.norm.{tensor}" if module in parted else key] = value
        kept = self.trunk.state_dict()
        own = {key: value for key, value in own.items() if key in kept or key not in full}
        wanted, given = _shapes(kept), _shapes(own)
        if wanted != given:
            raise ValueError(f"{source}: not the weights of {self.name}{_difference(wanted, given)}")
        self.trunk.load_state_dict(own, strict=True)
        self.pretrained = True


def _normalization(architecture: str) -> Normalization:
    found = load_timm().get_pretrained_cfg(architecture)
    # Networks of which timm has no weights have no record of their input.
    mean, std = (found.mean, found.std) if found else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    (red, green, blue), (a, b, c) = ([255 * value for value in values] for values in (mean, std))
    return Normalization((red, green, blue), (a, b, c))


def at_stride(x: Float[Tensor, "b c h w"], own: int, stride: int) -> Float[Tensor, "b c _ _"]:
    """Return a map of one stride at another: averaged over whole cells, or interpolated, corners aligned."""
    if own == stride:
        return x
    if stride % own == 0:
        return F.avg_pool2d(x, stride // own)
    return F.interpolate(x, scale_factor=own / stride, mode="bilinear", align_corners=False)


def build_timm_backbone(
    name: str, weights: str | Path | None = None, *, output_stride: OutputStride = 16
) -> TimmBackbone:
    """Build a network of timm as a backbone, with weights where asked for, and log where its strides are not ours.

    Args:
        name: "timm:NAME" or "timm:NAME.TAG".
        weights: A file with timm's state dict (`.pth`, or `.safetensors`) or of a network trained on the backbone;
            "imagenet" for timm's own download of the weights that the tag names; or None.
        output_stride: 32, 16 or 8.

    Raises:
        ValueError: timm or the network is not there; it does not take images of any size; or the weights cannot be
            read or downloaded, or are not those of the network.
    """
    backbone = TimmBackbone(name, output_stride)
    own, strides = backbone.layout.strides, backbone.strides
    if own[2:] != strides[2:]:
        log.info(
            "%s: its features lie %s pixels apart; they are interpolated to the levels' strides %s",
            backbone.name,
            ", ".join(map(str, own)),
            ", ".join(map(str, strides)),
        )
    if weights is not None:
        state = _download(backbone) if str(weights) == "imagenet" else _read(backbone.name, weights)
        backbone.load(state, source=str(weights))
    return backbone


def _read(name: str, weights: str | Path) -> dict[str, Tensor]:
    if not Path(weights).is_file():
        raise ValueError(f"{weights}: no such weights file; of networks of timm expected a file, or imagenet")
    try:
        return load_imagenet_state(name, weights)
    except AttributeError:
        message = "expected a state dict of tensors by timm's names, as timm's own files have it"
        raise ValueError(f"{weights}: {message}") from None


def _download(backbone: TimmBackbone) -> Mapping[str, Tensor]:
    create, architecture = load_timm().create_model, backbone.name.removeprefix(TIMM)
    options = {key: value for key, value in backbone.layout.options.items() if key in _ANY_SIZE}
    try:
        return create(architecture, pretrained=True, **options).state_dict()
    # What the hub's client raises without a network depends on its version.
    except Exception as error:
        message = f"{backbone.name}: timm's weights cannot be downloaded ({type(error).__name__}: {error!s:.200})"
        raise ValueError(f"{message}; give a file by --weights") from error
