"""Presets of methods after IRNet: their thresholds, the maps that they are for, and the documents' table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import multilabel_soft_margin_loss

from data.cam_families import family_of
from data.dataset import CamSource
from flows.labels.flow import trainings_of
from flows.labels.presets import PRESETS, coco14, network_preset, voc12
from flows.labels.request import RunRequest, with_cam_thresholds
from flows.labels.successors import SUCCESSORS
from tasks.networks import NETWORKS
from tasks.pipeline.seeds.classifier import _loss
from tasks.pipeline.settings import PipelineConfig

ROOT = Path(__file__).resolve().parents[2]


def thresholds(settings: PipelineConfig) -> tuple[object, ...]:
    relations = settings.relations
    return relations.foreground_threshold, relations.background_threshold, settings.labels.background_threshold


@pytest.mark.parametrize("name", SUCCESSORS)
def test_a_successor_s_preset_is_voc12_with_its_thresholds_and_settings(name: str) -> None:
    settings, base = PRESETS[name](), voc12()
    assert thresholds(settings) == tuple(family_of(name).presets or ())
    changed = {key for key in type(base).model_fields if getattr(settings, key) != getattr(base, key)}
    assert changed | {"labels"} == {"relations", "labels", *SUCCESSORS[name].settings}
    assert SUCCESSORS[name].source in (PRESETS[name].__doc__ or "")


def test_clip_es_is_made_by_the_crf_alone() -> None:
    settings = PRESETS["clip-es"]()
    assert (settings.refiner, settings.labels.crf_iterations, settings.labels.background_threshold) == ("none", 10, 0.5)


def test_a_successor_s_preset_is_for_its_own_maps(tmp_path: Path) -> None:
    words = {"data": tmp_path, "out": tmp_path / "run", "preset": "recam"}
    request = RunRequest(**words, cams=tmp_path)  # pyright: ignore[reportArgumentType]
    assert request.cam_family == "recam"
    for wrong in ({}, {"cams": tmp_path, "cam_family": "irn"}):
        with pytest.raises(ValidationError, match="expected attention maps of zhaozhengChen/ReCAM"):
            RunRequest(**words, **wrong)  # pyright: ignore[reportArgumentType]


def test_coco14_takes_the_thresholds_that_families_have_there() -> None:
    for name, wanted in {"recam": (0.30, 0.05, 0.25), "clims": (0.35, 0.10, 0.25), "lpcam": (0.45, 0.25, 0.35)}.items():
        assert thresholds(with_cam_thresholds(coco14(), CamSource(name, ("cat",)), "coco14")) == wanted


def test_maps_of_twice_the_resolution_are_voc12_s_with_another_stride() -> None:
    settings, base = PRESETS["voc12-stride8"](), voc12()
    assert (settings.classifier.output_stride, base.classifier.output_stride) == (8, 16)
    classifier = settings.classifier.model_copy(update={"output_stride": 16})
    assert settings.model_copy(update={"classifier": classifier}) == base
    source = CamSource("recam", ("cat",))
    assert thresholds(with_cam_thresholds(settings, source, "voc12-stride8")) == (0.35, 0.1, 0.28)


def test_a_step_of_coco14_is_one_of_the_mean_over_80_classes() -> None:
    theirs, ours = voc12().classifier, coco14().classifier
    tags = (torch.arange(240).reshape(3, 80) % 7 == 0).double()
    logits = torch.linspace(-3, 3, 240, dtype=torch.float64).reshape(3, 80).requires_grad_()
    mean_over_classes = multilabel_soft_margin_loss(logits, tags)
    steps, sure = [], torch.ones_like(tags)
    for loss, config in ((mean_over_classes, theirs), (_loss(ours, tags, sure, "cpu")[0](logits, tags, sure), ours)):
        (gradient,) = torch.autograd.grad(loss, logits)
        steps.append(config.learning_rate * (gradient + config.weight_decay * logits))
    torch.testing.assert_close(*steps)


@pytest.mark.parametrize("preset", PRESETS)
def test_networks_of_a_run_have_a_preset(preset: str, tmp_path: Path) -> None:
    assert all(network_preset(preset) in NETWORKS[name].presets for name in ("deeplabv2", "maskrcnn"))
    cams = {"cams": tmp_path} if preset in SUCCESSORS else {}
    settings = PRESETS[preset]().model_copy(update={"weights": "imagenet"})
    words = {"data": tmp_path, "out": tmp_path / "run", "preset": preset, "train": ("deeplabv2",), "val": "val"}
    (training,) = trainings_of(RunRequest(**words, **cams, settings=settings))  # pyright: ignore[reportArgumentType]
    assert training.preset == network_preset(preset)


def test_the_documents_table_has_the_presets_numbers() -> None:
    text = (ROOT / "docs/how-to/refine_your_cams.md").read_text()
    _, _, text = text.partition("## Presets of methods")
    text, _, _ = text.partition("\n## ")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| [^|]+ \| `[^|]+` \| ([^|]+) \|", text, flags=re.M))
    assert set(rows) == set(SUCCESSORS)
    for name, numbers in rows.items():
        assert numbers.split() == [f"{number:.3f}".rstrip("0").lstrip("0") for number in thresholds(PRESETS[name]())]
