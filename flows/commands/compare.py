"""`pseudomask compare`: the tables of papers on networks, made anew."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from data.dataset import DatasetError
from data.files import atomic_write, explain_os_errors
from data.ownership import own
from flows.commands.run import embedded_server
from flows.comparison.refiner_tables import tables_of as refiner_tables
from flows.comparison.refiners import CompareRefinersRequest, check_truth
from flows.comparison.request import CompareRequest, check_sets, trials
from flows.comparison.results import FILE_NAME, by_weighting, percent, table_of, tests_of
from flows.engine.collect import writing
from tasks.networks import NETWORKS
from tasks.pipeline import EVERY_STAGE

log = logging.getLogger(__name__)
RESOURCES = ("segnet", "deeplab-largefov", "fcn-learned", "deconvnet")


def compare_networks(request: CompareRequest) -> dict[str, Any]:
    """Run the flow, and return what `comparison.json` holds."""
    with writing(request, "compare"):
        for note in check_sets(request):
            log.warning("%s", note)
        networks = {trial.training.settings.network for trial in trials(request)}
        with embedded_server(request, [stage for name in networks for stage in NETWORKS[name].pipeline]):
            from flows.comparison.flow import compare

            compare(request)
    return json.loads((request.out / FILE_NAME).read_text())


def compare_refiners(request: CompareRefinersRequest) -> dict[str, Any]:
    """Run the flow of the IRNet paper's tables, and return what `comparison.json` holds."""
    with writing(request, "compare"):
        check_truth(request)
        with embedded_server(request, EVERY_STAGE):
            from flows.comparison.flow import compare_refiners as flow

            flow(request)
    return json.loads((request.out / FILE_NAME).read_text())


def compare_resources(
    networks: Iterable[str],
    size: tuple[int, int],
    num_classes: int,
    device: str,
    num_threads: int,
    out: Path | None = None,
) -> dict[str, Any]:
    """Measure time and memory of networks, each in processes of its own (Table 6); `out` gets `comparison.json`.

    Raises:
        DatasetError: A number is not positive.
    """
    from tasks.measurement.resources import Variant, measure_resources

    if min(*size, num_classes, num_threads) < 1:
        raise DatasetError(
            f"expected positive numbers, got {size[0]} x {size[1]}, {num_classes} classes, {num_threads} threads"
        )
    if out is not None:
        # Before the work: a folder that holds something else is refused at once.
        with own(out, "compare"):
            pass
    rows = []
    for name in networks:
        log.info("%s at %d x %d", name, *size)
        variant = Variant(name, options={"input": "imagenet"})
        measured = measure_resources(variant, num_classes, size, device=device, num_threads=num_threads)
        rows.append({"network": name, **asdict(measured)})
    result = {"table": "segnet-resources", "size": list(size), "device": device, "threads": num_threads, "rows": rows}
    if out is not None:
        with own(out, "compare") as output, explain_os_errors(out):
            output.claim([FILE_NAME])
            atomic_write(out / FILE_NAME, json.dumps(result, indent=1))
    return result


def show_comparison(result: dict[str, Any], console: Console, *, per_class: bool = False) -> None:
    """Print the tables, one for each list of images so that they are narrow, and the next command to type."""
    for rows in by_weighting(result).values():
        for test in tests_of(rows[0]):
            console.print(table_of(result, rows, [test]))
    if per_class:
        for row in result["rows"]:
            console.print(_class_table(row))
    where = result["out"]
    console.print(f"figures  {where}/{FILE_NAME}\nreport   {where}/report/index.html", highlight=False, soft_wrap=True)


def show_refiners(result: dict[str, Any], console: Console) -> None:
    """Print the tables, and where they are."""
    for table in refiner_tables(result):
        console.print(table)
    where = f"{result['out']}/{result['table']}"
    console.print(
        f"figures  {result['out']}/{FILE_NAME}\ntables   {where}.md, {where}.tex", highlight=False, soft_wrap=True
    )


def show_resources(result: dict[str, Any], console: Console) -> None:
    """Print a row a network."""
    height, width = result["size"]
    title = f"One image of {height} x {width} on {result['device']}, {result['threads']} threads; training memory of 4"
    table = Table(title=title, title_justify="left")
    columns = ("network", "forward ms", "backward ms", "predict ms", "predict MB", "train MB", "model MB")
    for column in columns:
        table.add_column(column, justify="left" if column == "network" else "right", overflow="fold")
    for row in result["rows"]:
        seconds = (row[name] for name in ("forward_seconds", "backward_seconds", "inference_seconds"))
        sizes = (row[name] for name in ("inference_bytes", "training_bytes", "model_bytes"))
        table.add_row(row["network"], *(f"{1e3 * s:,.0f}" for s in seconds), *(f"{b / 1e6:,.0f}" for b in sizes))
    console.print(table)


def _class_table(row: dict[str, Any]) -> Table:
    table = Table(title=f"{row['row']}, {row['weighting']}: each class of the test images", title_justify="left")
    for column in ("class", "accuracy", "IoU"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name in row["test"]["iou"][0]:
        table.add_row(name, *(percent([seed[name] for seed in row["test"][kind]]) for kind in ("accuracy", "iou")))
    return table
