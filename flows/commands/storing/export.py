"""`pseudomask export`: what a run or a training made, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from data.exchange import FORMATS
from data.store import ArtifactError
from flows.commands.command import POSITIONAL, Command, Output, answer
from flows.commands.storing.export_cams import export_cams, show_cams
from flows.commands.storing.export_labels import export_labels, show_export
from flows.commands.storing.export_network import export_network, show_network
from tasks.config import Config


class ExportRequest(Config):
    """Something of a run or a training, in another tool's format.

    Attributes:
        run: Folder of the run or the training, or with the word labels before it of published labels or a version.
            With the word cams, the class attention maps of the run are written, in the form that `run --cams` reads.
        out: Folder of the labels or the maps, or file of the network.
        format: Of labels VOC and COCO (both), or one format; of a training ONNX or TorchScript.
    """

    run: tuple[str, ...]
    out: Path
    format: Literal[("both", *FORMATS, "onnx", "torchscript")] = "both"  # pyright: ignore


def _carry_out(request: ExportRequest, options: Output) -> None:
    *words, folder = request.run or ("",)
    if words not in ([], ["labels"], ["cams"]) or not folder:
        found = f"export {' '.join(request.run)}"
        raise ArtifactError(f"{found}: expected the folder of a run, or the word labels or cams and that folder")
    if words == ["cams"]:
        answer(export_cams(Path(folder), request.out), show_cams, options.as_json)
    elif request.format in ("onnx", "torchscript") and not words:
        answer(export_network(Path(folder), request.out, request.format), show_network, options.as_json)
    elif request.format in ("onnx", "torchscript"):
        raise ArtifactError(f"{folder}: labels have no format {request.format}, which is one of networks")
    else:
        answer(export_labels(Path(folder), request.out, request.format), show_export, options.as_json)


COMMAND = Command(
    name="export",
    help="Labels of a run or a version, or the network of a training, in other tools' formats; or attention maps.",
    request=ExportRequest,
    carry_out=_carry_out,
    written={"run": POSITIONAL},
)
