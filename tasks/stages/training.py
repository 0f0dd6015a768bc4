"""What the trainings of all networks on ground truth share: from settings to a recipe, and their artifact."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from tasks.job import Job
from tasks.network_settings import TrainerConfig
from tasks.training import Recipe, build_optimizer, write_history
from tasks.training.group import Group


def parameter_groups(net: nn.Module, backbones: Iterable[nn.Module], config: TrainerConfig) -> list[dict[str, Any]]:
    """Return the backbones' and the other trained parameters, with their learning rates."""
    own = {id(parameter) for backbone in backbones for parameter in backbone.parameters()}
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trained if id(p) in own], "lr": config.learning_rate},
        {"params": [p for p in trained if id(p) not in own], "lr": config.learning_rate * config.head_lr_factor},
    ]


def recipe_of(
    config: TrainerConfig,
    load: Callable[..., Any],
    step: Callable[..., Any],
    groups: list[dict[str, Any]],
    *,
    weigh: Callable[[list[Any]], float] = len,
    validate: Callable[[nn.Module], dict[str, float]] | None,
    best: str,
) -> Recipe:
    """Return the recipe of a training; `best` is the figure of `validate` that says which network is the best.

    Raises:
        ValueError: The best network is to be kept, and there are no images to find it by.
    """
    if config.keep == "best" and validate is None:
        raise ValueError("to keep the best network takes validation images: give a list of them by --val")
    return Recipe(
        load,
        step,
        build_optimizer(config.optimizer, groups, momentum=config.momentum, weight_decay=config.weight_decay),
        config.batch_size,
        config.epochs,
        weigh=weigh,
        power=config.power,
        warmup_steps=config.warmup_steps,
        parts=config.batch_parts,
        clip_norm=config.clip_norm,
        ema_decay=config.ema_decay,
        scale_loss=config.precision == "float16",
        validate=validate,
        validate_epochs=config.validate_epochs,
        keep_best=best if config.keep == "best" else None,
        log_steps=config.log_steps,
        steps=config.steps,
    )


def finish(net: nn.Module, history: list[dict[str, float]], job: Job, save: Callable[[], None]) -> dict[str, Any]:
    """Write a trained network by `save`, its history and its logs, once for all processes; return the last figures."""
    net.eval()
    if Group.current(job.device).rank == 0:
        save()
        write_history(job.out, history)
        if (logs := job.scratch / "logs").is_dir():
            shutil.copytree(logs, job.out / "logs")
    return dict(history[-1])
