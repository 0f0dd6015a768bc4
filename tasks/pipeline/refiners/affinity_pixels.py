"""Stages `pixel-classifier` and `pixel-scores` of AffinityNet: the second round on the features of its backbone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.irnet import IRNet
from tasks.engine.job import Job
from tasks.pipeline.pixels import infer_pixels, train_pixels
from tasks.training.saving import load_affinitynet, save_network


def train_affinity_pixels(job: Job) -> dict[str, Any]:
    """Write the pixel classifier of every fold; see `tasks.pipeline.pixels.train_pixels`."""
    with _as_of_irnet(job) as of_irnet:
        return train_pixels(of_irnet)


def infer_affinity_pixels(job: Job) -> dict[str, Any]:
    """Write the probabilities of every image's classes; see `tasks.pipeline.pixels.infer_pixels`."""
    with _as_of_irnet(job) as of_irnet:
        return infer_pixels(of_irnet)


@contextmanager
def _as_of_irnet(job: Job) -> Iterator[Job]:
    """Yield a job whose network is an IRNet on AffinityNet's backbone, of which the second round sees no more."""
    with tempfile.TemporaryDirectory() as folder:
        save_network(IRNet(load_affinitynet(job.input("affinitynet")).backbone), Path(folder))
        yield replace(job, inputs={**job.inputs, "irnet": (Path(folder),)})
