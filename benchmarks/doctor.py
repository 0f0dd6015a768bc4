"""`doctor` on sets of many small images: python -m benchmarks.doctor [--images N ...].

Some photographs and label maps have many names each, as hard links, so that a set takes little room; each is opened,
decoded and hashed as if it were a file of its own. A size runs in a process of its own, on all cores.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from benchmarks.planning import Meter, Step, tabulate
from data.readers import open_dataset
from data.synthetic.dataset import write_synthetic
from flows.commands.looking.doctor import examine_dataset

logger = logging.getLogger(__name__)
SIZES = (10_000, 100_000)
NUM_ORIGINALS = 100
"""Photographs that are drawn; a file system has a limit on the names of one, which is 65,000 for ext4."""
SIZE = (64, 80)


def main(images: tuple[int, ...] = SIZES, json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None) -> int:
    """Measure every size in turn.

    Args:
        images: The sizes.
        json_file: Where the results go; benchmarks/results/doctor-<machine>.json if not said, for the usual sizes.
    """
    # Not at the top: the processes that are measured do without.
    from benchmarks.machine import describe_machine, results_file, write_results

    machine = describe_machine()
    if json_file is None and images == SIZES:
        json_file = results_file(machine, "doctor")
    steps: list[Step] = []
    for num_images in images:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
            steps += processes.submit(measure_size, num_images).result()
        logger.info("%s images: done", f"{num_images:,}")
        write_results({"machine": machine, "steps": [asdict(step) for step in steps]}, json_file)
    Console().print(tabulate(steps))
    return 0


def measure_size(num_images: int) -> list[Step]:
    """Read and examine a set of that many images."""
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        meter, root = Meter(num_images), Path(folder) / "set"
        meter("the set, written", write_linked, root, num_images)
        meter("its lists and labels, read", open_dataset, root)
        facts, problems = meter("doctor, all of it", examine_dataset, root, None, None, None)
        assert facts["images"] == facts["with_semantic_ground_truth"] == num_images
        assert not problems
        return meter.steps


def write_linked(root: Path, num_images: int) -> None:
    """Write a set in the VOC layout whose files are links to those of a small one."""
    small = root.with_name("small")
    write_synthetic(small, num_images=NUM_ORIGINALS, seed=0, size=SIZE)
    labels = dict(line.split(",", 1) for line in (small / "labels.csv").read_text().splitlines()[1:])
    originals = sorted(labels)
    for kind in ("JPEGImages", "SegmentationClass"):
        (root / kind).mkdir(parents=True)
    link = _linker(small, root)
    rows = ["image,labels"]
    for number in range(num_images):
        original, id = originals[number % len(originals)], f"{number:07d}"
        link(f"JPEGImages/{original}.jpg", f"JPEGImages/{id}.jpg")
        link(f"SegmentationClass/{original}.png", f"SegmentationClass/{id}.png")
        rows.append(f"{id},{labels[original]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    (root / "classes.txt").write_bytes((small / "classes.txt").read_bytes())


def _linker(source: Path, target: Path) -> Callable[[str, str], None]:
    # Joined as text: a path object per file takes longer than the link.
    return lambda name, other: os.link(f"{source}/{name}", f"{target}/{other}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(tyro.cli(main, prog="python -m benchmarks.doctor"))
