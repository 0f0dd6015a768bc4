"""Stage `classifier`: train the image classifier on image-level labels."""

from __future__ import annotations

import logging
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.images import read_image
from models.backbones import build_backbone
from models.cam import CAMNet
from tasks.augment import flip_and_crop, normalize, photometric, resize, scale_for_long_side
from tasks.job import Job
from tasks.networks import save_network
from tasks.settings import ClassifierConfig
from tasks.training import Recipe, autocast, build_optimizer, fit, write_history
from tasks.training.norms import freeze_norms

log = logging.getLogger(__name__)


def train_classifier(job: Job) -> dict[str, Any]:
    """Train with the multilabel soft-margin loss, and write the network and its history."""
    config = job.config
    assert isinstance(config, ClassifierConfig)
    torch.manual_seed(job.seed)
    backbone = build_backbone(job.backbone, job.weights)
    if not backbone.pretrained:
        log.warning("no ImageNet weights: the classifier is trained from random weights, batch norm included")
    net = CAMNet(backbone, len(job.classes)).to(job.device).to(memory_format=torch.channels_last)
    net.train()
    if config.freeze_norm and backbone.pretrained:
        freeze_norms(net)
    history = fit(net, _recipe(net, config, job), job)
    save_network(net.eval(), job.out)
    write_history(job.out, history)
    return {"pretrained": backbone.pretrained, **(history[-1] if history else {})}


def _recipe(net: CAMNet, config: ClassifierConfig, job: Job) -> Recipe:
    targets = torch.zeros(len(job.samples), len(job.classes))
    for row, sample in enumerate(job.samples):
        targets[row, list(sample.labels)] = 1

    def load(index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        image = read_image(job.samples[index].image)
        scale = scale_for_long_side(image, config.resize_long, rng)
        image = photometric(resize(image, scale, cv2.INTER_CUBIC), config.photometric, rng)
        crop, _ = flip_and_crop(normalize(image, net.backbone), None, config.crop_size, rng)
        return torch.from_numpy(crop).permute(2, 0, 1), targets[index]

    def step(net: nn.Module, batch: list[tuple[Tensor, Tensor]], _: float) -> tuple[Tensor, dict[str, float]]:
        images, wanted = (torch.stack(part) for part in zip(*batch, strict=True))
        images = images.to(job.device, memory_format=torch.channels_last, non_blocking=True)
        with autocast(job.device):
            logits = net(images)
        loss = F.multilabel_soft_margin_loss(logits.float(), wanted.to(job.device))
        return loss, {"loss": loss.item()}

    trained = [p for p in net.backbone.parameters() if p.requires_grad]
    groups = [
        {"params": trained, "lr": config.learning_rate},
        {"params": net.classifier.parameters(), "lr": config.learning_rate * config.head_lr_factor},
    ]
    optimizer = build_optimizer(config.optimizer, groups, momentum=config.momentum, weight_decay=config.weight_decay)
    return Recipe(load, step, optimizer, config.batch_size, config.epochs)
