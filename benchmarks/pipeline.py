"""The stages of a run, one after another in this process: python -m benchmarks.pipeline --work DIR [--set-name NAME].

What is measured of each stage: seconds, images a second, and the most memory, of the GPU where there is one. Nothing of
Prefect is imported, so that a machine without it, or one that is lent for an hour, runs the same stage functions as
`pseudomask run`.

A set is one of `benchmarks.any_set`, or "photographs": random ones of 500 x 375, which time depends on as on real ones.
"""

from __future__ import annotations

import importlib
import json
import logging
import resource
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from benchmarks.any_set import SETS
from benchmarks.machine import describe_machine, results_file, write_results
from data.readers import open_dataset
from data.store import Store
from flows.labels.presets import PRESETS
from tasks.engine.build import Machine, make
from tasks.engine.job import Job
from tasks.engine.plan import digest_samples, weights_digest
from tasks.engine.workers import WorkerPool, keep_freed_memory
from tasks.pipeline.plan import plan_labels
from tasks.pipeline.settings import PipelineConfig

logger = logging.getLogger(__name__)
SIZE = (375, 500)


class InProcess(WorkerPool):
    """Runs stage functions here, and keeps what each stage took.

    Attributes:
        stages: Stage name -> "seconds", "images" and "gpu_bytes", the most memory of the GPU that its jobs took.
    """

    def __init__(self) -> None:
        super().__init__(1)
        self.stages: dict[str, dict[str, float]] = {}

    def run(self, function: str, job: Job, label: str, *, exclusive: bool = False) -> dict[str, Any]:
        """Run "module:name" over a job; as `WorkerPool.run`."""
        on_gpu = job.device.startswith("cuda")
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        module, name = function.split(":")
        begun = perf_counter()
        summary = getattr(importlib.import_module(module), name)(job)
        if on_gpu:
            torch.cuda.synchronize()
        seconds = perf_counter() - begun
        figures = self.stages.setdefault(job.stage, {"seconds": 0.0, "images": 0, "gpu_bytes": 0})
        figures["seconds"] += seconds
        figures["images"] += len(job.samples)
        if on_gpu:
            figures["gpu_bytes"] = max(figures["gpu_bytes"], torch.cuda.max_memory_allocated())
        logger.info("%s: %.1f s", label, seconds)
        return {**summary, "seconds": round(seconds, 3)}


def main(
    work: Path,
    weights: Path | None = None,
    set_name: str = "photographs",
    images: int = 64,
    preset: str = "quick",
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    json_file: Path | None = None,
) -> int:
    """Make all artifacts of a run that are not in the folder yet, and print what each stage took.

    Args:
        work: Folder of the set and the store.
        weights: ImageNet weights of the preset's backbone; random ones by default.
        set_name: A name of `benchmarks.any_set`, or "photographs".
        images: How many photographs.
        preset: Of the settings.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        threads: On a CPU; all cores by default.
        seed: Of the run.
        json_file: Results; benchmarks/results/pipeline-<machine>.json if not said.
    """
    keep_freed_memory()
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    data = work / "sets" / set_name.replace(" ", "-")
    if not (data / "labels.csv").is_file():
        write_photographs(data, images) if set_name == "photographs" else SETS[set_name](data)
    config = PRESETS[preset]().model_copy(update={"seed": seed, "weights": weights})
    found = measure(data, config, work / "store", device, threads)
    machine = describe_machine()
    file = json_file or results_file(machine, "pipeline")
    document = json.loads(file.read_text()) if file.is_file() else {"runs": {}}
    document["machine"] = machine
    document["runs"][f"{set_name} / {preset} / {seed}"] = {"device": device, **found}
    write_results(document, file)
    print_table(found)
    return 0


def measure(data: Path, config: PipelineConfig, store_folder: Path, device: str, threads: int | None) -> dict[str, Any]:
    """Return what the stages took, the most memory of this process in bytes, and the scores where there are any."""
    dataset, _ = open_dataset(data)
    plan = plan_labels(dataset, config, digest_samples(dataset), weights=weights_digest(config))
    store = Store(store_folder)
    pool = InProcess()
    with pool:
        machine = Machine(pool, device, threads or torch.get_num_threads())
        for artifact in plan.artifacts:
            make(artifact, store, machine)
        scores = {}
        for artifact in plan.of("metrics"):
            scores = json.loads((store.fetch("metrics", artifact.key) / "metrics.json").read_text())
        semantic = {name: table.get("miou") for name, table in scores.get("semantic", {}).items()}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"stages": pool.stages, "peak_bytes": peak, "miou": semantic}


def write_photographs(root: Path, count: int) -> None:
    """Write images of 500 x 375 with blobs of four kinds, a tag each, and no ground truth."""
    root.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(0), ["image,labels"]
    for number in range(count):
        kind = number % 4
        image = cv2.resize(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        centre = (int(rng.integers(120, 380)), int(rng.integers(100, 275)))
        colour = [(230, 40, 40), (40, 230, 40), (40, 40, 230), (230, 230, 40)][kind]
        cv2.ellipse(image, centre, (90, 50 + 10 * kind), 30.0 * kind, 0, 360, colour, -1)
        cv2.imwrite(str(root / f"{number:05d}.jpg"), image[..., ::-1])
        rows.append(f"{number:05d},{'abcd'[kind]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")


def print_table(found: dict[str, Any]) -> None:
    """Print a row a stage."""
    table = Table()
    for column in ("stage", "seconds", "images a second", "GPU MB"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, figures in found["stages"].items():
        rate = figures["images"] / max(figures["seconds"], 1e-9)
        table.add_row(stage, f"{figures['seconds']:.1f}", f"{rate:.1f}", f"{figures['gpu_bytes'] / 1e6:.0f}")
    console = Console()
    console.print(table)
    console.print(f"most memory of the process {found['peak_bytes'] / 1e6:.0f} MB", found["miou"] or "")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(tyro.cli(main, description=__doc__))
