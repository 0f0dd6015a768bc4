"""Published labels that follow their data set: python -m benchmarks.regeneration [--images 200] [--added 10].

A synthetic set is labelled and published from nothing by `pseudomask regenerate` with the settings of the demo; then
some images are added and it is called again; then once more, with nothing changed. Seconds are those of the command,
with its start and its Prefect server's.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from data.store import Store
from data.synthetic.dataset import write_synthetic
from tasks.pipeline import trained_stages

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
IMAGES, ADDED = 200, 10
LEAST_RATIO = 10
MOST_IDLE_S = 20


@dataclass(frozen=True)
class Regeneration:
    """What was measured of one call.

    Attributes:
        what: What there was to do.
        seconds: It took.
        version: That it published; None where it made none.
        images: That were inferred.
        trained: Networks that were trained.
        made: Artifacts that were made.
    """

    what: str
    seconds: float
    version: int | None
    images: int
    trained: int
    made: int


def main(
    images: int = IMAGES, added: int = ADDED, json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None
) -> int:
    """Measure the three calls; the exit code is 1 where a bound is not kept.

    Args:
        images: Images of the first version.
        added: Images of the second that the first does not have.
        json_file: Where the results go; benchmarks/results/regeneration-<machine>.json if not said, for the
            usual counts.
    """
    from benchmarks.machine import describe_machine, results_file, write_results

    machine = describe_machine()
    if json_file is None and (images, added) == (IMAGES, ADDED):
        json_file = results_file(machine, "regeneration")
    with tempfile.TemporaryDirectory() as folder:
        calls = measure(Path(folder), images, added)
    write_results({"machine": machine, "calls": [asdict(call) for call in calls]}, json_file)
    Console().print(tabulate(calls))
    broken = broken_bounds(calls, added)
    for bound in broken:
        logger.error("%s", bound)
    return 1 if broken else 0


def measure(folder: Path, num_images: int, num_added: int) -> list[Regeneration]:
    """Label a set in `folder` from nothing, with images added, and with nothing changed."""
    write_synthetic(folder / "set", num_images=num_images + num_added, seed=0)
    ids = sorted(file.stem for file in (folder / "set/JPEGImages").iterdir())
    listing = folder / "images.txt"
    calls = []
    for what, count in (
        ("from nothing", num_images),
        (f"{num_added} more", num_images + num_added),
        ("nothing changed", num_images + num_added),
    ):
        listing.write_text("".join(f"{id}\n" for id in ids[:count]))
        calls.append(_regenerate(folder, what))
        logger.info("%s: %.1f s", what, calls[-1].seconds)
    return calls


def broken_bounds(calls: list[Regeneration], num_added: int) -> list[str]:
    """Say which bounds the calls do not keep."""
    first, more, same = calls
    bounds = {
        f"{num_added} more images are at least {LEAST_RATIO} times faster than all": (
            first.seconds >= LEAST_RATIO * more.seconds
        ),
        "the images that were added are all that is inferred": (more.images, same.images) == (num_added, 0),
        "nothing is trained again": first.trained > 0 == more.trained == same.trained,
        "a version is published where there are new images, and only there": (
            (first.version, more.version, same.version) == (1, 2, None)
        ),
        f"nothing changed takes less than {MOST_IDLE_S} s": same.seconds < MOST_IDLE_S,
    }
    return [f"not kept: {text}" for text, kept in bounds.items() if not kept]


def _regenerate(folder: Path, what: str) -> Regeneration:
    """Call the command, and count what its store has more."""
    words = ["--data", folder / "set", "--split", folder / "images.txt", "--out", folder / "labels", "--preset", "demo"]
    command = [sys.executable, "-m", "flows", "regenerate", *map(str, words), "--json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    before = _count_artifacts(folder)
    begin = perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True)
    seconds = perf_counter() - begin
    made = _count_artifacts(folder) - before
    answer = json.loads(done.stdout)
    trained = sum(made[stage] for stage in trained_stages("irnet"))
    return Regeneration(what, seconds, answer["version"], answer["images"], trained, made.total())


def _count_artifacts(folder: Path) -> Counter[str]:
    return Counter(stage for stage, _ in Store(folder / "store").artifacts())


def tabulate(calls: list[Regeneration]) -> Table:
    """Return the calls as a table; the ratio is the first's seconds to each."""
    table = Table("labels", "seconds", "ratio", "version", "images inferred", "networks trained", "artifacts made")
    for call in calls:
        ratio = f"{calls[0].seconds / call.seconds:.1f}"
        version = "none" if call.version is None else str(call.version)
        counts = (str(count) for count in (call.images, call.trained, call.made))
        table.add_row(call.what, f"{call.seconds:.1f}", ratio, version, *counts)
    return table


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(tyro.cli(main, prog="python -m benchmarks.regeneration"))
