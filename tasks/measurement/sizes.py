"""Sizes of the networks that make the labels and of `NETWORKS`, each on every backbone that it can have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from models.backbones import BACKBONES
from models.backbones.base import BackboneChoice, build_backbone
from models.cam import CAMNet
from models.irnet import IRNet
from models.profile import Profile, profile
from tasks.networks import NETWORKS, NetworkSpec
from tasks.networks.spec import Paper, Row


@dataclass(frozen=True)
class Sized:
    """A network whose size can be counted.

    Attributes:
        build: From the number of classes to the network, which takes normalised RGB [B, 3, H, W].
        paper: What the paper states of it.
    """

    build: Callable[[int], nn.Module]
    paper: Paper | None = None


def _cam(backbone: str, num_classes: int) -> nn.Module:
    return CAMNet(build_backbone(backbone), num_classes)


def _irnet(backbone: str, num_classes: int) -> nn.Module:
    # Its branches are blind to classes.
    return IRNet(build_backbone(backbone))


def _network(spec: NetworkSpec, row: Row, backbone: str, num_classes: int) -> nn.Module:
    return spec.build(num_classes + spec.background, BackboneChoice(backbone), row.options)


def _rows(spec: NetworkSpec, backbones: Sequence[str]) -> dict[str, Sized]:
    return {
        "-".join(filter(None, (row.name, backbone))): Sized(
            partial(_network, spec, row, backbone), row.papers.get(backbone)
        )
        for row in spec.rows or (Row(spec.name),)
        for backbone in backbones
    }


def _of_labels(backbones: Iterable[str]) -> dict[str, Sized]:
    kinds = (("cam", _cam), ("irnet", _irnet))
    return {f"{kind}-{name}": Sized(partial(build, name)) for kind, build in kinds for name in backbones}


def on_backbone(backbone: str) -> dict[str, Sized]:
    """Return name -> network of those on one backbone, ours or "timm:NAME"."""
    found = _of_labels([backbone])
    for spec in NETWORKS.values():
        found |= _rows(spec, [backbone]) if spec.backbones else {}
    return found


SIZED: dict[str, Sized] = {
    **_of_labels(BACKBONES),
    # An encoder of its own has no name in the registry.
    **{name: sized for spec in NETWORKS.values() for name, sized in _rows(spec, spec.backbones or ("",)).items()},
}
"""Name -> network. Those of `NetworkSpec.background` have one more output than classes."""


def network_size(
    name: str,
    *,
    num_classes: int = 20,
    size: tuple[int, int] = (512, 512),
    networks: Mapping[str, Sized] = SIZED,
) -> Profile:
    """Return the profile of a network, with what its paper states where classes and size are the paper's.

    Args:
        name: One of `networks`.
        num_classes: Without the background.
        size: (H, W) of the image.
        networks: The networks that are known by name.

    Raises:
        ValueError: No network has this name, or a number is not positive.
    """
    if name not in networks:
        raise ValueError(f"unknown network {name!r}; expected one of {', '.join(networks)}")
    if min(num_classes, *size) < 1:
        raise ValueError(f"expected a positive number of classes and size, got {num_classes} and {size}")
    paper = networks[name].paper
    figures = dict(paper.figures) if paper and paper.num_classes == num_classes else {}
    if paper and paper.size not in (None, size):
        figures.pop("gmacs", None)
    return profile(name, partial(networks[name].build, num_classes), size, figures)
