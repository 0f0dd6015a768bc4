"""The network of a training for other programs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from data.ownership import refuse_inside, refuse_other
from data.store import ArtifactError
from flows.commands.tables import percent
from flows.training.request import settings_of
from tasks.engine.run_record import read_run

# Of an image's pixels.
SHARE_TO_TELL = 0.001


def _is_torchscript(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            parts = {name.partition("/")[2] for name in archive.namelist()}
    except zipfile.BadZipFile:
        return False
    return {"data.pkl", "constants.pkl", "version"} <= parts


def _is_onnx(file: Path) -> bool:
    # A message of protocol buffers: field 1 is the version of the format, then comes the exporter's name.
    with file.open("rb") as stream:
        begin = stream.read(64)
    return begin.startswith(b"\x08") and b"pytorch" in begin


def export_network(training: Path, file: Path, format: Literal["onnx", "torchscript"]) -> dict[str, Any]:
    """Write the network of a finished training; answer and errors are those of `tasks.networks.export`.

    Raises:
        ArtifactError: It is not the folder of a finished training; or the file's place holds something else, or lies in
            the data set.
    """
    run = read_run(training)
    settings = settings_of(run)
    folder = training / "network"
    if not (folder / "network.json").is_file():
        raise ArtifactError(f"{folder}: expected a trained network, found none; has the training ended?")
    refuse_inside(file, run.root)
    refuse_other(file, _is_onnx if format == "onnx" else _is_torchscript, f"a network in {format} format")
    from tasks.networks.export import export_onnx, export_torchscript
    from tasks.networks.loading import load_trained

    net = load_trained(settings.network, folder)
    answer = (export_onnx if format == "onnx" else export_torchscript)(net, file, run.classes.values)
    return {**answer, "format": format, "image_size": getattr(net, "image_size", None)}


def show_network(result: dict[str, Any], console: Console) -> None:
    """Print what was written, and how far it is from the network."""
    console.print(f"{result['file']}: {result['bytes'] / 2**20:.1f} MiB", highlight=False, soft_wrap=True)
    errors = ", ".join(f"{size} {error:.1g}" for size, error in result["errors"].items())
    console.print(f"largest difference to the network, by size of image: {errors}", highlight=False)
    if (flat := result["flat_error"] or 0) > SHARE_TO_TELL:
        console.print(
            f"of an image of one colour {percent(flat)} % of the pixels are of another class: where values are equal "
            "but for rounding, unpooling may bring them to other places",
            highlight=False,
            soft_wrap=True,
        )
    if result["image_size"]:
        height, width = result["image_size"]
        console.print(
            f"give it images of {height} x {width}, as `predict` does: it was trained on these", highlight=False
        )
