"""Stage `affinitynet`: train AffinityNet on the mined relations (Ahn and Kwak 2018, Sec. 3.2.2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from data.formats.label_maps import read_label_map
from kernels.feature_affinity import feature_affinity
from models.affinitynet.losses import affinity_losses
from models.affinitynet.network import STRIDE, AffinityNet
from tasks.engine.job import Job
from tasks.pipeline.relation_training import fit_on_relations, label_type, relation_files, starting_backbone
from tasks.pipeline.settings import AffinityNetConfig
from tasks.training import (
    Recipe,
    autocast,
    build_optimizer,
    finite_outputs,
    write_history,
)
from tasks.training.augment import flip_and_crop, normalize, photometric
from tasks.training.norms import freeze_norms
from tasks.training.saving import save_network
from tasks.training.working_size import read_working_image


def train_affinitynet(job: Job) -> dict[str, Any]:
    """Train the network, and write it and its history.

    Summary: the last figures of the training.

    Raises:
        TrainingError: As of `fit`; or what comes out overflows; or no crop had two confident pixels within reach of
            one another.
    """
    config = job.config
    assert isinstance(config, AffinityNetConfig)
    relations = relation_files(job)
    net, history = fit_on_relations(
        "AffinityNet",
        job,
        lambda: _network(job, config),
        lambda net, rate: _recipe(net, config, job, relations, rate),
        "raise --affinity-relations.foreground-power, lower --affinity-relations.background-power",
    )
    with finite_outputs(net), torch.no_grad():
        pixels = torch.tensor(read_working_image(job.samples[0].image, job.long_side)).permute(2, 0, 1)[None]
        net.infer(net.backbone.normalize(pixels.to(job.device)), config.radius_px)
    # It has what `save_network` asks of a network.
    save_network(cast(Any, net), job.out)
    write_history(job.out, history)
    return dict(history[-1])


def _network(job: Job, config: AffinityNetConfig) -> AffinityNet:
    backbone = starting_backbone(job, config.backbone_from)
    net = AffinityNet(backbone, train_backbone=config.backbone_lr_factor > 0).train()
    # As in the reference, a backbone that learns keeps the scale and shift of its batch norms too.
    freeze_norms(net.backbone)
    net.to(job.device).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return net


def _recipe(
    net: AffinityNet, config: AffinityNetConfig, job: Job, relations: dict[str, Path], rate: float
) -> Recipe[Any]:

    def load(index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        sample = job.samples[index]
        image = photometric(read_working_image(sample.image, job.long_side), config.photometric, rng)
        labels = read_label_map(relations[sample.id])
        crop, label_crop = flip_and_crop(normalize(image, net.backbone), labels, config.crop_size, rng)
        assert label_crop is not None
        # The middle of each cell stands for it.
        grid = label_crop[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].astype(label_type(job))
        return torch.from_numpy(crop).permute(2, 0, 1), torch.from_numpy(grid)

    def step(net: nn.Module, batch: list[tuple[Tensor, Tensor]], progress: float) -> tuple[Tensor, dict[str, float]]:
        images, labels = (torch.stack(part) for part in zip(*batch, strict=True))
        images = images.to(job.device, memory_format=torch.channels_last, non_blocking=True)
        with autocast(job.device, config.precision):
            features = net(images)
        affinity = feature_affinity(features.float(), config.radius_px)
        losses = affinity_losses(affinity, labels.to(job.device), config.radius_px)
        figures = {
            "loss": losses.total,
            "bg_affinity": losses.bg_affinity,
            "fg_affinity": losses.fg_affinity,
            "neg_affinity": losses.neg_affinity,
            "pairs": losses.num_bg + losses.num_fg + losses.num_neg,
        }
        return losses.total, {name: float(value.detach()) for name, value in figures.items()}

    lr = rate * config.learning_rate
    groups = [{"params": [*net.reduce.parameters(), *net.predict.parameters()], "lr": lr}]
    if net.train_backbone:
        learns = [each for each in net.backbone.parameters() if each.requires_grad]
        groups.append({"params": learns, "lr": lr * config.backbone_lr_factor})
    optimizer = build_optimizer(config.optimizer, groups, momentum=config.momentum, weight_decay=config.weight_decay)
    return Recipe(load, step, optimizer, config.batch_size, config.epochs, steps=config.steps)
