"""A training whose network has batch norm, small enough to run in several processes within a test."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.engine.job import Job
from tasks.training import Recipe, fit
from tasks.training.group import Group
from tasks.training.norms import synchronize_norms

VOID = 9


def train(job: Job) -> dict[str, Any]:
    """Train on images of which each third is void; `job.out` gets the network."""
    return {"history": _train(job, Recipe)}


def train_in_parts(job: Job) -> dict[str, Any]:
    """The same, with each process's share of a batch in two parts."""
    return {"history": _train(job, lambda *values, **options: Recipe(*values, **options, parts=2))}


def train_with_own_norms(job: Job) -> dict[str, Any]:
    """The same, with batch norm of each process's images; validated by the mean output of all processes' networks."""
    group = Group.current(job.device)

    def validate(net: nn.Module) -> dict[str, float]:
        return {"mean": group.sum([mean_output(net)])[0] / group.size}

    return {"history": _train(job, lambda *values, **options: Recipe(*values, **options, validate=validate))}


def mean_output(net: nn.Module) -> float:
    """Return the mean of what a network in evaluation mode returns for one image."""
    return net(torch.ones(1, 3, 12, 12)).mean().item()


def fail(job: Job) -> dict[str, Any]:
    """Fail in the second process, while the first waits for it."""
    group = Group.current(job.device)
    if group.rank == 1:
        raise ValueError("no such image: x7.jpg")
    group.sum([0.0])
    return {}


def network(*, with_norm: bool) -> nn.Sequential:
    """Return the network with random weights."""
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)]
    if with_norm:
        layers.insert(1, nn.BatchNorm2d(8))
    return nn.Sequential(*layers)


def _train(job: Job, make: Any) -> list[dict[str, float]]:
    torch.manual_seed(0)
    net = network(with_norm=job.backbone != "plain").train()
    if job.backbone == "with norm":
        net = synchronize_norms(net, job.device)

    def load(index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        image = torch.from_numpy(rng.standard_normal((3, 12, 12)).astype(np.float32))
        # Unequal numbers of void pixels: the mean of two processes' means is not the mean of all.
        labels = torch.full((8, 8), VOID)
        labels[: 1 + index % 8] = torch.from_numpy(rng.integers(0, 4, (1 + index % 8, 8)))
        return image, labels

    def weigh(batch: list[tuple[Tensor, Tensor]]) -> float:
        return float(sum((labels != VOID).sum() for _, labels in batch))

    def step(net: nn.Module, batch: list[tuple[Tensor, Tensor]], _: float) -> tuple[Tensor, dict[str, float]]:
        images, labels = (torch.stack(part) for part in zip(*batch, strict=True))
        loss = F.cross_entropy(net(images), labels, ignore_index=VOID)
        return loss, {"loss": loss.item()}

    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    # A step an epoch, so that the history has every step's loss.
    recipe = make(load, step, optimizer, batch_size=len(job.samples), epochs=20, weigh=weigh)
    history = fit(net, recipe, job)
    if Group.current(job.device).rank == 0:
        torch.save(net.state_dict(), job.out / "net.pt")
    return history
