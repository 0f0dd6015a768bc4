"""Stages of the networks that see whole scenes: SegNet and those that it is measured against."""

from __future__ import annotations

from typing import Any

import torch

from models.segnet import build_scene_network
from tasks.job import Job
from tasks.network_settings import SceneConfig
from tasks.networks import load_scene_network
from tasks.stages.segmenter import predict_segments, train_segmenter
from tasks.training.launch import run_in_processes


def train(job: Job) -> dict[str, Any]:
    """Train the network that the stage is named after, in as many processes as the job says."""
    return run_in_processes(train_here, job, job.num_processes)


def train_here(job: Job) -> dict[str, Any]:
    """Train in this process, alone or as one of several."""
    config = job.config
    assert isinstance(config, SceneConfig)
    torch.manual_seed(job.seed)
    net = build_scene_network(
        job.stage, len(job.classes.values), weights=job.weights, input=config.input, dropout=config.dropout
    )
    net.image_size = config.image_size
    return train_segmenter(net, job)


def predict(job: Job) -> dict[str, Any]:
    """Write label maps."""
    ((folder,),) = job.inputs.values()
    return predict_segments(load_scene_network(folder, job.device), job)
