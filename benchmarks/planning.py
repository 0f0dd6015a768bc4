"""Planning, keys, record and status of sets that are only simulated: python -m benchmarks.planning [--images N ...].

Each size runs in a process of its own, on one core. Ids, labels and digests are made up; every tenth image has ground
truth. No image is read and nothing is made, so that what is measured is what a run of that size costs beside its work.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Annotated, ParamSpec, TypeVar

import tyro
from rich.console import Console
from rich.table import Table

from data.dataset import ClassTable, Dataset, Sample
from data.formats.voc import VOC_CLASSES
from data.store import Store
from flows.commands.looking.status import compare_with_store, runs_of
from tasks.engine.artifact import Artifact, SampleDigest
from tasks.engine.plan import Plan
from tasks.engine.run_record import read_run, write_run
from tasks.measurement.memory import forget_peak, status_bytes
from tasks.pipeline.plan import plan_labels
from tasks.pipeline.settings import PipelineConfig, WalkConfig

logger = logging.getLogger(__name__)
SIZES = (10_000, 100_000, 1_000_000)
ROOT = Path("/sets/simulated")
Arguments = ParamSpec("Arguments")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Step:
    """What was measured of one step.

    Attributes:
        name: What was done.
        images: Of how many images.
        seconds: It took.
        cpu_seconds: Of them at work; the rest is waiting for other processes.
        peak_bytes: The most memory of the whole process meanwhile, with all that the steps before it keep.
    """

    name: str
    images: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def main(images: tuple[int, ...] = SIZES, json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None) -> int:
    """Measure every size in turn.

    Args:
        images: The sizes.
        json_file: Where the results go; benchmarks/results/planning-<machine>.json if not said, for the usual sizes.
    """
    # Not at the top: the processes that are measured do without.
    from benchmarks.machine import describe_machine, results_file, write_results

    machine = describe_machine()
    if json_file is None and images == SIZES:
        json_file = results_file(machine, "planning")
    steps: list[Step] = []
    for num_images in images:
        steps += measure_apart(num_images)
        logger.info("%s images: done", f"{num_images:,}")
        write_results({"machine": machine, "steps": [asdict(step) for step in steps]}, json_file)
    Console().print(tabulate(steps))
    return 0


def measure_apart(num_images: int) -> list[Step]:
    """Measure a size in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(measure_size, num_images).result()


def measure_size(num_images: int) -> list[Step]:
    """Take every step of a run that is not its work, for a set of that many images."""
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter(num_images)
        store, run = Store(Path(folder) / "store"), Path(folder) / "run"
        run.mkdir()
        store.prepare()
        store.register(run)
        dataset, digests = meter("the set and its digests, simulated", simulate, num_images)
        plan = meter("plan with all keys", plan_labels, dataset, PipelineConfig(), digests)
        meter("record, written", write_run, run, plan, store.address, preset="voc12", request={})
        meter("status of the store: its runs", runs_of, store.root)
        record = meter("record, read", read_run, run)
        meter("its images, read", getattr, record, "dataset")
        meter("status of the run, nothing made", compare_with_store, plan, read_run(run), store)
        del plan, record
        changed = meter("plan of a changed set and setting", _plan_changed, dataset, digests)
        stages = meter("status of the run, all stale", compare_with_store, changed, read_run(run), store)
        assert stages["cams"]["state"] == stages["walk"]["state"] == "stale"
        meter("manifest of a training", _dump_recipe, changed.of("classifier")[0])
        return meter.steps


def simulate(num_images: int) -> tuple[Dataset, dict[str, SampleDigest]]:
    """Make up a set: a photograph in the VOC layout has one to three classes, and every tenth a label map."""
    folder, truth = ROOT / "JPEGImages", ROOT / "SegmentationClass"
    samples, digests = [], {}
    for number in range(num_images):
        id = f"{number:08d}"
        labels = tuple(sorted({number % 20, number // 20 % 20, number // 400 % 20}))
        has_truth = number % 10 == 0
        samples.append(Sample(id, folder / f"{id}.jpg", labels, truth / f"{id}.png" if has_truth else None))
        digests[id] = SampleDigest(_sha256(id), _sha256(f"truth of {id}") if has_truth else None)
    return Dataset(ROOT, ClassTable(VOC_CLASSES), tuple(samples)), digests


def _plan_changed(dataset: Dataset, digests: dict[str, SampleDigest]) -> Plan:
    """Plan once more: in every shard some images have other bytes, and the walk another setting."""
    other = {id: replace(digests[id], image=_sha256(f"other {id}")) for id in list(digests)[::10]}
    return plan_labels(dataset, PipelineConfig(walk=WalkConfig(beta=8)), digests | other)


def _dump_recipe(artifact: Artifact) -> int:
    return len(json.dumps(artifact.recipe))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Meter:
    """Takes the time and the memory of steps, one after the other."""

    def __init__(self, num_images: int) -> None:
        self.steps: list[Step] = []
        self._num_images = num_images

    def __call__(
        self, name: str, work: Callable[Arguments, Made], *args: Arguments.args, **kw: Arguments.kwargs
    ) -> Made:
        forget_peak()
        begin, cpu_begin = perf_counter(), process_time()
        made = work(*args, **kw)
        seconds, cpu_seconds = perf_counter() - begin, process_time() - cpu_begin
        self.steps.append(Step(name, self._num_images, seconds, cpu_seconds, status_bytes("VmHWM")))
        return made


def tabulate(steps: list[Step]) -> Table:
    """Return the steps as a table; growth is against the size before, of the seconds at work."""
    table = Table("step", "images", "seconds", "at work", "growth", "peak MB", "growth")
    before: dict[str, Step] = {}
    for name in dict.fromkeys(step.name for step in steps):
        for step in (step for step in steps if step.name == name):
            last = before.get(name)
            work = f"{step.cpu_seconds / last.cpu_seconds:.1f}" if last else ""
            memory = f"{step.peak_bytes / last.peak_bytes:.1f}" if last else ""
            seconds = (f"{step.seconds:.2f}", f"{step.cpu_seconds:.2f}")
            table.add_row(name, f"{step.images:,}", *seconds, work, f"{step.peak_bytes / 1e6:,.0f}", memory)
            before[name] = step
    return table


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(tyro.cli(main, prog="python -m benchmarks.planning"))
