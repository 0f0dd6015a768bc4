"""What the side flows' networks take: python -m benchmarks.networks.

Two networks that share features against two that do not: parameters, and the most memory of inference on one image and
of a training step with four. DANet's position attention against the matrix of all pairs of positions: the most memory
and the time of a step, and how far they are apart. Each is measured in a process of its own.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter
from typing import Annotated

import torch
import tyro
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from models.cooperative import Connection
from models.danet import PositionAttention
from tasks.measurement.memory import forget_peak, status_bytes
from tasks.measurement.resources import Variant, measure_inference, measure_resources
from tasks.networks import cooperative

CONNECTIONS: tuple[Connection, ...] = ("single", "ensemble", "same-layer", "multi-layer")
# A quarter of ResNet's last features, of a crop of 768 at stride 8.
CHANNELS, SIDE = 512, 96


def main(
    backbone: str = "resnet50",
    size: tuple[int, int] = (256, 512),
    classes: int = 19,
    device: str = "cpu",
    threads: Annotated[int, tyro.conf.arg(help="On a CPU.")] = 1,
) -> None:
    """Measure both kinds of network with every kind of connection, and the attention on a CPU."""
    console = Console()
    console.print(cooperation(backbone, size, classes, device, threads))
    console.print(attention(threads))


def cooperation(backbone: str, size: tuple[int, int], classes: int, device: str, threads: int) -> Table:
    """Return a row a network of preset `cityscapes` and kind of connection, with the ratios to two single networks."""
    title = f"{backbone}, {size[0]} x {size[1]}, {device}; in brackets the ratio to two single networks"
    table = Table(title=title, title_justify="left")
    for column in ("network", "M parameters", "inference MB", "training MB"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for spec in cooperative.SPECS:
        name, single = spec.name, list[float]()
        options = spec.presets["cityscapes"]().training.network_options
        for connections in CONNECTIONS:
            variant = Variant(name, backbone, {**options, "connections": connections})
            where = {"device": device, "num_threads": threads}
            parameters = measure_inference(variant, classes, size, **where).parameters
            measured = measure_resources(variant, classes, size, **where)
            figures = [value / 1e6 for value in (parameters, measured.inference_bytes, measured.training_bytes)]
            single = single or figures
            cells = (f"{value:,.1f} ({value / 2 / one:.2f})" for value, one in zip(figures, single, strict=True))
            table.add_row(f"{name.removeprefix('cooperative-')}, {connections}", *cells)
    return table


def attention(threads: int) -> Table:
    """Return a row for the fused attention and one for the whole matrix."""
    table = Table(title=f"Position attention, {CHANNELS} maps of {SIDE} x {SIDE}, one step", title_justify="left")
    for column in ("", "MB", "seconds"):
        table.add_column(column, justify="right" if column else "left")
    outputs = []
    for fused in (True, False):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
            megabytes, seconds, output = processes.submit(_attend, fused, threads).result()
        outputs.append(output)
        table.add_row("fused" if fused else "whole matrix", f"{megabytes:,.0f}", f"{seconds:.2f}")
    table.caption = f"largest difference {float((outputs[0] - outputs[1]).abs().max()):.1e}"
    return table


def _attend(fused: bool, threads: int) -> tuple[float, float, Tensor]:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module = PositionAttention(CHANNELS)
    module.alpha.data.fill_(0.5)
    x = torch.randn(1, CHANNELS, SIDE, SIDE, requires_grad=True)
    forget_peak()
    before, begin = status_bytes("VmRSS"), perf_counter()
    y = module(x) if fused else _with_the_matrix(module, x)
    y.sum().backward()
    return (status_bytes("VmHWM") - before) / 1e6, perf_counter() - begin, y.detach()


def _with_the_matrix(module: PositionAttention, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    query, key, value = (conv(x).flatten(2) for conv in (module.query, module.key, module.value))
    weights = (query.transpose(1, 2) @ key).softmax(-1)
    return module.alpha * (value @ weights.transpose(1, 2)).view_as(x) + x


if __name__ == "__main__":
    tyro.cli(main)
