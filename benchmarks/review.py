"""Milliseconds from a scribble to the refined mask: python -m benchmarks.review [--json-file FILE].

A photograph of noise, with a boundary map of closed shapes as IRNet's grid has them. A stroke in a shape and one beside
it are sent to a review's session, as the page sends them. The time is that until the answer is there, with the
correction forced to disk, and that of the walk alone; on a busy machine the processor's time says more.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from benchmarks.machine import describe_machine, results_file, write_results
from data.files import file_digest
from data.formats.label_folder import KINDS
from data.formats.label_maps import write_label_map
from data.store.corrections import BACKGROUND, FIRST_CLASS, Corrections
from tasks.review.difference import Masks
from tasks.review.scribbles import refine_scribbles
from tasks.review.session import Session
from tasks.review.subject import ReviewImage, Subject

SIZES, ROUNDS, MOST_MS = ((500, 375), (2000, 1500)), 15, 200


class Boundary:
    """Evidence of a boundary map alone."""

    classes = ("dog",)

    def __init__(self, boundary: torch.Tensor) -> None:
        self._boundary = boundary

    def boundary(self) -> torch.Tensor:
        """Return the map [h, w]."""
        return self._boundary

    def cams(self) -> None:
        """Return nothing: there are no attention maps."""


def scene(height: int, width: int) -> tuple[torch.Tensor, NDArray[np.uint16]]:
    """Return a boundary map at stride 4, an ellipse in faint noise, and scribbles in it and around it."""
    h, w = -(-height // 4), -(-width // 4)
    y, x = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
    noise = F.interpolate(torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(0)), (h, w), mode="bilinear")
    wall = torch.exp(-(((x / 0.5) ** 2 + (y / 0.6) ** 2 - 1) * 6).square())
    scribbles = np.zeros((height, width), np.uint16)
    scribbles[height // 2 - 3 : height // 2 + 3, int(width * 0.4) : int(width * 0.6)] = FIRST_CLASS
    scribbles[int(height * 0.3) : int(height * 0.7), int(width * 0.86) : int(width * 0.86) + 6] = BACKGROUND
    return (0.9 * wall + 0.1 * noise[0, 0]).clamp(0, 1), scribbles


def measure(folder: Path, width: int, height: int) -> dict[str, Any]:
    """Return the median milliseconds of the walk and of the whole step, by the clock and of the processor."""
    boundary, scribbles = scene(height, width)
    photo = folder / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)).save(photo)
    for kind in KINDS:
        write_label_map(folder / kind / "photo.png", np.zeros((height, width), np.uint8))
    evidence: Any = Boundary(boundary)
    image = ReviewImage("photo", photo, file_digest(photo), ("dog",), folder, evidence=evidence)
    names = ("background", "dog")
    session = Session(Subject("scene", folder, None, names, Corrections(folder / "corrections"), {"photo": image}), "-")
    clocks: list[list[float]] = []
    for number in range(ROUNDS + 1):
        begin = perf_counter(), process_time()
        refine_scribbles(scribbles, boundary)
        middle = perf_counter(), process_time()
        session.scribble("photo", number, 0, Masks(("dog",), scribbles))
        end = perf_counter(), process_time()
        clocks.append([1e3 * (b - a) for pair in ((begin, middle), (middle, end)) for a, b in zip(*pair, strict=True)])
    # The first loads what the others have.
    walk, walk_cpu, step, step_cpu = np.median(clocks[1:], axis=0).round(1).tolist()
    return {"photograph": f"{width} x {height}", "walk_ms": walk, "step_ms": step} | {
        "walk_cpu_ms": walk_cpu,
        "step_cpu_ms": step_cpu,
    }


def main(json_file: Path | None = None) -> int:
    """Measure, print the table, and return 1 where a step on 500 x 375 takes the processor more than 200 ms.

    Args:
        json_file: Results; benchmarks/results/review-<machine>.json if not said.
    """
    torch.set_num_threads(1)
    machine, rows = describe_machine(), []
    print("| photograph | walk, ms | step, ms | walk, CPU ms | step, CPU ms |\n|---|---|---|---|---|")
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(Path(folder), width, height))
        print("| " + " | ".join(map(str, rows[-1].values())) + " |")
        write_results({"machine": machine, "rows": rows}, json_file or results_file(machine, "review"))
    return int(rows[0]["step_cpu_ms"] > MOST_MS)


if __name__ == "__main__":
    raise SystemExit(tyro.cli(main))
