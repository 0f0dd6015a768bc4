"""Training repeats itself bit for bit, also when it is stopped and resumed, and stops on a loss that is not finite."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from data.dataset import ClassTable, Sample
from tasks.config import Config
from tasks.engine.job import Job
from tasks.training import HELD_STEPS, Recipe, TrainingError, fit
from tasks.training.optimizers import polynomial_decay


def job(folder: Path, num_samples: int = 10) -> Job:
    samples = tuple(Sample(f"s{i}", Path(f"s{i}.jpg"), ()) for i in range(num_samples))
    return Job(samples, ClassTable(("a",)), Config(), folder / "out", folder / "scratch", seed=3)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))


class Stopped(Exception):
    pass


def save_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.training.checkpoint.SECONDS_BETWEEN", 0)
    monkeypatch.setattr("tasks.training.checkpoint.SHARE", math.inf)


def train(work: Job, stop_at: int | None = None, poison: int | None = None) -> tuple[dict, list]:
    net = network().train()
    done = 0

    def load(index: int, rng: np.random.Generator) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(4).astype(np.float32)) + index

    def step(net: nn.Module, batch: list[torch.Tensor], progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        nonlocal done
        if done == stop_at:
            raise Stopped
        done += 1
        loss = net(torch.stack(batch)).square().mean()
        if done - 1 == poison:
            loss = loss * float("nan")
        return loss, {"loss": loss.item()}

    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    history = fit(net, Recipe(load, step, optimizer, batch_size=4, epochs=4), work)
    return net.state_dict(), history


def equal(a: dict, b: dict) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def test_two_trainings_of_one_seed_are_equal(tmp_path: Path) -> None:
    first, second = train(job(tmp_path / "a")), train(job(tmp_path / "b"))
    assert equal(first[0], second[0])
    other = train(replace(job(tmp_path / "c"), seed=4))
    assert not equal(first[0], other[0])


@pytest.mark.parametrize("stop_at", [0, 1, 4, 7, 11])
def test_a_stopped_training_ends_like_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    save_every_step(monkeypatch)
    undisturbed, history = train(job(tmp_path / "a"))
    with pytest.raises(Stopped):
        train(job(tmp_path / "b"), stop_at=stop_at)
    resumed, resumed_history = train(job(tmp_path / "b"))
    assert equal(undisturbed, resumed)
    assert history == resumed_history


def test_a_resumed_training_does_not_repeat_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_every_step(monkeypatch)
    with pytest.raises(Stopped):
        train(job(tmp_path), stop_at=7)
    with pytest.raises(Stopped):
        train(job(tmp_path), stop_at=4)
    assert torch.load(tmp_path / "scratch/checkpoint.pt", weights_only=True)["progress"]["step"] == 11


def test_a_loss_that_is_not_finite_names_its_step_and_images(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step 5 is nan.*s\d"):
        train(job(tmp_path), poison=5)


def test_weights_that_only_the_last_step_spoils_are_refused(tmp_path: Path) -> None:
    net = nn.Linear(4, 1)
    recipe = Recipe(
        lambda index, rng: torch.full((4,), 1e30),
        lambda net, batch, progress: (net(torch.stack(batch)).mean(), {"loss": 1.0}),
        torch.optim.SGD(net.parameters(), lr=1e30),
        batch_size=16,
        epochs=1,
    )
    with pytest.raises(TrainingError, match=r"1 of 2 tensors .* not finite, weight for one; lower the learning rate"):
        fit(net, recipe, job(tmp_path))


def test_one_sample_alone_is_trained_on(tmp_path: Path) -> None:
    work = job(tmp_path, num_samples=1)
    net = nn.Linear(4, 1)
    recipe = Recipe(
        lambda index, rng: torch.ones(4),
        lambda net, batch, progress: (net(torch.stack(batch)).square().mean(), {"loss": 1.0}),
        torch.optim.SGD(net.parameters(), lr=0.1),
        batch_size=16,
        epochs=2,
    )
    assert len(fit(net, recipe, work)) == 2


def test_every_sample_is_seen_once_an_epoch(tmp_path: Path) -> None:
    seen: list[int] = []
    shares: list[float] = []
    net = nn.Linear(1, 1)

    def load(index: int, rng: np.random.Generator) -> int:
        return index

    def step(net: nn.Module, batch: list[int], progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        seen.extend(batch)
        shares.append(progress)
        return net(torch.ones(1, 1)).mean(), {"loss": 0.0}

    fit(net, Recipe(load, step, torch.optim.SGD(net.parameters(), lr=0.1), 4, epochs=2), job(tmp_path))
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert shares == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])


def descend(work: Job, net: nn.Module | None = None, lr: float = 0.1, **options: Any) -> tuple[nn.Module, list[dict]]:
    """Train a linear layer towards 0 on constant inputs."""
    net = net or nn.Linear(4, 1)

    def step(net: nn.Module, batch: list[torch.Tensor], progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        loss = net(torch.stack(batch)).square().mean()
        return loss, {"loss": loss.item()}

    recipe: Recipe = Recipe(
        lambda index, rng: torch.full((4,), 1.0 + index),
        step,
        torch.optim.SGD(net.parameters(), lr=lr),
        batch_size=len(work.samples),
        epochs=options.pop("epochs", 4),
        **options,
    )
    return net, fit(net, recipe, work)


def test_the_rates_warm_up_and_decay() -> None:
    factor = polynomial_decay(10, power=0.5, warmup_steps=4)
    assert [factor(step) for step in (0, 1, 3, 4, 9)] == pytest.approx(
        [0.25, 0.5 * 0.9**0.5, 0.7**0.5, 0.6**0.5, 0.1**0.5]
    )


def test_a_group_that_is_held_learns_nothing_and_warms_up_behind(tmp_path: Path) -> None:
    held = polynomial_decay(10, power=1, warmup_steps=2, held_steps=3)
    assert [held(step) for step in range(6)] == pytest.approx([0, 0, 0, 0.35, 0.6, 0.5])
    net = nn.Linear(4, 1)
    groups = [{"params": [net.weight], HELD_STEPS: 3}, {"params": [net.bias]}]
    trail = []

    def step(net: nn.Module, batch: list[torch.Tensor], progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        trail.append([p.detach().clone() for p in net.parameters()])
        return net(torch.stack(batch)).square().mean(), {}

    recipe: Recipe = Recipe(lambda index, rng: torch.ones(4), step, torch.optim.SGD(groups, lr=0.01), 1, epochs=5)
    fit(net, recipe, job(tmp_path, 1))
    weights, biases = zip(*trail, strict=True)
    assert all(torch.equal(weight, weights[0]) for weight in weights[:4])
    assert not torch.equal(weights[4], weights[3])
    assert not torch.equal(biases[1], biases[0])


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    net = nn.Linear(4, 1)
    before = torch.cat([p.detach().clone().flatten() for p in net.parameters()])
    descend(job(tmp_path, 2), net, lr=1.0, epochs=1, clip_norm=0.01)
    after = torch.cat([p.detach().flatten() for p in net.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_the_average_of_the_weights_comes_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 1)
    trail = [net.weight.detach().clone()]
    optimizer_step = torch.optim.SGD.step

    def record(self: torch.optim.SGD, *arguments: Any) -> Any:
        result = optimizer_step(self, *arguments)
        trail.append(net.weight.detach().clone())
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", record)
        descend(job(tmp_path, 2), net, lr=0.001, ema_decay=0.75)
    # The first step starts the average.
    expected = trail[1]
    for weight in trail[2:]:
        expected = 0.75 * expected + 0.25 * weight
    assert torch.allclose(net.weight, expected, atol=1e-6)
    assert not torch.allclose(net.weight, trail[-1], atol=1e-6)


def test_the_best_network_comes_out_and_batch_norms_keep_their_modes(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4), nn.Linear(4, 1)).train()
    net[1].eval()
    scores = iter([0.2, 0.9, 0.5, 0.9])
    seen: list[dict] = []

    def validate(net: nn.Module) -> dict[str, float]:
        assert not any(module.training for module in net.modules())
        assert not torch.is_grad_enabled()
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return {"score": next(scores)}

    _, history = descend(job(tmp_path, 4), net, lr=0.01, validate=validate, keep_best="score")
    assert [epoch["score"] for epoch in history] == [0.2, 0.9, 0.5, 0.9]
    assert equal(net.state_dict(), seen[1])
    assert not equal(seen[1], seen[3])
    assert [module.training for module in net] == [True, False, True, True]


def test_a_best_network_takes_figures_that_are_numbers(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the score of the validation images is nan"):
        descend(job(tmp_path, 4), validate=lambda net: {"score": float("nan")}, keep_best="score")


def test_validation_comes_every_so_many_epochs_and_after_the_last(tmp_path: Path) -> None:
    _, history = descend(job(tmp_path, 2), epochs=5, validate=lambda net: {"score": 1.0}, validate_epochs=2)
    assert ["score" in epoch for epoch in history] == [False, True, False, True, True]


def test_a_batch_without_weight_changes_nothing(tmp_path: Path) -> None:
    net = nn.Linear(4, 1)
    before = net.weight.detach().clone()
    descend(job(tmp_path, 2), net, weigh=lambda batch: 0.0)
    assert torch.equal(net.weight, before)


def test_scaled_losses_train_alike_where_nothing_underflows(tmp_path: Path) -> None:
    nets = []
    for name, scale in (("a", False), ("b", True)):
        torch.manual_seed(0)
        nets.append(descend(job(tmp_path / name, 2), nn.Linear(4, 1), lr=0.01, scale_loss=scale, clip_norm=1.0)[0])
    assert torch.allclose(nets[0].weight, nets[1].weight, atol=1e-6)


def gpu_is_full() -> torch.Tensor:
    raise torch.OutOfMemoryError("tried to allocate 80 GiB")


@pytest.mark.parametrize(
    ("allocate", "said"), [(gpu_is_full, "80 GiB"), (lambda: torch.empty(10**15), "can't allocate memory")]
)
def test_a_step_that_does_not_fit_into_memory_says_which_and_what_to_do(
    tmp_path: Path, allocate: Callable[[], torch.Tensor], said: str
) -> None:
    class Huge(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return allocate()

    with pytest.raises(TrainingError, match=rf"(?s)step 0 of 2 images.*more parts.*s[01], s[01].*{said}"):
        descend(job(tmp_path, 2), Huge(4, 1))


def test_logs_are_written_for_tensorboard_and_go_on_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_every_step(monkeypatch)
    for epochs in (2, 5):
        descend(job(tmp_path, 2), epochs=epochs, log_steps=1, validate=lambda net: {"score": 0.5})
    events = EventAccumulator(str(tmp_path / "scratch/logs")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5]
    assert {"train/lr", "train/images_per_s", "val/score"} <= set(events.Tags()["scalars"])
