"""Networks' inference, and all that makes one image's labels, against the authors' method written plainly.

The networks are ResNet-50s of random weights, whose batch norms have seen the photograph, and whose classifier is
fitted to it: so each place has a class that leads, as after a training. What comes after the networks is given maps
like a trained network's.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from benchmarks.displacement import ITERATIONS, follow
from benchmarks.inputs import cells, displacement_field, photograph
from benchmarks.random_walk import SQUARINGS, square_transition
from benchmarks.row import Part, Row, synchronised
from kernels.crf import refine_labels
from kernels.random_walk import propagate
from models.backbones.base import Backbone, build_backbone
from models.cam import CAMNet
from models.inference import prepare_inference
from models.irnet import IRNet
from tasks.pipeline.labels import instance_masks, semantic_rows, thresholds_of
from tasks.pipeline.relations import confident_labels
from tasks.pipeline.score_maps import strongest, upsample
from tasks.pipeline.seeds.cams import class_attention
from tasks.pipeline.settings import CamConfig, LabelsConfig, RelationsConfig, WalkConfig
from tasks.pipeline.walk import sum_rows, walk_batch
from tasks.training.inference import Pyramid, inference_autocast

SIZE, GRID = (375, 500), (94, 125)
NUM_CLASSES = 20
LABELS = (3, 7)
GPU_BATCH = 11
WALK, RELATIONS, DECISION = WalkConfig(), RelationsConfig(), LabelsConfig()
BACKGROUND, *_ = thresholds_of(DECISION)


def rows() -> list[Row]:
    on_cpu = _Work("cpu", 1)
    found = [_cam_row(on_cpu), _synthesis_row(on_cpu)]
    return [*found, _synthesis_row(_Work("cuda", GPU_BATCH))] if torch.cuda.is_available() else found


class _Work:
    """A batch of one photograph, and both networks: as they are, and as the stages run them."""

    @torch.no_grad()
    def __init__(self, device: str, batch: int) -> None:
        torch.manual_seed(0)
        self.device, self.batch = device, batch
        self.image = photograph(*SIZE)
        self.pixels = torch.from_numpy(self.image).permute(2, 0, 1)[None].to(device)
        backbone = build_backbone("resnet50").to(device)
        damp_residuals(backbone)
        backbone.train()(backbone.normalize(self.pixels))
        self.plain_cam = CAMNet(backbone, NUM_CLASSES).to(device).eval()
        fit_classifier(self.plain_cam, Pyramid.of(self.image, CamConfig().scales), device)
        self.plain_irnet = IRNet(deepcopy(backbone)).to(device).eval()
        self.cam = prepare_inference(deepcopy(self.plain_cam))
        self.irnet = prepare_inference(deepcopy(self.plain_irnet))
        scores, boundary = cells(*GRID, len(LABELS))
        self.scores, self.boundary = scores.to(device), boundary.to(device)
        self.field = displacement_field(*GRID).to(device)

    def attend(self) -> Tensor:
        """Return one image's maps of all classes; those of the whole batch are made."""
        pyramids = [Pyramid.of(self.image, CamConfig().scales)] * self.batch
        return class_attention(self.cam, pyramids, [tuple(range(NUM_CLASSES))] * self.batch, self.device)[0]

    def synthesize(self) -> NDArray[np.int64]:
        """Do all that the stages do for the batch, and return one image's semantic labels."""
        self.attend()
        pixels = self.pixels.expand(self.batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)
        with inference_autocast(self.device):
            self.irnet.infer(self.irnet.backbone.normalize(pixels))
        images = [torch.from_numpy(self.image).to(self.device)] * self.batch
        confident_labels(images, [self.scores] * self.batch, [LABELS] * self.batch, RELATIONS)
        scores, boundaries, fields = ([each] * self.batch for each in (self.scores, self.boundary, self.field))
        semantic = np.zeros(SIZE, np.int64)
        for walked, owners in walk_batch(scores, boundaries, fields, WALK):
            semantic = semantic_rows(sum_rows(walked, owners, len(LABELS)), SIZE, BACKGROUND)
            instance_masks(walked, owners, SIZE, DECISION)
        return semantic

    @torch.no_grad()
    def attend_plainly(self) -> Tensor:
        net, padded = self.plain_cam, (4 * -(-SIZE[0] // 16), 4 * -(-SIZE[1] // 16))
        total = torch.zeros(NUM_CLASSES, *padded, device=self.device)
        for scaled in Pyramid.of(self.image, CamConfig().scales).scales:
            x = net.backbone.normalize(scaled[None].to(self.device).contiguous())
            both = net.activations(torch.cat([x, x.flip(-1)]))
            total += F.interpolate(both[:1] + both[1:].flip(-1), padded, mode="bilinear", align_corners=False)[0]
        total = total[:, : GRID[0], : GRID[1]]
        return total / total.amax((1, 2), keepdim=True)

    @torch.no_grad()
    def synthesize_plainly(self) -> None:
        """Do all for one image but squaring T, which the authors do for the semantic labels and for the instances."""
        self.attend_plainly()
        full = upsample(self.scores, SIZE)
        for threshold in (float(RELATIONS.foreground_threshold), float(RELATIONS.background_threshold)):
            labels = strongest(full, threshold)[0].cpu().numpy()
            refine_labels(self.image, labels, len(LABELS) + 1, backend="pydensecrf")
        x = self.plain_irnet.backbone.normalize(self.pixels.contiguous())
        x = F.pad(x, (0, -x.shape[3] % 16, 0, -x.shape[2] % 16))
        for _ in ("semantic labels", "instances"):
            self.plain_irnet(torch.cat([x, x.flip(-1)]))
            full = F.interpolate(self.scores[None], SIZE, mode="bilinear", align_corners=False)[0]
            F.pad(full / full.max(), (0, 0, 0, 0, 1, 0), value=BACKGROUND).argmax(0).cpu()
        field = self.field.cpu().numpy()
        ndimage.label(np.hypot(*field) < WALK.centroid_threshold_px)
        follow(field, ITERATIONS)


def damp_residuals(backbone: Backbone) -> None:
    """Halve what a ResNet's blocks add to their input: at full size random blocks make chaos, which training undoes."""
    for name, weight in backbone.named_parameters():
        if name.endswith("bn3.weight"):
            weight.data.mul_(0.5)


def fit_classifier(net: CAMNet, pyramid: Pyramid, device: str) -> None:
    """Fit the classifier, by ridge regression over all views of an image, to as many regions as there are classes."""
    blobs, _ = cells(*GRID, NUM_CLASSES, NUM_CLASSES)
    regions = blobs.clamp(min=1e-30).log().softmax(0)[None].to(device)
    products: list[tuple[Tensor, Tensor]] = []
    for scaled in pyramid.scales:
        x = net.backbone.normalize(scaled[None].to(device).contiguous())
        plain, mirrored = net.backbone(x)[-1], net.backbone(x.flip(-1))[-1].flip(-1)
        wanted = F.interpolate(regions, plain.shape[-2:], mode="bilinear", align_corners=False)[0].flatten(1)
        for features in (plain[0].flatten(1), mirrored[0].flatten(1)):
            places = features.shape[1]
            products.append((features @ features.T / places, features @ wanted.T / places))
    squares, targets = (torch.stack(each).sum(0) for each in zip(*products, strict=True))
    ridge = 1e-2 * squares.diagonal().mean() * torch.eye(len(squares), device=device)
    net.classifier.weight.data.copy_(torch.linalg.solve(squares + ridge, targets).T[:, :, None, None])


def _cam_row(work: _Work) -> Row:
    def measure_error() -> float:
        return float((work.attend().argmax(0) != work.attend_plainly().argmax(0)).float().mean())

    name = f"CAM, ResNet-50, 4 scales x mirror, {SIZE[0]} x {SIZE[1]}"
    slow = [Part(work.attend_plainly)]
    return Row(name, "plain float32", work.attend, slow, measure_error, 5e-3, "of the cells' classes")


def _synthesis_row(work: _Work) -> Row:
    on_gpu = work.device != "cpu"
    parts = (work.synthesize, work.synthesize_plainly, partial(square_transition, *GRID, work.device))
    fast, slow, square = map(synchronised, parts) if on_gpu else parts

    def measure_error() -> float:
        """Return 1 - mIoU of the semantic labels against those of an exact walk."""
        settings = {"radius": WALK.radius_px, "beta": WALK.beta, "steps": WALK.steps}
        exact = propagate(work.scores, work.boundary, **settings, backend="torch")
        expected, found = semantic_rows(exact, SIZE, BACKGROUND), work.synthesize()
        both = [(found == row, expected == row) for row in range(len(LABELS) + 1)]
        return 1 - float(np.mean([(a & b).sum() / (a | b).sum() for a, b in both]))

    name = f"{f'GPU, {work.batch} images: ' if on_gpu else ''}label synthesis, ResNet-50, {SIZE[0]} x {SIZE[1]}"
    slow_parts = [Part(slow, work.batch), Part(square, 2 * SQUARINGS * work.batch)]
    return Row(name, "the authors' method", fast, slow_parts, measure_error, 1e-3, "of the mIoU", memory=not on_gpu)
