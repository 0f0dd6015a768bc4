"""The loop that trains every network of the product."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tasks.engine.job import Job
from tasks.training.checkpoint import Checkpoint, Progress, Stateful
from tasks.training.group import Group, keep_gradients
from tasks.training.logs import TensorBoard
from tasks.training.norms import left_out_of_norms
from tasks.training.optimizers import polynomial_decay

log = logging.getLogger(__name__)
Example = TypeVar("Example")
Figures = dict[str, float]
SECTIONS = 16
# A loss that has fallen by less than this share has not fallen.
FALL = 0.02
HELD_STEPS = "held_steps"


@dataclass(frozen=True)
class Recipe(Generic[Example]):
    """What differs between trainings.

    Attributes:
        load: Return one example: `load(sample_index, rng)`; called in threads.
        step: Return the mean loss to minimise and the figures to record, for the network, a batch of examples and the
            share of all steps that lies behind, in [0, 1).
        optimizer: Its groups' learning rates are the initial ones; see `polynomial_decay`. A group may have an option
            "held_steps": so long it learns nothing.
        batch_size: Examples of a step, of all processes together; the last of an epoch may be smaller.
        epochs: Passes over the set, each in an order of its own.
        weigh: What a batch's mean loss is a mean over, its images by default: batches that are computed in parts
            or by several processes then give the loss of the whole. Mask R-CNN's losses are means over regions, whose
            numbers are known only after the network has looked: in parts they are the mean of the parts' losses.
        power: Of the polynomial decay.
        warmup_steps: Steps in which the learning rates grow to the decay's.
        parts: A process's share of a batch is computed in this many parts, in turn, which takes less memory.
        clip_norm: Gradients are scaled down to this norm; None for as they are.
        ema_decay: The network that comes out is the moving average of its weights with this decay; None for the last.
        scale_loss: Scale losses, so that gradients in half precision do not underflow.
        validate: Return figures of a network in evaluation mode. Every process calls it, for its part of the work
            or for all of it, and must get the same.
        validate_epochs: Validate after this many epochs, and after the last.
        keep_best: The figure of `validate` by which the best network is kept and comes out; None for the last.
        log_steps: Write TensorBoard's logs every so many steps; 0 for none.
        steps: Least and largest number of steps, which bound those that the epochs have; None for no bounds.
        initial_loss: The loss of a network that knows nothing.
        must_fall: Stop a training whose loss is not below `initial_loss`, by `FALL` of it, after half of the steps.
    """

    load: Callable[[int, np.random.Generator], Example]
    step: Callable[[nn.Module, list[Example], float], tuple[Tensor, Figures]]
    optimizer: torch.optim.Optimizer
    batch_size: int
    epochs: int
    weigh: Callable[[list[Example]], float] = len
    power: float = 0.9
    warmup_steps: int = 0
    parts: int = 1
    clip_norm: float | None = None
    ema_decay: float | None = None
    scale_loss: bool = False
    validate: Callable[[nn.Module], Figures] | None = None
    validate_epochs: int = 1
    keep_best: str | None = None
    log_steps: int = 0
    steps: tuple[int, int] | None = None
    initial_loss: float | None = None
    must_fall: bool = False

    def num_steps(self, num_samples: int) -> int:
        """Return the number of steps of a training over a set."""
        planned = self.epochs * -(-num_samples // self.batch_size)
        return planned if self.steps is None else min(max(planned, self.steps[0]), self.steps[1])


class TrainingError(RuntimeError):
    """A training cannot go on."""


class TrainingStalled(TrainingError):
    """A training learns nothing, or its loss is not finite: lower learning rates may do better."""


def fit(net: nn.Module, recipe: Recipe[Any], job: Job) -> list[Figures]:
    """Train in place, and return the mean figures of every epoch.

    Order, augmentation and dropout of step `k` depend on `job.seed` and `k` alone; so a training that goes on
    from the checkpoint in `job.scratch` ends with the weights of one that was never stopped, bit for bit on a CPU.

    Raises:
        TrainingStalled: The loss is not finite, or does not fall where it must; the message names the step. Or the
            weights that come out are not finite.
        TrainingError: Memory does not suffice; the message names the step and its images. Or the figure that the best
            network is found by is no number.
    """
    num_steps = recipe.num_steps(len(job.samples))
    steps_per_epoch = -(-len(job.samples) // recipe.batch_size)
    # Where the epochs' steps are out of bounds, figures are of a sixteenth of the training, not of a pass over the set.
    bounded = num_steps != recipe.epochs * steps_per_epoch
    if bounded:
        steps_per_epoch = -(-num_steps // SECTIONS)
    optimizer, group = recipe.optimizer, Group.current(job.device)
    initial_lrs = [group_["lr"] for group_ in optimizer.param_groups]
    lr_factors = [
        polynomial_decay(
            num_steps,
            power=recipe.power,
            warmup_steps=recipe.warmup_steps,
            held_steps=options.get(HELD_STEPS, 0),
        )
        for options in optimizer.param_groups
    ]
    average = _averaged(net, recipe.ema_decay)
    result = average.module if average else net
    scaler = torch.amp.GradScaler(job.device.partition(":")[0], enabled=recipe.scale_loss)
    parts: dict[str, Stateful] = {"net": net, "optimizer": optimizer, "scaler": scaler}
    checkpoint = Checkpoint(job.scratch, parts | ({"average": average} if average else {}))
    state = checkpoint.load()
    parallel = group.wrap(net)
    with TensorBoard(job.scratch / "logs", state.step, recipe.log_steps if group.rank == 0 else 0) as logs:
        for batch in _batches(recipe, job, group, state.step, num_steps):
            for options, lr, factor in zip(optimizer.param_groups, initial_lrs, lr_factors, strict=True):
                options["lr"] = lr * factor(batch.step)
            # Dropout differs between the processes.
            torch.manual_seed(_derive(job.seed, batch.step, *([group.rank] if group.rank else [])))
            with _explain_memory(batch):
                loss, figures = _descend(net, parallel, recipe, scaler, group, batch, num_steps)
            if average:
                average.update_parameters(net)
            state.step += 1
            state.running.append(figures)
            state.recent = [*state.recent, loss][-max(1, num_steps // SECTIONS) :]
            if recipe.must_fall and state.step == num_steps // 2:
                _check_fall(recipe, state)
            logs.add(state.step, {**figures, "lr": optimizer.param_groups[0]["lr"]}, images=len(batch.ids))
            if state.step % steps_per_epoch == 0 or state.step == num_steps:
                state.history.append(_mean_of(state.running))
                state.running = []
                epoch = len(state.history)
                if recipe.validate and (epoch % recipe.validate_epochs == 0 or state.step == num_steps):
                    figures = _validate(recipe, result, state, checkpoint, group)
                    logs.write(state.step, figures)
                    state.history[-1] |= figures
                name, last = ("part" if bounded else "epoch"), -(-num_steps // steps_per_epoch)
                log.info("%s %d of %d: %s", name, epoch, last, _format(state.history[-1]))
            if group.rank == 0:
                if checkpoint.due:
                    checkpoint.save(state)
                job.progress(state.step, num_steps, f"loss {loss:.4g}")
    if average:
        net.load_state_dict(average.module.state_dict())
    # The first process writes both the best network and the artifact; the others may be ahead of it.
    if recipe.keep_best and group.rank == 0:
        checkpoint.load_best(net)
    _check_weights(net)
    return state.history


def _check_weights(net: nn.Module) -> None:
    """Raises:
    TrainingStalled: A weight is not finite. Each step's loss is that of the weights before it.
    """
    state = net.state_dict()
    spoilt = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if spoilt:
        raise TrainingStalled(
            f"{len(spoilt)} of {len(state)} tensors of the trained network hold values that are not finite, "
            f"{spoilt[0]} for one; lower the learning rate"
        )


@contextlib.contextmanager
def finite_outputs(net: nn.Module) -> Iterator[None]:
    """Check all that the parts of a trained network return within the context.

    Finite weights may be so large that the network overflows, and only the last step's may be.

    Raises:
        TrainingError: A part returns values that are not finite; the message names it.
    """

    def check(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and not output.isfinite().all():
            raise TrainingError(
                f"the network has diverged: after its training {name or 'it'} returns values that are not finite; "
                "lower the learning rate"
            )

    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: check(name, output))
        for name, module in net.named_modules()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_fall(recipe: Recipe[Any], state: Progress) -> None:
    """Raises:
    TrainingStalled: The mean of the last losses is not clearly below that of a network that knows nothing.
    """
    initial, recent = recipe.initial_loss, float(np.mean(state.recent))
    if initial is not None and recent > (1 - FALL) * initial:
        raise TrainingStalled(f"the loss is {recent:.4g} after {state.step} steps, that of a guess {initial:.4g}")


def write_history(folder: Path, history: list[Figures]) -> None:
    """Write the figures of every epoch to `history.json`."""
    (folder / "history.json").write_text(json.dumps(history, indent=1))


@dataclass(frozen=True)
class _Batch:
    """A step's images, and this process's examples of them.

    Attributes:
        ids: Of all images of the step.
        parts: Examples to be computed together; as many parts in every process.
        num_own: The first of them. The others repeat an example, and do not count: this process has fewer than others.
    """

    step: int
    ids: list[str]
    parts: list[list[Any]]
    num_own: int


def _descend(
    net: nn.Module,
    parallel: nn.Module,
    recipe: Recipe[Any],
    scaler: torch.amp.GradScaler,
    group: Group,
    batch: _Batch,
    num_steps: int,
) -> tuple[float, Figures]:
    """Take one step of the optimiser; return the loss and the figures of the whole batch."""
    recipe.optimizer.zero_grad(set_to_none=True)
    counted = [number < batch.num_own for number in range(len(batch.parts))]
    weights = [float(recipe.weigh(part)) if own else 0.0 for part, own in zip(batch.parts, counted, strict=True)]
    # A batch may have nothing to learn from, and then nothing is learned.
    total = group.sum([sum(weights)])[0] or 1.0
    sums: Figures = {}
    for number, (part, weight) in enumerate(zip(batch.parts, weights, strict=True), start=1):
        last = number == len(batch.parts)
        with (
            contextlib.nullcontext() if last else keep_gradients(parallel),
            left_out_of_norms(net, left_out=not counted[number - 1]),
        ):
            loss, figures = recipe.step(parallel, part, batch.step / num_steps)
            # The processes' gradients are averaged, where the loss is their sum.
            scaler.scale(loss * (weight * group.size / total)).backward()
        for name, value in {"": loss.item(), **figures}.items():
            sums[name] = sums.get(name, 0.0) + (weight / total * value if weight else 0.0)
    sums = dict(zip(sums, group.sum(list(sums.values())), strict=True))
    loss = sums.pop("")
    if not np.isfinite(loss):
        raise TrainingStalled(
            f"the loss of step {batch.step} is {loss}; lower the learning rate. Images: {', '.join(batch.ids)}"
        )
    if recipe.clip_norm is not None:
        scaler.unscale_(recipe.optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_norm)
    scaler.step(recipe.optimizer)
    scaler.update()
    return loss, sums


def _validate(recipe: Recipe[Any], net: nn.Module, state: Progress, checkpoint: Checkpoint, group: Group) -> Figures:
    """Return the figures of validation, and keep the network where it is the best so far."""
    assert recipe.validate is not None
    # The first process's network is the one that is saved.
    group.share_buffers(net)
    modes = {module: module.training for module in net.modules()}
    with torch.no_grad():
        figures = recipe.validate(net.eval())
    # One by one: some batch norms may stay in evaluation mode while the rest is trained.
    for module, mode in modes.items():
        module.training = mode
    if recipe.keep_best:
        figure = figures[recipe.keep_best]
        if not np.isfinite(figure):
            raise TrainingError(f"the {recipe.keep_best} of the validation images is {figure}: no network is the best")
        if state.best is None or figure > state.best:
            state.best = figure
            if group.rank == 0:
                checkpoint.save_best(net)
    return figures


def _averaged(net: nn.Module, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    return AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def _derive(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _batches(recipe: Recipe[Any], job: Job, group: Group, start: int, num_steps: int) -> Iterator[_Batch]:
    """Yield the steps' batches, loading one step ahead of the one in use."""
    num_samples = len(job.samples)
    steps_per_epoch = -(-num_samples // recipe.batch_size)
    part_size = -(-recipe.batch_size // (group.size * recipe.parts))

    def indices_of(step: int) -> list[int]:
        epoch, position = divmod(step, steps_per_epoch)
        order = np.random.default_rng((job.seed, epoch)).permutation(num_samples)
        return order[position * recipe.batch_size : (position + 1) * recipe.batch_size].tolist()

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

        def submit(step: int) -> tuple[list[int], list[Any]]:
            indices = indices_of(step)
            own = indices[group.rank :: group.size] or indices[:1]
            rngs = [np.random.default_rng((job.seed, step, i)) for i in own]
            return indices, [pool.submit(recipe.load, i, rng) for i, rng in zip(own, rngs, strict=True)]

        ahead = submit(start) if start < num_steps else None
        for step in range(start, num_steps):
            assert ahead is not None
            indices, futures = ahead
            ahead = submit(step + 1) if step + 1 < num_steps else None
            examples = [future.result() for future in futures]
            parts = [examples[i : i + part_size] for i in range(0, len(examples), part_size)]
            num_own = len(parts) if group.rank < len(indices) else 0
            # Batch norm of all processes' images waits for each of them in every part.
            largest_share = -(-len(indices) // group.size)
            parts += [examples[:1]] * (-(-largest_share // part_size) - len(parts))
            yield _Batch(step, [job.samples[i].id for i in indices], parts, num_own)


@contextlib.contextmanager
def _explain_memory(batch: _Batch) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # On a CPU torch has no type of its own for this.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"step {batch.step} of {len(batch.ids)} images did not fit into memory: compute it in more parts, or take "
            f"smaller crops. The checkpoint before it is kept. Images: {', '.join(batch.ids)}. ({error})"
        ) from error


def _mean_of(figures: list[Figures]) -> Figures:
    return {name: float(np.mean([f[name] for f in figures])) for name in figures[0]}


def _format(figures: Figures) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
