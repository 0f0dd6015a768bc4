"""Stages of every network that finds instances and their masks (Ahn et al. 2019, Sec. 6.3 and A.2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data.dataset import DatasetError, Problem, Sample, value_type
from data.formats.coco import Detection, as_detections, write_detections
from data.formats.images import read_image
from data.formats.label_folder import DETECTIONS, INSTANCES, SEMANTIC
from data.formats.label_maps import instance_map, read_ground_truth, write_label_map
from models.backbones.base import BackboneChoice
from models.maskrcnn import MaskRCNN
from models.segmenter import build_network
from tasks.engine.job import Job
from tasks.evaluation.instance_metrics import add_records, average_precision, match_image
from tasks.networks.maskrcnn import DetectionConfig, DetectorConfig
from tasks.networks.stages.instance_targets import jitter, read_instances, target
from tasks.networks.stages.recipe import finish, parameter_groups, recipe_of
from tasks.training import Recipe, autocast, fit
from tasks.training.group import Group
from tasks.training.inference import batches
from tasks.training.launch import run_in_processes
from tasks.training.norms import synchronize_norms
from tasks.training.saving import load_network, save_network


def train(job: Job) -> dict[str, Any]:
    """Train on the samples' instances, in as many processes as the job says."""
    return run_in_processes(train_here, job, job.num_processes)


def train_here(job: Job) -> dict[str, Any]:
    """Train in this process, alone or as one of several: write the network, its history and its logs."""
    config = job.config
    assert isinstance(config, DetectorConfig)
    torch.manual_seed(job.seed)
    backbone = BackboneChoice(job.backbone, job.weights)
    net = build_network(job.model, job.stage, len(job.classes) + 1, backbone, config.network_options)
    assert isinstance(net, MaskRCNN)
    net.to(job.device)
    if config.sync_norm:
        busy = Group.current(job.device).is_always_busy(len(job.samples), config.batch_size, config.batch_parts)
        synchronize_norms(net, job.device, always_busy=busy)
    recipe = _recipe(net, config, job)
    history = fit(net.train(), recipe, job)
    look = lambda sample: find_instances(net, [as_pixels(read_image(sample.image))], job.device, DetectionConfig())  # noqa: E731
    return finish(net, recipe, history, job, look, lambda: save_network(net, job.out, **config.network_options))


def predict(job: Job) -> dict[str, Any]:
    """Write detections and label maps."""
    ((folder,),) = job.inputs.values()
    net = load_network(folder, job.model, job.device)
    assert isinstance(net, MaskRCNN)
    return detect(net, job)


def detect(net: MaskRCNN, job: Job) -> dict[str, Any]:
    """Write the detections of every image, and label maps of the sure ones, in which the surer covers the other."""
    config = job.config
    assert isinstance(config, DetectionConfig)
    detections: list[Detection] = []
    done = 0
    for batch, images in batches(job.samples, as_pixels, job.device):
        for sample, found in zip(batch, find_instances(net, images, job.device, config), strict=True):
            detections += as_detections(sample.id, *found)
            masks, classes = (part[found[2] >= config.map_score] for part in found[:2])
            semantic = np.zeros(masks.shape[1:], value_type(len(job.classes.values)))
            for mask, c in zip(masks[::-1], classes[::-1], strict=True):
                semantic[mask] = c + 1
            objects = instance_map(masks)
            write_label_map(job.out / SEMANTIC / f"{sample.id}.png", semantic)
            write_label_map(job.out / INSTANCES / f"{sample.id}.png", objects)
        done += len(batch)
        job.progress(done, len(job.samples))
    write_detections(job.out / DETECTIONS, detections)
    return {"detections": len(detections)}


def as_pixels(image: NDArray[np.uint8]) -> Tensor:
    """Return an image [H, W, 3] as float [3, H, W], in [0, 255]."""
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)


@torch.no_grad()
def find_instances(
    net: nn.Module, images: list[Tensor], device: str, config: DetectionConfig
) -> list[tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float32]]]:
    """Return of each image [3, H, W] the masks [N, H, W], classes [N] from 0 and scores [N], by descending score."""
    with autocast(device, config.precision):
        answers = net([image.to(device) for image in images])
    found = []
    for answer in answers:
        kept = answer["scores"] >= config.min_score
        masks = (answer["masks"][kept, 0] >= config.mask_threshold).cpu().numpy()
        seen = masks.any(axis=(1, 2))
        classes, scores = (answer[name][kept].cpu().numpy()[seen] for name in ("labels", "scores"))
        found.append((masks[seen], classes.astype(np.int64) - 1, scores))
    return found


def _recipe(net: MaskRCNN, config: DetectorConfig, job: Job) -> Recipe:
    _refuse_without_objects(job.samples, len(job.classes), config.min_score, "training")
    _refuse_without_objects(job.validation, len(job.classes), 0.0, "validation")

    def load(index: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        sample = job.samples[index]
        instances = read_instances(sample, len(job.classes), min_score=config.min_score)
        image, instances = jitter(read_image(sample.image), instances, config.rescale, config.crop_size, rng)
        return as_pixels(image), target(instances)

    def step(
        net: nn.Module, batch: list[tuple[Tensor, dict[str, Tensor]]], _: float
    ) -> tuple[Tensor, dict[str, float]]:
        images = [image.to(job.device, non_blocking=True) for image, _ in batch]
        targets = [{name: value.to(job.device) for name, value in taught.items()} for _, taught in batch]
        with autocast(job.device, config.precision):
            losses: dict[str, Tensor] = net(images, targets)
        loss = torch.stack([value.float() for value in losses.values()]).sum()
        figures = {name.removeprefix("loss_"): value.item() for name, value in losses.items()}
        return loss, {"loss": loss.item(), **figures}

    validate = (lambda net: _validate(net, job)) if job.validation else None
    groups = parameter_groups(net, [net.backbone.body], config)  # pyright: ignore[reportArgumentType]
    return recipe_of(config, load, step, groups, validate=validate, best="ap50")


def _refuse_without_objects(samples: Sequence[Sample], num_classes: int, min_score: float, purpose: str) -> None:
    """Refuse images of which none has an object; no images at all are fine.

    Raises:
        DatasetError: There is nothing to learn or to find in them, or one that was looked at cannot be read.
    """
    if samples and not any(len(read_instances(s, num_classes, min_score=min_score).classes) for s in samples):
        message = f"expected {purpose} images with an object, found none in all {len(samples)}"
        raise DatasetError([Problem((samples[0].instances or samples[0].image).parent, message)])


def _validate(net: nn.Module, job: Job) -> dict[str, float]:
    """Return the AP50 on the validation images, which every process finds by itself.

    By the default settings of testing: those of the stage that predicts are no part of a training's key.
    """
    records = []
    for batch, images in batches(job.validation, as_pixels, job.device):
        for sample, found in zip(batch, find_instances(net, images, job.device, DetectionConfig()), strict=True):
            options = {"num_classes": len(job.classes), "image": sample.id}
            records.append(match_image(*found, *read_objects(sample), **options))
    score = average_precision(add_records(records), job.classes.names)
    return {"ap50": score["ap50"] or 0.0}


def read_objects(sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Read the class map and the instance map [H, W] that a sample is tested on.

    Raises:
        DatasetError: There are none, or they cannot be read.
    """
    truth = read_ground_truth(sample)
    if truth.semantic is None or truth.instances is None:
        raise DatasetError([Problem(sample.image, "expected maps of classes and of instances, found none", sample.id)])
    return truth.semantic, truth.instances
