"""AffinityNet: features that are alike where neighbouring pixels have one class (Ahn and Kwak 2018)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kernels.feature_affinity import feature_affinity
from models.backbones.base import OUTPUT_STRIDE, Backbone

# The levels before these lie at stride 4.
FIRST_LEVEL = 2
WIDTHS = (64, 128, 256)
STRIDE = 8


class AffinityNet(nn.Module):
    """Three levels of a backbone, each to few channels, side by side to 448 channels at stride 8 (Sec. 4).

    The batch norms of the backbone are never trained.

    Attributes:
        num_classes: None: it knows no classes.

    Args:
        backbone: Brings the feature levels; the last three are seen.
        train_backbone: Let gradients into the backbone, as the paper does.
    """

    num_classes = None

    def __init__(self, backbone: Backbone, *, train_backbone: bool = False) -> None:
        super().__init__()
        self.train_backbone = train_backbone
        self.backbone = backbone
        levels = zip(backbone.channels[FIRST_LEVEL:], WIDTHS, strict=True)
        self.reduce = nn.ModuleList(nn.Conv2d(channels, width, 1, bias=False) for channels, width in levels)
        self.predict = nn.Conv2d(sum(WIDTHS), sum(WIDTHS), 1, bias=False)
        for layer in self.reduce:
            nn.init.kaiming_normal_(layer.weight)  # pyright: ignore[reportArgumentType]
        # So large that pairs differ from the start, as in the authors' code.
        nn.init.xavier_uniform_(self.predict.weight, gain=4)
        self.backbone.requires_grad_(train_backbone)

    def train(self, mode: bool = True) -> AffinityNet:
        """Set the head's mode; the backbone stays in evaluation mode, so that its batch norms do not move."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 448 h8 w8"]:
        """Return the features f_aff at stride 8.

        Args:
            x: Normalised input, of sides that are multiples of 16.
        """
        with torch.set_grad_enabled(self.train_backbone and torch.is_grad_enabled()):
            levels = self.backbone(x)[FIRST_LEVEL:]
        size = levels[0].shape[2:]
        reduced = [
            F.elu(F.interpolate(reduce(level), size, mode="bilinear", align_corners=False))
            for reduce, level in zip(self.reduce, levels, strict=True)
        ]
        return F.elu(self.predict(torch.cat(reduced, dim=1)))

    @torch.no_grad()
    def infer(self, x: Float[Tensor, "b 3 h w"], radius: int) -> Float[Tensor, "b k h8 w8"]:
        """Return the affinities of `kernels.feature_affinity` on the grid of ceil(size / 8).

        Args:
            x: Normalised input of any size; it is padded with zeros to a multiple of 16.
            radius: Of the pairs, in pixels of the grid.
        """
        height, width = x.shape[2:]
        features = self(F.pad(x, (0, -width % OUTPUT_STRIDE, 0, -height % OUTPUT_STRIDE))).float()
        return feature_affinity(features[..., : -(-height // STRIDE), : -(-width // STRIDE)], radius)
