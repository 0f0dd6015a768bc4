"""Stages of segmentation and saliency from one network (Sima et al. 2023)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from data.dataset import VOID, DatasetError, Problem, Sample
from data.formats.label_folder import SALIENCY
from data.formats.label_maps import write_label_map
from models.inference import prepare_inference
from models.saliency import FixedLoss, Maps, SaliencyDeepLabV3Plus, UncertaintyLoss
from models.segmenter import Segmenter
from tasks.engine.job import Job
from tasks.evaluation.truth import label_reader, refuse_void
from tasks.networks.saliency import SaliencyConfig
from tasks.networks.stages.examples import (
    CLASS_BITS,
    example_of,
    load_example,
    split_labels,
    view_of,
    with_confidence,
)
from tasks.networks.stages.recipe import finish, parameter_groups, recipe_of
from tasks.networks.stages.saliency_targets import SALIENCY_FILE, derive_mask, has_own_mask, read_mask, salient_values
from tasks.networks.stages.segmentation import (
    build_network,
    loss_weights,
    mean_over_views,
    predict_segments,
    segment_once,
    validate_segmenter,
    write_segments,
)
from tasks.networks.trainer import SegmentationConfig
from tasks.training import Recipe, autocast, fit
from tasks.training.inference import batches
from tasks.training.launch import run_in_processes
from tasks.training.saving import load_segmenter, save_network

log = logging.getLogger(__name__)
TASKS = ("segmentation", "saliency")

# The network's input and the values of the classes of a scene, a mask, and the input that the mask is of, where that is
# another image.
Labelled = tuple[Tensor, ...]


def train(job: Job) -> dict[str, Any]:
    """Train on the samples' label maps and masks, in as many processes as the job says."""
    return run_in_processes(train_here, job, job.num_processes)


def train_here(job: Job) -> dict[str, Any]:
    """Train in this process, alone or as one of several.

    Samples of a set of salient objects train the saliency branch, the others that of segmentation: a step has as many
    of each, those with masks drawn at random. Without such a set masks are derived from the label maps, and every
    sample trains both. Where saliency's weight is 0 there is no such branch, and no masks are looked at.

    Raises:
        DatasetError: There are no samples with label maps of classes, or no masks can be derived.
    """
    scenes, masked = ([s for s in job.samples if has_own_mask(s) is own] for own in (False, True))
    on_scenes = replace(job, samples=tuple(scenes))
    net, config = build_network(on_scenes)
    assert isinstance(config, SaliencyConfig)
    if not scenes:
        raise DatasetError([Problem(masked[0].image, "expected images with label maps of classes too, found none")])
    refuse_void(scenes, net.num_classes, "training")
    refuse_void(job.validation, net.num_classes, "validation")
    if not config.learns_saliency:
        masked = []
    derived = config.learns_saliency and not masked
    salient = salient_values(job.classes, config.salient_classes) if derived else ()
    names = [job.classes.values[value] for value in salient]
    if names:
        log.warning("no set with masks of salient objects: they are derived from the label maps: %s", ", ".join(names))
    if masked or salient:
        _warn_of_one_value(masked or scenes, partial(read_mask, num_classes=net.num_classes, salient=salient))
    recipe = _recipe(net, config, on_scenes, masked, salient)
    history = fit(net, recipe, on_scenes)

    def save() -> None:
        save_network(net, job.out)
        if config.learns_saliency:
            (job.out / SALIENCY_FILE).write_text(json.dumps({"derived_from": names, "images": len(masked)}))

    summary = finish(net, recipe, history, on_scenes, partial(segment_once, net, job), save)
    if not isinstance(net, SaliencyDeepLabV3Plus):
        return summary
    # The kept network's own: those of the history are means over the steps of an epoch.
    return {**summary, **_sigmas(net.joint_loss), "masks_derived_from": names}


def _warn_of_one_value(samples: Sequence[Sample], read: Callable[[Sample], NDArray[np.uint8]]) -> None:
    """Log a warning where no mask has a salient pixel, or none has another one."""
    seen: set[int] = set()
    for sample in samples:
        seen |= {int(value) for value in np.unique(read(sample))} - {VOID}
        if len(seen) > 1:
            return
    found = "all salient" if seen == {1} else "never salient"
    log.warning("the pixels of all %d masks are %s: are their values those of masks?", len(samples), found)


def predict(job: Job) -> dict[str, Any]:
    """Write a label map of every image, and a map of its saliency, in grey: 255 times the probability.

    A network that has not learned saliency writes label maps alone.
    """
    config = job.config
    assert isinstance(config, SegmentationConfig)
    ((folder,),) = job.inputs.values()
    net = load_segmenter(folder, job.model, job.device)
    if not isinstance(net, SaliencyDeepLabV3Plus):
        return predict_segments(net, job)
    net = prepare_inference(net)
    (job.out / SALIENCY_FILE).write_text((folder / SALIENCY_FILE).read_text())
    done = 0
    for batch, pyramids in batches(job.samples, partial(view_of, net.image_size, config.scales), job.device):
        views = {"mirror": config.mirror, "precision": config.precision}
        found = mean_over_views(net, partial(_logits, net), _activate, pyramids, job.device, **views)
        for sample, maps in zip(batch, found, strict=True):
            write_segments(sample, maps[:-1], job)
            salient = (255 * maps[-1]).round().byte().cpu().numpy()
            write_label_map(job.out / SALIENCY / f"{sample.id}.png", salient, grey=True)
        done += len(batch)
        job.progress(done, len(job.samples))
    return {}


def task_losses(
    maps: Maps,
    labels: Int[Tensor, "b h w"],
    masks: Int[Tensor, "m h w"],
    weights: Float[Tensor, " values"],
    sure: Float[Tensor, "b h w"] | None = None,
) -> tuple[Float[Tensor, " tasks"], Float[Tensor, " tasks"]]:
    """Return the cross-entropies of segmentation and saliency (L1 and L2 of Eq. 8), and the shares that have labels.

    Each loss is the mean over the images, of the mean over the pixels that have its label; of an image without such
    pixels it is 0. So a batch that is computed in parts, or by several processes, has the loss of the whole.

    Args:
        maps: Either may be of other images.
        labels: Values of the classes, `VOID` where none is known.
        masks: 1 for salient, 0, `VOID` where it is not known.
        weights: Of the values.
        sure: Weights of the pixels of `labels`; None where each counts 1.
    """
    of_classes = F.cross_entropy(maps.classes.float(), labels, ignore_index=VOID, reduction="none")
    of_saliency = F.binary_cross_entropy_with_logits(maps.saliency.float(), (masks == 1).float(), reduction="none")
    of_labels = weights[labels] if sure is None else weights[labels] * sure
    weighted = ((of_classes, of_labels), (of_saliency, (masks != VOID).float()))
    means, shares = zip(*(_mean_of_images(*task) for task in weighted), strict=True)
    return torch.stack(means), torch.stack(shares)


def _mean_of_images(losses: Float[Tensor, "b h w"], weights: Float[Tensor, "b h w"]) -> tuple[Tensor, Tensor]:
    totals = weights.sum((1, 2))
    has_any = totals > 0
    means = (losses * weights).sum((1, 2)) / torch.where(has_any, totals, 1)
    return means.mean(), has_any.float().mean()


def _recipe(
    net: Segmenter, config: SaliencyConfig, job: Job, masked: Sequence[Sample], salient: Sequence[int]
) -> Recipe:
    """Return the recipe of a training on a job's scenes, and on samples with masks or on masks derived from scenes.

    Without any masks the network is one without saliency.
    """
    example, read = example_of(net, config), label_reader(net.num_classes)
    power = config.confidence_weight
    if power:
        read = with_confidence(read)
    read_own_mask = partial(read_mask, num_classes=net.num_classes)
    weights = loss_weights(config, job.samples, net.num_classes).to(job.device)

    def load(index: int, rng: np.random.Generator) -> Labelled:
        pixels, labels = load_example(job.samples[index], read, example, rng)
        if not masked:
            values = labels & CLASS_BITS if power else labels
            mask = torch.from_numpy(derive_mask(values.numpy(), salient)) if salient else torch.full_like(labels, VOID)
            return pixels, labels, mask
        chosen = masked[int(rng.integers(len(masked)))]
        others, mask = load_example(chosen, read_own_mask, example, rng)
        return pixels, labels, mask, others

    def step(net: nn.Module, batch: list[Labelled], _: float) -> tuple[Tensor, dict[str, float]]:
        images, labels, masks, *others = (torch.stack(part) for part in zip(*batch, strict=True))
        inputs = (
            part.to(job.device, memory_format=torch.channels_last, non_blocking=True) for part in (images, *others)
        )
        with autocast(job.device, config.precision):
            found = net(*inputs)
        maps = found if isinstance(found, Maps) else Maps(found, torch.zeros_like(found[:, 0]))
        values, sure = split_labels(labels.to(job.device), power)
        losses, shares = task_losses(maps, values, masks.long().to(job.device), weights, sure)
        loss = joint_loss(losses, shares)
        tasks = TASKS if config.learns_saliency else TASKS[:1]
        return loss, {"loss": loss.item(), **dict(zip(tasks, losses.tolist(), strict=False)), **_sigmas(joint_loss)}

    joint_loss = net.joint_loss if isinstance(net, SaliencyDeepLabV3Plus) else FixedLoss(config.task_weights or ())
    backbones, heads = parameter_groups(net, net.backbones, config)
    sigmas = list(joint_loss.parameters())
    learned = {id(parameter) for parameter in sigmas}
    heads["params"] = [parameter for parameter in heads["params"] if id(parameter) not in learned]
    own = {"params": sigmas, "lr": config.learning_rate * config.sigma_lr_factor, "weight_decay": 0.0}
    groups = [backbones, heads, *([own] if sigmas else [])]
    validate = partial(validate_segmenter, job=job) if job.validation else None
    return recipe_of(config, load, step, groups, validate=validate, best=config.keep_by)


def _sigmas(joint_loss: UncertaintyLoss | FixedLoss) -> dict[str, float]:
    """Return the standard deviations that are learned, by task; none where the weights are given."""
    if not isinstance(joint_loss, UncertaintyLoss):
        return {}
    return {f"sigma_{task}": value for task, value in zip(TASKS, joint_loss.sigma.tolist(), strict=True)}


def _logits(net: SaliencyDeepLabV3Plus, x: Tensor) -> Tensor:
    maps = net.both(x)
    return torch.cat([maps.classes, maps.saliency[:, None]], dim=1)


def _activate(logits: Tensor) -> Tensor:
    return torch.cat([logits[:, :-1].softmax(1), logits[:, -1:].sigmoid()], dim=1)
