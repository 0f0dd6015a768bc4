"""Stages of Mask R-CNN (Ahn et al. 2019, Sec. 6.3 and A.2.1)."""

from __future__ import annotations

from typing import Any

import torch

from models.backbones.base import build_backbone
from models.maskrcnn import OUTPUT_STRIDE, MaskRCNN
from tasks.job import Job
from tasks.networks import DetectorConfig
from tasks.stages.detector import detect, train_detector
from tasks.training.launch import run_in_processes
from tasks.training.saving import load_maskrcnn

# Of the settings, what the network is built with.
OPTIONS = ("min_size", "max_size", "anchor_sizes", "channels", "num_proposals", "num_sampled")


def train(job: Job) -> dict[str, Any]:
    """Train on the samples' instances, in as many processes as the job says."""
    return run_in_processes(train_here, job, job.num_processes)


def train_here(job: Job) -> dict[str, Any]:
    """Train in this process, alone or as one of several."""
    assert isinstance(job.config, DetectorConfig)
    torch.manual_seed(job.seed)
    backbone = build_backbone(job.backbone, job.weights, output_stride=OUTPUT_STRIDE)
    options = job.config.model_dump(include=set(OPTIONS))
    return train_detector(MaskRCNN(backbone, len(job.classes) + 1, **options), job, options)


def predict(job: Job) -> dict[str, Any]:
    """Write detections and label maps."""
    return detect(load_maskrcnn(job.input("maskrcnn"), job.device), job)
