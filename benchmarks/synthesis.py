"""Networks' inference, and all that makes one image's labels, against the authors' method written plainly.

The networks are ResNet-50s of random weights, whose batch norms have seen the photograph; what comes after them is
given maps like a trained network's.
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from benchmarks.displacement import ITERATIONS, follow
from benchmarks.inputs import cells, displacement_field, photograph
from benchmarks.random_walk import SQUARINGS, square_transition
from benchmarks.row import Part, Row
from kernels.crf import refine_labels
from kernels.random_walk import propagate
from models.backbones import build_backbone, fold_norms
from models.cam import CAMNet
from models.irnet import IRNet
from tasks.inference import inference_autocast
from tasks.settings import CamConfig, LabelsConfig, RelationsConfig, WalkConfig
from tasks.stages.cams import Pyramid, class_attention
from tasks.stages.labels import Instances, instance_masks, semantic_rows
from tasks.stages.relations import confident_labels
from tasks.stages.score_maps import strongest, upsample
from tasks.stages.walk import sum_rows, walk_instances

SIZE, GRID = (375, 500), (94, 125)
NUM_CLASSES = 20
LABELS = (3, 7)
WALK, RELATIONS = WalkConfig(), RelationsConfig()
DECISION = LabelsConfig()


def rows() -> list[Row]:
    networks = _Networks.of(photograph(*SIZE))
    return [_cam_row(networks), _synthesis_row(networks)]


class _Networks(NamedTuple):
    """The photograph, and both networks: as they are, and as the stages run them."""

    image: NDArray[np.uint8]
    plain_cam: CAMNet
    plain_irnet: IRNet
    cam: CAMNet
    irnet: IRNet

    @classmethod
    @torch.no_grad()
    def of(cls, image: NDArray[np.uint8]) -> _Networks:
        torch.manual_seed(0)
        cam = CAMNet(build_backbone("resnet50"), NUM_CLASSES)
        cam.backbone.train()(cam.backbone.normalize(_pixels(image)))
        irnet = IRNet(deepcopy(cam.backbone)).eval()
        folded = (fold_norms(deepcopy(net.eval())).to(memory_format=torch.channels_last) for net in (cam, irnet))
        return cls(image, cam, irnet, *folded)


def _cam_row(networks: _Networks) -> Row:
    def fast() -> Tensor:
        return _attend(networks)

    def slow() -> Tensor:
        return _attend_plainly(networks)

    def measure_error() -> float:
        return float((fast().argmax(0) != slow().argmax(0)).float().mean())

    name = f"CAM, ResNet-50, 4 scales x mirror, {SIZE[0]} x {SIZE[1]}"
    return Row(name, "plain float32", fast, [Part(slow)], measure_error, 5e-3, "of the cells' classes")


def _synthesis_row(networks: _Networks) -> Row:
    scores, boundary = cells(*GRID, len(LABELS))
    field = displacement_field(*GRID)

    def fast() -> tuple[NDArray[np.int64], Instances]:
        _attend(networks)
        pixels = _pixels(networks.image).contiguous(memory_format=torch.channels_last)
        with inference_autocast("cpu"):
            networks.irnet.infer(networks.irnet.backbone.normalize(pixels))
        confident_labels([torch.from_numpy(networks.image)], [scores], [LABELS], RELATIONS)
        walked, owners = walk_instances(scores, boundary, field, WALK)
        semantic = semantic_rows(sum_rows(walked, owners, len(LABELS)), SIZE, DECISION.background_threshold)
        return semantic, instance_masks(walked, owners, SIZE, DECISION)

    def slow() -> None:
        """Do all but the squarings of T, which the authors make once for the semantic and once for the instances."""
        _attend_plainly(networks)
        full = upsample(scores, SIZE)
        for threshold in (RELATIONS.foreground_threshold, RELATIONS.background_threshold):
            rows = strongest(full, threshold)[0].numpy()
            refine_labels(networks.image, rows, len(LABELS) + 1, backend="pydensecrf")
        for _ in ("semantic", "instances"):
            _infer_plainly(networks)
            _decide_plainly(scores)
        _group_plainly(field.numpy())

    def measure_error() -> float:
        """Return 1 - mIoU of the labels against those of an exact walk."""
        walk = {"radius": WALK.radius_px, "beta": WALK.beta, "steps": WALK.steps}
        exact = propagate(scores, boundary, **walk, backend="torch")
        expected = semantic_rows(exact, SIZE, DECISION.background_threshold)
        found, _ = fast()
        both = [(found == row, expected == row) for row in range(len(LABELS) + 1)]
        return 1 - float(np.mean([(a & b).sum() / (a | b).sum() for a, b in both]))

    slow_parts = [Part(slow), Part(lambda: square_transition(*GRID), 2 * SQUARINGS)]
    name = f"label synthesis of one image, {SIZE[0]} x {SIZE[1]}"
    return Row(name, "the authors' method", fast, slow_parts, measure_error, 1e-3, "of the mIoU", memory=True)


def _pixels(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()


def _attend(networks: _Networks) -> Tensor:
    pyramid = Pyramid.of(networks.image, CamConfig().scales)
    return class_attention(networks.cam, [pyramid], [tuple(range(NUM_CLASSES))], "cpu")[0]


@torch.no_grad()
def _attend_plainly(networks: _Networks) -> Tensor:
    net, total = networks.plain_cam, torch.zeros(NUM_CLASSES, 96, 128)
    for scaled in Pyramid.of(networks.image, CamConfig().scales).scales:
        x = net.backbone.normalize(scaled[None].contiguous())
        both = net.activations(torch.cat([x, x.flip(-1)]))
        total += F.interpolate(both[:1] + both[1:].flip(-1), (96, 128), mode="bilinear", align_corners=False)[0]
    total = total[:, : GRID[0], : GRID[1]]
    return total / total.amax((1, 2), keepdim=True)


@torch.no_grad()
def _infer_plainly(networks: _Networks) -> tuple[Tensor, Tensor]:
    """Run both branches over the image and its mirror image."""
    x = networks.plain_irnet.backbone.normalize(_pixels(networks.image))
    x = F.pad(x, (0, -x.shape[3] % 16, 0, -x.shape[2] % 16))
    return networks.plain_irnet(torch.cat([x, x.flip(-1)]))


def _decide_plainly(scores: Tensor) -> NDArray[np.int64]:
    full = F.interpolate(scores[None], SIZE, mode="bilinear", align_corners=False)[0]
    return F.pad(full / full.max(), (0, 0, 0, 0, 1, 0), value=0.25).argmax(0).numpy()


def _group_plainly(field: NDArray[np.float32]) -> NDArray[np.int64]:
    centroids = follow(field, ITERATIONS)
    components, _ = ndimage.label(np.hypot(*field) < WALK.centroid_threshold_px)  # pyright: ignore[reportGeneralTypeIssues]
    return components[centroids[0], centroids[1]]
