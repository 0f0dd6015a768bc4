"""`pseudomask models`: every network with its size and its work."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field, validate_call
from rich.console import Console
from rich.table import Table

from tasks.measurement.sizes import SIZED, network_size

Count = Annotated[int, Field(ge=1)]


@validate_call
def list_models(classes: Count = 20, size: tuple[Count, Count] = (512, 512)) -> list[dict[str, Any]]:
    """Return the `models.profile.Profile` of every network.

    Args:
        classes: Without the background.
        size: (H, W) of the image.

    Raises:
        pydantic.ValidationError: A number is not positive.
    """
    return [asdict(network_size(name, num_classes=classes, size=size)) for name in SIZED]


def show_models(result: list[dict[str, Any]], console: Console, *, classes: int, size: tuple[int, int]) -> None:
    """Print the networks, and what the numbers are for."""
    table = Table(
        title=f"Networks for {classes} classes, at {size[0]} x {size[1]} pixels (height x width)", title_justify="left"
    )
    # Where it is narrow, names are folded and numbers stay whole.
    table.add_column("network", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True, min_width=11)
    table.add_column("GMACs", justify="right", no_wrap=True, min_width=6)
    table.add_column("MB", justify="right", no_wrap=True, min_width=6)
    table.add_column("in the paper", justify="right")
    for network in result:
        cells = (f"{network['parameters']:,}", f"{network['gmacs']:.2f}", f"{network['megabytes']:.1f}")
        table.add_row(network["name"], *cells, _paper(network["paper"]))
    console.print(table)
    console.print("GMACs: billions of multiply-adds of the convolutions and matrix products.", highlight=False)


def _paper(figures: dict[str, float]) -> str:
    units = {
        "parameters": (1e6, "M"),
        "encoder_parameters": (1e6, "M encoder"),
        "megabytes": (1, "MB"),
        "gmacs": (1, "GMACs"),
    }
    return ", ".join(f"{value / units[name][0]:g} {units[name][1]}" for name, value in figures.items())
