"""Training and applying any network that gives every pixel a class."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
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
from models.segnet import SceneNetwork
from tasks.augment import flip_and_crop, normalize, photometric, resize
from tasks.evaluation.semantic_metrics import confusion, iou, recall
from tasks.inference import Pyramid, batches, inference_autocast
from tasks.job import Job
from tasks.network_settings import SceneConfig, SegmentationConfig, SegmenterConfig
from tasks.networks import save_network
from tasks.stages.training import finish, parameter_groups, recipe_of
from tasks.training import Recipe, autocast, fit
from tasks.training.class_weights import class_weights, count_pixels
from tasks.training.group import Group
from tasks.training.norms import freeze_norms, recompute_norms, synchronize_norms

SegmenterNetwork = DeepLabV2 | SceneNetwork
VOID = 255
# A class takes part in the dense CRF of an image if it reaches this probability anywhere.
CRF_PROBABILITY = 0.05


def train_segmenter(net: SegmenterNetwork, job: Job) -> dict[str, Any]:
    """Train with cross-entropy over the pixels that are not void, and write the network, its history and its logs."""
    config = job.config
    assert isinstance(config, SegmenterConfig | SceneConfig)
    net.to(job.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    net.train()
    if config.sync_norm:
        synchronize_norms(net, job.device)
    if config.freeze_norm and net.backbone.pretrained:
        freeze_norms(net.backbone)
    history = fit(net, _recipe(net, config, job), job)
    if isinstance(config, SceneConfig) and config.recompute_norms and not job.validation:
        _recompute_norms(net, config, job)
    return finish(net, history, job, lambda: save_network(net, job.out))


def predict_segments(net: SegmenterNetwork, job: Job) -> dict[str, Any]:
    """Write a label map of every image."""
    config = job.config
    assert isinstance(config, SegmentationConfig)
    net = prepare_inference(net)
    done = 0
    for batch, pyramids in batches(job.samples, partial(_view, net.image_size, config.scales), job.device):
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
    net: SegmenterNetwork, pyramids: Sequence[Pyramid], device: str, *, mirror: bool = True
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


def _view(image_size: tuple[int, int] | None, scales: tuple[float, ...], image: NDArray[np.uint8]) -> Pyramid:
    """Return what a network is shown of an image: at its own size or at the network's, times every scale."""
    if image_size is None:
        return Pyramid.of(image, scales)
    return Pyramid(image.shape[:2], Pyramid.of(_resized(image, image_size), scales).scales)


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize to (H, W); each pixel of a smaller image is the mean of those that it stands for."""
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)  # pyright: ignore[reportReturnType]


Example = tuple[Tensor, Tensor]
ExampleOf = Callable[[NDArray[np.uint8], NDArray[np.uint8], np.random.Generator], Example]


def _crops(net: DeepLabV2, config: SegmenterConfig) -> ExampleOf:
    """Return what makes a random crop of an image and its label map, rescaled and recoloured."""

    def example(image: NDArray[np.uint8], labels: NDArray[np.uint8], rng: np.random.Generator) -> Example:
        scale = rng.uniform(*config.rescale)
        image, labels = resize(image, scale, cv2.INTER_LINEAR), resize(labels, scale, cv2.INTER_NEAREST)
        normalized = normalize(photometric(image, config.photometric, rng), net.backbone)
        crop, label_crop = flip_and_crop(normalized, labels, config.crop_size, rng)
        return torch.from_numpy(crop).permute(2, 0, 1), torch.from_numpy(label_crop)

    return example


def _scenes(net: SceneNetwork, config: SceneConfig, *, mirror: bool) -> ExampleOf:
    """Return what makes a whole image of one size with its label map, mirrored at random where that is wanted."""
    # The network's own may be on a GPU.
    normalized = copy.deepcopy(net.backbone.normalize).cpu()

    def example(image: NDArray[np.uint8], labels: NDArray[np.uint8], rng: np.random.Generator) -> Example:
        image = _resized(image, config.image_size)
        labels = cv2.resize(labels, config.image_size[::-1], interpolation=cv2.INTER_NEAREST)  # pyright: ignore
        if mirror and rng.random() < 0.5:
            image, labels = image[:, ::-1], labels[:, ::-1]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return normalized(pixels[None])[0], torch.from_numpy(np.ascontiguousarray(labels))

    return example


def _load(sample: Sample, num_classes: int, example: ExampleOf, rng: np.random.Generator) -> Example:
    image, labels = read_image(sample.image), read_labels(sample, num_classes)
    if labels.shape != image.shape[:2]:
        message = f"expected the image's size {image.shape[:2]}, found {labels.shape}"
        raise DatasetError([Problem(sample.semantic or sample.image, message, sample.id)])
    return example(image, labels, rng)


def _recompute_norms(net: nn.Module, config: SceneConfig, job: Job) -> None:
    """Give batch norm the statistics of the training set, each process for its share of the batches."""
    assert isinstance(net, SceneNetwork)
    example, group, rng = _scenes(net, config, mirror=False), Group.current(job.device), np.random.default_rng(0)
    cuts = list(range(0, len(job.samples), config.batch_size))
    # As many for each process: synchronised norms wait for one another.
    cuts += cuts[: -len(cuts) % group.size]

    def run(begin: int) -> None:
        batch = job.samples[begin : begin + config.batch_size]
        images = torch.stack([_load(sample, net.num_classes, example, rng)[0] for sample in batch])
        with autocast(job.device, config.precision):
            net(images.to(job.device, memory_format=torch.channels_last))

    recompute_norms(net, (partial(run, begin) for begin in cuts[group.rank :: group.size]), group)


def _recipe(net: SegmenterNetwork, config: SegmenterConfig | SceneConfig, job: Job) -> Recipe:
    num_classes = net.num_classes
    if config.class_weights == "none":
        weights = torch.ones(num_classes)
    else:
        counts = count_pixels(job.samples, lambda sample: read_labels(sample, num_classes), num_classes)
        weights = class_weights(counts, config.class_weights)
    weights = torch.cat([weights, torch.zeros(VOID + 1 - num_classes)])
    weights_on_device = weights[:num_classes].to(job.device)

    if isinstance(config, SceneConfig):
        assert isinstance(net, SceneNetwork)
        example = _scenes(net, config, mirror=config.mirror)
    else:
        assert isinstance(net, DeepLabV2)
        example = _crops(net, config)

    def load(index: int, rng: np.random.Generator) -> Example:
        return _load(job.samples[index], num_classes, example, rng)

    def weigh(batch: list[Example]) -> float:
        return sum(float(weights[labels.long()].sum()) for _, labels in batch)

    def step(net: nn.Module, batch: list[Example], _: float) -> tuple[Tensor, dict[str, float]]:
        images, labels = (torch.stack(part) for part in zip(*batch, strict=True))
        images = images.to(job.device, memory_format=torch.channels_last, non_blocking=True)
        with autocast(job.device, config.precision):
            logits = net(images)
        labels = labels.long().to(job.device)
        loss = F.cross_entropy(logits.float(), labels, weights_on_device, ignore_index=VOID, reduction="sum")
        # A batch of void alone has a loss of 0.
        loss = loss / (weigh(batch) or 1.0)
        return loss, {"loss": loss.item()}

    def validate(net: nn.Module) -> dict[str, float]:
        if isinstance(config, SceneConfig) and config.recompute_norms:
            _recompute_norms(net, config, job)
        return _validate(net, job)

    groups = parameter_groups(net, net.backbone, config)
    checked = validate if job.validation else None
    return recipe_of(config, load, step, groups, weigh=weigh, validate=checked, best=config.keep_by)


def _validate(net: nn.Module, job: Job) -> dict[str, float]:
    """Return the validation images' scores at one scale; each process predicts its share of them."""
    assert isinstance(net, SegmenterNetwork)
    group = Group.current(job.device)
    counts = np.zeros((net.num_classes, net.num_classes + 1), np.int64)
    own = job.validation[group.rank :: group.size]
    for batch, pyramids in batches(own, partial(_view, net.image_size, (1.0,)), job.device):
        predicted = class_probabilities(net, pyramids, job.device, mirror=False).argmax(1).byte().cpu().numpy()
        for sample, labels in zip(batch, predicted, strict=True):
            counts += confusion(read_labels(sample, net.num_classes), labels, net.num_classes)
    counts = np.array(group.sum(counts.ravel().astype(float).tolist())).reshape(counts.shape)
    counts = counts.round().astype(np.int64)
    figures = {"miou": iou(counts), "class_accuracy": recall(counts)}
    accuracy = float(np.diagonal(counts).sum() / max(counts.sum(), 1))
    return {"accuracy": accuracy, **{name: float(np.nanmean(values)) for name, values in figures.items()}}
