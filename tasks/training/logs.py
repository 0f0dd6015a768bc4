"""Figures of a training for TensorBoard."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes figures into a folder that `tensorboard --logdir` shows; use as a context manager.

    A training that goes on writes on, and what was logged behind its checkpoint is not shown.

    Args:
        folder: Of the logs.
        start: The step that the training begins or goes on with.
        every: Write the mean of this many steps; 0 to write nothing at all.
    """

    def __init__(self, folder: Path, start: int, every: int) -> None:
        self._folder = folder
        self._start = start
        self._every = every
        self._figures: dict[str, list[float]] = {}
        self._images = 0
        self._writer: SummaryWriter | None = None
        self._since = time.monotonic()

    def __enter__(self) -> TensorBoard:
        if self._every:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=self._start + 1 if self._start else None)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer:
            self._writer.close()

    def add(self, step: int, figures: dict[str, float], images: int) -> None:
        """Take in a step's figures, and write what has come together when it is time."""
        if not self._every:
            return
        for name, value in figures.items():
            self._figures.setdefault(name, []).append(value)
        self._images += images
        if step % self._every == 0:
            now = time.monotonic()
            speed = self._images / max(now - self._since, 1e-9)
            means = {name: sum(values) / len(values) for name, values in self._figures.items()}
            self._figures, self._images, self._since = {}, 0, now
            self.write(step, {**means, "images_per_s": speed}, "train")

    def write(self, step: int, figures: dict[str, float], kind: str = "val") -> None:
        """Write figures at once, as `kind/name`."""
        if self._writer:
            for name, value in figures.items():
                self._writer.add_scalar(f"{kind}/{name}", value, step)
