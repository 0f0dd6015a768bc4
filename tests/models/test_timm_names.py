"""Names of timm's networks, with and without the package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.labels.request import RunRequest
from flows.training.request import TrainRequest
from models.backbones.base import build_backbone
from models.backbones.timm_names import check_timm, full_name
from tasks.config import RunConfig
from tasks.engine.source import source_parts
from tasks.networks.deeplabv2 import DeepLabV2Settings
from tasks.pipeline.settings import PipelineConfig

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs pseudomask[timm]")


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"timm, which is not installed: pip install 'pseudomask\[timm\]'"):
        build_backbone("timm:resnet18")
    with pytest.raises(ValidationError, match=r"pip install 'pseudomask\[timm\]'"):
        RunRequest(data=Path("photos"), out=Path("run"), settings=PipelineConfig(backbone="timm:resnet18"))
    # Settings are read without it, as of a run that another machine made.
    assert RunConfig(backbone="timm:resnet18").backbone == "timm:resnet18"


def test_settings_refuse_a_name_that_is_nobodys() -> None:
    with pytest.raises(ValidationError, match=r"expected one of resnet18, .*, or timm:NAME"):
        RunConfig(backbone="resnet19")
    with pytest.raises(ValidationError, match="or timm:NAME"):
        RunConfig(backbone="timm:two words")


def test_of_timms_downloads_there_is_one() -> None:
    assert RunConfig(backbone="timm:resnet18", weights="imagenet").weights == "imagenet"
    with pytest.raises(ValidationError, match="weights 'imagenet-v1': expected imagenet"):
        RunConfig(backbone="timm:resnet18", weights="imagenet-v1")


@needs_timm
def test_a_name_without_a_tag_has_the_one_that_timm_takes() -> None:
    assert full_name("timm:test_vit") == "timm:test_vit.r160_in1k"
    assert full_name("timm:resnet18.fb_swsl_ig1b_ft_in1k") == "timm:resnet18.fb_swsl_ig1b_ft_in1k"


@needs_timm
@pytest.mark.parametrize(
    ("name", "said"),
    [("timm:resnet19", "no network 'resnet19'.*alike: .*resnet"), ("timm:resnet18.mine", "no weights 'mine'.*a1_in1k")],
)
def test_a_name_that_timm_does_not_know_is_refused_with_those_it_does(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        full_name(name)
    with pytest.raises(ValidationError, match=said):
        TrainRequest(data=Path("set"), out=Path("net"), settings=DeepLabV2Settings(backbone=name))


@needs_timm
def test_weights_that_timm_does_not_offer_are_refused_before_the_work() -> None:
    check_timm("timm:test_vit", "imagenet")
    with pytest.raises(ValueError, match="timm offers no weights of it for download; give a file"):
        check_timm("timm:vit_base_patch16_18x2_224", "imagenet")


def test_what_timm_networks_are_made_of_does_not_make_others_stale() -> None:
    for function in ("tasks.pipeline.seeds.classifier:train_classifier", "tasks.pipeline.fields:infer_fields"):
        assert not [part for part in source_parts(function) if "timm" in part]
    own = source_parts("models.backbones.timm_networks:build_timm_backbone")
    assert "models.backbones.timm_networks:TimmBackbone" in own
