"""DeepLab v2: dilated features and four dilated classifiers (Chen et al. 2017, Sec. 3.1 and 3.2)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import Backbone
from models.segmenter import BackboneFactory, Segmenter

RATES = (6, 12, 18, 24)
OUTPUT_STRIDE = 8


class DeepLabV2(Segmenter):
    """A backbone at output stride 8, and atrous spatial pyramid pooling: classifiers of four rates, added up.

    Args:
        backbone: At output stride 8.
        num_classes: With the background.

    Raises:
        ValueError: The backbone has another output stride.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        if backbone.strides[-1] != OUTPUT_STRIDE:
            raise ValueError(f"DeepLab v2 needs a backbone at output stride 8, got {backbone.strides[-1]}")
        self.backbone = backbone
        self.num_classes = num_classes
        self.classifiers = nn.ModuleList(
            nn.Conv2d(backbone.channels[-1], num_classes, 3, padding=rate, dilation=rate) for rate in RATES
        )
        for classifier in self.classifiers:
            nn.init.normal_(classifier.weight, std=0.01)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(classifier.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"]:
        """Return the classes' logits for normalised input, upsampled to its size."""
        features = self.backbone(x)[-1]
        logits = torch.stack([classifier(features) for classifier in self.classifiers]).sum(0)
        return F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)


def build(backbone: BackboneFactory, num_classes: int) -> DeepLabV2:
    """Build the network at its output stride."""
    return DeepLabV2(backbone(output_stride=OUTPUT_STRIDE), num_classes)
