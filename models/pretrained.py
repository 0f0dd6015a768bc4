"""What is known of a file of weights, or of torchvision's download of some, before torch is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, get_args

from models.backbones import BACKBONES

ImageNetWeights = Literal["imagenet", "imagenet-v1", "imagenet-v2"]
"""torchvision's weights of a network: the first or the second training, or the newest that it had in 2024."""

# Network -> the number of trainings that torchvision offers. VGG16 is the encoder of `models.segnet` alone.
_VERSIONS = {**{name: spec.imagenet_versions for name, spec in BACKBONES.items()}, "vgg16": 1, "vgg16_bn": 1}


def imagenet_version(network: str, weights: str) -> int:
    """Return the number of the training, 1 or 2, that `ImageNetWeights` mean for a network.

    Raises:
        ValueError: torchvision has no such weights of the network.
    """
    newest = _VERSIONS[network]
    if weights not in get_args(ImageNetWeights):
        raise ValueError(f"weights {weights!r}: expected one of {', '.join(get_args(ImageNetWeights))}")
    version = int(weights[-1]) if weights != "imagenet" else newest
    if version > newest:
        raise ValueError(f"weights {weights!r}: torchvision has imagenet-v{newest} of {network} at most")
    return version


def recorded_network(weights: Path) -> dict[str, str]:
    """Return what `network.json` beside a trained network's file says of its backbone; nothing where there is none.

    Returns:
        "backbone", its name, and "convention", the input that it expects, as far as they are known.

    Raises:
        ValueError: The file cannot be read.
    """
    file = weights.with_name("network.json")
    if weights.name != "network.safetensors" or not file.is_file():
        return {}
    try:
        recipe = json.loads(file.read_text())
        return {name: str(recipe[name]) for name in ("backbone", "convention") if name in recipe}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{file}: expected what is known of the network beside it: {error}") from None
