"""Training repeats itself bit for bit, also when it is stopped and resumed, and stops on a loss that is not finite."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from data.dataset import ClassTable, Sample
from tasks.config import Config
from tasks.job import Job
from tasks.training import Recipe, TrainingError, fit


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
