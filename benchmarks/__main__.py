"""Measure the kernels: `make bench`, or python -m benchmarks [--only NAME] [--json FILE] [--quick]."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

import benchmarks
from benchmarks.machine import describe_machine, results_file, write_results
from benchmarks.measure import CheckFailed, Result, SpeedResult, measure, measure_speed
from benchmarks.row import Row, Speed
from tasks.engine.workers import keep_freed_memory

logger = logging.getLogger(__name__)


def main(
    only: str = "", json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None, quick: bool = False
) -> int:
    """Measure every row of the modules in benchmarks/; the exit code is 1 if a check failed.

    Args:
        only: Measure the rows whose module, kernel or baseline contains this.
        json_file: Where the results go; benchmarks/results/<machine>.json if not said, for a full run only.
        quick: Three rounds a row, no memory.
    """
    # As in the workers of a run.
    keep_freed_memory()
    torch.set_num_threads(1)
    machine = describe_machine()
    console = Console()
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()))
    if json_file is None and not only and not quick:
        json_file = results_file(machine)
    results, failures = [], 0
    document: dict[str, Any] = {"machine": machine, "rows": []}
    for row in collect(only):
        try:
            results.append(measure(row, quick))
        except CheckFailed as failure:
            failures += 1
            logger.error("%s", failure)
            continue
        logger.info("%s: %.1f times as fast as %s", row.kernel, results[-1].ratio, row.baseline)
        document["rows"] = [asdict(result) for result in results]
        write_results(document, json_file)
    if results:
        console.print(tabulate(results))
    speeds = []
    for speed in collect(only, "speeds"):
        speeds.append(measure_speed(speed))
        document["speeds"] = [asdict(found) for found in speeds]
        write_results(document, json_file)
    if speeds:
        console.print(tabulate_speeds(speeds))
    if not results and not speeds and not failures:
        logger.error("no row has %r in its name", only)
    return 1 if failures or not (results or speeds) else 0


def collect(only: str, kind: Literal["rows", "speeds"] = "rows") -> Iterator[Any]:
    """Yield the rows of the modules that have any, module by module, so that only one's inputs exist at a time."""
    for module in iter_modules(benchmarks.__path__):
        if module.name == "__main__":
            continue
        make = getattr(import_module(f"benchmarks.{module.name}"), kind, None)
        if make is not None:
            yield from (row for row in make() if only in f"{module.name}: {_name(row)}")


def _name(row: Row | Speed) -> str:
    return row.name if isinstance(row, Speed) else f"{row.kernel}: {row.baseline}"


def tabulate(results: list[Result]) -> Table:
    table = Table("kernel", "baseline", "ratio", "min..max", "kernel ms", "baseline ms", "error", "memory MB")
    for result in results:
        sizes = (result.fast_bytes, result.slow_bytes)
        table.add_row(
            result.kernel,
            result.baseline,
            f"{result.ratio:,.1f}",
            f"{result.ratio_min:,.1f}..{result.ratio_max:,.1f}",
            f"{result.fast_s * 1e3:.3g}",
            f"{result.slow_s * 1e3:,.4g}",
            f"{result.error:.1g} {result.unit}",
            " / ".join(f"{size / 1e6:.1f}" for size in sizes if size is not None),
        )
    return table


def tabulate_speeds(results: list[SpeedResult]) -> Table:
    table = Table("work", "images a second", "peak memory MB")
    for result in results:
        peak = "" if result.peak_bytes is None else f"{result.peak_bytes / 1e6:,.0f}"
        table.add_row(result.name, f"{result.images_per_s:.3g}", peak)
    return table


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(tyro.cli(main, prog="python -m benchmarks"))
