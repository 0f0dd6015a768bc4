"""A network that has diverged is not published, and the error says which training it was."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from models.cam import CAMNet
from tasks.networks.stages.recipe import finish
from tasks.pipeline.fields import infer_fields
from tasks.pipeline.irnet import train_irnet
from tasks.pipeline.seeds.classifier import train_classifier
from tasks.pipeline.settings import ClassifierConfig, FieldsConfig, IRNetConfig
from tasks.training import TrainingError, finite_outputs
from tasks.training.saving import load_irnet, save_network


def test_a_classifier_whose_only_step_was_far_too_long_is_refused(run_stage) -> None:
    config = ClassifierConfig(
        resize_long=(64, 80), crop_size=64, batch_size=16, epochs=1, learning_rate=1e30, head_lr_factor=1e6
    )
    with pytest.raises(TrainingError, match=r"not finite.*lower the learning rate"):
        run_stage(train_classifier, config)


def test_an_irnet_whose_only_step_was_far_too_long_is_refused(run_stage, artifacts) -> None:
    config = IRNetConfig(crop_size=96, radius_px=4, epochs=1, batch_size=16, learning_rate=1e20)
    with pytest.raises(TrainingError, match=r"after its training .* not finite; lower the learning rate"):
        run_stage(train_irnet, config, classifier=artifacts["classifier"], relations=artifacts["relations"])


def test_a_classifier_that_attends_to_nothing_is_refused(run_stage, monkeypatch) -> None:
    monkeypatch.setattr(CAMNet, "activations", lambda net, x: torch.zeros(len(x), net.num_classes, 4, 4))
    config = ClassifierConfig(resize_long=(64, 80), crop_size=64, batch_size=3, epochs=1, learning_rate=0.04)
    with pytest.raises(TrainingError, match="attends to nothing: the maps of all tags of 5 images"):
        run_stage(train_classifier, config)


def test_fields_that_are_not_finite_name_the_image_and_the_training(run_stage, artifacts, tmp_path: Path) -> None:
    net = load_irnet(artifacts["irnet"])
    nn.init.constant_(net.displacement.predict.weight, float("inf"))
    save_network(net, tmp_path)
    with pytest.raises(TrainingError, match=r"train_0000\d: .*the training of IRNet has diverged"):
        run_stage(infer_fields, FieldsConfig(), irnet=tmp_path)


def test_a_segmentation_network_that_overflows_is_not_saved(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    nn.init.constant_(net.weight, float("inf"))
    job: Any = SimpleNamespace(samples=[None], device="cpu", out=tmp_path, scratch=tmp_path)
    recipe: Any = SimpleNamespace(keep_best=None)
    saved: list[bool] = []
    with pytest.raises(TrainingError, match="not finite"):
        finish(net, recipe, [{"loss": 1.0}], job, lambda sample: net(torch.ones(1, 2)), lambda: saved.append(True))
    assert not saved
    nn.init.zeros_(net.weight)
    finish(net, recipe, [{"loss": 1.0}], job, lambda sample: net(torch.ones(1, 2)), lambda: saved.append(True))
    assert saved


def test_what_overflows_is_named_and_nothing_stays_behind() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with finite_outputs(net):
        net(torch.ones(1, 2))
    nn.init.constant_(net[1].weight, 1e38)
    with pytest.raises(TrainingError, match="training 1 returns"), finite_outputs(net):
        net(torch.full((1, 2), 1e30))
    net(torch.full((1, 2), 1e30))
