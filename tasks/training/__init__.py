"""The one trainer of every network: deterministic, resumable at any step, the same on one CPU or on several GPUs."""

from tasks.training.loop import Recipe, TrainingError, fit, write_history
from tasks.training.optimizers import build_optimizer
from tasks.training.precision import autocast

__all__ = ["Recipe", "TrainingError", "autocast", "build_optimizer", "fit", "write_history"]
