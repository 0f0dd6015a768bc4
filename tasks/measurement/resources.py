"""What a network takes: time and memory of inference and training, each measured in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.base import BackboneChoice
from models.inference import prepare_inference
from models.saliency import Maps, SaliencyDeepLabV3Plus
from models.segmenter import Segmenter
from tasks.measurement.memory import forget_peak, status_bytes
from tasks.networks import NETWORKS
from tasks.training import build_optimizer
from tasks.training.precision import Precision, autocast

REPEATS = 10
TRAINING_BATCH = 4
# So low that random weights do not diverge, which would change the time of a step.
LEARNING_RATE, MOMENTUM = 1e-6, 0.9


@dataclass(frozen=True)
class Variant:
    """A network to be measured: its name, its backbone where it has one of several, and what it is told."""

    network: str
    backbone: str = "resnet50"
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, num_classes: int) -> Segmenter:
        """Return it with random weights."""
        net = NETWORKS[self.network].build(num_classes, BackboneChoice(self.backbone), self.options)
        assert isinstance(net, Segmenter)
        return net


@dataclass(frozen=True)
class Inference:
    """What a network costs that is applied.

    Attributes:
        parameters: All of them.
        storage: `stored_maps` of the network.
        seconds: Of one image, through the network as it is made ready for inference.
        bytes: The most memory that one image takes, the network's weights among it.
        model_bytes: Of all tensors that are saved.
    """

    parameters: int
    storage: float | None
    seconds: float
    bytes: int
    model_bytes: int


@dataclass(frozen=True)
class Resources:
    """What was measured of one network.

    Attributes:
        forward_seconds: Of one image, through the network as it is trained.
        backward_seconds: Of one image.
        inference_seconds: Of one image, through the network as it is made ready for inference.
        inference_bytes: The most memory that one image takes, the network's weights among it.
        training_bytes: The same of a step with four images by SGD, whose momentum is as large as the parameters.
        model_bytes: Of all tensors that are saved.
    """

    forward_seconds: float
    backward_seconds: float
    inference_seconds: float
    inference_bytes: int
    training_bytes: int
    model_bytes: int


def measure_resources(
    network: Variant,
    num_classes: int,
    size: tuple[int, int],
    *,
    device: str = "cpu",
    num_threads: int = 1,
    precision: Precision = "float32",
) -> Resources:
    """Measure a network with random weights on images of random pixels of `size` (H, W).

    Memory is the process's on a CPU, above what it had with the libraries loaded, and torch's own on a GPU.

    Args:
        precision: Of the network's arithmetic in training and in inference.
    """
    context = multiprocessing.get_context("spawn")
    options: Any = {"device": device, "num_threads": num_threads, "precision": precision}
    inference = measure_inference(network, num_classes, size, **options)
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        training = processes.submit(_measure_training, network, num_classes, size, **options)
        forward, backward, training_bytes = training.result()
    return Resources(forward, backward, inference.seconds, inference.bytes, training_bytes, inference.model_bytes)


def measure_inference(
    network: Variant,
    num_classes: int,
    size: tuple[int, int],
    *,
    device: str = "cpu",
    num_threads: int = 1,
    precision: Precision = "float32",
) -> Inference:
    """Measure a network as `measure_resources` does, in inference alone."""
    options: Any = {"device": device, "num_threads": num_threads, "precision": precision}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return processes.submit(_measure_inference, network, num_classes, size, **options).result()


def _measure_inference(
    network: Variant, num_classes: int, size: tuple[int, int], *, device: str, num_threads: int, precision: Precision
) -> Inference:
    torch.set_num_threads(num_threads)
    before = _start_counting(device)
    net = network.build(num_classes).eval()
    parameters = sum(parameter.numel() for parameter in net.parameters())
    model_bytes = sum(tensor.nbytes for tensor in net.state_dict().values())
    storage = net.stored_maps
    net = prepare_inference(net.to(device))
    # Folding a large layer takes more than an image does.
    _start_counting(device)
    x = torch.rand(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode(), autocast(device, precision):
            # Predictions have both.
            _ = net.both(x) if isinstance(net, SaliencyDeepLabV3Plus) else net(x)

    run()
    peak = _peak(device) - before
    return Inference(parameters, storage, _time(run, device), peak, model_bytes)


def _measure_training(
    network: Variant, num_classes: int, size: tuple[int, int], *, device: str, num_threads: int, precision: Precision
) -> tuple[float, float, int]:
    torch.set_num_threads(num_threads)
    before = _start_counting(device)
    net = network.build(num_classes).to(device).train()
    net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    groups = [{"params": trained, "lr": LEARNING_RATE}]
    optimizer = build_optimizer("sgd", groups, momentum=MOMENTUM, weight_decay=0)
    step = _Step(net, num_classes, optimizer, device, precision)
    # From the second step on the momentum is there in the forward pass.
    for _ in range(2):
        step(TRAINING_BATCH, size)
    peak = _peak(device) - before
    times = [step(1, size) for _ in range(REPEATS)]
    return median(time[0] for time in times), median(time[1] for time in times), peak


@dataclass(frozen=True)
class _Step:
    """A step of training on random pixels and labels."""

    net: nn.Module
    num_classes: int
    optimizer: torch.optim.Optimizer
    device: str
    precision: Precision

    def __call__(self, batch: int, size: tuple[int, int]) -> tuple[float, float]:
        """Take a step; return the seconds of the forward and of the backward pass."""
        x = torch.rand(batch, 3, *size, device=self.device).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(self.num_classes, (batch, *size), device=self.device)
        losses: list[Tensor] = []

        def run() -> None:
            with autocast(self.device, self.precision):
                losses.append(_loss(self.net(x), labels))

        forward = _seconds(run, self.device)
        backward = _seconds(lambda: losses[0].backward(), self.device)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return forward, backward


def _loss(output: Tensor | Maps, labels: Tensor) -> Tensor:
    """Return the loss of a network's output in training: of one network, of two, or of two tasks."""
    if isinstance(output, Maps):
        salient = F.binary_cross_entropy_with_logits(output.saliency, (labels % 2).float())
        return F.cross_entropy(output.classes, labels) + salient
    networks = output if output.dim() == 5 else output[None]
    return torch.stack([F.cross_entropy(one, labels) for one in networks]).sum()


def _time(run: Callable[[], None], device: str) -> float:
    return median(_seconds(run, device) for _ in range(REPEATS))


def _seconds(run: Callable[[], object], device: str) -> float:
    # A GPU may still be at what came before, such as the optimiser's step.
    _wait_for(device)
    begin = perf_counter()
    run()
    _wait_for(device)
    return perf_counter() - begin


def _wait_for(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _start_counting(device: str) -> int:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return 0
    forget_peak()
    return status_bytes("VmRSS")


def _peak(device: str) -> int:
    return status_bytes("VmHWM") if device == "cpu" else torch.cuda.max_memory_allocated()
