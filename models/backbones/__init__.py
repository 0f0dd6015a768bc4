"""Registry of the backbones: `BACKBONES` is the one list of ours; those of timm are in timm's own.

No torch here, since planning reads the names.

`docs/how-to/add_a_backbone.md` says how to add one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OutputStride = Literal[8, 16, 32]
TIMM = "timm:"
"""What the names of backbones from the package timm begin with; `models.backbones.timm_networks` builds them."""


def is_timm(name: str) -> bool:
    """Return whether a backbone's name is "timm:NAME".

    What stands under `if is_timm(...)` is left out of the source digests of stages (`tasks.engine.source`): it counts
    in the keys of runs on such a backbone alone.
    """
    return name.startswith(TIMM)


@dataclass(frozen=True)
class BackboneSpec:
    """Entry of a backbone.

    Attributes:
        name: Name on the command line, and in torchvision.
        family: "module:name" of its `models.backbones.family.Family`, which builds it and reads its weights.
        channels: Channels of the five feature levels.
        imagenet_versions: Number of ImageNet trainings that torchvision offers. What "imagenet" means must not change
            with torchvision.
        level_strides: Strides of the levels in pixels, at output stride 32.
        output_strides: Strides that the last level can have.
    """

    name: str
    family: str
    channels: tuple[int, int, int, int, int]
    imagenet_versions: int
    level_strides: tuple[int, int, int, int, int] = (4, 4, 8, 16, 32)
    output_strides: tuple[OutputStride, ...] = (8, 16, 32)

    def strides(self, output_stride: OutputStride) -> tuple[int, ...]:
        """Return the strides of the levels in pixels.

        Raises:
            ValueError: The backbone cannot have this output stride.
        """
        if output_stride not in self.output_strides:
            possible = ", ".join(map(str, self.output_strides))
            raise ValueError(f"{self.name}: expected one of the output strides {possible}, got {output_stride}")
        return tuple(min(stride, output_stride) for stride in self.level_strides)


BACKBONES: dict[str, BackboneSpec] = {
    spec.name: spec
    for spec in (
        BackboneSpec("resnet18", "models.backbones.resnet:RESNET", (64, 64, 128, 256, 512), imagenet_versions=1),
        BackboneSpec("resnet34", "models.backbones.resnet:RESNET", (64, 64, 128, 256, 512), imagenet_versions=1),
        BackboneSpec("resnet50", "models.backbones.resnet:RESNET", (64, 256, 512, 1024, 2048), imagenet_versions=2),
        BackboneSpec("resnet101", "models.backbones.resnet:RESNET", (64, 256, 512, 1024, 2048), imagenet_versions=2),
        BackboneSpec("mobilenet_v2", "models.backbones.mobilenet:MOBILENET", (24, 24, 32, 96, 1280), 2),
        BackboneSpec("densenet121", "models.backbones.densenet:DENSENET", (64, 256, 512, 1024, 1024), 1),
    )
}
"""Name -> entry."""
