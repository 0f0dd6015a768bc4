"""Sizes of the networks that make the labels and of `NETWORKS`, each on every backbone that it can have."""

from __future__ import annotations

from collections.abc import Callable
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


def _rows(spec: NetworkSpec) -> dict[str, Sized]:
    # An encoder of its own has no name in the registry.
    return {
        "-".join(filter(None, (row.name, backbone))): Sized(
            partial(_network, spec, row, backbone), row.papers.get(backbone)
        )
        for row in spec.rows or (Row(spec.name),)
        for backbone in spec.backbones or ("",)
    }


SIZED: dict[str, Sized] = {
    **{
        f"{kind}-{backbone}": Sized(partial(build, backbone))
        for kind, build in (("cam", _cam), ("irnet", _irnet))
        for backbone in BACKBONES
    },
    **{name: sized for spec in NETWORKS.values() for name, sized in _rows(spec).items()},
}
"""Name -> network. Those of `NetworkSpec.background` have one more output than classes."""


def network_size(name: str, *, num_classes: int = 20, size: tuple[int, int] = (512, 512)) -> Profile:
    """Return the profile of a network, with what its paper states where classes and size are the paper's.

    Args:
        name: One of `SIZED`.
        num_classes: Without the background.
        size: (H, W) of the image.

    Raises:
        ValueError: No network has this name, or a number is not positive.
    """
    if name not in SIZED:
        raise ValueError(f"unknown network {name!r}; expected one of {', '.join(SIZED)}")
    if min(num_classes, *size) < 1:
        raise ValueError(f"expected a positive number of classes and size, got {num_classes} and {size}")
    paper = SIZED[name].paper
    figures = dict(paper.figures) if paper and paper.num_classes == num_classes else {}
    if paper and paper.size not in (None, size):
        figures.pop("gmacs", None)
    return profile(name, partial(SIZED[name].build, num_classes), size, figures)
