"""Optimisers, and how their rates change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tasks.config import OptimizerName


def build_optimizer(
    name: OptimizerName, groups: list[dict[str, Any]], *, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return an optimiser over parameter groups that bring their own learning rates."""
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, weight_decay=weight_decay)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(groups, weight_decay=weight_decay, fused=True)


def polynomial_decay(
    num_steps: int, *, power: float = 0.9, warmup_steps: int = 0, held_steps: int = 0
) -> Callable[[int], float]:
    """Return the factor of the initial learning rates at each step, counted from 0.

    (1 - step / num_steps) ** power; 0 in the first `held_steps`, and in the n-th of the `warmup_steps` after them
    n / warmup_steps of it.
    """

    def factor(step: int) -> float:
        if step < held_steps:
            return 0.0
        warm = min(1.0, (step - held_steps + 1) / warmup_steps) if warmup_steps else 1.0
        return warm * (1 - step / num_steps) ** power

    return factor
