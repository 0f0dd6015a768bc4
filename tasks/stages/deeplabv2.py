"""Stages of DeepLab v2 (Ahn et al. 2019, Sec. 6.4 and A.2.2)."""

from __future__ import annotations

from typing import Any

import torch

from models.backbones import build_backbone
from models.deeplabv2 import OUTPUT_STRIDE, DeepLabV2
from tasks.job import Job
from tasks.networks import load_deeplabv2
from tasks.stages.segmenter import predict_segments, train_segmenter
from tasks.training.launch import run_in_processes


def train(job: Job) -> dict[str, Any]:
    """Train on the samples' label maps, in as many processes as the job says."""
    return run_in_processes(train_here, job, job.num_processes)


def train_here(job: Job) -> dict[str, Any]:
    """Train in this process, alone or as one of several."""
    torch.manual_seed(job.seed)
    backbone = build_backbone(job.backbone, job.weights, output_stride=OUTPUT_STRIDE)
    return train_segmenter(DeepLabV2(backbone, len(job.classes.values)), job)


def predict(job: Job) -> dict[str, Any]:
    """Write label maps."""
    return predict_segments(load_deeplabv2(job.input("deeplabv2"), job.device), job)
