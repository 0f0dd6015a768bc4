"""Training again at lower rates where a training learns nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from tasks.engine.job import Job
from tasks.training.loop import Figures, Recipe, TrainingStalled, fit

log = logging.getLogger(__name__)
Net = TypeVar("Net", bound=nn.Module)
FACTOR = 0.25


def fit_with_restarts(
    build: Callable[[float], tuple[Net, Recipe[Any]]], job: Job, restarts: int
) -> tuple[Net, list[Figures], int]:
    """Train, and where the loss does not fall or is not finite, train anew at a quarter of the rates.

    A training that was stopped goes on in the attempt that it had reached.

    Args:
        build: Return the network at its start and its recipe, for a factor of the learning rates.
        restarts: Attempts after the first. The last one ends with whatever it has learnt.

    Returns:
        The trained network, its history, and how often the training was started anew.

    Raises:
        TrainingError: As of `fit`, of the last attempt.
    """
    attempt = 0
    while (job.scratch / f"stalled-{attempt}").is_file() and attempt < restarts:
        attempt += 1
    while True:
        net, recipe = build(FACTOR**attempt)
        scratch = job.scratch if attempt == 0 else job.scratch / f"restart-{attempt}"
        try:
            history = fit(net, replace(recipe, must_fall=attempt < restarts), replace(job, scratch=scratch))
        except TrainingStalled as error:
            if attempt == restarts:
                raise
            job.scratch.mkdir(parents=True, exist_ok=True)
            (job.scratch / f"stalled-{attempt}").touch()
            attempt += 1
            log.warning("%s: %s; it starts anew at %g of the learning rates", job.stage, error, FACTOR**attempt)
        else:
            return net, history, attempt
