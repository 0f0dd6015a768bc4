"""Stage `classifier`: the image-level classifier whose class attention maps seed everything (Sec. 3)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from data.dataset import Sample, SampleWithMore
from models.backbones.base import build_backbone
from models.cam import CAMNet
from tasks.engine.job import Job
from tasks.evaluation.tag_scores import alike_groups, hold_out, score_in_folds, score_tags, verdict
from tasks.pipeline.settings import ClassifierConfig
from tasks.training import (
    FALL,
    HELD_STEPS,
    Recipe,
    TrainingError,
    autocast,
    build_optimizer,
    finite_outputs,
    fit_with_restarts,
    write_history,
)
from tasks.training.augment import flip_and_crop, normalize, photometric, resize, scale_for_long_side
from tasks.training.norms import freeze_norms
from tasks.training.saving import save_network
from tasks.training.working_size import read_working_image

log = logging.getLogger(__name__)
# The classes of the set that the reference's rates were chosen on.
REFERENCE_CLASSES = 20
# So many images are looked at before a classifier is published.
PROBED = 16
# Of fewer images none can be spared.
LEAST_FOR_HOLDING_OUT = 100
# Of fewer images a tenth is too few to tell a classifier from chance.
LEAST_FOR_HELD_OUT_ALONE = 300


def train_classifier(job: Job) -> dict[str, Any]:
    """Train the classifier, measure how well it tells the tags, and write the network and its history.

    Summary: the last figures of the training; "restarts"; "stalled", whether the last of them did not learn either;
    "tags", from `tasks.evaluation.tag_scores.score_tags`, and in it "measured_on": "held-out images"; of fewer than 100
    images "folds": by a linear classifier on the features of the ImageNet weights, fitted without the images that it
    scores; without either "training images". Of fewer than 300 images "chance" is that of folds over all of them,
    unless the held-out images alone leave no doubt; "judged" counts the images that it is of. Of images that are alike
    it counts one; "alike" is their share.

    Raises:
        TrainingError: As of `fit`; or what comes out overflows, or attends to nothing in any image that it is shown.
    """
    config = job.config
    assert isinstance(config, ClassifierConfig)
    targets, weights = _targets(job), _weights(job)
    whole = np.flatnonzero((weights == 1).all(axis=1))
    apart = np.zeros(0, np.int64)
    if len(whole) >= LEAST_FOR_HOLDING_OUT:
        # An image of which a tag is not known, or not sure, cannot judge.
        apart = whole[hold_out(targets[whole], config.held_out, job.seed)]
    learned = np.setdiff1d(np.arange(len(job.samples)), apart)

    def build(rate: float) -> tuple[CAMNet, Recipe[Any]]:
        net = _network(job, config)
        return net, _recipe(net, config, job, learned, targets, weights, rate)

    samples = tuple(job.samples[row] for row in learned)
    net, history, restarts = fit_with_restarts(build, replace(job, samples=samples), config.restarts)
    _check_attention(net.eval(), config, job)
    tags = _measure(net, config, job, apart, whole, targets)
    save_network(net, job.out, top_share=config.top_share)
    write_history(job.out, history)
    wanted, weight = (torch.from_numpy(each[learned]).float() for each in (targets, weights))
    initial = _loss(config, wanted, weight, "cpu")[1]
    stalled = 0 < config.restarts == restarts and history[-1]["loss"] > (1 - FALL) * initial
    return {
        "pretrained": net.backbone.pretrained,
        **history[-1],
        "restarts": restarts,
        "stalled": stalled,
        "tags": tags,
    }


def _targets(job: Job) -> NDArray[np.bool_]:
    targets = np.zeros((len(job.samples), len(job.classes)), bool)
    for row, sample in enumerate(job.samples):
        targets[row, list(sample.labels)] = True
    return targets


def _weights(job: Job) -> NDArray[np.float32]:
    """Return how much each class of an image teaches [N, C]: nothing where nobody knows, less where a tag is unsure."""
    weights = np.ones((len(job.samples), len(job.classes)), np.float32)
    for row, sample in enumerate(job.samples):
        if isinstance(sample, SampleWithMore):
            weights[row, list(sample.unknown)] = 0
            weights[row, list(sample.labels)] = sample.certainty or 1
    return weights


def _network(job: Job, config: ClassifierConfig) -> CAMNet:
    torch.manual_seed(job.seed)
    backbone = build_backbone(job.backbone, job.weights, output_stride=config.output_stride)
    if not backbone.pretrained:
        log.warning("no ImageNet weights: the classifier is trained from random weights, batch norm included")
    net = CAMNet(backbone, len(job.classes), top_share=config.top_share)
    if config.loss == "prior":
        # So the order of the classes draws no other numbers.
        nn.init.zeros_(net.classifier.weight)
    net.to(job.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    net.train()
    if config.freeze_norm and backbone.pretrained:
        freeze_norms(net, scale=config.freeze_norm_scale)
    return net


def _recipe(
    net: CAMNet,
    config: ClassifierConfig,
    job: Job,
    learned: NDArray[np.int64],
    targets: NDArray[np.bool_],
    weights: NDArray[np.float32],
    rate: float,
) -> Recipe[tuple[Tensor, Tensor, Tensor]]:
    wanted_of, weight_of = torch.from_numpy(targets).float(), torch.from_numpy(weights)
    loss_of, initial = _loss(config, wanted_of[learned], weight_of[learned], job.device)

    def load(index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        row = learned[index]
        image = read_working_image(job.samples[row].image, job.long_side)
        scale = scale_for_long_side(image, config.resize_long, rng)
        image = photometric(resize(image, scale, cv2.INTER_CUBIC), config.photometric, rng)
        crop, _ = flip_and_crop(normalize(image, net.backbone), None, config.crop_size, rng)
        return torch.from_numpy(crop).permute(2, 0, 1), wanted_of[row], weight_of[row]

    def step(net: nn.Module, batch: list[tuple[Tensor, Tensor, Tensor]], _: float) -> tuple[Tensor, dict[str, float]]:
        images, wanted, weight = (torch.stack(part) for part in zip(*batch, strict=True))
        images = images.to(job.device, memory_format=torch.channels_last, non_blocking=True)
        with autocast(job.device, config.precision):
            logits = net(images)
        loss = loss_of(logits.float(), wanted.to(job.device), weight.to(job.device))
        return loss, {"loss": loss.item()}

    trained = [p for p in net.backbone.parameters() if p.requires_grad]
    groups = [
        {"params": trained, "lr": rate * config.learning_rate},
        {"params": net.classifier.parameters(), "lr": rate * config.learning_rate * config.head_lr_factor},
    ]
    optimizer = build_optimizer(config.optimizer, groups, momentum=config.momentum, weight_decay=config.weight_decay)
    recipe = Recipe(
        load,
        step,
        optimizer,
        config.batch_size,
        config.epochs,
        warmup_steps=config.warmup_steps,
        clip_norm=config.clip_norm,
        steps=config.steps,
        initial_loss=initial,
    )
    if net.backbone.pretrained:
        optimizer.param_groups[0][HELD_STEPS] = _held_steps(config, targets[learned], recipe.num_steps(len(learned)))
    return recipe


def _held_steps(config: ClassifierConfig, targets: NDArray[np.bool_], num_steps: int) -> int:
    """Return in how many steps the classification layer learns alone.

    Args:
        config: Of the stage.
        targets: The tags [N, C] of the images that are learned from.
        num_steps: Of the training.
    """
    counts = targets.sum(axis=0)
    if not counts.any():
        return 0
    seen_in_a_step = config.batch_size * float(np.median(counts[counts > 0])) / len(targets)
    held = min(round(config.head_views / seen_in_a_step), num_steps // 4)
    return held if held > config.warmup_steps else 0


def _loss(
    config: ClassifierConfig, wanted: Float[Tensor, "n c"], weights: Float[Tensor, "n c"], device: str
) -> tuple[Any, float]:
    """Return the loss of logits, tags and their weights, a mean over images, and its value for a network that knows
    nothing.

    Args:
        wanted: The tags of the images that are learned from.
        weights: How much each teaches, in [0, 1].
    """
    num_classes = wanted.shape[1]
    if config.loss == "soft_margin":
        scale = num_classes / REFERENCE_CLASSES

        def soft_margin(logits: Tensor, tags: Tensor, weight: Tensor) -> Tensor:
            return scale * F.multilabel_soft_margin_loss(logits, tags, weight=weight)

        return soft_margin, scale * float(np.log(2)) * float(weights.mean())
    shares = ((weights * wanted).sum(dim=0) + 0.5) / (weights.sum(dim=0) + 1)
    # A class that no image has teaches nothing but what the others are not.
    occurs = (wanted.sum(dim=0) > 0).float().to(device)
    offsets = torch.logit(shares).to(device)

    def loss(logits: Tensor, tags: Tensor, weight: Tensor) -> Tensor:
        each = F.binary_cross_entropy_with_logits(logits + offsets, tags, reduction="none")
        return (each * occurs * weight).sum(dim=1).mean()

    return loss, float(loss(*(each.to(device) for each in (torch.zeros_like(wanted), wanted, weights))))


def _measure(
    net: CAMNet,
    config: ClassifierConfig,
    job: Job,
    apart: NDArray[np.int64],
    whole: NDArray[np.int64],
    targets: NDArray[np.bool_],
) -> dict[str, Any]:
    """Return how well the classifier tells the tags of images that it has not learned from, where there are any.

    Args:
        net: The classifier.
        config: Of the stage.
        job: Of the stage.
        apart: The rows that it has not learned from.
        whole: The rows of images whose tags are all known; where there are none, nothing is measured.
        targets: The tags [N, C].
    """
    if not config.held_out or not len(whole):
        return {}
    side, every = sum(config.resize_long) // 2, list(job.samples)

    def scored(rows: NDArray[np.int64]) -> dict[str, Any]:
        scores = _infer(net, lambda image: net(image), [every[row] for row in rows], side, job)
        return score_tags(scores, targets[rows], job.classes, job.seed)

    def in_folds() -> dict[str, Any]:
        backbone = build_backbone(job.backbone, job.weights).to(job.device).eval()
        known = [every[row] for row in whole]
        features = _infer(net, lambda image: backbone(image)[-1].mean(dim=(2, 3)), known, side, job)
        groups = alike_groups(features, targets[whole])
        scores = score_in_folds(features, targets[whole], job.seed, groups)
        found = score_tags(scores, targets[whole], job.classes, job.seed, groups)
        return {"measured_on": "folds", **found}

    held_out = scored(apart) if len(apart) else {"mean_ap": None}
    folds = in_folds() if net.backbone.pretrained and 2 < len(whole) < LEAST_FOR_HELD_OUT_ALONE else None
    if held_out["mean_ap"] is None:
        return folds or {"measured_on": "training images", **scored(whole)}
    return {"measured_on": "held-out images", **held_out, **verdict(held_out, folds)}


def _check_attention(net: CAMNet, config: ClassifierConfig, job: Job) -> None:
    """Raises:
    TrainingError: The network overflows, or the attention maps of all tags are empty in all of some images.
    """
    tagged = [sample for sample in job.samples if sample.labels]
    shown = tagged[:: -(-len(tagged) // PROBED)] if tagged else []
    if not shown:
        return
    with finite_outputs(net):
        highest = _infer(net, lambda x: net.activations(x).amax((2, 3)), shown, sum(config.resize_long) // 2, job)
    if not any(found[list(sample.labels)].any() for sample, found in zip(shown, highest, strict=True)):
        raise TrainingError(
            f"the classifier attends to nothing: the maps of all tags of {len(shown)} images are zero everywhere. "
            "Lower --classifier.learning-rate, or train longer (--classifier.steps)"
        )


@torch.no_grad()
def _infer(net: CAMNet, function: Any, samples: list[Sample], side: int, job: Job) -> Float[np.ndarray, "n d"]:
    """Return a function of the network's input for each image, brought to a long side."""
    found = []
    for sample in samples:
        image = read_working_image(sample.image, (side, side))
        # What is cut or decoded may be read-only, which torch warns of.
        pixels = torch.tensor(image).permute(2, 0, 1)[None].to(job.device)
        found.append(function(net.backbone.normalize(pixels))[0].float().cpu().numpy())
    return np.stack(found)
