"""Segmentation and saliency from one encoder, and the loss that learns how much each counts (Sima et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import Backbone
from models.deeplabv3plus import OUTPUT_STRIDE, WIDTH, Decoder, DeepLabV3Plus
from models.segmenter import BackboneFactory


class Maps(NamedTuple):
    """What the network says of a batch.

    Attributes:
        classes: Logits [B, n, H, W], y_seg.
        saliency: Logit [B, H, W] of being salient, y_sal.
    """

    classes: Tensor
    saliency: Tensor


class FixedLoss(nn.Module):
    """The joint loss with weights that stay: sum_i w_i L_i."""

    def __init__(self, weights: Sequence[float]) -> None:
        super().__init__()
        self.weights = tuple(weights)

    def forward(self, losses: Float[Tensor, " tasks"], shares: Float[Tensor, " tasks"] | None = None) -> Tensor:
        """Return the joint loss, of the same arguments as that of `UncertaintyLoss`."""
        joint = losses.new_tensor(self.weights) * losses
        return joint.sum() if shares is None else torch.where(shares > 0, joint, 0).sum()


class SaliencyDeepLabV3Plus(DeepLabV3Plus):
    """DeepLab v3+ with a second decoder for saliency.

    Segmentation is y_seg = up4(x_R1 + up4(x_mid)) (Eq. 1), where "+" lays maps side by side before the decoder's
    convolutions. Saliency is a sum over the classes, y_sal = sum s_fea s_seg (Eq. 4), of maps s_seg from a decoder of
    its own (Eq. 3), each weighted by s_fea = sigmoid(mean of the class's map of x_mid) (Eq. 2).

    In training both tasks' logits are returned, which the losses of `joint_loss` are of. Where saliency is learned from
    other images, each batch goes through the encoder and its own branch alone, so that neither has a part in the
    gradients of the other's branch, nor by way of a batch norm. The batch norms' running statistics are of both.

    Args:
        backbone: At output stride 16.
        num_classes: n, of the logits.
        dsc: Take DSC-ASPP.
        task_weights: Of the loss of segmentation and of that of saliency; None learns them (`UncertaintyLoss`).
            A weight of 0 has no branch to train: see `build`.

    Raises:
        ValueError: The backbone has another output stride.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        dsc: bool = True,
        task_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(backbone, num_classes, dsc=dsc)
        self.joint_loss = UncertaintyLoss() if task_weights is None else FixedLoss(task_weights)
        self.saliency_decoder = Decoder(backbone.channels[1], num_classes)
        self.class_maps = nn.Conv2d(WIDTH, num_classes, 1)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, x: Float[Tensor, "b 3 h w"], salient: Float[Tensor, "m 3 h w"] | None = None
    ) -> Tensor | Maps:
        """Return the classes' logits [B, n, H, W] for normalised input; in training both tasks'.

        Args:
            salient: In training, the images that saliency is learned from, where they are others.
        """
        if not self.training:
            return super().forward(x)
        return (
            self.both(x) if salient is None else Maps(super().forward(x), self._saliency(salient, *self._mid(salient)))
        )

    def both(self, x: Float[Tensor, "b 3 h w"]) -> Maps:
        """Return both tasks' logits for normalised input, upsampled to its size."""
        mid, detail = self._mid(x)
        return Maps(_upsampled(self.decoder(mid, detail), x), self._saliency(x, mid, detail))

    def _mid(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x_mid and the features at stride 4."""
        levels = self.backbone(x)
        return self.aspp(levels[-1]), levels[1]

    def _saliency(self, x: Tensor, mid: Tensor, detail: Tensor) -> Float[Tensor, "b h w"]:
        weights = self.class_maps(mid).mean((2, 3), keepdim=True).sigmoid()
        return _upsampled((weights * self.saliency_decoder(mid, detail)).sum(1, keepdim=True), x)[:, 0]


def build(
    backbone: BackboneFactory, num_classes: int, *, dsc: bool = True, task_weights: Sequence[float] | None = None
) -> DeepLabV3Plus:
    """Build the network that these weights train: without a weight of saliency a DeepLab v3+ that has no such branch.

    Arguments and errors are those of `SaliencyDeepLabV3Plus`.
    """
    dilated = backbone(output_stride=OUTPUT_STRIDE, dilated=True)
    if task_weights is not None and not task_weights[1]:
        return DeepLabV3Plus(dilated, num_classes, dsc=dsc)
    return SaliencyDeepLabV3Plus(dilated, num_classes, dsc=dsc, task_weights=task_weights)


class UncertaintyLoss(nn.Module):
    """The joint loss with learned homoscedastic uncertainty (Eq. 8).

    L = L1 / sigma1^2 + L2 / sigma2^2 + log sigma1 + log sigma2, each task's loss a mean cross-entropy. What is learned
    is s = log sigma^2, so that sigma is positive; it is kept within [-LIMIT, LIMIT], so that the loss is finite.
    """

    LIMIT = 10.0

    def __init__(self, num_tasks: int = 2, start: float = 0.0) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.full((num_tasks,), float(start)))

    @property
    def sigma(self) -> Float[Tensor, " tasks"]:
        """The standard deviations sigma."""
        return (self._bounded() / 2).exp()

    def forward(self, losses: Float[Tensor, " tasks"], shares: Float[Tensor, " tasks"] | None = None) -> Tensor:
        """Return the joint loss.

        Args:
            losses: Of each task, the mean over a batch's images, in which an image without its label has 0.
            shares: Of the images that have each task's label, in [0, 1]; all by default. What is returned is the mean
                of Eq. 8 over the images, each with the tasks that it has labels of: a task without any counts nothing.
        """
        s = self._bounded()
        shares = torch.ones_like(losses) if shares is None else shares
        return torch.where(shares > 0, losses * (-s).exp() + shares * (s / 2), 0).sum()

    def _bounded(self) -> Tensor:
        # The gradient is let through beyond the limits, so that none is stuck there.
        s = self.log_variance
        return s.clamp(-self.LIMIT, self.LIMIT).detach() + (s - s.detach())


def _upsampled(maps: Tensor, x: Tensor) -> Tensor:
    return F.interpolate(maps, x.shape[-2:], mode="bilinear", align_corners=False)
