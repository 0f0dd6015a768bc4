"""PSPNet: dilated features, pyramid pooling, and an auxiliary classifier in training (Zhao et al. 2017)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import Backbone
from models.layers import conv_norm
from models.segmenter import BackboneFactory, Segmenter

OUTPUT_STRIDE = 8
BINS = (1, 2, 3, 6)
WIDTH, AUXILIARY_WIDTH = 512, 256
# Of the five feature levels, that of the auxiliary classifier: behind res4b22 of ResNet-101 (Sec. 3.3).
AUXILIARY_LEVEL = 3


def average_bins(size: int, num_bins: int, like: Tensor) -> Float[Tensor, "n size"]:
    """Return the weights of the mean over each of the bins of a side, as adaptive pooling has them.

    Bin i is from floor(i size / n) to below ceil((i + 1) size / n); bins overlap where n does not divide the size.
    """
    bins = torch.arange(num_bins, device=like.device)[:, None]
    # In integers: an exported graph has any size.
    begin = torch.div(bins * size, num_bins, rounding_mode="floor")
    end = torch.div((bins + 1) * size + num_bins - 1, num_bins, rounding_mode="floor")
    place = torch.arange(size, device=like.device)[None]
    inside = ((place >= begin) & (place < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


class PyramidPooling(nn.Module):
    """Means of the features over 1, 2 x 2, 3 x 3 and 6 x 6 bins, reduced, laid beside the features (Sec. 3.2).

    The reductions have no batch norm, unlike the paper's: the mean over a whole image is one value per channel, and a
    batch may be of one image.

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // len(BINS)
        self.reductions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True)) for _ in BINS
        )
        self.out_channels = channels + width * len(BINS)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return the features with the pooled ones."""
        height, width = x.shape[2:]
        parts = [x]
        for num_bins, reduce in zip(BINS, self.reductions, strict=True):
            down, right = (average_bins(size, num_bins, x) for size in (height, width))
            pooled = reduce(down @ x @ right.T)
            parts.append(F.interpolate(pooled, (height, width), mode="bilinear", align_corners=False))
        return torch.cat(parts, dim=1)


class PSPNet(Segmenter):
    """A backbone at output stride 8, pyramid pooling, and a classifier.

    Args:
        backbone: At output stride 8.
        num_classes: Of the logits.
        auxiliary_weight: Weight in the loss of a second classifier on the level before the last (Sec. 3.3); 0 for no
            such classifier.

    Raises:
        ValueError: The backbone has another output stride.
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, auxiliary_weight: float = 0.4) -> None:
        super().__init__()
        if backbone.strides[-1] != OUTPUT_STRIDE:
            raise ValueError(f"PSPNet needs a backbone at output stride 8, got {backbone.strides[-1]}")
        self.backbone = backbone
        self.num_classes = num_classes
        self.pooling = PyramidPooling(backbone.channels[-1])
        self.head = _head(self.pooling.out_channels, WIDTH, num_classes)
        self.auxiliary: nn.Module | None = None
        if auxiliary_weight:
            self.auxiliary = _head(backbone.channels[AUXILIARY_LEVEL], AUXILIARY_WIDTH, num_classes)
            self.output_weights = (1.0, auxiliary_weight)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b c h w"] | Float[Tensor, "2 b c h w"]:
        """Return the classes' logits for normalised input, upsampled to its size.

        In training: those of the classifier, and of the auxiliary one.
        """
        levels = self.backbone(x)
        outputs = [self.head(self.pooling(levels[-1]))]
        if self.training and self.auxiliary is not None:
            outputs.append(self.auxiliary(levels[AUXILIARY_LEVEL]))
        logits = [F.interpolate(maps, x.shape[-2:], mode="bilinear", align_corners=False) for maps in outputs]
        return logits[0] if len(logits) == 1 else torch.stack(logits)


def build(backbone: BackboneFactory, num_classes: int, *, auxiliary_weight: float = 0.4) -> PSPNet:
    """Build the network at its output stride."""
    return PSPNet(backbone(output_stride=OUTPUT_STRIDE), num_classes, auxiliary_weight=auxiliary_weight)


def _head(in_channels: int, width: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        *conv_norm(in_channels, width, 3, bias=False), nn.Dropout2d(0.1), nn.Conv2d(width, num_classes, 1)
    )
