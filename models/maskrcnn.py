"""Mask R-CNN on a feature pyramid (He et al. 2017), which may be told to leave regions of an image out of its losses.

IRNet trains it on its labels with a ResNet-50, by the default settings of Detectron (Ahn et al. 2019, Sec. 6.3 and
A.2.1). The parts are torchvision's, with their thresholds; only the ignored regions are added.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.onnx.operators import shape_as_tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform, resize_boxes
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, box_area
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from models.backbones.base import NORMALIZATIONS, Backbone
from models.segmenter import BackboneFactory

OUTPUT_STRIDE = 32
ASPECT_RATIOS = (0.5, 1.0, 2.0)
BOX_RESOLUTION, MASK_RESOLUTION = 7, 14
MAX_DETECTIONS = 100
# Of the backbone, as in Detectron: what ImageNet taught the first layers is as good for any photograph.
FROZEN_LEVELS = 2
_ROI_LEVELS = ["0", "1", "2", "3"]


class MaskRCNN(GeneralizedRCNN):
    """Mask R-CNN with a feature pyramid on a backbone's levels at strides 4, 8, 16 and 32.

    `net(images, targets)` in training mode returns the five losses by name, whose sum is to be minimised;
    `net(images)` in evaluation mode returns a dict for each image: `boxes` float [N, 4] (x1, y1, x2, y2), `labels`
    int64 [N] from 1, `scores` float [N], descending, `masks` float [N, 1, H, W], probabilities.

    Images are RGB float [3, H, W] in [0, 255], of any sizes. A target has `boxes` float [N, 4] (x1, y1, x2, y2, the
    ends exclusive), `labels` int64 [N] from 1, `masks` uint8 [N, H, W], and `ignored` float [M, 4], boxes like the
    others; N and M may be 0. Of what would be background, anchors and proposals that lie by more than half of
    their area in one ignored box teach nothing.

    Pretrained backbones keep their first two levels as they are.

    Args:
        backbone: At output stride 32.
        num_classes: With the background.
        min_size: The images' short side is resized to this, in pixels,
        max_size: or less, where the long side would otherwise exceed this.
        anchor_sizes: Sides in pixels of the resized image, at strides 4, 8, 16, 32 and 64.
        channels: Of the pyramid and the mask branch; the box branch has four times as many.
        num_proposals: Of an image in training, before (in each level) and after suppression; half in evaluation.
        num_sampled: Proposals of an image that the branches learn from; at most a quarter are objects.
        freeze_norm: Keep the batch norms of a pretrained backbone as they are too.

    Raises:
        ValueError: The backbone has another output stride, or there are not five anchor sizes.
    """

    backbone: FeaturePyramid
    rpn: RegionProposalNetwork
    roi_heads: _Heads

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        min_size: int = 800,
        max_size: int = 1333,
        anchor_sizes: tuple[int, ...] = (32, 64, 128, 256, 512),
        channels: int = 256,
        num_proposals: int = 2000,
        num_sampled: int = 512,
        freeze_norm: bool = True,
    ) -> None:
        if backbone.strides[-1] != OUTPUT_STRIDE:
            raise ValueError(f"Mask R-CNN needs a backbone at output stride 32, got {backbone.strides[-1]}")
        if len(anchor_sizes) != 5:
            raise ValueError(f"expected an anchor size for each of five levels, got {anchor_sizes}")
        pixels = NORMALIZATIONS[backbone.convention]
        transform = _Transform(min_size, max_size, list(pixels.mean), list(pixels.std))
        kept = {"training": num_proposals, "testing": num_proposals // 2}
        rpn = _ProposalNetwork(
            AnchorGenerator(tuple((size,) for size in anchor_sizes), (ASPECT_RATIOS,) * len(anchor_sizes)),
            _ProposalHead(channels, len(ASPECT_RATIOS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n=kept,
            post_nms_top_n=kept,
            nms_thresh=0.7,
        )
        roi_heads = _Heads(
            MultiScaleRoIAlign(_ROI_LEVELS, BOX_RESOLUTION, sampling_ratio=2),
            TwoMLPHead(channels * BOX_RESOLUTION**2, 4 * channels),
            _BoxPredictor(4 * channels, num_classes),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=num_sampled,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=0.05,
            nms_thresh=0.5,
            detections_per_img=MAX_DETECTIONS,
            mask_roi_pool=MultiScaleRoIAlign(_ROI_LEVELS, MASK_RESOLUTION, sampling_ratio=2),
            mask_head=MaskRCNNHeads(channels, (channels,) * 4, dilation=1),
            mask_predictor=_MaskPredictor(channels, channels, num_classes),
        )
        super().__init__(FeaturePyramid(backbone, channels, freeze_norm=freeze_norm), rpn, roi_heads, transform)
        self.num_classes = num_classes

    def train(self, mode: bool = True) -> MaskRCNN:
        """Set the mode; what is frozen stays in evaluation mode, so that its batch norms do not move."""
        super().train(mode)
        body = self.backbone.body
        if body.pretrained:
            for part in [body] if self.backbone.freeze_norm else body.levels()[:FROZEN_LEVELS]:
                part.eval()
        return self


class FeaturePyramid(nn.Module):
    """A feature pyramid (Lin et al. 2017) on a backbone, whose pretrained first levels are frozen.

    Attributes:
        freeze_norm: Whether the pretrained batch norms are frozen too.
    """

    def __init__(self, body: Backbone, channels: int, *, freeze_norm: bool) -> None:
        super().__init__()
        self.body = body
        self.freeze_norm = freeze_norm
        self.fpn = FeaturePyramidNetwork(list(body.channels[1:]), channels, LastLevelMaxPool())
        if body.pretrained:
            norms = [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)] if freeze_norm else []
            for frozen in (*body.levels()[:FROZEN_LEVELS], *norms):
                frozen.requires_grad_(False)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b c _ _"]]:
        """Return levels "0" to "3" and "pool" at strides 4, 8, 16, 32 and 64, for normalised input."""
        return self.fpn(dict(zip(_ROI_LEVELS, self.body(x)[1:], strict=True)))


class _Transform(GeneralizedRCNNTransform):
    """Resizes by exact sizes, and ignored boxes with the others; what it shrinks does not alias.

    torchvision's own sizes are products of rounded numbers, and one pixel less for some images; traced, as for an
    export, they are rounded otherwise. It interpolates single pixels, also where it shrinks, and its masks move by up
    to half a pixel against the image.
    """

    def __init__(self, short_side: int, long_side: int, mean: list[float], std: list[float]) -> None:
        super().__init__(short_side, long_side, mean, std)
        self._short_side = short_side

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        size = shape_as_tensor(image)[-2:]
        by_short, by_long = size * self._short_side // size.min(), size * self.max_size // size.max()
        new_size = torch.minimum(by_short, by_long).clamp(min=1)
        sides: Any = list(new_size) if torch.jit.is_tracing() else new_size.tolist()  # pyright: ignore
        resized = _resized(image, sides)
        if target is None:
            return resized, None
        sizes = list(image.shape[-2:]), list(resized.shape[-2:])
        masks = F.interpolate(target["masks"][:, None].float(), sides, mode="nearest-exact")[:, 0].byte()
        boxes = {name: resize_boxes(target[name], *sizes) for name in ("boxes", "ignored")}
        return resized, {**target, **boxes, "masks": masks}


def _resized(image: Float[Tensor, "c h w"], sides: Any) -> Float[Tensor, "c p q"]:
    """Resize bilinearly, as Pillow does: a pixel that is smaller than the image's is a mean of those it covers."""
    if not torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return F.interpolate(image[None], sides, mode="bilinear", align_corners=False, antialias=True)[0]
    # The same in operations that other programs know.
    down, right = (_triangles(size, new, image) for size, new in zip(shape_as_tensor(image)[-2:], sides, strict=True))
    return down @ image @ right.T


def _triangles(size: Any, new_size: Any, like: Tensor) -> Float[Tensor, "new old"]:
    """Return the weights of a side's pixels in each of its new ones: triangles as wide as the larger of both.

    The sizes are tensors, so that a traced graph has any size.
    """
    scale = size.to(like.dtype) / new_size
    centres = (torch.arange(new_size, device=like.device)[:, None] + 0.5) * scale
    places = torch.arange(size, device=like.device)[None] + 0.5
    weights = (1 - (places - centres).abs() / scale.clamp(min=1)).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)


def _beyond_borders(boxes: Float[Tensor, "m 4"], size: tuple[int, int]) -> Float[Tensor, "m 4"]:
    """Return the boxes of an image (H, W), of which those that reach its border go on beyond it, as anchors do."""
    height, width = size
    ends = boxes.new_tensor([width, height])
    # What was resized may end a rounding error before the border.
    low = torch.where(boxes[:, :2] < 0.5, -ends, boxes[:, :2])
    high = torch.where(boxes[:, 2:] > ends - 0.5, 2 * ends, boxes[:, 2:])
    return torch.cat([low, high], dim=1)


class _ProposalNetwork(RegionProposalNetwork):
    def forward(
        self, images: ImageList, features: dict[str, Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        if targets is not None:
            targets = [
                {**target, "ignored": _beyond_borders(target["ignored"], size)}
                for target, size in zip(targets, images.image_sizes, strict=True)
            ]
        return super().forward(images, features, targets)

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        labels, matched_boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, boxes, target in zip(labels, anchors, targets, strict=True):
            label[(label == 0) & _mostly_inside(boxes, target["ignored"])] = -1
        return labels, matched_boxes

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        losses = super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)
        if any((label >= 0).any() for label in labels):
            return losses
        return _zero(losses[0]), _zero(losses[1])


# Boxes, scores and masks are in single precision also where the network's products are not: eight bits of a bfloat16
# place a box to four pixels, and cannot tell one sure detection from the next.
class _ProposalHead(RPNHead):
    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, boxes = super().forward(x)
        return [level.float() for level in objectness], [level.float() for level in boxes]


class _BoxPredictor(FastRCNNPredictor):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        classes, boxes = super().forward(x)
        return classes.float(), boxes.float()


class _MaskPredictor(MaskRCNNPredictor):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).float()


class _Heads(RoIHeads):
    mask_roi_pool: MultiScaleRoIAlign
    mask_head: nn.Module
    mask_predictor: nn.Module

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        if targets is None:
            return super().forward(features, proposals, image_shapes)
        proposals = [self._taught(boxes, target) for boxes, target in zip(proposals, targets, strict=True)]
        detections, losses = super().forward(features, proposals, image_shapes, targets)
        if not any(len(boxes) + len(target["boxes"]) for boxes, target in zip(proposals, targets, strict=True)):
            losses = {name: _zero(loss) for name, loss in losses.items()}
        return detections, losses

    def _taught(self, boxes: Tensor, target: dict[str, Tensor]) -> Tensor:
        """Return the proposals without those of the background that lie in an ignored box."""
        ignored = _mostly_inside(boxes, target["ignored"])
        if not ignored.any():
            return boxes
        _, (labels,) = self.assign_targets_to_proposals([boxes], [target["boxes"]], [target["labels"]])
        return boxes[(labels != 0) | ~ignored]


def _mostly_inside(boxes: Float[Tensor, "n 4"], regions: Float[Tensor, "m 4"]) -> Bool[Tensor, " n"]:
    """Whether more than half of each box's area lies in one of the regions; all (x1, y1, x2, y2)."""
    low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(dim=2)
    return (shared > box_area(boxes)[:, None] / 2).any(dim=1)


def _zero(loss: Tensor) -> Tensor:
    """Return 0 for a mean over nothing, which is NaN, with the graph, so that every parameter has a gradient."""
    return loss.nan_to_num(0.0)


def build(backbone: BackboneFactory, num_classes: int, **options: Any) -> MaskRCNN:
    """Build the network at its output stride; the options are those of `MaskRCNN`."""
    return MaskRCNN(backbone(output_stride=OUTPUT_STRIDE), num_classes, **options)
