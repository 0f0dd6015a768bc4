"""AffinityNet and no refiner: their labels, walk and plans, against the equations in their plain form."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_plan import _changed, _dataset, _plan

from data.formats.label_maps import read_label_map
from data.store import ArtifactError
from flows.labels.presets import PRESETS, demo, quick, voc12
from flows.labels.request import RunRequest, _networks_of, with_refiner_thresholds
from kernels.affinity import offsets
from kernels.crf import refine_probabilities
from kernels.feature_affinity import feature_affinity
from models.backbones.base import build_backbone
from tasks.pipeline import RESULTS, STAGES, stages_of, trained_stages
from tasks.pipeline.labels import synthesize_labels
from tasks.pipeline.pixels import OBJECT_SCORES, PIXEL_SCORES
from tasks.pipeline.refiners import affinitynet
from tasks.pipeline.refiners.affinities import infer_affinities
from tasks.pipeline.refiners.affinity_pixels import infer_affinity_pixels, train_affinity_pixels
from tasks.pipeline.refiners.affinity_relations import affinity_labels, mine_affinity_relations
from tasks.pipeline.refiners.affinity_walk import radius_of, stretch, walk_by_affinities, walk_with_background
from tasks.pipeline.refiners.affinitynet import train_affinitynet
from tasks.pipeline.refiners.background import power_at, with_background
from tasks.pipeline.refiners.unrefined import pass_cams
from tasks.pipeline.score_maps import upsample
from tasks.pipeline.settings import (
    AffinitiesConfig,
    AffinityNetConfig,
    AffinityRelationsConfig,
    AffinityWalkConfig,
    LabelsConfig,
    PipelineConfig,
    PixelsConfig,
    RelationsConfig,
)


def random_cams(classes: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(classes, height, width, generator=torch.Generator().manual_seed(classes))


def test_the_background_of_cams_is_eq_2_of_affinitynet() -> None:
    cams = random_cams(2, 3, 4)
    found = with_background(cams, 16)
    for y in range(3):
        for x in range(4):
            assert float(found[0, y, x]) == pytest.approx((1 - max(cams[:, y, x].tolist())) ** 16, abs=1e-6)
    assert torch.equal(found[1:], cams)
    assert torch.equal(with_background(torch.zeros(0, 3, 4), 4), torch.ones(1, 3, 4))


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.8])
def test_a_chosen_power_has_its_background_equal_a_score_at_the_threshold(threshold: float) -> None:
    assert (1 - threshold) ** power_at(threshold) == pytest.approx(threshold, abs=1e-9)


def test_affinity_labels_are_those_of_the_equations() -> None:
    image = torch.randint(256, (24, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    cams, classes = random_cams(2, 6, 8) ** 2, (4, 7)
    found = affinity_labels(image, cams, classes, (4, 24), AffinityRelationsConfig(unseen_tags="background"))
    full = upsample(cams, (24, 32))
    sure = {}
    for power in (4, 24):
        scores = torch.cat([(1 - full.amax(0, keepdim=True)) ** power, full])
        sure[power] = refine_probabilities(image, scores, backend="torch").argmax(0)
    for y in range(24):
        for x in range(32):
            row = int(sure[4][y, x])
            wanted = 0 if sure[24][y, x] == 0 else classes[row - 1] + 1 if row else 255
            assert int(found[y, x]) == wanted


def test_the_two_backgrounds_leave_the_middle_open() -> None:
    image = torch.tensor([200, 128, 60], dtype=torch.uint8).repeat_interleave(32)[None, :, None].repeat(64, 1, 3)
    cams = torch.full((1, 16, 24), 0.17)
    cams[:, :, :8], cams[:, :, 16:] = 0.9, 0.0
    config = AffinityRelationsConfig()
    labels = affinity_labels(image, cams, (4,), (4, 24), config)
    assert (labels[24:40, 4:24] == 5).all()
    assert (labels[24:40, 40:56] == 255).all()
    assert (labels[24:40, 72:92] == 0).all()
    unseen = affinity_labels(image, torch.cat([cams, cams * 0]), (4, 7), (4, 24), config)
    assert set(unseen.unique().tolist()) == {5, 255}


@pytest.mark.parametrize("shape", [(9, 13), (2, 3), (16, 8)])
def test_walked_shares_are_those_of_the_dense_matrix(shape: tuple[int, int]) -> None:
    cams, config = random_cams(3, *shape), AffinityWalkConfig(beta=8, steps=256)
    height, width = -(-shape[0] // 2), -(-shape[1] // 2)
    features = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(1))
    affinity = feature_affinity(features, 5)[0]
    matrix = torch.eye(height * width, dtype=torch.float64)
    for k, (dy, dx) in enumerate(offsets(5).tolist()):
        for y in range(height - dy):
            for x in range(max(-dx, 0), width - max(dx, 0)):
                i, j = y * width + x, (y + dy) * width + x + dx
                matrix[i, j] = matrix[j, i] = float(affinity[k, y, x]) ** 8
    transition = torch.linalg.matrix_power(matrix / matrix.sum(1, keepdim=True), 2**8)
    scores = torch.cat([(1 - cams.amax(0, keepdim=True)) ** 16, cams]).double()
    small = torch.zeros(4, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            small[:, y, x] = scores[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((1, 2))
    walked = (transition @ small.flatten(1).T).T.view(4, height, width)
    full = torch.nn.functional.interpolate(walked[None], scale_factor=2, mode="bilinear")[0, :, : shape[0], : shape[1]]
    wanted = full[1:] / (full[1:] + full[:1])
    found = walk_with_background(cams, affinity, 16, config)
    torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=1e-5)
    # The paper's decision is the strongest of the walked maps, the background's among them.
    decided = torch.where(found.amax(0) > 0.5, found.argmax(0) + 1, 0)
    sure = (found.amax(0) - 0.5).abs() > 1e-4
    assert torch.equal(decided[sure], full.argmax(0)[sure])


def test_stretched_shares_reach_1_and_0_5_stays_where_class_and_background_are_even() -> None:
    shares = torch.tensor([[[0.1, 0.5, 0.6]], [[0.0, 0.3, 0.7]]])
    torch.testing.assert_close(stretch(shares), torch.tensor([[[0.1, 0.5, 0.75]], [[0.0, 0.3, 1.0]]]))
    assert torch.equal(stretch(shares[:, :, :2]), shares[:, :, :2])
    assert stretch(torch.zeros(0, 2, 2)).shape == (0, 2, 2)


def test_the_radius_of_affinities_is_told_by_their_number() -> None:
    assert [radius_of(len(offsets(radius))) for radius in (2, 5, 10)] == [2, 5, 10]
    with pytest.raises(ValueError, match="no radius has 3 pairs"):
        radius_of(3)


@pytest.fixture(scope="module")
def refined(run_stage, artifacts) -> dict[str, Path]:
    """The folders of AffinityNet's stages, from a training of a few steps."""
    made = {name: artifacts[name] for name in ("classifier", "cams")}
    relations = AffinityRelationsConfig()
    made["relations"] = run_stage(mine_affinity_relations, relations, cams=made["cams"])
    config = AffinityNetConfig(crop_size=96, epochs=1, batch_size=3, optimizer="adamw", learning_rate=1e-3)
    inputs = {name: made[name] for name in ("classifier", "relations")}
    made["affinitynet"] = run_stage(train_affinitynet, config, **inputs)
    made["affinities"] = run_stage(infer_affinities, AffinitiesConfig(), affinitynet=made["affinitynet"])
    inputs = {name: made[name] for name in ("cams", "affinities")}
    made["walk"] = run_stage(walk_by_affinities, AffinityWalkConfig(steps=8), **inputs)
    return made


def test_affinitynet_s_stages_write_what_the_next_ones_read(tiny_set, run_stage, artifacts, refined) -> None:
    for sample in tiny_set.samples:
        labels = read_label_map(refined["relations"] / f"{sample.id}.png")
        assert set(np.unique(labels)) <= {0, 255, *(c + 1 for c in sample.labels)}
    labelled = {sample.id: sample for sample in tiny_set.samples if sample.labels}
    cams = load_file(refined["cams"] / "cams.safetensors")
    walked = load_file(refined["walk"] / "semantic.safetensors")
    assert walked.keys() == load_file(refined["affinities"] / "affinities.safetensors").keys() == labelled.keys()
    assert all(each.shape == cams[name].shape for name, each in walked.items())
    rows = json.loads((refined["walk"] / "instances.json").read_text())
    assert rows == {name: list(range(len(sample.labels))) for name, sample in labelled.items()}
    found = run_stage(synthesize_labels, LabelsConfig(background_threshold=0.5), walk=refined["walk"])
    assert len(list((found / "SegmentationClass").glob("*.png"))) == len(tiny_set.samples)


@pytest.mark.parametrize("factor", [0.0, 0.1])
def test_a_backbone_that_affinitynet_trains_keeps_its_batch_norms(
    monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    backbone = build_backbone("resnet18")
    monkeypatch.setattr(affinitynet, "starting_backbone", lambda *_: backbone)
    job: Any = SimpleNamespace(device="cpu")
    net = affinitynet._network(job, AffinityNetConfig(backbone_lr_factor=factor))
    for module in net.backbone.modules():
        learns = {each.requires_grad for each in module.parameters(recurse=False)}
        is_norm = isinstance(module, torch.nn.BatchNorm2d)
        assert learns in (set(), {factor > 0 and not is_norm})
        assert not (is_norm and module.training)


def test_the_second_round_reads_the_backbone_of_affinitynet(run_stage, refined) -> None:
    config = PixelsConfig(folds=2, least_images=0, taught_thresholds=(0.4, 0.6), steps=4)
    inputs = {name: refined[name] for name in ("affinitynet", "walk")}
    classifier = run_stage(train_affinity_pixels, config, **inputs)
    inputs = {"affinitynet": refined["affinitynet"], "pixel-classifier": classifier}
    scores = run_stage(infer_affinity_pixels, config, **inputs)
    walked = load_file(refined["walk"] / "semantic.safetensors")
    judged = [load_file(scores / name).keys() for name in (PIXEL_SCORES, OBJECT_SCORES)]
    assert {*judged[0], *judged[1]} == walked.keys()


def test_without_a_refiner_the_walk_is_the_cams(run_stage, artifacts) -> None:
    folder = run_stage(pass_cams, PipelineConfig().walk, cams=artifacts["cams"])
    cams = load_file(artifacts["cams"] / "cams.safetensors")
    for name in ("semantic", "instances"):
        found = load_file(folder / f"{name}.safetensors")
        assert found.keys() == cams.keys()
        assert all(torch.equal(found[key], cams[key]) for key in cams)


def test_every_refiner_s_table_has_each_stage_after_those_that_it_reads() -> None:
    assert stages_of("irnet") == list(STAGES)
    for refiner in ("irnet", "affinitynet", "none"):
        names = [stage.name for stage in stages_of(refiner)]
        assert len(set(names)) == len(names)
        assert {*RESULTS, "walk", "scores"} <= set(names)
        for at, stage in enumerate(stages_of(refiner)):
            gone = {need for need in stage.needs if need not in names[:at]}
            # Without a refiner there is no second round, whose scores these two read where there is one.
            assert gone == ({"pixel-scores"} if refiner == "none" and stage.name in ("labels", "scores") else set()), (
                stage.name
            )
    assert trained_stages("irnet") == ("classifier", "irnet")
    assert trained_stages("affinitynet") == ("classifier", "affinitynet")
    assert trained_stages("none") == ("classifier",)


@pytest.mark.parametrize("preset", PRESETS)
def test_refiners_share_classifier_and_cams_and_differ_in_what_they_refine(preset: str) -> None:
    base = PRESETS[preset]().model_copy(update={"refiner": "irnet"})
    irnet = _plan(config=base)
    for refiner in ("affinitynet", "none"):
        plan = _plan(config=base.model_copy(update={"refiner": refiner}))
        changed = _changed(irnet, plan)
        assert not {"classifier", "cams", "thresholds"} & changed.keys()
        assert {"walk", "labels", "metrics"} <= changed.keys()
        assert not {"irnet", "fields"} & set(plan.stages)
    assert {"affinitynet", "affinities"} <= set(_plan(config=base.model_copy(update={"refiner": "affinitynet"})).stages)


def test_a_setting_of_affinitynet_changes_no_artifact_of_irnet() -> None:
    other = PipelineConfig(
        shard_size=8, affinitynet=AffinityNetConfig(epochs=1), affinity_walk=AffinityWalkConfig(beta=3)
    )
    assert _changed(_plan(), _plan(config=other)) == {}


def test_the_beta_of_affinitynet_s_walk_repeats_the_walk_and_what_follows() -> None:
    first = PipelineConfig(shard_size=8, refiner="affinitynet")
    other = first.model_copy(update={"affinity_walk": AffinityWalkConfig(beta=3)})
    assert _changed(_plan(config=first), _plan(config=other)).keys() == {
        "walk",
        "labels",
        "quality",
        "scores",
        "metrics",
    }


def test_external_cams_are_refined_by_affinitynet_without_a_classifier() -> None:
    from data.dataset import CamSource, Dataset

    dataset = _dataset()
    dataset = Dataset(dataset.root, dataset.classes, dataset.samples, cams=CamSource("irn", ("cat", "dog")))
    plan = _plan(dataset, PipelineConfig(shard_size=8, refiner="affinitynet"))
    assert "classifier" not in plan.stages
    assert "affinitynet" in plan.stages


def test_labels_of_another_refiner_have_its_thresholds_where_they_are_the_preset_s() -> None:
    def labels_of(settings: PipelineConfig, preset: str) -> LabelsConfig:
        return with_refiner_thresholds(settings, preset).labels

    irnet = voc12()
    assert with_refiner_thresholds(irnet, "voc12") == irnet
    affinity = labels_of(irnet.model_copy(update={"refiner": "affinitynet"}), "voc12")
    assert (affinity.background_threshold, affinity.crf_iterations) == (0.5, 0)
    none = labels_of(irnet.model_copy(update={"refiner": "none"}), "voc12")
    assert none == irnet.labels
    own = irnet.model_copy(update={"refiner": "affinitynet", "labels": LabelsConfig(background_threshold=0.4)})
    assert labels_of(own, "voc12").background_threshold == 0.4
    assert labels_of(demo().model_copy(update={"refiner": "affinitynet"}), "demo").sure_thresholds == (0.3, 0.7)
    automatic = quick().model_copy(update={"refiner": "affinitynet"})
    assert labels_of(automatic, "quick") == automatic.labels


def test_networks_of_a_run_of_another_refiner_are_those_that_both_have_without_what_was_chosen_for_its_scores() -> None:
    keys = {"classifier": "c", "irnet": "i", "thresholds": "t", "label-thresholds": "l"}
    source: Any = SimpleNamespace(folder="run", request={}, network=keys.get)

    def found(refiner: str) -> dict[str, str]:
        settings = voc12().model_copy(update={"refiner": refiner})
        return _networks_of(source, voc12(), RunRequest(data=Path("set"), out=Path("out"), settings=settings))

    assert found("irnet") == keys
    assert found("none") == {"classifier": "c"}
    with pytest.raises(ArtifactError, match="run: the run has no affinitynet"):
        found("affinitynet")


def test_powers_that_leave_no_gap_or_have_no_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="foreground_power must not exceed background_power"):
        AffinityRelationsConfig(foreground_power=24, background_power=4)
    automatic = AffinityWalkConfig(background_power="auto")
    with pytest.raises(ValueError, match="expected numbers where relations"):
        PipelineConfig(refiner="affinitynet", affinity_walk=automatic)
    relations = RelationsConfig(foreground_threshold="auto", background_threshold="auto")
    assert PipelineConfig(refiner="affinitynet", affinity_walk=automatic, relations=relations)
    with pytest.raises(ValueError, match="expected more than 72 pixels"):
        AffinityNetConfig(crop_size=64, radius_px=10)
    assert math.isclose(power_at(0.3), math.log(0.3) / math.log(0.7))
