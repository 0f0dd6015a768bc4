"""A training that learns nothing starts anew at lower rates, and goes on in the attempt that it had reached."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.dataset import ClassTable, Sample
from tasks.config import Config
from tasks.engine.job import Job
from tasks.training import Recipe, TrainingError, fit, fit_with_restarts

LR = 0.02


def job_in(folder: Path, num_samples: int = 8) -> Job:
    samples = tuple(Sample(str(n), Path("none"), ()) for n in range(num_samples))
    folder.mkdir(exist_ok=True)
    return Job(samples, ClassTable(("a",)), Config(), folder, folder / "scratch", stage="toy")


def build(rate: float, *, lr: float, initial: float | None = 1.0, steps: tuple[int, int] = (32, 32)) -> Any:
    """Return a network of one weight that is to become 0, from 1; it diverges at rates over 1."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)

    def step(net: nn.Module, batch: list[float], _: float) -> tuple[Tensor, dict[str, float]]:
        loss = net(torch.ones(len(batch), 1)).square().mean()
        return loss, {"loss": loss.item()}

    optimizer = torch.optim.SGD(net.parameters(), lr=rate * lr)
    load = lambda index, rng: 1.0  # noqa: E731
    return net, Recipe(load, step, optimizer, batch_size=4, epochs=1, steps=steps, initial_loss=initial)


def test_a_loss_that_grows_is_started_anew_at_a_quarter_of_the_rates(tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        net, history, restarts = fit_with_restarts(lambda rate: build(rate, lr=3.0), job_in(tmp_path), 2)
    assert restarts == 1
    assert history[-1]["loss"] < 0.01
    assert abs(float(net.weight.detach())) < 0.1
    assert "toy: the loss is" in caplog.text
    assert "starts anew at 0.25 of the learning rates" in caplog.text


def test_a_training_that_learns_is_left_alone(tmp_path: Path) -> None:
    assert fit_with_restarts(lambda rate: build(rate, lr=LR), job_in(tmp_path), 2)[2] == 0


def test_the_last_attempt_ends_with_what_it_has_or_says_why_not(tmp_path: Path) -> None:
    *_, restarts = fit_with_restarts(lambda rate: build(rate, lr=1e-9), job_in(tmp_path), 1)
    assert restarts == 1
    with pytest.raises(TrainingError, match="lower the learning rate"):
        fit_with_restarts(lambda rate: build(rate, lr=1e30, steps=(64, 64)), job_in(tmp_path / "other"), 0)


def test_an_attempt_that_stalled_is_not_made_again(tmp_path: Path) -> None:
    rates: list[float] = []

    def counted(rate: float) -> Any:
        rates.append(rate)
        return build(rate, lr=3.0)

    fit_with_restarts(counted, job_in(tmp_path), 2)
    fit_with_restarts(counted, job_in(tmp_path), 2)
    assert rates == [1, 0.25, 0.25]


@pytest.mark.parametrize(("num_samples", "expected"), [(1, 10), (8, 10), (60, 15), (1000, 20)])
def test_a_set_of_any_size_has_steps_within_the_bounds(tmp_path: Path, num_samples: int, expected: int) -> None:
    net, recipe = build(1, lr=LR, steps=(10, 20))
    steps = []
    job = job_in(tmp_path, num_samples)
    from dataclasses import replace

    history = fit(net, recipe, replace(job, progress=lambda done, total, note="": steps.append((done, total))))
    assert steps[-1] == (expected, expected)
    assert 1 <= len(history) <= 16
    assert np.isfinite(history[-1]["loss"])
