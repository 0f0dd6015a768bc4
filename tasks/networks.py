"""Saving a trained network as an artifact, and building it again from one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import nn

from models.backbones import Backbone
from models.cam import CAMNet
from models.deeplabv2 import DeepLabV2
from models.irnet import IRNet
from models.maskrcnn import FeaturePyramid, MaskRCNN
from models.segnet import NETWORKS, SceneNetwork, build_scene_network

Net = TypeVar("Net", bound=nn.Module)


def save_network(net: CAMNet | IRNet | DeepLabV2 | MaskRCNN | SceneNetwork, folder: Path, **options: Any) -> None:
    """Write `network.safetensors` (every tensor) and `network.json` (how to build the module, with these options)."""
    state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    save_file(state, folder / "network.safetensors")
    (folder / "network.json").write_text(json.dumps(_recipe(net, options), indent=1))


def _recipe(net: CAMNet | IRNet | DeepLabV2 | MaskRCNN | SceneNetwork, options: dict[str, Any]) -> dict[str, Any]:
    if isinstance(net, SceneNetwork):
        return {
            "network": net.name,
            "num_classes": net.num_classes,
            "input": net.backbone.input,
            "dropout": net.dropout,
            "image_size": net.image_size,
        }
    backbone = net.backbone.body if isinstance(net.backbone, FeaturePyramid) else net.backbone
    assert isinstance(backbone, Backbone)
    return {
        "backbone": backbone.name,
        "convention": backbone.convention,
        "pretrained": backbone.pretrained,
        "output_stride": backbone.strides[-1],
        "num_classes": None if isinstance(net, IRNet) else net.num_classes,
        "options": options,
    }


def load_classifier(folder: Path, device: str = "cpu") -> CAMNet:
    """Return the classifier of an artifact, in evaluation mode."""
    backbone, recipe = _backbone(folder)
    return _filled(CAMNet(backbone, recipe["num_classes"]), folder, device)


def load_irnet(folder: Path, device: str = "cpu") -> IRNet:
    """Return the IRNet of an artifact, in evaluation mode."""
    return _filled(IRNet(_backbone(folder)[0]), folder, device)


def load_deeplabv2(folder: Path, device: str = "cpu") -> DeepLabV2:
    """Return the DeepLab v2 of an artifact, in evaluation mode."""
    backbone, recipe = _backbone(folder)
    return _filled(DeepLabV2(backbone, recipe["num_classes"]), folder, device)


def load_maskrcnn(folder: Path, device: str = "cpu") -> MaskRCNN:
    """Return the Mask R-CNN of an artifact, in evaluation mode."""
    backbone, recipe = _backbone(folder)
    return _filled(MaskRCNN(backbone, recipe["num_classes"], **recipe["options"]), folder, device)


def load_scene_network(folder: Path, device: str = "cpu") -> SceneNetwork:
    """Return the network of an artifact whose scenes have one size, in evaluation mode."""
    recipe = json.loads((folder / "network.json").read_text())
    options = {"input": recipe["input"], "dropout": recipe["dropout"]}
    net = build_scene_network(recipe["network"], recipe["num_classes"], **options)
    net.image_size = tuple(recipe["image_size"])
    return _filled(net, folder, device)


def load_trained(network: str, folder: Path) -> DeepLabV2 | MaskRCNN | SceneNetwork:
    """Return a network by the name of its training, in evaluation mode.

    Raises:
        ValueError: No training has this name.
    """
    scenes = dict.fromkeys(NETWORKS, load_scene_network)
    loaders = {"deeplabv2": load_deeplabv2, "maskrcnn": load_maskrcnn, **scenes}
    if network not in loaders:
        raise ValueError(f"unknown network {network!r}; expected one of {', '.join(loaders)}")
    return loaders[network](folder)


def _backbone(folder: Path) -> tuple[Backbone, dict]:
    recipe = json.loads((folder / "network.json").read_text())
    backbone = Backbone(recipe["backbone"], recipe["convention"], recipe["output_stride"])
    backbone.pretrained = recipe["pretrained"]
    return backbone, recipe


def _filled(net: Net, folder: Path, device: str) -> Net:
    net.load_state_dict(load_file(folder / "network.safetensors"), strict=True)
    return net.to(device).eval()
