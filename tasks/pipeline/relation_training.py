"""What the trainings on mined relations share, those of IRNet and of AffinityNet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import nn

from data.dataset import value_type
from models.backbones.base import Backbone, build_backbone
from tasks.engine.job import Job
from tasks.training import Recipe, TrainingError, fit_with_restarts
from tasks.training.saving import load_classifier

Net = TypeVar("Net", bound=nn.Module)


def fit_on_relations(
    name: str, job: Job, network: Callable[[], Net], recipe: Callable[[Net, float], Recipe[Any]], advice: str
) -> tuple[Net, list[dict[str, float]]]:
    """Train a network on pairs of confident pixels; return it in evaluation mode, and the figures of its epochs.

    Args:
        name: What the network is called.
        job: Its config has `restarts` and `radius_px`.
        network: Builds it as it is before the training.
        recipe: Of its training, at a share of the learning rate.
        advice: What to do where no two confident pixels lie within reach of one another.

    Raises:
        TrainingError: As of `fit`; or no crop had two such pixels.
    """
    config: Any = job.config
    options = f"--{name.lower()}"

    def build(rate: float) -> tuple[Net, Recipe[Any]]:
        net = network()
        return net, recipe(net, rate)

    net, history, _ = fit_with_restarts(build, job, config.restarts)
    if not any(figures["pairs"] for figures in history):
        raise TrainingError(
            f"{name} has learned from no pair of pixels: in no crop of any of {len(job.samples)} images do two "
            f"confident pixels lie closer than {config.radius_px} cells ({options}.radius-px). The relations leave "
            f"everything open: {advice}, or take larger crops ({options}.crop-size)"
        )
    return net.eval(), history


def starting_backbone(job: Job, backbone_from: Literal["pretrained", "classifier"]) -> Backbone:
    """Return the backbone that a training starts from; the random numbers behind it are those of the job's seed."""
    torch.manual_seed(job.seed)
    if (backbone_from == "pretrained" and job.weights is not None) or "classifier" not in job.inputs:
        # With maps of another method there is no classifier; who has no weights either trains the backbone here.
        backbone = build_backbone(job.backbone, job.weights)
    else:
        backbone = load_classifier(job.input("classifier")).backbone
    torch.manual_seed(job.seed)
    return backbone


def relation_files(job: Job) -> dict[str, Path]:
    """Return sample id -> its map of relations."""
    files = {}
    for folder in job.inputs["relations"]:
        files |= {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.png")}
    return {sample.id: files[sample.id] for sample in job.samples}


def label_type(job: Job) -> type[np.uint8] | type[np.int32]:
    """Return the type of labels on the grid: PyTorch and the kernels know little of unsigned integers of 16 bits."""
    return np.uint8 if value_type(len(job.classes.values)) is np.uint8 else np.int32
