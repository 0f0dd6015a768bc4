"""The one trainer of every network: deterministic, resumable at any step, the same on one CPU or on several GPUs."""

from tasks.training.loop import (
    FALL,
    HELD_STEPS,
    Recipe,
    TrainingError,
    TrainingStalled,
    finite_outputs,
    fit,
    write_history,
)
from tasks.training.optimizers import build_optimizer
from tasks.training.precision import autocast
from tasks.training.restarts import fit_with_restarts

__all__ = [
    "FALL",
    "HELD_STEPS",
    "Recipe",
    "TrainingError",
    "TrainingStalled",
    "autocast",
    "build_optimizer",
    "finite_outputs",
    "fit",
    "fit_with_restarts",
    "write_history",
]
