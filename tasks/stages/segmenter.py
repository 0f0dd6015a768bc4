"""Training and applying any network that gives every pixel a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from data.dataset import DatasetError, Problem, Sample
from data.images import read_image
from data.label_folder import SEMANTIC
from data.label_maps import read_ground_truth, write_label_map
from kernels.crf import refine_probabilities
from models.deeplabv2 import DeepLabV2
from models.inference import prepare_inference
from tasks.augment import flip_and_crop, normalize, photometric, resize
from tasks.evaluation.semantic_metrics import confusion, iou
from tasks.inference import Pyramid, batches, inference_autocast
from tasks.job import Job
from tasks.network_settings import SegmentationConfig, SegmenterConfig
from tasks.networks import save_network
from tasks.stages.training import finish, parameter_groups, recipe_of
from tasks.training import Recipe, autocast, fit
from tasks.training.class_weights import class_weights, count_pixels
from tasks.training.group import Group
from tasks.training.norms import freeze_norms, synchronize_norms

Segmenter = DeepLabV2
VOID = 255
# A class takes part in the dense CRF of an image if it reaches this probability anywhere.
CRF_PROBABILITY = 0.05


def train_segmenter(net: Segmenter, job: Job) -> dict[str, Any]:
    """Train with cross-entropy over the pixels that are not void, and write the network, its history and its logs."""
    config = job.config
    assert isinstance(config, SegmenterConfig)
    net.to(job.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    net.train()
    if config.sync_norm:
        synchronize_norms(net, job.device)
    if config.freeze_norm and net.backbone.pretrained:
        freeze_norms(net.backbone)
    history = fit(net, _recipe(net, config, job), job)
    return finish(net, history, job, lambda: save_network(net, job.out))


def predict_segments(net: Segmenter, job: Job) -> dict[str, Any]:
    """Write a label map of every image."""
    config = job.config
    assert isinstance(config, SegmentationConfig)
    net = prepare_inference(net)
    done = 0
    for batch, pyramids in batches(job.samples, lambda image: Pyramid.of(image, config.scales), job.device):
        probabilities = class_probabilities(net, pyramids, job.device, mirror=config.mirror)
        for sample, found in zip(batch, probabilities, strict=True):
            if config.crf_iterations:
                found = _refine(read_image(sample.image), found, config.crf_iterations)
            write_label_map(job.out / SEMANTIC / f"{sample.id}.png", found.argmax(0).byte().cpu().numpy())
        done += len(batch)
        job.progress(done, len(job.samples))
    return {}


@torch.no_grad()
def class_probabilities(
    net: Segmenter, pyramids: Sequence[Pyramid], device: str, *, mirror: bool = True
) -> Float[Tensor, "b c h w"]:
    """Return, for several images of one size, the mean of the classes' probabilities over all scales and mirrored."""
    total = None
    views = 0
    for images in zip(*(pyramid.scales for pyramid in pyramids), strict=True):
        x = net.backbone.normalize(torch.stack(images).to(device)).contiguous(memory_format=torch.channels_last)
        for mirrored in (False, True) if mirror else (False,):
            with inference_autocast(device):
                logits = net(x.flip(-1) if mirrored else x)
            logits = logits.flip(-1) if mirrored else logits
            found = F.interpolate(logits.float(), pyramids[0].size, mode="bilinear", align_corners=False).softmax(1)
            total = found if total is None else total + found
            views += 1
    assert total is not None
    return total / views


def read_labels(sample: Sample, num_classes: int) -> NDArray[np.uint8]:
    """Read the label map [H, W] that a sample is trained or tested on.

    Raises:
        DatasetError: There is none, it cannot be read, or it has values of no class.
    """
    labels = read_ground_truth(sample).semantic
    if labels is None:
        raise DatasetError([Problem(sample.image, "expected a label map, found none", sample.id)])
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    if unknown := [int(value) for value in values if num_classes <= value < VOID]:
        message = f"expected values up to {num_classes - 1} and {VOID}, found {', '.join(map(str, unknown))}"
        raise DatasetError([Problem(sample.semantic or sample.image, message, sample.id)])
    return labels


def _refine(image: NDArray[np.uint8], probabilities: Float[Tensor, "c h w"], iterations: int) -> Float[Tensor, "c h w"]:
    """Bring the classes' borders to the image's edges; a class that is improbable everywhere does not compete."""
    (competing,) = (probabilities.amax((1, 2)) >= CRF_PROBABILITY).nonzero(as_tuple=True)
    pixels = torch.tensor(image, device=probabilities.device)
    refined = torch.zeros_like(probabilities)
    refined[competing] = refine_probabilities(pixels, probabilities[competing], iterations=iterations)
    return refined


def _recipe(net: Segmenter, config: SegmenterConfig, job: Job) -> Recipe:
    num_classes = net.num_classes
    if config.class_weights == "none":
        weights = torch.ones(num_classes)
    else:
        counts = count_pixels(job.samples, lambda sample: read_labels(sample, num_classes), num_classes)
        weights = class_weights(counts, config.class_weights)
    weights = torch.cat([weights, torch.zeros(VOID + 1 - num_classes)])
    weights_on_device = weights[:num_classes].to(job.device)

    def load(index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        sample = job.samples[index]
        image, labels = read_image(sample.image), read_labels(sample, num_classes)
        if labels.shape != image.shape[:2]:
            message = f"expected the image's size {image.shape[:2]}, found {labels.shape}"
            raise DatasetError([Problem(sample.semantic or sample.image, message, sample.id)])
        scale = rng.uniform(*config.rescale)
        image, labels = resize(image, scale, cv2.INTER_LINEAR), resize(labels, scale, cv2.INTER_NEAREST)
        image = normalize(photometric(image, config.photometric, rng), net.backbone)
        crop, label_crop = flip_and_crop(image, labels, config.crop_size, rng)
        return torch.from_numpy(crop).permute(2, 0, 1), torch.from_numpy(label_crop)

    def weigh(batch: list[tuple[Tensor, Tensor]]) -> float:
        return sum(float(weights[labels.long()].sum()) for _, labels in batch)

    def step(net: nn.Module, batch: list[tuple[Tensor, Tensor]], _: float) -> tuple[Tensor, dict[str, float]]:
        images, labels = (torch.stack(part) for part in zip(*batch, strict=True))
        images = images.to(job.device, memory_format=torch.channels_last, non_blocking=True)
        with autocast(job.device, config.precision):
            logits = net(images)
        labels = labels.long().to(job.device)
        loss = F.cross_entropy(logits.float(), labels, weights_on_device, ignore_index=VOID, reduction="sum")
        # A batch of void alone has a loss of 0.
        loss = loss / (weigh(batch) or 1.0)
        return loss, {"loss": loss.item()}

    validate = (lambda net: _validate(net, job)) if job.validation else None
    groups = parameter_groups(net, net.backbone, config)
    return recipe_of(config, load, step, groups, weigh=weigh, validate=validate, best="miou")


def _validate(net: nn.Module, job: Job) -> dict[str, float]:
    """Return the mIoU of the validation images at their own scale; each process predicts its share of them."""
    assert isinstance(net, Segmenter)
    group = Group.current(job.device)
    counts = np.zeros((net.num_classes, net.num_classes + 1), np.int64)
    own = job.validation[group.rank :: group.size]
    for batch, pyramids in batches(own, lambda image: Pyramid.of(image, (1.0,)), job.device):
        predicted = class_probabilities(net, pyramids, job.device, mirror=False).argmax(1).byte().cpu().numpy()
        for sample, labels in zip(batch, predicted, strict=True):
            counts += confusion(read_labels(sample, net.num_classes), labels, net.num_classes)
    counts = np.array(group.sum(counts.ravel().astype(float).tolist())).reshape(counts.shape)
    return {"miou": float(np.nanmean(iou(counts.round().astype(np.int64))))}
