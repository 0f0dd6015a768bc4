"""What a benchmark measures: a kernel against a baseline, with the check that it may be timed at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

Result = TypeVar("Result")


def synchronised(work: Callable[[], Result]) -> Callable[[], Result]:
    """Return what does the work and waits until the GPU has done it."""

    def run() -> Result:
        result = work()
        torch.cuda.synchronize()
        return result

    return run


@dataclass(frozen=True)
class Part:
    """Some of a baseline's work: it is run once a round, and its time counts `times`, where it is done so often."""

    work: Callable[[], object]
    times: int = 1


@dataclass(frozen=True)
class Row:
    """One line of the table: two callables that do the same work, timed in turn.

    Attributes:
        kernel: What is timed, with its size: "random walk, 3 maps, 94 x 125".
        baseline: What it is compared with: "scipy CSR, 256 steps".
        fast: Does the work once by the kernel.
        slow: Does the work once by the baseline, together.
        measure_error: Returns the largest error of `fast` against `slow` or the reference, in the unit of
            `tolerance`; above that, the row is not timed.
        tolerance: The largest error at which the row counts.
        unit: What the error is: "of the maximum", "of the pixels".
        memory: Whether the peak of the memory that each side allocates is measured too.
    """

    kernel: str
    baseline: str
    fast: Callable[[], object]
    slow: Sequence[Part]
    measure_error: Callable[[], float]
    tolerance: float
    unit: str
    memory: bool = False


@dataclass(frozen=True)
class Speed:
    """One line of the second table: work that replaces no other, whose images a second and memory are stated.

    Attributes:
        name: What is timed, with its size: "training, DeepLab v2, ResNet-50, 513 x 513".
        work: Does it once.
        num_images: How many images that is.
    """

    name: str
    work: Callable[[], object]
    num_images: int
