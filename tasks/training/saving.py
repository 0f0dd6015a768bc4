"""Saving a trained network as an artifact, and building it again from one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from data.dataset import DatasetError, Problem
from data.formats.images import max_pixels
from data.validation import MAX_CLASSES
from models.affinitynet.network import AffinityNet
from models.backbones import OutputStride, is_timm
from models.backbones.base import Backbone
from models.cam import CAMNet
from models.irnet import IRNet
from models.maskrcnn import FeaturePyramid, MaskRCNN
from models.segmenter import Segmenter, build_network

Net = TypeVar("Net", bound=nn.Module)
TENSORS = "network.safetensors"


def save_network(net: CAMNet | IRNet | MaskRCNN | Segmenter, folder: Path, **options: Any) -> None:
    """Write `network.safetensors` (every tensor) and `network.json` (how to build the module, with these options)."""
    state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    save_file(state, folder / TENSORS)
    (folder / "network.json").write_text(json.dumps(_recipe(net, options), indent=1))


def _recipe(net: CAMNet | IRNet | MaskRCNN | Segmenter, options: dict[str, Any]) -> dict[str, Any]:
    backbone = net.backbone.body if isinstance(net.backbone, FeaturePyramid) else net.backbone
    recipe: dict[str, Any] = {"num_classes": None if isinstance(net, IRNet) else net.num_classes, "options": options}
    if isinstance(net, Segmenter):
        recipe |= {"network": net.name, "options": dict(net.options), "image_size": net.image_size}
    if isinstance(backbone, Backbone):
        recipe |= {
            "backbone": backbone.name,
            "convention": backbone.convention,
            "pretrained": backbone.pretrained,
            "output_stride": backbone.strides[-1],
        }
    return recipe


def load_classifier(folder: Path, device: str = "cpu") -> CAMNet:
    """Return the classifier of an artifact, in evaluation mode."""
    with _as_saved(folder):
        recipe = _read_recipe(folder)
        net = CAMNet(_backbone(recipe), recipe["num_classes"], **recipe.get("options", {}))
    return _filled(net, folder, device)


def load_irnet(folder: Path, device: str = "cpu") -> IRNet:
    """Return the IRNet of an artifact, in evaluation mode."""
    with _as_saved(folder):
        net = IRNet(_backbone(_read_recipe(folder)))
    return _filled(net, folder, device)


def load_affinitynet(folder: Path, device: str = "cpu") -> AffinityNet:
    """Return the AffinityNet of an artifact, in evaluation mode."""
    with _as_saved(folder):
        net = AffinityNet(_backbone(_read_recipe(folder)))
    return _filled(net, folder, device)


# What the first version did not record of its one segmentation network, which sees images at their own size.
_FIRST_VERSION = {"models.deeplabv2:build": {"network": "deeplabv2", "image_size": None}}


def load_network(folder: Path, model: str, device: str = "cpu") -> nn.Module:
    """Return the network of an artifact of `tasks.networks`, in evaluation mode.

    Args:
        folder: Folder of the artifact.
        model: See `models.segmenter.build_network`.
        device: Where it is to run.

    Raises:
        DatasetError: It is not as it was saved, or another version wrote it.
    """
    with _as_saved(folder):
        recipe = {**_FIRST_VERSION.get(model, {}), **_read_recipe(folder)}
        # A detector is saved without a name and a size of its images.
        name = recipe.get("network", "")
        build = lambda: build_network(  # noqa: E731
            model, name, recipe["num_classes"], _RecordedBackbone(recipe), recipe["options"]
        )
        # There nothing has values: a description of a giant costs nothing.
        with torch.device("meta"):
            blank = build()
        image_size = None
        if isinstance(blank, Segmenter):
            _refuse_lacking(folder, recipe)
            image_size = _image_size(recipe)
    _refuse_other_shapes(blank, folder)
    net = build()
    if isinstance(net, Segmenter):
        net.image_size = image_size
    return _filled(net, folder, device)


def load_segmenter(folder: Path, model: str, device: str = "cpu") -> Segmenter:
    """Return the semantic segmentation network of an artifact; see `load_network`."""
    net = load_network(folder, model, device)
    assert isinstance(net, Segmenter)
    return net


def _refuse_lacking(folder: Path, recipe: dict[str, Any]) -> None:
    if lacking := {"network", "image_size"} - recipe.keys():
        message = f"expected {', '.join(sorted(lacking))}, found none: another version wrote it; train it again"
        raise DatasetError([Problem(folder / "network.json", message)])


def _image_size(recipe: dict[str, Any]) -> tuple[int, int] | None:
    if not recipe["image_size"]:
        return None
    height, width = recipe["image_size"]
    whole = all(isinstance(side, int) and side > 0 for side in (height, width))
    if not whole or height * width > max_pixels():
        raise ValueError(f"an image_size of {recipe['image_size']!r} cannot be")
    return height, width


def _refuse_other_shapes(net: nn.Module, folder: Path) -> None:
    """See that a network's tensors are those of its file, before the network is made."""
    wanted = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    with _as_saved(folder, TENSORS), safe_open(folder / TENSORS, framework="pt") as file:
        names = file.keys()
        found = {name: file.get_slice(name).get_shape() for name in names}
        for name in sorted({*wanted, *found}):
            if wanted.get(name) != found.get(name):
                said = f"{wanted[name]} by network.json" if name in wanted else "none by network.json"
                raise ValueError(f"{name} is {found.get(name, 'not there')}, and {said}")


@dataclass(frozen=True)
class _RecordedBackbone:
    """The backbone that a recipe has, without values, at the output stride of the network that is built on it."""

    recipe: dict[str, Any]
    weights: None = None

    def __call__(self, *, output_stride: OutputStride, dilated: bool = False) -> Backbone:
        return _backbone({**self.recipe, "output_stride": output_stride}, dilated=dilated)


@contextlib.contextmanager
def _as_saved(folder: Path, name: str = "network.json") -> Iterator[None]:
    """Turn what is raised over a file that is not as `save_network` wrote it into a DatasetError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        found = f"{type(error).__name__}: {error!s:.200}"
        message = f"expected a network as it was saved, but {found}; another version wrote it: train it again"
        raise DatasetError([Problem(folder / name, message)]) from error


def _read_recipe(folder: Path) -> dict[str, Any]:
    file = folder / "network.json"
    recipe = json.loads(file.read_text())
    count = recipe["num_classes"]
    # Before anything of that size is made. Background and "(void)" may come on top of the classes.
    if count is not None and not (isinstance(count, int) and 0 < count <= MAX_CLASSES + 2):
        raise DatasetError([Problem(file, f"expected at most {MAX_CLASSES} classes as num_classes, found {count!r}")])
    return recipe


def _backbone(recipe: dict[str, Any], *, dilated: bool = False) -> Backbone:
    if is_timm(recipe["backbone"]):
        from models.backbones.timm_networks import TimmBackbone

        of_timm = TimmBackbone(recipe["backbone"], recipe["output_stride"])
        of_timm.pretrained = recipe["pretrained"]
        return of_timm
    backbone = Backbone(recipe["backbone"], recipe["convention"], recipe["output_stride"], dilated=dilated)
    backbone.pretrained = recipe["pretrained"]
    return backbone


def _filled(net: Net, folder: Path, device: str) -> Net:
    with _as_saved(folder, TENSORS):
        try:
            net.load_state_dict(load_file(folder / TENSORS), strict=True)
        except RuntimeError as error:
            # What is said of every tensor that lacks, or is of another version's network.
            raise ValueError(str(error).partition("\n")[0]) from error
    return net.to(device).eval()
