"""The classifier learns alike whatever the number, the order and the shares of the classes."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from data.dataset import ClassTable, Sample
from flows.labels.presets import quick, voc12
from models.backbones.base import Backbone
from models.cam import CAMNet
from tasks.engine.job import Job
from tasks.pipeline.seeds import classifier as stage
from tasks.pipeline.seeds.cams import infer_cams
from tasks.pipeline.seeds.classifier import _held_steps, _loss
from tasks.pipeline.settings import CamConfig, ClassifierConfig
from tasks.training import HELD_STEPS
from tasks.training.norms import freeze_norms
from tasks.training.saving import load_classifier

PRIOR, PAPER = ClassifierConfig(loss="prior"), ClassifierConfig()


def tags(num_images: int = 40, num_classes: int = 6) -> torch.Tensor:
    """Return tags in which class c is that of each (c + 2)nd image."""
    return torch.stack([(torch.arange(num_images) % (c + 2) == 0).float() for c in range(num_classes)], dim=1)


def sure(tags: torch.Tensor) -> torch.Tensor:
    """Return the weights of tags of which none is in doubt."""
    return torch.ones_like(tags)


@pytest.mark.parametrize("num_classes", [6, 39])
def test_a_network_that_knows_nothing_has_the_entropy_of_the_tags(num_classes: int) -> None:
    # Of 39 classes most have one image or two.
    wanted = tags(num_classes=num_classes)
    loss, initial = _loss(PRIOR, wanted, sure(wanted), "cpu")
    # At the shares themselves no gradient pulls: neither a rare class nor a common one starts ahead.
    logits = torch.zeros_like(wanted, requires_grad=True)
    value = loss(logits, wanted, sure(wanted))
    assert float(value.detach()) == pytest.approx(initial)
    shares = wanted.mean(dim=0)
    assert initial == pytest.approx(float(F.binary_cross_entropy(shares, shares, reduction="sum")), rel=0.03)
    value.backward()
    assert logits.grad is not None
    assert logits.grad.sum(dim=0).abs().max() < 0.02


def test_classes_that_no_image_has_and_the_order_of_the_others_change_nothing() -> None:
    wanted, logits = tags(), torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    loss, initial = _loss(PRIOR, wanted, sure(wanted), "cpu")
    with_absent = torch.cat([wanted, torch.zeros(40, 14)], dim=1)
    more, more_initial = _loss(PRIOR, with_absent, sure(with_absent), "cpu")
    expected = float(loss(logits, wanted, sure(wanted)))
    value = more(torch.cat([logits, torch.randn(40, 14)], dim=1), with_absent, sure(with_absent))
    assert float(value) == pytest.approx(expected)
    assert more_initial == pytest.approx(initial)
    order = [3, 0, 5, 1, 4, 2]
    moved = wanted[:, order]
    value = _loss(PRIOR, moved, sure(moved), "cpu")[0](logits[:, order], moved, sure(moved))
    assert float(value) == pytest.approx(expected)


def test_the_layer_learns_alone_until_half_of_the_classes_have_been_seen() -> None:
    config = ClassifierConfig(batch_size=16, head_views=2, warmup_steps=10)
    every = np.eye(300, dtype=bool).repeat(4, axis=0)
    # A class has 4 of 1,200 images: it is seen once in 18.75 steps.
    assert _held_steps(config, every, 640) == 38
    assert _held_steps(config, every, 100) == 25
    assert _held_steps(config, np.pad(every, ((0, 0), (0, 500))), 640) == 38
    # Seen in each step, it is learned from the start, as are tags of nothing.
    assert _held_steps(config, np.eye(6, dtype=bool).repeat(40, axis=0), 640) == 0
    assert _held_steps(config, np.zeros((5, 3), bool), 640) == 0
    assert _held_steps(ClassifierConfig(batch_size=16), every, 640) == 0


@pytest.mark.parametrize("num_classes", [1, 6, 20, 80])
def test_the_papers_loss_is_exact_for_20_classes_and_its_step_does_not_grow_as_classes_get_fewer(
    num_classes: int,
) -> None:
    wanted, logits = tags(20, num_classes), torch.zeros(20, num_classes, requires_grad=True)
    loss, initial = _loss(PAPER, wanted, sure(wanted), "cpu")
    value = loss(logits, wanted, sure(wanted))
    assert initial == pytest.approx(num_classes / 20 * math.log(2))
    if num_classes == 20:
        assert torch.equal(value, F.multilabel_soft_margin_loss(logits, wanted))
    value.backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() == pytest.approx(0.5 / 20 / 20)


def test_half_of_a_logit_is_the_mean_of_the_highest_cells() -> None:
    net = CAMNet(Backbone("resnet18"), 3, top_share=0.25).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        cells = net.classifier(net.backbone(x)[-1]).flatten(2)
        assert cells.shape[2] == 16
        expected = (cells.mean(dim=2) + cells.sort(dim=2).values[..., -4:].mean(dim=2)) / 2
        torch.testing.assert_close(net(x), expected)
        net.top_share = 0.0
        torch.testing.assert_close(net(x), cells.mean(dim=2))


def _pretrained(name: str) -> Backbone:
    backbone = Backbone(name)
    backbone.pretrained = True
    return backbone


def test_frozen_norms_keep_their_statistics_and_train_scale_and_shift_as_the_reference_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def frozen(config: ClassifierConfig) -> tuple[list[bool], bool]:
        backbone = _pretrained("resnet18")
        net = CAMNet(backbone, 2).train()
        freeze_norms(net, scale=config.freeze_norm_scale)
        before = {name: value.clone() for name, value in net.named_buffers()}
        net(torch.randn(2, 3, 64, 64)).sum().backward()
        norm = backbone.trunk.layer4[1].bn2
        moved = any(not torch.equal(value, before[name]) for name, value in net.named_buffers())
        return [parameter.grad is not None for parameter in norm.parameters()], moved

    # As the stage makes it.
    monkeypatch.setattr(stage, "build_backbone", lambda name, weights, **options: _pretrained(name))
    job: Any = SimpleNamespace(seed=0, backbone="resnet18", weights=None, classes=("cat", "dog"), device="cpu")
    for config, is_trained in ((voc12().classifier, True), (quick().classifier, False)):
        norm = stage._network(job, config).backbone.trunk.layer4[1].bn2
        assert not norm.training
        assert [parameter.requires_grad for parameter in norm.parameters()] == [is_trained, is_trained]
    assert frozen(voc12().classifier) == ([True, True], False)
    assert frozen(quick().classifier) == ([False, False], False)


def test_attention_lies_at_the_stride_that_was_asked_for(run_stage) -> None:
    config = ClassifierConfig(resize_long=(64, 80), crop_size=64, batch_size=3, epochs=1, output_stride=8)
    folder = run_stage(stage.train_classifier, config)
    assert load_classifier(folder).activations(torch.zeros(1, 3, 64, 80)).shape[2:] == (8, 10)
    cams = run_stage(infer_cams, CamConfig(scales=(1.0,)), classifier=folder)
    assert (cams / "cams.safetensors").is_file()


def test_the_default_preset_holds_a_pretrained_backbone_where_classes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = np.eye(300, dtype=bool).repeat(4, axis=0)
    rows = np.arange(len(targets))
    job: Any = SimpleNamespace(seed=0, backbone="resnet18", weights=None, classes=range(300), device="cpu")

    def held() -> list[int]:
        config = quick().classifier
        net = stage._network(job, config)
        recipe = stage._recipe(net, config, job, rows, targets, np.ones(targets.shape, np.float32), 1.0)
        return [group.get(HELD_STEPS, 0) for group in recipe.optimizer.param_groups]

    # Random weights have nothing to lose.
    assert held() == [0, 0]
    monkeypatch.setattr(stage, "build_backbone", lambda name, weights, **options: _pretrained(name))
    assert held() == [38, 0]


def test_a_classifier_is_judged_by_one_of_the_images_that_are_alike(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    backbone, rng = _pretrained("resnet18").eval(), np.random.default_rng(0)
    monkeypatch.setattr(stage, "build_backbone", lambda name, weights, **options: backbone)
    samples = []
    for number in range(36):
        if number % 3 == 0:
            source = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        frame = Image.fromarray(source).resize((64, 64)).point(lambda value, shift=number % 3: value + shift)
        frame.save(tmp_path / f"{number}.png")
        samples.append(Sample(str(number), tmp_path / f"{number}.png", (number // 3 % 2,)))
    config = ClassifierConfig(held_out=0.1, resize_long=(64, 64))
    job = Job(tuple(samples), ClassTable(("cat", "dog")), config, tmp_path, tmp_path, backbone="resnet18")
    rows, targets = np.arange(36), np.array([[0 in s.labels, 1 in s.labels] for s in samples])
    found = stage._measure(CAMNet(backbone, 2), config, job, np.zeros(0, int), rows, targets)
    assert (found["measured_on"], found["images"], found["judged"], found["alike"]) == ("folds", 36, 12, 1.0)
