"""`pseudomask compare segnet-resources`: time and memory of networks, without any training."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from data.dataset import DatasetError
from data.files import atomic_write, explain_os_errors
from data.ownership import own
from flows.commands.command import HIDDEN, Command, answering
from flows.comparison.results import FILE_NAME
from flows.engine.request import LocalRequest
from tasks.config import Precision
from tasks.networks.segnet import SCENE_NETWORKS

log = logging.getLogger(__name__)
TABLE = "segnet-resources"
RESOURCES = ("segnet", "deeplab-largefov", "fcn-learned", "deconvnet")


class ResourcesRequest(LocalRequest):
    """A measurement of networks.

    Attributes:
        table: The table of this name.
        out: Folder of the results; by default they are printed alone.
        rows: Networks; by default those of the paper's Table 6.
        size: Height and width of the images.
        classes: Classes.
        threads: Threads on a CPU.
        precision: Of the networks' arithmetic, in training and in inference.
    """

    table: Literal["segnet-resources"] = TABLE
    out: Path | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    rows: tuple[str, ...] = ()
    size: tuple[int, int] = (360, 480)
    classes: int = 11
    threads: int = 1
    precision: Precision = "float32"


def compare_resources(
    networks: Iterable[str],
    size: tuple[int, int],
    num_classes: int,
    device: str,
    num_threads: int,
    out: Path | None = None,
    *,
    precision: Precision = "float32",
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
        options: Any = {"device": device, "num_threads": num_threads, "precision": precision}
        measured = measure_resources(variant, num_classes, size, **options)
        rows.append({"network": name, **asdict(measured)})
    measured_at = {"size": list(size), "device": device, "threads": num_threads, "precision": precision}
    result = {"table": TABLE, **measured_at, "rows": rows}
    if out is not None:
        with own(out, "compare") as output, explain_os_errors(out):
            output.claim([FILE_NAME])
            atomic_write(out / FILE_NAME, json.dumps(result, indent=1))
    return result


def measure(request: ResourcesRequest) -> dict[str, Any]:
    """Return the answer of `compare_resources` to a request.

    Raises:
        DatasetError: A network is unknown, or a number is not positive.
    """
    if unknown := [name for name in request.rows if name not in SCENE_NETWORKS]:
        raise DatasetError(f"unknown networks {', '.join(unknown)}; expected some of {', '.join(SCENE_NETWORKS)}")
    numbers = (request.size, request.classes, request.torch_device, request.threads)
    return compare_resources(request.rows or RESOURCES, *numbers, request.out, precision=request.precision)


def show_resources(result: dict[str, Any], console: Console) -> None:
    """Print a row a network."""
    height, width = result["size"]
    machine = f"{result['device']}, {result['threads']} threads, {result['precision']}"
    title = f"One image of {height} x {width} on {machine}; training memory of 4, with SGD's momentum"
    table = Table(title=title, title_justify="left")
    columns = ("network", "forward ms", "backward ms", "predict ms", "predict MB", "train MB", "model MB")
    for column in columns:
        table.add_column(column, justify="left" if column == "network" else "right", overflow="fold")
    for row in result["rows"]:
        seconds = (row[name] for name in ("forward_seconds", "backward_seconds", "inference_seconds"))
        sizes = (row[name] for name in ("inference_bytes", "training_bytes", "model_bytes"))
        table.add_row(row["network"], *(f"{1e3 * s:,.0f}" for s in seconds), *(f"{b / 1e6:,.0f}" for b in sizes))
    console.print(table)


COMMAND = Command(
    name="compare",
    help="Time and memory of networks, each in a process of its own (SegNet, Table 6).",
    request=ResourcesRequest,
    carry_out=answering(measure, show_resources),
    written={"table": HIDDEN, "workers": HIDDEN},
    word="table",
)
