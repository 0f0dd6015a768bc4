"""`pseudomask models`: every network with its size and its work."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import AfterValidator, Field, validate_call
from rich.console import Console
from rich.table import Table

from flows.commands.command import Command, Output, answer
from models.backbones import is_timm
from models.backbones.timm_names import check_timm
from tasks.config import BackboneName, Config


def _present(backbone: str) -> str:
    if is_timm(backbone):
        check_timm(backbone, None)
    return backbone


Count = Annotated[int, Field(ge=1)]
Present = Annotated[BackboneName, AfterValidator(_present)]


@validate_call
def list_models(
    classes: Count = 20, size: tuple[Count, Count] = (512, 512), backbone: Present | None = None
) -> list[dict[str, Any]]:
    """Return the `models.profile.Profile` of every network.

    Args:
        classes: Without the background.
        size: (H, W) of the image.
        backbone: Only the networks on this one, ours or "timm:NAME"; None for all on every one of ours.

    Raises:
        pydantic.ValidationError: A number is not positive, or the backbone is not there.
    """
    # Only who counts waits for torch.
    from tasks.measurement.sizes import SIZED, network_size, on_backbone

    networks = SIZED if backbone is None else on_backbone(backbone)
    return [asdict(network_size(name, num_classes=classes, size=size, networks=networks)) for name in networks]


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


class ModelsRequest(Config):
    """What networks are counted for.

    Attributes:
        classes: Foreground classes.
        size: Height and width of the input that the multiply-adds are counted for.
        backbone: Only the networks on this one, which may be timm:NAME; by default all on every one of ours.
    """

    classes: Count = 20
    size: tuple[Count, Count] = (512, 512)
    backbone: Present | None = None


def _carry_out(request: ModelsRequest, options: Output) -> None:
    found = list_models(request.classes, request.size, request.backbone)

    def show(result: list[dict[str, Any]], console: Console) -> None:
        show_models(result, console, classes=request.classes, size=request.size)

    answer(found, show, options.as_json)


COMMAND = Command(
    name="models",
    help="Every network: parameters and multiply-adds.",
    request=ModelsRequest,
    carry_out=_carry_out,
)
