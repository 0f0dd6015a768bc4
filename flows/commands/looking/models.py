"""`pseudomask models`: every network with its size and its work, or why it cannot be built."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import AfterValidator, Field, validate_call
from rich.console import Console
from rich.table import Table

from data.dataset import DatasetError
from flows.commands.command import Command, CommandEnded, Output, answer
from flows.engine.exit_codes import FAILED
from models.backbones import is_timm
from models.backbones.timm_names import check_timm
from tasks.config import BackboneName, Config

log = logging.getLogger(__name__)
FIGURES = ("parameters", "gmacs", "encoder_parameters", "megabytes")


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
    """Return the `models.profile.Profile` of every network; one that cannot be built does not take the others along.

    Args:
        classes: Without the background.
        size: (H, W) of the image.
        backbone: Only the networks on this one, ours or "timm:NAME"; None for all on every one of ours.

    Returns:
        A mapping per network: the profile's fields, and `error`, which is None, or why there are no figures.

    Raises:
        pydantic.ValidationError: A number is not positive, or the backbone is not there.
        DatasetError: No network can be built, all for the same reason.
    """
    # Only who counts waits for torch.
    from tasks.measurement.sizes import SIZED, network_size, on_backbone

    networks = SIZED if backbone is None else on_backbone(backbone)
    found: list[dict[str, Any]] = []
    for name in networks:
        try:
            profile = network_size(name, num_classes=classes, size=size, networks=networks)
        # What a network of another package raises on a backbone that it does not fit is not known beforehand.
        except Exception as error:
            log.debug("%s cannot be counted", name, exc_info=True)
            found.append({"name": name, **dict.fromkeys(FIGURES), "paper": {}, "error": _reason(error)})
        else:
            found.append({**asdict(profile), "error": None})
    reasons = {network["error"] for network in found}
    if len(reasons) == 1 and (reason := reasons.pop()):
        raise DatasetError(reason)
    return found


def _reason(error: Exception) -> str:
    """Return an error in one line, with its type where its words were not written for people."""
    text = f"{' '.join(str(error).split()):.300}"
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


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
        if network["error"] is None:
            cells = (f"{network['parameters']:,}", f"{network['gmacs']:.2f}", f"{network['megabytes']:.1f}")
        else:
            cells = ("error", "-", "-")
        table.add_row(network["name"], *cells, _paper(network["paper"]))
    console.print(table)
    for network in result:
        if network["error"] is not None:
            console.print(f"{network['name']}: {network['error']}", highlight=False)
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
    if any(network["error"] for network in found):
        raise CommandEnded(FAILED)


COMMAND = Command(
    name="models",
    help="Every network: parameters and multiply-adds.",
    request=ModelsRequest,
    carry_out=_carry_out,
)
