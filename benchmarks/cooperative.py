"""What two networks that share features take, against two that do not: python -m benchmarks.cooperative.

Parameters, and the most memory of inference on one image and of a training step with four, each measured in a process of
its own, as ratios to twice those of one network.
"""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from models.segmenters import COOPERATIVE, Connection
from tasks.resources import Variant, measure_inference, measure_resources

CONNECTIONS: tuple[Connection, ...] = ("single", "ensemble", "same-layer", "multi-layer")


def main(
    backbone: str = "resnet50",
    size: tuple[int, int] = (256, 512),
    classes: int = 19,
    device: str = "cpu",
    threads: Annotated[int, tyro.conf.arg(help="On a CPU.")] = 1,
) -> None:
    """Measure both kinds of network with every kind of connection."""
    title = f"{backbone}, {size[0]} x {size[1]}, {device}; in brackets the ratio to two single networks"
    table = Table(title=title, title_justify="left")
    for column in ("network", "M parameters", "inference MB", "training MB"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name in COOPERATIVE:
        single: list[float] = []
        for connections in CONNECTIONS:
            variant = Variant(name, backbone, {"connections": connections})
            options = {"device": device, "num_threads": threads}
            parameters = measure_inference(variant, classes, size, **options).parameters
            measured = measure_resources(variant, classes, size, **options)
            figures = [value / 1e6 for value in (parameters, measured.inference_bytes, measured.training_bytes)]
            single = single or figures
            cells = (f"{value:,.1f} ({value / 2 / one:.2f})" for value, one in zip(figures, single, strict=True))
            table.add_row(f"{name.removeprefix('cooperative-')}, {connections}", *cells)
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(main)
