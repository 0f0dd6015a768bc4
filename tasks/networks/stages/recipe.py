"""What the trainings of all networks on ground truth share: from settings to a recipe, and their artifact."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from data.dataset import Sample
from tasks.engine.job import Job
from tasks.networks.trainer import TrainerConfig
from tasks.training import Recipe, build_optimizer, finite_outputs, write_history
from tasks.training.group import Group

log = logging.getLogger(__name__)


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


def finish(
    net: nn.Module,
    recipe: Recipe,
    history: list[dict[str, float]],
    job: Job,
    look: Callable[[Sample], object],
    save: Callable[[], None],
) -> dict[str, Any]:
    """Write a trained network by `save`, its history and its logs, once for all processes.

    Args:
        look: Run the network on an image.

    Returns:
        The figures of the epoch whose network is kept, and "kept": its "epoch", "of" so many of the history, and the
        figure that it is the best "by", None where it is the last.

    Raises:
        TrainingError: What the network returns for a training image is not finite.
    """
    net.eval()
    with finite_outputs(net):
        look(job.samples[0])
    best = recipe.keep_best
    kept = _kept_epoch(history, best)
    if Group.current(job.device).rank == 0:
        log.info("network kept: %d of %d, the %s", kept, len(history), f"best by {best}" if best else "last")
        save()
        write_history(job.out, history)
        if (logs := job.scratch / "logs").is_dir():
            shutil.copytree(logs, job.out / "logs")
    return {**history[kept - 1], "kept": {"epoch": kept, "of": len(history), "by": best}}


def _kept_epoch(history: list[dict[str, float]], best: str | None) -> int:
    """Return the number, from 1, of the first epoch with the best figure; of the last where none is asked for."""
    validated = [number for number, figures in enumerate(history, start=1) if best in figures]
    return max(validated, key=lambda number: history[number - 1][best]) if best else len(history)
