"""Trained networks as files for other programs, ONNX and TorchScript, each checked by running it.

Either format's graph takes `pixels`, float32 RGB in [0, 255], of any size, and normalises them itself. A semantic
network's takes [B, 3, H, W] and gives `logits` [B, C, H, W], and where it knows of saliency `saliency` [B, H, W],
probabilities. A Mask R-CNN's takes one image [3, H, W] and gives `boxes`
[N, 4] (x1, y1, x2, y2), `labels` int64 [N] from 1, `scores` [N], descending, and `masks` [N, 1, H, W], probabilities.
A file says what it takes: metadata of ONNX, `metadata.json` in TorchScript (see `metadata_of`).
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import onnx
import onnxruntime
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.jit import TracerWarning  # pyright: ignore[reportPrivateImportUsage]
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from data.files import ArtifactError, explain_os_errors, replacing
from models.saliency import SaliencyDeepLabV3Plus
from models.segmenter import Segmenter

# Odd and even, and only one a multiple of the networks' strides.
SIZES = ((97, 129), (128, 160), (65, 64))
BATCH_SIZES = (1, 2)
TOLERANCE = 1e-4
# Of networks with unpooling, in which rounding moves a value now and then.
UNPOOLING_TOLERANCE = 0.01
FLAT_COLOUR = 127.0
OPSET = 17

# The free axes of the input, first, and of each output.
Axes = dict[str, dict[int, str]]
Outputs = tuple[Tensor, ...]
Run = Callable[[Tensor], Sequence[Tensor]]


class SemanticGraph(nn.Module):
    """What is exported of a semantic network: pixels to logits. One that sees whole scenes takes them at its size."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.axes: Axes = {
            "pixels": {0: "batch", 2: "height", 3: "width"},
            "logits": {0: "batch", 2: "height", 3: "width"},
        }
        if isinstance(net, SaliencyDeepLabV3Plus):
            self.axes["saliency"] = {0: "batch", 1: "height", 2: "width"}
        assert isinstance(net.backbone, nn.Module)
        self.net = net
        self.unpools = isinstance(net, Segmenter) and net.unpools
        self.normalize: Callable[[Tensor], Tensor] = net.backbone.normalize  # pyright: ignore

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> Outputs:
        x = self.normalize(pixels)
        if isinstance(self.net, SaliencyDeepLabV3Plus):
            maps = self.net.both(x)
            return maps.classes, maps.saliency.sigmoid()
        return (self.net(x),)

    def images(self, height: int, width: int) -> list[Tensor]:
        """Return what is like a photograph, and a batch of noise for each batch size."""
        return [_scene(height, width), *(_noise(batch, 3, height, width) for batch in BATCH_SIZES)]

    @property
    def tolerance(self) -> float:
        """The largest error that an export may have."""
        return UNPOOLING_TOLERANCE if self.unpools else TOLERANCE

    def error(self, image: Tensor, expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
        """Return the largest difference of any output; behind unpooling, the share of pixels of another class.

        A difference is a part of the output's largest value: logits of a network have any size.
        """
        if self.unpools and expected[0].shape == got[0].shape:
            return float((expected[0].argmax(1) != got[0].argmax(1)).float().mean())
        return max(_difference(one, other) / _largest(one) for one, other in zip(expected, got, strict=True))


class DetectionGraph(nn.Module):
    """What is exported of a Mask R-CNN: one image's pixels to its detections."""

    tolerance: ClassVar[float] = TOLERANCE

    axes: ClassVar[Axes] = {
        "pixels": {1: "height", 2: "width"},
        "boxes": {0: "detections"},
        "labels": {0: "detections"},
        "scores": {0: "detections"},
        "masks": {0: "detections", 2: "height", 3: "width"},
    }

    def __init__(self, net: GeneralizedRCNN) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Float[Tensor, "3 h w"]) -> Outputs:
        (detections,) = self.net([pixels])
        return tuple(detections[name] for name in list(self.axes)[1:])

    def images(self, height: int, width: int) -> list[Tensor]:
        """Return one image of noise."""
        return [_noise(3, height, width)]

    def error(self, image: Tensor, expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
        """Return the largest difference: of boxes as a part of the image's longer side, of all others as it is."""
        scale = max(image.shape[-2:])
        differences = [_difference(one, other) for one, other in zip(expected, got, strict=True)]
        return max(differences[0] / scale, *differences[1:])


Graph = SemanticGraph | DetectionGraph


def export_onnx(net: nn.Module, file: Path, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Write a network as ONNX, once onnxruntime has been seen to give what the network gives.

    Args:
        net: A Mask R-CNN of torchvision's making, or a semantic network with `backbone.normalize`. Left as it is.
        file: Replaced if it exists, and only by an export that passes.
        classes: The names of the values, which the file is given.

    Returns:
        "file", "bytes" and "errors": the largest error at each size that was tried, "97x129" for H = 97, W = 129, of
        noise and of what is like a photograph. "flat_error": that of an image of one colour, where all values of a
        window are equal but for rounding, which unpooling may bring to other places; None of a Mask R-CNN.

    Raises:
        ArtifactError: The exported graph cannot be run at one of `SIZES`, or errs by more than `TOLERANCE`
            (`UNPOOLING_TOLERANCE`, and of one colour by no matter how much); or the file cannot be written.
    """
    return _export(net, file, classes, _write_onnx, _load_onnx)


def export_torchscript(net: nn.Module, file: Path, classes: Sequence[str] = ()) -> dict[str, Any]:
    """Write a network for `torch.jit.load`, once what that loads has been seen to give what the network gives.

    Arguments, answer and errors are those of `export_onnx`. A Mask R-CNN's file needs torchvision imported.
    """
    return _export(net, file, classes, _write_torchscript, _load_torchscript)


def metadata_of(net: nn.Module, classes: Sequence[str] = ()) -> dict[str, str]:
    """Return what a program has to know of a network, each value in JSON.

    "input", the pixels' type and range; "classes", the names of the values from 0 on; "image_size", the (H, W) that the
    network was trained on and that images are resized to, null for any; "least_side" of an image, in pixels.
    """
    known = {
        "input": "float32, RGB in [0, 255]",
        "classes": list(classes),
        "image_size": getattr(net, "image_size", None),
        "least_side": getattr(net, "least_side", 1),
    }
    return {name: json.dumps(value) for name, value in known.items()}


def _export(
    net: nn.Module,
    file: Path,
    classes: Sequence[str],
    write: Callable[[Graph, Tensor, Path, Mapping[str, str]], None],
    load: Callable[[Path], Run],
) -> dict[str, Any]:
    net = copy.deepcopy(net).cpu()
    # In evaluation mode itself: the ONNX exporter sets the mode of all parts back to that of the whole.
    graph = (DetectionGraph(net) if isinstance(net, GeneralizedRCNN) else SemanticGraph(net)).eval()
    with explain_os_errors(file), torch.no_grad(), replacing(file) as temporary:
        write(graph, graph.images(*SIZES[0])[-1], temporary, metadata_of(net, classes))
        run = load(temporary)
        errors, flat_error = _check(graph, run, file), _flat_error(graph, run, file)
    return {"file": str(file), "bytes": file.stat().st_size, "errors": errors, "flat_error": flat_error}


def _write_onnx(graph: Graph, example: Tensor, file: Path, metadata: Mapping[str, str]) -> None:
    names = list(graph.axes)
    with warnings.catch_warnings():
        _ignore_tracer_warnings()
        torch.onnx.export(
            graph,
            (example,),
            str(file),
            input_names=names[:1],
            output_names=names[1:],
            dynamic_axes=graph.axes,
            opset_version=OPSET,
            # By tracing: the exporter on torch.export takes a DeepLab v2, but not a Mask R-CNN.
            dynamo=False,
        )
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, str(file))


def _load_onnx(file: Path) -> Run:
    options = onnxruntime.SessionOptions()
    # Its own choice is every core, also where a worker was given fewer.
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda pixels: [torch.from_numpy(output) for output in session.run(None, {"pixels": pixels.numpy()})]


def _write_torchscript(graph: Graph, example: Tensor, file: Path, metadata: Mapping[str, str]) -> None:
    with warnings.catch_warnings():
        _ignore_tracer_warnings()
        traced = torch.jit.trace(graph, example, check_trace=False)
    torch.jit.save(traced, str(file), _extra_files={"metadata.json": json.dumps(metadata)})


def _load_torchscript(file: Path) -> Run:
    return torch.jit.load(str(file), map_location="cpu")


def _ignore_tracer_warnings() -> None:
    # Of constants that might depend on the size. Other sizes than the traced one are run, which shows whether they do.
    warnings.simplefilter("ignore", TracerWarning)


def _check(graph: Graph, run: Run, file: Path) -> dict[str, float]:
    """Return the largest error at each size."""
    errors = {}
    for height, width in SIZES:
        size = f"{height}x{width}"
        for image in graph.images(height, width):
            try:
                got = run(image)
            except Exception as error:
                raise ArtifactError(
                    f"{file}: not written: the exported graph cannot be run at {size}: {error}"
                ) from error
            errors[size] = max(errors.get(size, 0.0), graph.error(image, graph(image), got))
        _refuse(errors[size], graph.tolerance, f"at {size}", file)
    return errors


def _flat_error(graph: Graph, run: Run, file: Path) -> float | None:
    """Return the error of an image of one colour; None of a network whose detections there are of one score."""
    if isinstance(graph, DetectionGraph):
        return None
    image = torch.full((1, 3, *SIZES[0]), FLAT_COLOUR)
    error = graph.error(image, graph(image), run(image))
    if not graph.unpools:
        _refuse(error, graph.tolerance, "of one colour", file)
    return error


def _refuse(error: float, tolerance: float, where: str, file: Path) -> None:
    if not error <= tolerance:
        raise ArtifactError(
            f"{file}: not written: {where} the exported graph and the network differ by {error:.2g}, "
            f"expected at most {tolerance:g}"
        )


def _scene(height: int, width: int) -> Float[Tensor, "1 3 h w"]:
    """Return a shaded image with an object, a sky as bright as a camera can, and a camera's noise below."""
    down, right = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    image = torch.stack([120 + 80 * down + 0 * right, 100 + 90 * right + 0 * down, 160 - 60 * down * right])
    image[:, height // 2 : 4 * height // 5, width // 3 : 3 * width // 5] = torch.tensor([40.0, 90.0, 200.0]).view(
        3, 1, 1
    )
    image += 3 * torch.randn(3, height, width, generator=torch.Generator().manual_seed(0))
    image[:, : height // 8] = 255
    return image.round().clamp(0, 255)[None]


def _noise(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0)).float()


def _largest(expected: Tensor) -> float:
    """Return the largest absolute value, 1 where there is none but 0."""
    return (float(expected.abs().max()) if expected.numel() else 0.0) or 1.0


def _difference(expected: Tensor, got: Tensor) -> float:
    """Return the largest absolute difference, infinite for other shapes, 0 where there is nothing to differ."""
    if expected.shape != got.shape:
        return float("inf")
    return float((expected - got).abs().max()) if expected.numel() else 0.0
