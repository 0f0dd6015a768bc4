"""Stages of every network that gives every pixel a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from data.dataset import VOID, LabelMap, Sample, value_type
from data.formats.images import read_image
from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import write_label_map
from kernels.crf import refine_probabilities
from models.backbones.base import BackboneChoice
from models.cooperative import Cooperative
from models.inference import prepare_inference
from models.segmenter import Segmenter
from models.segmenter import build_network as build_segmenter
from tasks.engine.job import Job
from tasks.evaluation.semantic_metrics import confusion, iou, recall
from tasks.evaluation.truth import label_reader, read_labels, refuse_void
from tasks.networks.segnet import SceneConfig
from tasks.networks.stages.examples import (
    Example,
    example_of,
    load_example,
    split_labels,
    view_of,
    with_confidence,
)
from tasks.networks.stages.recipe import finish, parameter_groups, recipe_of
from tasks.networks.trainer import PixelTrainerConfig, SegmentationConfig, SegmenterConfig
from tasks.training import Recipe, autocast, fit
from tasks.training.class_weights import class_weights, count_pixels
from tasks.training.group import Group
from tasks.training.inference import Pyramid, batches
from tasks.training.launch import run_in_processes
from tasks.training.norms import freeze_norms, recompute_norms, synchronize_norms
from tasks.training.precision import Precision
from tasks.training.saving import load_segmenter, save_network

# A class takes part in the dense CRF of an image if it reaches this probability anywhere.
CRF_PROBABILITY = 0.05


def train(job: Job) -> dict[str, Any]:
    """Train the network that the stage is named after, in as many processes as the job says."""
    return run_in_processes(train_here, job, job.num_processes)


def train_here(job: Job) -> dict[str, Any]:
    """Train in this process, alone or as one of several.

    The loss is the cross-entropy, weighted by class, summed over the pixels of a batch that are not void and divided by
    their number (SegNet, Sec. 3.2, whose Caffe layer divides so).
    """
    net, config = build_network(job)
    recipe = _recipe(net, config, job)
    history = fit(net, recipe, job)
    if isinstance(config, SceneConfig) and config.recompute_norms and not job.validation:
        _recompute_norms(net, config, job)
    summary = finish(net, recipe, history, job, partial(segment_once, net, job), lambda: save_network(net, job.out))
    return {**summary, "prediction": net.prediction} if isinstance(net, Cooperative) else summary


def predict(job: Job) -> dict[str, Any]:
    """Write a label map of every image."""
    ((folder,),) = job.inputs.values()
    return predict_segments(load_segmenter(folder, job.model, job.device), job)


def build_network(job: Job) -> tuple[Segmenter, SegmenterConfig | SceneConfig]:
    """Return the network that the stage is named after, ready to be trained, and its settings."""
    config = job.config
    assert isinstance(config, SegmenterConfig | SceneConfig)
    torch.manual_seed(job.seed)
    backbone = BackboneChoice(job.backbone, job.weights)
    net = build_segmenter(job.model, job.stage, len(job.classes.values), backbone, config.network_options)
    assert isinstance(net, Segmenter)
    net.image_size = config.image_size
    net.to(job.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    net.train()
    if config.sync_norm:
        busy = Group.current(job.device).is_always_busy(len(job.samples), config.batch_size, config.batch_parts)
        synchronize_norms(net, job.device, always_busy=busy)
    for backbone in net.backbones:
        if config.freeze_norm and backbone.pretrained:
            freeze_norms(backbone)
    return net, config


def predict_segments(net: Segmenter, job: Job) -> dict[str, Any]:
    """Write a label map of every image."""
    config = job.config
    assert isinstance(config, SegmentationConfig)
    net = prepare_inference(net)
    done = 0
    for batch, pyramids in batches(job.samples, partial(view_of, net.image_size, config.scales), job.device):
        views = {"mirror": config.mirror, "precision": config.precision}
        probabilities = class_probabilities(net, pyramids, job.device, **views)
        for sample, found in zip(batch, probabilities, strict=True):
            write_segments(sample, found, job)
        done += len(batch)
        job.progress(done, len(job.samples))
    return {}


def write_segments(sample: Sample, probabilities: Float[Tensor, "c h w"], job: Job) -> None:
    """Write the label map of an image, refined by a dense CRF where the settings ask for it."""
    assert isinstance(job.config, SegmentationConfig)
    if job.config.crf_iterations:
        probabilities = refine_classes(read_image(sample.image), probabilities, job.config.crf_iterations)
    write_label_map(job.out / SEMANTIC / f"{sample.id}.png", as_labels(probabilities.argmax(0), len(probabilities)))


def as_labels(values: Int[Tensor, "... h w"], num_values: int) -> LabelMap:
    """Return class values as label maps have them."""
    return values.cpu().numpy().astype(value_type(num_values))


def class_probabilities(
    net: Segmenter,
    pyramids: Sequence[Pyramid],
    device: str,
    *,
    mirror: bool = True,
    precision: Precision = "float32",
) -> Float[Tensor, "b c h w"]:
    """Return, for several images of one size, the mean of the classes' probabilities over all scales and mirrored."""
    softmax = partial(torch.softmax, dim=1)
    return mean_over_views(net, net, softmax, pyramids, device, mirror=mirror, precision=precision)


def segment_once(net: Segmenter, job: Job, sample: Sample) -> Float[Tensor, "1 c h w"]:
    """Return the classes' probabilities of an image, seen as it is."""
    view = view_of(net.image_size, (1.0,), read_image(sample.image))
    return class_probabilities(net, [view], job.device, mirror=False, precision="float32")


@torch.no_grad()
def mean_over_views(
    net: Segmenter,
    forward: Callable[[Tensor], Tensor],
    activate: Callable[[Tensor], Tensor],
    pyramids: Sequence[Pyramid],
    device: str,
    *,
    mirror: bool,
    precision: Precision,
) -> Float[Tensor, "b c h w"]:
    """Return, for several images of one size, the mean over all scales and mirrored of what a network says of them.

    Args:
        forward: From the network's input to logits [B, C, H, W].
        activate: From logits to probabilities.
    """
    total = None
    views = 0
    for images in zip(*(pyramid.scales for pyramid in pyramids), strict=True):
        x = net.normalize(torch.stack(images).to(device)).contiguous(memory_format=torch.channels_last)
        for mirrored in (False, True) if mirror else (False,):
            with autocast(device, precision):
                logits = forward(x.flip(-1) if mirrored else x)
            logits = logits.flip(-1) if mirrored else logits
            found = activate(F.interpolate(logits.float(), pyramids[0].size, mode="bilinear", align_corners=False))
            total = found if total is None else total + found
            views += 1
    assert total is not None
    return total / views


def refine_classes(
    image: NDArray[np.uint8], probabilities: Float[Tensor, "c h w"], iterations: int
) -> Float[Tensor, "c h w"]:
    """Bring the classes' borders to the image's edges; a class that is improbable everywhere does not compete."""
    (competing,) = (probabilities.amax((1, 2)) >= CRF_PROBABILITY).nonzero(as_tuple=True)
    pixels = torch.tensor(image, device=probabilities.device)
    refined = torch.zeros_like(probabilities)
    refined[competing] = refine_probabilities(pixels, probabilities[competing], iterations=iterations)
    return refined


def _recompute_norms(net: Segmenter, config: SceneConfig, job: Job) -> None:
    """Give batch norm the statistics of the training set, each process for its share of the batches."""
    read, rng = label_reader(net.num_classes), np.random.default_rng(0)
    example, group = example_of(net, config, augment=False), Group.current(job.device)
    cuts = range(0, len(job.samples), config.batch_size)
    # Shuffled as in training: frames of a video that follow one another vary less than a batch of all frames does.
    order = rng.permutation(len(job.samples))

    def run(begin: int) -> None:
        batch = [job.samples[index] for index in order[begin : begin + config.batch_size]]
        images = torch.stack([load_example(sample, read, example, rng)[0] for sample in batch])
        with autocast(job.device, config.precision):
            net(images.to(job.device, memory_format=torch.channels_last))

    recompute_norms(net, (partial(run, begin) for begin in cuts[group.rank :: group.size]), group)


def _recipe(net: Segmenter, config: SegmenterConfig | SceneConfig, job: Job) -> Recipe:
    num_classes = net.num_classes
    refuse_void(job.samples, num_classes, "training")
    refuse_void(job.validation, num_classes, "validation")
    weights = loss_weights(config, job.samples, num_classes)[:num_classes].to(job.device)

    read, example = label_reader(num_classes), example_of(net, config)
    output_weights, power = net.output_weights, config.confidence_weight
    if power:
        read = with_confidence(read)

    def load(index: int, rng: np.random.Generator) -> Example:
        return load_example(job.samples[index], read, example, rng)

    def weigh(batch: list[Example]) -> float:
        return float(sum(_total_weight(*split_labels(labels, power)) for _, labels in batch))

    def step(net: nn.Module, batch: list[Example], _: float) -> tuple[Tensor, dict[str, float]]:
        images, labels = (torch.stack(part) for part in zip(*batch, strict=True))
        images = images.to(job.device, memory_format=torch.channels_last, non_blocking=True)
        with autocast(job.device, config.precision):
            logits = net(images)
        values, sure = split_labels(labels.to(job.device), power)
        loss = summed_cross_entropy(logits, values, weights, output_weights, sure)
        # Not by their weights, or a batch of common classes alone would count as much as any. One of void alone is 0.
        loss = loss / (weigh(batch) or 1.0)
        return loss, {"loss": loss.item()}

    def validate(net: nn.Module) -> dict[str, float]:
        if isinstance(config, SceneConfig) and config.recompute_norms:
            assert isinstance(net, Segmenter)
            _recompute_norms(net, config, job)
        return validate_segmenter(net, job)

    groups = parameter_groups(net, net.backbones, config)
    checked = validate if job.validation else None
    return recipe_of(config, load, step, groups, weigh=weigh, validate=checked, best=config.keep_by)


def _total_weight(labels: Int[Tensor, "h w"], sure: Float[Tensor, "h w"] | None) -> float:
    known = labels != VOID
    return float(known.sum() if sure is None else sure[known].sum())


def loss_weights(config: PixelTrainerConfig, samples: Sequence[Sample], num_classes: int) -> Float[Tensor, " values"]:
    """Return the weight of every value of a label map in the loss; what is no class has 0."""
    weights = torch.ones(num_classes)
    if config.class_weights != "none":
        weights = class_weights(count_pixels(samples, label_reader(num_classes), num_classes), config.class_weights)
    weights = F.pad(weights, (0, max(0, VOID + 1 - num_classes)))
    weights[VOID] = 0
    return weights


def summed_cross_entropy(
    logits: Tensor,
    labels: Int[Tensor, "b h w"],
    weights: Float[Tensor, " c"],
    output_weights: Sequence[float] | None = None,
    sure: Float[Tensor, "b h w"] | None = None,
) -> Float[Tensor, ""]:
    """Return the weighted cross-entropy, summed over the pixels that are not void.

    Args:
        logits: [B, C, H, W], or [N, B, C, H, W] of networks that are trained together, whose losses add up.
        labels: Values of the classes, `VOID` where none is known.
        weights: Of the classes.
        output_weights: Of the N losses; None where each counts 1.
        sure: Weights of the pixels; None where each counts 1.
    """
    networks = logits.float() if logits.dim() == 5 else logits.float()[None]
    if sure is None:
        losses = [F.cross_entropy(one, labels, weights, ignore_index=VOID, reduction="sum") for one in networks]
    else:
        of_pixels = (F.cross_entropy(one, labels, weights, ignore_index=VOID, reduction="none") for one in networks)
        losses = [(sure * each).sum() for each in of_pixels]
    if output_weights is not None:
        losses = [weight * loss for weight, loss in zip(output_weights, losses, strict=True)]
    return torch.stack(losses).sum()


def validate_segmenter(net: nn.Module, job: Job) -> dict[str, float]:
    """Return the validation images' scores at one scale, in the precision of the training: whatever the machine, one
    network is the best. Each process predicts its share of them.
    """
    assert isinstance(net, Segmenter)
    assert isinstance(job.config, PixelTrainerConfig)
    group = Group.current(job.device)
    counts = np.zeros((net.num_classes, net.num_classes + 1), np.int64)
    own = job.validation[group.rank :: group.size]
    for batch, pyramids in batches(own, partial(view_of, net.image_size, (1.0,)), job.device):
        precision = job.config.precision
        best = class_probabilities(net, pyramids, job.device, mirror=False, precision=precision).argmax(1)
        predicted = as_labels(best, net.num_classes)
        for sample, labels in zip(batch, predicted, strict=True):
            counts += confusion(read_labels(sample, net.num_classes), labels, net.num_classes)
    counts = np.array(group.sum(counts.ravel().astype(float).tolist())).reshape(counts.shape)
    counts = counts.round().astype(np.int64)
    figures = {"miou": iou(counts), "class_accuracy": recall(counts)}
    accuracy = float(np.diagonal(counts).sum() / max(counts.sum(), 1))
    return {"accuracy": accuracy, **{name: float(np.nanmean(values)) for name, values in figures.items()}}
