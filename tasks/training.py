"""The loop that trains classifier and IRNet: deterministic, resumable at any step, the same on one CPU or a GPU."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tasks.job import Job
from tasks.settings import OptimizerName

log = logging.getLogger(__name__)
Example = TypeVar("Example")
CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class Recipe(Generic[Example]):
    """What differs between trainings.

    Attributes:
        load: Return one example: `load(sample_index, rng)`; called in threads.
        step: Return the loss to minimise and the figures to record, for a batch of examples and the share of all
            steps that lies behind, in [0, 1).
        optimizer: Its groups' learning rates are the initial ones; they decay by (1 - step / steps) ** 0.9.
        batch_size: Examples of a step; the last of an epoch may be smaller.
        epochs: Passes over the set, each in an order of its own.
    """

    load: Callable[[int, np.random.Generator], Example]
    step: Callable[[list[Example], float], tuple[Tensor, dict[str, float]]]
    optimizer: torch.optim.Optimizer
    batch_size: int
    epochs: int


class TrainingError(RuntimeError):
    """A training cannot go on."""


def fit(net: nn.Module, recipe: Recipe[Any], job: Job) -> list[dict[str, float]]:
    """Train and return the mean figures of every epoch.

    Order, augmentation and dropout of step `k` depend on `job.seed` and `k` alone; so a training that goes on
    from the checkpoint in `job.scratch` ends with the weights of one that was never stopped, bit for bit on a CPU.

    Raises:
        TrainingError: The loss is not finite; the message names the step and its images.
    """
    num_samples = len(job.samples)
    steps_per_epoch = -(-num_samples // recipe.batch_size)
    num_steps = recipe.epochs * steps_per_epoch
    initial_lrs = [group["lr"] for group in recipe.optimizer.param_groups]
    checkpoint = job.scratch / "checkpoint.pt"
    start, history, running = _resume(checkpoint, net, recipe.optimizer)
    saved_at = time.monotonic()
    batches = _batches(recipe, num_samples, job.seed, start, num_steps)
    for step, (indices, batch) in enumerate(batches, start=start):
        for group, lr in zip(recipe.optimizer.param_groups, initial_lrs, strict=True):
            group["lr"] = lr * (1 - step / num_steps) ** 0.9
        torch.manual_seed(_derive(job.seed, step))
        recipe.optimizer.zero_grad(set_to_none=True)
        loss, figures = recipe.step(batch, step / num_steps)
        if not torch.isfinite(loss):
            names = ", ".join(job.samples[i].id for i in indices)
            raise TrainingError(f"the loss of step {step} is {loss.item()}; lower the learning rate. Images: {names}")
        loss.backward()
        recipe.optimizer.step()
        running.append(figures)
        epoch_ends = (step + 1) % steps_per_epoch == 0
        if epoch_ends:
            history.append(_mean_of(running))
            running = []
            log.info("epoch %d of %d: %s", len(history), recipe.epochs, _format(history[-1]))
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS:
            _save(checkpoint, net, recipe.optimizer, step + 1, history, running)
            saved_at = time.monotonic()
        job.progress(step + 1, num_steps, f"loss {loss.item():.4g}")
    return history


def build_optimizer(
    name: OptimizerName, groups: list[dict[str, Any]], *, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return SGD or AdamW over parameter groups that bring their own learning rates."""
    if name == "adamw":
        return torch.optim.AdamW(groups, weight_decay=weight_decay, fused=True)
    return torch.optim.SGD(groups, momentum=momentum, weight_decay=weight_decay)


def autocast(device: str) -> contextlib.AbstractContextManager:
    """Return bfloat16 autocast on a GPU, nothing elsewhere."""
    if device.startswith("cuda"):
        return torch.autocast("cuda", torch.bfloat16)
    return contextlib.nullcontext()


def write_history(folder: Path, history: list[dict[str, float]]) -> None:
    """Write the figures of every epoch to `history.json`."""
    (folder / "history.json").write_text(json.dumps(history, indent=1))


def _derive(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _batches(
    recipe: Recipe[Any], num_samples: int, seed: int, start: int, num_steps: int
) -> Iterator[tuple[list[int], list[Any]]]:
    """Yield the steps' sample indices and examples, loading one step ahead of the one in use."""
    steps_per_epoch = -(-num_samples // recipe.batch_size)

    def indices_of(step: int) -> list[int]:
        epoch, position = divmod(step, steps_per_epoch)
        order = np.random.default_rng((seed, epoch)).permutation(num_samples)
        return order[position * recipe.batch_size : (position + 1) * recipe.batch_size].tolist()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

        def submit(step: int) -> tuple[list[int], list[Any]]:
            indices = indices_of(step)
            rngs = [np.random.default_rng((seed, step, i)) for i in indices]
            return indices, [pool.submit(recipe.load, i, rng) for i, rng in zip(indices, rngs, strict=True)]

        ahead = submit(start) if start < num_steps else None
        for step in range(start, num_steps):
            assert ahead is not None
            indices, futures = ahead
            ahead = submit(step + 1) if step + 1 < num_steps else None
            yield indices, [future.result() for future in futures]


def _save(
    path: Path,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    history: list[dict[str, float]],
    running: list[dict[str, float]],
) -> None:
    state = {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "history": history,
        "running": running,
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    # Not straight to the file: on a full disk torch's own writer says "unexpected pos" and not why.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    temporary.write_bytes(buffer.getbuffer())
    temporary.replace(path)


def _resume(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, list[dict[str, float]], list[dict[str, float]]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        return 0, [], []
    state = torch.load(path, map_location="cpu", weights_only=True)
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    log.info("going on from step %d", state["step"])
    return state["step"], state["history"], state["running"]


def _mean_of(figures: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([f[name] for f in figures])) for name in figures[0]}


def _format(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
