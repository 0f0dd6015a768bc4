"""Measured costs of networks: the optimiser is part of a training's memory, and arithmetic is as it is asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flows.comparison import results
from flows.comparison.request import CompareRequest, trials
from tasks.config import Precision
from tasks.measurement import resources
from tasks.measurement.resources import Inference, Variant


def test_training_memory_has_the_momentum_of_sgd_beside_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = Variant("bilinear-interpolation", options={"input": "imagenet"})
    expected = sum(parameter.nbytes for parameter in variant.build(2).parameters())
    steps: list[int] = []
    held: list[tuple[int, int]] = []
    step = torch.optim.SGD.step

    def spied(optimizer: torch.optim.SGD, *arguments: Any) -> Any:
        answer = step(optimizer, *arguments)
        steps.append(sum(state["momentum_buffer"].nbytes for state in optimizer.state.values()))
        return answer

    def peak(_: str) -> int:
        held.append((len(steps), steps[-1]))
        return 10**9

    monkeypatch.setattr(torch.optim.SGD, "step", spied)
    monkeypatch.setattr(resources, "_peak", peak)
    monkeypatch.setattr(resources, "REPEATS", 1)
    resources._measure_training(variant, 2, (32, 48), device="cpu", num_threads=1, precision="float32")
    # It is there in the whole second step, and the peak is looked at behind that.
    assert held == [(2, expected)]


def test_time_on_a_gpu_begins_when_what_came_before_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: happened.append("waited"))
    monkeypatch.setattr(resources, "perf_counter", lambda: happened.append("clock") or 0.0)
    resources._seconds(lambda: happened.append("run"), "cuda")
    assert happened == ["waited", "clock", "run", "waited", "clock"]


def test_memory_of_inference_is_not_that_of_preparing_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    prepare, start = resources.prepare_inference, resources._start_counting

    def prepared(net: nn.Module) -> nn.Module:
        happened.append("prepared")
        return prepare(net)

    monkeypatch.setattr(resources, "prepare_inference", prepared)
    monkeypatch.setattr(resources, "_start_counting", lambda device: happened.append("counting") or start(device))
    monkeypatch.setattr(resources, "_peak", lambda _: happened.append("peak") or 10**9)
    monkeypatch.setattr(resources, "REPEATS", 1)
    variant = Variant("bilinear-interpolation", options={"input": "imagenet"})
    resources._measure_inference(variant, 2, (32, 48), device="cpu", num_threads=1, precision="float32")
    assert happened == ["counting", "prepared", "counting", "peak"]


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_arithmetic_is_in_the_precision_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, precision: Precision, dtype: torch.dtype
) -> None:
    seen: dict[str, set[torch.dtype]] = {"training": set(), "inference": set()}
    build = Variant.build

    def spied(variant: Variant, num_classes: int) -> nn.Module:
        net = build(variant, num_classes)
        convolutions = (module for module in net.modules() if isinstance(module, nn.Conv2d))

        def look(module: nn.Module, _: Any, output: torch.Tensor) -> None:
            seen["training" if module.training else "inference"].add(output.dtype)

        for convolution in convolutions:
            convolution.register_forward_hook(look)
        return net

    monkeypatch.setattr(Variant, "build", spied)
    monkeypatch.setattr(resources, "REPEATS", 1)
    # Norms stay behind their convolutions, whose hooks folding would lose.
    monkeypatch.setattr(resources, "prepare_inference", lambda net: net)
    variant = Variant("bilinear-interpolation", options={"input": "imagenet"})
    options: dict[str, Any] = {"device": "cpu", "num_threads": 1, "precision": precision}
    resources._measure_inference(variant, 2, (32, 48), **options)
    resources._measure_training(variant, 2, (32, 48), **options)
    assert seen == {"training": {dtype}, "inference": {dtype}}


def test_a_comparison_measures_a_network_as_it_is_tested(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    request = CompareRequest(table="segnet-decoders", data=tmp_path, out=tmp_path / "x", rows=("segnet-basic",))
    (trial,) = trials(request)
    settings = trial.training.settings
    testing = settings.testing.model_copy(update={"precision": "bfloat16"})
    training = trial.training.model_copy(update={"settings": settings.model_copy(update={"testing": testing})})
    asked = []

    def measure(*_: Any, **options: Any) -> Inference:
        asked.append(options["precision"])
        return Inference(parameters=1, storage=None, seconds=1.0, bytes=1, model_bytes=1)

    monkeypatch.setattr(resources, "measure_inference", measure)
    costs = results._costs([dataclasses.replace(trial, training=training)], 3, (64, 96), "cpu")
    assert (asked, costs["segnet-basic"]["precision"]) == (["bfloat16"], "bfloat16")
    said = results._units({"size": (64, 96), "device": "cpu"}, list(costs.values()))
    assert said.endswith("an image of 64 x 96 on cpu, one thread, bfloat16")
