"""Stage `irnet`: train the boundary and displacement branches on the mined relations (Sec. 4.3 to 4.5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from data.dataset import VOID
from data.formats.label_maps import read_label_map
from kernels.affinity import offsets
from kernels.displacement import instance_map
from models.irnet import IRNet
from models.losses import centering_loss, pair_losses
from tasks.engine.job import Job
from tasks.evaluation.health import collapse_of
from tasks.pipeline.relation_training import fit_on_relations, label_type, relation_files, starting_backbone
from tasks.pipeline.settings import IRNetConfig
from tasks.training import (
    Recipe,
    autocast,
    build_optimizer,
    finite_outputs,
    write_history,
)
from tasks.training.augment import flip_and_crop, normalize, resize, to_shape
from tasks.training.saving import save_network
from tasks.training.working_size import read_working_image

MIN_REGION = 8


def train_irnet(job: Job) -> dict[str, Any]:
    """Train, store the mean displacement, and measure what the displacement field separates.

    Summary: the last figures of the training, and what `_measure_displacement` returns; "displacement_plateau", the
    foreground loss of a field of zeros; "collapsed", by `tasks.evaluation.health.collapse_of`.

    Raises:
        TrainingError: As of `fit`; or what comes out overflows; or no crop had two confident pixels within reach of
            one another.
    """
    config = job.config
    assert isinstance(config, IRNetConfig)
    relations = relation_files(job)
    net, history = fit_on_relations(
        "IRNet",
        job,
        lambda: _network(job, config),
        lambda net, rate: _recipe(net, config, job, relations, rate),
        "move --relations.foreground-threshold and --relations.background-threshold towards each other",
    )
    with finite_outputs(net):
        found = _measure_displacement(net, config, job, relations)
    save_network(net, job.out)
    write_history(job.out, history)
    return _summary(history, found, config)


def _network(job: Job, config: IRNetConfig) -> IRNet:
    backbone = starting_backbone(job, config.backbone_from)
    net = IRNet(backbone, train_backbone=config.backbone_lr_factor > 0).train()
    net.to(job.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return net


def class_regions(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Number the connected regions (4 neighbours) of each foreground class from 1; 0 elsewhere.

    Regions of under `MIN_REGION` cells are crumbs of the CRF and left out.
    """
    regions = np.zeros(labels.shape, np.int64)
    total = 0
    for value in np.unique(labels[(labels > 0) & (labels != VOID)]):
        parts, num_parts = ndimage.label(labels == value)  # pyright: ignore[reportGeneralTypeIssues]
        for number in np.flatnonzero(np.bincount(parts.ravel(), minlength=num_parts + 1) >= MIN_REGION):
            if number > 0:
                total += 1
                regions[parts == number] = total
    return regions


def _recipe(net: IRNet, config: IRNetConfig, job: Job, relations: dict[str, Path], rate: float) -> Recipe:

    def load(index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        sample = job.samples[index]
        image = read_working_image(sample.image, job.long_side)
        labels = read_label_map(relations[sample.id])
        scale = rng.uniform(*config.rescale)
        image, labels = resize(image, scale, cv2.INTER_CUBIC), resize(labels, scale, cv2.INTER_NEAREST)
        crop, label_crop = flip_and_crop(normalize(image, net.backbone), labels, config.crop_size, rng)
        assert label_crop is not None
        # The middle of each 4 x 4 cell stands for it: the reference's nearest-neighbour reduction.
        grid = label_crop[2::4, 2::4].astype(label_type(job))
        regions = class_regions(grid) if config.centering_weight else np.zeros(grid.shape, np.int64)
        return torch.from_numpy(crop).permute(2, 0, 1), torch.from_numpy(grid), torch.from_numpy(regions)

    def step(
        net: nn.Module, batch: list[tuple[Tensor, Tensor, Tensor]], progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        images, labels, regions = (torch.stack(part) for part in zip(*batch, strict=True))
        images = images.to(job.device, memory_format=torch.channels_last, non_blocking=True)
        with autocast(job.device, config.precision):
            boundary_logits, displacement = net(images)
        losses = pair_losses(
            boundary_logits.float(), displacement.float(), labels.to(job.device), radius=config.radius_px
        )
        # Every crop counts its regions from 1; an offset a crop keeps them apart.
        offsets_of_crops = regions.shape[-2] * regions.shape[-1] * torch.arange(len(regions)).view(-1, 1, 1)
        regions = torch.where(regions > 0, regions + offsets_of_crops, 0)
        centering = centering_loss(displacement, regions.to(job.device))
        # What pulls the field to zero comes in when there is a field: from the start it would keep it there.
        rest = min(1.0, progress / config.rest_warmup) if config.rest_warmup else 1.0
        loss = losses.total - (1 - rest) * losses.bg_displacement / 2 + rest * config.centering_weight * centering
        figures = {
            "loss": loss,
            "fg_affinity": losses.fg_affinity,
            "bg_affinity": losses.bg_affinity,
            "neg_affinity": losses.neg_affinity,
            "fg_displacement": losses.fg_displacement,
            "bg_displacement": losses.bg_displacement,
            "centering": centering,
            "pairs": losses.num_bg + losses.num_fg + losses.num_neg,
        }
        return loss, {name: float(value.detach()) for name, value in figures.items()}

    lr = rate * config.learning_rate
    groups = [
        {"params": net.boundary.parameters(), "lr": lr},
        {"params": net.displacement.parameters(), "lr": lr * config.displacement_lr_factor},
    ]
    if net.train_backbone:
        groups.append({"params": net.backbone.parameters(), "lr": lr * config.backbone_lr_factor})
    optimizer = build_optimizer(config.optimizer, groups, momentum=config.momentum, weight_decay=config.weight_decay)
    return Recipe(load, step, optimizer, config.batch_size, config.epochs, steps=config.steps)


@torch.no_grad()
def _measure_displacement(net: IRNet, config: IRNetConfig, job: Job, relations: dict[str, Path]) -> dict[str, Any]:
    """Set the network's mean displacement, and measure the field over the confident foreground.

    Returns:
        "displacement_spread_px": its standard deviation, the root mean square over an image's foreground of the
        distance to its own mean, in feature pixels, averaged over the images; None where no image has foreground.
        "components": regions of one class that hang together, of all images looked at; "instances": what the field
        divides them into, by the walk's default rules (Eq. 14, 15). Parts of under `MIN_REGION` cells do not count.
    """
    chosen = np.unique(np.linspace(0, len(job.samples) - 1, config.mean_images).round().astype(int))
    means, spreads, fields, regions_of = [], [], [], []
    for index in chosen:
        sample = job.samples[index]
        pixels = torch.tensor(read_working_image(sample.image, job.long_side)).permute(2, 0, 1)[None].to(job.device)
        (displacement,) = net.infer(net.backbone.normalize(pixels), mirror=False)[1]
        means.append(displacement.mean(dim=(1, 2)))
        labels = read_label_map(relations[sample.id])
        rows, columns = displacement.shape[1:]
        grid = to_shape(labels, (rows, columns), cv2.INTER_NEAREST)
        fields.append(displacement)
        regions_of.append(class_regions(grid))
        inside = displacement[:, torch.from_numpy((grid > 0) & (grid != VOID)).to(job.device)]
        if inside.shape[1] > 1:
            spreads.append(float(inside.var(dim=1, correction=0).sum().sqrt()))
    mean = torch.stack(means).mean(dim=0)
    net.displacement.mean.copy_(mean)  # pyright: ignore[reportCallIssue]
    instances = 0
    for displacement, regions in zip(fields, regions_of, strict=True):
        owners = instance_map(displacement - mean[:, None, None]).cpu().numpy()
        parts = np.unique(np.stack([regions, owners])[:, regions > 0], axis=1, return_counts=True)[1]
        instances += int((parts >= MIN_REGION).sum())
    return {
        "displacement_spread_px": float(np.mean(spreads)) if spreads else None,
        "components": int(sum(regions.max(initial=0) for regions in regions_of)),
        "instances": instances,
    }


def _summary(history: list[dict[str, float]], found: dict[str, Any], config: IRNetConfig) -> dict[str, Any]:
    # A field that is zero everywhere has this foreground loss: the mean coordinate of a pair's distance.
    plateau = float(offsets(config.radius_px).abs().float().mean())
    summary = {**history[-1], **found, "displacement_plateau": plateau}
    return {**summary, "collapsed": collapse_of(summary, {}) is not None}
