"""Linear classifiers of the cells of a frozen backbone, in folds: no image is classified by one that learnt from it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import OUTPUT_STRIDE, Backbone

# Levels before these, at stride 4, tell textures rather than objects.
FIRST_LEVEL = 2


@torch.no_grad()
def cell_features(backbone: Backbone, pixels: Tensor) -> Float[Tensor, "b d h8 w8"]:
    """Return levels 3 to 5 of a backbone side by side, on the grid of stride 8.

    Args:
        backbone: Of output stride 16, in evaluation mode.
        pixels: RGB [B, 3, H, W] in [0, 255]. The network sees them padded with zeros (after normalisation) to a
            multiple of 16, so that cells lie where it saw them.

    Returns:
        float32 [B, D, ceil(H / 8), ceil(W / 8)].
    """
    height, width = pixels.shape[2:]
    x = backbone.normalize(pixels)
    x = F.pad(x, (0, -width % OUTPUT_STRIDE, 0, -height % OUTPUT_STRIDE)).contiguous(memory_format=torch.channels_last)
    levels = [level.float() for level in backbone(x)[FIRST_LEVEL:]]
    size = levels[0].shape[2:]
    same = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels]
    return torch.cat(same, dim=1)[:, :, : -(-height // 8), : -(-width // 8)]


class PixelClassifier(nn.Module):
    """Softmax regression on standardised features of a cell, once per fold.

    Attributes:
        mean, std: Of the features [D] over the training cells.
        weight, bias: [folds, 1 + C, D] and [folds, 1 + C]; value 0 is background.
        images: How many images taught each fold each value [folds, 1 + C].
        object_weight, object_bias: [folds, D] and [folds]: logistic regression of any class against background.
        object_images: How many images taught each fold any class [folds].
    """

    def __init__(self, num_folds: int, num_values: int, num_channels: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(num_channels))
        self.register_buffer("std", torch.ones(num_channels))
        self.images: Tensor
        self.register_buffer("images", torch.zeros(num_folds, num_values, dtype=torch.long))
        self.weight = nn.Parameter(torch.zeros(num_folds, num_values, num_channels))
        self.bias = nn.Parameter(torch.zeros(num_folds, num_values))
        self.object_images: Tensor
        self.register_buffer("object_images", torch.zeros(num_folds, dtype=torch.long))
        self.object_weight = nn.Parameter(torch.zeros(num_folds, num_channels))
        self.object_bias = nn.Parameter(torch.zeros(num_folds))

    @classmethod
    def from_state(cls, state: dict[str, Tensor]) -> PixelClassifier:
        """Build a classifier from its own state dict."""
        net = cls(*state["weight"].shape)
        # Classifiers of an earlier version know no objects.
        net.load_state_dict(net.state_dict() | state)
        return net.eval()

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "f n v"]:
        """Return the logits of all folds."""
        x = (features - self.mean) / self.std
        return x @ self.weight.mT + self.bias[:, None]

    def loss(
        self,
        features: Float[Tensor, "n d"],
        values: Int[Tensor, " n"],
        taught: Bool[Tensor, "f n"],
        others: Bool[Tensor, "f n"],
    ) -> Float[Tensor, ""]:
        """Return the sum over the folds of two mean cross-entropies: of the values, and of objects against background.

        Objects and background weigh the same.

        Args:
            features: Of cells.
            values: Their classes, 0 for background.
            taught: Whether a cell teaches a fold its value.
            others: Whether a cell is of another fold, and so teaches it objects and background.
        """
        by_value = values[:, None].expand(-1, len(taught))
        losses = F.cross_entropy(self(features).permute(1, 2, 0), by_value, reduction="none")
        objects = F.binary_cross_entropy_with_logits(
            self.object_logits(features), (by_value > 0).to(features.dtype), reduction="none"
        )
        # An image teaches as many cells of each of its classes as of background.
        kinds = ((values > 0) & others, (values == 0) & others)
        return _mean_of(losses, taught).sum() + sum(_mean_of(objects, kind).sum() for kind in kinds) / 2

    def object_logits(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n f"]:
        """Return all folds' logits of any class against background."""
        return ((features - self.mean) / self.std) @ self.object_weight.T + self.object_bias

    @torch.no_grad()
    def probabilities(self, features: Float[Tensor, "d h w"], fold: int, values: list[int]) -> Float[Tensor, "k h w"]:
        """Return the probability of each of some classes at each cell, among these and background.

        Args:
            features: Of an image.
            fold: The classifier that has not seen the image.
            values: Class values that the image may have, counted from 1.
        """
        d, h, w = features.shape
        rows = [0, *values]
        x = (features.reshape(d, h * w).T - self.mean) / self.std
        logits = x @ self.weight[fold, rows].T + self.bias[fold, rows]
        return logits.softmax(dim=1).T.reshape(len(rows), h, w)[1:]

    @torch.no_grad()
    def object_probability(self, features: Float[Tensor, "d h w"], fold: int) -> Float[Tensor, "1 h w"]:
        """Return the probability at each cell that it is of any class; the arguments are those of `probabilities`."""
        d, h, w = features.shape
        return self.object_logits(features.reshape(d, h * w).T)[:, fold].sigmoid().reshape(1, h, w)


def _mean_of(losses: Float[Tensor, "n f"], chosen: Bool[Tensor, "f n"]) -> Float[Tensor, " f"]:
    """Return the mean over the chosen cells of each fold, 0 where there is none."""
    return (losses * chosen.T).sum(dim=0) / chosen.sum(dim=1).clamp(min=1)
